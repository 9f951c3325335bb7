"""How well scores find the true causes among the training examples.

Sign, everywhere: score > 0 means that removing the example is predicted to lower the failure loss, so it is
harmful; the highest scores are inspected first.

Ties are broken by expectation: a measure is its mean over all orders of the examples with equal scores, so
it depends neither on the order of the examples nor on a sorting routine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence

CURVE_POINTS = 200
RANKING_METRICS = (
    "auroc",
    "average_precision",
    "precision_at_causes",
    "found_in_first_10_percent",
    "found_in_first_20_percent",
    "selected_precision",
    "selected_recall",
)


def measure(evidence: Evidence) -> dict[str, Any]:
    """What can be known of the search for the causes.

    Returns:
        `identification_metrics` of the scores, and auroc_of_plain_loss: `area_under_roc` of the base model's loss,
        which anybody would try first. Where nothing was scored, only `selection_metrics`; where no truth is known,
        only selected, how many examples were taken as causes. Of several corruptions also what `by_corruption`
        says of each. Where the number of causes was estimated, also expected_causes and expected_causes_error, its
        standard deviation.
    """
    expected: dict[str, Any] = {}
    if evidence.expected_causes is not None:
        count, error = evidence.expected_causes
        expected = {"expected_causes": count, "expected_causes_error": error}
    if evidence.is_corrupted is None:
        selected = len(_checked_positions(evidence.causes, len(evidence.given_labels)))
        return {"selected": selected, **expected}
    each = {} if evidence.corrupted_by is None else {"by_corruption": by_corruption(evidence)}
    if evidence.scores is None:
        return {**selection_metrics(evidence.is_corrupted, evidence.causes), **each}
    return {
        **identification_metrics(evidence.scores, evidence.is_corrupted, evidence.causes),
        "auroc_of_plain_loss": areas(evidence)["plain loss"],
        **expected,
        **each,
    }


def by_corruption(evidence: Evidence) -> dict[str, dict[str, float | int | None]]:
    """How well each of several corruptions is found among the examples that none has touched.

    Returns:
        By name: causes, how many examples it corrupted; selected, how many of these were taken as causes, and
        selected_recall, which share that is; auroc, the `area_under_roc` of these examples and the untouched ones, and
        auroc_of_plain_loss. Areas are None where nothing was scored. Nothing where the corruptions were not several.
    """
    names = evidence.corrupted_by
    if names is None:
        return {}
    chosen = np.zeros(len(names), dtype=bool)
    chosen[evidence.causes] = True
    ranked = rankings(evidence)
    found: dict[str, dict[str, float | int | None]] = {}
    for name in np.unique(names[names != ""]):
        of_it = names == name
        told_apart = of_it | (names == "")
        auroc, of_loss = (
            area_under_roc(ranked[ranking][told_apart], of_it[told_apart]) if ranked else None
            for ranking in ("this method", "plain loss")
        )
        found[str(name)] = {
            "causes": int(of_it.sum()),
            "selected": int(chosen[of_it].sum()),
            "selected_recall": float(chosen[of_it].mean()),
            "auroc": auroc,
            "auroc_of_plain_loss": of_loss,
        }
    return found


def rankings(evidence: Evidence) -> dict[str, NDArray[np.float64]]:
    """(n,) scores by name: the method's, and the base model's loss to compare them with; none for a request."""
    if evidence.scores is None:
        return {}
    return {"this method": evidence.scores, "plain loss": -evidence.before.training_log_likelihoods}


def curves(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """`identification_curve` of each of the `rankings`; none where no truth is known."""
    if evidence.is_corrupted is None:
        return {}
    return {
        name: identification_curve(scores, evidence.is_corrupted)
        for name, scores in rankings(evidence).items()
    }


def areas(evidence: Evidence) -> dict[str, float | None]:
    """`area_under_roc` of each of the `rankings`; none where no truth is known."""
    if evidence.is_corrupted is None:
        return {}
    return {
        name: area_under_roc(scores, evidence.is_corrupted) for name, scores in rankings(evidence).items()
    }


def identification_metrics(
    scores: ArrayLike, is_cause: ArrayLike, selected: ArrayLike
) -> dict[str, float | int | None]:
    """How well a ranking, and the set selected from it, find the true causes D_c.

    Args:
        scores: (n,) one score for each training example; higher is more harmful.
        is_cause: (n,) bool, True for the true causes.
        selected: (m,) distinct positions (0 to n-1) of the examples selected as causes.

    Returns:
        causes: |D_c|; selected: m.
        auroc: probability that a true cause scores above an example that is none (a tie counts a half).
        average_precision: mean over the true causes of the precision at their rank.
        precision_at_causes: precision among the |D_c| highest scores, which equals the recall there.
        found_in_first_10_percent, found_in_first_20_percent: share of D_c among the ceil(0.1·n),
        ceil(0.2·n) highest scores.
        selected_precision, selected_recall: of the selected set (precision None if nothing is selected).
        All are fractions in [0, 1]; all but the two counts are None where there is nothing to tell apart:
        no example is a cause, or all are.

    Raises:
        RepairError: if a score is not finite, lengths differ, or a selected position is out of range,
            repeated or not a whole number.
    """
    values, causes = _checked(scores, is_cause)
    of_selected = selection_metrics(causes, selected)
    counts = {name: of_selected[name] for name in ("causes", "selected")}
    total = int(causes.sum())
    if total in (0, len(causes)):
        return counts | dict.fromkeys(RANKING_METRICS)
    found = expected_found(values, causes)
    measured = (
        area_under_roc(values, causes),
        average_precision(values, causes),
        float(found[total] / total),
        float(found[_percent_of(10, len(values))] / total),
        float(found[_percent_of(20, len(values))] / total),
        of_selected["selected_precision"],
        of_selected["selected_recall"],
    )
    return counts | dict(zip(RANKING_METRICS, measured, strict=True))


def selection_metrics(is_cause: ArrayLike, selected: ArrayLike) -> dict[str, float | int | None]:
    """How well a selected set covers the true causes D_c, however it was selected.

    Args:
        is_cause: (n,) bool, True for the true causes.
        selected: (m,) distinct positions (0 to n-1) of the examples selected as causes.

    Returns:
        causes, selected, selected_precision, selected_recall, as in `identification_metrics`.

    Raises:
        RepairError: if a selected position is out of range, repeated or not a whole number.
    """
    causes = np.asarray(is_cause, dtype=bool)
    chosen = _checked_positions(selected, len(causes))
    total, hits = int(causes.sum()), int(causes[chosen].sum())
    told_apart = 0 < total < len(causes)
    return {
        "causes": total,
        "selected": len(chosen),
        "selected_precision": hits / len(chosen) if told_apart and len(chosen) else None,
        "selected_recall": hits / total if told_apart else None,
    }


def identification_curve(scores: ArrayLike, is_cause: ArrayLike) -> pd.DataFrame:
    """The share of the true causes found against the share of the examples inspected, best score first.

    Args:
        scores: (n,) one score for each training example; higher is more harmful.
        is_cause: (n,) bool, True for the true causes.

    Returns:
        Columns inspected, found, oracle (a ranking that knows the causes) and random (its expectation), all
        fractions in [0, 1]; at most 200 rows from (0, 0) to (1, 1), among them the corner of the oracle.
        No rows if there are no true causes.

    Raises:
        RepairError: if a score is not finite or the lengths differ.
    """
    values, causes = _checked(scores, is_cause)
    total, count = int(causes.sum()), len(causes)
    if total == 0:
        return pd.DataFrame({name: np.empty(0) for name in ("inspected", "found", "oracle", "random")})
    evenly = np.linspace(0, count, min(count + 1, CURVE_POINTS - 1)).round().astype(np.int64)
    ranks = np.union1d(evenly, [total])
    inspected = ranks / count
    return pd.DataFrame(
        {
            "inspected": inspected,
            "found": expected_found(values, causes)[ranks] / total,
            "oracle": np.minimum(ranks / total, 1.0),
            "random": inspected,
        }
    )


def area_under_roc(scores: ArrayLike, is_positive: ArrayLike) -> float | None:
    """P(score of a positive > score of a negative) + ½ P(equal), in [0, 1]; None without one of the two.

    The Mann-Whitney statistic, counted in whole numbers, so it is exact up to one division.
    """
    values, positive = np.asarray(scores), np.asarray(is_positive, dtype=bool)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    per_tie, positive_per_tie = _ties(values, positive)
    negative_per_tie = per_tie - positive_per_tie
    negatives_below = negatives - np.cumsum(negative_per_tie)
    twice_wins = int((positive_per_tie * (2 * negatives_below + negative_per_tie)).sum())
    return twice_wins / (2 * positives * negatives)


def average_precision(scores: ArrayLike, is_positive: ArrayLike) -> float | None:
    """Mean over the positives of the precision at their rank, expected over orders of ties; None without one.

    In a tie of t examples with p positives, place j holds a positive with probability p/t, and then
    (j−1)(p−1)/(t−1) positives are expected before it within the tie. Without ties it equals scikit-learn's
    value; with ties scikit-learn counts a tie as if inspected at once, and differs.
    """
    values, positive = np.asarray(scores), np.asarray(is_positive, dtype=bool)
    total = int(positive.sum())
    if total == 0:
        return None
    per_tie, positive_per_tie = _ties(values, positive)
    size = np.repeat(per_tie, per_tie)
    inside = np.repeat(positive_per_tie, per_tie)
    earlier_positives = np.repeat(np.cumsum(positive_per_tie) - positive_per_tie, per_tie)
    rank = np.arange(1, len(values) + 1)
    place = rank - np.repeat(np.cumsum(per_tie) - per_tie, per_tie)
    before_within = (place - 1) * (inside - 1) / np.maximum(size - 1, 1)
    precision = (earlier_positives + 1 + before_within) / rank
    return float((inside / size * precision).sum() / total)


def expected_found(scores: ArrayLike, is_positive: ArrayLike) -> NDArray[np.float64]:
    """(n+1,) positives expected among the r highest scores, r = 0…n: straight lines across ties."""
    values, positive = np.asarray(scores), np.asarray(is_positive, dtype=bool)
    per_tie, positive_per_tie = _ties(values, positive)
    ends = np.concatenate([[0], np.cumsum(per_tie)])
    found = np.concatenate([[0], np.cumsum(positive_per_tie)])
    return np.asarray(np.interp(np.arange(len(values) + 1), ends, found), dtype=np.float64)


def _ties(
    values: NDArray[np.generic], positive: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Examples and positives in each group of equal values, highest value first."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    positives = np.bincount(group[positive], minlength=len(sizes))
    return sizes[::-1].astype(np.int64), positives[::-1].astype(np.int64)


def _percent_of(percent: int, count: int) -> int:
    """ceil(percent/100 · count) in whole numbers, so that no rounding error adds an example."""
    return -(-count * percent // 100)


def _checked(scores: ArrayLike, is_cause: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, causes = np.asarray(scores, dtype=np.float64), np.asarray(is_cause, dtype=bool)
    if values.ndim != 1 or values.shape != causes.shape:
        raise RepairError(
            f"the scores have shape {values.shape} and the marks of the true causes {causes.shape}: "
            "give one of each for every training example"
        )
    broken = int((~np.isfinite(values)).sum())
    if broken:
        raise RepairError(
            f"{broken} of {len(values)} influence scores are NaN or infinite: finite scores are needed to "
            "rank the training examples, so check the base model's losses or raise the damping"
        )
    return values, causes


def _checked_positions(selected: ArrayLike, count: int) -> NDArray[np.int64]:
    positions = np.asarray(selected)
    if positions.size == 0:
        return np.empty(0, dtype=np.int64)
    if positions.ndim != 1 or not np.issubdtype(positions.dtype, np.integer):
        raise RepairError(
            f"the selected causes are an array of type {positions.dtype} and shape {positions.shape}: "
            "give a list of positions in the training data, as whole numbers"
        )
    if positions.min() < 0 or positions.max() >= count:
        raise RepairError(
            f"the selected causes hold positions from {positions.min()} to {positions.max()}: "
            f"with {count} training examples they must lie between 0 and {count - 1}"
        )
    repeated = len(positions) - len(np.unique(positions))
    if repeated:
        raise RepairError(f"{repeated} of the selected causes are repeated: give each position once")
    return positions.astype(np.int64)
