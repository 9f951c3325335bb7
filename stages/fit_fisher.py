"""Measure the curvatures that the method needs, at the base model on the corrupted training data."""

import environment  # noqa: F401

from modelrepair.artifacts import output_folder, read_json
from modelrepair.curvature import estimate_fit, fit_curvature
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import load_model
from modelrepair.workspace import training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    model, _ = load_model(stage.root / "models/base")
    examples, _ = training_examples(stage.root)
    with output_folder(stage.root / "models/fisher") as folder:
        for name in read_json(stage.root / "data/method/curvatures.json"):
            (folder / name).mkdir()
            options = stage.parameters["fisher"].get(name, {})
            estimate = estimate_fit(name, model, examples, **options)
            print(f"{name}: takes {estimate.in_words(model.device)}", flush=True)
            fit_curvature(name, model, examples, **options).save(folder / name)


if __name__ == "__main__":
    run_stage(main)
