"""Tables of results, of every benchmark: summarised, written whole, merged, read back, printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from modelrepair.pipeline.artifacts import output_file

RESULTS = Path(__file__).parent / "results"
REPAIRS = ("case", "identification", "treatment", "causes", "uses", "metric")
"""The columns of text of repair.csv."""


def summarise(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row for each combination of the keys, in the order in which they come.

    Args:
        rows: single measurements: the keys' columns, `value` and `seed`.
        keys: what is measured, and of what.

    Returns:
        The keys, and of the values that are there: mean, std (n − 1; NaN for a single one), seeds (how many).
    """
    groups = rows.dropna(subset="value").groupby(list(keys), sort=False)
    # Equal values have a spread of 0, whatever is lost in taking their mean.
    table = groups["value"].agg(mean="mean", std="std").round(10).reset_index()
    return table.assign(seeds=groups["seed"].nunique().to_numpy())


def write(table: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV with four digits; a kill leaves the old file or the new one."""
    with output_file(path) as file:
        table.to_csv(file, index=False, float_format="%.4g")


def read(path: Path, names: Sequence[str]) -> pd.DataFrame:
    """The table of a CSV file.

    Args:
        path: the file.
        names: columns of text, in which nothing is the empty text; in the others it is NaN.
    """
    kinds = dict.fromkeys(names, str)
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=[""])
    return table.fillna(dict.fromkeys(names, ""))


def merge(table: pd.DataFrame, path: Path, *, names: Sequence[str], by: Sequence[str]) -> pd.DataFrame:
    """The table with those rows of the file that it does not replace, sorted by all names.

    Args:
        table: new rows.
        path: of a file with the same columns, which need not be there.
        names: columns of text.
        by: those of them that say what a row belongs to: old rows that belong to what has new ones are dropped.
    """
    parts = [table]
    if path.is_file():
        old = read(path, names)
        replaced = pd.MultiIndex.from_frame(old[list(by)]).isin(pd.MultiIndex.from_frame(table[list(by)]))
        parts.insert(0, old[~replaced].reindex(columns=table.columns))
    whole = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return whole.sort_values(list(names), ignore_index=True)


def spread(mean: float, std: float, digits: int = 1) -> str:
    """`mean ± std`, or the mean alone where there is no spread."""
    return f"{mean:.{digits}f}" if pd.isna(std) else f"{mean:.{digits}f} ± {std:.{digits}f}"


def show(table: pd.DataFrame, title: str) -> None:
    """Print the table under a title; what is not there is blank."""
    print(f"\n{title}\n{table.to_string(index=False, na_rep='', float_format='{:.4g}'.format)}")


def over_seeds(table: pd.DataFrame) -> str:
    """What a number of the table is, in words."""
    seeds = int(table["seeds"].max())
    return f"mean and standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
