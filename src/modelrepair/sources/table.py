"""A user's own table: a row for each example, a column for its class."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings import listed, named, shown
from modelrepair.settings.data import TableSettings
from modelrepair.sources.base import Dataset, drawn_for_testing, drawn_per_class

ROW = "row"
"""The column by which an example is found again in the file, counted from 1 behind the head."""
MOST_WORDS = 100
"""A column with more different words is a name, a date or a text rather than a feature."""
SIDES = ("train", "test")


def table(settings: TableSettings, seed: int, _: Path | None) -> Dataset:
    """The rows of `file`; a column of numbers or truth values is a feature, and of words each is one of 0 and 1.

    Mean, deviation and the words of a column are those of its training rows: nothing is learned from test rows.
    """
    path = Path(settings.file)
    content = _read(path)
    columns = _columns(settings, content, path)
    classes, labels = _classes(content[settings.label], path)
    is_test = _is_test(settings, content, labels, classes, seed, path)
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


def _read(path: Path) -> pd.DataFrame:
    try:
        content = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, low_memory=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RepairError(
            f"{path} cannot be read as a table ({' '.join(str(error).split())[:200]}): give CSV with a line of names "
            "at its head, gzipped or not, or Parquet with the ending .parquet"
        ) from None
    content.columns = content.columns.map(str)
    return content.reset_index(drop=True)


def _columns(settings: TableSettings, content: pd.DataFrame, path: Path) -> list[str]:
    """Those that are features."""
    apart = [settings.label, *([settings.split] if settings.split is not None else [])]
    wanted = settings.columns or [name for name in content.columns if name not in apart]
    for name in (*apart, *wanted):
        if name not in content:
            separated = "; columns are separated by commas" if len(content.columns) == 1 else ""
            raise RepairError(
                f"{path} has no column {named(name)}, only {listed(content)}: name one that it has in label, split or "
                f"columns{separated}"
            )
    if not wanted or set(wanted) & set(apart):
        raise RepairError(
            f"the features of {path} are {listed(wanted)}, and the column {named(settings.label)} is the class: name "
            "in columns at least one other"
        )
    return wanted


def _classes(column: pd.Series[Any], path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes, in order of their values, and the number of each row's."""
    if (absent := column.isna()).any():
        raise RepairError(
            f"row {np.flatnonzero(absent)[0] + 1} of {path} has nothing in its column {named(column.name)}: give each "
            "row a class, or leave it out"
        )
    numbers = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    if numbers and (column % 1 != 0).any():
        value = column[column % 1 != 0].iloc[0]
        raise RepairError(
            f"the column {named(column.name)} of {path} holds {value:g}: give classes, which are words or whole numbers"
        )
    values = column.astype("int64") if numbers else column.astype(str)
    kinds, labels = np.unique(values.to_numpy(), return_inverse=True)
    if not 1 < len(kinds) <= max(2, len(column) // 2):
        raise RepairError(
            f"the column {named(column.name)} of {path} holds {len(kinds):,} classes in {len(column):,} rows: name as "
            "label a column with two classes or more, and some rows of each"
        )
    return tuple(map(str, kinds)), labels.astype(np.int64)


def _is_test(
    settings: TableSettings,
    content: pd.DataFrame,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    seed: int,
    path: Path,
) -> NDArray[np.bool_]:
    """(n,) what is for testing, as the column `split` says, or a random part of every class."""
    if settings.split is None:
        return drawn_for_testing(labels, settings.test_fraction, classes, seed, "rows", str(path))
    side = content[settings.split].astype(str).str.strip()
    if len(other := np.flatnonzero(~side.isin(SIDES))):
        raise RepairError(
            f"row {other[0] + 1} of {path} has {shown(side[other[0]])} in its column {named(settings.split)}: give "
            "train or test"
        )
    for name in SIDES:
        missing = set(range(len(classes))) - set(labels[side == name].tolist())
        if missing:
            raise RepairError(
                f"{path} has no {name} row of the class {named(classes[min(missing)])}: give one at least"
            )
    return (side == "test").to_numpy()


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
