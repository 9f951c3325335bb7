"""Classes as people write them in parameters, and what stratifying by class means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError

_FURTHER_LABELS = "labels: "


def class_number(name: object, classes: Sequence[str]) -> int:
    """The number of a class given by its name or its number, as text or integer; the name goes first.

    Raises:
        RepairError: if the data lack that class; names the ones there are.
    """
    text = str(name)
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    shown = ", ".join(classes[:20]) + (", …" if len(classes) > 20 else "")
    raise RepairError(
        f"the data have no class {text!r}: choose from {shown}, or a number below {len(classes)}"
    )


def strata(labels: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """(class, positions of its examples in order), class by class.

    Args:
        labels: (n,) class numbers; (n, k) attributes have no classes, so all n are one stratum, 0.
    """
    if labels.ndim == 2:
        yield 0, np.arange(len(labels))
        return
    for number in np.unique(labels):
        yield int(number), np.flatnonzero(labels == number)


def label_column(labels: NDArray[Any]) -> pd.Series[Any]:
    """Labels as a table's column: class numbers, or a list of k attributes for each example."""
    return pd.Series(list(labels) if labels.ndim == 2 else labels)


def label_array(column: pd.Series[Any]) -> NDArray[Any]:
    """(n,) class numbers or (n, k) attributes from a table's column; undoes `label_column`."""
    values = column.to_numpy()
    return np.stack(list(values)) if values.dtype == object and len(values) else values


def further_label_column(name: str) -> str:
    """What a column of a table of further labels is called in the table of training examples."""
    return f"{_FURTHER_LABELS}{name}"


def without_further_labels(table: pd.DataFrame) -> pd.DataFrame:
    """A table of training examples without such columns."""
    return table.drop(columns=[name for name in table if str(name).startswith(_FURTHER_LABELS)])


def names_of(labels: NDArray[Any], classes: Sequence[str]) -> list[tuple[str, ...]]:
    """For each example the name of its class, or of the attributes that it has.

    Args:
        labels: (n,) class numbers, or (n, k) attributes, present above 0.5.
        classes: names of the classes or attributes.
    """
    if labels.ndim == 2:
        return [tuple(classes[int(number)] for number in np.flatnonzero(row > 0.5)) for row in labels]
    # One for each class, so that a million examples hold no million of them.
    named = [(name,) for name in classes]
    return [named[int(number)] for number in labels]
