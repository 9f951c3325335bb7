"""Train the base model, the one that fails, on the corrupted data."""

import pandas as pd

from modelrepair.base_training.train import as_given, train_as
from modelrepair.models.files import begun_model, save_model
from modelrepair.models.trained_model import expect_outputs
from modelrepair.models.workspace import dataset_description, training_examples
from modelrepair.pipeline.artifacts import output_file, output_folder, write_array
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.training import TrainBase
from modelrepair.training.trajectory import save_trajectory


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(TrainBase)
    training, seed = settings.training, settings.seed
    data = dataset_description(stage.root)
    model, description = begun_model(data, seed, stage.root, **settings.model.model_dump())
    examples, validation = (training_examples(stage.root, split)[0] for split in ("train", "validation"))
    expect_outputs(model, examples, data["classes"])
    if settings.model.trained:
        course = as_given(model, examples, validation=validation)
    else:
        course = train_as(
            training,
            model,
            examples,
            seed=seed,
            validation=validation,
            checkpoint=stage.checkpoint(),
            checkpoints=training.checkpoints,
        )
    with output_folder(stage.root / "models/trajectory") as folder:
        save_trajectory(folder, course.trajectory)
    with output_folder(stage.root / "models/base") as folder:
        save_model(folder, model, description)
        write_array(folder / "margins.npy", course.tensors["margins"].numpy())
    curve = pd.DataFrame(course.trace).rename(columns={"round": "epoch"})
    # Empty where there is no validation split.
    curve["validation_loss"] = -curve.pop("watched").astype(float)
    with output_file(stage.root / "metrics/training_curve.csv") as path:
        curve.to_csv(path, index=False)
    if settings.model.trained:
        print(f"the model is as {settings.model.pretrained} holds it: nothing was trained")
    else:
        print(f"kept epoch {course.best_round} of {len(course.trace) - 1}")


if __name__ == "__main__":
    run_stage(main, shared=True)
