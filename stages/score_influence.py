"""Score how harmful each training example is: positive means that removing it should lower the failure loss."""

import environment  # noqa: F401

from modelrepair.artifacts import output_folder, read_array, read_json, write_table
from modelrepair.influence import Investigation, influence_scores
from modelrepair.stage import Stage, run_stage, use_deterministic_torch
from modelrepair.storage import load_model
from modelrepair.workspace import training_examples


def main(stage: Stage) -> None:
    use_deterministic_torch()
    settings = read_json(stage.root / "data/method/influence.json")
    examples, table = training_examples(stage.root)
    investigation = Investigation(
        base=load_model(stage.root / "models/base")[0],
        updated=load_model(stage.root / "models/posterior")[0],
        examples=examples,
        margins=read_array(stage.root / "models/base/margins.npy"),
    )
    scores = influence_scores(investigation, settings.pop("score"), **settings)
    with output_folder(stage.root / "data/scores") as folder:
        write_table(folder / "scores.parquet", table[["example"]].assign(score=scores))
    print(f"{int((scores > 0).sum())} of {len(scores)} training examples score as harmful (score > 0)")


if __name__ == "__main__":
    run_stage(main)
