"""IDX, the format of the MNIST files, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError

_BYTE = 0x08


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file.

    Two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension's length as a
    big-endian 32-bit integer, then the values in row-major order.

    Args:
        path: the file; unpacked on the fly if its name ends in .gz.
        dimensions: how many there should be: 3 for images (n, height, width), 1 for labels (n,).

    Raises:
        RepairError: if the file cannot be read, is truncated or longer than it says, or is something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise RepairError(f"{path} cannot be read ({error}): fetch it again") from error
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, _BYTE, dimensions]):
        raise RepairError(
            f"{path} is no IDX file of bytes in {dimensions} dimensions (its first bytes are "
            f"{content[:4].hex() or 'missing'}): fetch it again"
        )
    shape: tuple[Any, ...] = tuple(np.frombuffer(content, ">u4", dimensions, offset=4).tolist())
    if len(content) - start != math.prod(shape):
        raise RepairError(
            f"{path} should hold {'×'.join(map(str, shape))} bytes but holds {len(content) - start}: it is "
            "truncated or damaged, fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
