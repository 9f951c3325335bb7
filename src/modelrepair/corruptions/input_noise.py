"""Noise on inputs, whose labels stay right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.corruptions.base import TrainingData, value_range
from modelrepair.corruptions.drawing import queues_by_class
from modelrepair.settings.corruption import InputNoiseSettings

AT_ONCE = 1024
"""So many inputs are in memory as floats at a time."""


def input_noise(settings: InputNoiseSettings, data: TrainingData, rng: np.random.Generator) -> TrainingData:
    """Tanno et al. 2022, section 4.1: salt and pepper on images of digits, Gaussian noise on those of CIFAR-10."""
    drawn = np.zeros(len(data.table), dtype=bool)
    for wanted, queue in queues_by_class(settings, data, rng):
        drawn[queue[:wanted]] = True
    low, high = value_range(data.inputs, settings.kind)
    rows = data.table.loc[drawn, "example"].to_numpy()
    noisy = np.empty((len(rows), *data.inputs.shape[1:]), dtype=data.inputs.dtype)
    for start in range(0, len(rows), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        noisy[part] = NOISES[settings.noise](data.inputs[rows[part]], settings.amount, low, high, rng)
    return data.corrupted(drawn, inputs=noisy)


def salt_and_pepper(
    inputs: NDArray[Any], amount: float, low: float, high: float, rng: np.random.Generator
) -> NDArray[Any]:
    """Of the places of each image, drawn one by one with probability `amount`, half made darkest, half brightest.

    A place is a pixel with all its channels or, of what is no image, a single value.

    Args:
        inputs: (m, channels, height, width), or (m, ...) of any other shape.
        amount: from 0 to 1.
        low, high: the darkest and the brightest value.
        rng: draws.
    """
    places = (len(inputs), 1, *inputs.shape[2:]) if inputs.ndim == 4 else inputs.shape
    drawn = rng.random(places)
    salted = np.where(drawn < amount, np.asarray(high, inputs.dtype), inputs)
    return np.where(drawn < amount / 2, np.asarray(low, inputs.dtype), salted)


def gaussian(
    inputs: NDArray[Any], amount: float, low: float, high: float, rng: np.random.Generator
) -> NDArray[Any]:
    """x + s·amount·(high - low) with s standard normal for every value, clipped to the range; of bytes rounded.

    Args:
        inputs: (m, ...).
        amount: the noise's standard deviation, in units of the range.
        low, high: the smallest and the greatest value that there may be.
        rng: draws.
    """
    noise = rng.standard_normal(inputs.shape, dtype=np.float32)
    noisy = np.clip(inputs + noise * np.float32(amount * (high - low)), low, high)
    whole: NDArray[Any] = np.rint(noisy) if inputs.dtype.kind in "iu" else noisy
    return whole.astype(inputs.dtype)


NOISES: dict[str, Callable[..., NDArray[Any]]] = {"gaussian": gaussian, "salt-and-pepper": salt_and_pepper}
