"""Choose the causes of the failures by their scores."""

import environment  # noqa: F401

from modelrepair.artifacts import output_folder, read_json, read_table, write_table
from modelrepair.configuration import choose
from modelrepair.selection import select_causes
from modelrepair.stage import Stage, run_stage


def main(stage: Stage) -> None:
    name = read_json(stage.root / "data/method/selection.json") or stage.parameters["selection"]
    rule = choose("selection", stage.parameters["selections"], name)
    table = read_table(stage.root / "data/corrupted/train.parquet")
    table = table[table["split"] == "train"].reset_index(drop=True)
    scores = read_table(stage.root / "data/scores/scores.parquet")["score"].to_numpy()
    causes = select_causes(scores, table, **rule)
    with output_folder(stage.root / "data/causes") as folder:
        chosen = table.loc[causes, ["example", "label"]].assign(position=causes, score=scores[causes])
        write_table(folder / "causes.parquet", chosen)
    print(f"{len(causes)} of {len(table)} training examples are taken as causes")


if __name__ == "__main__":
    run_stage(main)
