"""Train what the repaired model stands beside: what anybody would do with the same, or another treatment.

What anybody would do is the same for all methods that are given the same. So this stage reads neither causes nor
scores, but causes that are known beforehand, and `data/reference`, which holds those of the method only where a
treatment of theirs is the reference; and a curvature that such a treatment asks for is fitted here.
"""

import numpy as np
from numpy.typing import NDArray

from modelrepair.curvature import PATH_CURVATURES, Curvature, estimate_fit, fit_curvature
from modelrepair.models.examples import Examples
from modelrepair.models.files import save_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import output_folder, read_table, write_json
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.reference import TrainReference
from modelrepair.settings.treatment import Treatment
from modelrepair.training.trajectory import load_trajectory
from modelrepair.treatment import Treated, highest_losses, make_treatment, read_patient


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(TrainReference)
    made = train(stage, settings, settings.treatment) if settings.treatment else None
    with output_folder(stage.root / "models/reference") as folder:
        # DVC warns of an empty folder, which that of no reference would be.
        write_json(folder / "reference.json", settings.model_dump(include={"treatment", "dropped"}))
        if made:
            save_model(folder, made[0].model, made[1])
    if made:
        print(f"returned point {made[0].best_round} of {len(made[0].trace) - 1}")


def train(stage: Stage, settings: TrainReference, treatment: Treatment) -> tuple[Treated, dict[str, object]]:
    place = "data/known" if settings.known else "data/reference"
    shared = read_table(stage.root / place / "causes.parquet")
    dropped, fits = settings.dropped, {str(name): options for name, options in settings.curvatures.items()}

    def causes(model: TrainedModel, training: Examples) -> NDArray[np.int64]:
        if dropped is not None:
            return highest_losses(model, training, dropped)
        return shared["position"].to_numpy()

    def curvature(model: TrainedModel, training: Examples, name: str, damping: float) -> Curvature:
        options = dict(fits[name])
        if name in PATH_CURVATURES:
            options["trajectory"] = load_trajectory(stage.root / "models/trajectory", model.device)
        estimate = estimate_fit(name, model, training, **options)
        print(f"{name}: takes {estimate.in_words(model.device)}", flush=True)
        return fit_curvature(name, model, training, **options).damped(damping)

    patient, description = read_patient(
        stage.root,
        treatment,
        causes,
        curvature,
        seed=settings.seed,
        checkpoint=stage.checkpoint(),
        corrections=shared.get("new_label"),
    )
    return make_treatment(treatment.chosen, **treatment.options).treat(patient), description


if __name__ == "__main__":
    run_stage(main, shared=True)
