"""Choose the causes of the failures by their scores, or take those that somebody asks to erase."""

import environment  # noqa: F401

import pandas as pd

from modelrepair.pipeline.artifacts import output_folder, read_json, read_table, write_table
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.selection import candidates, select_causes
from modelrepair.settings.selection import SelectCauses


def main(stage: Stage) -> None:
    settings = stage.settings(SelectCauses)
    rule = settings.selection
    classes = read_json(stage.root / "data/original/dataset.json")["classes"]
    table = candidates(read_table(stage.root / "data/corrupted/train.parquet"), classes)
    scores = read_table(stage.root / "data/scores/scores.parquet")["score"].to_numpy()
    known = read_table(stage.root / "data/known/causes.parquet")["position"].to_numpy()
    causes = select_causes(scores, table, rule.chosen, known=known, **rule.options)
    with output_folder(stage.root / "data/causes") as folder:
        named = [name for name in ("example", "file", "label") if name in table]
        chosen = table.loc[causes, named].assign(position=causes, score=scores[causes])
        write_table(folder / "causes.parquet", chosen)
    # Always the same where the reference is not of these causes, so that another method does not train it anew.
    shared = causes if settings.for_reference else causes[:0]
    with output_folder(stage.root / "data/reference") as folder:
        write_table(folder / "causes.parquet", pd.DataFrame({"position": shared}))
    print(f"{len(causes)} of {len(table)} training examples are taken as causes")


if __name__ == "__main__":
    run_stage(main)
