"""Train the base model, the one that fails, on the corrupted data."""

import environment  # noqa: F401

import pandas as pd

from modelrepair.artifacts import output_file, output_folder, write_array
from modelrepair.optimisation import Descent
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import fresh_model, save_model
from modelrepair.training import train
from modelrepair.workspace import dataset_description, training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings, seed = stage.parameters["training"], stage.parameters["seed"]
    data = dataset_description(stage.root)
    description = {
        **stage.parameters["model"],
        "input_shape": data["input_shape"],
        "outputs": len(data["classes"]),
        "likelihood": data["likelihood"],
    }
    model = fresh_model(description, seed)
    checkpoint = stage.checkpoint()
    course = train(
        model,
        training_examples(stage.root, "train")[0],
        Descent(
            optimiser=settings["optimiser"],
            learning_rate=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
            rounds=settings["epochs"],
            patience=settings["patience"],
        ),
        batch_size=settings["batch_size"],
        seed=seed,
        validation=training_examples(stage.root, "validation")[0],
        checkpoint=checkpoint,
    )
    with output_folder(stage.root / "models/base") as folder:
        save_model(folder, model, description)
        write_array(folder / "margins.npy", course.tensors["margins"].numpy())
    curve = pd.DataFrame(course.trace).rename(columns={"round": "epoch"})
    # Empty where there is no validation split.
    curve["validation_loss"] = -curve.pop("watched").astype(float)
    with output_file(stage.root / "metrics/training_curve.csv") as path:
        curve.to_csv(path, index=False)
    checkpoint.clear()
    print(f"kept epoch {course.best_round} of {len(course.trace) - 1}")


if __name__ == "__main__":
    run_stage(main)
