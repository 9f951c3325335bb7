"""Accuracy before and after a repair, by hand and by scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import confusion_matrix as confusion_oracle

from evidence_cases import CLASSES, HAVE, HAVE_AFTER, HAVE_BEFORE, MULTIPLE
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures import reference
from modelrepair.evaluation.measures.repair import (
    attribute_recalls,
    confusion_matrix,
    is_right,
    measure,
    per_class_table,
    repair_metrics,
)

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 0, 1])
BASE = np.array([0, 0, 1, 1, 2, 0, 2, 1, 1])
REPAIRED = np.array([0, 1, 0, 1, 1, 0, 2, 0, 0])
PART = np.array(["assessment"] * 7 + ["discovery"] * 2)
ROLE = np.array(
    ["remaining", "remaining", "holdout", "remaining", "holdout", "holdout", "remaining", "query", ""]
)


def test_values_by_hand():
    metrics = repair_metrics(BASE, REPAIRED, LABELS, ROLE, PART, noisy_classes=[1], n_classes=3)
    assert metrics["before"] == {
        "all": pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3),
        "clean_classes": pytest.approx((2 / 3 + 1 / 2) / 2),
        "noisy_classes": 0.5,
        "worst_class": 0.5,
        "query": 0.0,
        "holdout": 0.0,
        "remaining": 1.0,
    }
    assert metrics["after"] == {
        "all": pytest.approx((2 / 3 + 1 + 1 / 2) / 3),
        "clean_classes": pytest.approx((2 / 3 + 1 / 2) / 2),
        "noisy_classes": 1.0,
        "worst_class": 0.5,
        "query": 1.0,
        "holdout": pytest.approx(2 / 3),
        "remaining": pytest.approx(3 / 4),
    }
    assert metrics["change"]["holdout"] == pytest.approx(2 / 3)
    assert metrics["change"]["remaining"] == pytest.approx(-1 / 4)
    assert (metrics["fixed"], metrics["broken"]) == (2, 1)


def test_all_is_scikit_learns_balanced_accuracy():
    generator = np.random.default_rng(0)
    labels, base, repaired = generator.integers(0, 5, (3, 400))
    part = np.full(400, "assessment")
    metrics = repair_metrics(base, repaired, labels, np.full(400, ""), part, [1, 2], 5)
    assert metrics["before"]["all"] == pytest.approx(balanced_accuracy_score(labels, base))
    assert metrics["after"]["all"] == pytest.approx(balanced_accuracy_score(labels, repaired))
    after = metrics["after"]
    assert after["all"] == pytest.approx((3 * after["clean_classes"] + 2 * after["noisy_classes"]) / 5)


def test_groups_without_examples_are_none():
    metrics = repair_metrics([0], [1], [0], [""], ["assessment"], noisy_classes=[], n_classes=3)
    assert metrics["before"]["all"] == 1.0
    for name in ("noisy_classes", "query", "holdout", "remaining"):
        assert metrics["before"][name] is None
        assert metrics["change"][name] is None
    none = repair_metrics([], [], [], [], [], [0], 3)
    assert set(none["after"].values()) == {None}
    assert (none["fixed"], none["broken"]) == (0, 0)


def test_roles_count_in_any_part_but_classes_only_on_assessment():
    part = np.array(["discovery", "assessment", "reserved"])
    role = np.array(["holdout", "holdout", "holdout"])
    metrics = repair_metrics([1, 1, 1], [0, 0, 1], [0, 0, 0], role, part, [], 2)
    assert metrics["after"]["holdout"] == pytest.approx(2 / 3)
    assert metrics["after"]["all"] == 1.0
    assert metrics["fixed"] == 1


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_order_does_not_matter_and_counts_explain_the_change(seed):
    generator = np.random.default_rng(seed)
    labels, base, repaired = generator.integers(0, 4, (3, 40))
    role = generator.choice(["query", "holdout", "remaining", ""], 40)
    part = generator.choice(["reserved", "discovery", "assessment"], 40)
    order = generator.permutation(40)
    metrics = repair_metrics(base, repaired, labels, role, part, [1], 4)
    assert metrics == repair_metrics(
        base[order], repaired[order], labels[order], role[order], part[order], [1], 4
    )
    on_assessment = part == "assessment"
    gain = (repaired == labels)[on_assessment].sum() - (base == labels)[on_assessment].sum()
    assert metrics["fixed"] - metrics["broken"] == gain


def test_per_class_table_by_hand():
    table = per_class_table(BASE[:7], REPAIRED[:7], LABELS[:7], [1], ["zero", "one", "two", "three"])
    assert table["class"].tolist() == ["zero", "one", "two", "three"]
    assert table["noisy"].tolist() == [False, True, False, False]
    assert table["examples"].tolist() == [3, 2, 2, 0]
    assert table["fixed"].tolist() == [1, 1, 0, 0]
    assert table["broken"].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(table["before"], [2 / 3, 1 / 2, 1 / 2, np.nan])
    np.testing.assert_allclose(table["change"], [0, 1 / 2, 0, np.nan])


def test_confusion_matrix_has_true_rows_and_predicted_columns():
    assert confusion_matrix([0, 0, 1], [1, 0, 1], 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 6, (2, 300))
    oracle = confusion_oracle(labels, predictions, labels=range(6))
    np.testing.assert_array_equal(confusion_matrix(labels, predictions, 6), oracle)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([0, 1], [0, 3], "from 0 to 3.*between 0 and 2"),
        ([-1, 1], [0, 1], "from -1 to 1"),
        ([0, 1], [0], r"\(2,\), \(1,\)"),
        ([0.0, 1.0], [0, 1], "whole numbers"),
    ],
)
def test_class_numbers_are_checked(labels, predictions, message):
    with pytest.raises(RepairError, match=message):
        confusion_matrix(labels, predictions, 3)


def test_lengths_of_roles_and_parts_are_checked():
    with pytest.raises(RepairError, match="1 labels, 2 roles and 1 parts"):
        repair_metrics([0], [0], [0], ["", ""], ["assessment"], [], 2)


# Four examples with three attributes.
HAS = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
SAID_BEFORE = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1], [0, 0, 0]])
SAID_AFTER = np.array([[0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]])


def test_attributes_by_hand():
    role = np.array(["remaining", "holdout", "query", "remaining"])
    part = np.array(["assessment", "assessment", "discovery", "assessment"])
    metrics = repair_metrics(SAID_BEFORE, SAID_AFTER, HAS, role, part, [2], 3)
    assert metrics["before"] == {
        "all": pytest.approx((3 / 3 + 1 / 3 + 3 / 3) / 3),
        "clean_classes": pytest.approx((2 / 3 + 3 / 3) / 2),
        "noisy_classes": pytest.approx(2 / 3),
        "worst_class": pytest.approx(2 / 3),
        "query": 0.0,
        "holdout": 0.0,
        "remaining": 1.0,
    }
    assert metrics["after"] == {
        "all": pytest.approx((2 / 3 + 3 / 3 + 3 / 3) / 3),
        "clean_classes": pytest.approx((2 / 3 + 3 / 3) / 2),
        "noisy_classes": 1.0,
        "worst_class": pytest.approx(2 / 3),
        "query": 0.0,
        "holdout": 1.0,
        "remaining": 0.5,
    }
    assert (metrics["fixed"], metrics["broken"]) == (1, 1)


def test_attributes_without_examples_are_none():
    none = repair_metrics(np.empty((0, 3)), np.empty((0, 3)), np.empty((0, 3)), [], [], [], 3)
    assert set(none["after"].values()) == {None}


def test_how_often_an_attribute_is_found_and_left_out():
    found, left_out = attribute_recalls(SAID_BEFORE, HAS)
    np.testing.assert_array_equal(found, [1 / 2, 1, np.nan])
    np.testing.assert_array_equal(left_out, [1, 1, 2 / 4])


def test_right_is_the_class_or_every_attribute():
    assert is_right(BASE, LABELS).tolist() == (BASE == LABELS).tolist()
    assert is_right(SAID_BEFORE, HAS).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("shape", "expected"), [((4, 2), "3 attributes"), ((4,), "3 attributes")])
def test_shapes_of_attributes_are_checked(shape, expected):
    with pytest.raises(RepairError, match=expected):
        repair_metrics(np.zeros(shape), HAS, HAS, [""] * 4, [""] * 4, [], 3)


def test_the_evidence_is_measured_on_its_test_examples():
    expected = repair_metrics(
        CLASSES.before.test_predictions,
        CLASSES.after.test_predictions,
        CLASSES.test_labels,
        CLASSES.roles,
        CLASSES.parts,
        [1, 7],
        10,
    )
    assert measure(CLASSES) == expected
    attributes = measure(MULTIPLE)
    assert attributes["before"]["all"] == pytest.approx((HAVE_BEFORE == HAVE).mean())
    assert attributes["after"]["all"] == pytest.approx((HAVE_AFTER == HAVE).mean())
    assert (attributes["before"]["holdout"], attributes["before"]["remaining"]) == (0.0, 1.0)


@pytest.mark.parametrize("evidence", [CLASSES, MULTIPLE], ids=["classes", "attributes"])
def test_the_reference_is_measured_as_the_repair_is(evidence):
    assert reference.measure(evidence) is None
    found = reference.measure(replace(evidence, reference=evidence.after, reference_in_words="so and so"))
    repaired = measure(evidence)
    assert found == {"what": "so and so", **{name: repaired[name] for name in ("after", "fixed", "broken")}}


def test_a_hundred_thousand_classes():
    labels, before = np.array([0, 99_999, 99_999]), np.array([0, 1, 99_999])
    metrics = repair_metrics(before, labels, labels, [""] * 3, ["assessment"] * 3, [], 100_000)
    assert metrics["before"]["all"] == 0.75
    assert metrics["fixed"] == 1
    with pytest.raises(RepairError, match=r"100,000 classes has 10,000,000,000 entries: .* at most 5,000"):
        confusion_matrix(labels, before, 100_000)
