"""How sure a share of few examples is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError

TWO_SIDED_95_PERCENT = 1.959963984540054


def wilson_interval(
    successes: ArrayLike, examples: ArrayLike, z: float = TWO_SIDED_95_PERCENT
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where a share lies that was seen k times in n: (p̂ + z²/2n ± z√(p̂(1 − p̂)/n + z²/4n²)) / (1 + z²/n).

    Wilson 1927, "Probable inference, the law of succession, and statistical inference": the shares p for which |p̂ − p|
    is within z of its standard deviations √(p(1 − p)/n). It stays within [0, 1], and has a width where p̂ is 0 or 1.

    Args:
        successes, examples: k and n, counts of the same shape.
        z: how many standard deviations; by default the interval holds with a probability of about 95 %.

    Returns:
        The lower and the upper ends, in [0, 1]; NaN without examples.

    Raises:
        RepairError: if a count is negative, or there are more successes than examples.
    """
    hits, counts = np.asarray(successes, dtype=np.float64), np.asarray(examples, dtype=np.float64)
    if hits.shape != counts.shape or (hits < 0).any() or (hits > counts).any():
        raise RepairError(
            f"successes of shape {hits.shape} among examples of shape {counts.shape}: give for each share from 0 to as "
            "many successes as there are examples"
        )
    n = np.where(counts > 0, counts, np.nan)
    share = hits / n
    middle, scale = share + z**2 / (2 * n), 1 + z**2 / n
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum((middle - half) / scale, 0.0), np.minimum((middle + half) / scale, 1.0)
