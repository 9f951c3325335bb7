"""What a pretrained language model knows of facts about places, and what editors make of what it has wrong.

    python benchmarks/pretrained.py FOLDER    # with safetensors, config and tokeniser, or with a GGUF file

The cases of `pretrained.yaml`, through the pipeline itself, in a working copy of this project with the model in its
folder `weights`; a benchmark that was ended goes on where it was. Needs `pip install 'modelrepair[transformers]'`.

Writes `benchmarks/results/pretrained.csv`, in percent but for quotients, perplexities, seconds and MiB; the metrics are
those of `repair.py`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from cases import read_cases
from modelrepair.data.model_folders import open_model_folder
from modelrepair.errors import RepairError
from repair import rows_of_run
from results_table import REPAIRS, RESULTS, merge, summarise, write
from working_copies import WorkingCopies

PROJECT = Path(__file__).parents[1]
CASES = Path(__file__).with_name("pretrained.yaml")
PLACE = Path("weights/model")


def main() -> None:
    options = parse()
    try:
        benchmark(options)
    except RepairError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on where it was")
    print(f"written to {options.output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the model")
    parser.add_argument("--output", type=Path, default=RESULTS / "pretrained.csv")
    parser.add_argument(
        "--work", type=Path, default=PROJECT / ".scratch/pretrained", help="folder of the cache"
    )
    return parser.parse_args()


def benchmark(options: argparse.Namespace) -> None:
    """Write the table, anew after every run."""
    open_model_folder(options.folder)
    rows: list[dict[str, Any]] = []
    with WorkingCopies(PROJECT, options.work, 1, note_costs=True) as copies, copies.one() as copy:
        place = copy / PLACE
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(options.folder, place)
        for name, planned in read_cases(CASES, PROJECT).items():
            for seed in planned.case.seeds:
                for run in planned.runs:
                    outcome = copies.run(copy, run.with_seed(seed))
                    labels = {"case": name, "seed": seed}
                    rows += [{**labels, **row} for row in rows_of_run(run, outcome)]
                    # Every run measures the model before it anew.
                    keys = [*REPAIRS, "seed"]
                    table = summarise(pd.DataFrame(rows).drop_duplicates(keys), [*REPAIRS])
                    write(merge(table, options.output, names=REPAIRS, by=["case"]), options.output)
                    facts = outcome.metrics["facts"]
                    print(f"{name} seed {seed}, {run}: {facts} in {outcome.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
