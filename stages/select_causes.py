"""Choose the causes of the failures by their scores, or take those that somebody asks to erase."""

import environment  # noqa: F401

from modelrepair.artifacts import output_folder, read_json, read_table, write_table
from modelrepair.configuration import choose
from modelrepair.data.classes import label_array, names_of
from modelrepair.errors import RepairError
from modelrepair.selection import select_causes, selects_by_score
from modelrepair.stage import Stage, run_stage


def main(stage: Stage) -> None:
    name = read_json(stage.root / "data/method/selection.json") or stage.parameters["selection"]
    rule = choose("selection", stage.parameters["selections"], name)
    if read_json(stage.root / "data/method/influence.json")["score"] == "none" and selects_by_score(
        rule["rule"]
    ):
        raise RepairError(
            f"this method scores no examples, so the selection {name!r} cannot rank them: choose one that is given "
            "its causes, as with -S selection=class"
        )
    table = read_table(stage.root / "data/corrupted/train.parquet")
    table = table[table["split"] == "train"].reset_index(drop=True)
    classes = read_json(stage.root / "data/original/dataset.json")["classes"]
    table["names"] = names_of(label_array(table["label"]), classes)
    scores = read_table(stage.root / "data/scores/scores.parquet")["score"].to_numpy()
    causes = select_causes(scores, table, **rule)
    with output_folder(stage.root / "data/causes") as folder:
        chosen = table.loc[causes, ["example", "label"]].assign(position=causes, score=scores[causes])
        write_table(folder / "causes.parquet", chosen)
    print(f"{len(causes)} of {len(table)} training examples are taken as causes")


if __name__ == "__main__":
    run_stage(main)
