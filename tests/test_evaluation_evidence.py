"""Evidence: gathered from models as they answer, one value for each example, and what is not there is None."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from evidence_cases import CASES, CLASSES, COURSE, MULTIPLE, answers
from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.gathering import gather
from modelrepair.evaluation.measures import MEASURES, measure_all
from modelrepair.evaluation.measures.erasure import relative_parameter_distance
from modelrepair.evaluation.pictures import draw_all
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network


def model(attributes: bool, seed: int) -> TrainedModel:
    network = make_network("linear", (4,), 3, seed=seed)
    return TrainedModel(network, Sigmoid() if attributes else Softmax(), batch_size=7, device="cpu")


def examples(attributes: bool, count: int, seed: int) -> Examples:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(count, 4)).astype(np.float32)
    if attributes:
        return Examples(inputs, generator.integers(0, 2, (count, 3)).astype(np.float32))
    return Examples(inputs, generator.integers(0, 3, count))


def gathered(attributes: bool, **changes: Any) -> Evidence:
    settings: dict[str, Any] = {
        "base": model(attributes, 0),
        "repaired": model(attributes, 1),
        "training": examples(attributes, 30, 0),
        "tests": examples(attributes, 20, 1),
        "class_names": ["a", "b", "c"],
        "causes": [3, 1],
        "roles": np.full(20, ""),
        "parts": np.repeat(["discovery", "assessment"], 10),
        "course": COURSE,
    }
    return gather(**{**settings, **changes})


@pytest.mark.parametrize("attributes", [False, True])
def test_answers_are_those_of_the_models(attributes: bool) -> None:
    evidence = gathered(attributes)
    assert evidence.has_attributes == attributes
    training, tests = examples(attributes, 30, 0), examples(attributes, 20, 1)
    for seed, found in ((0, evidence.before), (1, evidence.after)):
        asked = model(attributes, seed)
        likelihoods = asked.log_likelihoods(training).double().numpy()
        np.testing.assert_array_equal(found.training_log_likelihoods, likelihoods)
        np.testing.assert_allclose(found.training_correct, asked.correct(training).numpy(), rtol=1e-7)
        np.testing.assert_array_equal(
            found.test_log_likelihoods, asked.log_likelihoods(tests).double().numpy()
        )
        predictions = asked.likelihood.predictions(asked.outputs(tests)).numpy()
        np.testing.assert_array_equal(found.test_predictions, predictions)
    assert evidence.assessed.tolist() == [*range(10, 20)]
    np.testing.assert_array_equal(evidence.training_inputs[5], training.inputs[5])
    assert evidence.training_inputs.ndim == 2


@pytest.mark.parametrize("attributes", [False, True])
def test_the_reference_answers_and_beside_a_retrained_one_all_give_probabilities(attributes: bool) -> None:
    reference = model(attributes, 2)
    other = gathered(attributes, reference=reference, reference_in_words="so and so")
    assert other.reference is not None
    assert (other.reference_in_words, other.reference_retrained) == ("so and so", False)
    assert other.before.training_probabilities is None
    tests = examples(attributes, 20, 1)
    np.testing.assert_array_equal(
        other.reference.test_log_likelihoods, reference.log_likelihoods(tests).double().numpy()
    )
    retrained = gathered(attributes, reference=reference, reference_retrained=True)
    assert other.parameter_distance is None
    base, repaired, again = (model(attributes, seed).parameter_vector.numpy() for seed in range(3))
    distance = relative_parameter_distance(repaired, base, again)
    assert retrained.parameter_distance == pytest.approx(distance)
    for seed, found in ((0, retrained.before), (1, retrained.after), (2, retrained.reference)):
        asked = model(attributes, seed)
        for examined, probabilities in (
            (examples(attributes, 30, 0), found.training_probabilities),
            (tests, found.test_probabilities),
        ):
            expected = asked.likelihood.probabilities(asked.outputs(examined)).numpy()
            np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    assert not gathered(attributes, reference_retrained=True).reference_retrained, "there is none"


def test_each_model_runs_once_over_each_example() -> None:
    seen = []

    class Counting(torch.nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(len(inputs))
            return super().forward(inputs)

    counted = TrainedModel(Counting(4, 3), Softmax(), device="cpu")
    counted.outputs(examples(False, 30, 0))  # a model tries its network out when it first runs
    seen.clear()
    gathered(False, base=counted)
    assert sum(seen) == 30 + 20


def test_inputs_are_read_when_they_are_shown() -> None:
    class Watched(np.ndarray[Any, Any]):
        rows: list[int]

        def __getitem__(self, chosen: Any) -> Any:
            self.rows += np.asarray(chosen).tolist()
            return np.asarray(self)[chosen]

    inputs = np.zeros((30, 4), dtype=np.float32).view(Watched)
    inputs.rows = []
    evidence = gathered(False, training=Examples(inputs, np.zeros(30, dtype=np.int64)))
    inputs.rows.clear()
    assert evidence.training_inputs[np.intp(7)].shape == (4,)
    assert inputs.rows == [7]


def test_what_is_not_known_is_none() -> None:
    marks = np.arange(30) < 4
    bare = gathered(False)
    assert (bare.scores, bare.true_labels, bare.is_corrupted) == (None, None, None)
    true = np.zeros(30, dtype=np.int64)
    clean = gathered(False, true_labels=true, is_corrupted=np.zeros(30, dtype=bool), scores=np.ones(30))
    assert (clean.true_labels, clean.is_corrupted) == (None, None), (
        "nothing is corrupted, so nothing is to be found"
    )
    assert clean.scores is not None
    known = gathered(False, true_labels=true, is_corrupted=marks)
    np.testing.assert_array_equal(known.is_corrupted, marks)
    np.testing.assert_array_equal(known.true_labels, true)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros(39)}, "39 scores for 40 training examples"),
        ({"is_corrupted": np.zeros(41, dtype=bool)}, "41 marks of corruption for 40 training examples"),
        ({"roles": np.full(3, "")}, "3 roles for 40 test examples"),
        ({"before": answers(np.zeros(7))}, "7 log-likelihoods before for 40 test examples"),
        ({"reference": answers(np.zeros(7))}, "7 log-likelihoods of the reference for 40 test examples"),
        (
            {"after": replace(CLASSES.after, training_correct=np.ones(2))},
            "2 marks of what is right after for 40 training",
        ),
    ],
)
def test_there_is_one_value_for_each_example(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        replace(CLASSES, **changes)


RANKING = {"auroc", "average_precision", "precision_at_causes", "auroc_of_plain_loss"}


@pytest.mark.parametrize("case", CASES)
def test_what_is_measured_follows_from_what_is_there(case: str) -> None:
    measured = measure_all(CASES[case])
    # None of these corruptions is about test examples of its own, no model stands beside, no facts are stated, and no
    # failures are divided.
    absent = ("clusters", "correction", "facts", "knowledge", "reference")
    assert list(measured) == [name for name in MEASURES if name not in absent]
    found = set(measured["identification"])
    if "known" not in case:
        assert found == {"selected"}
    elif "request" in case:
        assert found == {"causes", "selected", "selected_precision", "selected_recall"}
    else:
        assert found > {"causes", "selected", "selected_precision", "selected_recall", *RANKING}
    assert measured["identification"]["selected"] == measured["erasure"]["examples"] == 6


def test_a_measurement_without_evidence_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MEASURES, "further", lambda evidence: None)
    assert "further" not in measure_all(CLASSES)
    monkeypatch.setitem(MEASURES, "further", lambda evidence: {"value": 1})
    assert measure_all(CLASSES)["further"] == {"value": 1}


@pytest.mark.parametrize("attributes", [False, True])
def test_from_models_to_pictures(attributes: bool, tmp_path: Any) -> None:
    evidence = gathered(attributes, scores=np.arange(30.0))
    measured = measure_all(evidence)
    assert 0 <= measured["repair"]["after"]["all"] <= 1
    draw_all(tmp_path, evidence)
    assert ("attributes.png" if attributes else "confusion.png") in {path.name for path in tmp_path.iterdir()}


def test_accuracy_over_attributes_is_that_of_the_model() -> None:
    evidence = gathered(True, parts=np.full(20, "assessment"))
    measured = measure_all(evidence)
    tests = examples(True, 20, 1)
    for seed, when in ((0, "before"), (1, "after")):
        assert measured["repair"][when]["all"] == pytest.approx(model(True, seed).accuracy(tests))
    erased = examples(True, 30, 0).subset([3, 1])
    assert measured["erasure"]["before"]["erased"] == pytest.approx(model(True, 0).accuracy(erased))


def test_no_course_is_a_course() -> None:
    assert replace(MULTIPLE, course=pd.DataFrame({"round": [0]})).course.shape == (1, 1)
