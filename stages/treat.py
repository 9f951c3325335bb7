"""Repair the base model, given the causes of its failures."""

import environment  # noqa: F401

import pandas as pd

from modelrepair.artifacts import output_file, output_folder, read_json, read_table
from modelrepair.curvature import load_curvature
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import fresh_model, load_model, save_model
from modelrepair.treatment import Patient, make_treatment
from modelrepair.workspace import failures, test_examples, training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    seed = stage.parameters["seed"]
    settings = read_json(stage.root / "data/method/treatment.json")
    guarded = settings.pop("guarded", True)
    tolerance = settings.pop("tolerance", 0.01)
    treatment = make_treatment(settings.pop("treat"), settings)
    model, description = load_model(stage.root / "models/base")
    discovery = failures(stage.root, "discovery")
    training, _ = training_examples(stage.root)
    checkpoint = stage.checkpoint()
    patient = Patient(
        model=model,
        examples=training,
        causes=read_table(stage.root / "data/causes/causes.parquet")["position"].to_numpy(),
        discovery=test_examples(stage.root, discovery[discovery["is_watched"]]),
        failures=test_examples(stage.root, discovery[discovery["is_query"]]),
        curvature=lambda name, damping: load_curvature(
            name, stage.root / "models/fisher" / name, model, training, damping
        ),
        fresh=lambda: fresh_model(description, seed),
        guarded=guarded,
        tolerance=tolerance,
        seed=seed,
        checkpoint=checkpoint,
    )
    treated = treatment.treat(patient)
    with output_folder(stage.root / "models/repaired") as folder:
        save_model(folder, treated.model, description)
    with output_file(stage.root / "metrics/treatment_course.csv") as path:
        course = pd.DataFrame(treated.trace).drop(columns="watched")
        course.assign(returned=course["round"] == treated.best_round).to_csv(path, index=False)
    checkpoint.clear()
    which = "the best on discovery" if guarded else "the last"
    print(f"returned point {treated.best_round} of {len(treated.trace) - 1}, {which}")


if __name__ == "__main__":
    run_stage(main)
