"""Note the causes that are known before anything is scored: those that somebody lists, or a part of the true ones."""

import numpy as np
import pandas as pd

from modelrepair.pipeline.artifacts import output_folder, read_json, read_table, write_table
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.selection import candidates, corrections, select_causes
from modelrepair.settings.selection import KnowCauses


def main(stage: Stage) -> None:
    rule = stage.settings(KnowCauses).known
    known, new = np.empty(0, dtype=np.int64), {}
    if rule:
        classes = read_json(stage.root / "data/original/dataset.json")["classes"]
        table = candidates(read_table(stage.root / "data/corrupted/train.parquet"), classes)
        known = select_causes(np.zeros(len(table)), table, rule.chosen, **rule.options)
        told = corrections(table, classes, rule.chosen, **rule.options)
        new = {} if told is None else {"new_label": told[known]}
    with output_folder(stage.root / "data/known") as folder:
        write_table(folder / "causes.parquet", pd.DataFrame({"position": known, **new}))
    print(f"{len(known)} causes are known beforehand")


if __name__ == "__main__":
    run_stage(main)
