"""What is done to the training data on purpose, so that what finds and repairs its effects can be judged?

One module a corruption. Imports `data` and `settings`, and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from modelrepair.corruptions.adversarial import adversarial
from modelrepair.corruptions.annotation_noise import annotation_noise
from modelrepair.corruptions.backdoor import backdoor, with_triggered_copies
from modelrepair.corruptions.base import Attack, Attacked, TrainingData, Trigger, value_range
from modelrepair.corruptions.biased_sample import biased_sample
from modelrepair.corruptions.false_facts import false_facts
from modelrepair.corruptions.input_noise import input_noise
from modelrepair.corruptions.interclass_confusion import confused_classes, interclass_confusion
from modelrepair.corruptions.label_noise import label_noise
from modelrepair.corruptions.none import no_corruption
from modelrepair.data.classes import class_number, without_further_labels
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.settings import choose
from modelrepair.settings.corruption import (
    AdversarialSettings,
    BackdoorSettings,
    CorruptionSettings,
    InterclassConfusionSettings,
    SeveralSettings,
)

CORRUPTIONS: dict[str, Callable[..., TrainingData]] = {
    "adversarial": adversarial,
    "annotation-noise": annotation_noise,
    "backdoor": backdoor,
    "biased-sample": biased_sample,
    "false-facts": false_facts,
    "input-noise": input_noise,
    "interclass-confusion": interclass_confusion,
    "label-noise": label_noise,
    "none": no_corruption,
}
"""By kind. Each takes its settings, `TrainingData` and a random stream; one that attacks, an `attack` too."""

__all__ = [
    "CORRUPTIONS",
    "Attack",
    "Attacked",
    "TrainingData",
    "Trigger",
    "corrupt",
    "corrupted_domain",
    "value_range",
    "with_triggered_copies",
]

Attacks = Callable[[AdversarialSettings], Attack]


def corrupt(
    settings: CorruptionSettings, data: TrainingData, seed: int, attacks: Attacks | None = None
) -> TrainingData:
    """The training data with what is given in place of what is true.

    Several corruptions follow each other: each draws its share of all examples among those that none before it has
    corrupted. The table then has a further column `corruption`, the name of what corrupted an example, or nothing.

    Args:
        settings: of one of `CORRUPTIONS`, or of several.
        data: as they are; left alone.
        seed: of what is drawn. The first of several draws as it does alone.
        attacks: makes the attack that settings ask for, on a model trained on the data as they are.

    Returns:
        The data, their table without further labels.

    Raises:
        RepairError: for settings that do not fit the data, or each other.
    """
    if not isinstance(settings, SeveralSettings):
        data = _corrupt_once(settings, data, generator(seed, "corruption"), attacks)
        return replace(data, table=without_further_labels(data.table))
    by = np.full(len(data.table), "", dtype=object)
    data = replace(data, table=data.table.assign(corruption=by))
    for number, (name, one) in enumerate(zip(settings.names, settings.each, strict=True)):
        stream = generator(seed, f"corruption {number + 1}" if number else "corruption")
        sound = data.table.loc[data.sound, "example"]
        data = _corrupt_once(one, data, stream, attacks)
        new = data.table["is_corrupted"] & data.table["example"].isin(sound)
        data = replace(data, table=data.table.assign(corruption=data.table["corruption"].mask(new, name)))
    return replace(data, table=without_further_labels(data.table))


def _corrupt_once(
    settings: CorruptionSettings, data: TrainingData, rng: np.random.Generator, attacks: Attacks | None
) -> TrainingData:
    change = choose("corruption", CORRUPTIONS, settings.chosen)
    if isinstance(settings, AdversarialSettings):
        if attacks is None:
            raise RepairError("adversarial examples need a victim to attack: give `attacks`")
        change = partial(change, attack=attacks(settings))
    return change(settings, data, rng)


def corrupted_domain(settings: CorruptionSettings, classes: Sequence[str]) -> dict[str, Any] | None:
    """The test examples that the corruption is about (Goel et al. 2024), for which its correction is measured.

    Returns:
        `classes`, the numbers of those that were confused; `trigger`, true where it is what carries the patch, and
        `label`, the number of the attacker's class; of several corruptions both. None for a corruption without such a
        domain.

    Raises:
        RepairError: if the data lack a class that the settings name.
    """
    if isinstance(settings, InterclassConfusionSettings):
        return {"classes": confused_classes(settings, classes)}
    if isinstance(settings, BackdoorSettings):
        return {"trigger": True, "label": class_number(settings.label, classes)}
    if isinstance(settings, SeveralSettings):
        parts = [part for one in settings.each if (part := corrupted_domain(one, classes))]
        confused = sorted({number for part in parts for number in part.get("classes", [])})
        whole = {name: value for part in parts for name, value in part.items()}
        return whole | ({"classes": confused} if confused else {}) or None
    return None
