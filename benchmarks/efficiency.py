"""How few failures, or clean examples, are enough (Tanno et al. 2022, Fig. 6; Huang et al. 2023, Table 11).

    python benchmarks/efficiency.py                               # the pairs below, on mnist-label-lenet
    python benchmarks/efficiency.py pairs-25 --failures ewc/ewc --reserved bir/bir --counts 10 100 --seeds 1

Pairs of an identification and a treatment are given a random part of the failures, `failures.most_queries`, or of the
reserved examples, `failures.most_reserved`; with one seed, a smaller part is contained in a larger one. How well the
corrupted examples are ranked, and what the repaired model has right, comes from the pipeline itself, which runs in a
working copy of this project whose cache it shares with `repair.py`: a benchmark that was ended goes on where it was.

Writes `benchmarks/results/efficiency.csv`, where a count of `inf` stands for all there are, and `docs/efficiency.png`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cases import ACCURACIES, Run, Runs, read_cases
from modelrepair.errors import RepairError
from modelrepair.evaluation.drawing.canvas import MARGIN, SERIES, picture
from modelrepair.pipeline.artifacts import read_json
from repair import rows_of_run
from results_table import RESULTS, merge, over_seeds, show, summarise, write
from working_copies import WorkingCopies

PROJECT = Path(__file__).parents[1]
CASES = Path(__file__).with_name("cases.yaml")

GIVEN = {"failures": "failures.most_queries", "reserved": "failures.most_reserved"}
"""What there is more or less of, and the parameter that limits it."""
PAIRS = {
    "failures": (
        *("ewc/ewc", "ewc-full/ewc-full", "linear/newton", "linear/ssse", "second-look/mend"),
        # What anybody would do with them.
        *("loss/finetune-failures", "loss/finetune-remaining-failures"),
    ),
    "reserved": ("bir/bir", "bir-loss/bir", "bir/bir-judge", "loss/finetune-reserved"),
}
COUNTS = (10, 20, 30, 50, 100, 200)
METRICS = ("auroc", *ACCURACIES)
SHOWN = {"auroc": "Corrupted examples ranked: AUROC", "holdout": "Failures held out: accuracy (%)"}
ROW = 3.85
"""Inches that a row of panels takes."""
TITLES = {"failures": "failures shown", "reserved": "clean examples"}
NAMES = ["case", "given", "identification", "treatment", "metric"]


@dataclass(frozen=True)
class Point:
    """One run: a pair, what it is given, and at most how many of these.

    Attributes:
        given: one of `GIVEN`.
        count: inf for all there are.
        run: of the pipeline.
    """

    given: str
    count: float
    run: Run


def main() -> None:
    options = parse()
    try:
        table = benchmark(options)
        draw(table[table["case"] == options.case], options.picture)
    except RepairError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it was")
    for metric, title in SHOWN.items():
        part = table[(table["case"] == options.case) & (table["metric"] == metric)]
        show(part.pivot(index=NAMES[1:4], columns="count", values="mean").reset_index(), title)
    print(f"\nwritten to {options.output} and {options.picture}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="?", default="mnist-label-lenet", help="of cases.yaml")
    for given, pairs in PAIRS.items():
        parser.add_argument(
            f"--{given}",
            nargs="*",
            default=pairs,
            metavar="PAIR",
            help=f"that are given more or less {given}",
        )
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="of them, and all there are")
    parser.add_argument(
        "--seeds", type=int, metavar="COUNT", help="only so many seeds of the case, the first"
    )
    parser.add_argument("--folder", type=Path, help="of the official MNIST files; downloaded if not given")
    parser.add_argument("--output", type=Path, default=RESULTS / "efficiency.csv")
    parser.add_argument("--picture", type=Path, default=PROJECT / "docs/efficiency.png")
    parser.add_argument(
        "--work", type=Path, default=PROJECT / ".scratch/benchmarks", help="folder of the cache"
    )
    options = parser.parse_args()
    if options.seeds is not None and options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}: give a whole number of 1 or more")
    return options


def benchmark(options: argparse.Namespace) -> pd.DataFrame:
    """The table of the output file, with new rows for the pairs that were run; written after every seed."""
    points, seeds = planned_points(options)
    rows: list[dict[str, Any]] = []
    with (
        WorkingCopies(PROJECT, options.work, 1, note_costs=False) as copies,
        copies.one() as copy,
    ):
        for seed in seeds:
            for point in points:
                outcome = copies.run(copy, point.run.with_seed(seed))
                labels = {"case": options.case, "given": point.given, "count": point.count, "seed": seed}
                measured = [{**labels, **row} for row in rows_of_run(point.run, outcome) if is_asked_for(row)]
                rows += measured
                reached = {
                    row["metric"]: round(row["value"], 3) for row in measured if row["metric"] in SHOWN
                }
                there = read_json(copy / "metrics/failures.json")["query"]
                limit = "all" if math.isinf(point.count) else f"at most {point.count}"
                print(
                    f"{options.case} seed {seed}, {point.run.identification}/{point.run.treatment}, {limit} "
                    f"{point.given} ({there} failures are the query): {reached} in {outcome.seconds:.0f} s",
                    flush=True,
                )
            table = summarise(tidy(rows), [*NAMES, "count"])
            table = merge(table, options.output, names=NAMES, by=NAMES[:4])
            write(table, options.output)
    return table


def planned_points(options: argparse.Namespace) -> tuple[list[Point], list[int]]:
    """What is run for each seed, and the seeds of the case.

    Raises:
        RepairError: if a case, or a part of a pair, is not there, a pair does not look at what it is given, or a count
            is out of bounds.
    """
    points, seeds = [], []
    for given, parameter in GIVEN.items():
        pairs = list(getattr(options, given))
        if not pairs:
            continue
        for count in (*sorted(set(options.counts)), math.inf):
            changes: dict[str, Any] = {parameter: None if math.isinf(count) else count}
            if options.folder:
                changes["datasets.mnist.folder"] = str(options.folder.resolve())
            cases = read_cases(CASES, PROJECT, changes, [options.case], Runs(found=pairs))
            if options.case not in cases:
                raise RepairError(
                    f"there is no case {options.case!r}: see `python benchmarks/repair.py --list`"
                )
            planned = cases[options.case]
            seeds = planned.case.seeds[: options.seeds]
            for run in planned.runs:
                if given not in run.given:
                    looks = " and ".join(sorted(run.given)) or "no examples"
                    raise RepairError(
                        f"{run.identification}/{run.treatment} looks at {looks} and was to be given more or less "
                        f"{given}: leave it out"
                    )
                points.append(Point(given, count, run))
    if not points:
        raise RepairError("no pair is to be given anything: name some after --failures or --reserved")
    return points, seeds


def is_asked_for(row: dict[str, Any]) -> bool:
    """Whether it is of the search for causes or of the repaired model, and not of the base model."""
    return row["treatment"] != "none" and row["metric"] in METRICS


def tidy(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The measurements in the order of the table, each once: every treatment measures its identification anew."""
    keys = [*NAMES, "count", "seed"]
    table = pd.DataFrame(rows).drop_duplicates(keys)
    return table.sort_values(keys, kind="stable")


def draw(table: pd.DataFrame, path: Path) -> None:
    """A row of panels for what is given and a column for what is measured, against how much of it there is.

    An identification has one colour, and its second treatment a broken line.
    """
    rows = [given for given in GIVEN if (table["given"] == given).any()]
    with picture(path, 8.0, 0.75 + ROW * len(rows)) as canvas:
        canvas.heading(
            "How few are enough?", f"The point furthest right is all there are; {over_seeds(table)}."
        )
        for number, given in enumerate(rows):
            top = 1.75 + ROW * number
            of_row = table[table["given"] == given]
            colors = dict(zip(of_row["identification"].unique(), SERIES * 3, strict=False))
            for panel, (metric, title) in enumerate(SHOWN.items()):
                left = 0.55 + 3.85 * panel
                canvas.text(left - 0.45 + MARGIN, top - 0.99, title, size=9.5, bold=True)
                axes = canvas.axes(left, top, 3.25, 2.25)
                part = of_row[of_row["metric"] == metric]
                counts = sorted(set(part["count"]))
                places = {count: place for place, count in enumerate(counts)}
                seen = set[str]()
                for identification, name, curve in curves(part, metric):
                    axes.errorbar(
                        curve["count"].map(places),
                        curve["mean"],
                        curve["std"].fillna(0),
                        color=colors[identification],
                        linestyle="--" if identification in seen else "-",
                        lw=1.6,
                        elinewidth=0.8,
                        marker="o",
                        ms=3,
                        label=name,
                    )
                    seen.add(identification)
                names = ["all" if np.isinf(count) else f"{count:.0f}" for count in counts]
                axes.set_xticks(range(len(counts)), names)
                axes.set_xlabel(TITLES[given])
                axes.legend(
                    loc="lower left", bbox_to_anchor=(-0.04, 1.0), ncols=2, columnspacing=1, handlelength=1.6
                )


def curves(part: pd.DataFrame, metric: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The identification, the name and the curve of each, or of each pair where repaired models are measured."""
    for (identification, treatment), curve in part.groupby(["identification", "treatment"], sort=False):
        name = identification if metric == "auroc" else f"{identification}/{treatment}"
        yield identification, name, curve.sort_values("count")


if __name__ == "__main__":
    main()
