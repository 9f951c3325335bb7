"""The causes that a person lists."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.selection.rules import Positions, Selection
from modelrepair.settings.selection import ListedSettings

COLUMN = "example"


class Listed(ListedSettings, Selection):
    """The examples that a person lists."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        path = Path(self.file)
        wanted = list(dict.fromkeys(read_examples(path)))
        position = pd.Series(np.arange(len(table)), index=table["example"].to_numpy())
        absent = [example for example in wanted if example not in position.index]
        if absent:
            raise RepairError(
                f"{path} lists example {absent[0]}, and {len(absent) - 1} more, that the model was not trained on: "
                "list examples of the training split"
            )
        return np.asarray(position.loc[wanted], dtype=np.int64)


def read_examples(path: Path) -> list[int]:
    """The numbers in the column `example` of a CSV file with commas, in order.

    A request erases what it names, so nothing is guessed: every row must have the columns of the first, and a whole
    number where the example stands. Empty values behind the last column are passed over, as spreadsheets write them.

    Raises:
        RepairError: if there is no such file, or it is anything else; names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(reader.line_num, row) for reader in [csv.reader(file, strict=True)] for row in reader]
    except FileNotFoundError:
        raise RepairError(
            f"there is no file {path}, which lists the causes: write it, or choose another selection"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RepairError(
            f"{path} cannot be read as a CSV file ({error}): give one with a column {COLUMN}"
        ) from None
    filled = [(line, [value.strip() for value in row]) for line, row in rows if any(map(str.strip, row))]
    if not filled:
        raise RepairError(f"{path} is empty: give a column {COLUMN} with one training example in each row")
    columns = filled[0][1]
    if columns.count(COLUMN) != 1:
        separated = "; separate columns by commas" if any(mark in columns[0] for mark in ";\t|") else ""
        raise RepairError(
            f"{path} has the columns {', '.join(columns)}: give one column {COLUMN} in the first line{separated}"
        )
    place = columns.index(COLUMN)
    examples = []
    for line, row in filled[1:]:
        if any(row[len(columns) :]) or len(row) <= place:
            raise RepairError(
                f"line {line} of {path} has {len(row)} values for {len(columns)} columns: give it as many, or put "
                "values with commas into quotes"
            )
        if not row[place].isascii() or not row[place].isdigit() or len(row[place]) > 18:
            raise RepairError(
                f"line {line} of {path} has {row[place][:40]!r} in the column {COLUMN}: give a whole number"
            )
        examples.append(int(row[place]))
    if not examples:
        raise RepairError(f"{path} lists no causes: give one training example in each row below {COLUMN}")
    return examples
