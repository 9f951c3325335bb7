"""Labels that people gave, where the true ones are known."""

from __future__ import annotations

import numpy as np

from modelrepair.corruptions.base import TrainingData
from modelrepair.data.classes import further_label_column
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import AnnotationNoiseSettings


def annotation_noise(
    settings: AnnotationNoiseSettings, data: TrainingData, rng: np.random.Generator
) -> TrainingData:
    """Wei et al. 2022 (CIFAR-10N): annotators' labels in place of the data set's; corrupted is what they got wrong.

    Nothing is drawn at random.
    """
    labels, column = data.true_classes(settings.kind), further_label_column(settings.column)
    if column not in data.table:
        raise RepairError(
            f"annotation-noise takes the labels {settings.column!r}, which the data set does not have: name them in "
            "its labels.columns"
        )
    given = data.table[column].to_numpy()
    marks = data.sound & (given != labels)
    return data.corrupted(marks, labels=np.where(marks, given, data.table["label"].to_numpy()))
