"""Lists that people write: CSV files, of which nothing is guessed."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrepair.errors import RepairError


@dataclass(frozen=True)
class Line:
    """A row of a list: where it stands in the file, and its values, without the spaces around them."""

    number: int
    values: list[str]


def read_list(path: Path, *, column: str, of: str, missing: str) -> tuple[list[str], list[Line]]:
    """The columns of a CSV file with commas and its rows, without those that are empty.

    Args:
        path: the file.
        column: that it must have, once.
        of: what stands in each of its rows, such as "training example", for messages.
        missing: what to say if there is no such file.

    Raises:
        RepairError: if it is missing, cannot be read, is empty, or lacks the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [(reader.line_num, row) for reader in [csv.reader(file, strict=True)] for row in reader]
    except FileNotFoundError:
        raise RepairError(f"there is no file {path}, {missing}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RepairError(
            f"{path} cannot be read as a CSV file ({error}): give one with a column {column}"
        ) from None
    filled = [Line(line, [value.strip() for value in row]) for line, row in rows if any(map(str.strip, row))]
    if not filled:
        raise RepairError(f"{path} is empty: give a column {column} with one {of} in each row")
    columns = filled[0].values
    if columns.count(column) != 1:
        separated = "; separate columns by commas" if any(mark in columns[0] for mark in ";\t|") else ""
        raise RepairError(
            f"{path} has the columns {', '.join(columns)}: give one column {column} in the first line{separated}"
        )
    return columns, filled[1:]


def expect_values(line: Line, columns: Sequence[str], needed: int, path: Path) -> None:
    """Nothing if a row has values for its first `needed` columns and none behind the last.

    Empty values behind the last column are passed over, as spreadsheets write them.

    Raises:
        RepairError: if not.
    """
    if any(line.values[len(columns) :]) or len(line.values) < needed:
        raise RepairError(
            f"line {line.number} of {path} has {len(line.values)} values for {len(columns)} columns: give it as many, "
            "or put values with commas into quotes"
        )


def whole_number(line: Line, place: int, column: str, path: Path) -> int:
    """The number that stands in a row at this place.

    Raises:
        RepairError: if there is none.
    """
    text = line.values[place]
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise RepairError(
            f"line {line.number} of {path} has {text[:40]!r} in the column {column}: give a whole number"
        )
    return int(text)
