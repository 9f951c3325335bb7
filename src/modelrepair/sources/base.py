"""What every source of data gives, and what several of them do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.data.classes import strata
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError


@dataclass(frozen=True)
class Dataset:
    """Training and test data of k classes or attributes, as they are before anything is done to them.

    Attributes:
        train_inputs: (n, channels, height, width) bytes, or (n, features) float32.
        train_labels: (n,) int64 class numbers below k, or (n, k) float32 attributes, each 0 or 1.
        test_inputs: as train_inputs, (m, ...).
        test_labels: as train_labels.
        classes: the k names.
        description: where training and test data came from, in words.
    """

    train_inputs: NDArray[Any]
    train_labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    classes: tuple[str, ...]
    description: str


def drawn_per_class(labels: NDArray[Any], count: int, seed: int, origin: str) -> NDArray[np.bool_]:
    """(n,) mask of `count` examples of every class, drawn at random.

    Args:
        labels: (n,) class numbers.
        count: `training_per_class`.
        seed: of the drawing.
        origin: of the labels, for messages.

    Raises:
        RepairError: if a class has fewer, or examples have attributes instead of classes.
    """
    if labels.ndim == 2:
        raise RepairError(f"{origin} has attributes instead of classes: leave training_per_class out")
    rng = generator(seed, "draw training examples")
    drawn = np.zeros(len(labels), dtype=bool)
    for number, members in strata(labels):
        if len(members) < count:
            raise RepairError(
                f"training_per_class is {count}, but class {number} has only {len(members)} images in {origin}: "
                "make it smaller"
            )
        drawn[rng.permutation(members)[:count]] = True
    return drawn
