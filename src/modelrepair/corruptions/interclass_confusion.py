"""Two classes confused with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from modelrepair.corruptions.drawing import require_classes, share_of
from modelrepair.corruptions.label_noise import corrupt_labels
from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import InterclassConfusionSettings


def interclass_confusion(
    settings: InterclassConfusionSettings,
    table: pd.DataFrame,
    classes: Sequence[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Goel et al. 2024, the interclass confusion test: as many of either class are called by the other's name.

    A model that learned it confuses the two classes far beyond the examples that are wrong.
    """
    labels = require_classes(table, settings.kind)
    split = table["split"].to_numpy(dtype=str)
    confusion = np.eye(len(classes))
    numbers = confused_classes(settings, classes)
    for number, other in zip(numbers, reversed(numbers), strict=True):
        members = int(((labels == number) & (split == "train")).sum())
        share = share_of(settings, members, f"training examples of class {classes[number]}")
        confusion[number, [number, other]] = 1 - share, share
    given = corrupt_labels(labels, split, confusion, rng)
    return table.assign(label=given, true_label=labels, is_corrupted=given != labels)


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
