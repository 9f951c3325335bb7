"""Score how harmful each training example is: positive means that removing it should lower the failure loss."""

import environment  # noqa: F401

from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.files import load_model
from modelrepair.models.workspace import discovery_examples, training_examples
from modelrepair.pipeline.artifacts import output_folder, read_array, write_table
from modelrepair.pipeline.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.settings.influence import ScoreInfluence
from modelrepair.training.trajectory import load_trajectory


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = stage.settings(ScoreInfluence).influence
    examples, table = training_examples(stage.root)
    discovery, failures = discovery_examples(stage.root)
    base, _ = load_model(stage.root / "models/base")
    investigation = Investigation(
        base=base,
        updated=load_model(stage.root / "models/posterior")[0],
        examples=examples,
        discovery=discovery,
        failures=failures,
        margins=read_array(stage.root / "models/base/margins.npy"),
        trajectory=load_trajectory(stage.root / "models/trajectory", base.device)
        if settings.follows
        else None,
        checkpoint=stage.checkpoint() if settings.follows else None,
    )
    scores = influence_scores(investigation, settings.chosen, **settings.options)
    with output_folder(stage.root / "data/scores") as folder:
        write_table(folder / "scores.parquet", table[["example"]].assign(score=scores))
    print(f"{int((scores > 0).sum())} of {len(scores)} training examples score as harmful (score > 0)")


if __name__ == "__main__":
    run_stage(main)
