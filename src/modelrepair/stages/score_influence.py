"""Score how harmful each training example is: positive means that removing it should lower the failure loss."""

from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.files import fresh_model, load_model
from modelrepair.models.workspace import discovery_examples, known_causes, training_examples
from modelrepair.pipeline.artifacts import output_folder, read_array, write_json, write_table
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.influence import ScoreInfluence
from modelrepair.training.trajectory import load_trajectory
from modelrepair.uncertainty.mean_field import load_precisions

MEANING = "score > 0: removing the example should lower the failure loss"


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(ScoreInfluence)
    score = settings.influence
    base, description = load_model(stage.root / "models/base")
    posterior = stage.root / "models/posterior"
    updated, effects = load_model(posterior)[0], posterior / "own_effects.npy"
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
        gaussians=load_precisions(posterior, base, updated),
        own_effects=read_array(effects) if effects.exists() else None,
        fresh=lambda: fresh_model(description, settings.seed),
        seed=settings.seed,
        trajectory=load_trajectory(trajectory, base.device) if score.follows else None,
        checkpoint=stage.checkpoint() if score.lasts else None,
        known=known_causes(stage.root),
    )
    scores = influence_scores(investigation, score.chosen, **score.options)
    with output_folder(stage.root / "data/scores") as folder:
        write_table(folder / "scores.parquet", table[["example"]].assign(score=scores))
        write_json(folder / "scores.json", {"score": score.chosen, "unit": score.unit, "meaning": MEANING})
    print(f"{int((scores > 0).sum())} of {len(scores)} training examples score as harmful (score > 0)")


if __name__ == "__main__":
    run_stage(main, shared=True)
