"""What an epoch is made of: the batches in which examples are gone through, and the losses of its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.passes import PerExample
from modelrepair.models.trained_model import TrainedModel
from modelrepair.training.conditions import PLAIN, Conditions
from modelrepair.training.parts import cut, loss_of_parts
from modelrepair.training.repeated_passes import Forward, forward_of, kernel_by_kernel


def epoch_batches(count: int, batch_size: int, *, seed: int, purpose: str, epoch: int) -> list[np.ndarray]:
    """The order in which an epoch visits `count` examples, cut into batches; the last may be smaller.

    It is a function of its arguments alone, so that a resumed or replayed run sees the same batches.

    Raises:
        RepairError: if the batch size is below 1.
    """
    if batch_size < 1:
        raise RepairError(f"the batch size is {batch_size}: give at least 1")
    order = generator(seed, f"{purpose}, epoch {epoch}").permutation(count)
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


@dataclass(frozen=True)
class Step:
    """What one step of an epoch sees.

    Attributes:
        positions: of the batch's examples.
        draws: the seed of what the network draws itself, as dropout does.
        views: (b, 3) how each is shown, as `Conditions.views`; None for as they are.
    """

    positions: NDArray[np.int64]
    draws: int
    views: NDArray[np.int64] | None = None


See = Callable[[Step, Tensor, Tensor], None]


def epoch_steps(
    count: int, batch_size: int, *, seed: int, purpose: str, epoch: int, conditions: Conditions = PLAIN
) -> list[Step]:
    """The steps of an epoch through `count` examples: a function of these arguments alone, as `epoch_batches`."""
    draws = generator(seed, f"{purpose}, inside the network, epoch {epoch}")
    views = conditions.views(count, seed=seed, purpose=purpose, epoch=epoch)
    batches = epoch_batches(count, batch_size, seed=seed, purpose=purpose, epoch=epoch)
    return [
        Step(positions, int(draws.integers(2**63)), None if views is None else views[positions])
        for positions in batches
    ]


def step_batch(
    model: TrainedModel, examples: Examples, step: Step, conditions: Conditions = PLAIN
) -> tuple[Tensor, Tensor]:
    """Inputs, as they are shown, and targets of a step's batch."""
    inputs, targets = examples.batch(step.positions, device=model.device, dtype=model.dtype)
    return conditions.show(inputs, step.views), targets


def mean_loss(
    model: TrainedModel,
    examples: Examples,
    step: Step,
    conditions: Conditions = PLAIN,
    see: See | None = None,
    weights: Tensor | None = None,
    forward: Forward | None = None,
) -> Tensor:
    """The mean negative log-likelihood of a step's batch, (1/b) Σᵢ −wᵢ log p(zᵢ | θ).

    Args:
        model: in training mode, if it is to be trained.
        examples: of which the step names some.
        step: which one.
        conditions: under which the network runs.
        see: is shown the step, its outputs, which belong to no graph, and its targets.
        weights: (n,) w of all the examples; None: 1 each.
        forward: how the network is run under these conditions, as by `forward_of`; None: kernel by kernel.
    """
    inputs, targets = step_batch(model, examples, step, conditions)
    with torch_seeded(step.draws, model.device):
        outputs = (forward or kernel_by_kernel(model, conditions))(inputs)
        # The loss and its gradient by the outputs in the numbers of the parameters, whatever products were computed in.
        outputs = outputs.to(model.dtype)
        if see is not None:
            see(step, outputs.detach(), targets)
        log_likelihood = model.likelihood.log_likelihood(outputs, targets)
    return -(log_likelihood if weights is None else weights[step.positions] * log_likelihood).mean()


def mean_losses(
    model: TrainedModel,
    examples: Examples,
    batch_size: int,
    *,
    seed: int,
    purpose: str,
    conditions: Conditions = PLAIN,
    see: See | None = None,
    parts: int = 1,
) -> Callable[[int], Iterator[Tensor]]:
    """Losses for `minimise`: the mean negative log-likelihood of shuffled batches, an epoch a round.

    What a network draws itself, as dropout does, and how examples are shown is also a function of seed, purpose and
    epoch alone.

    Args:
        model: in training mode while the losses are asked for.
        examples: that are gone through.
        batch_size: examples a step.
        seed: of all that is random.
        purpose: of that seed's random streams.
        conditions: under which the network runs.
        see: is shown every step, as by `mean_loss`.
        parts: into which each batch is cut, for processes that work together to share; see `training.parts`.
    """

    forward = forward_of(model, conditions)

    def losses(epoch: int) -> Iterator[Tensor]:
        for step in epoch_steps(
            len(examples), batch_size, seed=seed, purpose=purpose, epoch=epoch, conditions=conditions
        ):
            if parts == 1:
                yield mean_loss(model, examples, step, conditions, see, forward=forward)
            else:
                places = cut(len(step.positions), parts, batch_size)
                yield _mean_loss_in_parts(model, examples, step, conditions, see, places)

    return losses


def _mean_loss_in_parts(
    model: TrainedModel,
    examples: Examples,
    step: Step,
    conditions: Conditions,
    see: See | None,
    places: list[NDArray[np.int64]],
) -> Tensor:
    """As `mean_loss`, of a batch that is cut into parts at these places."""
    seen = PerExample(len(step.positions)), PerExample(len(step.positions))

    def loss(number: int) -> Tensor:
        part = slice(int(places[number][0]), int(places[number][-1]) + 1)

        def note(_: Step, outputs: Tensor, targets: Tensor) -> None:
            for values, of_part in zip(seen, (outputs, targets), strict=True):
                values.put(part, of_part)

        alone = Step(
            step.positions[part],
            (step.draws + number) % 2**63,
            None if step.views is None else step.views[part],
        )
        return mean_loss(model, examples, alone, conditions, None if see is None else note)

    whole = loss_of_parts(model, places, loss)
    if see is not None:
        outputs, targets = (values.whole() for values in seen)
        see(step, outputs, targets)
    return whole


@contextlib.contextmanager
def torch_seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's random streams of the CPU and this device start at this seed, and go on afterwards as before."""
    accelerators = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=accelerators):
        # `torch.manual_seed` would also visit every other device, which takes longer than a step of a small network.
        torch.default_generator.manual_seed(seed)
        for accelerator in accelerators:
            with torch.cuda.device(accelerator):
                torch.cuda.manual_seed(seed)
        yield
