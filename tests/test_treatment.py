"""Treatments of a toy problem: never worse on discovery, nothing of the patient changes, and a seed says it all."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from modelrepair.base_training.train import train, train_as
from modelrepair.course import given_up
from modelrepair.curvature import Curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior import Edited, ElasticWeightConsolidation, NaturalGradient, PosteriorUpdate
from modelrepair.posterior.points import Points
from modelrepair.settings.posterior import InsertionSettings, SecondLookSettings
from modelrepair.settings.training import TrainingSettings
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import mean_losses
from modelrepair.treatment import (
    TREATMENTS,
    Align,
    ComplementaryLabels,
    Dampen,
    Delete,
    Distil,
    FineTune,
    Mend,
    NegativeGradient,
    Patient,
    RandomLabels,
    Retrain,
    Scrub,
    Treatment,
    make_treatment,
)
from modelrepair.treatment.descent import _anchored
from models import (
    DenseCurvature,
    assert_equal,
    blobs,
    dropping,
    one_thread,  # noqa: F401
    state_bytes,
)

# The two clouds with every second member of one called by the other's name: a line cannot fit that and be right.
COUNT = 60
EWC = ElasticWeightConsolidation(learning_rate=0.05, rounds=10, batch_size=8)
NEWTON = NaturalGradient(points=10)
LOOKS = SecondLookSettings(learning_rate=0.05, looks=5, batch_size=16)
LOOKING = InsertionSettings(posterior=LOOKS, evidence="nothing", balance_classes=False)


def spoiled(count: int, seed: int) -> tuple[Examples, NDArray[np.int64]]:
    clean, _ = blobs(count, seed=seed)
    wrong = np.flatnonzero((clean.targets == 1) & (np.arange(count) % 4 == 1))
    targets = clean.targets.copy()
    targets[wrong] = 0
    return Examples(clean.inputs, targets), wrong


DATA, CAUSES = spoiled(COUNT, seed=0)
DISCOVERY, _ = blobs(200, seed=1)


def fresh() -> TrainedModel:
    return TrainedModel(make_network("linear", (2,), 2, seed=5, bias=True).double(), Softmax(), device="cpu")


def sick() -> TrainedModel:
    model = fresh()
    train(model, DATA, Descent(learning_rate=0.05, rounds=15), batch_size=16, seed=0)
    return model


BASE = sick()


def dense(name: str, damping: float) -> Curvature:
    return DenseCurvature.fit(BASE, DATA).damped(damping)


def patient(**changes: Any) -> Patient:
    settings: dict[str, Any] = {
        "model": BASE.copy(),
        "examples": DATA,
        "causes": CAUSES,
        "discovery": DISCOVERY,
        "failures": DISCOVERY.subset(BASE.correct(DISCOVERY).numpy() == 0),
        "curvature": dense,
        "fresh": fresh,
        "seed": 3,
    }
    return Patient(**(settings | changes))


CURES: dict[str, Treatment] = {
    "ewc": Delete(posterior=EWC, curvature="gram", damping=0.05),
    "ewc, remaining": Delete(posterior=EWC, curvature="gram", damping=0.05, remaining="equal"),
    "newton": Delete(posterior=NEWTON, curvature="gram", damping=0.05),
    "newton, remaining": Delete(posterior=NEWTON, curvature="gram", damping=0.05, remaining="equal"),
    "fine-tune": FineTune(learning_rate=0.05, epochs=5, batch_size=16),
    "fine-tune, equal": FineTune(learning_rate=0.05, epochs=5, batch_size=16, remaining="equal"),
    "mend": Mend(posterior=LOOKS, trains_on=["remaining"]),
    "mend, failures": Mend(posterior=LOOKS, trains_on=["remaining", "failures"]),
    "mend, discovery": Mend(posterior=LOOKS, trains_on=["remaining", "discovery"]),
    "retrain": Retrain(learning_rate=0.05, epochs=10, batch_size=16),
    "negative gradient": NegativeGradient(learning_rate=0.05, epochs=5, batch_size=16),
    "distil": Distil(learning_rate=0.05, epochs=5, batch_size=16),
    "complementary labels": ComplementaryLabels(learning_rate=0.05, epochs=5, batch_size=16),
    "random labels": RandomLabels(learning_rate=0.05, epochs=5, batch_size=16),
    "soft labels": Align(learning_rate=0.05, epochs=5, batch_size=16, judge=LOOKING, step=0.0),
}
POISONS: dict[str, Treatment] = {
    "ewc": Delete(
        posterior=ElasticWeightConsolidation(learning_rate=50, rounds=10, bounded=False),
        curvature="gram",
        damping=1e-3,
    ),
    "newton": Delete(posterior=NaturalGradient(epsilon=1e6), curvature="gram", damping=1e-6),
    "fine-tune": FineTune(learning_rate=100, epochs=3, batch_size=16),
    "retrain": Retrain(learning_rate=100, epochs=3, batch_size=16),
    "scrub": Scrub(alpha=1e4),
    "dampen": Dampen(strength=1e-6),
    "negative gradient": NegativeGradient(learning_rate=100, epochs=3, batch_size=16, bounded=False),
    "distil": Distil(learning_rate=100, epochs=3, batch_size=16, bounded=False),
    "complementary labels": ComplementaryLabels(learning_rate=100, epochs=3, batch_size=16),
    "random labels": RandomLabels(learning_rate=100, epochs=3, batch_size=16),
    "soft labels": Align(learning_rate=100, epochs=3, batch_size=16, judge=LOOKING, step=0.0),
}
EVERY_CURE = pytest.mark.parametrize("treatment", CURES.values(), ids=CURES)
# Mending prefers later points within a standard error, and leaves of discovery a fifth to judge if it trains on it.
OWN_RULE = ("mend", "mend, failures", "mend, discovery")
JUDGED_ON_DISCOVERY = pytest.mark.parametrize(
    "treatment", [CURES[name] for name in CURES if name not in OWN_RULE]
)


@EVERY_CURE
def test_a_treatment_repairs(treatment: Treatment) -> None:
    treated = treatment.treat(patient())
    assert BASE.accuracy(DISCOVERY) < 0.9
    assert treated.model.accuracy(DISCOVERY) > BASE.accuracy(DISCOVERY) + 0.03


@JUDGED_ON_DISCOVERY
def test_the_result_is_the_best_point_of_the_trace(treatment: Treatment) -> None:
    treated = treatment.treat(patient())
    watched = [row["watched"] for row in treated.trace]
    assert treated.best_round == watched.index(max(watched))
    assert [row["round"] for row in treated.trace] == list(range(len(watched)))
    best = treated.trace[treated.best_round]
    assert best["watched"] == treated.model.accuracy(DISCOVERY)
    assert best["query_accuracy"] == treated.model.accuracy(patient().failures)


@pytest.mark.parametrize("name", ["mend", "mend, failures"])
def test_mending_ends_at_the_last_point_within_a_standard_error_of_the_best(name: str) -> None:
    treated = CURES[name].treat(patient())
    accuracy = BASE.accuracy(DISCOVERY)
    slack = math.sqrt(accuracy * (1 - accuracy) / len(DISCOVERY))
    expected, best = 0, -math.inf
    for row in treated.trace:
        if row["watched"] > best - slack:
            expected = row["round"]
        best = max(best, row["watched"])
    assert treated.best_round == expected
    assert treated.trace[expected]["watched"] == treated.model.accuracy(DISCOVERY)


def test_how_often_a_judge_errs_on_discovery_is_known_to_mending_that_is_guarded() -> None:
    """And to no other: what nobody may judge by decides nothing."""
    answers = BASE.network(torch.from_numpy(DATA.inputs)).argmax(1).numpy()
    doubted = DATA.with_targets(np.where(np.arange(COUNT) % 5 < 3, 1 - answers, answers))
    cure = Mend(posterior={"update": "second-look", "learning_rate": 1e-6, "looks": 1, "least": 0.5})

    def believed(right: bool, guarded: bool) -> float:
        asked = BASE.network(torch.from_numpy(DISCOVERY.inputs)).argmax(1).numpy()
        judging = DISCOVERY.with_targets(asked if right else 1 - asked)
        trace = cure.treat(patient(examples=doubted, discovery=judging, guarded=guarded)).trace
        return float(trace[1]["believed"])

    assert believed(True, True) == pytest.approx(0.5, abs=1 / COUNT), (
        "what never errs believes as few as it may"
    )
    assert believed(False, True) == 1.0, "what always errs knows nothing"
    assert believed(True, False) == believed(False, False) == believed(True, True)


def test_what_a_treatment_is_taught_with() -> None:
    whole, reserved = patient(), blobs(7, seed=8)[0]
    seen, further = whole.taught_with(["remaining", "discovery"])
    assert (len(seen.discovery), len(further)) == (40, 160)
    both = np.concatenate([seen.discovery.inputs, further.inputs])
    assert np.array_equal(np.sort(both, axis=0), np.sort(DISCOVERY.inputs, axis=0)), "each example once"
    again, _ = whole.taught_with(["discovery"])
    assert np.array_equal(again.discovery.inputs, seen.discovery.inputs)
    seen, further = patient(reserved=lambda: reserved).taught_with(["failures", "reserved"])
    assert seen.discovery is DISCOVERY
    assert np.array_equal(further.inputs, np.concatenate([whole.failures.inputs, reserved.inputs]))
    assert np.array_equal(further.targets, np.concatenate([whole.failures.targets, reserved.targets]))
    with pytest.raises(RepairError, match="train on reserved, of which there are too few examples"):
        whole.taught_with(["reserved"])
    with pytest.raises(RepairError, match="trains_on names discovery and failures"):
        Mend(trains_on=["discovery", "failures"])


def test_fine_tuning_on_labelled_examples_is_training_on_them() -> None:
    reserved = blobs(30, seed=8)[0]
    settings: dict[str, Any] = {"learning_rate": 0.05, "epochs": 4, "batch_size": 16}
    treated = FineTune(**settings, trains_on=["reserved"]).treat(
        patient(reserved=lambda: reserved, guarded=False)
    )
    expected = BASE.copy()
    minimise(
        expected,
        mean_losses(expected, reserved, 16, seed=3, purpose="fine-tuning"),
        Descent(learning_rate=0.05, rounds=4),
    )
    assert state_bytes(treated.model) == state_bytes(expected)


@pytest.mark.parametrize("treatment", POISONS.values(), ids=POISONS)
def test_never_worse_on_discovery_than_the_given_model(treatment: Treatment) -> None:
    # Learning from nothing but wrong labels, and far too fast.
    wrong = Examples(DATA.inputs, 1 - DATA.targets)
    suffering = patient(examples=wrong, causes=np.arange(3))
    treated = treatment.treat(suffering)
    assert min(row["watched"] for row in treated.trace[1:]) < BASE.accuracy(DISCOVERY)
    assert treated.model.accuracy(DISCOVERY) >= BASE.accuracy(DISCOVERY)


@EVERY_CURE
def test_the_patient_is_left_as_it_is(treatment: Treatment) -> None:
    suffering = patient()
    before = state_bytes(suffering.model)
    inputs, targets = DATA.inputs.tobytes(), DATA.targets.tobytes()
    treated = treatment.treat(suffering)
    assert state_bytes(suffering.model) == before != state_bytes(treated.model)
    assert (DATA.inputs.tobytes(), DATA.targets.tobytes()) == (inputs, targets)
    assert not suffering.model.network.training


@EVERY_CURE
def test_the_seed_decides_everything_that_is_random(treatment: Treatment) -> None:
    first = treatment.treat(patient())
    torch.manual_seed(99)
    second = treatment.treat(patient())
    assert state_bytes(first.model) == state_bytes(second.model)
    assert first.trace == second.trace
    other = treatment.treat(patient(seed=4))
    is_random = treatment != CURES["newton"]
    assert (state_bytes(other.model) != state_bytes(first.model)) == is_random


@pytest.mark.parametrize("treatment", [CURES[name] for name in CURES if name != "mend, failures"])
def test_failures_are_written_down_and_never_acted_on(treatment: Treatment) -> None:
    some, none = treatment.treat(patient()), treatment.treat(patient(failures=DISCOVERY.subset([])))
    assert state_bytes(some.model) == state_bytes(none.model)
    assert all(math.isnan(row["query_accuracy"]) for row in none.trace)


def test_where_there_are_no_failures_mending_learns_the_rest() -> None:
    healthy = patient(failures=DISCOVERY.subset([]))
    rest = CURES["mend"].treat(healthy)
    assert state_bytes(CURES["mend, failures"].treat(healthy).model) == state_bytes(rest.model)
    with pytest.raises(RepairError, match="train on failures, of which there are too few"):
        make_treatment("fine-tune", trains_on=["failures"]).treat(healthy)


@pytest.mark.parametrize("name", ["fine-tune", "fine-tune, equal", "retrain"])
def test_further_training_never_looks_at_the_causes(name: str) -> None:
    inputs = DATA.inputs.copy()
    inputs[CAUSES] = np.nan
    expected = CURES[name].treat(patient())
    treated = CURES[name].treat(patient(examples=Examples(inputs, DATA.targets)))
    assert state_bytes(treated.model) == state_bytes(expected.model)


@pytest.mark.parametrize("kind", ["retrain", "fine-tune"])
def test_further_training_minimises_the_penalised_loss_of_what_remains(kind: str) -> None:
    """The gradient of mean loss + α/2·‖θ‖², biases and all, by hand."""
    alpha = 0.1
    settings = {"learning_rate": 0.05, "epochs": 400, "batch_size": COUNT, "weight_decay": alpha}
    treated = make_treatment(kind, **settings).treat(patient(guarded=False))
    weight, bias = (p.detach().numpy() for p in treated.model.network.parameters())
    kept = np.setdiff1d(np.arange(COUNT), CAUSES)
    inputs, targets = DATA.inputs[kept], np.eye(2)[DATA.targets[kept]]
    logits = inputs @ weight.T + bias
    errors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - targets
    assert np.abs(errors.T @ inputs / len(kept) + alpha * weight).max() < 1e-9
    assert np.abs(errors.mean(axis=0) + alpha * bias).max() < 1e-9
    assert np.abs(alpha * weight).max() > 1e-2, "the penalty weighs something"


@pytest.mark.parametrize("name", ["ewc", "newton"])
def test_deletion_looks_at_nothing_but_the_causes(name: str) -> None:
    inputs = np.full_like(DATA.inputs, np.nan)
    inputs[CAUSES] = DATA.inputs[CAUSES]
    expected = CURES[name].treat(patient())
    treated = CURES[name].treat(patient(examples=Examples(inputs, DATA.targets)))
    assert state_bytes(treated.model) == state_bytes(expected.model)


@pytest.mark.parametrize(
    "name",
    ["ewc", "ewc, remaining", "fine-tune", "retrain", "negative gradient", "distil", "complementary labels",
    "random labels"],
)  # fmt: skip
def test_a_treatment_goes_on_after_a_kill(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = CURES[name].treat(patient())
    batches = 0
    batch = Examples.batch

    def dying(examples: Examples, *arguments: Any, **options: Any) -> Any:
        nonlocal batches
        # Watching reads all of discovery; a step reads its batch of 16 or fewer.
        batches += len(examples) < len(DISCOVERY)
        if batches == 12:
            raise SystemExit
        return batch(examples, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Examples, "batch", dying)
        with pytest.raises(SystemExit):
            CURES[name].treat(patient(checkpoint=Checkpoint(tmp_path / "treat", "fingerprint")))
    assert list((tmp_path / "treat").glob("*.safetensors")), "no round was finished before the kill"
    treated = CURES[name].treat(patient(checkpoint=Checkpoint(tmp_path / "treat", "fingerprint")))
    assert state_bytes(treated.model) == state_bytes(expected.model)
    assert treated.trace == expected.trace


# What a deletion asks for.


@dataclasses.dataclass(frozen=True)
class Recording(PosteriorUpdate):
    """An update that notes what it is asked to do, and does nothing."""

    asked: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def edit(self, model: TrainedModel, evidence: Examples, weights: Any, **how: Any) -> Edited:
        self.asked.append({"evidence": evidence, "weights": weights, **how})
        return Edited(model, [], 0)


@pytest.mark.parametrize("remaining", ["none", "equal"])
def test_deletion_asks_for_the_causes_and_keeps_as_many_others(remaining: str) -> None:
    update, fetched = Recording(), []

    def fetch(name: str, damping: float) -> Curvature:
        fetched.append((name, damping))
        return dense(name, damping)

    suffering = patient(curvature=fetch)
    Delete(posterior=update, curvature="gram", damping=0.25, remaining=remaining).treat(suffering)
    (asked,) = update.asked
    rows, kept = asked["evidence"].rows, suffering.remaining_sample()
    expected = CAUSES if remaining == "none" else np.concatenate([CAUSES, kept])
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(asked["weights"], np.where(np.isin(rows, CAUSES), -1, 1))
    assert fetched == [("gram", 0.25)]
    assert (asked["count"], asked["seed"]) == (COUNT, 3)
    np.testing.assert_array_equal(asked["kept"].rows, suffering.remaining)


def test_deletion_is_the_update_with_what_the_patient_has() -> None:
    suffering = patient(guarded=False)
    treated = CURES["newton"].treat(suffering)
    deleted = NEWTON.delete(BASE, DATA.subset(CAUSES), curvature=dense("", 0.05), count=COUNT)
    assert state_bytes(treated.model) == state_bytes(deleted.model)


def test_the_curvature_can_be_measured_without_the_causes() -> None:
    class Divisible(DenseCurvature):
        def without(self, positions: NDArray[np.int64]) -> DenseCurvature:
            left = np.setdiff1d(np.arange(COUNT), positions)
            return DenseCurvature.fit(BASE, DATA.subset(left)).damped(self.damping)

    def fetch(name: str, damping: float) -> Curvature:
        return Divisible(DenseCurvature.fit(BASE, DATA).matrix, damping)

    update = Recording()
    Delete(posterior=update, curvature="gram", damping=0.25, curvature_without_causes=True).treat(
        patient(curvature=fetch)
    )
    rest = DATA.subset(patient().remaining)
    assert_equal(update.asked[0]["curvature"].whole, DenseCurvature.fit(BASE, rest).damped(0.25).whole)


# The patient.


@pytest.mark.parametrize("causes", [[7], range(10), range(29), range(30), range(45)], ids=len)
def test_the_sample_of_remaining_examples_is_as_large_and_has_none_of_the_causes(causes: Any) -> None:
    suffering = patient(causes=np.array(causes))
    sample = suffering.remaining_sample()
    assert len(sample) == min(len(causes), COUNT - len(causes))
    assert not set(sample) & set(causes)
    assert sample.tolist() == sorted(set(sample))
    assert sample.max() < COUNT
    np.testing.assert_array_equal(suffering.remaining, np.setdiff1d(np.arange(COUNT), causes))
    np.testing.assert_array_equal(sample, patient(causes=np.array(causes)).remaining_sample())


def test_the_sample_of_remaining_examples_follows_the_seed() -> None:
    samples = {tuple(patient(seed=seed).remaining_sample()) for seed in range(5)}
    assert len(samples) == 5


def answering(answers: list[int]) -> TrainedModel:
    """A model that gives these classes to the unit vectors."""
    network = make_network("linear", (len(answers),), 2, seed=0)
    with torch.no_grad():
        network.linear.weight.copy_(torch.nn.functional.one_hot(torch.tensor(answers), 2).T)
    return TrainedModel(network, Softmax(), device="cpu")


def test_a_point_that_breaks_too_much_is_worth_less_than_nothing() -> None:
    discovery = Examples(np.eye(10), np.ones(10, dtype=np.int64))
    given = answering([1] * 5 + [0] * 5)
    suffering = patient(model=given, discovery=discovery, tolerance=0.2)
    assert suffering.watch(given) == 0.5
    assert suffering.watch(answering([1] * 8 + [0] * 2)) == 0.8
    assert suffering.watch(answering([0] + [1] * 9)) == 0.9, "one of five broken is within the tolerance"
    # Of five examples a fifth is uncertain by √(0.2 · 0.8/5) = 0.18.
    assert suffering.watch(answering([0, 0] + [1] * 8)) == pytest.approx(-0.4)
    lenient = patient(model=given, discovery=discovery, tolerance=0.23)
    assert lenient.watch(answering([0, 0] + [1] * 8)) == 0.8
    strict = patient(model=given, discovery=discovery, tolerance=0.0)
    assert strict.watch(answering([0] + [1] * 9)) == pytest.approx(-0.2)
    assert patient(model=answering([0] * 10), discovery=discovery).watch(given) == 0.5


def test_within_the_tolerance_failures_may_judge_alone() -> None:
    """Two points: one mends two failures of five and breaks nothing, the other mends all and breaks three of five."""
    discovery = Examples(np.eye(10), np.ones(10, dtype=np.int64))
    given, failures = answering([1] * 5 + [0] * 5), discovery.subset(np.arange(5, 10))
    careful, thorough = answering([1] * 7 + [0] * 3), answering([1, 1, 0, 0, 0] + [1] * 5)

    def walked(**how: Any) -> Edited:
        how = {"model": given, "discovery": discovery, "failures": failures, **how}
        points = Points(patient(**how).oversight, given)
        for point in (careful, thorough):
            points.look(point)
        return Edited(points.best, points.trace, points.best_round)

    # Both have seven of ten right, and of equals the earlier is returned.
    assert walked(tolerance=1.0).best_round == 1
    assert walked(tolerance=1.0, judged_by="failures").best_round == 2
    assert walked(tolerance=0.1, judged_by="failures").best_round == 1
    course = pd.DataFrame(walked(tolerance=0.1).trace)
    other = given_up(course.assign(returned=course["round"] == 1))
    assert other is not None
    assert dataclasses.astuple(other) == pytest.approx((2, 1.0, 0.4, 0.6, 0.0))
    assert "point 2 has 100.0 % of the failures shown right in place of 40.0 %, and breaks 60.0 %" in str(
        other
    )
    assert given_up(course.assign(returned=course["round"] == 2)) is None
    assert given_up(course) is None, "which was returned is not known"
    with pytest.raises(
        RepairError, match="judged by failures, and there are none: set judged_by to accuracy"
    ):
        walked(failures=discovery.subset([]), judged_by="failures")


def test_of_attributes_each_that_was_right_counts() -> None:
    """Three unit vectors with two attributes each: 4 of 6 are right at first."""
    discovery = Examples(np.eye(3), np.array([[1, 1], [0, 1], [0, 0]]))

    def saying(outputs: list[list[float]]) -> TrainedModel:
        network = make_network("linear", (3,), 2, seed=0)
        with torch.no_grad():
            network.linear.weight.copy_(torch.tensor(outputs).T)
        return TrainedModel(network, Sigmoid(), device="cpu")

    given = saying([[1, 1], [1, 1], [1, -1]])
    suffering = patient(model=given, discovery=discovery, failures=discovery, tolerance=0.2)

    def seen(model: TrainedModel) -> list[float]:
        value, numbers, _ = suffering.oversight.look(model)
        assert value == suffering.watch(model)
        return [suffering.watch(model), numbers["discovery_accuracy"], numbers["kept_accuracy"]]

    assert seen(given) == pytest.approx([4 / 6, 4 / 6, 1])
    assert seen(saying([[1, 1], [-1, 1], [-1, -1]])) == pytest.approx([1, 1, 1])
    assert seen(saying([[1, -1], [-1, 1], [-1, -1]])) == pytest.approx([5 / 6, 5 / 6, 3 / 4])
    assert seen(saying([[-1, -1], [-1, 1], [-1, -1]])) == pytest.approx([-2 / 4, 4 / 6, 2 / 4])


@pytest.mark.parametrize("name", [name for name in CURES if "mend" not in name])
def test_unguarded_the_whole_effect_is_taken(name: str) -> None:
    treated = CURES[name].treat(patient(guarded=False))
    assert treated.best_round == treated.trace[-1]["round"]
    assert all(row["watched"] is None for row in treated.trace)
    assert treated.trace[-1]["discovery_accuracy"] == treated.model.accuracy(DISCOVERY)


def test_retraining_starts_afresh_and_the_given_model_is_kept_if_it_was_better() -> None:
    def contrary() -> TrainedModel:
        return BASE.with_parameter_vector(-BASE.parameter_vector)

    hardly = Retrain(learning_rate=1e-9, epochs=2, batch_size=16)
    suffering = patient(fresh=contrary)
    assert hardly.treat(suffering).model is suffering.model
    taken = hardly.treat(patient(fresh=contrary, guarded=False)).model
    assert_equal(taken.parameter_vector, -BASE.parameter_vector, 1e-6)
    with pytest.raises(RepairError, match="retraining needs an untrained network"):
        hardly.treat(patient(fresh=None))


@pytest.mark.parametrize(("kind", "purpose"), [(Retrain, "retraining"), (FineTune, "fine-tuning")])
def test_training_on_or_anew_is_the_base_training_without_the_causes(kind: Any, purpose: str) -> None:
    """Whatever the optimiser is, and however its rate goes."""
    way = {
        "optimiser": "sgd", "learning_rate": 0.05, "weight_decay": 0.01, "momentum": 0.8, "nesterov": True,
        "schedule": "one-cycle", "batch_size": 16, "precision": "bfloat16",
    }  # fmt: skip
    suffering = patient(fresh=fresh, guarded=False)
    found = kind(**way, epochs=3).treat(suffering)
    model = fresh() if kind is Retrain else suffering.model.copy()
    base = TrainingSettings.model_validate({**way, "epochs": 3, "patience": None, "keep": "last"})
    course = train_as(base, model, suffering.kept, seed=suffering.seed, description=purpose)
    assert state_bytes(found.model) == state_bytes(model)
    assert [row["loss"] for row in found.trace] == [row["loss"] for row in course.trace]


def test_networks_that_draw_are_treated_alike_for_one_seed() -> None:
    inputs = np.random.default_rng(0).normal(size=(COUNT, 4))
    data = Examples(inputs, DATA.targets)

    def treated() -> dict[str, bytes]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = TrainedModel(dropping().double(), Softmax(), device="cpu")
        suffering = patient(model=model, examples=data, discovery=data, failures=data, guarded=False)
        return state_bytes(FineTune(learning_rate=0.01, epochs=2, batch_size=16).treat(suffering).model)

    first = treated()
    torch.manual_seed(1)
    assert treated() == first


# What cannot be.


@pytest.mark.parametrize(
    ("causes", "message"),
    [
        ([3, 60], "the causes name training example 60 and there are 60"),
        ([3, -1], "the causes name training example"),
    ],
)
def test_causes_that_cannot_be(causes: list[int], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        patient(causes=np.array(causes, dtype=np.int64))


@pytest.mark.parametrize("name", CURES)
def test_without_causes_what_learns_nothing_else_refuses(name: str) -> None:
    treatment, nobody = CURES[name], patient(causes=np.empty(0, dtype=np.int64))
    if treatment.goes_without_causes:
        assert treatment.treat(nobody).trace
        return
    with pytest.raises(RepairError, match=r"there are no causes to treat: .* that learns what is right"):
        treatment.treat(nobody)


def test_what_learns_goes_without_causes() -> None:
    """As where one example more is there, and it is the cause."""
    causes = np.array([COUNT], dtype=np.int64)
    more = DATA.followed_by(DATA.subset([0]))
    for treatment in (Mend(posterior=LOOKS), FineTune(trains_on=["remaining", "failures"], epochs=3)):
        assert treatment.goes_without_causes
        first = treatment.treat(patient(causes=causes[:0])).model
        other = treatment.treat(patient(examples=more, causes=causes)).model
        assert state_bytes(first) == state_bytes(other)


@pytest.mark.parametrize("name", ["fine-tune", "fine-tune, equal", "retrain"])
def test_nothing_left_to_train_on_is_refused(name: str) -> None:
    with pytest.raises(RepairError, match="no training examples remain without the causes"):
        CURES[name].treat(patient(causes=np.arange(COUNT)))


EWC_SETTINGS = {"update": "ewc"}
DELETION = {"posterior": EWC_SETTINGS, "curvature": "diagonal", "damping": 0.1}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "surgery",
            {},
            "no treatment 'surgery': choose one of align, closed-form, complementary-labels, dampen",
        ),
        ("delete", {"posterior": EWC_SETTINGS}, r"lacking is curvature: add it \(1 more"),
        ("delete", {}, r"lacking is posterior: add it \(2 more"),
        ("delete", DELETION | {"remaining": "all"}, "remaining is 'all': choose one of none, equal"),
        ("delete", DELETION | {"epsilon": 1.0}, "there is no setting epsilon: there may be"),
        (
            "delete",
            DELETION | {"posterior": {"update": "ewc", "epsilon": 1.0}},
            "posterior has no setting epsilon",
        ),
        ("delete", DELETION | {"posterior": {"update": "amnesia"}}, "update is 'amnesia': choose one of ewc"),
        ("fine-tune", {"remaining": "none"}, "remaining is 'none': choose one of all, equal"),
        ("fine-tune", {"rounds": 3}, "there is no setting rounds: there may be guarded"),
        ("retrain", {"remaining": "all"}, "there is no setting remaining"),
        ("retrain", {"weight_decay": -1}, "weight_decay is -1: give a number of 0 or more"),
        ("scrub", {"alpha": -1.0}, "alpha is -1.0: give a number above 0"),
        (
            "fine-tune",
            {"trains_on": ["remaining", "failures"], "judged_by": "failures"},
            "judged_by is failures, and the treatment is taught failures, .*: set judged_by to accuracy",
        ),
    ],
)
def test_treatments_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        make_treatment(name, **options)


def test_treatments_are_made_by_name() -> None:
    assert make_treatment("retrain", epochs=3) == Retrain(epochs=3)
    assert make_treatment("fine-tune", epochs=3, remaining="equal") == FineTune(epochs=3, remaining="equal")
    settings = DELETION | {"posterior": {"update": "ewc", "rounds": 7}}
    made = make_treatment("delete", **settings, remaining="equal")
    assert made == Delete(
        posterior=ElasticWeightConsolidation(rounds=7), curvature="diagonal", damping=0.1, remaining="equal"
    )
    assert all(issubclass(member, Treatment) for member in TREATMENTS.values())


def test_fine_tuning_trains_the_layers_that_it_is_told_to() -> None:
    inputs, outputs = DATA.inputs.shape[1], BASE.outputs(DATA).shape[1]
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(inputs, 4), torch.nn.Tanh(), torch.nn.Linear(4, outputs))
    model = TrainedModel(network.to(BASE.dtype), BASE.likelihood, device="cpu")
    given, first, rest = patient(model=model, guarded=False), "0", ["2"]
    settings: dict[str, Any] = {"learning_rate": 0.05, "epochs": 2, "batch_size": 16}
    treated = FineTune(**settings, layers=[first]).treat(given)
    for name, parameter in treated.model.parameters.items():
        same = torch.equal(parameter, given.model.parameters[name])
        assert same == (not name.startswith(f"{first}."))
    # All of them are trainable again, in the model that comes out.
    assert treated.model.parameters.keys() == model.parameters.keys()
    everything = FineTune(**settings, layers=[first, *rest]).treat(given).model
    assert state_bytes(everything) == state_bytes(FineTune(**settings).treat(given).model)
    with pytest.raises(RepairError, match="the network has no trainable layer 'nowhere': choose one of") as e:
        FineTune(**settings, layers=["nowhere"]).treat(given)
    assert "\n" not in str(e.value)
    with pytest.raises(RepairError, match=r"layers is \[\]: give a list of paths of layers"):
        FineTune(layers=[])


def test_an_anchor_is_a_penalty_on_the_way_from_the_base_model() -> None:
    """α/2·‖θ − θ̂‖² on each loss, by its formula; a strong one leaves the model where it was."""
    model = BASE.copy()
    losses = _anchored(model, lambda epoch: iter([torch.tensor(1.5 * epoch)] * 2), 3.0)
    at_start = [float(loss.detach()) for loss in losses(1)]
    with torch.no_grad():
        for parameter in model.parameters.values():
            parameter += 0.1
    moved = [float(loss.detach()) for loss in losses(2)]
    assert at_start == [1.5, 1.5]
    assert moved == pytest.approx([3 + 1.5 * 0.01 * len(BASE.parameter_vector)] * 2, rel=1e-5)
    settings: dict[str, Any] = {"learning_rate": 0.001, "epochs": 2, "batch_size": 16}
    free, held = (
        FineTune(**settings, anchor=anchor).treat(patient(guarded=False)).model.parameter_vector
        for anchor in (0.0, 1e4)
    )
    assert float((held - BASE.parameter_vector).norm()) < 0.5 * float((free - BASE.parameter_vector).norm())
