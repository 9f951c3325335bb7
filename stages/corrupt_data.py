"""Corrupt the training data on purpose, so that the true causes of the failures are known."""

import environment  # noqa: F401

from modelrepair.corruptions import (
    corrupt,
    corrupted_classes,
    corrupted_domain,
    trigger_of,
    with_triggered_copies,
)
from modelrepair.data.randomness import generator
from modelrepair.pipeline.artifacts import (
    output_folder,
    read_array,
    read_json,
    read_table,
    write_array,
    write_json,
    write_table,
)
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings.corruption import CorruptData


def main(stage: Stage) -> None:
    settings = stage.settings(CorruptData)
    original, classes = (
        stage.root / "data/original",
        read_json(stage.root / "data/original/dataset.json")["classes"],
    )
    table = corrupt(
        settings.corruption,
        read_table(original / "train.parquet"),
        classes,
        generator(settings.seed, "corruption"),
    )
    inputs = read_array(original / "train_inputs.npy")
    trigger = trigger_of(settings.corruption, inputs)
    with output_folder(stage.root / "data/corrupted") as folder:
        write_table(folder / "train.parquet", table)
        if trigger:
            carrying = table.loc[table["is_corrupted"], "example"].to_numpy()
            inputs = inputs.copy()
            inputs[carrying] = trigger.on(inputs[carrying])
            write_array(folder / "inputs.npy", inputs)
            test_inputs, tests = with_triggered_copies(
                trigger, read_array(original / "test_inputs.npy"), read_table(original / "test.parquet")
            )
            write_array(folder / "test_inputs.npy", test_inputs)
            write_table(folder / "test.parquet", tests)
        write_json(
            folder / "corruption.json",
            {
                "noisy_classes": corrupted_classes(table),
                "domain": corrupted_domain(settings.corruption, classes),
            },
        )
    training = table[table["split"] == "train"]
    print(f"{int(training['is_corrupted'].sum())} of {len(training)} training examples are corrupted")


if __name__ == "__main__":
    run_stage(main)
