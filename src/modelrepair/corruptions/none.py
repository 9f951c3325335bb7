"""No corruption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from modelrepair.settings.corruption import NoCorruptionSettings


def no_corruption(
    settings: NoCorruptionSettings, table: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """The labels as they are, all taken for true."""
    return table.assign(true_label=table["label"], is_corrupted=False)
