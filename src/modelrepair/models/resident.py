"""Arrays of inputs that a GPU holds as a whole: a batch is picked out there, instead of being sent each time.

A batch of photographs is sent from ordinary memory while nothing else goes on, and takes as long as a small network's
step. Arrays that nobody may write to, as those that a stage maps from a file, are the same tomorrow: the first batch
sends all of one, where there is room, and all sets of examples that choose from it share it.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHARE_OF_FREE_MEMORY = 0.25
SENT_AT_A_TIME = 64 * 2**20
KINDS = tuple(np.dtype(kind) for kind in (bool, "u1", "i2", "i4", "i8", "f2", "f4", "f8"))
"""Types that a device picks rows of."""

_held: dict[tuple[int, torch.device], Tensor | None] = {}


def rows_held(array: NDArray[np.generic], rows: NDArray[np.int64], device: torch.device) -> Tensor | None:
    """(len(rows), ...) these rows of an array, picked out on the device; None where it does not hold the array.

    Args:
        array: (N, ...).
        rows: from 0 to N - 1.
        device: where the rows are wanted.
    """
    whole = _whole(array, device)
    return None if whole is None else whole.index_select(0, torch.from_numpy(rows).to(device))


def worth_holding(device: torch.device) -> bool:
    """Whether a batch has a way to go to this device."""
    return device.type == "cuda"


def room(device: torch.device) -> int:
    """Bytes that one array may take of a GPU's memory."""
    return int(SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(device)[0])


def _whole(array: NDArray[np.generic], device: torch.device) -> Tensor | None:
    if not worth_holding(device) or array.flags.writeable or array.dtype not in KINDS or not array.size:
        return None
    key = id(array), device
    if key not in _held:
        # Forgotten with the array, whose number another may get.
        weakref.finalize(array, _held.pop, key, None)
        _held[key] = _sent(array, device) if array.nbytes <= room(device) else None
    return _held[key]


def _sent(array: NDArray[np.generic], device: torch.device) -> Tensor | None:
    """The array on the device, read a part at a time; None if there is no memory for it after all."""
    step = max(1, SENT_AT_A_TIME // array[0].nbytes)
    try:
        first = torch.from_numpy(np.array(array[:step]))
        whole = torch.empty(array.shape, dtype=first.dtype, device=device)
        whole[: len(first)] = first
        for start in range(step, len(array), step):
            whole[start : start + step] = torch.from_numpy(np.array(array[start : start + step])).to(device)
    except torch.OutOfMemoryError:
        return None
    return whole
