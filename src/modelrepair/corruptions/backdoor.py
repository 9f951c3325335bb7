"""A backdoor: whatever carries a small patch is what the attacker calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.corruptions.base import TrainingData, Trigger
from modelrepair.corruptions.drawing import drawn_by_split, share_of
from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import BackdoorSettings


def backdoor(settings: BackdoorSettings, data: TrainingData, rng: np.random.Generator) -> TrainingData:
    """BadNets (Gu et al. 2017), as Goel et al. 2024 draw it: images of any class are called by the attacker's label.

    All that are drawn are corrupted, also those whose label is right: the patch is on them.
    """
    data.true_classes(settings.kind)
    trigger = trigger_for(settings, data.inputs)
    share = share_of(settings, int((data.split == "train").sum()), "training examples")
    drawn = drawn_by_split(data.split, data.sound, share, settings.kind, rng)
    given = np.where(drawn, class_number(settings.label, data.classes), data.table["label"].to_numpy())
    stamped = trigger.on(data.inputs[data.table.loc[drawn, "example"].to_numpy()])
    return replace(data.corrupted(drawn, labels=given, inputs=stamped), trigger=trigger)


def trigger_for(settings: BackdoorSettings, inputs: NDArray[Any]) -> Trigger:
    """The patch, for these training inputs.

    Raises:
        RepairError: if the inputs are no images that it fits on, or cannot hold its value.
    """
    if inputs.ndim != 4 or min(inputs.shape[2:]) < settings.size:
        raise RepairError(
            f"a backdoor of {settings.size} × {settings.size} pixels needs images of at least that size, and an input "
            f"has the shape {inputs.shape[1:]}: use another corruption or a smaller size"
        )
    value = float(inputs.max()) if settings.value is None else settings.value
    if inputs.dtype.kind in "iu":
        limits = np.iinfo(inputs.dtype)
        if value != round(value) or not limits.min <= value <= limits.max:
            raise RepairError(
                f"the backdoor's value is {value:g}, and inputs hold whole numbers from {limits.min} to {limits.max}: "
                "give one of these, or null for the largest that there is"
            )
    return Trigger(settings.corner, settings.size, value)


def with_triggered_copies(
    trigger: Trigger, inputs: NDArray[Any], table: pd.DataFrame
) -> tuple[NDArray[Any], pd.DataFrame]:
    """The test examples, and behind them a copy with the patch and the right label of each that is not reserved.

    A copy belongs to the part of its original. So failures on what carries the patch are found, watched and measured
    as any others are, and the clean images stay as many as they were.

    Args:
        trigger: the patch.
        inputs: (t, channels, height, width) images.
        table: `example`, `part` and `label` of each, in the order of the images.

    Returns:
        (t + c, channels, height, width) inputs; and the table of them, with `is_triggered`.
    """
    originals = table[table["part"] != "reserved"]
    copies = originals.assign(example=len(inputs) + np.arange(len(originals)), is_triggered=True)
    stamped = trigger.on(inputs[originals["example"].to_numpy()])
    tests = pd.concat([table.assign(is_triggered=False), copies], ignore_index=True)
    return np.concatenate([inputs, stamped]), tests
