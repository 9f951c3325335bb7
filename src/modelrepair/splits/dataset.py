"""Training and validation, and the three parts of the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import further_label_column, label_column, strata
from modelrepair.errors import RepairError


def split_training(
    labels: NDArray[Any], validation_fraction: float, rng: np.random.Generator
) -> NDArray[np.str_]:
    """(n,) "train" or "validation": that fraction of every class, rounded, at random.

    A class always keeps at least one training example.

    Args:
        labels: (n,) class numbers, or (n, k) attributes, which are split as one stratum.
        validation_fraction: at least 0 and below 1.

    Raises:
        RepairError: if the fraction is out of range.
    """
    if not 0 <= validation_fraction < 1:
        raise RepairError(
            f"validation_fraction is {validation_fraction}: give a number of at least 0 and below 1"
        )
    split = np.full(len(labels), "train", dtype="<U10")
    for _, members in strata(labels):
        # The small shift makes 0.1·5 round up everywhere, whatever the last binary digit.
        count = min(int(validation_fraction * len(members) + 0.5 + 1e-9), len(members) - 1)
        split[rng.permutation(members)[:count]] = "validation"
    return split


def training_table(labels: NDArray[Any], split: NDArray[np.str_]) -> pd.DataFrame:
    """One row for each training example: `example` (its row in the inputs), `split`, `label`."""
    return pd.DataFrame({"example": np.arange(len(labels)), "split": split, "label": label_column(labels)})


def split_test(
    labels: NDArray[Any], rng: np.random.Generator, *, reserved: int, assessment: int
) -> NDArray[np.str_]:
    """(n,) "reserved", "discovery" or "assessment" for each test example, at random within its class.

    Reserved and assessment are balanced: every class gives the same number, and where a total does not
    divide, the first classes give one more. Discovery is the rest, as unbalanced as the test set is.

    Args:
        labels: (n,) class numbers, or (n, k) attributes, which are split as one stratum.
        reserved, assessment: totals; the published repair tables are means over balanced assessment sets.

    Raises:
        RepairError: if a class has too few examples, or discovery is left
            empty.
    """
    totals = {"reserved": reserved, "assessment": assessment}
    groups = list(strata(labels))
    split = np.full(len(labels), "discovery", dtype="<U10")
    for position, (number, members) in enumerate(groups):
        clean, assessed = (
            total // len(groups) + (position < total % len(groups)) for total in totals.values()
        )
        if clean + assessed > len(members):
            raise RepairError(
                f"class {number} has {len(members)} test examples, fewer than the {clean} for reserved and "
                f"{assessed} for assessment that {totals['reserved']} and {totals['assessment']} in all ask "
                "of it: make these two smaller"
            )
        shuffled = rng.permutation(members)
        split[shuffled[:clean]] = "reserved"
        split[shuffled[clean : clean + assessed]] = "assessment"
    if not (split == "discovery").any():
        raise RepairError(
            f"reserved ({totals['reserved']}) and assessment ({totals['assessment']}) take all {len(labels)} "
            "test examples and leave none to discover failures in: make one of them smaller"
        )
    return split


def test_table(labels: NDArray[Any], part: NDArray[np.str_]) -> pd.DataFrame:
    """One row for each test example: `example` (its row in the inputs), `part`, `label`."""
    return pd.DataFrame({"example": np.arange(len(labels)), "part": part, "label": label_column(labels)})


def with_files(table: pd.DataFrame, files: Sequence[str] | None) -> pd.DataFrame:
    """A table of training or test examples with a column `file`; as it is where they are no files."""
    return table if files is None else table.assign(file=files)


def with_further_labels(table: pd.DataFrame, labels: Mapping[str, NDArray[np.int64]]) -> pd.DataFrame:
    """The table of training examples with others' labels (n,) in columns of their own, `further_label_column`."""
    return table.assign(**{further_label_column(name): numbers for name, numbers in labels.items()})
