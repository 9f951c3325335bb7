"""Labelled examples, held as arrays that may be memory-mapped and are read a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modelrepair.errors import RepairError


class Examples:
    """n labelled examples z = (x, y): chosen rows of an array of inputs, of which nothing is read until it is used.

    Args:
        inputs: (N, ...) array: images as uint8 of shape (N, channels, height, width), or any floats.
        targets: (n,) class numbers, or (n, k) floats (binary attributes, or class probabilities).
        rows: (n,) which row of the inputs each target belongs to; by default all N, in order.

    Raises:
        RepairError: if targets and rows differ in length, or a row is not there.
    """

    def __init__(
        self, inputs: NDArray[np.generic], targets: NDArray[np.generic], rows: ArrayLike | None = None
    ) -> None:
        self._inputs = inputs
        self.targets = targets
        self.rows = np.arange(len(inputs)) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(self.rows) != len(self.targets):
            raise RepairError(
                f"there are {len(self.rows)} inputs and {len(self.targets)} targets: give one target for each input"
            )
        if len(self.rows) and not 0 <= self.rows.min() <= self.rows.max() < len(inputs):
            absent = self.rows.min() if self.rows.min() < 0 else self.rows.max()
            raise RepairError(
                f"the examples name input {absent} and there are {len(inputs)}: the two do not belong together"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def inputs(self) -> NDArray[np.generic]:
        """(n, ...) the inputs of this set, read into memory."""
        return np.asarray(self._inputs[self.rows])

    def subset(self, positions: ArrayLike) -> Examples:
        """The examples at these positions (0 to n-1, or a boolean mask of length n) of this set."""
        chosen = np.asarray(positions)
        if not chosen.size:
            chosen = chosen.astype(np.int64)
        return Examples(self._inputs, self.targets[chosen], self.rows[chosen])

    def batch(
        self,
        positions: ArrayLike | slice,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets at these positions as tensors.

        Byte images become floats in [0, 1]; other inputs keep their values. Class numbers become int64,
        all other targets `dtype`.
        """
        chosen = positions if isinstance(positions, slice) else np.asarray(positions)
        raw = np.array(self._inputs[self.rows[chosen]])
        inputs = torch.from_numpy(raw).to(device).to(dtype)
        if raw.dtype == np.uint8:
            inputs = inputs / 255
        targets = torch.from_numpy(np.array(self.targets[chosen])).to(device)
        return inputs, targets.to(dtype) if targets.is_floating_point() else targets.long()

    def batches(
        self, size: int, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Walk through the set in order: (positions, inputs, targets) of at most `size` examples."""
        for start in range(0, len(self), size):
            positions = slice(start, min(start + size, len(self)))
            yield positions, *self.batch(positions, device=device, dtype=dtype)
