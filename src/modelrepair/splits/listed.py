"""The failures that a person lists, with the label that each should have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import class_number, label_array
from modelrepair.errors import RepairError
from modelrepair.lists import expect_values, read_list, whole_number

EXAMPLE, FILE, ROW, LABEL = "example", "file", "row", "label"


def listed_failures(
    path: Path, table: pd.DataFrame, classes: Sequence[str]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which test examples a CSV file lists, and the labels of all, in which those of the list are as it says.

    The file has a column `label`, the name or number of the right class, and a column `example` with the number of a
    test example, a column `file` with its name as in `data/original/test.parquet`, or, where test examples are rows of
    a table, a column `row` with the number of one, counted from 1 below the head.

    Args:
        path: of the file.
        table: a row for each test example: `example`, `label`, `file` where they are files, `row` where they are rows
            of a table, and `is_triggered` where copies with a trigger are among them, which no name means.
        classes: names of the classes.

    Returns:
        (t,) truth values, and (t,) class numbers, row by row.

    Raises:
        RepairError: if there is no such file, it names an example or a label that is not there, or names one twice with
            different labels; or if the examples have attributes, or are no files and named as such.
    """
    labels = label_array(table["label"]).copy()
    if labels.ndim == 2:
        raise RepairError(
            f"{path} gives each failure one class, and these examples have attributes: set failures.file to null"
        )
    columns, lines = read_list(
        path,
        column=LABEL,
        of="failure",
        missing="which lists the failures: write it, or set failures.file to null",
    )
    by_row = {ROW} if ROW in table else set()
    named = [name for name in columns if name in {EXAMPLE, FILE, *by_row}]
    if len(named) != 1:
        raise RepairError(
            f"{path} has the columns {', '.join(columns)}: give {LABEL}, and either {EXAMPLE}, the number of a test "
            f"example, or {FILE}, its name{f', or {ROW}, that of the table' if by_row else ''}"
        )
    [column] = named
    if column not in table:
        raise RepairError(
            f"{path} names files, and these test examples are none: give their numbers, as {EXAMPLE}"
        )
    if not lines:
        raise RepairError(
            f"{path} lists no failures: give one test example in each row below {', '.join(columns)}"
        )

    originals = (
        ~table["is_triggered"].to_numpy(bool) if "is_triggered" in table else np.ones(len(table), dtype=bool)
    )
    positions = {table[column].iloc[row]: int(row) for row in np.flatnonzero(originals)}
    names = {name.strip(): name for name in classes}
    place, first = columns.index(column), dict[int, int]()
    for line in lines:
        expect_values(line, columns, len(columns), path)
        given = line.values[place]
        key = given if column == FILE else whole_number(line, place, column, path)
        if key not in positions:
            what = {
                EXAMPLE: f"number from 0 to {int(originals.sum()) - 1}",
                FILE: "name, as in test.parquet",
                ROW: "row, as in test.parquet",
            }[column]
            raise RepairError(
                f"line {line.number} of {path} lists {given[:80]!r}, which is no test example: give its {what}"
            )
        label = line.values[columns.index(LABEL)]
        try:
            number = class_number(names.get(label, label), classes)
        except RepairError as error:
            raise RepairError(f"line {line.number} of {path}: {error}") from None
        position = positions[key]
        if position in first and labels[position] != number:
            raise RepairError(
                f"lines {first[position]} and {line.number} of {path} differ on {given[:80]!r}: leave one of them"
            )
        first.setdefault(position, line.number)
        labels[position] = number
    listed = np.zeros(len(table), dtype=bool)
    listed[list(first)] = True
    return listed, labels
