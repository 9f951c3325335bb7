"""What a repair fixed and what it broke, in accuracy before and after.

All accuracies are fractions in [0, 1]; a group without examples has None. Nothing here needs probabilities:
a model is given by its predicted class numbers (n,), or where an example has k yes/no attributes by (n, k) zeros
and ones.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence

ROLES = ("query", "holdout", "remaining")
MOST_CLASSES = 5_000  # of a confusion matrix, which then takes 200 MB
Accuracies = dict[str, float | None]


def measure(evidence: Evidence) -> dict[str, Any]:
    """`repair_metrics` of the test examples."""
    return dict(repair_metrics(**of_tests(evidence)))


def of_tests(evidence: Evidence) -> dict[str, Any]:
    """The arguments of `repair_metrics`, and of what says how sure they are, for the test examples."""
    return {
        "base_predictions": evidence.before.test_predictions,
        "repaired_predictions": evidence.after.test_predictions,
        "labels": evidence.test_labels,
        "role": evidence.roles,
        "part": evidence.parts,
        "noisy_classes": evidence.noisy_classes,
        "n_classes": len(evidence.class_names),
    }


def share_of(marks: ArrayLike) -> float | None:
    """The mean of marks or shares (n,); None for none."""
    values = np.asarray(marks)
    return float(values.mean()) if len(values) else None


def repair_metrics(
    base_predictions: ArrayLike,
    repaired_predictions: ArrayLike,
    labels: ArrayLike,
    role: ArrayLike,
    part: ArrayLike,
    noisy_classes: Collection[int],
    n_classes: int,
) -> dict[str, Accuracies | int]:
    """Accuracy of the base and of the repaired model on the same n test examples.

    Args:
        base_predictions, repaired_predictions, labels: (n,) class numbers from 0 to n_classes-1, or (n, n_classes)
            attributes of 0 and 1.
        role: (n,) "query" (failures shown to the method), "holdout" (failures kept from it), "remaining"
            (what the base model had right) or "" (none of them). Roles are used as given, whatever the part.
        part: (n,) "reserved", "discovery" or "assessment".
        noisy_classes: the classes whose training examples were corrupted.
        n_classes: number of classes.

    Returns:
        before, after, change (after minus before), each with
        all, clean_classes, noisy_classes: class-balanced accuracy on assessment, that is the mean over the
        classes with examples there of the accuracy within the class (on a balanced test set the plain
        accuracy, as in the tables of Huang et al. 2023);
        worst_class: the lowest accuracy within a class on assessment (its class may change);
        query, holdout, remaining: plain accuracy on the examples of that role (Tanno et al. 2022, section 5).
        fixed, broken: how many assessment examples only the repaired, only the base model has right.
        Attributes stand for classes: accuracy within a class is then the share of the examples whose attribute is
        right, so `all` is the mean over the examples of the share of their attributes that is right. For the roles
        and for fixed and broken an example is right if all its attributes are, as where failures are found.

    Raises:
        RepairError: if lengths differ or a class number is out of range.
    """
    before, after, truth, roles, parts = checked_answers(
        base_predictions, repaired_predictions, labels, role, part, n_classes
    )
    groups = {name: roles == name for name in ROLES}
    assessment = parts == "assessment"
    noisy = sorted({int(number) for number in noisy_classes})
    was, now = is_right(before, truth), is_right(after, truth)
    base = _accuracies(_within_classes(before, truth, assessment, n_classes), was, groups, noisy)
    repaired = _accuracies(_within_classes(after, truth, assessment, n_classes), now, groups, noisy)
    return {
        "before": base,
        "after": repaired,
        "change": {name: _difference(repaired[name], base[name]) for name in base},
        "fixed": int((~was & now & assessment).sum()),
        "broken": int((was & ~now & assessment).sum()),
    }


def checked_answers(
    base_predictions: ArrayLike,
    repaired_predictions: ArrayLike,
    labels: ArrayLike,
    role: ArrayLike,
    part: ArrayLike,
    n_classes: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Predictions before and after, labels, roles and parts of test examples, one of each for every one.

    Raises:
        RepairError: see `repair_metrics`.
    """
    before, after, truth = _labels(n_classes, base_predictions, repaired_predictions, labels)
    roles, parts = np.asarray(role), np.asarray(part)
    if not len(truth) == len(roles) == len(parts):
        raise RepairError(
            f"there are {len(truth)} labels, {len(roles)} roles and {len(parts)} parts: "
            "give one of each for every test example"
        )
    return before, after, truth, roles, parts


def is_right(predictions: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """(n,) whether the class, or every attribute, is the predicted one."""
    same = predictions == labels
    return np.asarray(same.all(axis=1) if same.ndim == 2 else same, dtype=bool)


def attribute_recalls(
    predictions: NDArray[Any], labels: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each of k attributes, the share found among the examples that have it, and left out among the others.

    Args:
        predictions, labels: (n, k) zeros and ones.

    Returns:
        (k,) and (k,) in [0, 1], NaN without such examples.
    """
    present, hit = labels > 0, predictions == labels
    return _ratio((hit & present).sum(axis=0), present.sum(axis=0)), _ratio(
        (hit & ~present).sum(axis=0), (~present).sum(axis=0)
    )


def per_class_table(
    base_predictions: ArrayLike,
    repaired_predictions: ArrayLike,
    labels: ArrayLike,
    noisy_classes: Collection[int],
    class_names: Sequence[str],
) -> pd.DataFrame:
    """One row for each class: how it fared, on whichever n examples are given.

    Args:
        base_predictions, repaired_predictions, labels: (n,) class numbers.
        noisy_classes: the classes whose training examples were corrupted.
        class_names: one name for each class, in the order of the class numbers.

    Returns:
        Columns class, noisy (bool), examples, before, after (accuracy within the class, NaN without
        examples), change, fixed and broken (counts).

    Raises:
        RepairError: if lengths differ or a class number is out of range.
    """
    n_classes = len(class_names)
    before, after, truth = class_numbers(n_classes, base_predictions, repaired_predictions, labels)
    base_right, repaired_right = before == truth, after == truth
    table = pd.DataFrame(
        {
            "class": [str(name) for name in class_names],
            "noisy": np.isin(np.arange(n_classes), list(noisy_classes)),
            "examples": np.bincount(truth, minlength=n_classes),
            "before": _recalls(base_right, truth, n_classes),
            "after": _recalls(repaired_right, truth, n_classes),
            "fixed": np.bincount(truth[~base_right & repaired_right], minlength=n_classes),
            "broken": np.bincount(truth[base_right & ~repaired_right], minlength=n_classes),
        }
    )
    table.insert(5, "change", table["after"] - table["before"])
    return table


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """(n_classes, n_classes) counts of examples: rows are the true class, columns the predicted one.

    Raises:
        RepairError: if lengths differ, a class number is out of range, or there are more than 5,000 classes.
    """
    if n_classes > MOST_CLASSES:
        raise RepairError(
            f"a confusion matrix of {n_classes:,} classes has {n_classes**2:,} entries: "
            f"count the confusions of at most {MOST_CLASSES:,} classes"
        )
    truth, predicted = class_numbers(n_classes, labels, predictions)
    counts = np.bincount(truth * n_classes + predicted, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes).astype(np.int64)


def _accuracies(
    recalls: NDArray[np.float64],
    right: NDArray[np.bool_],
    groups: dict[str, NDArray[np.bool_]],
    noisy: list[int],
) -> Accuracies:
    is_noisy = np.isin(np.arange(len(recalls)), noisy)
    present = recalls[~np.isnan(recalls)]
    return {
        "all": _mean(present),
        "clean_classes": _mean(recalls[~is_noisy & ~np.isnan(recalls)]),
        "noisy_classes": _mean(recalls[is_noisy & ~np.isnan(recalls)]),
        "worst_class": float(present.min()) if len(present) else None,
        **{name: _mean(right[members]) for name, members in groups.items()},
    }


def _within_classes(
    predictions: NDArray[Any], labels: NDArray[Any], members: NDArray[np.bool_], n_classes: int
) -> NDArray[np.float64]:
    """(n_classes,) accuracy within each class, or of each attribute, on these examples."""
    same = (predictions == labels)[members]
    if labels.ndim == 1:
        return _recalls(same, labels[members], n_classes)
    return _ratio(same.sum(axis=0), np.full(n_classes, len(same)))


def _recalls(right: NDArray[np.bool_], truth: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """(n_classes,) accuracy within each class, NaN without examples."""
    return _ratio(np.bincount(truth[right], minlength=n_classes), np.bincount(truth, minlength=n_classes))


def _ratio(hits: NDArray[np.integer], examples: NDArray[np.integer]) -> NDArray[np.float64]:
    """hits / examples, NaN for 0/0."""
    return np.where(examples > 0, hits / np.maximum(examples, 1), np.nan)


def _mean(values: NDArray[np.generic]) -> float | None:
    return float(np.mean(values.astype(np.float64))) if len(values) else None


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def _labels(n_classes: int, *arrays: ArrayLike) -> list[NDArray[Any]]:
    """Class numbers, or (n, n_classes) attributes, checked."""
    labels = [np.asarray(array) for array in arrays]
    if all(array.ndim < 2 for array in labels):
        return [*class_numbers(n_classes, *labels)]
    shape = (len(labels[0]), n_classes)
    if any(array.shape != shape for array in labels):
        raise RepairError(
            f"predictions and labels have shapes {', '.join(str(array.shape) for array in labels)}: "
            f"give {n_classes} attributes of each for every example"
        )
    return labels


def class_numbers(n_classes: int, *arrays: ArrayLike) -> list[NDArray[np.int64]]:
    """The arrays as class numbers.

    Raises:
        RepairError: if they are not (n,) each, or hold other than whole numbers from 0 to n_classes-1.
    """
    numbers = [np.asarray(array) for array in arrays]
    if any(array.ndim != 1 or len(array) != len(numbers[0]) for array in numbers):
        raise RepairError(
            f"predictions and labels have shapes {', '.join(str(array.shape) for array in numbers)}: "
            "give one class number of each for every example"
        )
    for array in numbers:
        if len(array) and not np.issubdtype(array.dtype, np.integer):
            raise RepairError(
                f"predictions or labels are of type {array.dtype}: give class numbers as whole numbers"
            )
        if len(array) and (array.min() < 0 or array.max() >= n_classes):
            raise RepairError(
                f"predictions or labels hold class numbers from {array.min()} to {array.max()}: "
                f"with {n_classes} classes they must lie between 0 and {n_classes - 1}"
            )
    return [array.astype(np.int64) for array in numbers]
