"""A table of results in Markdown: which rows of a CSV file its cells show, and how a number is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from modelrepair.errors import RepairError
from results_table import RESULTS, read, spread

Where = Mapping[str, str | float | re.Pattern[str]]
Cell = Callable[[pd.Series], str]


@dataclass(frozen=True)
class Column:
    """One column of numbers.

    Attributes:
        heading: above it.
        where: which of the results' rows it shows, together with the table's row: values of their columns, or patterns
            of whole ones.
        cell: what it shows of that row.
        beside: values of columns that another row has; shown is then whether the mean of the first is lower or higher.
    """

    heading: str
    where: Where
    cell: Cell
    beside: Where | None = None

    def text(self, results: pd.DataFrame, row: Row) -> str:
        where = {**row.where, **self.where}
        if self.beside is None:
            return _cell(results, where, self.cell)
        own, other = (
            _cell(results, {**where, **which}, lambda found: repr(float(found["mean"])))
            for which in ({}, self.beside)
        )
        if not (own and other) or float(own) == float(other):
            return ""
        return "worse" if float(own) < float(other) else "better"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        labels: at its left, one for each of the table's labels.
        where: as of a column.
    """

    labels: tuple[str, ...]
    where: Where


@dataclass(frozen=True)
class Table:
    """What stands in a table.

    Attributes:
        file: in `results`.
        names: the file's columns of text.
        labels: headings of the rows' labels.
        columns: of numbers.
        rows: in their order.
        above: headings that stand above those of the labels and columns, if the columns come in groups.
    """

    file: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    above: tuple[str, ...] = ()

    def markdown(self) -> str:
        results = read(RESULTS / self.file, self.names)
        headings = [*self.labels, *(column.heading for column in self.columns)]
        lines = [_line(self.above or headings), "|" + "---|" * len(headings)]
        if self.above:
            lines.append(_line(headings))
        for row in self.rows:
            cells = [column.text(results, row) for column in self.columns]
            if any(cells):
                lines.append(_line([*row.labels, *cells]))
        return "\n".join(lines) + "\n"


def by_metric(headings: Mapping[str, str], cell: Cell, case: str) -> tuple[Column, ...]:
    """A column for each metric of a case, by the metrics' names with what stands above."""
    return tuple(Column(heading, {"case": case, "metric": name}, cell) for name, heading in headings.items())


def mean_and_spread(digits: int) -> Cell:
    return lambda row: spread(row["mean"], row["std"], digits)


def number(name: str, digits: int = 1) -> Cell:
    """A column's value with so many decimals; nothing where it is not there."""
    return lambda row: "" if pd.isna(row[name]) else f"{row[name]:.{digits}f}"


def cost(name: str, extrapolated: str) -> Cell:
    """Two digits, or all before the point; a mark on routes that match the pattern."""

    def cell(row: pd.Series) -> str:
        if pd.isna(row[name]):
            return ""
        text = f"{row[name]:,.0f}" if row[name] >= 10 else f"{row[name]:.2g}"
        return f"{text} ¹" if re.fullmatch(extrapolated, row["route"]) else text

    return cell


def power_of_ten(name: str) -> Cell:
    """One digit and the power; nothing where the value is not there."""

    def cell(row: pd.Series) -> str:
        digit, exponent = f"{row[name]:.0e}".split("e") if not pd.isna(row[name]) else ("", "")
        return f"{digit}e{int(exponent)}" if digit else ""

    return cell


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(results: pd.DataFrame, where: Where, cell: Cell) -> str:
    """What is shown of the one row where the columns have these values; nothing if there is none."""
    chosen = pd.Series(True, index=results.index)
    for name, value in where.items():
        column = results[name]
        chosen &= column.str.fullmatch(value) if isinstance(value, re.Pattern) else column == value
    if chosen.sum() > 1:
        raise RepairError(
            f"{int(chosen.sum())} rows of the results have {dict(where)}: say more of the one to show"
        )
    return "".join(cell(row) for _, row in results[chosen].iterrows())
