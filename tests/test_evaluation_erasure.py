"""Measures of erasure: values by hand, known limits and oracles of SciPy and scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy
from sklearn.metrics import roc_auc_score

from evidence_cases import CLASSES, COUNT, GIVEN, MULTIPLE, TRUE
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.erasure import (
    MODELS,
    SPLITS,
    alike,
    attribute_aucs,
    confusion_distance,
    erasure_metrics,
    forgetting,
    mean_divergence,
    measure,
    membership_auc,
    normalised_confusion_distance,
    performance_similarity,
    relative_parameter_distance,
    similarity_ratio,
    tug_of_war,
)
from modelrepair.evaluation.measures.repair import confusion_matrix
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel

LABELS = np.array([0, 0, 0, 1])
ORIGINAL = np.array([0, 0, 0, 1])
UPDATED = np.array([0, 1, 1, 1])
RETRAINED = np.array([1, 1, 1, 1])


def test_confusion_distance_by_hand():
    assert confusion_distance(ORIGINAL, RETRAINED, LABELS, 2) == 6
    assert confusion_distance(UPDATED, RETRAINED, LABELS, 2) == 2
    assert confusion_distance(UPDATED, ORIGINAL, LABELS, 2) == 4


def test_confusion_distance_sees_counts_not_single_predictions():
    assert confusion_distance([0, 1], [1, 0], [0, 0], 2) == 0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_confusion_distance_is_that_of_the_whole_matrices(seed, classes):
    labels, first, second = np.random.default_rng(seed).integers(0, classes, (3, 30))
    difference = confusion_matrix(labels, first, classes) - confusion_matrix(labels, second, classes)
    assert confusion_distance(first, second, labels, classes) == np.abs(difference).sum()


def test_confusion_distance_of_a_hundred_thousand_classes():
    assert confusion_distance([0, 99_999], [99_999, 99_999], [0, 99_999], 100_000) == 2
    assert confusion_distance([], [], [], 100_000) == 0


def test_normalised_confusion_distance():
    def distance(updated):
        return normalised_confusion_distance(updated, ORIGINAL, RETRAINED, LABELS, 2)

    assert distance(UPDATED) == 2 / 6
    assert distance(RETRAINED) == 0.0
    assert distance(ORIGINAL) == 1.0
    assert normalised_confusion_distance(ORIGINAL, ORIGINAL, ORIGINAL, LABELS, 2) == 0.5


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_confusion_distance_is_a_distance(seed):
    labels, first, second, third = np.random.default_rng(seed).integers(0, 3, (4, 12))
    to_second = confusion_distance(first, second, labels, 3)
    assert to_second == confusion_distance(second, first, labels, 3)
    assert to_second % 2 == 0
    assert 0 <= to_second <= 24
    assert to_second <= confusion_distance(first, third, labels, 3) + confusion_distance(
        third, second, labels, 3
    )


def test_attribute_aucs_are_zero_where_undefined():
    labels = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]])
    scores = np.array([[0.9, 0.1, 0.5], [0.2, 0.2, 0.5], [0.1, 0.3, 0.5]])
    assert attribute_aucs(scores, labels).tolist() == [0.5, 0.0, 0.0]


def test_attribute_aucs_agree_with_scikit_learn():
    generator = np.random.default_rng(0)
    scores, labels = generator.random((60, 4)).round(1), generator.integers(0, 2, (60, 4))
    expected = [roc_auc_score(labels[:, column], scores[:, column]) for column in range(4)]
    np.testing.assert_allclose(attribute_aucs(scores, labels), expected)


def test_performance_similarity_and_ratio_by_hand():
    labels = np.array([[1, 1], [0, 0]])
    right, wrong, tied = np.array([[2, 2], [1, 1]]), np.array([[1, 1], [2, 2]]), np.array([[1, 2], [1, 1]])
    assert performance_similarity(right, wrong, labels) == 2.0
    assert performance_similarity(tied, right, labels) == 0.5
    assert similarity_ratio(tied, right, wrong, labels) == 0.5 / 2.0
    assert similarity_ratio(wrong, right, wrong, labels) == 1.0
    assert similarity_ratio(right, right, wrong, labels) == 0.0
    assert similarity_ratio(right, right, right, labels) == 0.5


def test_relative_parameter_distance():
    original, retrained = np.zeros(2), np.array([3.0, 4.0])
    assert relative_parameter_distance(original, original, retrained) == 1.0
    assert relative_parameter_distance(retrained, original, retrained) == 0.0
    assert relative_parameter_distance(retrained / 5, original, retrained) == pytest.approx(0.8)
    assert relative_parameter_distance(original, original, original) == 0.5
    with pytest.raises(RepairError, match="one architecture"):
        relative_parameter_distance(original, original, np.zeros(3))


def test_tug_of_war():
    retrained = {"erased": 0.5, "retained": 0.9, "test": None}
    assert tug_of_war({"erased": 0.6, "retained": 0.7, "test": 0.1}, retrained) == pytest.approx(0.9 * 0.8)
    assert tug_of_war(retrained, retrained) == 1.0
    assert tug_of_war({"erased": None}, retrained) is None


def test_divergence_agrees_with_scipy_and_survives_zeros():
    generator = np.random.default_rng(0)
    retrained, updated = generator.dirichlet(np.ones(4), (2, 30))
    expected = entropy(retrained, updated, axis=1).mean()
    assert mean_divergence(retrained, updated) == pytest.approx(expected, abs=1e-12)
    assert mean_divergence(retrained, retrained) == 0.0
    assert mean_divergence([[1.0, 0.0]], [[0.0, 1.0]]) == pytest.approx(12 * np.log(10))
    assert mean_divergence([[1.0, 0.0]], [[0.5, 0.5]]) == pytest.approx(np.log(2))
    assert mean_divergence(np.empty((0, 3)), np.empty((0, 3))) is None


def test_divergence_of_attributes_adds_up():
    expected = entropy([0.2, 0.8], [0.5, 0.5]) + entropy([0.9, 0.1], [0.6, 0.4])
    assert mean_divergence([[0.2, 0.9]], [[0.5, 0.6]], attributes=True) == pytest.approx(expected)


def test_membership_by_hand():
    assert membership_auc([0.9, 0.8], [0.1, 0.2]) == 1.0
    assert membership_auc([0.5, 0.5], [0.5]) == 0.5
    assert membership_auc([0.3, 0.1], [0.2]) == 0.5
    assert membership_auc([], [0.2]) is None
    assert membership_auc([0.2], []) is None


def test_membership_is_chance_for_a_model_that_never_saw_the_data():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Linear(5, 3).double()
    model = TrainedModel(network, Softmax(), device="cpu")
    draw = np.random.default_rng(1)
    erased, unseen = (
        model.log_likelihoods(Examples(draw.normal(size=(400, 5)), draw.integers(0, 3, 400))).numpy()
        for _ in range(2)
    )
    error = np.sqrt(801 / (12 * 400 * 400))  # of the Mann-Whitney statistic (Hanley & McNeil 1982)
    assert abs(membership_auc(erased, unseen) - 0.5) < 3 * error


def random_case(attributes=False, like_the_erased=6):
    generator = np.random.default_rng(0)
    sizes = dict(zip(SPLITS, (20, 8, 12, like_the_erased), strict=True))
    if attributes:
        labels = {split: generator.integers(0, 2, (size, 3)) for split, size in sizes.items()}
        draw = generator.random
    else:
        labels = {split: generator.integers(0, 3, size) for split, size in sizes.items()}

        def draw(shape):
            return generator.dirichlet(np.ones(shape[1]), shape[0])

    probabilities = {model: {split: draw((size, 3)) for split, size in sizes.items()} for model in MODELS}
    return probabilities, labels


@pytest.mark.parametrize("attributes", [False, True])
def test_a_retrained_model_is_perfectly_erased(attributes):
    probabilities, labels = random_case(attributes)
    probabilities["updated"] = probabilities["retrained"]
    metrics = erasure_metrics(probabilities, labels)
    assert set(metrics["gap"]) == {*SPLITS, "test"}
    assert set(metrics["gap"].values()) == {0.0}
    similarity = metrics["similarity"]
    assert similarity["tug_of_war"] == 1.0
    assert all(similarity[f"divergence_{split}"] == 0.0 for split in SPLITS)
    assert metrics["membership_updated"] == metrics["membership_retrained"]
    if attributes:
        assert similarity["similarity_ratio"] == 1.0
        assert similarity["performance_similarity"] == 0.0
    else:
        assert similarity["normalised_confusion_distance"] == 0.0
        assert similarity["confusion_distance"] == 0


def test_bundle_equals_its_parts():
    probabilities, labels = random_case()
    parameters = {"original": [0.0, 0.0], "updated": [1.0, 0.0], "retrained": [4.0, 0.0]}
    metrics = erasure_metrics(probabilities, labels, parameters)
    predictions = {model: probabilities[model]["erased_train"].argmax(1) for model in MODELS}
    truth = labels["erased_train"]
    assert metrics["similarity"]["normalised_confusion_distance"] == normalised_confusion_distance(
        predictions["updated"], predictions["original"], predictions["retrained"], truth, 3
    )
    assert metrics["similarity"]["relative_parameter_distance"] == pytest.approx(0.75)
    assert metrics["accuracy_updated"]["erased_train"] == (predictions["updated"] == truth).mean()
    accuracy = metrics["accuracy_updated"]
    assert accuracy["test"] == pytest.approx(
        (12 * accuracy["retained_test"] + 6 * accuracy["erased_test"]) / 18
    )
    updated, retrained = metrics["accuracy_updated"], metrics["accuracy_retrained"]
    gaps = [updated[name] - retrained[name] for name in ("erased_train", "retained_train", "test")]
    assert metrics["similarity"]["tug_of_war"] == pytest.approx(np.prod(1 - np.abs(gaps)))
    confidence = [
        probabilities["updated"][split][np.arange(len(labels[split])), labels[split]]
        for split in ("erased_train", "erased_test")
    ]
    assert metrics["membership_updated"] == {
        "confidence": membership_auc(*confidence),
        "loss": membership_auc(*confidence),
    }


def test_without_a_class_of_its_own_the_whole_test_set_is_the_unseen_one():
    probabilities, labels = random_case(like_the_erased=0)
    metrics = erasure_metrics(probabilities, labels)
    assert metrics["gap"]["erased_test"] is None
    assert metrics["similarity"]["divergence_erased_test"] is None
    assert metrics["accuracy_updated"]["test"] == metrics["accuracy_updated"]["retained_test"]
    confidence = [
        probabilities["updated"][split][np.arange(len(labels[split])), labels[split]]
        for split in ("erased_train", "retained_test")
    ]
    assert metrics["membership_updated"]["confidence"] == membership_auc(*confidence)


def test_losses_tell_members_whose_confidence_rounds_to_one():
    _, labels = random_case()
    sure = {split: np.eye(3)[labels[split]] for split in SPLITS}
    losses = {split: np.full(len(labels[split]), 1e-9) for split in SPLITS}
    losses["erased_train"] = losses["erased_train"] / 10
    metrics = erasure_metrics(dict.fromkeys(MODELS, sure), labels, losses=dict.fromkeys(MODELS, losses))
    assert metrics["membership_original"] == {"confidence": 0.5, "loss": 1.0}
    assert metrics["similarity"]["normalised_confusion_distance"] == 0.5


def test_what_is_missing_or_misshapen_is_named():
    probabilities, labels = random_case()
    with pytest.raises(RepairError, match="retrained"):
        erasure_metrics({name: probabilities[name] for name in ("original", "updated")}, labels)
    misshapen = {**probabilities, "updated": {**probabilities["updated"], "retained_test": np.ones((3, 3))}}
    with pytest.raises(RepairError, match="the updated model's probabilities on retained_test"):
        erasure_metrics(misshapen, labels)
    none = {model: {**probabilities[model], "erased_train": np.empty((0, 3))} for model in MODELS}
    with pytest.raises(RepairError, match="erased training examples is empty"):
        erasure_metrics(none, {**labels, "erased_train": np.empty(0, dtype=int)})


def test_forgetting_by_hand():
    known = forgetting([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 1.0], [-0.1, -0.2, -3.0, -4.0], [-1.0, -2.0])
    assert known == {"erased": 0.5, "kept": 0.75, "membership_auc": 0.5}
    # Every erased example is less likely than every unseen one.
    assert forgetting([0.0], [1.0], [-9.0], [-1.0, -2.0])["membership_auc"] == 0.0


def test_forgetting_without_examples():
    assert forgetting([1.0], [], [-0.1], []) == {"erased": 1.0, "kept": None, "membership_auc": None}


def test_unseen_examples_alike_are_of_the_same_classes():
    parts = np.where(np.arange(COUNT) < 20, "discovery", "assessment")
    erased = np.flatnonzero((GIVEN == 3) | (GIVEN == 5))
    found = alike(replace(CLASSES, causes=erased, parts=parts))
    assert found.tolist() == [row for row in range(20, COUNT) if TRUE[row] in (3, 5)]


def test_unseen_examples_alike_have_the_attributes_that_all_the_erased_share():
    given = np.zeros((COUNT, 3))
    given[:4] = [[1, 1, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]
    tests = np.zeros((COUNT, 3))
    tests[:3] = [[1, 1, 0], [1, 0, 1], [0, 1, 1]]
    evidence = replace(MULTIPLE, given_labels=given, test_labels=tests)
    assert alike(replace(evidence, causes=np.array([0, 1]))).tolist() == [0]
    assert alike(replace(evidence, causes=np.array([0, 1, 2]))).tolist() == [0, 2]
    assert alike(replace(evidence, causes=np.array([0, 3]))).tolist() == [*range(COUNT)], "they share none"


@pytest.mark.parametrize("evidence", [CLASSES, MULTIPLE], ids=["classes", "attributes"])
def test_the_evidence_is_measured_before_and_after(evidence):
    measured = measure(evidence)
    kept = np.setdiff1d(np.arange(COUNT), evidence.causes)
    assert list(measured) == ["examples", "before", "after"]
    assert measured["examples"] == len(evidence.causes)
    for when, answers in (("before", evidence.before), ("after", evidence.after)):
        assert measured[when] == forgetting(
            answers.training_correct[evidence.causes],
            answers.training_correct[kept],
            answers.training_log_likelihoods[evidence.causes],
            answers.test_log_likelihoods[alike(evidence)],
        )


def with_probabilities(found, seed, attributes):
    """The same answers with some probabilities."""
    draw = np.random.default_rng(seed)
    sides = [draw.dirichlet(np.ones(10), COUNT) for _ in range(2)]
    if attributes:
        sides = [draw.random((COUNT, 3)) for _ in range(2)]
    return replace(found, training_probabilities=sides[0], test_probabilities=sides[1])


def beside(evidence, **changes):
    """The evidence with a retrained model as its reference."""
    before, after, retrained = (
        with_probabilities(found, seed, evidence.has_attributes)
        for seed, found in enumerate((evidence.before, evidence.after, evidence.after))
    )
    return replace(
        evidence,
        before=before,
        after=after,
        reference=retrained,
        reference_in_words="retrain",
        **{"reference_retrained": True, **changes},
    )


@pytest.mark.parametrize("evidence", [CLASSES, MULTIPLE], ids=["classes", "attributes"])
def test_beside_a_retrained_model_every_measure_is_there(evidence):
    """Of examples put into the four splits one by one."""
    parts = np.where(np.arange(COUNT) % 3 == 0, "discovery", "assessment")
    evidence = beside(replace(evidence, causes=np.array([4, 14, 24]), parts=parts))
    like = set(alike(evidence).tolist())
    rows = {"retained_train": [], "erased_train": [], "retained_test": [], "erased_test": []}
    for row in range(COUNT):
        rows["erased_train" if row in (4, 14, 24) else "retained_train"].append(row)
        if parts[row] == "assessment":
            rows["erased_test" if row in like else "retained_test"].append(row)
    models = {"original": evidence.before, "updated": evidence.after, "retrained": evidence.reference}

    def split(training, test):
        return {name: (training if "train" in name else test)[of] for name, of in rows.items()}

    expected = erasure_metrics(
        {name: split(of.training_probabilities, of.test_probabilities) for name, of in models.items()},
        split(evidence.given_labels, evidence.test_labels),
        losses={
            name: split(-of.training_log_likelihoods, -of.test_log_likelihoods) for name, of in models.items()
        },
    )
    measured = measure(evidence)
    assert measured["beside_retrained"] == {
        name: expected[name] for name in ("gap", "similarity", "membership_updated", "membership_retrained")
    }
    expected["similarity"]["relative_parameter_distance"] = 0.25
    similarity = measure(replace(evidence, parameter_distance=0.25))["beside_retrained"]["similarity"]
    assert similarity == expected["similarity"]
    assert measured["beside_retrained"]["similarity"]["divergence_erased_train"] > 0
    assert measured["reference"]["erased"] == pytest.approx(
        evidence.reference.training_correct[[4, 14, 24]].mean()
    )


def test_a_retrained_model_is_as_close_to_itself_as_can_be():
    evidence = beside(CLASSES)
    found = measure(replace(evidence, after=evidence.reference))["beside_retrained"]
    assert {value for value in found["gap"].values() if value is not None} == {0.0}
    assert found["similarity"]["confusion_distance"] == 0
    assert found["similarity"]["normalised_confusion_distance"] == 0
    assert found["similarity"]["tug_of_war"] == 1
    assert found["similarity"]["divergence_retained_train"] == 0


def test_any_other_reference_is_no_retrained_model():
    found = measure(beside(CLASSES, reference_retrained=False))
    assert list(found) == ["examples", "before", "after", "reference"]


def test_nothing_erased_beside_a_retrained_model():
    assert "beside_retrained" not in measure(beside(replace(CLASSES, causes=np.empty(0, dtype=np.int64))))


def test_nothing_erased():
    measured = measure(replace(CLASSES, causes=np.empty(0, dtype=np.int64)))
    assert measured["examples"] == 0
    assert (measured["before"]["erased"], measured["before"]["membership_auc"]) == (None, None)
