"""Which failures each of several updates teaches, where a model is told of them bit by bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError


def update_of(facts: ArrayLike, updates: int) -> NDArray[np.int64]:
    """(f,) from 0 the update that teaches each failure; all failures of a fact are taught in one.

    Facts come in the order of their numbers, one in each update in turn, so that every update has facts of every
    relation.

    Args:
        facts: (f,) numbers of the facts that the failures ask for; of failures that ask for none, their own numbers.
        updates: how many there are.

    Raises:
        RepairError: if there are fewer facts.
    """
    different, places = np.unique(np.asarray(facts), return_inverse=True)
    if len(different) < updates:
        raise RepairError(
            f"there are {updates} updates for {len(different)} failing facts, and each is to teach one at least: make "
            "updates smaller"
        )
    return np.asarray(places, dtype=np.int64) % updates
