"""Choose the causes of the failures by their scores, or take those that somebody asks to erase."""

import environment  # noqa: F401

from typing import Any

import pandas as pd

from modelrepair.data.classes import label_array, names_of
from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import output_folder, read_json, read_table, write_table
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.selection import corrections, select_causes
from modelrepair.settings.selection import SelectCauses


def main(stage: Stage) -> None:
    settings = stage.settings(SelectCauses)
    rule = settings.selection
    table = read_table(stage.root / "data/corrupted/train.parquet")
    table = table[table["split"] == "train"].reset_index(drop=True)
    classes = read_json(stage.root / "data/original/dataset.json")["classes"]
    table["names"] = names_of(label_array(table["label"]), classes)
    scores = read_table(stage.root / "data/scores/scores.parquet")["score"].to_numpy()
    causes = select_causes(scores, table, rule.chosen, **rule.options)
    given = corrections(table, classes, rule.chosen, **rule.options)
    if given is not None and settings.only_removes:
        raise RepairError(
            f"the list gives {int((given >= 0).sum())} causes another label, and the treatment "
            f"{settings.only_removes!r} can only remove causes: mark them to be removed, or choose another, such as "
            "mend, relabel or finetune"
        )
    new: dict[str, Any] = {} if given is None else {"new_label": given}
    with output_folder(stage.root / "data/causes") as folder:
        chosen = table.loc[causes, ["example", "label"]].assign(position=causes, score=scores[causes], **new)
        write_table(folder / "causes.parquet", chosen)
    # Always the same where the reference is not of these causes, so that another method does not train it anew.
    shared = {"position": causes, **new} if settings.for_reference else {"position": causes[:0]}
    with output_folder(stage.root / "data/reference") as folder:
        write_table(folder / "causes.parquet", pd.DataFrame(shared))
    told = "" if given is None else f", {int((given >= 0).sum())} of which get another label"
    print(f"{len(causes)} of {len(table)} training examples are taken as causes{told}")


if __name__ == "__main__":
    run_stage(main)
