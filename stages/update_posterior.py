"""Insert the failures, with their right labels, into the base model's posterior."""

import environment  # noqa: F401

from modelrepair.curvature import damping_sensitivity, load_curvature
from modelrepair.curvature.sensitivity import in_words
from modelrepair.models.files import load_model, save_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import discovery_examples, training_examples
from modelrepair.pipeline.artifacts import output_folder
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.posterior import Edited, class_balanced_weights, make_update
from modelrepair.settings.posterior import UpdatePosterior
from modelrepair.training.descent import Oversight
from modelrepair.uncertainty.mean_field import save_precisions


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(UpdatePosterior)
    model, description = load_model(stage.root / "models/base")
    checkpoint = stage.checkpoint()
    # Scores that look at no posterior, such as the plain loss, need none.
    edited = insert(stage, model, settings, checkpoint) if settings.posterior.inserts else None
    with output_folder(stage.root / "models/posterior") as folder:
        save_model(folder, edited.model if edited else model, description)
        if edited and edited.gaussians:
            save_precisions(folder, *edited.gaussians)


def insert(stage: Stage, model: TrainedModel, settings: UpdatePosterior, checkpoint: Checkpoint) -> Edited:
    _, evidence = discovery_examples(stage.root)
    training, _ = training_examples(stage.root)
    weights = class_balanced_weights(evidence) if settings.balance_classes else None
    stiffness = {}
    if settings.insertion:
        name, damping = settings.insertion
        folder = stage.root / "models/fisher" / name
        curvature = stiffness["curvature"] = load_curvature(name, folder, model, training, damping)
        if damping:
            gradient = model.weighted_gradient(evidence, weights)
            print(in_words(damping, damping_sensitivity(model, training, gradient, curvature)), flush=True)
    return make_update(settings.posterior.chosen, **settings.posterior.options).insert(
        model,
        evidence,
        weights,
        count=len(training),
        kept=training,
        seed=settings.seed,
        oversight=Oversight(checkpoint=checkpoint),
        **stiffness,
    )


if __name__ == "__main__":
    run_stage(main)
