"""The one descent loop: base training, fine-tuning and posterior updates all run through `minimise`.

It stops early, keeps the best point it has seen, writes down its course, and goes on after a kill from
the last finished round, to the same result as without the kill.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from modelrepair.errors import RepairError
from modelrepair.models.differentiable import backward_passes
from modelrepair.models.precision import exact_products
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings import choose
from modelrepair.training.schedule import CONSTANT, Schedule
from modelrepair.training.trajectory import Trajectory, TrajectoryRecorder, load_optimiser, optimiser_tensors

if TYPE_CHECKING:
    from modelrepair.settings.training import OptimisationSettings

log = logging.getLogger(__name__)

Watch = Callable[[TrainedModel], float]
Observe = Callable[[TrainedModel], dict[str, float | Tensor]]


@dataclass(frozen=True)
class Oversight:
    """Who looks on while a computation runs, and where it keeps its progress.

    Attributes:
        watch: judges a point, higher is better. It is asked at the start and after every round, and the
            best point wins; ties go to the earlier one. Without it, the last point is the result.
        slack: how far below the best value so far a later point may be and still be preferred: by how much a value is
            uncertain, where longer is otherwise better.
        observe: what else to write down at those moments: numbers for the trace, and tensors, which are
            stacked over the rounds.
        checkpoint: where to keep progress, to go on after a kill.
        aim: one of the observed numbers, higher is better. Where the round with the highest such number is not the best
            one to who watches, points on the straight line from the start to it are watched too: the way there may
            break more than a part of the whole step does (as between the weights of Wortsman et al. 2022,
            arXiv:2109.01903). None: rounds alone are looked at.
    """

    watch: Watch | None = None
    observe: Observe | None = None
    checkpoint: Checkpoint | None = None
    slack: float = 0.0
    aim: str | None = None

    def prefers(self, value: float | None, best: float) -> bool:
        """Whether a point of this value takes the place of the one kept so far; always, if nobody watches.

        Args:
            value: of the point.
            best: the highest value so far.
        """
        return value is None or value > best - self.slack

    def look(self, model: TrainedModel) -> tuple[float | None, dict[str, float], dict[str, Tensor]]:
        """The watched value, the numbers and the tensors at a point; what is observed comes first."""
        values = self.observe(model) if self.observe else {}
        tensors = {name: value.detach().cpu() for name, value in values.items() if torch.is_tensor(value)}
        numbers = {name: float(value) for name, value in values.items() if name not in tensors}
        return (self.watch(model) if self.watch else None), numbers, tensors


@dataclass(frozen=True)
class Course:
    """What a descent went through.

    Attributes:
        trace: one row a round, from 0 (the start): `round`, `loss` (mean over the round's steps, None at the
            start), `watched` (None if nothing was), and the numbers that were observed. Points on the way to an aim
            follow as further rounds, without a loss.
        best_round: the round whose parameters were kept.
        tensors: what else was observed, each of shape (rounds + 1, ...).
        trajectory: the way to the kept parameters, where a training recorded it.
    """

    trace: list[dict[str, Any]]
    best_round: int
    tensors: dict[str, Tensor]
    trajectory: Trajectory | None = None


@dataclass(frozen=True)
class Descent:
    """How far and how fast to go.

    Attributes:
        optimiser: "adam", "rmsprop" (centred) or "sgd".
        learning_rate: step size.
        rounds: at most this many passes.
        patience: stop after this many rounds without a better watched value; None never stops early.
        weight_decay: strength α of the penalty α/2·‖θ‖² that is added to the loss of every step. Its gradient αθ goes
            through momentum and scaling as that of the loss does (not decoupled from them, as in AdamW), so that the
            minimum is the penalised loss's. The losses of the course are without it.
        momentum: of sgd: share of its last step that a step keeps, from 0 to below 1.
        nesterov: of sgd: the step is taken along g + μb instead of b, with b ← μb + g and the momentum μ (Sutskever et
            al. 2013).
        schedule: how the learning rate changes from step to step, over all `rounds`.
        cautious: where the first round raises the mean loss of its batches, steps are too long for this model: it
            begins anew with a third of the rate, which stays so, at most `THIRDS` times. What suits one network
            destroys another that was trained by another optimiser.
    """

    learning_rate: float
    rounds: int
    patience: int | None = None
    optimiser: str = "adam"
    weight_decay: float = 0.0
    momentum: float = 0.9
    nesterov: bool = False
    schedule: Schedule = CONSTANT
    cautious: bool = False

    def __post_init__(self) -> None:
        choose("optimiser", OPTIMISERS, self.optimiser)
        rate = self.learning_rate
        if not (isinstance(rate, int | float) and rate > 0 and math.isfinite(rate)):
            raise RepairError(f"the learning rate is {rate!r}: give a positive number, such as 0.001")
        decay = self.weight_decay
        if not (isinstance(decay, int | float) and decay >= 0 and math.isfinite(decay)):
            raise RepairError(f"the weight decay is {decay!r}: give a number of 0 or more")
        if not (isinstance(self.momentum, int | float) and 0 <= self.momentum < 1):
            raise RepairError(f"the momentum is {self.momentum!r}: give a number from 0 to below 1")
        if self.nesterov and not (self.optimiser == "sgd" and self.momentum):
            raise RepairError(
                f"nesterov was asked for of {self.optimiser} with momentum {self.momentum}: it is of sgd with momentum"
            )
        if self.rounds < 1:
            raise RepairError(f"the number of rounds (epochs) is {self.rounds}: give at least 1")
        if self.patience is not None and self.patience < 1:
            raise RepairError(
                f"the patience is {self.patience}: give at least 1, or null to go through all rounds"
            )

    def optimiser_of(self, model: TrainedModel) -> torch.optim.Optimizer:
        """A fresh optimiser of the model's parameters."""
        return OPTIMISERS[self.optimiser](
            list(model.parameters.values()),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            **({"momentum": self.momentum, "nesterov": self.nesterov} if self.optimiser == "sgd" else {}),
        )

    def rate(self, step: int, steps_a_round: int) -> float:
        """The learning rate of a step, counted from 0 over all rounds."""
        if self.schedule.is_constant:
            return self.learning_rate
        return self.learning_rate * self.schedule.share(step, steps_a_round, self.rounds)

    def rates_of_round(self, number: int, steps_a_round: int | None, scale: float) -> Iterator[float]:
        """The learning rates of a round's steps, times a factor; rounds count from 1."""
        begin, each = (number - 1) * (steps_a_round or 0), steps_a_round or 1
        return (scale * self.rate(begin + step, each) for step in itertools.count())


def descent_as(settings: OptimisationSettings, rounds: int, *, patience: int | None = None) -> Descent:
    """The descent that the settings describe.

    Args:
        settings: which optimiser, at which rate, and how the rate changes.
        rounds: at most this many passes, over which the rate changes.
        patience: as in `Descent`.
    """
    return Descent(
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        schedule=Schedule(settings.schedule, settings.warm_up, tuple(settings.drops)),
        rounds=rounds,
        patience=patience,
    )


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    # What is divided by is the deviation of the gradient, not its size (Graves 2013, Eq. 38-45).
    "rmsprop": functools.partial(torch.optim.RMSprop, centered=True),
}


UNATTENDED = Oversight()
POINTS_TO_AIM = 20
THIRDS = 4
LOOKED_AT_TOGETHER = 50
"""Losses. Whoever looks at one waits for all that a GPU has still to do, and leaves it with nothing to do next."""


def minimise(
    model: TrainedModel,
    losses: Callable[[int], Iterator[Tensor]],
    descent: Descent,
    *,
    oversight: Oversight = UNATTENDED,
    judge: TrainedModel | None = None,
    memory: float = 0.0,
    training_mode: bool = True,
    description: str = "descending",
    recorder: TrajectoryRecorder | None = None,
    steps_a_round: int | None = None,
) -> Course:
    """Move the model's network, in place, down the losses, and leave it, or its judge, at the best point seen.

    Args:
        model: where to start; its network is changed.
        losses: for round r = 1, 2, …, yields the scalar loss of each step, computed at the current
            parameters when it is asked for. It must depend on r and on the judge alone, not on earlier calls.
        descent: how.
        oversight: who judges the points, what is written down, where progress is kept.
        judge: a copy of the model that follows it, and stands for it wherever points are looked at, kept and returned:
            after each round its parameters θ̄ become memory·θ̄ + (1 − memory)·θ, an exponential mean over the rounds, and
            so do the statistics of its normalisation layers.
        memory: from 0 to below 1.
        training_mode: whether normalisation and dropout layers are in training mode during the steps.
        description: shown beside the progress bar and in messages.
        recorder: writes down the way of the model, as far as the point that is kept.
        steps_a_round: how many losses a round has, where the descent's schedule changes the learning rate.

    Returns:
        The course, from round 0 (the start).

    Raises:
        RepairError: if a loss or a parameter becomes NaN or infinite; says in which round and step. In its first round
            a cautious descent shortens its steps instead, as long as it can. Or if a rate is beyond the numbers of the
            parameters' type, a rate changes and nobody said how many steps a round has, or a cautious descent is to be
            recorded.
    """
    network = model.network
    for name, rate in (("learning rate", descent.learning_rate), ("weight decay", descent.weight_decay)):
        if rate > torch.finfo(model.dtype).max:
            kind = str(model.dtype).removeprefix("torch.")
            raise RepairError(f"the {name} is {rate:g}, which no {kind} number can be: use a smaller one")
    if recorder is not None and descent.cautious:
        raise RepairError(
            "a cautious descent may begin anew, and what is recorded is one way: set cautious to false, or record "
            "nothing"
        )
    if steps_a_round is None and not descent.schedule.is_constant:
        raise RepairError(
            f"the schedule {descent.schedule.name} changes the learning rate from step to step: say how many steps a "
            "round has, with steps_a_round"
        )
    optimiser = descent.optimiser_of(model)
    checkpoint = oversight.checkpoint
    judged = model if judge is None else judge
    saved = checkpoint.load() if checkpoint else None
    start = _copy(judged.network.state_dict()) if oversight.aim else {}
    if saved is None:
        value, numbers, tensors = oversight.look(judged)
        trace: list[dict[str, Any]] = [{"round": 0, "loss": None, "watched": value, **numbers}]
        observed = {name: [tensor] for name, tensor in tensors.items()}
        best_round, best_value, scale = 0, value, 1.0
        best_state = _copy(judged.network.state_dict())
        aimed_state: dict[str, Tensor] = {}
        if recorder is not None:
            recorder.at_round(0, network, optimiser)
    else:
        tensors, state = saved
        trace, best_round, best_value = state["trace"], state["best_round"], state["best_value"]
        scale = state["scale"]
        observed = {name: list(rows) for name, rows in _unprefixed(tensors, "observed.").items()}
        network.load_state_dict(_unprefixed(tensors, "network."))
        best_state, aimed_state = _unprefixed(tensors, "best."), _unprefixed(tensors, "aimed.")
        load_optimiser(optimiser, _unprefixed(tensors, "optimiser."))
        if recorder is not None:
            recorder.restore(_unprefixed(tensors, "recorder."))
        if judge is not None:
            judge.network.load_state_dict(_unprefixed(tensors, "judge."))
        print(
            f"{description}: resuming after round {trace[-1]['round']} of at most {descent.rounds}",
            flush=True,
        )
    first = trace[-1]["round"] + 1
    bar = tqdm(range(first, descent.rounds + 1), desc=description, unit="round", initial=first - 1,
               total=descent.rounds, mininterval=1)  # fmt: skip
    for number in bar:
        if descent.patience is not None and number - 1 - best_round >= descent.patience:
            break
        if number == 1 and descent.cautious:
            optimiser, scale, loss = _cautious_round(
                model, descent, losses, training_mode, description, steps_a_round
            )
        else:
            rates = descent.rates_of_round(number, steps_a_round, scale)
            loss = _one_round(
                network, optimiser, losses(number), training_mode, description, number, recorder, rates
            )
        if judge is not None:
            _follow(judge, model, memory)
        value, numbers, tensors = oversight.look(judged)
        trace.append({"round": number, "loss": loss, "watched": value, **numbers})
        for name, tensor in tensors.items():
            observed[name].append(tensor)
        if best_value is None or oversight.prefers(value, best_value):
            best_round = number
            best_value = value if value is None or best_value is None else max(value, best_value)
            best_state = _copy(judged.network.state_dict())
            if recorder is not None:
                recorder.keep()
        if oversight.aim and number == _highest(trace, oversight.aim):
            aimed_state = _copy(judged.network.state_dict())
        if recorder is not None:
            recorder.at_round(number, network, optimiser)
        bar.set_postfix(loss=loss, watched=value, refresh=False)
        if checkpoint:
            checkpoint.save(
                {
                    **{f"network.{k}": v for k, v in _copy(network.state_dict()).items()},
                    **{f"best.{k}": v for k, v in best_state.items()},
                    **{f"aimed.{k}": v for k, v in aimed_state.items()},
                    **{f"optimiser.{k}": v for k, v in optimiser_tensors(optimiser).items()},
                    **{f"observed.{k}": torch.stack(rows) for k, rows in observed.items()},
                    **{f"judge.{k}": v for k, v in (judge.network.state_dict() if judge else {}).items()},
                    **{f"recorder.{k}": v for k, v in (recorder.tensors() if recorder else {}).items()},
                },
                {"trace": trace, "best_round": best_round, "best_value": best_value, "scale": scale},
            )
    bar.close()
    judged.network.eval()
    if (
        oversight.aim
        and best_value is not None
        and trace[_highest(trace, oversight.aim)]["watched"] < best_value
    ):
        for point in range(1, POINTS_TO_AIM):
            state = _between(start, aimed_state, point / POINTS_TO_AIM)
            judged.network.load_state_dict(state)
            value, numbers, tensors = oversight.look(judged)
            trace.append({"round": trace[-1]["round"] + 1, "loss": None, "watched": value, **numbers})
            for name, tensor in tensors.items():
                observed[name].append(tensor)
            if value is not None and value > best_value:
                best_round, best_value, best_state = trace[-1]["round"], value, state
    judged.network.load_state_dict(best_state)
    return Course(trace, best_round, {name: torch.stack(rows) for name, rows in observed.items()})


def _cautious_round(
    model: TrainedModel,
    descent: Descent,
    losses: Callable[[int], Iterator[Tensor]],
    training_mode: bool,
    description: str,
    steps_a_round: int | None,
) -> tuple[torch.optim.Optimizer, float, float]:
    """The first round, with a rate that lowers the loss: its optimiser, the factor of the rate, its mean loss."""
    network = model.network
    start = _copy(network.state_dict())

    def mean_loss() -> float:
        # In no training mode, which would move the statistics of normalisation layers.
        with torch.no_grad():
            values = [loss.detach() for loss in losses(1)]
        return float(torch.stack(values).mean()) if values else 0.0

    before = mean_loss()
    for thirds in range(THIRDS + 1):
        scale, last = 3.0**-thirds, thirds == THIRDS
        network.load_state_dict(start)
        optimiser, rates = descent.optimiser_of(model), descent.rates_of_round(1, steps_a_round, scale)
        try:
            loss = _one_round(network, optimiser, losses(1), training_mode, description, 1, None, rates)
            after = mean_loss()
        except RepairError:
            if last or not math.isfinite(before):
                raise
            after = math.inf
        if after <= before or last:
            break
        print(
            f"{description}: steps of {scale * descent.learning_rate:.3g} raise the loss, from {before:.3g} to "
            f"{after:.3g} in one round, which begins anew with a third of that",
            flush=True,
        )
    return optimiser, scale, loss


def _one_round(
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: Iterator[Tensor],
    training_mode: bool,
    description: str,
    number: int,
    recorder: TrajectoryRecorder | None,
    rates: Iterator[float],
) -> float:
    total, steps = 0.0, 0
    pending: list[Tensor] = []

    def look() -> None:
        nonlocal total, steps
        for value in torch.stack(pending).tolist() if pending else ():
            steps += 1
            if not math.isfinite(value):
                raise RepairError(
                    f"{description}: the loss is {value} in round {number}, step {steps}: "
                    "check the inputs for NaN or infinity, or use a smaller learning rate"
                )
            total += value
        pending.clear()

    network.train(training_mode)
    with exact_products():
        for loss, rate in zip(losses, rates, strict=False):
            pending.append(loss.detach())
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad()
            with backward_passes():
                loss.backward()  # type: ignore[no-untyped-call]
            if recorder is None:
                optimiser.step()
            else:
                with recorder.step():
                    optimiser.step()
            if len(pending) == LOOKED_AT_TOGETHER:
                look()
    look()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
        raise RepairError(
            f"{description}: parameters are NaN or infinite after round {number}: use a smaller learning rate"
        )
    network.eval()
    return total / max(steps, 1)


@torch.no_grad()
def _follow(judge: TrainedModel, model: TrainedModel, memory: float) -> None:
    """θ̄ ← memory·θ̄ + (1 − memory)·θ, of the statistics of normalisation layers too; their counts are the model's."""
    states = (trained.network.state_dict().values() for trained in (judge, model))
    for mean, value in zip(*states, strict=True):
        mean.copy_(memory * mean + (1 - memory) * value if value.is_floating_point() else value)


def _highest(trace: list[dict[str, Any]], name: str) -> int:
    """The round, other than the start, with the highest number of this name; the first of equals."""
    return int(max(trace[1:], key=lambda row: row[name])["round"])


def _between(start: dict[str, Tensor], end: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """The state so far along the straight line; what is no floating-point number, such as a count, as at the start."""
    return {
        name: torch.lerp(tensor, end[name], share) if tensor.is_floating_point() else tensor
        for name, tensor in start.items()
    }


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def _unprefixed(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
