"""Training beside what decides the gradient: rates that change, views of images, numbers and layouts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.base_training.train import train
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings.training import TrainingSettings
from modelrepair.training.conditions import PLAIN, Conditions, conditions_as
from modelrepair.training.descent import Course, Descent, descent_as, minimise
from modelrepair.training.epochs import epoch_batches, epoch_steps, mean_losses
from modelrepair.training.schedule import Schedule
from models import assert_equal, make_examples, make_model, one_thread, state_bytes  # noqa: F401

ROUNDS, STEPS = 7, 5
SCHEDULES = torch.optim.lr_scheduler
SGD: dict[str, Any] = {"optimiser": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
CIFAR = Descent(learning_rate=0.1, rounds=3, schedule=Schedule("one-cycle"), **SGD)


def images(count: int = 24, *, size: int = 32, seed: int = 0) -> Examples:
    draw = np.random.default_rng(seed)
    return Examples(
        draw.integers(0, 256, (count, 3, size, size), dtype=np.uint8), draw.integers(0, 10, count)
    )


def resnet20() -> TrainedModel:
    return TrainedModel(make_network("resnet20", (3, 32, 32), 10, seed=0), Softmax(), device="cpu")


# Rates.


def rates_of_torch(make: Any, count: int = ROUNDS * STEPS) -> list[float]:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule, rates = make(optimiser), []
    optimiser.step()
    for number in range(count):
        rates.append(optimiser.param_groups[0]["lr"])
        if number + 1 < count:
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "torchs"),
    [
        (Schedule("cosine"), lambda o: SCHEDULES.CosineAnnealingLR(o, ROUNDS * STEPS)),
        (Schedule("one-cycle"), lambda o: SCHEDULES.OneCycleLR(o, 1.0, ROUNDS * STEPS, cycle_momentum=False)),
        (
            Schedule("one-cycle", warm_up=2),
            lambda o: SCHEDULES.OneCycleLR(
                o, 1.0, ROUNDS * STEPS, pct_start=2 / ROUNDS, cycle_momentum=False
            ),
        ),
        (
            Schedule("steps", drops=(3, 5)),
            lambda o: SCHEDULES.MultiStepLR(o, [3 * STEPS, 5 * STEPS], gamma=0.1),
        ),
        (
            Schedule("constant", warm_up=2),
            lambda o: SCHEDULES.LinearLR(o, 1 / (2 * STEPS), total_iters=2 * STEPS - 1),
        ),
        (
            Schedule("cosine", warm_up=1),
            lambda o: SCHEDULES.SequentialLR(
                o,
                [
                    SCHEDULES.LinearLR(o, 1 / STEPS, total_iters=STEPS - 1),
                    SCHEDULES.CosineAnnealingLR(o, (ROUNDS - 1) * STEPS),
                ],
                [STEPS],
            ),
        ),
        (Schedule(), lambda o: SCHEDULES.ConstantLR(o, 1.0)),
    ],
    ids=["cosine", "one cycle", "late top", "steps", "warm-up", "warm-up and cosine", "constant"],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_rates_are_those_of_torch(schedule: Schedule, torchs: Any) -> None:
    shares = [schedule.share(step, STEPS, ROUNDS) for step in range(ROUNDS * STEPS)]
    assert shares == pytest.approx(rates_of_torch(torchs), rel=1e-12, abs=1e-15)
    assert len(set(shares)) > 1 or schedule.is_constant


def test_a_descent_with_rates_is_that_of_plain_torch_to_the_byte() -> None:
    model, plain, examples = make_model("normalised"), make_model("normalised"), make_examples("normalised")
    descent = Descent(learning_rate=0.05, rounds=3, schedule=Schedule("one-cycle"), **SGD)
    losses = mean_losses(model, examples, 7, seed=3, purpose="test")
    minimise(model, losses, descent, steps_a_round=4)
    reference = torch.optim.SGD(
        plain.network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = SCHEDULES.OneCycleLR(reference, 0.05, 12, cycle_momentum=False)
    plain.network.train()
    for epoch in (1, 2, 3):
        for positions in epoch_batches(23, 7, seed=3, purpose="test", epoch=epoch):
            inputs, targets = examples.batch(positions, dtype=torch.float64)
            reference.zero_grad()
            nn.functional.cross_entropy(plain.network(inputs), targets).backward()
            reference.step()
            if schedule.last_epoch < 11:
                schedule.step()
    assert_equal(model.parameter_vector, plain.parameter_vector, 1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Schedule("linear"),
            "no schedule 'linear': choose one of constant, cosine, one-cycle, steps",
        ),
        (lambda: Schedule(warm_up=-1), "the warm-up is -1 rounds: give a number of 0 or more, or null"),
        (lambda: Schedule("steps"), "steps was given the drops .*needs some rounds"),
        (lambda: Schedule("steps", drops=(4, 2)), "in ascending order"),
        (lambda: Schedule("cosine", drops=(4,)), "the others take none"),
        (lambda: Descent(0.1, 1, nesterov=True), "nesterov was asked for of adam"),
        (
            lambda: Descent(0.1, 1, optimiser="sgd", momentum=0.0, nesterov=True),
            "it is of sgd with momentum",
        ),
        (lambda: Conditions(precision="float16"), "no precision 'float16': choose one of bfloat16, float32"),
        (lambda: Conditions(crop=-1), "crop is -1: give a number of pixels"),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(RepairError, match=message):
        make()


def test_rates_that_change_need_the_steps_of_a_round() -> None:
    model, examples = make_model(), make_examples()
    losses = mean_losses(model, examples, 7, seed=3, purpose="test")
    with pytest.raises(RepairError, match="say how many steps a round has"):
        minimise(model, losses, Descent(0.1, 2, schedule=Schedule("cosine")))


# Views.


def shown_by_hand(image: Tensor, down: int, right: int, mirrored: int) -> Tensor:
    """Padded by zeros, cut out, and mirrored, one image alone."""
    reach = max(abs(down), abs(right))
    padded = nn.functional.pad(image, (reach,) * 4)
    height, width = image.shape[1:]
    moved = padded[:, reach - down : reach - down + height, reach - right : reach - right + width]
    return moved.flip(2) if mirrored else moved


@pytest.mark.parametrize(("crop", "flip"), [(4, True), (3, False), (0, True), (40, True)])
def test_views_are_shifts_and_mirrors(crop: int, flip: bool) -> None:
    conditions = Conditions(crop=crop, flip=flip)
    inputs, _ = images(40, size=9).batch(slice(None))
    inputs = inputs[:, :, :, :7]
    views = conditions.views(40, seed=0, purpose="test", epoch=1)
    assert views is not None
    expected = torch.stack(
        [shown_by_hand(image, *view) for image, view in zip(inputs, views.tolist(), strict=True)]
    )
    assert torch.equal(conditions.show(inputs, views), expected)


def test_every_view_is_drawn_as_often_as_any_other() -> None:
    views = Conditions(crop=2, flip=True).views(50_000, seed=0, purpose="test", epoch=1)
    assert views is not None
    kinds, counts = np.unique(views, axis=0, return_counts=True)
    assert len(kinds) == 50
    assert (kinds.min(0).tolist(), kinds.max(0).tolist()) == ([-2, -2, 0], [2, 2, 1])
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(1000)


def test_a_view_is_a_function_of_seed_epoch_and_example_alone() -> None:
    conditions = Conditions(crop=4, flip=True)

    def views(count: int = 50, **changes: Any) -> Any:
        return conditions.views(count, **({"seed": 0, "purpose": "test", "epoch": 1} | changes))

    expected = views()
    torch.manual_seed(3)
    assert np.array_equal(views(), expected)
    assert np.array_equal(views(20), expected[:20])
    for change in ({"seed": 1}, {"epoch": 2}, {"purpose": "other"}):
        assert not np.array_equal(views(**change), expected)
    for size in (7, 50):
        steps = epoch_steps(50, size, seed=0, purpose="test", epoch=1, conditions=conditions)
        found = np.empty_like(expected)
        for step in steps:
            found[step.positions] = step.views
        assert np.array_equal(found, expected), "whatever the batches"
    assert PLAIN.views(50, seed=0, purpose="test", epoch=1) is None


def test_views_of_what_is_no_image_are_refused() -> None:
    with pytest.raises(RepairError, match=r"crop and flip are of images, and an input is of shape \(4,\)"):
        train(
            make_model(),
            make_examples(),
            Descent(0.1, 1),
            batch_size=7,
            seed=0,
            conditions=Conditions(flip=True),
        )


# Numbers and layouts.


def taught(
    model: TrainedModel | None = None, descent: Descent = CIFAR, **options: Any
) -> tuple[TrainedModel, Course]:
    model = resnet20() if model is None else model
    settings: dict[str, Any] = {"batch_size": 8, "seed": 0, "validation": images(8, seed=1)}
    course = train(model, images(), descent, **settings | options)
    return model, course


ALL = Conditions(crop=4, flip=True, precision="bfloat16", channels_last=True)


@pytest.mark.parametrize(
    "conditions",
    [ALL, Conditions(precision="bfloat16"), Conditions(channels_last=True, flip=True)],
    ids=["all", "bfloat16", "channels last"],
)
def test_resnet20_goes_on_after_a_kill_to_the_same_bytes(
    conditions: Conditions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "conditions": conditions,
        "keep": "last",
        "margins": "during",
        "checkpoints": 2,
    }
    expected, course = taught(**options)
    saved, save = 0, Checkpoint.save

    def dying(self: Checkpoint, *content: Any) -> None:
        nonlocal saved
        save(self, *content)
        saved += 1
        if saved == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            taught(checkpoint=Checkpoint(tmp_path, "a"), **options)
    model, resumed = taught(checkpoint=Checkpoint(tmp_path, "a"), **options)
    assert state_bytes(model) == state_bytes(expected)
    assert resumed.trace == course.trace
    assert torch.equal(resumed.tensors["margins"], course.tensors["margins"])
    assert resumed.trajectory is not None
    assert course.trajectory is not None
    assert torch.equal(resumed.trajectory.gains, course.trajectory.gains)


def test_parameters_stay_float32_and_as_they_lay() -> None:
    model, _ = taught(conditions=ALL, keep="last")
    assert {tensor.dtype for tensor in model.network.parameters()} == {torch.float32}
    assert all(tensor.is_contiguous() for tensor in model.network.parameters())
    assert not model.network.training


def test_bfloat16_is_the_training_but_for_its_rounding() -> None:
    """Products in bfloat16 have eight bits: losses agree to some of them, and gradients point the same way."""
    model = resnet20()
    model.network.train()
    examples, found = images(), {}
    for precision in ("float32", "bfloat16"):
        conditions = Conditions(precision=precision)
        losses = mean_losses(model, examples, 24, seed=0, purpose="test", conditions=conditions)
        (loss,) = losses(1)
        assert loss.dtype == torch.float32
        gradient = torch.autograd.grad(loss, list(model.parameters.values()))
        found[precision] = loss.detach(), torch.cat([part.flatten() for part in gradient])
    (loss, gradient), (rough, other) = found["float32"], found["bfloat16"]
    assert 0 < abs(float(loss - rough)) < 0.01 * float(loss)
    assert 0.98 < float(torch.nn.functional.cosine_similarity(gradient, other, dim=0)) < 1


def test_channels_last_is_the_same_training() -> None:
    ends = []
    for conditions in (PLAIN, Conditions(channels_last=True)):
        model, examples = make_model("normalised"), make_examples("normalised")
        layouts = []

        def judged(model: TrainedModel, layouts: list[bool] = layouts) -> None:
            layouts.append(model.network[0].weight.is_contiguous())

        model.network.register_forward_hook(
            lambda network, inputs, outputs, judged=judged, model=model: judged(model)
        )
        train(model, examples, Descent(0.05, 3, **SGD), batch_size=7, seed=0, conditions=conditions)
        assert set(layouts) == {not conditions.channels_last}
        ends.append(model.parameter_vector)
    assert_equal(ends[0], ends[1], 1e-12)


# What is kept, and what is written down.


def test_the_last_epoch_is_kept_where_it_is_asked_for() -> None:
    validation = make_examples(count=40, seed=5)
    for keep in ("best", "last"):
        model, examples = make_model(), make_examples()
        descent = Descent(learning_rate=0.05, rounds=6)
        course = train(model, examples, descent, batch_size=7, seed=3, validation=validation, keep=keep)
        watched = [row["watched"] for row in course.trace]
        assert course.best_round == (int(np.argmax(watched)) if keep == "best" else 6)
        assert model.mean_log_likelihood(validation) == watched[course.best_round]
    assert int(np.argmax(watched)) < 6
    with pytest.raises(RepairError, match="no epoch to keep 'first': choose one of best, last"):
        taught(keep="first")


def test_margins_during_an_epoch_are_those_of_its_steps() -> None:
    model, examples = make_model(), make_examples()
    descent = Descent(learning_rate=0.05, rounds=2)
    course = train(model, examples, descent, batch_size=7, seed=3, margins="during")
    margins = course.tensors["margins"]
    after = make_model()
    other = train(after, examples, descent, batch_size=7, seed=3)
    assert state_bytes(after) == state_bytes(model)
    assert other.trace == course.trace
    assert torch.equal(margins[0], other.tensors["margins"][0])

    walked = make_model()
    optimiser = torch.optim.Adam(walked.network.parameters(), lr=0.05)
    for epoch in (1, 2):
        expected = torch.empty(23, dtype=torch.float64)
        for positions in epoch_batches(23, 7, seed=3, purpose="training", epoch=epoch):
            batch = examples.subset(positions)
            expected[positions] = walked.margins(batch)
            inputs, targets = batch.batch(slice(None), dtype=torch.float64)
            optimiser.zero_grad()
            nn.functional.cross_entropy(walked.network(inputs), targets).backward()
            optimiser.step()
        assert_equal(margins[epoch], expected)
    with pytest.raises(RepairError, match="no time of margins 'before': choose one of after, during"):
        taught(margins="before")


def test_what_is_shown_otherwise_is_learned_otherwise() -> None:
    """Every condition reaches the training, and none of them the judging of the points."""
    plain, _ = taught(conditions=PLAIN, keep="last")
    for conditions in (Conditions(crop=4), Conditions(flip=True), Conditions(precision="bfloat16")):
        model, course = taught(conditions=conditions, keep="last")
        assert state_bytes(model) != state_bytes(plain)
        validation = images(8, seed=1)
        assert model.mean_log_likelihood(validation) == course.trace[course.best_round]["watched"]
        assert torch.equal(course.tensors["margins"][course.best_round], model.margins(images()))


def test_a_training_is_as_its_settings_say() -> None:
    settings = TrainingSettings(
        optimiser="sgd", learning_rate=0.1, weight_decay=0.01, momentum=0.8, nesterov=True, schedule="steps",
        warm_up=1.5, drops=[4, 6], batch_size=7, crop=3, flip=True, precision="bfloat16", channels_last=True,
        epochs=9, patience=None,
    )  # fmt: skip
    assert conditions_as(settings) == Conditions(3, True, "bfloat16", True)
    assert descent_as(settings, 5, patience=2) == Descent(
        learning_rate=0.1, rounds=5, patience=2, optimiser="sgd", weight_decay=0.01, momentum=0.8, nesterov=True,
        schedule=Schedule("steps", 1.5, (4, 6)),
    )  # fmt: skip
