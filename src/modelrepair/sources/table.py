"""A user's own table: a row for each example, a column for its class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings import listed, named, shown
from modelrepair.settings.data import TableSettings
from modelrepair.sources.base import Dataset, drawn_per_class
from modelrepair.sources.rows import classes_of, expect_columns, is_for_testing, read_rows

ROW = "row"
"""The column by which an example is found again in the file, counted from 1 behind the head."""
MOST_WORDS = 100
"""A column with more different words is a name, a date or a text rather than a feature."""


def table(settings: TableSettings, seed: int, _: Path | None) -> Dataset:
    """The rows of `file`; a column of numbers or truth values is a feature, and of words each is one of 0 and 1.

    Mean, deviation and the words of a column are those of its training rows: nothing is learned from test rows.
    """
    path = Path(settings.file)
    content = read_rows(path)
    columns = _columns(settings, content, path)
    classes, labels = classes_of(content, settings.label, path)
    is_test = is_for_testing(settings, content, labels, classes, seed, path)
    drawn = drawn_per_class(labels[~is_test], settings.training_per_class, seed, str(path))
    taken = np.flatnonzero(~is_test)[drawn]
    inputs = _features(content[columns], taken, settings.standardised, path)
    rows = np.arange(1, len(content) + 1)
    return Dataset(
        inputs[taken],
        labels[taken],
        inputs[is_test],
        labels[is_test],
        classes,
        f"{len(taken):,} training and {int(is_test.sum()):,} test rows of {path.name}",
        drawn,
        train_columns={ROW: rows[taken].tolist()},
        test_columns={ROW: rows[is_test].tolist()},
    )


def _columns(settings: TableSettings, content: pd.DataFrame, path: Path) -> list[str]:
    """Those that are features."""
    apart = [settings.label, *([settings.split] if settings.split is not None else [])]
    wanted = settings.columns or [name for name in content.columns if name not in apart]
    expect_columns(content, [*apart, *wanted], path, "label, split or columns")
    if not wanted or set(wanted) & set(apart):
        raise RepairError(
            f"the features of {path} are {listed(wanted)}, and the column {named(settings.label)} is the class: name "
            "in columns at least one other"
        )
    return wanted


def _features(
    content: pd.DataFrame, training: NDArray[np.int64], standardised: bool, path: Path
) -> NDArray[np.float32]:
    """(n, features)."""
    parts = []
    for name in content:
        column = content[name]
        if (absent := column.isna()).any():
            raise RepairError(
                f"row {np.flatnonzero(absent)[0] + 1} of {path} has nothing in its column {named(name)}: fill it, "
                "leave the row out, or name in columns those that are whole"
            )
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            words = column.astype(str).to_numpy()
            known = np.unique(words[training])
            if len(known) > MOST_WORDS:
                raise RepairError(
                    f"the column {named(name)} of {path} holds {len(known):,} different words, such as "
                    f"{shown(known[0])}: make numbers of it, or name in columns the others"
                )
            parts.append((words[:, None] == known).astype(np.float64))
            continue
        numbers = column.to_numpy(dtype=np.float64)
        if len(infinite := np.flatnonzero(~np.isfinite(numbers))):
            raise RepairError(
                f"row {infinite[0] + 1} of {path} has {numbers[infinite[0]]} in its column {named(name)}: give a number"
            )
        if standardised:
            deviation = numbers[training].std()
            numbers = (numbers - numbers[training].mean()) / (deviation if deviation > 0 else 1.0)
        parts.append(numbers[:, None])
    return np.concatenate(parts, axis=1).astype(np.float32)
