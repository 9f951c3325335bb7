"""Corrupt the training data on purpose, so that the true causes of the failures are known."""

import environment  # noqa: F401

from modelrepair.artifacts import output_folder, read_json, read_table, write_json, write_table
from modelrepair.configuration import choose
from modelrepair.data.corruption import corrupt, corrupted_classes
from modelrepair.data.randomness import generator
from modelrepair.stage import Stage, run_stage


def main(stage: Stage) -> None:
    settings = choose("corruption", stage.parameters["corruptions"], stage.parameters["corruption"])
    classes = read_json(stage.root / "data/original/dataset.json")["classes"]
    table = corrupt(
        settings["kind"],
        settings,
        read_table(stage.root / "data/original/train.parquet"),
        classes,
        generator(stage.parameters["seed"], "corruption"),
    )
    with output_folder(stage.root / "data/corrupted") as folder:
        write_table(folder / "train.parquet", table)
        write_json(folder / "corruption.json", {"noisy_classes": corrupted_classes(table)})
    training = table[table["split"] == "train"]
    print(f"{int(training['is_corrupted'].sum())} of {len(training)} training examples are corrupted")


if __name__ == "__main__":
    run_stage(main)
