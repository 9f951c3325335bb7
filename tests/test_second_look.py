"""The second look against the same computation by hand, and what it is for: a better judge of the training data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.influence import Investigation, belief, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior import SecondLook, insert_evidence
from modelrepair.settings.posterior import InsertionSettings, SecondLookSettings
from modelrepair.sound import Sound
from modelrepair.training.conditions import Conditions
from modelrepair.training.descent import Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches, mean_losses
from modelrepair.training.schedule import Schedule
from models import assert_equal, blobs, make_examples, make_model, one_thread, state_bytes  # noqa: F401

BASE = make_model("mlp")
KEPT, INSERTED = make_examples("mlp", count=40), make_examples("mlp", count=9, seed=1)
WEIGHTS = np.linspace(0.5, 2, 9)
LOOK = SecondLook(learning_rate=0.02, looks=4, memory=0.6, batch_size=16, least=0.0, share=0.0, repeats=1000)


def believed_by_hand(model: TrainedModel, least: int) -> np.ndarray:
    inputs, targets = KEPT.batch(slice(None), dtype=torch.float64)
    chances = torch.softmax(model.network(inputs), dim=1)[torch.arange(len(KEPT)), targets].detach().numpy()
    return np.flatnonzero((chances >= 0.5) | (np.argsort(np.argsort(-chances)) < least))


def by_hand(
    seed: int, decay: float = 0.0, least: int = 0, share: float = 0.0, repeats: int = 1000
) -> tuple[torch.Tensor, list[float]]:
    """θ of the judge after four looks, and the share that each look believed."""
    edited, judge, shares = BASE.copy(), BASE.parameter_vector, []
    optimiser = torch.optim.Adam(edited.network.parameters(), lr=0.02)
    x_new, y_new = INSERTED.batch(slice(None), dtype=torch.float64)
    x_old, y_old = KEPT.batch(slice(None), dtype=torch.float64)
    for look in range(1, 5):
        trusted = believed_by_hand(BASE.with_parameter_vector(judge), least)
        shares.append(len(trusted) / len(KEPT))
        often = list(range(9))
        extra = generator(seed, f"repeated in look {look}").permutation(9)
        while len(often) < 9 * repeats and len(often) + 0.5 < share * (len(often) + 0.5 + len(trusted)):
            often.append(len(often) % 9)
        often[9 * (len(often) // 9) :] = extra[: len(often) % 9]
        x, y = torch.cat([x_new[often], x_old[trusted]]), torch.cat([y_new[often], y_old[trusted]])
        weights = torch.cat([torch.from_numpy(WEIGHTS)[often], torch.ones(len(trusted), dtype=torch.float64)])
        for batch in epoch_batches(len(x), 16, seed=seed, purpose="second look", epoch=look):
            losses = torch.nn.functional.cross_entropy(edited.network(x[batch]), y[batch], reduction="none")
            optimiser.zero_grad()
            penalty = decay / 2 * sum(p.square().sum() for p in edited.network.parameters())
            ((weights[batch] * losses).mean() + penalty).backward()
            optimiser.step()
        judge = 0.6 * judge + 0.4 * edited.parameter_vector
    return judge, shares


def test_it_is_the_computation_by_hand() -> None:
    before = state_bytes(BASE)
    edited = LOOK.insert(BASE, INSERTED, WEIGHTS, kept=KEPT, seed=3)
    expected, shares = by_hand(3)
    assert_equal(edited.model.parameter_vector, expected, 1e-12)
    assert [row["believed"] for row in edited.trace] == [0.0, *shares]
    assert 0 < shares[0] < 1
    assert edited.best_round == 4
    assert state_bytes(BASE) == before


@pytest.mark.parametrize(("least", "count"), [(0.7, 28), (0.69, 28), (1.0, 40)])
def test_a_weak_judge_believes_the_likeliest_in_any_case(least: float, count: int) -> None:
    look = SecondLook(**{**LOOK.model_dump(), "least": least})
    edited = look.insert(BASE, INSERTED, WEIGHTS, kept=KEPT, seed=3)
    expected, shares = by_hand(3, least=count)
    assert_equal(edited.model.parameter_vector, expected, 1e-12)
    assert [row["believed"] for row in edited.trace] == [0.0, *shares]
    assert shares[0] == count / 40 > by_hand(3)[1][0]


def test_a_judge_that_errs_elsewhere_doubts_only_as_many_as_are_wrong() -> None:
    """1 − p = (1 − w) a, of the share p that it doubts and the share a of sound examples that it believes."""
    sure = sure_examples(50)
    inputs, answers = sure.inputs, sure.targets
    doubted = float((BASE.disbelief(KEPT) > 0).double().mean())

    def first_look(right: int, least: float, sifted: bool = True) -> float:
        sound = Examples(inputs, np.where(np.arange(50) < right, answers, (answers + 1) % 3))
        look = SecondLook(**{**LOOK.model_dump(), "looks": 1, "least": least})
        return float(look.insert(BASE, INSERTED, kept=KEPT, sound=sound, sifted=sifted).trace[1]["believed"])

    assert doubted == 37 / 40
    assert first_look(50, 0.08) == 4 / 40, (
        "what never errs is trusted, apart from what is believed in any case"
    )
    assert first_look(25, 0.08) == 6 / 40
    assert first_look(25, 0.08, sifted=False) == 4 / 40, "what is wrong may still be among them"
    assert first_look(25, 0.5) == 20 / 40
    assert first_look(2, 0.08) == first_look(0, 0.08) == 1.0, "it doubts no more than it errs"
    assert first_look(2, 0.07) == 3 / 40, "what doubts no more than the others is trusted"


def sure_examples(count: int) -> Examples:
    """Examples whose targets the base believes, all of them."""
    drawn = make_examples("mlp", count=2000, seed=2)
    answered = drawn.with_targets(BASE.network(torch.from_numpy(drawn.inputs)).argmax(1).numpy())
    sure = answered.subset(np.flatnonzero(BASE.disbelief(answered).numpy() <= 0)[:count])
    assert len(sure) == count
    return sure


@pytest.mark.parametrize(
    ("right", "least", "trusted"), [(30, 0.0, 30), (30, 0.7, 35), (50, 0.0, 50), (1, 0.0, 1)]
)
def test_a_judge_that_knows_targets_by_heart_trains_on_no_larger_a_share_than_it_believes_elsewhere(
    right: int, least: float, trusted: int
) -> None:
    """It believes all 50 of the training examples, and `right` of 50 others."""
    sure = sure_examples(50)
    others = sure.with_targets(np.where(np.arange(50) < right, sure.targets, (sure.targets + 1) % 3))
    look = SecondLook(**{**LOOK.model_dump(), "looks": 1, "least": least})
    edited = look.insert(BASE, INSERTED, kept=sure, sound=others)
    assert edited.trace[1]["believed"] == trusted / 50
    sifted = look.insert(BASE, INSERTED, kept=sure, sound=others, sifted=True)
    assert sifted.trace[1]["believed"] == 1, "nothing that was found is among them"
    likeliest = np.sort(np.argsort(BASE.disbelief(sure).numpy())[:trusted])
    alone = look.insert(BASE, INSERTED, kept=sure.subset(likeliest))
    assert state_bytes(edited.model) == state_bytes(alone.model)


def test_failures_alone_say_nothing_of_how_much_is_believed_elsewhere() -> None:
    sure = sure_examples(50)
    failures = sure.with_targets((sure.targets + 1) % 3)
    models = [
        LOOK.insert(BASE, failures, kept=sure, sound=sound).model
        for sound in (failures, failures.subset([]), None)
    ]
    assert state_bytes(models[0]) == state_bytes(models[1]) == state_bytes(models[2])


def test_the_judge_of_an_identification_knows_discovery() -> None:
    sure = sure_examples(50)
    others = sure.with_targets(np.where(np.arange(50) < 30, sure.targets, (sure.targets + 1) % 3))
    settings = InsertionSettings(posterior=SecondLookSettings(**LOOK.model_dump()), balance_classes=False)

    def insert(discovery: Examples | None) -> dict[str, bytes]:
        return state_bytes(
            insert_evidence(
                settings,
                BASE,
                INSERTED,
                sure,
                curvature=lambda *_: pytest.fail("none"),
                discovery=discovery,
                seed=3,
            ).model
        )

    expected = [LOOK.insert(BASE, INSERTED, kept=sure, seed=3, sound=sound) for sound in (others, None)]
    assert [insert(others), insert(None)] == [state_bytes(edited.model) for edited in expected]
    assert insert(others) != insert(None)


def test_a_judge_that_believes_nothing_anywhere_believes_the_likeliest() -> None:
    unsure = BASE.with_parameter_vector(torch.zeros_like(BASE.parameter_vector))
    assert unsure.believed(KEPT) == unsure.believed(INSERTED) == 0
    look = SecondLook(**{**LOOK.model_dump(), "looks": 1, "least": 0.2})
    # All are alike to it: whoever is as likely as the likeliest fifth is believed.
    assert look.insert(unsure, INSERTED, kept=KEPT, sound=INSERTED, sifted=True).trace[1]["believed"] >= 0.2


def test_what_is_believed_elsewhere_is_that_of_each_kind_of_failure_on_average() -> None:
    other = BASE.with_parameter_vector(0.1 * BASE.parameter_vector)
    shares = []
    for model in (BASE, other):
        inputs, targets = KEPT.batch(slice(None), dtype=torch.float64)
        chances = torch.softmax(model.network(inputs), dim=1)[torch.arange(40), targets]
        shares.append(float((chances >= 0.5).double().mean()))
    assert shares[0] != shares[1]
    parts = [Investigation(BASE, model, INSERTED) for model in (BASE, other)]
    assert belief(parts, KEPT) == Sound(sum(shares) / 2, 40)
    assert belief(parts[:1], KEPT) == Sound(shares[0], 40)


def test_each_look_judges_once_however_often_it_is_gone_through(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = []
    disbelief = TrainedModel.disbelief
    monkeypatch.setattr(
        TrainedModel, "disbelief", lambda model, examples: judged.append(1) or disbelief(model, examples)
    )
    SecondLook(**{**LOOK.model_dump(), "optimiser": "sgd", "learning_rate": 100.0}).insert(
        BASE, INSERTED, kept=KEPT
    )
    assert "raise the loss" in capsys.readouterr().out
    assert len(judged) == LOOK.looks


@pytest.mark.parametrize(("schedule", "shorter"), [("constant", True), ("cosine", False)])
def test_steps_that_raise_the_loss_are_shortened_where_their_rate_does_not_change(
    schedule: str, shorter: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"optimiser": "sgd", "learning_rate": 30.0, "schedule": schedule}
    look = SecondLook(**{**LOOK.model_dump(), **changes})
    look.insert(BASE, INSERTED, kept=KEPT)
    assert ("raise the loss" in capsys.readouterr().out) == shorter


def test_the_penalty_of_the_base_goes_on() -> None:
    look = SecondLook(**{**LOOK.model_dump(), "weight_decay": 0.1})
    expected, _ = by_hand(0, decay=0.1)
    assert_equal(look.insert(BASE, INSERTED, WEIGHTS, kept=KEPT).model.parameter_vector, expected, 1e-12)
    assert float((expected - by_hand(0)[0]).norm()) > 1e-3


def test_few_are_repeated_until_they_are_their_share() -> None:
    look = SecondLook(**{**LOOK.model_dump(), "share": 0.9})
    edited = look.insert(BASE, INSERTED, WEIGHTS, kept=KEPT, seed=3)
    expected, shares = by_hand(3, share=0.9)
    assert_equal(edited.model.parameter_vector, expected, 1e-12)
    assert max(shares) * 40 * 9 > 9, "or none had been repeated"
    # Nothing is to be repeated where there are as many as that already, or where nothing is inserted at all.
    enough = SecondLook(**{**LOOK.model_dump(), "share": 9 / 49 - 1e-9})
    assert state_bytes(enough.insert(BASE, INSERTED, kept=KEPT).model) == state_bytes(
        LOOK.insert(BASE, INSERTED, kept=KEPT).model
    )
    # And none comes more often than it may.
    twice = SecondLook(**{**LOOK.model_dump(), "share": 0.9, "repeats": 2})
    expected, shares = by_hand(3, share=0.9, repeats=2)
    assert min(shares) * 40 * 9 > 18, "or they would not have come more often"
    found = twice.insert(BASE, INSERTED, WEIGHTS, kept=KEPT, seed=3)
    assert_equal(found.model.parameter_vector, expected, 1e-12)
    nothing = INSERTED.subset([])
    assert state_bytes(look.insert(BASE, nothing, kept=KEPT).model) == state_bytes(
        LOOK.insert(BASE, nothing, kept=KEPT).model
    )


def test_images_are_shown_as_they_are_told_to_be() -> None:
    model, kept, inserted = (
        make_model("lenet5"),
        make_examples("lenet5", count=8),
        make_examples("lenet5", count=5),
    )
    settings = {
        **LOOK.model_dump(),
        "looks": 1,
        "memory": 0.0,
        "least": 1.0,
        "crop": 1,
        "flip": True,
        "learning_rate": 1e-3,
    }
    looked = SecondLook(**settings).insert(model, inserted, kept=kept, seed=3).model
    shown, (order,) = (
        Conditions(crop=1, flip=True),
        epoch_batches(13, 16, seed=3, purpose="second look", epoch=1),
    )
    views = shown.views(13, seed=3, purpose="second look", epoch=1)
    assert views is not None
    inputs, targets = inserted.followed_by(kept).batch(slice(None), dtype=model.dtype)
    by_hand = model.copy()
    optimiser = torch.optim.Adam(by_hand.network.parameters(), lr=1e-3)
    outputs = by_hand.network(shown.show(inputs, views)[order])
    torch.nn.functional.cross_entropy(outputs, targets[order]).backward()
    optimiser.step()
    assert_equal(looked.parameter_vector, by_hand.parameter_vector, 1e-12)
    plain = (
        SecondLook(**{**settings, "crop": 0, "flip": False}).insert(model, inserted, kept=kept, seed=3).model
    )
    assert float((plain.parameter_vector - looked.parameter_vector).abs().max()) > 1e-4


def test_it_goes_on_as_the_base_was_trained() -> None:
    """By SGD, its rate up and down over all looks, with normalisation layers whose statistics are averaged too."""
    model, kept = make_model("normalised"), make_examples("normalised", count=30)
    inserted = make_examples("normalised", count=10, seed=1)
    look = SecondLook(
        optimiser="sgd", learning_rate=0.05, momentum=0.8, nesterov=True, schedule="one-cycle", batch_size=8,
        looks=3, memory=0.6, least=0.5, share=0.5,
    )  # fmt: skip
    found = look.insert(model, inserted, kept=kept, seed=3)

    edited, judge = model.copy().network, model.copy()
    optimiser = torch.optim.SGD(edited.parameters(), lr=1.0, momentum=0.8, nesterov=True)
    x_old, y_old = kept.batch(slice(None), dtype=torch.float64)
    x_new, y_new = inserted.batch(slice(None), dtype=torch.float64)
    schedule = Schedule("one-cycle")
    for number in (1, 2, 3):
        disbelief = judge.disbelief(kept).numpy()
        trusted = np.flatnonzero(disbelief <= max(0.0, np.sort(disbelief)[14]))
        extra = generator(3, f"repeated in look {number}").permutation(10)
        often = [*(list(range(10)) * (max(10, len(trusted)) // 10)), *extra[: max(10, len(trusted)) % 10]]
        x, y = torch.cat([x_new[often], x_old[trusted]]), torch.cat([y_new[often], y_old[trusted]])
        edited.train()
        for step, batch in enumerate(epoch_batches(len(x), 8, seed=3, purpose="second look", epoch=number)):
            # As many steps a look as if everything were believed: (30 + 30) / 8.
            optimiser.param_groups[0]["lr"] = 0.05 * schedule.share(8 * (number - 1) + step, 8, 3)
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(edited(x[batch]), y[batch]).backward()
            optimiser.step()
        edited.eval()
        mean = {
            name: 0.6 * old + 0.4 * new if old.is_floating_point() else new
            for (name, old), new in zip(
                judge.network.state_dict().items(), edited.state_dict().values(), strict=True
            )
        }
        judge.network.load_state_dict(mean)
    for name, value in judge.network.state_dict().items():
        assert_equal(found.model.network.state_dict()[name].double(), value.double(), 1e-12)
    assert float((found.model.network[1].running_mean - model.network[1].running_mean).abs().max()) > 0.01


def test_an_example_that_cannot_be_judged_is_refused_and_not_left_out_unsaid() -> None:
    inputs = KEPT.inputs.copy()
    inputs[3, 1] = math.nan
    with pytest.raises(RepairError, match="log-likelihoods of 1 of the 40 training examples are NaN"):
        LOOK.insert(BASE, INSERTED, WEIGHTS, kept=Examples(inputs, KEPT.targets))


def test_it_looks_in_a_type_that_numpy_does_not_have() -> None:
    model = BASE.copy()
    model.network.to(torch.bfloat16)
    found = LOOK.insert(model, INSERTED, WEIGHTS, kept=KEPT).model.parameter_vector
    assert found.dtype == torch.bfloat16
    moved = (found.float() - model.parameter_vector.float()).norm()
    expected = LOOK.insert(BASE, INSERTED, WEIGHTS, kept=KEPT).model.parameter_vector - BASE.parameter_vector
    assert 0.5 * expected.norm() < moved < 2 * expected.norm()


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_passes_through_the_model_change_nothing(batch_size: int) -> None:
    other = TrainedModel(BASE.copy().network, Softmax(), batch_size=batch_size, device="cpu")
    expected = LOOK.insert(BASE, INSERTED, kept=KEPT).model.parameter_vector
    assert_equal(LOOK.insert(other, INSERTED, kept=KEPT).model.parameter_vector, expected, 1e-12)


def test_what_is_deleted_is_not_looked_at() -> None:
    alone = LOOK.insert(BASE, INSERTED, kept=KEPT).model
    both = Examples(
        np.concatenate([INSERTED.inputs, KEPT.inputs[:5]]),
        np.concatenate([INSERTED.targets, (KEPT.targets[:5] + 1) % 3]),
    )
    mixed = LOOK.edit(BASE, both, np.array([1.0] * 9 + [-1.0] * 5), kept=KEPT).model
    assert state_bytes(mixed) == state_bytes(alone)


def test_where_somebody_watches_the_best_judge_comes_out() -> None:
    values, seen = [0.1, 0.3, 0.9, 0.9, 0.2], []

    def watch(model: TrainedModel) -> float:
        seen.append(model.parameter_vector)
        return values[len(seen) - 1]

    edited = LOOK.insert(BASE, INSERTED, kept=KEPT, oversight=Oversight(watch=watch))
    assert edited.best_round == 2, "the earlier one of equals"
    assert [row["watched"] for row in edited.trace] == values
    assert torch.equal(edited.model.parameter_vector, seen[2])
    unwatched = SecondLook(**{**LOOK.model_dump(), "looks": 2}).insert(BASE, INSERTED, kept=KEPT)
    assert torch.equal(seen[2], unwatched.model.parameter_vector)


@pytest.mark.parametrize(("slack", "expected"), [(0.0, 2), (0.05, 3), (0.15, 4), (0.9, 4)])
def test_a_later_judge_is_preferred_within_the_slack(slack: float, expected: int) -> None:
    values = iter([0.1, 0.3, 0.9, 0.9, 0.8])
    oversight = Oversight(watch=lambda model: next(values), slack=slack)
    assert LOOK.insert(BASE, INSERTED, kept=KEPT, oversight=oversight).best_round == expected


@pytest.mark.parametrize("watched", [True, False])
def test_it_goes_on_after_a_kill_to_the_byte(tmp_path: Path, watched: bool) -> None:
    def look(checkpoint: Checkpoint | None, last: int) -> Any:
        left = iter(range(last))

        def observe(model: TrainedModel) -> dict[str, Any]:
            if next(left, None) is None:
                raise SystemExit
            return {"length": float(model.parameter_vector.norm())}

        watch = (lambda model: -abs(float(model.parameter_vector.norm()) - 3)) if watched else None
        return LOOK.insert(BASE, INSERTED, kept=KEPT, oversight=Oversight(watch, observe, checkpoint))

    expected = look(None, 9)
    with pytest.raises(SystemExit):
        look(Checkpoint(tmp_path, "one"), 3)
    again = look(Checkpoint(tmp_path, "one"), 2)
    assert state_bytes(again.model) == state_bytes(expected.model)
    assert again.trace == expected.trace
    assert again.best_round == expected.best_round


def test_it_finds_wrong_labels_that_a_network_knows_by_heart() -> None:
    """A wide network trained for long believes nearly all of its labels, of which a fifth is wrong."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(8, 12))
    # Two clouds a class: what is right takes some learning.
    clouds = rng.integers(0, 8, 1200)
    inputs, truth = centres[clouds] + 0.9 * rng.normal(size=(1200, 12)), clouds % 4
    wrong = np.flatnonzero(rng.random(600) < 0.2)
    given = truth[:600].copy()
    given[wrong] = (given[wrong] + rng.integers(1, 4, len(wrong))) % 4
    data, discovery = Examples(inputs[:600], given), Examples(inputs[600:], truth[600:])
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(12, 400), torch.nn.ReLU(), torch.nn.Linear(400, 4)).double()
    model = TrainedModel(network, Softmax(), device="cpu")
    minimise(
        model,
        mean_losses(model, data, 32, seed=0, purpose="base"),
        Descent(learning_rate=0.005, rounds=80),
    )
    assert model.believed(data.subset(wrong)) > 0.9, "the model has learned them by heart"
    failures = discovery.subset(model.disbelief(discovery).numpy() > 0)
    settings = InsertionSettings(
        posterior={"update": "second-look", "learning_rate": 0.003, "batch_size": 32}, balance_classes=False
    )

    def found(discovery: Examples | None) -> tuple[float, float]:
        judge = insert_evidence(
            settings,
            model,
            failures,
            data,
            curvature=lambda *_: pytest.fail("none"),
            seed=0,
            discovery=discovery,
        ).model
        doubted = judge.disbelief(data).numpy() > 0
        return doubted[wrong].mean(), np.isin(np.flatnonzero(doubted), wrong).mean()

    blind, precise = found(None), found(discovery)
    assert blind[0] < 0.1
    assert precise[0] > 0.4
    assert precise[1] > 0.7


def test_it_judges_wrong_labels_better_than_the_model_that_learned_them() -> None:
    examples, swapped = blobs(300, flipped=0.3, seed=4)
    keep = (examples.targets[swapped] == 0) & (np.arange(len(swapped)) % 5 > 0)
    right = examples.targets.copy()
    right[swapped[keep]] = 1
    # One way, so that the failures of the base have a reason.
    data = Examples(examples.inputs, right)
    failing, _ = blobs(400, seed=5)
    wrong = np.setdiff1d(swapped, swapped[keep])
    model = TrainedModel(
        torch.nn.Sequential(torch.nn.Linear(2, 40), torch.nn.Tanh(), torch.nn.Linear(40, 2)).double(),
        Softmax(),
        device="cpu",
    )
    minimise(
        model,
        mean_losses(model, data, 32, seed=0, purpose="base"),
        Descent(learning_rate=0.02, rounds=60),
    )
    failures = failing.subset(model.disbelief(failing).numpy() > 0)
    updated = SecondLook(learning_rate=0.02).insert(model, failures, kept=data).model
    investigation = Investigation(model, updated, data)

    def area(name: str) -> float:
        ranks = rankdata(influence_scores(investigation, name))[wrong]
        return float(ranks.sum() - len(wrong) * (len(wrong) + 1) / 2) / (
            len(wrong) * (len(data) - len(wrong))
        )

    assert area("loss-after") > area("loss") + 0.02


def test_the_loss_after_is_that_with_the_failures_above_even_odds() -> None:
    other = BASE.with_parameter_vector(BASE.parameter_vector + 0.3)
    inputs, targets = KEPT.batch(slice(None), dtype=torch.float64)
    losses = torch.nn.functional.cross_entropy(other.network(inputs), targets, reduction="none").detach()
    expected = losses - math.log(2)
    found = torch.from_numpy(influence_scores(Investigation(BASE, other, KEPT), "loss-after"))
    assert_equal(found, expected)


def test_even_odds() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]], dtype=torch.float64)
    model = TrainedModel(torch.nn.Linear(2, 2, bias=False).double(), Softmax(), device="cpu")
    with torch.no_grad():
        model.network.weight.copy_(torch.eye(2))
    disbelief = model.disbelief(Examples(logits.numpy(), np.zeros(3, np.int64)))
    assert disbelief.tolist() == pytest.approx(
        [0, math.log((1 + math.exp(-0.1)) / 2), math.log((1 + math.exp(0.1)) / 2)]
    )
    attributes = TrainedModel(model.network, Sigmoid(), device="cpu")
    targets = np.array([[1.0, 0.0]] * 3)
    # σ(0)² is even odds; a likelier and a less likely attribute of equal size cannot make up for each other.
    assert (attributes.disbelief(Examples(logits.numpy(), targets)) <= 0).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"kept": None}, "give it the training examples that stay as `kept`"),
        ({"kept": KEPT, "weights": np.ones(4)}, "weights of shape .4,.* for 9 examples"),
        ({"kept": KEPT.subset([]), "weights": -np.ones(9)}, "nothing left to train on"),
    ],
)
def test_what_it_refuses(how: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        LOOK.edit(BASE, INSERTED, **{"weights": np.ones(9), **how})
