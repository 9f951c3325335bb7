"""95 % intervals of accuracies, by scipy, by hand and by how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binomtest

from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.intervals import (
    of_mean,
    of_numbers,
    of_paired_change,
    repair_intervals,
    wilson,
)
from modelrepair.evaluation.measures.repair import repair_metrics

DRAWS = 4_000


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_of_a_share_it_is_scipys(counts: tuple[int, int], level: float) -> None:
    hits, examples = counts
    expected = binomtest(hits, examples).proportion_ci(level, method="wilson")
    assert wilson(hits, examples, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_of_a_paired_change_by_hand() -> None:
    # Agresti & Min 2005, Wald with ½ added to each of the four cells: f = 6.5, b = 2.5, n = 42.
    reach = 1.959963984540054 * np.sqrt(6.5 + 2.5 - 16 / 42) / 42
    assert of_paired_change(6, 2, 40) == pytest.approx((4 / 42 - reach, 4 / 42 + reach), rel=1e-12)


def test_of_one_value_the_mean_has_its_own_interval_and_of_none_none() -> None:
    lower, upper = wilson([37], [40])
    assert of_mean(np.array([37 / 40]), (lower, upper)) == pytest.approx((lower[0], upper[0]), rel=1e-12)
    assert of_mean(np.empty(0), (np.empty(0), np.empty(0))) is None


@pytest.mark.parametrize("accuracies", [[0.95, 0.9, 0.99, 0.7, 0.97], [0.5, 0.6, 0.4, 0.5, 0.5]])
@pytest.mark.parametrize("examples", [[40] * 5, [20, 60, 100, 30, 50]])
def test_of_a_mean_over_classes_it_holds_the_truth_as_often_as_it_says(
    accuracies: list[float], examples: list[int]
) -> None:
    draw = np.random.default_rng(0)
    hits = draw.binomial(examples, accuracies, (DRAWS, 5))
    truth = np.mean(accuracies)
    ends = [of_mean(row / examples, wilson(row, examples)) for row in hits]
    held = np.mean([low <= truth <= high for low, high in ends])
    assert 0.935 < held < 0.98


def test_of_a_paired_change_it_holds_the_truth_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    cells = np.array([0.1, 0.02, 0.85, 0.03])  # fixed, broken, right, wrong
    counts = draw.multinomial(150, cells, DRAWS)
    lower, upper = of_paired_change(counts[:, 0], counts[:, 1], 150)
    assert 0.935 < np.mean((lower <= 0.08) & (upper >= 0.08)) < 0.98


def test_of_numbers_it_holds_the_truth_as_often_as_it_says() -> None:
    values = np.random.default_rng(0).beta(5, 1, (DRAWS, 80))
    held = np.mean([low <= 5 / 6 <= high for low, high in map(of_numbers, values)])
    assert 0.93 < held < 0.97
    assert of_numbers(np.array([0.5])) == (-1.0, 1.0)


def answers(draw: np.random.Generator, count: int, classes: int) -> dict[str, NDArray]:
    labels = draw.integers(0, classes, count)
    off = {"base": 0.3, "repaired": 0.1}
    guesses = {
        name: np.where(draw.random(count) < p, (labels + 1) % classes, labels) for name, p in off.items()
    }
    return {
        "base_predictions": guesses["base"],
        "repaired_predictions": guesses["repaired"],
        "labels": labels,
        "role": draw.choice(["query", "holdout", "remaining", ""], count),
        "part": draw.choice(["assessment", "discovery"], count),
    }


def test_each_interval_holds_the_number_that_it_is_of() -> None:
    for seed in range(20):
        given = answers(np.random.default_rng(seed), 90, 4)
        metrics = repair_metrics(**given, noisy_classes=[1, 2], n_classes=4)
        intervals = repair_intervals(**given, noisy_classes=[1, 2], n_classes=4)
        assert intervals.keys() == {"before", "after", "change"}
        for when, ends in intervals.items():
            assert ends.keys() == metrics[when].keys()
            for name, pair in ends.items():
                if name == "worst_class" and when == "change":
                    assert pair is None
                else:
                    assert pair[0] <= metrics[when][name] <= pair[1], (when, name)


def test_the_worst_class_has_the_lowest_of_simultaneous_intervals() -> None:
    draw = np.random.default_rng(0)
    truth, examples = np.array([0.9, 0.92, 0.95]), 60
    labels = np.repeat([0, 1, 2], examples)
    held = []
    for _ in range(400):
        right = draw.random(len(labels)) < truth[labels]
        guesses = np.where(right, labels, (labels + 1) % 3)
        part = np.full(len(labels), "assessment")
        ends = repair_intervals(guesses, guesses, labels, [""] * len(labels), part, [], 3)["after"][
            "worst_class"
        ]
        held.append(ends[0] <= 0.9 <= ends[1])
    assert np.mean(held) > 0.94


def test_attributes_of_one_example_count_as_one() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, (50, 3))
    # All attributes of an example are right or wrong together: as one share.
    right = draw.random(50) < 0.8
    guesses = np.where(right[:, None], labels, 1 - labels)
    part, role = np.full(50, "assessment"), np.full(50, "remaining")
    ends = repair_intervals(labels, guesses, labels, role, part, [0], 3)
    spread = 1.959963984540054 * right.std(ddof=1) / 50**0.5
    assert ends["after"]["all"] == pytest.approx((right.mean() - spread, right.mean() + spread), rel=1e-12)
    assert ends["after"]["noisy_classes"] == ends["after"]["all"]
    assert ends["change"]["all"] == pytest.approx(
        (right.mean() - 1 - spread, right.mean() - 1 + spread), rel=1e-12
    )
    assert ends["after"]["remaining"] == pytest.approx(tuple(wilson(right.sum(), 50)), rel=1e-12)


def test_without_examples_there_are_none() -> None:
    nothing = np.empty(0, dtype=int)
    ends = repair_intervals(nothing, nothing, nothing, [], [], [0], 2)
    assert all(pair is None for pairs in ends.values() for pair in pairs.values())
    with pytest.raises(RepairError, match="2 labels, 1 roles"):
        repair_intervals([0, 1], [0, 1], [0, 1], ["query"], ["discovery"] * 2, [], 2)
