"""Insert the failures, with their right labels, into the base model's posterior."""

import environment  # noqa: F401

from typing import Any

from modelrepair.artifacts import output_folder, read_json
from modelrepair.curvature import load_curvature
from modelrepair.errors import RepairError
from modelrepair.optimisation import Oversight
from modelrepair.posterior import class_balanced_weights, make_update
from modelrepair.scratch import Checkpoint
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import load_model, save_model
from modelrepair.trained_model import TrainedModel
from modelrepair.workspace import failures, test_examples, training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = read_json(stage.root / "data/method/posterior.json")
    model, description = load_model(stage.root / "models/base")
    checkpoint = stage.checkpoint()
    # Scores that look at no posterior, such as the plain loss, need none.
    updated = model if settings["update"] == "none" else insert(stage, model, settings, checkpoint)
    with output_folder(stage.root / "models/posterior") as folder:
        save_model(folder, updated, description)
    checkpoint.clear()


def insert(
    stage: Stage, model: TrainedModel, settings: dict[str, Any], checkpoint: Checkpoint
) -> TrainedModel:
    if missing := sorted({"balance_classes", "curvature", "damping"} - set(settings)):
        raise RepairError(
            f"posterior {settings['update']!r} lacks {', '.join(missing)}: add it in params.yaml"
        )
    discovery = failures(stage.root, "discovery")
    evidence = test_examples(stage.root, discovery[discovery["is_query"]])
    training, _ = training_examples(stage.root)
    name = settings.pop("curvature")
    curvature = load_curvature(
        name, stage.root / "models/fisher" / name, model, training, settings.pop("damping")
    )
    weights = class_balanced_weights(evidence) if settings.pop("balance_classes") else None
    edited = make_update(settings.pop("update"), **settings).insert(
        model,
        evidence,
        weights,
        curvature=curvature,
        count=len(training),
        seed=stage.parameters["seed"],
        oversight=Oversight(checkpoint=checkpoint),
    )
    return edited.model


if __name__ == "__main__":
    run_stage(main)
