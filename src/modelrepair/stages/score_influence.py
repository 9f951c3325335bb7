"""Score how harmful each training example is: positive means that removing it should lower the failure loss."""

import dataclasses

from modelrepair.influence import Investigation, belief, combine, influence_scores, of_each_cluster
from modelrepair.models.files import fresh_model, load_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import (
    discovery_examples,
    failure_clusters,
    known_causes,
    posterior_folders,
    training_examples,
)
from modelrepair.pipeline.artifacts import output_folder, read_array, write_json, write_table
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.influence import ScoreInfluence
from modelrepair.training.trajectory import load_trajectory
from modelrepair.uncertainty.mean_field import MeanField, load_precisions

MEANING = "score > 0: removing the example should lower the failure loss"


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(ScoreInfluence)
    score = settings.influence
    base, description = load_model(stage.root / "models/base")
    posterior = stage.root / "models/posterior"
    updates = posteriors(stage, base)
    updated, gaussians = updates[0]
    effects = posterior / "own_effects.npy"
    trajectory = stage.root / "models/trajectory"
    examples, table = training_examples(stage.root)
    discovery, failures = discovery_examples(stage.root)
    investigation = Investigation(
        base=base,
        updated=updated,
        examples=examples,
        discovery=discovery,
        failures=failures,
        margins=read_array(stage.root / "models/base/margins.npy"),
        gaussians=gaussians,
        own_effects=read_array(effects) if effects.exists() else None,
        fresh=lambda: fresh_model(description, settings.seed),
        seed=settings.seed,
        trajectory=load_trajectory(trajectory, base.device) if score.follows else None,
        checkpoint=stage.checkpoint() if score.lasts else None,
        known=known_causes(stage.root),
    )
    clusters, parts = failure_clusters(stage.root), [investigation]
    table = table[["example"]]
    if clusters is None or (len(updates) == 1 and score.sees != "failures"):
        scores = influence_scores(investigation, score.chosen, **score.options)
        if clusters is not None:
            print(f"the score {score.chosen} is of no failures: one ranking serves all clusters of them")
        table = table.assign(score=scores)
    else:
        parts = of_each_cluster(investigation, clusters, updates if len(updates) > 1 else None)
        combined = combine([influence_scores(part, score.chosen, **score.options) for part in parts])
        scores = combined.scores
        each = {f"score_of_cluster_{number}": values for number, values in enumerate(combined.each)}
        table = table.assign(score=scores, cluster=combined.clusters, **each)
    with output_folder(stage.root / "data/scores") as folder:
        write_table(folder / "scores.parquet", table)
        described = {"score": score.chosen, "unit": score.unit, "meaning": MEANING}
        sound = dataclasses.asdict(belief(parts, discovery)) if score.even_odds else None
        write_json(folder / "scores.json", {**described, "sound": sound})
    print(f"{int((scores > 0).sum())} of {len(scores)} training examples score as harmful (score > 0)")


def posteriors(
    stage: Stage, base: TrainedModel
) -> list[tuple[TrainedModel, tuple[MeanField, MeanField] | None]]:
    """The model with the failures inserted or, of several clusters of them, one for each, with what else is known."""
    folder, clusters = stage.root / "models/posterior", failure_clusters(stage.root)
    places = [] if clusters is None else posterior_folders(folder, int(clusters.max()) + 1)
    found = []
    for place in places if places and places[0].exists() else [folder]:
        updated = load_model(place)[0]
        found.append((updated, load_precisions(place, base, updated)))
    return found


if __name__ == "__main__":
    run_stage(main, shared=True)
