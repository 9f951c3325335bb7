"""A group of which most examples are missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelrepair.corruptions.base import TrainingData
from modelrepair.corruptions.drawing import in_random_order, wanted_of
from modelrepair.data.classes import class_number, label_array
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import BiasedSampleSettings


def biased_sample(
    settings: BiasedSampleSettings, data: TrainingData, rng: np.random.Generator
) -> TrainingData:
    """Acquisition biases, as of demography (Tanno et al. 2022, Fig. 1): a group is under-represented.

    Of the group the share `kept` of every split stays, rounded; with one seed a higher one keeps the same and more.

    Raises:
        RepairError: if the data lack a class or attribute, the group is empty, or none of it stays to be trained on.
    """
    numbers = sorted({class_number(name, data.classes) for name in settings.group})
    labels, split = label_array(data.table["true_label"]), data.split
    of_group = np.isin(labels, numbers) if labels.ndim == 1 else (labels[:, numbers] > 0.5).any(axis=1)
    stays = ~of_group
    for name in np.unique(split):
        group = of_group & (split == name)
        gone = int(group.sum()) - wanted_of(settings.kept, int(group.sum()))
        order = in_random_order(group, data.sound, gone, settings.kind, rng)
        stays |= group
        stays[order[len(order) - gone :]] = False
    if not (of_group & stays & (split == "train")).any():
        raise RepairError(
            f"biased-sample keeps {settings.kept:g} of a group of {int((of_group & (split == 'train')).sum())} "
            "training examples, which is none: keep more, or name another group"
        )
    return replace(
        data,
        table=data.table.loc[np.flatnonzero(stays)].reset_index(drop=True),
        about=data.about | frozenset(numbers),
    )
