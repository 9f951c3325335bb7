"""Insert the failures, with their right labels, into the base model's posterior."""

import environment  # noqa: F401
from modelrepair.artifacts import output_folder, read_json
from modelrepair.curvature import load_curvature
from modelrepair.optimisation import Oversight
from modelrepair.posterior import make_update
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import load_model, save_model
from modelrepair.workspace import failures, test_examples, training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = read_json(stage.root / "data/method/posterior.json")
    model, description = load_model(stage.root / "models/base")
    discovery = failures(stage.root, "discovery")
    training, _ = training_examples(stage.root)
    name = settings.pop("curvature")
    curvature = load_curvature(
        name, stage.root / "models/fisher" / name, model, training, settings.pop("damping")
    )
    checkpoint = stage.checkpoint()
    edited = make_update(settings.pop("update"), **settings).insert(
        model,
        test_examples(stage.root, discovery[discovery["is_query"]]),
        curvature=curvature,
        count=len(training),
        seed=stage.parameters["seed"],
        oversight=Oversight(checkpoint=checkpoint),
    )
    with output_folder(stage.root / "models/posterior") as folder:
        save_model(folder, edited.model, description)
    checkpoint.clear()


if __name__ == "__main__":
    run_stage(main)
