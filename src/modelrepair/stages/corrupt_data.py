"""Corrupt the training data on purpose, so that the true causes of the failures are known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.corruptions import (
    Attack,
    Attacked,
    TrainingData,
    corrupt,
    corrupted_domain,
    value_range,
    with_triggered_copies,
)
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
from modelrepair.settings.corruption import AdversarialSettings, CorruptData


def main(stage: Stage) -> None:
    settings = stage.settings(CorruptData)
    original, classes = (
        stage.root / "data/original",
        read_json(stage.root / "data/original/dataset.json")["classes"],
    )
    inputs = read_array(original / "train_inputs.npy")
    data = corrupt(
        settings.corruption,
        TrainingData.original(read_table(original / "train.parquet"), inputs, classes),
        settings.seed,
        lambda how: attack_on_victim(stage, how, inputs),
    )
    table = data.table
    with output_folder(stage.root / "data/corrupted") as folder:
        write_table(folder / "train.parquet", table)
        if data.inputs is not inputs:
            write_array(folder / "inputs.npy", data.inputs)
        if data.trigger:
            test_inputs, tests = with_triggered_copies(
                data.trigger, read_array(original / "test_inputs.npy"), read_table(original / "test.parquet")
            )
            write_array(folder / "test_inputs.npy", test_inputs)
            write_table(folder / "test.parquet", tests)
        write_json(
            folder / "corruption.json",
            {
                "noisy_classes": sorted(data.about),
                "domain": corrupted_domain(settings.corruption, classes),
                **({"attacks": data.attacks} if data.attacks else {}),
            },
        )
    for name, attack in data.attacks.items():
        print(
            f"{name} succeeded on {attack['succeeded']} of {attack['attacked']} examples that the victim has right"
        )
    training = table[table["split"] == "train"]
    print(f"{int(training['is_corrupted'].sum())} of {len(training)} training examples are corrupted")


def attack_on_victim(stage: Stage, how: AdversarialSettings, inputs: NDArray[Any]) -> Attack:
    """The attack on the model that train-victim trained on the data as they are."""
    # Here, so that corruptions that need no victim start at once, without torch.
    from modelrepair.attacks import gradient_sign
    from modelrepair.models.examples import Examples
    from modelrepair.models.files import load_model
    from modelrepair.pipeline.stage import use_deterministic_torch

    use_deterministic_torch()
    victim, _ = load_model(stage.root / "models/victim")
    low, high = value_range(inputs, how.kind)
    # The network sees bytes from 0 to 1.
    unit = 255 if inputs.dtype == np.uint8 else 1

    def attack(given: NDArray[Any], labels: NDArray[np.int64]) -> Attacked:
        changed, before, after = gradient_sign(
            victim,
            Examples(given, labels),
            epsilon=how.epsilon * (high - low) / unit,
            steps=how.number_of_steps,
            step_size=how.length_of_step * (high - low) / unit,
            low=low / unit,
            high=high / unit,
        )
        return Attacked(changed, before.cpu().numpy(), after.cpu().numpy())

    return attack


if __name__ == "__main__":
    run_stage(main)
