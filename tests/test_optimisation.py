"""The descent loop and training with it: the same as plain torch, the best point is kept, and a run goes on after
a kill to the same bytes.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelrepair.base_training.train import train
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.training.descent import Course, Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches, mean_losses
from modelrepair.training.trajectory import TrajectoryRecorder
from models import assert_equal, blobs, make_examples, make_model, one_thread, state_bytes  # noqa: F401

OPTIMISERS = pytest.mark.parametrize("optimiser", ["adam", "sgd"])
ROUNDS = 4
EPOCHS = 6
CLOUDS, _ = blobs(60, flipped=0.1, seed=0)
OTHER_CLOUDS, _ = blobs(40, flipped=0.1, seed=1)
DESCENT = Descent(learning_rate=0.05, rounds=EPOCHS)


def scripted(values: list[float]) -> Callable[[TrainedModel], float]:
    """A judge that gives these values one after the other, whatever it sees."""
    remaining = iter(values)
    return lambda model: next(remaining)


def remember(model: TrainedModel) -> dict[str, float | Tensor]:
    return {"norm": float(model.parameter_vector.norm()), "position": model.parameter_vector}


def losses_of(model: TrainedModel, examples: Examples) -> Callable[[int], Iterator[Tensor]]:
    return mean_losses(model, examples, 7, seed=3, purpose="test")


def run(model: TrainedModel, examples: Examples, rounds: int = ROUNDS, **options: Any) -> Course:
    descent = Descent(learning_rate=0.05, rounds=rounds, patience=options.pop("patience", None))
    return minimise(model, losses_of(model, examples), descent, oversight=Oversight(**options))


@OPTIMISERS
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_descent_is_that_of_plain_torch_to_the_byte(optimiser: str, weight_decay: float) -> None:
    model, plain, examples = make_model("normalised"), make_model("normalised"), make_examples("normalised")
    descent = Descent(learning_rate=0.05, rounds=3, optimiser=optimiser, weight_decay=weight_decay)
    course = minimise(model, losses_of(model, examples), descent)

    parameters = list(plain.network.parameters())
    if optimiser == "adam":
        reference: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=0.05, weight_decay=weight_decay)
    else:
        reference = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=weight_decay)
    plain.network.train()
    means = []
    for epoch in (1, 2, 3):
        values = []
        for positions in epoch_batches(23, 7, seed=3, purpose="test", epoch=epoch):
            inputs, targets = examples.batch(positions, dtype=torch.float64)
            loss = torch.nn.functional.cross_entropy(plain.network(inputs), targets)
            reference.zero_grad()
            loss.backward()
            reference.step()
            values.append(loss.item())
        means.append(sum(values) / len(values))
    assert state_bytes(model) == state_bytes(plain)
    assert [row["loss"] for row in course.trace] == [
        None,
        *(pytest.approx(mean, rel=1e-14) for mean in means),
    ]
    assert [row["round"] for row in course.trace] == [0, 1, 2, 3]


def bowl(model: TrainedModel) -> Callable[[int], Iterator[Tensor]]:
    """A quadratic loss in which plain gradient steps longer than 2/10 go further and further up."""

    def losses(number: int) -> Iterator[Tensor]:
        for _ in range(3):
            yield 5 * sum(((parameter - 1) ** 2).sum() for parameter in model.parameters.values())

    return losses


@pytest.mark.parametrize(("rate", "thirds"), [(0.05, 0), (0.5, 1), (5.0, 3), (1e200, 4)])
def test_steps_that_raise_the_loss_are_shortened(
    rate: float, thirds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    cautious, plain = make_model(), make_model()
    options: dict[str, Any] = {"rounds": 3, "optimiser": "sgd", "momentum": 0.0}
    if thirds == 4:
        # So long that no shortening helps: then what is wrong with them is said.
        with pytest.raises(RepairError, match=r"round 1.*use a smaller learning rate"):
            minimise(cautious, bowl(cautious), Descent(rate, **options, cautious=True))
        return
    course = minimise(cautious, bowl(cautious), Descent(rate, **options, cautious=True))
    expected = minimise(plain, bowl(plain), Descent(rate * 3.0**-thirds, **options))
    assert state_bytes(cautious) == state_bytes(plain)
    assert course.trace == expected.trace
    assert capsys.readouterr().out.count("raise the loss") == thirds


def test_a_way_that_may_begin_anew_is_not_recorded() -> None:
    model, examples = make_model(), make_examples()
    descent = Descent(0.05, rounds=1, cautious=True)
    with pytest.raises(RepairError, match="a cautious descent may begin anew"):
        minimise(model, losses_of(model, examples), descent, recorder=TrajectoryRecorder(model, 4))


def test_without_a_judge_the_last_point_is_the_result() -> None:
    model, examples = make_model(), make_examples()
    course = run(model, examples, observe=remember)
    assert course.best_round == ROUNDS
    assert [row["watched"] for row in course.trace] == [None] * (ROUNDS + 1)
    assert torch.equal(model.parameter_vector, course.tensors["position"][ROUNDS])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=5))
def test_the_best_point_wins_and_ties_go_to_the_earlier(values: list[int]) -> None:
    model, examples = make_model(), make_examples()
    course = run(
        model, examples, len(values) - 1, watch=scripted([float(v) for v in values]), observe=remember
    )
    assert course.best_round == values.index(max(values))
    assert torch.equal(model.parameter_vector, course.tensors["position"][course.best_round])
    assert [row["watched"] for row in course.trace] == values


@pytest.mark.parametrize(
    ("values", "patience", "rounds_run"),
    [
        ([0, 1, 2, 3, 4], 1, 4),
        ([5, 1, 2, 3, 4], 2, 2),
        ([0, 1, 0, 2, 1, 1, 3], 2, 5),
        ([0, 0, 0, 0, 0], 3, 3),
        ([0, 0, 0, 0, 0], None, 4),
    ],
    ids=["progress", "never better", "two setbacks", "ties are no progress", "no patience set"],
)
def test_patience_counts_rounds_without_a_better_value(
    values: list[float], patience: int | None, rounds_run: int
) -> None:
    course = run(make_model(), make_examples(), len(values) - 1, watch=scripted(values), patience=patience)
    assert course.trace[-1]["round"] == rounds_run


def test_a_point_that_is_worse_than_the_start_is_never_the_result() -> None:
    model, examples = make_model(), make_examples()
    before = state_bytes(model)
    assert run(model, examples, watch=scripted([1, 0, 0, 0, 0])).best_round == 0
    assert state_bytes(model) == before


@pytest.mark.parametrize("network", ["dropping", "normalised"])
def test_where_every_round_is_worse_the_way_to_the_best_of_them_is_watched(network: str) -> None:
    model, examples = make_model(network), make_examples(network)
    start = {name: value.clone() for name, value in model.network.state_dict().items()}
    seen: list[dict[str, Tensor]] = []

    def observe(model: TrainedModel) -> dict[str, float | Tensor]:
        seen.append({name: value.clone() for name, value in model.network.state_dict().items()})
        return {"aim": [0.0, 1.0, 3.0, 3.0, 2.0, *[9.0] * 19][len(seen) - 1]}

    values = [1.0, *[0.0] * ROUNDS, *[0.5] * 6, 2.0, 2.0, *[1.5] * 11]
    course = run(model, examples, watch=scripted(values), observe=observe, aim="aim")
    assert [row["watched"] for row in course.trace] == values
    assert [row["round"] for row in course.trace] == list(range(ROUNDS + 20))
    assert course.best_round == ROUNDS + 7
    assert not model.network.training
    for name, value in model.network.state_dict().items():
        end = seen[2][name]
        expected = start[name] + 7 / 20 * (end - start[name]) if value.is_floating_point() else start[name]
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-14)


def test_without_a_better_point_on_the_way_to_the_aim_the_start_is_the_result() -> None:
    model = make_model()
    before = state_bytes(model)
    values = [1.0] * (ROUNDS + 20)
    assert run(model, make_examples(), watch=scripted(values), observe=remember, aim="norm").best_round == 0
    assert state_bytes(model) == before


@pytest.mark.parametrize(
    ("values", "way", "best"),
    [
        # The round with the highest aim is the best that was watched: there is nothing to look for.
        ([1, 0, 2, 0, 5], [], 4),
        ([1, 5, 2, 0, 5], [], 1),
        # A round is good, the one with the highest aim is refused, and what lies on the way to that is better.
        ([1, 0, 2, 0, -1], [*[1.5] * 6, 3, *[2.5] * 12], ROUNDS + 7),
        # Nothing there is.
        ([1, 0, 2, 0, -1], [2] * 19, 2),
    ],
)
def test_the_way_to_a_round_that_is_refused_is_watched(
    values: list[float], way: list[float], best: int
) -> None:
    seen = iter([0.0, 1.0, 2.0, 3.0, 4.0, *[9.0] * 19])
    course = run(
        make_model(),
        make_examples(),
        watch=scripted([*values, *way]),
        observe=lambda model: {"aim": next(seen)},
        aim="aim",
    )
    assert [row["watched"] for row in course.trace] == [*values, *way]
    assert course.best_round == best


def test_what_is_observed_is_written_down() -> None:
    model, examples = make_model(), make_examples()
    start = model.parameter_vector
    course = run(model, examples, observe=remember)
    positions = course.tensors["position"]
    assert positions.shape == (ROUNDS + 1, len(start))
    assert torch.equal(positions[0], start)
    assert [row["norm"] for row in course.trace] == [float(position.norm()) for position in positions]
    assert all("position" not in row for row in course.trace)
    assert len(positions.unique(dim=0)) == ROUNDS + 1


@pytest.mark.parametrize("training_mode", [True, False])
def test_only_steps_run_in_training_mode(training_mode: bool) -> None:
    model, examples = make_model("normalised"), make_examples("normalised")
    statistics = model.network[1].running_mean.clone()
    seen: list[bool] = []

    def losses(number: int) -> Iterator[Tensor]:
        for loss in losses_of(model, examples)(number):
            assert model.network.training == training_mode
            yield loss

    def watch(model: TrainedModel) -> float:
        seen.append(model.network.training)
        return 0.0 if len(seen) == 1 else len(seen)

    minimise(
        model,
        losses,
        Descent(learning_rate=0.05, rounds=2),
        oversight=Oversight(watch=watch),
        training_mode=training_mode,
    )
    assert seen == [False] * 3
    assert not model.network.training
    assert torch.equal(model.network[1].running_mean, statistics) != training_mode


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_round_and_step(bad: float) -> None:
    model, examples = make_model(), make_examples()

    def losses(number: int) -> Iterator[Tensor]:
        for step, loss in enumerate(losses_of(model, examples)(number), start=1):
            yield loss * bad if (number, step) == (2, 3) else loss

    with pytest.raises(
        RepairError, match=rf"teaching: the loss is {bad} in round 2, step 3: check the inputs"
    ):
        minimise(model, losses, Descent(learning_rate=0.01, rounds=3), description="teaching")


def test_parameters_that_the_last_step_made_infinite_are_refused() -> None:
    model, examples = make_model("contraction", dtype=torch.float32), make_examples()
    examples = Examples(1000 * examples.inputs, examples.targets)
    descent = Descent(learning_rate=1e38, rounds=1, optimiser="sgd")
    with pytest.raises(RepairError, match="parameters are NaN or infinite after round 1: use a smaller"):
        minimise(model, mean_losses(model, examples, 23, seed=0, purpose="test"), descent)


@OPTIMISERS
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_rates_beyond_the_numbers_of_the_model_are_refused(optimiser: str, name: str) -> None:
    model, examples = make_model(dtype=torch.float32), make_examples()
    descent = Descent(**{"learning_rate": 0.1, "rounds": 1, "optimiser": optimiser, name: 1e39})  # type: ignore[arg-type]
    with pytest.raises(
        RepairError, match=f"the {name.replace('_', ' ')} is 1e\\+39, which no float32 number"
    ):
        minimise(model, losses_of(model, examples), descent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": 0.0}, "the learning rate is 0.0"),
        ({"learning_rate": math.nan}, "the learning rate is nan"),
        ({"learning_rate": math.inf}, "the learning rate is inf"),
        ({"learning_rate": "1e-3"}, "the learning rate is '1e-3'"),
        ({"weight_decay": -0.1}, "the weight decay is -0.1: give a number of 0 or more"),
        ({"weight_decay": math.nan}, "the weight decay is nan"),
        ({"rounds": 0}, "rounds .* is 0"),
        ({"patience": 0}, "the patience is 0: give at least 1, or null"),
        ({"optimiser": "rprop"}, "no optimiser 'rprop': choose one of adam, rmsprop, sgd"),
    ],
)
def test_descents_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        Descent(**({"learning_rate": 0.1, "rounds": 1} | options))


def minimise_until(
    folder: Path,
    network: str,
    optimiser: str,
    stop: tuple[int, int] | None,
    sign: int = 1,
    **options: Any,
) -> tuple[TrainedModel, Course, list[int]]:
    """Start, or go on from the checkpoint in the folder, with a fresh model; die at this round and step."""
    model, examples, asked = make_model(network), make_examples(network), []

    def losses(number: int) -> Iterator[Tensor]:
        asked.append(number)
        for step, loss in enumerate(losses_of(model, examples)(number)):
            if (number, step) == stop:
                raise SystemExit
            yield loss

    course = minimise(
        model,
        losses,
        Descent(
            **{"learning_rate": 0.05, "rounds": ROUNDS, "weight_decay": 0.01, "patience": 3, **options},
            optimiser=optimiser,
        ),
        oversight=Oversight(
            watch=lambda model: sign * model.mean_log_likelihood(examples),
            observe=remember,
            checkpoint=Checkpoint(folder / "test", "fingerprint"),
            aim="norm",
        ),
    )
    return model, course, asked


def die(
    folder: Path, network: str, optimiser: str, stop: tuple[int, int], sign: int = 1, **options: Any
) -> None:
    """A run that ends without a word, and lets go of its lock as a process does."""
    try:
        minimise_until(folder, network, optimiser, stop, sign, **options)
    except SystemExit:
        pass
    else:
        raise AssertionError("the run was not stopped")


@OPTIMISERS
@pytest.mark.parametrize("network", ["dropping", "tied"])
@pytest.mark.parametrize("step", [0, 2])
def test_a_run_killed_in_any_round_ends_with_the_same_bytes(
    tmp_path: Path, network: str, optimiser: str, step: int
) -> None:
    whole, expected, asked = minimise_until(tmp_path / "whole", network, optimiser, None)
    assert asked == [1, 2, 3, 4]
    for number in asked:
        die(tmp_path / str(number), network, optimiser, (number, step))
        model, course, asked_again = minimise_until(tmp_path / str(number), network, optimiser, None)
        assert asked_again == asked[number - 1 :], "finished rounds are not run again"
        assert state_bytes(model) == state_bytes(whole)
        assert course.trace == expected.trace
        assert course.best_round == expected.best_round
        assert torch.equal(course.tensors["position"], expected.tensors["position"])


def test_a_run_killed_in_every_round_ends_with_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, expected, _ = minimise_until(tmp_path / "whole", "dropping", "adam", None)
    for number in range(1, ROUNDS + 1):
        die(tmp_path / "killed", "dropping", "adam", (number, 1))
    model, course, asked = minimise_until(tmp_path / "killed", "dropping", "adam", None)
    assert asked == [ROUNDS]
    assert "resuming after round 3 of at most 4" in capsys.readouterr().out
    assert (state_bytes(model), course.trace) == (state_bytes(whole), expected.trace)


def test_a_run_that_shortened_its_steps_goes_on_with_short_ones(tmp_path: Path) -> None:
    long: dict[str, Any] = {"learning_rate": 30.0, "cautious": True, "patience": None}
    whole, expected, asked = minimise_until(tmp_path / "whole", "tied", "adam", None, **long)
    assert asked.count(1) > 3, "or no step was too long"
    die(tmp_path / "killed", "tied", "adam", (3, 1), **long)
    model, course, asked = minimise_until(tmp_path / "killed", "tied", "adam", None, **long)
    assert asked == [3, 4]
    assert (state_bytes(model), course.trace) == (state_bytes(whole), expected.trace)


def test_a_run_killed_in_every_round_goes_to_the_same_aim(tmp_path: Path) -> None:
    whole, expected, _ = minimise_until(tmp_path / "whole", "dropping", "adam", None, -1)
    assert len(expected.trace) > ROUNDS + 1
    for number in range(1, 4):
        die(tmp_path / "killed", "dropping", "adam", (number, 1), -1)
    model, course, _ = minimise_until(tmp_path / "killed", "dropping", "adam", None, -1)
    assert (state_bytes(model), course.trace) == (state_bytes(whole), expected.trace)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    whole, expected, _ = minimise_until(tmp_path, "dropping", "sgd", None)
    model, course, asked = minimise_until(tmp_path, "dropping", "sgd", None)
    assert asked == []
    assert (state_bytes(model), course.trace) == (state_bytes(whole), expected.trace)


@settings(deadline=None)
@given(st.integers(0, 50), st.integers(1, 60), st.integers(0, 2**32), st.integers(0, 100))
def test_epoch_batches_visit_everything_once(count: int, size: int, seed: int, epoch: int) -> None:
    batches = epoch_batches(count, size, seed=seed, purpose="test", epoch=epoch)
    np.testing.assert_array_equal(np.sort(np.concatenate([[], *batches])), np.arange(count))
    assert len(batches) == math.ceil(count / size)
    assert all(len(batch) == size for batch in batches[:-1])


def test_epoch_batches_are_a_function_of_their_arguments() -> None:
    def order(**changes: Any) -> list[int]:
        arguments = {"count": 40, "batch_size": 7, "seed": 0, "purpose": "test", "epoch": 1} | changes
        return np.concatenate(epoch_batches(**arguments)).tolist()

    expected = order()
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    assert order() == expected
    assert order(batch_size=40) == expected, "the batch size only cuts the order"
    for change in ({"seed": 1}, {"purpose": "other"}, {"epoch": 2}):
        assert order(**change) != expected


def test_a_batch_size_of_nothing_is_refused() -> None:
    with pytest.raises(RepairError, match="the batch size is 0"):
        epoch_batches(10, 0, seed=0, purpose="test", epoch=1)


def test_mean_losses_are_the_means_of_their_batches() -> None:
    model, examples = make_model(), make_examples()
    batches = epoch_batches(23, 7, seed=3, purpose="test", epoch=2)
    expected = [-model.log_likelihoods(examples.subset(batch)).mean() for batch in batches]
    assert_equal(torch.stack(list(losses_of(model, examples)(2))), torch.stack(expected))


def test_dropout_follows_the_seed_and_leaves_torch_alone() -> None:
    model, examples = make_model("dropping"), make_examples("dropping")
    model.network.train()

    def values(seed: int, epoch: int) -> list[float]:
        losses = mean_losses(model, examples, 23, seed=seed, purpose="test")
        return [loss.item() for loss in losses(epoch)]

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = values(0, 1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert values(0, 1) == first
    assert values(0, 2) != first
    assert values(1, 1) != first


def fresh_model(seed: int = 0) -> TrainedModel:
    return TrainedModel(
        make_network("linear", (2,), 2, seed=seed, bias=True).double(), Softmax(), device="cpu"
    )


def trained(
    validation: Examples | None = None,
    *,
    descent: Descent = DESCENT,
    seed: int = 0,
    checkpoint: Checkpoint | None = None,
) -> tuple[TrainedModel, Course]:
    model = fresh_model()
    course = train(
        model, CLOUDS, descent, batch_size=16, seed=seed, validation=validation, checkpoint=checkpoint
    )
    return model, course


def test_a_toy_problem_is_learned_as_well_as_it_can_be() -> None:
    clean, _ = blobs(400, seed=2)
    model, course = trained(descent=Descent(learning_rate=0.05, rounds=30))
    best_possible = float(np.mean((clean.inputs.sum(axis=1) > 0) == (clean.targets == 1)))
    assert model.accuracy(clean) == pytest.approx(best_possible, abs=0.03)
    losses = [row["loss"] for row in course.trace[1:]]
    assert losses[-1] < 0.75 * losses[0]


def test_without_validation_the_last_epoch_is_the_result() -> None:
    model, course = trained()
    assert course.best_round == EPOCHS
    assert len(course.trace) == EPOCHS + 1
    assert all(row["watched"] is None and "validation_accuracy" not in row for row in course.trace)
    assert torch.equal(course.tensors["margins"][EPOCHS], model.margins(CLOUDS))
    assert state_bytes(trained(CLOUDS.subset([]))[0]) == state_bytes(model), "empty validation is none"


def test_margins_of_every_epoch_are_those_of_its_model() -> None:
    _, course = trained()
    margins = course.tensors["margins"]
    assert margins.shape == (EPOCHS + 1, len(CLOUDS))
    for epochs in range(EPOCHS + 1):
        model = fresh_model()
        if epochs:
            shorter = Descent(learning_rate=0.05, rounds=epochs)
            train(model, CLOUDS, shorter, batch_size=16, seed=0)
        outputs = model.outputs(CLOUDS)
        given = outputs[np.arange(len(CLOUDS)), CLOUDS.targets]
        other = outputs[np.arange(len(CLOUDS)), 1 - CLOUDS.targets]
        assert_equal(margins[epochs], given - other)


def test_the_epoch_that_is_best_on_validation_is_kept() -> None:
    # The first epochs overshoot what the wrong labels then pull back.
    model, course = trained(OTHER_CLOUDS, descent=Descent(learning_rate=0.1, rounds=EPOCHS))
    watched = [row["watched"] for row in course.trace]
    assert course.best_round == int(np.argmax(watched))
    assert 0 < course.best_round < EPOCHS
    assert model.mean_log_likelihood(OTHER_CLOUDS) == max(watched)
    assert model.accuracy(OTHER_CLOUDS) == course.trace[course.best_round]["validation_accuracy"]
    assert torch.equal(course.tensors["margins"][course.best_round], model.margins(CLOUDS))


def test_patience_counts_epochs_without_progress_on_validation() -> None:
    _, course = trained(OTHER_CLOUDS, descent=Descent(learning_rate=0.1, rounds=50, patience=3))
    assert course.trace[-1]["round"] == course.best_round + 3 < 50


def test_the_seed_alone_decides_the_order() -> None:
    first, course = trained(OTHER_CLOUDS)
    np.random.default_rng(0).random()
    torch.manual_seed(123)
    second, again = trained(OTHER_CLOUDS)
    assert state_bytes(first) == state_bytes(second)
    assert course.trace == again.trace
    assert state_bytes(first) != state_bytes(trained(OTHER_CLOUDS, seed=1)[0])


def test_training_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, course = trained(OTHER_CLOUDS)
    judged = 0
    performance = TrainedModel.performance

    def dying(model: TrainedModel, examples: Examples) -> tuple[float, float]:
        nonlocal judged
        judged += 1
        if judged == 4:
            raise SystemExit
        return performance(model, examples)

    with monkeypatch.context() as patch:
        patch.setattr(TrainedModel, "performance", dying)
        with contextlib.suppress(SystemExit):
            trained(OTHER_CLOUDS, checkpoint=Checkpoint(tmp_path / "training", "fingerprint"))
    assert judged == 4
    model, resumed = trained(OTHER_CLOUDS, checkpoint=Checkpoint(tmp_path / "training", "fingerprint"))
    assert state_bytes(model) == state_bytes(expected)
    assert resumed.trace == course.trace
    assert torch.equal(resumed.tensors["margins"], course.tensors["margins"])


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(RepairError, match="there are no examples to train on"):
        train(fresh_model(), CLOUDS.subset([]), DESCENT, batch_size=16, seed=0)


def test_inputs_that_are_not_finite_are_met_with_where() -> None:
    inputs = CLOUDS.inputs.copy()
    inputs[17] = np.nan
    spoiled = Examples(inputs, CLOUDS.targets)
    with pytest.raises(RepairError, match=re.escape("learning digits: the loss is nan in round 1, step ")):
        train(fresh_model(), spoiled, DESCENT, batch_size=16, seed=0, description="learning digits")
