"""The rows of a user's own table: of which class each is, and whether it is for training or for testing."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings import listed, named, shown
from modelrepair.settings.data import RowsSettings
from modelrepair.sources.base import drawn_for_testing

SIDES = ("train", "test")


def read_rows(path: Path) -> pd.DataFrame:
    """The table in a file, with its columns named by texts.

    Raises:
        RepairError: if it cannot be read as one.
    """
    try:
        content = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, low_memory=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RepairError(
            f"{path} cannot be read as a table ({' '.join(str(error).split())[:200]}): give CSV with a line of names "
            "at its head, gzipped or not, or Parquet with the ending .parquet"
        ) from None
    content.columns = content.columns.map(str)
    return content.reset_index(drop=True)


def expect_columns(content: pd.DataFrame, wanted: Sequence[str], path: Path, settings: str) -> None:
    """Nothing if the table has these columns.

    Args:
        content: the table.
        wanted: names.
        path: of the table, for messages.
        settings: which name them, in words, likewise.

    Raises:
        RepairError: if one is not there; names those that are.
    """
    for name in wanted:
        if name not in content:
            separated = "; columns are separated by commas" if len(content.columns) == 1 else ""
            raise RepairError(
                f"{path} has no column {named(name)}, only {listed(content)}: name one that it has in "
                f"{settings}{separated}"
            )


def classes_of(content: pd.DataFrame, label: str, path: Path) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Names of the classes, in order of their values, and (n,) the number of each row's.

    Args:
        content: the table.
        label: name of the column that holds the class.
        path: of the table, for messages.

    Raises:
        RepairError: if a row has none, or the column holds no classes.
    """
    column: pd.Series[Any] = content[label]
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


def is_for_testing(
    settings: RowsSettings,
    content: pd.DataFrame,
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    seed: int,
    path: Path,
) -> NDArray[np.bool_]:
    """(n,) what is for testing, as the column `split` says, or a random part of every class.

    Args:
        settings: name the column, or how large the part is.
        content: the table.
        labels: (n,) class numbers.
        classes: their names.
        seed: of the drawing.
        path: of the table, for messages.

    Raises:
        RepairError: if a row is on neither side, or a side has none of a class.
    """
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
