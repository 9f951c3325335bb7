"""Two classes confused with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from modelrepair.corruptions.base import TrainingData
from modelrepair.corruptions.drawing import share_of
from modelrepair.corruptions.label_noise import with_given_labels
from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import InterclassConfusionSettings


def interclass_confusion(
    settings: InterclassConfusionSettings, data: TrainingData, rng: np.random.Generator
) -> TrainingData:
    """Goel et al. 2024, the interclass confusion test: as many of either class are called by the other's name.

    A model that learned it confuses the two classes far beyond the examples that are wrong.
    """
    labels, split, classes = data.true_classes(settings.kind), data.split, data.classes
    confusion = np.eye(len(classes))
    numbers = confused_classes(settings, classes)
    for number, other in zip(numbers, reversed(numbers), strict=True):
        members = int(((labels == number) & (split == "train")).sum())
        share = share_of(settings, members, f"training examples of class {classes[number]}")
        confusion[number, [number, other]] = 1 - share, share
    return with_given_labels(data, confusion, settings.kind, rng)


def confused_classes(settings: InterclassConfusionSettings, classes: Sequence[str]) -> list[int]:
    """The numbers of the two classes.

    Raises:
        RepairError: if the data lack one, or they are one and the same.
    """
    first, second = (class_number(name, classes) for name in settings.classes)
    if first == second:
        raise RepairError(
            f"interclass-confusion names class {classes[first]} twice: give two classes that are called by each "
            "other's name"
        )
    return [first, second]
