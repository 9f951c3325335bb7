"""Choose the causes of the failures by their scores, or take those that somebody asks to erase."""

import numpy as np
import pandas as pd

from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import output_folder, read_json, read_table, write_json, write_table
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.selection import candidates, corrections, expected_causes, scores_of, select_causes
from modelrepair.settings.selection import SelectCauses
from modelrepair.sound import Sound


def main(stage: Stage) -> None:
    settings = stage.settings(SelectCauses)
    rule = settings.selection
    classes = read_json(stage.root / "data/original/dataset.json")["classes"]
    table = candidates(read_table(stage.root / "data/corrupted/train.parquet"), classes)
    ranked = read_table(stage.root / "data/scores/scores.parquet")
    scores = scores_of(ranked, table)
    known = read_table(stage.root / "data/known/causes.parquet")
    judged = read_json(stage.root / "data/scores/scores.json").get("sound")
    sound = None if judged is None else Sound(**judged)
    causes = select_causes(
        scores,
        table,
        rule.chosen,
        known=known["position"].to_numpy(),
        sound=sound,
        at_least_one=settings.at_least_one,
        **rule.options,
    )
    told = corrections(table, classes, rule.chosen, **rule.options)
    if "new_label" in known:
        told = np.full(len(table), -1) if told is None else told
        told[known["position"]] = known["new_label"]
    new = {} if told is None else {"new_label": told[causes]}
    relabelled = 0 if told is None else int((told >= 0).sum())
    if relabelled and settings.only_removes:
        raise RepairError(
            f"the list gives {relabelled} causes another label, and the treatment {settings.only_removes!r} can only "
            "remove causes: mark them to be removed, or choose another, such as mend, relabel or finetune"
        )
    with output_folder(stage.root / "data/causes") as folder:
        named = [name for name in ("example", "file", "row", "label") if name in table]
        # Where failures are divided, the cluster that each cause drives most.
        driven = {name: ranked[name].to_numpy()[causes] for name in ("cluster",) if name in ranked}
        chosen = table.loc[causes, named].assign(position=causes, score=scores[causes], **new, **driven)
        write_table(folder / "causes.parquet", chosen)
        if rule.by_even_odds:
            count, error = expected_causes(scores, sound)
            write_json(folder / "expected.json", {"count": count, "error": error})
    # Always the same where the reference is not of these causes, so that another method does not train it anew.
    shared = {"position": causes, **new} if settings.for_reference else {"position": causes[:0]}
    with output_folder(stage.root / "data/reference") as folder:
        write_table(folder / "causes.parquet", pd.DataFrame(shared))
    which = f", {relabelled} of which get another label" if relabelled else ""
    print(f"{len(causes)} of {len(table)} training examples are taken as causes{which}")


if __name__ == "__main__":
    run_stage(main)
