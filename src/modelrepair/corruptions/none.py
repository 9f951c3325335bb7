"""No corruption."""

from __future__ import annotations

import numpy as np

from modelrepair.corruptions.base import TrainingData
from modelrepair.settings.corruption import NoCorruptionSettings


def no_corruption(
    settings: NoCorruptionSettings, data: TrainingData, rng: np.random.Generator
) -> TrainingData:
    """The data as they are, all labels taken for true."""
    return data
