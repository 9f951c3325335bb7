"""What is done to the training data on purpose, so that what finds and repairs its effects can be judged?

One module a corruption. Imports `data` and `settings`, and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.corruptions.annotation_noise import annotation_noise
from modelrepair.corruptions.backdoor import Trigger, backdoor, trigger_for, with_triggered_copies
from modelrepair.corruptions.interclass_confusion import confused_classes, interclass_confusion
from modelrepair.corruptions.label_noise import label_noise
from modelrepair.corruptions.none import no_corruption
from modelrepair.data.classes import class_number, without_further_labels
from modelrepair.settings.base import choose
from modelrepair.settings.corruption import BackdoorSettings, CorruptionSettings, InterclassConfusionSettings

CORRUPTIONS: dict[str, Callable[[Any, pd.DataFrame, Sequence[str], np.random.Generator], pd.DataFrame]] = {
    "annotation-noise": annotation_noise,
    "backdoor": backdoor,
    "interclass-confusion": interclass_confusion,
    "label-noise": label_noise,
    "none": no_corruption,
}

__all__ = [
    "CORRUPTIONS",
    "Trigger",
    "corrupt",
    "corrupted_classes",
    "corrupted_domain",
    "trigger_of",
    "with_triggered_copies",
]


def corrupt(
    settings: CorruptionSettings, table: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """The training table with what is given in place of what is true.

    Args:
        settings: of one of `CORRUPTIONS`.
        table: columns `example`, `split`, `label` (true), and further labels; left as it is.
        classes: class names.
        rng: draws the examples.

    Returns:
        Columns `example`, `split`, `label` (given), `true_label`, `is_corrupted`, in the same order, and all others of
        the table but further labels.

    Raises:
        RepairError: for settings that do not fit the data.
    """
    corrupted = choose("corruption", CORRUPTIONS, settings.chosen)(settings, table, classes, rng)
    return without_further_labels(corrupted)


def corrupted_classes(table: pd.DataFrame) -> list[int]:
    """The classes that lost labels to others or received some; repair is reported for these and the rest.

    Args:
        table: as from `corrupt`.
    """
    wrong = table[table["is_corrupted"]]
    return sorted({int(number) for column in ("label", "true_label") for number in wrong[column].unique()})


def corrupted_domain(settings: CorruptionSettings, classes: Sequence[str]) -> dict[str, Any] | None:
    """The test examples that the corruption is about (Goel et al. 2024), for which its correction is measured.

    Returns:
        `classes`, the numbers of those that were confused; or `trigger`, true where it is what carries the patch, and
        `label`, the number of the attacker's class. None for a corruption without such a domain.

    Raises:
        RepairError: if the data lack a class that the settings name.
    """
    if isinstance(settings, InterclassConfusionSettings):
        return {"classes": confused_classes(settings, classes)}
    if isinstance(settings, BackdoorSettings):
        return {"trigger": True, "label": class_number(settings.label, classes)}
    return None


def trigger_of(settings: CorruptionSettings, inputs: NDArray[Any]) -> Trigger | None:
    """The patch that the corruption puts on images, or None where it leaves inputs as they are.

    Args:
        settings: of the corruption.
        inputs: (n, ...) of training.

    Raises:
        RepairError: if it does not fit on the inputs.
    """
    return trigger_for(settings, inputs) if isinstance(settings, BackdoorSettings) else None
