"""The tables of results in the documentation, made from the CSV files: nobody types them.

    python benchmarks/tables.py            # say which differ from the results, status 1 if any does
    python benchmarks/tables.py --write    # fill them

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, NAME being one of `TABLES`. A row that has no results
yet is left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from markdown_tables import Column, Row, Table, cost, mean_and_spread, number, power_of_ten
from modelrepair.errors import RepairError
from modelrepair.settings import choose
from tables_of_curves import TABLES_OF_CURVES
from tables_of_facts import TABLES_OF_FACTS
from tables_of_other_data import TABLES_OF_OTHER_DATA
from tables_of_parts import TABLES_OF_PARTS
from tables_of_repairs import TABLES_OF_REPAIRS
from tables_of_updates import TABLES_OF_UPDATES

PROJECT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def erased(label: str, method: str) -> Row:
    return Row((label,), {"method": method})


def erasures(fraction: float, what: str) -> tuple[Column, ...]:
    """δ of a class or a part of it, and differences in accuracy to the retrained model in percentage points."""
    metrics = (
        (f"δ, {what}", "normalised_confusion_distance", mean_and_spread(2)),
        ("Δ erased", "accuracy_difference:erased_train", number("mean")),
        ("Δ others", "accuracy_difference:retained_test", number("mean")),
    )
    return tuple(
        Column(heading, {"fraction": fraction, "metric": metric}, cell) for heading, metric, cell in metrics
    )


def route(label: str, pattern: str) -> Row:
    return Row((label,), {"route": re.compile(pattern)})


def solves(network: str, count: int) -> tuple[Column, ...]:
    """Costs and residual of routes to F̂⁻¹v. Where only seconds were extrapolated, memory was measured."""
    where = {"network": network, "n": count}
    return (
        Column("seconds", where, cost("seconds", r".* \(extrapolated\)")),
        Column("MiB", where, cost("peak_mib", r"nngeometry \(extrapolated\)")),
        Column("residual", where, power_of_ten("residual")),
    )


TABLES = {
    **TABLES_OF_REPAIRS,
    **TABLES_OF_FACTS,
    **TABLES_OF_CURVES,
    **TABLES_OF_OTHER_DATA,
    **TABLES_OF_UPDATES,
    **TABLES_OF_PARTS,
    "erasure": Table(
        file="erasure.csv",
        names=("dataset", "model", "method", "erased", "metric"),
        labels=("method, with its step chosen on five other classes ²",),
        columns=(*erasures(1, "all of a class"), *erasures(0.5, "half of it")),
        rows=(
            erased("nothing", "original"),
            erased("SSSE, exact Fisher, λ = 10⁻⁴ (`erase`)", "ssse damping 1e-4, five proxies"),
            erased("SSSE, exact Fisher, λ = 10⁻³", "ssse, five proxies"),
            erased("SSSE, gradients of 10 images", "ssse mini-batches of 10, five proxies"),
            erased("SSSE, a block a layer", "ssse block, five proxies"),
            erased("gradient ascent", "gradient ascent, five proxies"),
            erased("scrubbing", "scrubbing, five proxies"),
        ),
    ),
    "curvature": Table(
        file="curvature.csv",
        names=("network", "route"),
        labels=("",),
        columns=(*solves("lenet5", 2700), *solves("resnet20", 4500)),
        rows=(
            route("**modelrepair, exact**", "gram"),
            route("nngeometry, low-rank", r"nngeometry( \(.*)?"),
            route("nngeometry's gradients, Woodbury by hand", "nngeometry-gram"),
            route("curvlinops, conjugate gradients", "curvlinops.*"),
            route("rank-one recurrence in blocks, as SSSE", "recurrence.*"),
            route("forward and backward passes alone", "forward.*"),
            route("floor: operations at the speed of a matrix product", "floor"),
        ),
        above=(
            "route",
            "LeNet-5, 2,700 gradients",
            "",
            "",
            "ResNet-20, 4,500 gradients of 10 images",
            "",
            "",
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="fill the tables instead of comparing them")
    options = parser.parse_args()
    try:
        differing = [
            file for file in documents() if filled(file.read_text(encoding="utf-8")) != file.read_text()
        ]
        for file in differing if options.write else ():
            file.write_text(filled(file.read_text(encoding="utf-8")), encoding="utf-8")
    except RepairError as error:
        sys.exit(str(error))
    if differing and not options.write:
        names = ", ".join(str(file.relative_to(PROJECT)) for file in differing)
        sys.exit(f"tables in {names} are not those of the results: run `python benchmarks/tables.py --write`")


def documents() -> list[Path]:
    """The files that may hold tables."""
    return [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]


def filled(text: str) -> str:
    """A document with its tables as the results are.

    Raises:
        RepairError: if it names a table that is not there.
    """
    return MARKED.sub(
        lambda found: f"{found[1]}{choose('table', TABLES, found[2]).markdown()}{found[4]}", text
    )


if __name__ == "__main__":
    main()
