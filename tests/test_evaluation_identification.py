"""How well scores find the causes: values by hand, scikit-learn, and brute force over the orders of ties."""

from dataclasses import replace
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from evidence_cases import CASES, CLASSES, IS_CORRUPTED, SCORES
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.identification import (
    RANKING_METRICS,
    area_under_roc,
    areas,
    average_precision,
    curves,
    expected_found,
    identification_curve,
    identification_metrics,
    measure,
    selection_metrics,
)

labelled_scores = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=6)


def orders(scores):
    """Every order of the examples by falling score, one for each way to break the ties."""
    return [
        np.array(order)
        for order in permutations(range(len(scores)))
        if all(scores[first] >= scores[second] for first, second in pairwise(order))
    ]


def test_values_by_hand():
    scores = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    is_cause = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    metrics = identification_metrics(scores, is_cause, selected=[0, 1, 2, 3])
    assert metrics == {
        "causes": 2,
        "selected": 4,
        "auroc": 15 / 16,
        "average_precision": (1 + 2 / 3) / 2,
        "precision_at_causes": 1 / 2,
        "found_in_first_10_percent": 1 / 2,
        "found_in_first_20_percent": 1 / 2,
        "selected_precision": 1 / 2,
        "selected_recall": 1.0,
    }


def test_positive_means_harmful_so_the_highest_score_is_inspected_first():
    assert identification_metrics([3.0, -1.0, -2.0], [True, False, False], [])["auroc"] == 1.0
    assert identification_metrics([-3.0, 1.0, 2.0], [True, False, False], [])["auroc"] == 0.0


def test_shares_of_the_data_round_up():
    metrics = identification_metrics(np.arange(11)[::-1], np.arange(11) < 4, [])
    assert metrics["found_in_first_10_percent"] == 2 / 4
    assert metrics["found_in_first_20_percent"] == 3 / 4


def test_equal_scores_rank_like_chance():
    is_cause = np.arange(20) < 5
    metrics = identification_metrics(np.zeros(20), is_cause, [])
    assert metrics["auroc"] == 0.5
    assert metrics["precision_at_causes"] == pytest.approx(0.25)
    assert metrics["found_in_first_10_percent"] == pytest.approx(0.1)
    curve = identification_curve(np.zeros(20), is_cause)
    np.testing.assert_allclose(curve["found"], curve["random"])


def test_agrees_with_scikit_learn_without_ties():
    generator = np.random.default_rng(0)
    for count in (5, 50, 2000):
        scores = generator.permutation(count) / 7
        is_cause = generator.random(count) < 0.3
        is_cause[:2] = True, False
        assert area_under_roc(scores, is_cause) == pytest.approx(roc_auc_score(is_cause, scores), abs=1e-12)
        assert average_precision(scores, is_cause) == pytest.approx(
            average_precision_score(is_cause, scores), abs=1e-12
        )


def test_area_agrees_with_scikit_learn_with_ties():
    generator = np.random.default_rng(1)
    scores, is_cause = generator.integers(0, 6, 500), generator.random(500) < 0.2
    assert area_under_roc(scores, is_cause) == pytest.approx(roc_auc_score(is_cause, scores), abs=1e-12)


@settings(deadline=None)
@given(labelled_scores)
def test_ties_are_the_mean_over_all_their_orders(examples):
    scores, is_cause = (np.array(column) for column in zip(*examples, strict=True))
    is_cause[:2] = True, False
    causes = [is_cause[order] for order in orders(scores)]
    found = np.mean([np.concatenate([[0], np.cumsum(marks)]) for marks in causes], axis=0)
    precision = [np.cumsum(marks)[marks] / (np.flatnonzero(marks) + 1) for marks in causes]
    wins = [np.mean([(~marks[place:]).sum() for place in np.flatnonzero(marks)]) for marks in causes]
    np.testing.assert_allclose(expected_found(scores, is_cause), found, atol=1e-12)
    assert average_precision(scores, is_cause) == pytest.approx(np.mean(precision), abs=1e-12)
    assert area_under_roc(scores, is_cause) == pytest.approx(np.mean(wins) / (~is_cause).sum(), abs=1e-12)


@settings(deadline=None)
@given(labelled_scores, st.randoms(use_true_random=False))
def test_order_of_the_examples_does_not_matter(examples, random):
    shuffled = random.sample(range(len(examples)), len(examples))
    scores, is_cause = (np.array(column) for column in zip(*examples, strict=True))
    selected = np.flatnonzero(scores > 0)
    moved = [shuffled.index(position) for position in selected]
    first = identification_metrics(scores, is_cause, selected)
    assert first == identification_metrics(scores[shuffled], is_cause[shuffled], moved)
    assert identification_curve(scores, is_cause).equals(
        identification_curve(scores[shuffled], is_cause[shuffled])
    )


@settings(deadline=None)
@given(labelled_scores)
def test_a_rising_function_of_the_scores_changes_nothing(examples):
    scores, is_cause = (np.array(column) for column in zip(*examples, strict=True))
    assert identification_metrics(scores, is_cause, []) == identification_metrics(
        np.exp(scores), is_cause, []
    )


@pytest.mark.parametrize("is_cause", [[False, False, False], [True, True, True]])
def test_nothing_to_tell_apart_gives_none(is_cause):
    metrics = identification_metrics([1.0, 2.0, 3.0], is_cause, [0, 2])
    assert metrics["selected"] == 2
    assert metrics["causes"] == sum(is_cause)
    assert all(metrics[name] is None for name in RANKING_METRICS)


def test_nothing_selected_has_no_precision():
    metrics = identification_metrics([1.0, 2.0], [True, False], np.array([]))
    assert metrics["selected"] == 0
    assert metrics["selected_precision"] is None
    assert metrics["selected_recall"] == 0.0


def test_curve_by_hand():
    curve = identification_curve([4, 3, 2, 1], [True, False, True, False])
    assert curve.columns.tolist() == ["inspected", "found", "oracle", "random"]
    assert curve["inspected"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve["found"].tolist() == [0, 0.5, 0.5, 1, 1]
    assert curve["oracle"].tolist() == [0, 0.5, 1, 1, 1]
    assert curve["random"].tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("count", [198, 199, 200, 201, 2700])
def test_a_long_curve_is_thinned_and_keeps_its_corners(count):
    is_cause = np.arange(count) < 77
    curve = identification_curve(-np.arange(count), is_cause)
    assert len(curve) <= 200
    np.testing.assert_array_equal(curve["found"], curve["oracle"])
    assert curve.iloc[0].tolist() == [0, 0, 0, 0]
    assert curve.iloc[-1].tolist() == [1, 1, 1, 1]
    assert 77 / count in curve["inspected"].to_numpy()
    assert curve["inspected"].is_monotonic_increasing


def test_curve_without_causes_is_empty():
    curve = identification_curve([1.0, 2.0], [False, False])
    assert len(curve) == 0
    assert "found" in curve


def test_scores_that_are_not_finite_are_counted():
    with pytest.raises(RepairError, match="2 of 4 influence scores are NaN or infinite"):
        identification_metrics([1.0, np.nan, np.inf, 2.0], [True, False, False, True], [])
    with pytest.raises(RepairError, match="1 of 2"):
        identification_curve([1.0, -np.inf], [True, False])


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        ([0, 3], "between 0 and 2"),
        ([-1], "between 0 and 2"),
        ([1, 1], "1 of the .* repeated"),
        ([0.5], "whole"),
    ],
)
def test_selected_positions_are_checked(selected, message):
    with pytest.raises(RepairError, match=message):
        identification_metrics([1.0, 2.0, 3.0], [True, False, False], selected)


def test_lengths_are_checked():
    with pytest.raises(RepairError, match=r"\(3,\).*\(2,\)"):
        identification_metrics([1.0, 2.0, 3.0], [True, False], [])


@settings(deadline=None)
@given(labelled_scores)
def test_a_selected_set_is_measured_without_scores(examples):
    scores, is_cause = (np.array(column) for column in zip(*examples, strict=True))
    selected = np.flatnonzero(scores > 0)
    with_scores = identification_metrics(scores, is_cause, selected)
    assert selection_metrics(is_cause, selected) == {
        name: with_scores[name] for name in ("causes", "selected", "selected_precision", "selected_recall")
    }


def test_the_evidence_is_ranked_by_the_scores_and_by_the_loss():
    loss = -CLASSES.before.training_log_likelihoods
    expected = identification_metrics(SCORES, IS_CORRUPTED, CLASSES.causes)
    assert measure(CLASSES) == {**expected, "auroc_of_plain_loss": area_under_roc(loss, IS_CORRUPTED)}
    estimated = measure(replace(CLASSES, expected_causes=(9.5, 2.0)))
    assert estimated == {**measure(CLASSES), "expected_causes": 9.5, "expected_causes_error": 2.0}
    assert areas(CLASSES) == {
        "this method": expected["auroc"],
        "plain loss": area_under_roc(loss, IS_CORRUPTED),
    }
    assert curves(CLASSES)["plain loss"].equals(identification_curve(loss, IS_CORRUPTED))


@pytest.mark.parametrize("case", ["failures", "request, causes known", "request"])
def test_no_ranking_without_scores_and_truth(case):
    assert curves(CASES[case]) == {}
    assert set(measure(CASES[case])) <= {"causes", "selected", "selected_precision", "selected_recall"}
