"""Measure what was found and what was repaired, and draw it."""

import environment  # noqa: F401

from typing import Any

import numpy as np
import pandas as pd

from modelrepair.artifacts import output_file, output_folder, read_json, read_table, write_json
from modelrepair.evaluation.erasure import forgetting
from modelrepair.evaluation.identification import identification_curve, identification_metrics
from modelrepair.evaluation.pictures import (
    draw_changes,
    draw_confusions,
    draw_erasure,
    draw_examples,
    draw_identification_curve,
    draw_summary,
    draw_trade_off,
)
from modelrepair.evaluation.repair import confusion_matrix, repair_metrics
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import load_model
from modelrepair.workspace import dataset_description, failures, test_examples, training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    root = stage.root
    classes = dataset_description(root)["classes"]
    noisy = read_json(root / "data/corrupted/corruption.json")["noisy_classes"]
    base, repaired = (load_model(root / "models" / name)[0] for name in ("base", "repaired"))

    examples, training = training_examples(root)
    scores = read_table(root / "data/scores/scores.parquet")["score"].to_numpy()
    causes = read_table(root / "data/causes/causes.parquet")["position"].to_numpy()
    corrupted = training["is_corrupted"].to_numpy()
    known = {
        when: model.log_likelihoods(examples).double().cpu().numpy()
        for when, model in (("before", base), ("after", repaired))
    }
    loss = -known["before"]
    ranked = {"this method": scores, "plain loss": loss}
    found = {name: identification_metrics(values, corrupted, causes) for name, values in ranked.items()}
    curves = {name: identification_curve(values, corrupted) for name, values in ranked.items()}
    auroc = {name: values["auroc"] for name, values in found.items()}

    parts = [failures(root, part) for part in ("discovery", "reserved", "assessment")]
    table = pd.concat(parts).drop_duplicates("example").reset_index(drop=True)
    tested = test_examples(root, table)
    labels = tested.targets
    before, after = (
        model.likelihood.predictions(model.outputs(tested)).cpu().numpy() for model in (base, repaired)
    )
    repair = repair_metrics(
        before, after, labels, table["role"].to_numpy(), table["part"].to_numpy(), noisy, len(classes)
    )
    assessed = np.flatnonzero(table["part"] == "assessment")
    erasure: dict[str, Any] = {"examples": len(causes)}
    kept = np.setdiff1d(np.arange(len(examples)), causes)
    alike = tested.subset(assessed[np.isin(labels[assessed], examples.targets[causes])])
    for when, model in (("before", base), ("after", repaired)):
        correct = model.correct(examples).cpu().numpy()
        unseen = model.log_likelihoods(alike).double().cpu().numpy() if len(alike) else ()
        erasure[when] = forgetting(correct[causes], correct[kept], known[when][causes], unseen)
    with output_file(root / "metrics/repair.json") as path:
        identification = {**found["this method"], "auroc_of_plain_loss": auroc["plain loss"]}
        write_json(path, {"identification": identification, "repair": repair, "erasure": erasure})

    course = pd.read_csv(root / "metrics/treatment_course.csv").rename(columns={"round": "step"})
    training_set = (
        examples.inputs,
        scores,
        training["label"].to_numpy(),
        training["true_label"].to_numpy(),
        classes,
        corrupted,
    )
    counts = [
        confusion_matrix(labels[assessed], values[assessed], len(classes)) for values in (before, after)
    ]
    with output_folder(root / "metrics/pictures") as folder:
        if read_json(root / "data/method/influence.json")["score"] == "none":
            given = training["label"].to_numpy()
            draw_erasure(folder / "summary.png", examples.inputs, given, causes, classes, erasure, repair)
        else:
            draw_summary(folder / "summary.png", *training_set, curves, auroc, repair)
            draw_examples(folder / "examples.png", *training_set)
            draw_identification_curve(folder / "identification.png", curves, auroc)
        draw_confusions(folder / "confusion.png", counts[0], counts[1], classes)
        draw_changes(
            folder / "changes.png",
            tested.subset(assessed).inputs,
            labels[assessed],
            before[assessed],
            after[assessed],
            classes,
        )
        draw_trade_off(folder / "treatment.png", course, int(course["step"][course["returned"]].iloc[0]))


if __name__ == "__main__":
    run_stage(main)
