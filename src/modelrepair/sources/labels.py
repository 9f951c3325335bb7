"""Further labels of the training examples, from a table beside the data set."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.settings import listed, named, shown
from modelrepair.settings.data import LabelsSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.files import file_name

FILE = "file"


def further_labels(settings: LabelsSettings, data: Dataset) -> dict[str, NDArray[np.int64]]:
    """By the names of the columns that are asked for, (n,) class numbers of the training examples.

    Raises:
        RepairError: if the table cannot be read, lacks a column, an example or a label, names a class that is not
            there, or has another number of rows than the source has training examples, where rows go by order.
    """
    if data.train_labels.ndim == 2:
        raise RepairError(
            f"labels.file {settings.file} gives a class to each example, but these data have attributes: leave labels "
            "out"
        )
    table = _read(Path(settings.file), settings.columns, with_files=data.train_files is not None)
    if data.train_files is not None and FILE in table:
        table = _rows_of(data.train_files, table, settings.file)
    elif len(table) != len(data.drawn):
        raise RepairError(
            f"{settings.file} has {len(table):,} rows and the data have {len(data.drawn):,} training examples: give a "
            "row for each, in their order, or name image files in a column `file`"
        )
    else:
        table = table[data.drawn]
    return {name: _class_numbers(table[name], data.classes, settings.file) for name in settings.columns}


def _read(path: Path, columns: Sequence[str], *, with_files: bool) -> pd.DataFrame:
    """The columns as text, by the row of the file, counted from 1 behind its head."""
    try:
        present = pd.read_csv(path, dtype=str, nrows=0).columns
        if missing := [name for name in columns if name not in present]:
            raise RepairError(
                f"{path} has no column {named(missing[0])}: it has {listed(present)}, which labels.columns may name"
            )
        wanted = {*columns, *({FILE} & set(present) if with_files else ())}
        table = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=lambda name: name in wanted)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise RepairError(
            f"{path} cannot be read as a CSV table of labels ({' '.join(str(error).split())[:200]}): give one with a "
            "line of names at its head, gzipped or not"
        ) from None
    return table.set_axis(np.arange(1, len(table) + 1))


def _rows_of(files: Sequence[str], table: pd.DataFrame, path: str) -> pd.DataFrame:
    """The rows of these files, in their order."""
    names = table[FILE].str.removeprefix("./")
    if names.duplicated().any():
        raise RepairError(
            f"{path} names {file_name(names[names.duplicated()].iloc[0])} twice: keep one row for each file"
        )
    places = pd.Index(names).get_indexer(pd.Index(files))
    if len(absent := np.flatnonzero(places < 0)):
        raise RepairError(
            f"{path} has no row for {len(absent):,} of {len(files):,} training images, such as "
            f"{file_name(files[absent[0]])}: add them, with names like that in the column `file`"
        )
    return table.iloc[places]


def _class_numbers(column: pd.Series[str], classes: Sequence[str], path: str) -> NDArray[np.int64]:
    numbers = {}
    for text in column.unique():
        try:
            numbers[text] = class_number(text.strip(), classes)
        except RepairError as error:
            row = column.index[column == text][0]
            raise RepairError(
                f"row {row} of {path} has {shown(text)} in its column {named(column.name)}: {error}"
            ) from None
    return column.map(numbers).to_numpy(dtype=np.int64)
