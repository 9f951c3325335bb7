"""A step's batch in parts, which processes that work together share: the same step, to the byte, however many they are.

A part is gone through as if it were a batch: normalisation layers take the statistics of the part (Hoffer et al. 2017,
arXiv:1705.08741, Algorithm 1), and what a network draws itself is the part's own. With b examples in the batch, b_k of
them in part k and L_k the part's mean loss, the step descends

    L = Σ_k (b_k/b) L_k.

Losses and gradients are added up in the order of the parts, whoever computed them, and what layers remember of what
they have seen, such as running means, is the mean of what each part alone would have made of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.models.differentiable import backward_passes
from modelrepair.models.passes import PerExample, own
from modelrepair.models.trained_model import TrainedModel, flatten


def cut(count: int, parts: int, batch_size: int) -> list[NDArray[np.int64]]:
    """The places 0 to count − 1 of a batch in consecutive parts, as equal as can be.

    As many as `parts` of a whole batch, and of an epoch's last one, which may be smaller, as many as leave none of them
    smaller: statistics of one or two examples say nothing.
    """
    return np.array_split(np.arange(count), max(1, count * parts // batch_size))


def loss_of_parts(
    model: TrainedModel, places: list[NDArray[np.int64]], loss: Callable[[int], Tensor]
) -> Tensor:
    """L, in every process; a backward pass through it gives the parameters the gradient of all parts.

    Args:
        model: in training mode.
        places: of each part's examples in the batch.
        loss: the mean loss L_k of a part k, by the model's parameters.
    """
    parameters, buffers = list(model.parameters.values()), list(model.network.buffers())
    before = [buffer.clone() for buffer in buffers]
    batch = sum(map(len, places))
    found = PerExample(len(places))
    for number in own(range(len(places))):
        _put(buffers, before)
        share = loss(number) * (len(places[number]) / batch)
        with backward_passes():
            gradients = torch.autograd.grad(share, parameters, materialize_grads=True)
        row = flatten([share.detach(), *gradients, *(buffer.to(share.dtype) for buffer in buffers)])
        found.put(slice(number, number + 1), row.unsqueeze(0))
    rows = found.whole()
    total = rows[0].clone()
    for row in rows[1:]:
        total += row
    value, *pieces = torch.split(total, [1, *(tensor.numel() for tensor in (*parameters, *buffers))])
    _put(buffers, [piece / len(places) for piece in pieces[len(parameters) :]])
    slopes = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=False)]
    known: Tensor = _Known.apply(value.squeeze(0), slopes, *parameters)  # type: ignore[no-untyped-call]
    return known


class _Known(torch.autograd.Function):
    """A value with known gradients by some tensors."""

    @staticmethod
    def forward(context: Any, value: Tensor, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        context.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(context: Any, *slopes: Tensor) -> Any:
        return None, None, *(slopes[0] * gradient for gradient in context.gradients)


@torch.no_grad()
def _put(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value.view_as(tensor))
