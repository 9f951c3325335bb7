"""What is kept of the way that a training took: a few of its states, and what each parameter did to the loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.trained_model import TrainedModel, flatten
from modelrepair.pipeline.artifacts import read_json, read_tensors, write_json, write_tensors
from modelrepair.training.conditions import PLAIN, Conditions
from modelrepair.training.schedule import Schedule

if TYPE_CHECKING:
    from modelrepair.training.descent import Descent

State = dict[str, Tensor]
"""`network.NAME`: parameters and buffers; `optimiser.INDEX.NAME`: what the optimiser remembers of each parameter."""


@dataclass(frozen=True)
class Trajectory:
    """The way of a training from its initial parameters θ₀ to those that were kept, θ̂.

    With the training examples it says all that happened: from any of its states the training goes the same way again,
    to the byte on the same machine.

    Attributes:
        descent: how the training went.
        rounds: epochs up to θ̂; the training may have gone on and come back.
        batch_size: examples a step.
        seed: of the batch order and of what the network draws itself.
        purpose: of that seed's random stream.
        count: n, how many examples it was trained on.
        states: by the number of epochs before them, from 0 in equal intervals; empty if none were kept.
        gains: (d,) ωⱼ = −Σₜ gₜⱼ(θₜ₊₁ − θₜ)ⱼ over the steps up to θ̂, with g the gradient of the batch's mean loss
            without weight decay: by how much parameter j lowered the loss, in nats (Zenke et al. 2017, Eq. 3).
        displacement: (d,) θ̂ − θ₀.
        conditions: under which the network ran.
    """

    descent: Descent
    rounds: int
    batch_size: int
    seed: int
    purpose: str
    count: int
    states: Mapping[int, State]
    gains: Tensor
    displacement: Tensor
    conditions: Conditions = PLAIN


class TrajectoryRecorder:
    """Writes down the way of a model while `minimise` moves it.

    Of the states after each round those of every k-th are kept, and k is doubled whenever there are more than `most`:
    at the end between half of `most` and all of it, however long the training took. Each is of 3d numbers with Adam and
    of 2d with momentum, in memory and on disk: 0.7 MiB for LeNet-5 with Adam, so 11 MiB for 16.

    Args:
        model: that will be moved.
        most: at most this many states are kept.
    """

    def __init__(self, model: TrainedModel, most: int) -> None:
        self._model = model
        self._most = most
        self._interval = 1
        self._start = model.parameter_vector
        self._parameters = list(model.parameters.values())
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self._gains = [torch.zeros_like(parameter.detach()) for parameter in self._parameters]
        self._kept_gains = torch.zeros_like(self._start)
        self.states: dict[int, State] = {}

    def at_round(self, number: int, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        """Keep the state after this many rounds, if it is one of those to keep."""
        if self._most and number % self._interval == 0:
            self.states[number] = state_of(network, optimiser)
        while len(self.states) > self._most:
            self._interval *= 2
            self.states = {done: state for done, state in self.states.items() if done % self._interval == 0}

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """While the block runs, the optimiser takes a step along the gradients that the parameters now have."""
        moving = [number for number, parameter in enumerate(self._parameters) if parameter.grad is not None]
        if not moving:
            yield
            return
        # All parameters at a time: a GPU takes as long to be told of one.
        here = [self._parameters[number].detach() for number in moving]
        gradients: list[Tensor] = [self._parameters[number].grad for number in moving]  # type: ignore[misc]
        before = [parameter.clone() for parameter in here]
        yield
        gained = torch._foreach_mul(torch._foreach_sub(here, before), gradients)
        torch._foreach_sub_([self._gains[number] for number in moving], gained)

    def keep(self) -> None:
        """The point of now is the best so far."""
        self._kept_gains = flatten(self._gains)

    def tensors(self) -> dict[str, Tensor]:
        """All that `restore` needs to go on."""
        states = {f"{done}.{name}": t for done, state in self.states.items() for name, t in state.items()}
        return {
            **{f"states.{name}": tensor for name, tensor in states.items()},
            "interval": torch.tensor(self._interval),
            "start": self._start,
            "gains": flatten(self._gains),
            "kept_gains": self._kept_gains,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        device = self._start.device
        self._interval = int(tensors["interval"])
        self._start, gains, self._kept_gains = (
            tensors[name].to(device).clone() for name in ("start", "gains", "kept_gains")
        )
        for held, piece in zip(self._gains, torch.split(gains, self._sizes), strict=True):
            held.copy_(piece.view_as(held))
        self.states = _by_round(
            {name.removeprefix("states."): t for name, t in tensors.items() if name.startswith("states.")}
        )

    def path(self, displaced: Tensor, rounds: int) -> dict[str, Any]:
        """`states`, `gains` and `displacement` of a `Trajectory` that ends at `displaced` (d,) after these rounds."""
        return {
            "states": {done: state for done, state in self.states.items() if done < rounds},
            "gains": self._kept_gains,
            "displacement": displaced - self._start,
        }


def save_trajectory(folder: Path, trajectory: Trajectory | None) -> None:
    """Write a trajectory into an existing folder, or that there is none, as of a model that was trained elsewhere."""
    if trajectory is None:
        write_json(folder / "trajectory.json", {"recorded": False})
        return
    descent, states = asdict(trajectory.descent), trajectory.states
    conditions = asdict(trajectory.conditions)
    names = ("rounds", "batch_size", "seed", "purpose", "count")
    write_json(
        folder / "trajectory.json",
        {"descent": descent, "conditions": conditions, **{name: getattr(trajectory, name) for name in names}},
    )
    write_tensors(
        folder / "path.safetensors", {"gains": trajectory.gains, "displacement": trajectory.displacement}
    )
    write_tensors(
        folder / "states.safetensors",
        {f"{done}.{name}": tensor for done, state in states.items() for name, tensor in state.items()},
    )


def load_trajectory(folder: Path, device: torch.device | str = "cpu") -> Trajectory:
    """The trajectory that `save_trajectory` wrote.

    Raises:
        RepairError: if a file is missing or damaged, or no training was recorded.
    """
    from modelrepair.training.descent import Descent

    content = read_json(folder / "trajectory.json")
    if "descent" not in content:
        require_trajectory(None, "what is asked for")
    path = read_tensors(folder / "path.safetensors", device)
    descent = content.pop("descent")
    return Trajectory(
        descent=Descent(**{**descent, "schedule": Schedule(**descent["schedule"])}),
        conditions=Conditions(**content.pop("conditions")),
        states=_by_round(read_tensors(folder / "states.safetensors", device)),
        gains=path["gains"],
        displacement=path["displacement"],
        **content,
    )


def require_trajectory(trajectory: Trajectory | None, what: str) -> Trajectory:
    """The trajectory as given.

    Args:
        trajectory: of the base training.
        what: needs it, in words.

    Raises:
        RepairError: if there is none.
    """
    if trajectory is None:
        raise RepairError(
            f"{what} follows the base training, which was not recorded for this model: train it with "
            "`modelrepair.train(..., checkpoints=16)`, or choose another"
        )
    return trajectory


def state_of(network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> State:
    """A copy of all that decides how a descent goes on."""
    return {
        **{f"network.{name}": tensor.detach().clone() for name, tensor in network.state_dict().items()},
        **{f"optimiser.{name}": tensor.clone() for name, tensor in optimiser_tensors(optimiser).items()},
    }


def gradient_of(model: TrainedModel) -> Tensor:
    """(d,) the gradients that the parameters have; 0 where one has none."""
    return flatten(
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in model.parameters.values()
    )


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`INDEX.NAME`: what the optimiser remembers of each parameter."""
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()
            if torch.is_tensor(value)}  # fmt: skip


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Have the optimiser remember what `optimiser_tensors` gave, and nothing else."""
    content = optimiser.state_dict()
    content["state"] = {}
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        # A copy, as the optimiser would take it as its own and change it; in memory as its parameter.
        parameter = parameters[int(index)].detach()
        like = parameter if parameter.shape == tensor.shape else tensor
        content["state"].setdefault(int(index), {})[name] = torch.empty_like(like, dtype=tensor.dtype).copy_(
            tensor
        )
    optimiser.load_state_dict(content)


def _by_round(tensors: Mapping[str, Tensor]) -> dict[int, State]:
    """`ROUND.NAME` sorted into rounds."""
    states: dict[int, State] = {}
    for key, tensor in tensors.items():
        done, _, name = key.partition(".")
        states.setdefault(int(done), {})[name] = tensor
    return dict(sorted(states.items()))
