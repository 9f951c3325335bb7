"""Labelled examples, held as arrays that may be memory-mapped and are read a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.passes import own
from modelrepair.models.resident import rows_held


def chosen_positions(given: ArrayLike, count: int) -> NDArray[np.int64]:
    """The positions of chosen examples, in the order given, or those at which a mask is true.

    Args:
        given: positions from 0 to count - 1, or a boolean mask (count,).
        count: how many examples there are to choose from.

    Raises:
        RepairError: for a mask of another length, a position that does not exist, or what is neither.
    """
    chosen = np.asarray(given)
    if chosen.dtype == np.bool_:
        if chosen.shape != (count,):
            raise RepairError(
                f"a mask of shape {chosen.shape} was given to choose among {count} examples: give one truth value for "
                "each, or positions"
            )
        return np.flatnonzero(chosen)
    if not chosen.size:
        return np.empty(0, dtype=np.int64)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise RepairError(
            f"an array of shape {chosen.shape} and type {chosen.dtype} was given to choose among {count} examples: "
            f"give positions from 0 to {count - 1}, or a boolean mask"
        )
    absent = chosen[(chosen < 0) | (chosen >= count)]
    if len(absent):
        raise RepairError(
            f"example {absent[0]} of {count} was asked for: give positions from 0 to {count - 1}"
        )
    return chosen.astype(np.int64)


class _Stacked:
    """Two arrays of inputs, one behind the other, of which nothing is read until rows are asked for."""

    def __init__(self, first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
        self._parts = first, second
        self.shape, self.dtype = (len(first) + len(second), *first.shape[1:]), first.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        first, second = self._parts
        result = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        early = rows < len(first)
        result[early] = first[rows[early]]
        result[~early] = second[rows[~early] - len(first)]
        return result

    def held(self, rows: NDArray[np.int64], device: torch.device) -> Tensor | None:
        """These rows, picked out on the device; None where it does not hold both arrays."""
        early = rows < len(self._parts[0])
        first = _rows_held(self._parts[0], rows[early], device)
        second = (
            None if first is None else _rows_held(self._parts[1], rows[~early] - len(self._parts[0]), device)
        )
        if first is None or second is None:
            return None
        # Where each row is, in the one behind the other.
        places = np.where(early, np.cumsum(early), len(first) + np.cumsum(~early)) - 1
        return torch.cat([first, second]).index_select(0, torch.from_numpy(places).to(device))


def _rows_held(
    source: NDArray[np.generic] | _Stacked, rows: NDArray[np.int64], device: torch.device
) -> Tensor | None:
    return source.held(rows, device) if isinstance(source, _Stacked) else rows_held(source, rows, device)


class Examples:
    """n labelled examples z = (x, y): chosen rows of an array of inputs, of which nothing is read until it is used.

    Args:
        inputs: (N, ...) array: images as uint8 of shape (N, channels, height, width), any floats, or any other
            integers, such as token ids. One that cannot be written to is taken for one that stays as it is.
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
        """The examples at these positions (0 to n-1, or a boolean mask of length n) of this set.

        Raises:
            RepairError: if a position is not there, or the mask is of another length.
        """
        chosen = chosen_positions(positions, len(self))
        return Examples(self._inputs, self.targets[chosen], self.rows[chosen])

    def with_targets(self, targets: NDArray[np.generic]) -> Examples:
        """The same inputs, of which none is read, with other targets.

        Raises:
            RepairError: if there is not one for each.
        """
        return Examples(self._inputs, targets, self.rows)

    def followed_by(self, other: Examples) -> Examples:
        """These examples and, behind them, others of the same kind.

        Raises:
            RepairError: if inputs or targets are of another shape or type.
        """
        if not len(other):
            return self
        kinds = [
            [(array.shape[1:], array.dtype) for array in (one._inputs, one.targets)] for one in (self, other)
        ]
        if kinds[0] != kinds[1]:
            raise RepairError(
                f"examples with inputs and targets of shapes and types {kinds[0]} and {kinds[1]} cannot be one set: "
                "give both in the same form"
            )
        if self._inputs is other._inputs:
            inputs, rows = self._inputs, other.rows
        else:
            inputs, rows = _Stacked(self._inputs, other._inputs), other.rows + len(self._inputs)  # type: ignore[assignment]
        return Examples(
            inputs, np.concatenate([self.targets, other.targets]), np.concatenate([self.rows, rows])
        )

    def batch(
        self,
        positions: ArrayLike | slice,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets at these positions as tensors.

        Byte images (uint8 in 4 dimensions) become `dtype` in [0, 1], floats and truth values `dtype`. All other integer
        inputs become int64, whatever `dtype` is: they are taken for ids, which no float type of a model need hold.
        Class numbers become int64, all other targets `dtype`.

        Raises:
            RepairError: if a position is not there, or the inputs are no real numbers.
        """
        chosen = positions if isinstance(positions, slice) else chosen_positions(positions, len(self))
        rows, kind, device = self.rows[chosen], self._inputs.dtype, torch.device(device)
        if kind.kind not in "biuf":
            raise RepairError(f"the inputs are of type {kind}: give floats, byte images, or integers as ids")
        image = kind == np.uint8 and len(self._inputs.shape) == 4
        ids = kind.kind in "iu" and not image
        inputs = _rows_held(self._inputs, rows, device)
        if inputs is None:
            raw = np.array(self._inputs[rows])
            inputs = torch.from_numpy(raw.astype(np.int64) if ids else raw).to(device)
        inputs = inputs.long() if ids else inputs.to(dtype)
        inputs = inputs / 255 if image else inputs
        targets = torch.from_numpy(np.array(self.targets[chosen])).to(device)
        return inputs, targets.to(dtype) if targets.is_floating_point() else targets.long()

    def batches(
        self,
        size: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        shared: bool = False,
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Walk through the set in order: (positions, inputs, targets) of at most `size` examples.

        Args:
            size: of a batch.
            device: where inputs and targets go.
            dtype: as in `batch`.
            shared: among processes that work together: each gets its part of the same batches, and who asks puts their
                results together, by `passes.PerExample` or `passes.summed`.
        """
        starts = range(0, len(self), size)
        for start in own(starts) if shared else starts:
            positions = slice(start, min(start + size, len(self)))
            yield positions, *self.batch(positions, device=device, dtype=dtype)
