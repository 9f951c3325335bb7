"""Repair the base model, given the causes of its failures."""

import math

import pandas as pd

from modelrepair.course import given_up
from modelrepair.curvature import load_curvature
from modelrepair.knowledge.files import save_editor
from modelrepair.models.files import save_model
from modelrepair.pipeline.artifacts import output_file, output_folder, read_table
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.treatment import KnowledgeEditorSettings, Treat
from modelrepair.treatment import make_treatment, read_patient


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(Treat)
    treatment = settings.treatment
    causes = read_table(stage.root / "data/causes/causes.parquet")
    patient, description = read_patient(
        stage.root,
        treatment,
        lambda *_: causes["position"].to_numpy(),
        lambda model, training, name, damping: load_curvature(
            name, stage.root / "models/fisher" / name, model, training, damping
        ),
        seed=settings.seed,
        checkpoint=stage.checkpoint(),
        corrections=causes.get("new_label"),
    )
    treated = make_treatment(treatment.chosen, **treatment.options).treat(patient)
    with output_folder(stage.root / "models/repaired") as folder:
        save_model(folder, treated.model, description)
        if treated.editor is not None:
            loops = treatment.loops if isinstance(treatment, KnowledgeEditorSettings) else 1
            save_editor(folder / "editor.safetensors", treated.editor, loops)
    with output_file(stage.root / "metrics/treatment_course.csv") as path:
        course = pd.DataFrame(treated.trace).drop(columns="watched")
        course = course.assign(returned=course["round"] == treated.best_round)
        course.to_csv(path, index=False)
    judged = {"accuracy": "by accuracy on discovery", "failures": "by accuracy on the failures shown"}
    which = judged[treatment.judged_by] if treatment.guarded else "the last"
    print(f"returned point {treated.best_round} of {len(treated.trace) - 1}, {which}")
    other = given_up(course) if treatment.guarded else None
    if other is not None:
        taught = {"discovery", "failures"} & {*treatment.taught}
        choice = f"tolerance: {math.ceil(1000 * other.broken) / 1000:g}"
        choice += "" if taught or treatment.judged_by == "failures" else ", judged_by: failures"
        print(f"given up: {other}; {'allowed by' if taught else 'returned with'} {choice}")


if __name__ == "__main__":
    run_stage(main, shared=True)
