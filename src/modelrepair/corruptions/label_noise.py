"""Labels given at random, by a confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from modelrepair.corruptions.base import TrainingData
from modelrepair.corruptions.drawing import in_random_order
from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import LabelNoiseSettings

SUM_TOLERANCE = 1e-6


def label_noise(settings: LabelNoiseSettings, data: TrainingData, rng: np.random.Generator) -> TrainingData:
    """Huang et al. 2023, section 4.1: 40 % of the labels of each of two pairs of classes swapped.

    Or labels that are wrong at one rate whatever the class, each other class's as often.
    """
    # Attributes are refused before a matrix of classes is made.
    data.true_classes(settings.kind)
    if settings.uniform is None:
        confusion = confusion_matrix(settings.confusion_matrix, data.classes)
    else:
        confusion = uniform_confusion(settings.uniform, len(data.classes))
    return with_given_labels(data, confusion, settings.kind, rng)


def with_given_labels(
    data: TrainingData, confusion: NDArray[np.float64], kind: str, rng: np.random.Generator
) -> TrainingData:
    """The data with labels given by a confusion matrix, to examples that are not corrupted yet.

    Raises:
        RepairError: if examples have attributes, or too few are left.
    """
    truth, sound = data.true_classes(kind), data.sound
    drawn = corrupt_labels(truth, data.split, confusion, rng, sound=sound, kind=kind)
    marks = sound & (drawn != truth)
    return data.corrupted(marks, labels=np.where(marks, drawn, data.table["label"].to_numpy()))


def uniform_confusion(rate: float, k: int) -> NDArray[np.float64]:
    """(k, k) matrix: every class keeps its label with probability 1 - rate and is given any other's alike."""
    confusion = np.full((k, k), rate / (k - 1))
    np.fill_diagonal(confusion, 1 - rate)
    return confusion


def confusion_matrix(given: object, classes: Sequence[str]) -> NDArray[np.float64]:
    """(k, k) matrix P: an example of class i is given label j with rate P[i, j]; each row sums to 1.

    Args:
        given: either k rows of k rates, or a mapping such as {1: {7: 0.4}}: from
            true class, by name or number, to given classes and their rates. What a row of a mapping lacks
            to 1 stays on the diagonal, unless the row states its diagonal itself.
        classes: k class names.

    Raises:
        RepairError: for a wrong shape, a rate outside [0, 1], a row that does not sum to 1 within 1e-6, or
            a class that the data lack.
    """
    if isinstance(given, Mapping):
        return _from_mapping(given, classes)
    return _from_rows(given, classes)


def corrupt_labels(
    labels: NDArray[np.int64],
    split: NDArray[np.str_],
    confusion: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    sound: NDArray[np.bool_] | None = None,
    kind: str = "label-noise",
) -> NDArray[np.int64]:
    """(n,) given labels: exactly the confusion matrix's share of every class in every split, at random.

    Counts are rounded by largest remainder within each split and true class, so 40 % of 270 is 108 in
    every run. Which examples are drawn from one class does not depend on the rates of another, and with
    one seed a higher rate corrupts the same examples and more.

    Args:
        labels: (n,) true class numbers below k.
        split: (n,) names of splits, each corrupted on its own.
        confusion: (k, k) as from `confusion_matrix`.
        rng: draws the examples.
        sound: (n,) whether an example may be given another label; by default all may. The shares are of all.
        kind: the corruption that asks, for messages.

    Raises:
        RepairError: if too few examples may be given another label.
    """
    given = labels.copy()
    free = np.ones(len(labels), dtype=bool) if sound is None else sound
    for name in np.unique(split):
        for number in range(len(confusion)):
            group = (split == name) & (labels == number)
            others = np.delete(np.arange(len(confusion)), number)
            # The diagonal goes last, so that those who keep their label are the end of the permutation.
            counts = _largest_remainder(confusion[number, np.r_[others, number]], int(group.sum()))[:-1]
            wrong = int(counts.sum())
            given[in_random_order(group, free, wrong, kind, rng)[:wrong]] = np.repeat(others, counts)
    return given


def _from_rows(given: object, classes: Sequence[str]) -> NDArray[np.float64]:
    k = len(classes)
    try:
        confusion = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        confusion = np.empty(0)
    if confusion.shape != (k, k):
        raise RepairError(
            f"confusion_matrix should be {k} rows of {k} rates, one for each class of the data, or a mapping "
            f"such as {{{classes[0]}: {{{classes[-1]}: 0.4}}}}, not {_shape(given)}"
        )
    for number, row in enumerate(confusion):
        for rate in row:
            _check_rate(float(rate), number, classes)
        _check_sum(float(row.sum()), number, classes)
    return confusion


def _from_mapping(given: Mapping[object, object], classes: Sequence[str]) -> NDArray[np.float64]:
    confusion = np.eye(len(classes))
    seen: set[int] = set()
    for name, rates in given.items():
        row = class_number(name, classes)
        if not isinstance(rates, Mapping):
            raise RepairError(
                f"confusion_matrix of class {name} is {rates!r}: give given classes with their rates, such as "
                f"{{{classes[0]}: 0.4}}"
            )
        columns = {class_number(column, classes): rate for column, rate in rates.items()}
        if row in seen or len(columns) < len(rates):
            raise RepairError(
                f"confusion_matrix names a class twice, in or as the row of class {name}: name each class once, "
                "by its name or by its number"
            )
        seen.add(row)
        for rate in columns.values():
            _check_rate(rate, row, classes)
        total = sum(columns.values())
        if row in columns or total > 1:
            _check_sum(total, row, classes)
        confusion[row, row] = max(0.0, 1 - total)
        for column, rate in columns.items():
            confusion[row, column] = rate
    return confusion


def _check_rate(rate: object, row: int, classes: Sequence[str]) -> None:
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= float(rate) <= 1:
        raise RepairError(
            f"confusion_matrix has the rate {rate!r} in the row of class {classes[row]}: rates are numbers from "
            "0 to 1"
        )


def _check_sum(total: float, row: int, classes: Sequence[str]) -> None:
    if abs(total - 1) > SUM_TOLERANCE:
        raise RepairError(
            f"the confusion_matrix row of class {classes[row]} sums to {total:.7g}: its rates should sum to 1"
        )


def _shape(given: object) -> str:
    if not isinstance(given, list | tuple):
        return repr(given)
    lengths = sorted({len(row) if isinstance(row, list | tuple) else 0 for row in given})
    return f"{len(given)} rows of {' or '.join(map(str, lengths)) or 'no'} rates"


def _largest_remainder(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers that sum to `total`, each its share of it rounded down or up; ties go to the last."""
    exact = shares / shares.sum() * total
    counts: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    # Rounded, so that shares which are equal but for the last binary digit tie on every machine.
    remainders = np.round(exact - counts, 9)[::-1]
    missing = total - int(counts.sum())
    counts[::-1][np.argsort(-remainders, kind="stable")[:missing]] += 1
    return counts
