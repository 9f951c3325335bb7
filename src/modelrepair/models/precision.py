"""Products in the precision of their numbers, on every device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Float32 products are float32 products: no TensorFloat-32, whose 10 bits would be the whole residual.

    A GPU takes it for convolutions unless it is told otherwise.
    """
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    # Alone: `cudnn.flags` would also set what it is not told, such as whether algorithms are deterministic.
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """`exact_products`, with gradients enabled within, whatever they were outside."""
    with exact_products(), torch.enable_grad():
        yield
