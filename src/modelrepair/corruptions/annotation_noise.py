"""Labels that people gave, where the true ones are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from modelrepair.corruptions.drawing import require_classes
from modelrepair.data.classes import further_label_column
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import AnnotationNoiseSettings


def annotation_noise(
    settings: AnnotationNoiseSettings, table: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """Wei et al. 2022 (CIFAR-10N): annotators' labels in place of the data set's; corrupted is what they got wrong.

    Nothing is drawn at random.
    """
    labels, column = require_classes(table, settings.kind), further_label_column(settings.column)
    if column not in table:
        raise RepairError(
            f"annotation-noise takes the labels {settings.column!r}, which the data set does not have: name them in "
            "its labels.columns"
        )
    given = table[column].to_numpy()
    return table.assign(label=given, true_label=labels, is_corrupted=given != labels)
