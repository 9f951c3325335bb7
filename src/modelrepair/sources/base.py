"""What every source of data gives, and what several of them do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.data.classes import strata
from modelrepair.data.randomness import generator
from modelrepair.data.tokens import Tokens
from modelrepair.errors import RepairError
from modelrepair.settings import named


@dataclass(frozen=True)
class Dataset:
    """Training and test data of k classes or attributes, as they are before anything is done to them.

    Attributes:
        train_inputs: (n, channels, height, width) bytes, (n, features) float32, or (n, length) int64 numbers of words.
        train_labels: (n,) int64 class numbers below k, or (n, k) float32 attributes, each 0 or 1.
        test_inputs: as train_inputs, (m, ...).
        test_labels: as train_labels.
        classes: the k names.
        description: where training and test data came from, in words.
        drawn: (N,) which of the source's N training examples, in its order, the n are.
        train_files, test_files: names of the files that the inputs came from, where each came from one.
        further_labels: by name, the (n,) class numbers that others than the source give the training examples.
        split: (n,) "train" or "validation", where the source knows better than chance which is which.
        part: (m,) "reserved", "discovery" or "assessment", likewise.
        train_columns, test_columns: by name, what else is known of each example, such as the fact that it states.
        tokens: how the inputs were made of sentences, where not by a vocabulary of the data's own.
        contradictions: by relation, wordings that say its opposite.
        vocabulary: the words that inputs (n, length) are numbers of, where they have names and are not the classes.
    """

    train_inputs: NDArray[Any]
    train_labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    classes: tuple[str, ...]
    description: str
    drawn: NDArray[np.bool_]
    train_files: tuple[str, ...] | None = None
    test_files: tuple[str, ...] | None = None
    further_labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    split: NDArray[np.str_] | None = None
    part: NDArray[np.str_] | None = None
    train_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    test_columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    vocabulary: tuple[str, ...] | None = None
    tokens: Tokens | None = None
    contradictions: Mapping[str, Sequence[str]] = field(default_factory=dict)


def input_file(folder: Path, side: str) -> Path:
    """Where the inputs of a side, "train" or "test", are written."""
    return folder / f"{side}_inputs.npy"


def drawn_for_testing(
    labels: NDArray[np.int64], fraction: float, classes: Sequence[str], seed: int, what: str, origin: str
) -> NDArray[np.bool_]:
    """(n,) the fraction of every class, rounded, at random.

    Args:
        labels: (n,) class numbers.
        fraction: above 0 and below 1.
        classes: their names.
        seed: of the drawing.
        what: the examples are, in words, for messages.
        origin: of the labels, likewise.

    Raises:
        RepairError: if it leaves none of a class for training, or none for testing.
    """
    rng = generator(seed, "draw test images")
    is_test = np.zeros(len(labels), dtype=bool)
    for number, members in strata(labels):
        # The small shift makes 0.1·5 round up everywhere, whatever the last binary digit.
        count = int(fraction * len(members) + 0.5 + 1e-9)
        if not 0 < count < len(members):
            raise RepairError(
                f"a test_fraction of {fraction:g} takes {count} of the {len(members)} {what} of the class "
                f"{named(classes[number])} of {origin}: give one that leaves one for training and one for testing"
            )
        is_test[rng.permutation(members)[:count]] = True
    return is_test


def drawn_per_class(labels: NDArray[Any], count: int | None, seed: int, origin: str) -> NDArray[np.bool_]:
    """(n,) mask of `count` examples of every class, drawn at random.

    Args:
        labels: (n,) class numbers, or, if all are taken, (n, k) attributes.
        count: `training_per_class`; None for all.
        seed: of the drawing.
        origin: of the labels, for messages.

    Raises:
        RepairError: if a class has fewer, or examples have attributes instead of classes.
    """
    if count is None:
        return np.ones(len(labels), dtype=bool)
    if labels.ndim == 2:
        raise RepairError(f"{origin} has attributes instead of classes: leave training_per_class out")
    rng = generator(seed, "draw training examples")
    drawn = np.zeros(len(labels), dtype=bool)
    for number, members in strata(labels):
        if len(members) < count:
            raise RepairError(
                f"training_per_class is {count}, but class {number} has only {len(members)} examples in {origin}: "
                "make it smaller"
            )
        drawn[rng.permutation(members)[:count]] = True
    return drawn
