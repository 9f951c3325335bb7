"""What is done to the training data on purpose, so that what finds and repairs its effects can be judged?

One module a corruption. Imports `data` and `settings`, and no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from modelrepair.corruptions.label_noise import label_noise
from modelrepair.corruptions.none import no_corruption
from modelrepair.settings.base import choose
from modelrepair.settings.corruption import CorruptionSettings

CORRUPTIONS: dict[str, Callable[[Any, pd.DataFrame, Sequence[str], np.random.Generator], pd.DataFrame]] = {
    "label-noise": label_noise,
    "none": no_corruption,
}

__all__ = ["CORRUPTIONS", "corrupt", "corrupted_classes"]


def corrupt(
    settings: CorruptionSettings, table: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """The training table with what is given in place of what is true.

    Args:
        settings: of one of `CORRUPTIONS`.
        table: columns `example`, `split`, `label` (true); left as it is.
        classes: class names.
        rng: draws the examples.

    Returns:
        Columns `example`, `split`, `label` (given), `true_label`, `is_corrupted`, in the same order.

    Raises:
        RepairError: for settings that do not fit the data.
    """
    return choose("corruption", CORRUPTIONS, settings.chosen)(settings, table, classes, rng)


def corrupted_classes(table: pd.DataFrame) -> list[int]:
    """The classes that lost labels to others or received some; repair is reported for these and the rest.

    Args:
        table: as from `corrupt`.
    """
    wrong = table[table["is_corrupted"]]
    return sorted({int(number) for column in ("label", "true_label") for number in wrong[column].unique()})
