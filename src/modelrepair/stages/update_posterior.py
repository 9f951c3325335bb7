"""Insert the failures, or other evidence of what is right, into the base model's posterior."""

import numpy as np
from numpy.typing import NDArray

from modelrepair.curvature import Curvature, damping_sensitivity, load_curvature
from modelrepair.curvature.sensitivity import in_words
from modelrepair.models.examples import Examples
from modelrepair.models.files import load_model, save_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import discovery_examples, reserved_examples, training_examples
from modelrepair.pipeline.artifacts import output_folder, write_array
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.posterior import (
    Edited,
    class_balanced_weights,
    evidence_of,
    insert_evidence,
    own_effects,
)
from modelrepair.settings.posterior import UpdatePosterior
from modelrepair.training.descent import Oversight
from modelrepair.uncertainty.mean_field import save_precisions


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(UpdatePosterior)
    model, description = load_model(stage.root / "models/base")
    oversight = Oversight(checkpoint=stage.checkpoint())
    # Scores that look at no posterior, such as the plain loss, need none.
    edited = insert(stage, settings, model, oversight) if settings.posterior.inserts else None
    effects = each_alone(stage, settings, model) if settings.posterior.alone else None
    with output_folder(stage.root / "models/posterior") as folder:
        save_model(folder, edited.model if edited else model, description)
        if edited and edited.gaussians:
            save_precisions(folder, *edited.gaussians)
        if effects is not None:
            write_array(folder / "own_effects.npy", effects)


def insert(stage: Stage, settings: UpdatePosterior, model: TrainedModel, oversight: Oversight) -> Edited:
    _, failures = discovery_examples(stage.root)
    evidence = evidence_of(settings, failures, lambda: reserved_examples(stage.root))
    training, _ = training_examples(stage.root)

    def curvature(name: str, damping: float) -> Curvature:
        fitted = load_curvature(name, stage.root / "models/fisher" / name, model, training, damping)
        if damping:
            say_sensitivity(settings, model, evidence, training, fitted)
        return fitted

    edited = insert_evidence(
        settings, model, evidence, training, curvature=curvature, seed=settings.seed, oversight=oversight
    )
    for name, loss in edited.candidates.items():
        print(f"{name}: loss {loss:.4f}" + (", chosen" if name == edited.chosen else ""))
    return edited


def each_alone(stage: Stage, settings: UpdatePosterior, model: TrainedModel) -> NDArray[np.float64]:
    training, _ = training_examples(stage.root)
    name, damping = settings.insertion or ("", 0.0)
    curvature = load_curvature(name, stage.root / "models/fisher" / name, model, training, damping)
    return own_effects(model, training, curvature)


def say_sensitivity(
    settings: UpdatePosterior, model: TrainedModel, evidence: Examples, training: Examples, fitted: Curvature
) -> None:
    weights = class_balanced_weights(evidence) if settings.balance_classes else None
    gradient = model.weighted_gradient(evidence, weights)
    print(in_words(fitted.damping, damping_sensitivity(model, training, gradient, fitted)), flush=True)


if __name__ == "__main__":
    run_stage(main, shared=True)
