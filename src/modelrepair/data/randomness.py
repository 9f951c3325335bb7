"""Random streams that do not disturb each other."""

from __future__ import annotations

import zlib

import numpy as np

from modelrepair.errors import RepairError


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The random stream of a seed for one purpose.

    Streams of different purposes are independent, so drawing more numbers for one never changes another.

    Args:
        seed: 0 or more.
        purpose: any fixed text, such as "split test".

    Raises:
        RepairError: if the seed is not a whole number of 0 or more.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise RepairError(f"the seed is {seed!r}: give a whole number of 0 or more")
    # Python's own hash() of a text differs from run to run.
    return np.random.default_rng(np.random.SeedSequence([int(seed), zlib.crc32(purpose.encode())]))
