"""Corrupt the training data on purpose, so that the true causes of the failures are known."""

import environment  # noqa: F401

from modelrepair.corruptions import corrupt, corrupted_classes
from modelrepair.data.randomness import generator
from modelrepair.pipeline.artifacts import output_folder, read_json, read_table, write_json, write_table
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings.corruption import CorruptData


def main(stage: Stage) -> None:
    settings = stage.settings(CorruptData)
    table = corrupt(
        settings.corruption,
        read_table(stage.root / "data/original/train.parquet"),
        read_json(stage.root / "data/original/dataset.json")["classes"],
        generator(settings.seed, "corruption"),
    )
    with output_folder(stage.root / "data/corrupted") as folder:
        write_table(folder / "train.parquet", table)
        write_json(folder / "corruption.json", {"noisy_classes": corrupted_classes(table)})
    training = table[table["split"] == "train"]
    print(f"{int(training['is_corrupted'].sum())} of {len(training)} training examples are corrupted")


if __name__ == "__main__":
    run_stage(main)
