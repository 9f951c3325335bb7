"""A recorded training: it goes the same way again to the byte, and backwards as autograd does through all of its steps.

Trained networks here are smooth and in float64, so that derivatives have an oracle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.base_training.replay import Replay
from modelrepair.base_training.train import train
from modelrepair.errors import RepairError
from modelrepair.influence import Investigation, SgdInfluence, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.training.conditions import Conditions
from modelrepair.training.descent import Course, Descent
from modelrepair.training.epochs import Step, epoch_steps, mean_loss
from modelrepair.training.schedule import Schedule
from modelrepair.training.trajectory import Trajectory, load_trajectory, save_trajectory
from models import assert_equal, make_examples, make_model, one_thread, state_bytes  # noqa: F401

OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimiser": "sgd", "momentum": 0.0, "learning_rate": 0.1},
    "momentum": {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.02},
    "adam": {"optimiser": "adam", "learning_rate": 0.01},
    "nesterov, one cycle": {
        "optimiser": "sgd",
        "momentum": 0.8,
        "nesterov": True,
        "learning_rate": 0.05,
        "schedule": Schedule("one-cycle"),
    },
    "adam, cosine": {"optimiser": "adam", "learning_rate": 0.01, "schedule": Schedule("cosine")},
}
BATCH, EPOCHS, SEED = 7, 5, 3
FAILURES = make_examples(count=4, seed=7)
every_optimiser = pytest.mark.parametrize("optimiser", OPTIMISERS)


def trained(
    optimiser: str, network: str = "mlp", *, decay: float = 0.0, checkpoints: int = 2, **options: Any
) -> tuple[TrainedModel, Examples, Course]:
    """A model after five epochs of four steps, the last of two examples; states after 0 and 4 of them are kept."""
    model, examples = make_model(network), make_examples(network)
    descent = Descent(rounds=EPOCHS, weight_decay=decay, **OPTIMISERS[optimiser])
    course = train(model, examples, descent, batch_size=BATCH, seed=SEED, checkpoints=checkpoints, **options)
    return model, examples, course


def way_of(course: Course) -> Trajectory:
    assert course.trajectory is not None
    return course.trajectory


def scores(model: TrainedModel, examples: Examples, course: Course, **options: Any) -> Tensor:
    failures = make_examples(count=4, seed=7) if examples.inputs.ndim == 2 else examples.subset(range(4))
    investigation = Investigation(model, model, examples, failures=failures, trajectory=course.trajectory)
    return torch.from_numpy(influence_scores(investigation, "trajectory", **options))


def all_steps(count: int, epochs: int = EPOCHS) -> Iterator[tuple[int, Step]]:
    epochs_of_steps = (
        epoch_steps(count, BATCH, seed=SEED, purpose="training", epoch=epoch)
        for epoch in range(1, epochs + 1)
    )
    return enumerate((step for steps in epochs_of_steps for step in steps), start=1)


def unrolled(
    optimiser: str,
    start: TrainedModel,
    examples: Examples,
    weights: Tensor,
    decay: float,
    epochs: int = EPOCHS,
) -> Tensor:
    """(d,) where training ends if example i counts wᵢ times in every step, as one function of the weights."""
    rate, momentum = (OPTIMISERS[optimiser].get(name, 0.0) for name in ("learning_rate", "momentum"))
    nesterov = OPTIMISERS[optimiser].get("nesterov", False)
    position = start.parameter_vector.requires_grad_()
    first = second = torch.zeros_like(position)
    rates = scheduled_rates(optimiser, rate, epochs * math.ceil(len(examples) / BATCH))
    for (number, step), rate in zip(all_steps(len(examples), epochs), rates, strict=True):
        inputs, targets = examples.batch(step.positions, dtype=torch.float64)
        losses = -start.log_likelihood(start.outputs_at(start.split(position), inputs), targets)
        (gradient,) = torch.autograd.grad(
            (weights[step.positions] * losses).mean(), position, create_graph=weights.requires_grad
        )
        gradient = gradient + decay * position
        if optimiser.startswith("adam"):
            first = 0.9 * first + 0.1 * gradient
            second = 0.999 * second + 0.001 * gradient**2
            spread = (second / (1 - 0.999**number)).sqrt() + 1e-8
            position = position - rate * first / (1 - 0.9**number) / spread
        else:
            first = momentum * first + gradient
            position = position - rate * (gradient + momentum * first if nesterov else first)
        if not weights.requires_grad:
            position = position.detach().requires_grad_()
    return position


def scheduled_rates(optimiser: str, rate: float, count: int) -> list[float]:
    """The learning rate of each step, by PyTorch's own schedules."""
    made = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    if "one cycle" in optimiser:
        schedule: Any = torch.optim.lr_scheduler.OneCycleLR(made, rate, count, cycle_momentum=False)
    elif "cosine" in optimiser:
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(made, count)
    else:
        return [rate] * count
    made.step()
    rates = []
    for number in range(count):
        rates.append(made.param_groups[0]["lr"])
        if number + 1 < count:
            schedule.step()
    return rates


def failure_loss(model: TrainedModel, position: Tensor) -> Tensor:
    inputs, targets = FAILURES.batch(slice(None), dtype=torch.float64)
    return -model.log_likelihood(model.outputs_at(model.split(position), inputs), targets).mean()


# What is recorded.


@every_optimiser
@pytest.mark.parametrize("network", ["dropping without statistics", "lenet5", "mlp", "tied"])
def test_a_replay_is_the_training_to_the_byte(optimiser: str, network: str) -> None:
    if network == "dropping without statistics":
        model = TrainedModel(
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)).double(),
            Softmax(),
            device="cpu",
        )
        examples = make_examples()
        descent = Descent(rounds=EPOCHS, weight_decay=0.01, **OPTIMISERS[optimiser])
        course = train(model, examples, descent, batch_size=BATCH, seed=SEED, checkpoints=3)
    else:
        model, examples, course = trained(optimiser, network, decay=0.01, checkpoints=3)
    way = way_of(course)
    replay = Replay(way, model, examples)
    assert list(way.states) == [0, 2, 4]
    assert replay.segments == [range(8), range(8, 16), range(16, 20)]
    for segment, expected in enumerate([way.states[2], way.states[4]]):
        again = replay.state_after(segment)
        assert again.keys() == expected.keys()
        assert all(again[name].numpy().tobytes() == expected[name].numpy().tobytes() for name in again)
    assert any(name.startswith("optimiser.") for name in way.states[2]) == (optimiser != "sgd")
    end = replay.state_after(2)
    assert {
        name: end[f"network.{name}"].numpy().tobytes() for name in model.network.state_dict()
    } == state_bytes(model)


@every_optimiser
def test_a_replay_sees_the_same_views(optimiser: str) -> None:
    conditions = Conditions(crop=2, flip=True, channels_last=True)
    model, examples, course = trained(optimiser, "lenet5", checkpoints=1, conditions=conditions)
    end = Replay(way_of(course), model, examples).state_after(0)
    names = model.network.state_dict()
    assert {name: end[f"network.{name}"].contiguous().numpy().tobytes() for name in names} == state_bytes(
        model
    )
    plain, _, _ = trained(optimiser, "lenet5")
    assert state_bytes(plain) != state_bytes(model)


def test_recording_changes_nothing() -> None:
    model, _, course = trained("adam")
    plain, _, unrecorded = trained("adam", checkpoints=None)  # type: ignore[arg-type]
    assert state_bytes(model) == state_bytes(plain)
    assert course.trace == unrecorded.trace
    assert unrecorded.trajectory is None


@pytest.mark.parametrize(
    ("most", "kept"),
    [(0, []), (1, [0]), (2, [0, 8]), (3, [0, 4, 8]), (6, [0, 2, 4, 6, 8]), (99, list(range(10)))],
)
def test_at_most_so_many_states_are_kept_in_equal_intervals(most: int, kept: list[int]) -> None:
    model, examples = make_model(), make_examples()
    descent = Descent(rounds=10, learning_rate=0.01)
    course = train(model, examples, descent, batch_size=BATCH, seed=SEED, checkpoints=most)
    assert list(way_of(course).states) == kept


def test_what_came_after_the_kept_epoch_is_not_part_of_the_way() -> None:
    """The validation labels are wrong ones: it gets worse from some epoch on."""
    validation = make_examples(count=40, seed=5)
    model, examples, course = trained("adam", validation=validation, checkpoints=20)
    shorter = make_model()
    assert 0 < course.best_round < EPOCHS
    descent = Descent(rounds=course.best_round, **OPTIMISERS["adam"])
    short = train(shorter, examples, descent, batch_size=BATCH, seed=SEED, checkpoints=20)
    long, expected = way_of(course), way_of(short)
    assert long.rounds == expected.rounds == course.best_round
    assert list(long.states) == list(expected.states) == list(range(course.best_round))
    assert torch.equal(long.gains, expected.gains)
    assert torch.equal(long.displacement, expected.displacement)
    assert torch.equal(scores(model, examples, course), scores(shorter, examples, short))


def test_a_resumed_training_has_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, course = trained("adam")
    saved = 0
    save = Checkpoint.save

    def dying(self: Checkpoint, *content: Any) -> None:
        nonlocal saved
        save(self, *content)
        saved += 1
        if saved == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            trained("adam", checkpoint=Checkpoint(tmp_path / "training", "a"))
    _, _, resumed = trained("adam", checkpoint=Checkpoint(tmp_path / "training", "a"))
    for folder, way in (("whole", way_of(course)), ("resumed", way_of(resumed))):
        (tmp_path / folder).mkdir()
        save_trajectory(tmp_path / folder, way)
    names = {file.name for file in (tmp_path / "whole").iterdir()}
    assert names == {"trajectory.json", "path.safetensors", "states.safetensors"}
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "resumed" / name).read_bytes()


def test_a_written_way_is_read_back(tmp_path: Path) -> None:
    conditions = Conditions(channels_last=True)
    model, examples, course = trained("nesterov, one cycle", decay=0.01, conditions=conditions)
    save_trajectory(tmp_path, way_of(course))
    read = replace(course, trajectory=load_trajectory(tmp_path))
    assert way_of(read).descent == way_of(course).descent
    assert way_of(read).conditions == conditions
    assert torch.equal(scores(model, examples, read), scores(model, examples, course))


# The scores.


@every_optimiser
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_scores_are_what_autograd_makes_of_the_unrolled_training(optimiser: str, decay: float) -> None:
    model, examples, course = trained(optimiser, decay=decay)
    weights = torch.ones(23, dtype=torch.float64, requires_grad=True)
    end = unrolled(optimiser, make_model(), examples, weights, decay)
    assert_equal(end.detach(), model.parameter_vector, 1e-13)
    (expected,) = torch.autograd.grad(failure_loss(model, end), weights)
    found = scores(model, examples, course)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


def test_scores_of_a_frozen_and_a_tied_network_are_derivatives_too() -> None:
    for network in ("frozen", "tied"):
        model, examples, course = trained("adam", network)
        weights = torch.ones(23, dtype=torch.float64, requires_grad=True)
        end = unrolled("adam", make_model(network), examples, weights, 0.0)
        (expected,) = torch.autograd.grad(failure_loss(model, end), weights)
        assert_equal(scores(model, examples, course), expected, 1e-10)


def test_plain_scores_are_the_recursion_as_it_is_printed() -> None:
    """And the authors' script divides the Hessian by |S| twice."""
    model, examples, course = trained("sgd")
    way, rate = make_model(), OPTIMISERS["sgd"]["learning_rate"]
    steps, positions = [step for _, step in all_steps(23)], []
    for step in steps:
        positions.append(way.parameter_vector)
        slope = -way.weighted_gradient(examples.subset(step.positions)) / len(step.positions)
        way = way.with_parameter_vector(positions[-1] - rate * slope)

    def losses(position: Tensor, step: Step) -> Tensor:
        inputs, targets = examples.batch(step.positions, dtype=torch.float64)
        return -way.log_likelihood(way.outputs_at(way.split(position), inputs), targets)

    for legacy in (False, True):
        u = -model.weighted_gradient(FAILURES) / len(FAILURES)
        expected = torch.zeros(23, dtype=torch.float64)
        for position, step in zip(reversed(positions), reversed(steps), strict=True):
            size = len(step.positions)
            for row, example in enumerate(step.positions):
                gradient = torch.func.grad(lambda p, row=row, step=step: losses(p, step)[row])(position)
                expected[example] -= rate / size * (u @ gradient)
            hessian = torch.func.hessian(lambda p, step=step: losses(p, step).mean())(position)
            u = u - rate / (size if legacy else 1) * hessian @ u
        assert_equal(scores(model, examples, course, legacy=legacy), expected, 1e-12)


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_scores_are_those_of_training_again_without_the_example(optimiser: str) -> None:
    """To first order: with small steps the sign is right, and the error is of second order in an example's share."""
    model, examples, course = trained(optimiser)
    predicted = scores(model, examples, course)
    gains, halves = torch.zeros(2, 23, dtype=torch.float64)
    everything = torch.ones(23, dtype=torch.float64)
    whole = failure_loss(model, unrolled(optimiser, make_model(), examples, everything, 0.0))
    for example in range(23):
        for share, result in ((1.0, gains), (0.5, halves)):
            weights = everything.clone()
            weights[example] -= share
            without = failure_loss(model, unrolled(optimiser, make_model(), examples, weights, 0.0))
            result[example] = (whole - without).detach()
    errors, half_errors = (gains - predicted).abs(), (halves - predicted / 2).abs()
    strong = predicted.abs() > 0.1 * float(predicted.abs().max())
    assert torch.equal(predicted[strong] > 0, gains[strong] > 0)
    assert bool((predicted > 0).any() and (predicted < 0).any())
    assert float(errors.max()) < 0.2 * float(gains.abs().max())
    assert float(half_errors.mean()) < 0.35 * float(errors.mean())


def test_dropout_is_replayed_as_it_was_drawn() -> None:
    """The derivative by an example's weight, with every draw as it was, is the score."""
    network = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.4), nn.Linear(8, 3)).double()
    start = TrainedModel(network, Softmax(), device="cpu")
    model, examples = start.copy(), make_examples()
    descent = Descent(rounds=2, **OPTIMISERS["sgd"])
    course = train(model, examples, descent, batch_size=BATCH, seed=SEED, checkpoints=1)
    predicted = scores(model, examples, course)

    def loss(example: int, share: float) -> Tensor:
        moved = start.copy()
        moved.network.train()
        for _, step in all_steps(23, epochs=2):
            likelihood = moved.likelihood
            weights = torch.ones(len(step.positions), dtype=torch.float64)
            weights[step.positions == example] += share
            moved.likelihood = Weighted(weights)
            moved.network.zero_grad()
            mean_loss(moved, examples, step).backward()
            moved.likelihood = likelihood
            with torch.no_grad():
                for parameter in moved.network.parameters():
                    parameter -= 0.1 * parameter.grad
        moved.network.eval()
        return -moved.log_likelihoods(FAILURES).mean()

    for example in (0, 11):
        slope = (loss(example, 1e-4) - loss(example, -1e-4)) / 2e-4
        assert_equal(predicted[example], slope, 1e-7)


class Weighted(Softmax):
    """Log-likelihoods that count more or less."""

    def __init__(self, weights: Tensor) -> None:
        self.weights = weights

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.weights * super().log_likelihood(outputs, targets)


@pytest.mark.parametrize("memory", [1, 3000])
def test_little_memory_changes_no_bit(memory: int) -> None:
    """Steps that do not fit are gone through again."""
    model, examples, course = trained("adam", checkpoints=1)
    assert torch.equal(scores(model, examples, course, memory=memory), scores(model, examples, course))


def test_it_goes_on_after_a_kill_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, examples, course = trained("adam", checkpoints=99)
    expected = scores(model, examples, course)
    before, parts = SgdInfluence._before, 0

    def dying(self: SgdInfluence, *arguments: Any) -> Any:
        nonlocal parts
        parts += 1
        if parts == 3:
            raise KeyboardInterrupt
        return before(self, *arguments)

    def go() -> Tensor:
        investigation = Investigation(
            model,
            model,
            examples,
            failures=FAILURES,
            trajectory=course.trajectory,
            checkpoint=Checkpoint(tmp_path / "scores", "a"),
        )
        return torch.from_numpy(influence_scores(investigation, "trajectory"))

    with monkeypatch.context() as patched:
        patched.setattr(SgdInfluence, "_before", dying)
        with pytest.raises(KeyboardInterrupt):
            go()
        assert parts == 3
        parts = 10
        assert torch.equal(go(), expected)
        assert parts == 13, "two of five parts had been done"


def test_scores_with_views_are_those_of_the_examples_as_they_were_shown() -> None:
    """The derivative by an example's weight, with every view as it was, is the score."""
    conditions = Conditions(crop=1, flip=True)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(3 * 4 * 4, 3)).double()
    start = TrainedModel(network, Softmax(), device="cpu")
    model = start.copy()
    examples = Examples(
        np.random.default_rng(0).normal(size=(23, 1, 6, 6)), np.random.default_rng(1).integers(0, 3, 23)
    )
    descent = Descent(rounds=2, **OPTIMISERS["momentum"])
    course = train(
        model, examples, descent, batch_size=BATCH, seed=SEED, checkpoints=1, conditions=conditions
    )
    predicted = scores(model, examples, course)

    def loss(example: int, share: float) -> Tensor:
        moved, velocity = start.copy(), torch.zeros(model.parameter_vector.shape, dtype=torch.float64)
        for epoch in (1, 2):
            views = conditions.views(23, seed=SEED, purpose="training", epoch=epoch)
            assert views is not None
            for step in epoch_steps(23, BATCH, seed=SEED, purpose="training", epoch=epoch):
                inputs, targets = examples.batch(step.positions, dtype=torch.float64)
                shown = torch.stack(
                    [seen(*pair) for pair in zip(inputs, views[step.positions].tolist(), strict=True)]
                )
                weights = torch.ones(len(step.positions), dtype=torch.float64) / len(step.positions)
                weights[step.positions == example] *= 1 + share
                slope = moved.weighted_gradient(Examples(shown.numpy(), targets.numpy()), weights)
                velocity = 0.9 * velocity - slope
                moved = moved.with_parameter_vector(moved.parameter_vector - 0.02 * velocity)
        return -moved.log_likelihoods(examples.subset(range(4))).mean()

    for example in (0, 11):
        slope = (loss(example, 1e-4) - loss(example, -1e-4)) / 2e-4
        assert_equal(predicted[example], slope, 1e-7)


def seen(image: Tensor, view: list[int]) -> Tensor:
    """(channels, height, width) one image, mirrored by hand and moved within zeros, pixel by pixel."""
    down, right, mirrored = view
    result = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            source = row - down, column - right
            if mirrored:
                source = row - down, width - 1 - column - right
            if 0 <= source[0] < height and 0 <= source[1] < width:
                result[:, row, column] = image[:, source[0], source[1]]
    return result


# What it cannot be.


def test_products_in_bfloat16_are_refused() -> None:
    model, examples, course = trained("adam", conditions=Conditions(precision="bfloat16"))
    with pytest.raises(RepairError, match="the base training computed in bfloat16, whose rounding is larger"):
        scores(model, examples, course)


def test_what_was_not_recorded_is_missed() -> None:
    model, examples, course = trained("adam")
    without = replace(course, trajectory=None)
    with pytest.raises(
        RepairError, match=r"the score trajectory follows the base training, which was not recorded"
    ):
        scores(model, examples, without)
    _, _, unkept = trained("adam", checkpoints=0)
    with pytest.raises(RepairError, match="the base training kept none of its states"):
        scores(model, examples, unkept)
    with pytest.raises(RepairError, match=re.escape("was on 23 examples, and 22 were given")):
        scores(model, examples.subset(range(22)), course)
    with pytest.raises(RepairError, match="what raised the loss of the failures, and there are none"):
        influence_scores(Investigation(model, model, examples, trajectory=course.trajectory), "trajectory")


def test_other_examples_are_noticed() -> None:
    model, _, course = trained("adam")
    others = make_examples(seed=1)
    with pytest.raises(
        RepairError, match=r"steps 17 to 20 of the base training end elsewhere than they did then, by"
    ):
        scores(model, others, course)


@pytest.mark.parametrize("optimiser", ["adam", "momentum", "nesterov, one cycle"])
def test_the_script_of_the_authors_is_of_plain_stochastic_gradients(optimiser: str) -> None:
    model, examples, course = trained(optimiser)
    with pytest.raises(RepairError, match="legacy is of plain stochastic gradients"):
        scores(model, examples, course, legacy=True)


@pytest.mark.parametrize(
    ("network", "layer"), [("dropping", "layer 1 (BatchNorm1d)"), ("normalised", "layer 1 (BatchNorm2d)")]
)
def test_layers_that_mix_a_batch_are_refused_by_name(network: str, layer: str) -> None:
    model, examples, course = trained("adam", network)
    with pytest.raises(RepairError, match=re.escape(f"{layer} gathers statistics of whole batches")):
        scores(model, examples, course)
