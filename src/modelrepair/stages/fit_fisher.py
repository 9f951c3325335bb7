"""Measure the curvatures that the method needs, at the base model on the corrupted training data."""

from modelrepair.curvature import PATH_CURVATURES, estimate_fit, fit_curvature
from modelrepair.models.files import load_model
from modelrepair.models.workspace import training_examples
from modelrepair.pipeline.artifacts import output_folder, write_json
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.curvature import FitFisher
from modelrepair.training.trajectory import load_trajectory


def main(stage: Stage) -> None:
    use_deterministic_torch()
    curvatures = stage.settings(FitFisher).curvatures
    model, _ = load_model(stage.root / "models/base")
    examples, _ = training_examples(stage.root)
    with output_folder(stage.root / "models/fisher") as folder:
        # DVC warns of an empty folder, which that of a method without curvature would be.
        write_json(folder / "curvatures.json", curvatures)
        for name, options in curvatures.items():
            (folder / name).mkdir()
            if name in PATH_CURVATURES:
                options["trajectory"] = load_trajectory(stage.root / "models/trajectory", model.device)
            estimate = estimate_fit(name, model, examples, **options)
            print(f"{name}: takes {estimate.in_words(model.device)}", flush=True)
            fit_curvature(name, model, examples, **options).save(folder / name)


if __name__ == "__main__":
    run_stage(main, shared=True)
