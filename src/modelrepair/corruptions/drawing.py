"""How many examples a corruption draws, and from which data it can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings.corruption import DrawnSettings


def require_classes(table: pd.DataFrame, kind: str) -> NDArray[Any]:
    """(n,) the true class numbers.

    Raises:
        RepairError: if examples have attributes instead.
    """
    labels = table["label"].to_numpy()
    if labels.dtype == object:
        raise RepairError(
            f"{kind} needs one class an example, but these have attributes: use corruption none"
        )
    return labels


def share_of(settings: DrawnSettings, members: int, what: str) -> float:
    """The share that is drawn, `share` itself or `count` of the members.

    Args:
        settings: with one of the two.
        members: those of the training split.
        what: they are, for messages.

    Raises:
        RepairError: if more are to be drawn than there are.
    """
    if settings.share is not None:
        return settings.share
    count = settings.count or 0
    if count > members:
        raise RepairError(
            f"{settings.chosen} is to corrupt {count} {what}, of which there are {members}: give a smaller count"
        )
    return count / members


def drawn_by_split(split: NDArray[np.str_], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(n,) whether an example is drawn: the share of every split, rounded, at random.

    With one seed a higher share draws the same examples and more.
    """
    drawn = np.zeros(len(split), dtype=bool)
    for name in np.unique(split):
        members = rng.permutation(np.flatnonzero(split == name))
        # The small shift makes 0.1·5 round up everywhere, whatever the last binary digit.
        drawn[members[: int(share * len(members) + 0.5 + 1e-9)]] = True
    return drawn
