"""How sure the accuracies of a repair are, measured on as many examples as there are.

Every interval holds the value that endless examples would give with a probability of about 95 %.
"""

from __future__ import annotations

from collections.abc import Collection
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.repair import ROLES, checked_answers, is_right, of_tests

LEVEL = 0.95
POINTS = ("before", "after", "change")
Interval = tuple[float, float] | None
Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]


def measure(evidence: Evidence) -> dict[str, Any]:
    """`repair_intervals` of the test examples."""
    return dict(repair_intervals(**of_tests(evidence)))


def repair_intervals(
    base_predictions: ArrayLike,
    repaired_predictions: ArrayLike,
    labels: ArrayLike,
    role: ArrayLike,
    part: ArrayLike,
    noisy_classes: Collection[int],
    n_classes: int,
) -> dict[str, dict[str, Interval]]:
    """An interval for each number of `repair_metrics`, which says what the arguments and the names are.

    Accuracies on examples of a role are single shares (`wilson`), those over classes are means of independent shares
    (`of_mean`), changes are of pairs, since both models see the same examples (`of_paired_change`). The worst class is
    the lowest of several: its interval is that of the lowest of shares all of which lie within theirs, each at the
    level 1 − 0.05/classes (Bonferroni). Attributes of one example depend on each other, so a mean over attributes is
    taken of each example, and has the interval of a mean of such numbers (`of_numbers`).

    Returns:
        before, after, change: pairs of the lower and the upper end, None without examples.

    Raises:
        RepairError: see `repair_metrics`.
    """
    before, after, truth, roles, parts = checked_answers(
        base_predictions, repaired_predictions, labels, role, part, n_classes
    )
    assessed = parts == "assessment"
    same = {"before": (before == truth)[assessed], "after": (after == truth)[assessed]}
    noisy = np.isin(np.arange(n_classes), list(noisy_classes))
    classes = {"all": np.ones(n_classes, dtype=bool), "clean_classes": ~noisy, "noisy_classes": noisy}
    over = _over_classes if truth.ndim == 1 else _over_attributes
    by_name = {name: over(same, truth[assessed], chosen) for name, chosen in classes.items()}
    by_name["worst_class"] = {
        **{when: _lowest(*_by_class(right, truth[assessed], n_classes)) for when, right in same.items()},
        "change": None,
    }
    was, now = is_right(before, truth), is_right(after, truth)
    for name in ROLES:
        members = roles == name
        by_name[name] = _of_examples(was[members], now[members])
    return {when: {name: found[when] for name, found in by_name.items()} for when in POINTS}


def wilson(hits: ArrayLike, examples: ArrayLike, level: float = LEVEL) -> Bounds:
    """The interval of a share p of which h of n examples are (Wilson 1927): all p with |h/n − p| ≤ z·√(p(1 − p)/n).

    Args:
        hits: h, of any shape.
        examples: n ≥ 1, likewise.
        level: of the interval, from 0 to 1.
    """
    h, n, z = np.asarray(hits, dtype=np.float64), np.asarray(examples, dtype=np.float64), _deviations(level)
    centre = (h + z**2 / 2) / (n + z**2)
    reach = z * np.sqrt(h * (n - h) / n + z**2 / 4) / (n + z**2)
    return np.maximum(centre - reach, 0.0), np.minimum(centre + reach, 1.0)


def of_paired_change(
    fixed: ArrayLike, broken: ArrayLike, examples: ArrayLike, level: float = LEVEL
) -> Bounds:
    """The interval of the difference between two accuracies on the same examples (Agresti & Min 2005).

    With half an example more in each of the four cells (right before and after, fixed, broken, wrong before and after)
    it is d ± z·√(f + b − (f − b)²/n)/n, d = (f − b)/n.

    Args:
        fixed: how many only the second model has right, of any shape.
        broken: how many only the first has right, likewise.
        examples: how many there are, 1 or more, likewise.
        level: of the interval.
    """
    f, b = (np.asarray(count, dtype=np.float64) + 0.5 for count in (fixed, broken))
    n = np.asarray(examples, dtype=np.float64) + 2
    reach = _deviations(level) * np.sqrt(f + b - (f - b) ** 2 / n) / n
    change = (f - b) / n
    return np.maximum(change - reach, -1.0), np.minimum(change + reach, 1.0)


def of_mean(values: NDArray[np.float64], bounds: Bounds) -> Interval:
    """The interval of the mean of k independent values, from theirs: of each end, m ∓ √Σ(vᵢ − endᵢ)²/k.

    The variance that each end stands for is recovered from it, so that the interval of one value is its own, and shares
    near 0 or 1 keep intervals that are not symmetric (Zou, Huang & Zhang 2009).

    Args:
        values: (k,).
        bounds: (k,) lower and (k,) upper ends of their intervals.

    Returns:
        Lower and upper end; None of no values.
    """
    if not len(values):
        return None
    below, above = (float(np.sqrt(np.square(values - end).sum())) / len(values) for end in bounds)
    mean = float(values.mean())
    return mean - below, mean + above


def of_numbers(values: NDArray[np.float64]) -> Interval:
    """m ± z·s/√n of the mean of n independent numbers; all that is possible, from −1 to 1, of a single one."""
    mean = float(values.mean())
    if len(values) < 2:
        return -1.0, 1.0
    reach = _deviations(LEVEL) * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean - reach, mean + reach


def _of_examples(was: NDArray[np.bool_], now: NDArray[np.bool_]) -> dict[str, Interval]:
    """Of (m,) examples, right before or after."""
    count = len(was)
    if not count:
        return dict.fromkeys(POINTS)
    bounds = {
        "before": wilson(was.sum(), count),
        "after": wilson(now.sum(), count),
        "change": of_paired_change((~was & now).sum(), (was & ~now).sum(), count),
    }
    return {when: (float(lower), float(upper)) for when, (lower, upper) in bounds.items()}


def _over_classes(
    same: dict[str, NDArray[np.bool_]], truth: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> dict[str, Interval]:
    """Of the mean over the chosen classes of the accuracy within each."""

    def count(members: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(truth[members], minlength=len(chosen))[present]

    examples = np.bincount(truth, minlength=len(chosen))
    present = chosen & (examples > 0)
    examples = examples[present]
    was, now = same["before"], same["after"]
    fixed, broken = count(~was & now), count(was & ~now)
    return {
        "before": of_mean(count(was) / examples, wilson(count(was), examples)),
        "after": of_mean(count(now) / examples, wilson(count(now), examples)),
        "change": of_mean((fixed - broken) / examples, of_paired_change(fixed, broken, examples)),
    }


def _over_attributes(
    same: dict[str, NDArray[np.bool_]], truth: NDArray[Any], chosen: NDArray[np.bool_]
) -> dict[str, Interval]:
    """Of the mean over the examples of the share of the chosen attributes that is right."""
    if not (len(truth) and chosen.any()):
        return dict.fromkeys(POINTS)
    before, after = (right[:, chosen].mean(axis=1) for right in (same["before"], same["after"]))
    return {"before": of_numbers(before), "after": of_numbers(after), "change": of_numbers(after - before)}


def _lowest(hits: NDArray[np.int64], examples: NDArray[np.int64]) -> Interval:
    present = examples > 0
    if not present.any():
        return None
    lower, upper = wilson(hits[present], examples[present], 1 - (1 - LEVEL) / int(present.sum()))
    return float(lower.min()), float(upper.min())


def _by_class(
    right: NDArray[np.bool_], truth: NDArray[Any], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(n_classes,) right ones and examples of each class, or of each attribute."""
    if right.ndim == 2:
        return right.sum(axis=0), np.full(n_classes, len(right))
    return np.bincount(truth[right], minlength=n_classes), np.bincount(truth, minlength=n_classes)


def _deviations(level: float) -> float:
    """z: how many standard deviations of a normal distribution hold this share of it."""
    return NormalDist().inv_cdf((1 + level) / 2)
