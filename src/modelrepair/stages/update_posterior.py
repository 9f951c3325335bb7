"""Insert the failures, or other evidence of what is right, into the base model's posterior."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from modelrepair.curvature import Curvature, damping_sensitivity, load_curvature
from modelrepair.curvature.sensitivity import in_words
from modelrepair.models.examples import Examples
from modelrepair.models.files import load_model, save_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import (
    discovery_examples,
    failure_clusters,
    posterior_folders,
    reserved_examples,
    training_examples,
)
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
    edited = insert(stage, settings, model, oversight) if settings.posterior.inserts else []
    effects = each_alone(stage, settings, model) if settings.posterior.alone else None
    with output_folder(stage.root / "models/posterior") as folder:
        if not edited:
            save_model(folder, model, description)
        # Of several clusters of failures each has a folder of its own.
        places = posterior_folders(folder, len(edited)) if len(edited) > 1 else [folder]
        for place, one in zip(places, edited, strict=False):
            place.mkdir(exist_ok=True)
            save_model(place, one.model, description)
            if one.gaussians:
                save_precisions(place, *one.gaussians)
        if effects is not None:
            write_array(folder / "own_effects.npy", effects)


def insert(
    stage: Stage, settings: UpdatePosterior, model: TrainedModel, oversight: Oversight
) -> list[Edited]:
    """The posterior with the evidence, or with that of each cluster of failures alone."""
    discovery, failures = discovery_examples(stage.root)
    training, _ = training_examples(stage.root)
    clusters = failure_clusters(stage.root) if settings.evidence == "failures" else None
    fetched: dict[tuple[str, float], Curvature] = {}

    def insert_one(evidence: Examples, oversight: Oversight) -> Edited:
        def curvature(name: str, damping: float) -> Curvature:
            if (name, damping) not in fetched:
                place = stage.root / "models/fisher" / name
                fetched[name, damping] = load_curvature(name, place, model, training, damping)
                # Of several clusters for the largest alone: it takes two solutions more.
                if damping:
                    say_sensitivity(settings, model, evidence, training, fetched[name, damping])
            return fetched[name, damping]

        edited = insert_evidence(
            settings,
            model,
            evidence,
            training,
            curvature=curvature,
            seed=settings.seed,
            discovery=discovery,
            oversight=oversight,
        )
        for name, loss in edited.candidates.items():
            print(f"{name}: loss {loss:.4f}" + (", chosen" if name == edited.chosen else ""))
        return edited

    if clusters is None:
        return [insert_one(evidence_of(settings, failures, lambda: reserved_examples(stage.root)), oversight)]
    each = []
    for number in range(int(clusters.max()) + 1):
        evidence = failures.subset(clusters == number)
        print(f"cluster {number + 1}: {len(evidence)} failures", flush=True)
        assert oversight.checkpoint is not None
        part = replace(oversight, checkpoint=oversight.checkpoint.part(f"cluster-{number}"))
        each.append(insert_one(evidence, part))
    return each


def each_alone(stage: Stage, settings: UpdatePosterior, model: TrainedModel) -> NDArray[np.float64]:
    training, _ = training_examples(stage.root)
    name, damping = settings.insertion or ("", 0.0)
    curvature = load_curvature(name, stage.root / "models/fisher" / name, model, training, damping)
    return own_effects(model, training, curvature)


def say_sensitivity(
    settings: UpdatePosterior, model: TrainedModel, evidence: Examples, training: Examples, fitted: Curvature
) -> None:
    if fitted.by_products:
        # Two solutions more, that with the smaller damping several times as dear as the insertion itself.
        print(
            f"how far the ranking depends on the damping is not measured with {fitted.name}: the curvature gram says it"
        )
        return
    weights = class_balanced_weights(evidence) if settings.balance_classes else None
    gradient = model.weighted_gradient(evidence, weights)
    print(in_words(fitted.damping, damping_sensitivity(model, training, gradient, fitted)), flush=True)


if __name__ == "__main__":
    run_stage(main, shared=True)
