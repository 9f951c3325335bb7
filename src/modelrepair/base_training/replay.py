"""A recorded training once more, and backwards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import forward_ad

from modelrepair.base_training.adjoint import REMEMBERED, Moment
from modelrepair.errors import RepairError
from modelrepair.models.differentiable import differentiable
from modelrepair.models.examples import Examples
from modelrepair.models.precision import exact_products
from modelrepair.models.trained_model import TrainedModel, flatten
from modelrepair.training.epochs import Step, epoch_steps, mean_loss, step_batch, torch_seeded
from modelrepair.training.trajectory import State, Trajectory, gradient_of, load_optimiser, state_of

DRIFT = 0.01
VECTORS = 4
"""Vectors of d numbers in a `Moment`."""


@dataclass(frozen=True)
class Replay:
    """Goes through a training again, from the states that were kept of it.

    Args:
        trajectory: of the training.
        model: the trained one, or any of the same network; it is left as it is.
        examples: the n that it was trained on, in the same order.
        memory: bytes that steps may take that were gone through and are still to be gone through backwards. Where they
            are too few, parts of the training are gone through again, each part from a state that was kept before it.

    Raises:
        RepairError: if no states were kept, the examples are not n, products were computed in bfloat16, or a layer
            makes the loss of an example depend on others of its batch.
    """

    trajectory: Trajectory
    model: TrainedModel
    examples: Examples
    memory: int = 2**29

    def __post_init__(self) -> None:
        if not self.trajectory.states and self.trajectory.rounds:
            raise RepairError(
                "the base training kept none of its states, from which it could be gone through again: train it with "
                "training.checkpoints: 16"
            )
        if len(self.examples) != self.trajectory.count:
            raise RepairError(
                f"the training that was recorded was on {self.trajectory.count} examples, and {len(self.examples)} "
                "were given: give those that the model was trained on, in their order"
            )
        if self.trajectory.conditions.precision != "float32":
            raise RepairError(
                f"the base training computed in {self.trajectory.conditions.precision}, whose rounding is larger than "
                "what one example changes: train with training.precision float32 to go through it again, or choose "
                "another score than trajectory"
            )
        self._refuse_moving_buffers()

    def _refuse_moving_buffers(self) -> None:
        """Nothing if training changed nothing but parameters.

        Raises:
            RepairError: if it did; names the layer.
        """
        for state in [*self.trajectory.states.values()][:1]:
            begin = _unprefixed(state)
            for name, buffer in self.model.network.named_buffers():
                if name in begin and not torch.equal(begin[name].to(buffer.device), buffer):
                    path = name.rpartition(".")[0]
                    kind = type(self.model.network.get_submodule(path)).__name__
                    raise RepairError(
                        f"layer {path} ({kind}) gathers statistics of whole batches while it is trained, so no example "
                        "has its own share of a step: choose another score than trajectory, or a network that "
                        "normalises by groups or layers"
                    )

    @cached_property
    def network(self) -> TrainedModel:
        """The model that goes through the training, in training mode."""
        moved = self.model.copy()
        if self.trajectory.conditions.channels_last:
            moved.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        moved.network.train()
        return moved

    @cached_property
    def optimiser(self) -> torch.optim.Optimizer:
        return self.trajectory.descent.optimiser_of(self.network)

    @cached_property
    def steps(self) -> list[Step]:
        """All steps of the training, in order."""
        way = self.trajectory
        return [
            step
            for epoch in range(1, way.rounds + 1)
            for step in epoch_steps(
                way.count,
                way.batch_size,
                seed=way.seed,
                purpose=way.purpose,
                epoch=epoch,
                conditions=way.conditions,
            )
        ]

    def rate(self, number: int) -> float:
        """The learning rate of a step, counted from 1 as in `Moment`."""
        an_epoch = math.ceil(self.trajectory.count / self.trajectory.batch_size)
        return self.trajectory.descent.rate(number - 1, an_epoch)

    @property
    def segments(self) -> list[range]:
        """The steps from each kept state to the next, or to the end."""
        an_epoch = math.ceil(self.trajectory.count / self.trajectory.batch_size)
        begins = [epoch * an_epoch for epoch in self.trajectory.states]
        return [range(begin, end) for begin, end in zip(begins, [*begins[1:], len(self.steps)], strict=True)]

    def state_after(self, segment: int) -> State:
        """All that decides how the training goes on, after this segment, gone through from its beginning."""
        self._go_to(list(self.trajectory.states.values())[segment])
        for step in self.segments[segment]:
            self._take(step)
        return state_of(self.network.network, self.optimiser)

    def backwards(self, segment: int) -> Iterator[tuple[Step, Moment]]:
        """The steps of a segment, the last one first.

        Raises:
            RepairError: if the segment now ends elsewhere than it did in the training.
        """
        states = list(self.trajectory.states.values())
        yield from self._backwards(states[segment], self.segments[segment], checked=True)

    def _backwards(self, state: State, steps: range, *, checked: bool) -> Iterator[tuple[Step, Moment]]:
        held = VECTORS * sum(p.numel() * p.element_size() for p in self.model.parameters.values())
        most = max(2, self.memory // held)
        self._go_to(state)
        if len(steps) <= most:
            moments = []
            for number in steps:
                before = flatten(self.network.parameters.values()).detach()
                gradient = self._take(number) + self._decay * before
                moments.append(Moment(before, gradient, *self._remembered(), number=number + 1))
            if checked:
                self._check(steps)
            while moments:
                moment = moments.pop()
                yield self.steps[moment.number - 1], moment
            return
        length = math.ceil(len(steps) / most)
        parts = [steps[start : start + length] for start in range(0, len(steps), length)]
        begins = []
        for part in parts:
            begins.append(state_of(self.network.network, self.optimiser))
            for number in part:
                self._take(number)
        if checked:
            self._check(steps)
        while parts:
            yield from self._backwards(begins.pop(), parts.pop(), checked=False)

    @exact_products()
    def products(self, step: Step, moment: Moment, direction: Tensor) -> tuple[Tensor, Tensor]:
        """What a step's batch says of a direction w, at the parameters θ before it.

        With ℓᵢ = −log p(yᵢ | xᵢ, θ) of the b examples of the batch: one pass in forward mode, which gives all
        ⟨∇ℓᵢ, w⟩, and one backwards through it, as the gradient of their mean is the Hessian's product.

        Args:
            step: which batch.
            moment: the step that was taken.
            direction: w, (d,).

        Returns:
            (b,) ⟨∇ℓᵢ, w⟩, and (d,) ∇²L w of the mean loss L.

        Raises:
            RepairError: if a layer cannot be differentiated so.
        """
        model = self.network
        leaves = {name: p.detach().requires_grad_() for name, p in model.split(moment.parameters).items()}
        tangents = model.split(direction)
        inputs, targets = step_batch(model, self.examples, step, self.trajectory.conditions)
        with (
            differentiable(
                model.network, "products with the Hessian", "choose another score than trajectory"
            ),
            torch_seeded(step.draws, model.device),
            forward_ad.dual_level(),
        ):
            duals = {
                name: forward_ad.make_dual(leaf, tangents[name])  # type: ignore[no-untyped-call]
                for name, leaf in leaves.items()
            }
            outputs, moved = forward_ad.unpack_dual(model.outputs_at(duals, inputs))  # type: ignore[no-untyped-call]
            # The likelihood backwards: what PyTorch does forwards for softmax cannot be differentiated once more.
            losses = -model.log_likelihood(outputs, targets)
            (pull,) = torch.autograd.grad(losses.sum(), outputs, create_graph=True)
            slopes = torch.zeros_like(losses) if moved is None else (pull * moved).flatten(1).sum(1)
            curved = flatten(
                torch.autograd.grad(slopes.mean(), list(leaves.values()), materialize_grads=True)
            )
        return slopes.detach(), curved.detach()

    @property
    def _decay(self) -> float:
        return self.trajectory.descent.weight_decay

    def _go_to(self, state: State) -> None:
        def part(prefix: str) -> State:
            return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}

        self.network.network.load_state_dict(part("network."))
        load_optimiser(self.optimiser, part("optimiser."))

    @exact_products()
    def _take(self, place: int) -> Tensor:
        """Take the step at this place in `steps` as the training did; (d,) its gradient without weight decay."""
        conditions = self.trajectory.conditions
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(place + 1)
        self.optimiser.zero_grad()
        mean_loss(self.network, self.examples, self.steps[place], conditions).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return gradient_of(self.network)

    def _remembered(self) -> tuple[Tensor, Tensor]:
        """(d,) each: the optimiser's two running means; 0 where it has none."""
        first, second = (
            flatten(
                self.optimiser.state[parameter].get(name, torch.zeros_like(parameter))
                for parameter in self.network.parameters.values()
            ).detach()
            for name in REMEMBERED[self.trajectory.descent.optimiser]
        )
        return first, second

    def _check(self, steps: range) -> None:
        """Nothing if the training now is at the end of these steps where it was then, up to rounding.

        Raises:
            RepairError: if it is not.
        """
        an_epoch = math.ceil(self.trajectory.count / self.trajectory.batch_size)
        begin, end = (self.trajectory.states.get(at // an_epoch) for at in (steps.start, steps.stop))
        wanted = self.model.network.state_dict() if end is None else _unprefixed(end)
        now = self.network.network.state_dict()
        names = self.network.parameters
        assert begin is not None
        way = flatten(wanted[name] - _unprefixed(begin)[name] for name in names).norm()
        missed = flatten(wanted[name] - now[name] for name in names).norm()
        if not float(missed) <= DRIFT * float(way):
            raise RepairError(
                f"steps {steps.start + 1} to {steps.stop} of the base training end elsewhere than they did then, by "
                f"{100 * float(missed / way):.2g} % of their way: give the model and the examples of that training, or "
                "train the base model again on this machine"
            )


def _unprefixed(state: State) -> State:
    return {name.removeprefix("network."): t for name, t in state.items() if name.startswith("network.")}
