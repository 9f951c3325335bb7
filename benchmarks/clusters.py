"""What dividing the failures into clusters does for each of several corruptions, for the same number of causes.

    python benchmarks/clusters.py                                         # into results/clusters.csv
    python benchmarks/clusters.py two-kinds --identifications linear --clusters none 4 --seeds 100

The stages themselves run, as far as the causes, in one process and a folder of their own, without DVC: a training that
was ended goes on where it was, and a model that is there is taken (remove `--work` after a change of training). Rows of
other identifications and numbers of clusters in the file are kept.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from cases import PlannedCase, changed, read_cases, read_yaml
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.identification import area_under_roc
from modelrepair.pipeline.artifacts import read_table
from modelrepair.pipeline.stage import Stage
from results_table import RESULTS, merge, show, summarise, write

PROJECT = Path(__file__).parents[1]
LINKED = ("src", "networks", "weights", "requests", "dvc.yaml")
MODEL = ("prepare-data", "train-victim", "corrupt-data", "train-base")
SEARCH = ("know-causes", "split-failures", "update-posterior", "score-influence", "select-causes")
NAMES = ["case", "identification", "clusters", "corruption", "metric"]


def main() -> None:
    options = parse()
    try:
        planned = read_cases(Path(__file__).with_name("cases.yaml"), PROJECT, names=[options.case])
        if not planned:
            raise RepairError(f"there is no case {options.case!r}: see `python benchmarks/repair.py --list`")
        rows: list[dict[str, Any]] = []
        for seed in options.seeds or planned[options.case].case.seeds:
            for found in of_seed(planned[options.case], seed, options):
                rows += found
                table = summarise(pd.DataFrame(rows), NAMES)
                write(merge(table, options.output, names=NAMES, by=NAMES[:3]), options.output)
    except RepairError as error:
        sys.exit(str(error))
    show(table, f"{options.case}; written to {options.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="?", default="two-kinds")
    parser.add_argument("--identifications", nargs="+", default=["linear", "ewc", "second-look"])
    parser.add_argument("--clusters", nargs="+", default=["none", "4", "auto"])
    parser.add_argument("--seeds", nargs="+", type=int, help="those of the case by default")
    parser.add_argument("--work", type=Path, default=PROJECT / ".scratch/clusters")
    parser.add_argument("--output", type=Path, default=RESULTS / "clusters.csv")
    return parser.parse_args()


def of_seed(
    planned: PlannedCase, seed: int, options: argparse.Namespace
) -> Iterator[Sequence[dict[str, Any]]]:
    """Rows of one seed, for each identification and number of clusters."""
    root = options.work / f"{planned.name}-{seed}"
    root.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        if not (root / name).is_symlink():
            (root / name).symlink_to(PROJECT / name)
    trained = (root / "models/base").is_dir()
    for identification in options.identifications:
        for place, clusters in enumerate(options.clusters):
            number = int(clusters) if clusters.isdigit() else clusters
            parameters = changed(
                read_yaml(PROJECT / "params.yaml"),
                {
                    **planned.case.parameters,
                    "seed": seed,
                    "identification": identification,
                    "failures.clusters": number,
                },
            )
            YAML(typ="safe", pure=True).dump(parameters, root / "params.yaml")
            fitted = () if place else ("fit-fisher",)
            for stage in ("choose-method", *(() if trained else MODEL), *fitted, *SEARCH):
                print(f"{planned.name}, seed {seed}, {identification}, {clusters}: {stage}", flush=True)
                importlib.import_module(f"modelrepair.stages.{stage.replace('-', '_')}").main(
                    Stage(stage, root)
                )
            trained = True
            names = {
                "case": planned.name,
                "identification": identification,
                "clusters": clusters,
                "seed": seed,
            }
            yield [{**names, **row} for row in found(root)]


def found(root: Path) -> list[dict[str, Any]]:
    """Of each corruption, which share is among the causes, and how well it is told from what no corruption touched."""
    table = read_table(root / "data/corrupted/train.parquet")
    by = table.loc[table["split"] == "train", "corruption"].to_numpy(str)
    scores = read_table(root / "data/scores/scores.parquet")["score"].to_numpy()
    causes = np.zeros(len(by), dtype=bool)
    causes[read_table(root / "data/causes/causes.parquet")["position"]] = True
    rows = []
    for name in np.unique(by[by != ""]):
        told_apart = (by == name) | (by == "")
        values = {
            "causes": int((by == name).sum()),
            "selected_recall": float(causes[by == name].mean()),
            "auroc": area_under_roc(scores[told_apart], by[told_apart] == name),
        }
        rows += [
            {"corruption": str(name), "metric": metric, "value": value} for metric, value in values.items()
        ]
    return rows


if __name__ == "__main__":
    main()
