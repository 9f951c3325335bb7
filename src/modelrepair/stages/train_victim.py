"""Train the model that adversarial examples are made against, on the data as they are, if the corruption needs one."""

from typing import Any

from modelrepair.pipeline.artifacts import output_folder, write_json
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings.training import TrainVictim


def main(stage: Stage) -> None:
    settings = stage.settings(TrainVictim)
    trained = train_victim(stage, settings) if settings.needed else None
    with output_folder(stage.root / "models/victim") as folder:
        # DVC warns of an empty folder, which that of no victim would be.
        write_json(folder / "victim.json", {"trained": trained is not None})
        if trained:
            from modelrepair.models.files import save_model

            save_model(folder, *trained)


def train_victim(stage: Stage, settings: TrainVictim) -> tuple[Any, dict[str, Any]]:
    """The model and its description. It starts from other weights than the base model, and is trained as that is."""
    # Here, so that the stage is done at once, without torch, where no victim is needed.
    from modelrepair.base_training.train import train_as
    from modelrepair.data.classes import label_array
    from modelrepair.data.randomness import generator
    from modelrepair.models.examples import Examples
    from modelrepair.models.files import begun_model
    from modelrepair.models.workspace import dataset_description
    from modelrepair.pipeline.artifacts import read_array, read_table
    from modelrepair.pipeline.stage import use_deterministic_torch

    use_deterministic_torch()
    original = stage.root / "data/original"
    table, inputs = read_table(original / "train.parquet"), read_array(original / "train_inputs.npy")
    splits = {
        name: Examples(inputs, label_array(rows["label"]), rows["example"].to_numpy())
        for name, rows in table.groupby("split")
    }
    data, seed = dataset_description(stage.root), int(generator(settings.seed, "victim").integers(2**31))
    model, description = begun_model(data, seed, stage.root, **settings.model.model_dump())
    if settings.model.trained:
        return model, description
    course = train_as(
        settings.training,
        model,
        splits["train"],
        seed=seed,
        validation=splits.get("validation"),
        checkpoint=stage.checkpoint(),
        description="training the victim",
    )
    print(f"kept epoch {course.best_round} of {len(course.trace) - 1}")
    return model, description


if __name__ == "__main__":
    run_stage(main)
