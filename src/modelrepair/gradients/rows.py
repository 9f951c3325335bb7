"""Gradients of many examples by one layer's parameters, from what the layer received and sent back.

In eval mode the gradient of example i by the weight of a linear layer is a sum of outer products over the positions p
at which the layer was applied (one for a fully connected layer, one a pixel for a convolution): Gᵢ = Σ_p bᵢₚ aᵢₚᵀ, with
inputs a and gradients b of the objective by the layer's outputs (Goodfellow 2015, arXiv:1510.01799; Rochette et al.
2019, arXiv:1912.06015, for convolutions).

A row is the sum of the gradients of `minibatch` consecutive examples; its positions are theirs together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.models.passes import at_a_time

WORKING_BYTES = 16 * 2**20
"""What is worked on at a time on a CPU where the rows of a batch would take more."""


class Outer:
    """Rows of a weight's gradient as sums over positions: Gᵣ = left[r] @ right[r]ᵀ, one block a group.

    Args:
        left: (R, groups, out, P), the gradients by outputs.
        right: (R, groups, in, P), the inputs.
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self.left = left
        self.right = right

    @property
    def like(self) -> Tensor:
        """A tensor of their dtype and device."""
        return self.left

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(groups, out, in, P)."""
        _, groups, out, positions = self.left.shape
        return groups, out, self.right.shape[2], positions

    @property
    def entries_written(self) -> int:
        """How many numbers a row takes while it is written out and its entries are squared."""
        groups, out, features, _ = self.sizes
        return 2 * groups * out * features

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, rows: slice) -> Outer:
        return Outer(self.left[rows], self.right[rows])

    def dense(self) -> Tensor:
        """(R, groups · out · in) the rows written out."""
        return torch.bmm(self.left.flatten(0, 1), self.right.flatten(0, 1).mT).view(len(self), -1)


_Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


class Convolved(Outer):
    """The same for a convolution, where the patches that make `right` are only cut out if they are needed.

    Args:
        module: the convolution.
        inputs: (R, minibatch, channels, ...).
        slopes: (R, minibatch, out_channels, ...).
        padding: zeros that the convolution sees at both ends of each axis of the inputs.
    """

    def __init__(self, module: _Convolution, inputs: Tensor, slopes: Tensor, padding: list[int]) -> None:
        self._module = module
        self._inputs = inputs
        self._slopes = slopes
        self._padding = padding

    @property
    def like(self) -> Tensor:
        return self._slopes

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        groups, weight = self._module.groups, self._module.weight
        positions = self._slopes.shape[1] * self._slopes[0, 0, 0].numel()
        return groups, len(weight) // groups, weight[0].numel(), positions

    @property
    def entries_written(self) -> int:
        if self._inputs.is_cuda:
            groups, out, features, positions = self.sizes
            return super().entries_written + groups * (out + features) * positions
        # Beside the result and what is made of it, libraries hold the inputs, the slopes and three copies of the
        # result in orders of their own, in one of which blocks of 16 channels are filled up.
        return 3 * super().entries_written + self._inputs[0].numel() + self._slopes[0].numel()

    def __len__(self) -> int:
        return len(self._slopes)

    def __getitem__(self, rows: slice) -> Convolved:
        return Convolved(self._module, self._inputs[rows], self._slopes[rows], self._padding)

    @cached_property
    def left(self) -> Tensor:  # type: ignore[override]
        groups, out, _, _ = self.sizes
        return self._slopes.transpose(1, 2).reshape(len(self), groups, out, -1)

    @cached_property
    def right(self) -> Tensor:  # type: ignore[override]
        module, axes = self._module, len(self._module.kernel_size)
        inputs = F.pad(self._inputs, [width for width in reversed(self._padding) for _ in range(2)])
        inputs = inputs.contiguous()
        strides = inputs.stride()
        # (R, minibatch, channels, *kernel, *positions): a view with every patch that the kernel meets.
        patches = inputs.as_strided(
            (*inputs.shape[:3], *module.kernel_size, *self._slopes.shape[3:]),
            (
                *strides[:3],
                *(step * by for step, by in zip(strides[3:], module.dilation, strict=True)),
                *(step * by for step, by in zip(strides[3:], module.stride, strict=True)),
            ),
        )
        order = (0, *range(2, 3 + axes), 1, *range(3 + axes, 3 + 2 * axes))
        return patches.permute(order).reshape(len(self), module.groups, -1, self.sizes[3])

    def dense(self) -> Tensor:
        if self._inputs.is_cuda:
            return super().dense()
        # One convolution in which every row is a group of its own; on CPUs it is faster than cutting patches.
        inputs, slopes = self._inputs, self._slopes
        module, count = self._module, len(inputs)
        shape = (count * module.out_channels, *module.weight.shape[1:])
        gradient: Tensor = torch.ops.aten.convolution_backward(
            slopes.transpose(0, 1).flatten(1, 2),
            inputs.transpose(0, 1).flatten(1, 2),
            inputs.new_empty(1).expand(shape),
            None,
            module.stride,
            self._padding,
            module.dilation,
            False,
            [0] * len(self._padding),
            count * module.groups,
            [False, True, False],
        )[1]
        return gradient.reshape(count, -1)


Rows = Outer | Tensor


def dense(rows: Rows) -> Tensor:
    """(R, numel) rows written out."""
    return rows.dense() if isinstance(rows, Outer) else rows


def written_out(rows: Rows) -> Iterator[tuple[slice, Tensor]]:
    """A few rows at a time, written out, and which they are; takes about `WORKING_BYTES` beside them."""
    if isinstance(rows, Outer):
        size = rows.entries_written * rows.like.element_size()
    else:
        size = 2 * rows[:1].numel() * rows.element_size()
    like = rows.like if isinstance(rows, Outer) else rows
    for part in _parts(len(rows), size, like.device):
        yield part, dense(rows[part])


def factors(rows: Outer) -> Iterator[tuple[slice, Outer]]:
    """A few rows at a time, and which they are, so that copies of their factors take about `WORKING_BYTES`."""
    groups, out, features, positions = rows.sizes
    size = 4 * groups * (out + features) * positions * rows.like.element_size()
    for part in _parts(len(rows), size, rows.like.device):
        yield part, rows[part]


def _parts(count: int, size: int, device: torch.device) -> Iterator[slice]:
    """0 to count in slices of about `WORKING_BYTES`, where one takes this size."""
    step = max(1, at_a_time(device, WORKING_BYTES) // max(1, size))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def sum_of_squares(rows: Rows) -> Tensor:
    """(numel,) Σᵣ Gᵣ² entry by entry, in float64."""
    if isinstance(rows, Outer):
        groups, out, features, positions = rows.sizes
        total = rows.like.new_zeros(groups * out * features, dtype=torch.float64)
        if groups == positions == 1:
            for _, part in factors(rows):
                total += (part.left[:, 0, :, 0].square().mT @ part.right[:, 0, :, 0].square()).flatten()
            return total
    else:
        total = rows.new_zeros(rows.shape[1], dtype=torch.float64)
    for _, values in written_out(rows):
        total += values.square().sum(0)
    return total


def weighted_squares(rows: Rows, weights: Tensor) -> Tensor:
    """(R,) Σⱼ wⱼ Gᵣⱼ² of weights (numel,), in float64."""
    weights = weights.double().flatten()
    total = weights.new_zeros(len(rows))
    if isinstance(rows, Outer):
        groups, out, features, positions = rows.sizes
        if groups == positions == 1:
            for which, part in factors(rows):
                left, right = (factor[:, 0, :, 0].double().square() for factor in (part.left, part.right))
                total[which] = ((left @ weights.view(out, features)) * right).sum(1)
            return total
    for which, values in written_out(rows):
        total[which] = values.double().square() @ weights
    return total


def all_finite(values: Tensor) -> bool:
    """Whether no number is NaN or infinite; unlike `torch.isfinite` without a copy of them."""
    return not values.numel() or all(bool(torch.isfinite(end)) for end in torch.aminmax(values))


def gather(values: Tensor, minibatch: int) -> Tensor:
    """(n, ...) to (R, minibatch, ...), the last row filled up with zeros."""
    missing = -len(values) % minibatch
    if missing:
        values = torch.cat([values, values.new_zeros(missing, *values.shape[1:])])
    return values.reshape(-1, minibatch, *values.shape[1:])


def _linear(module: nn.Linear, slot: str, inputs: Tensor, slopes: Tensor, minibatch: int) -> Rows:
    left = gather(slopes.reshape(len(slopes), -1, slopes.shape[-1]), minibatch).flatten(1, 2)
    if slot == "bias":
        return left.sum(1)
    right = gather(inputs.reshape(len(inputs), -1, inputs.shape[-1]), minibatch).flatten(1, 2)
    return Outer(left.mT.unsqueeze(1), right.mT.unsqueeze(1))


def _convolution(module: _Convolution, slot: str, inputs: Tensor, slopes: Tensor, minibatch: int) -> Rows:
    if slot == "bias":
        return _channel_sums(slopes, minibatch)
    padding = [0] * len(module.kernel_size)
    if module.padding_mode == "zeros" and not isinstance(module.padding, str):
        padding = list(module.padding)
    elif any(module._reversed_padding_repeated_twice):
        # Other values than zeros, or more at one end than at the other.
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        inputs = F.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
    return Convolved(module, gather(inputs, minibatch), gather(slopes, minibatch), padding)


def _batch_norm(
    module: nn.modules.batchnorm._BatchNorm, slot: str, inputs: Tensor, slopes: Tensor, minibatch: int
) -> Rows:
    if slot == "weight":
        slopes = slopes * F.batch_norm(inputs, module.running_mean, module.running_var, eps=module.eps)
    return _channel_sums(slopes, minibatch)


def _group_norm(module: nn.GroupNorm, slot: str, inputs: Tensor, slopes: Tensor, minibatch: int) -> Rows:
    if slot == "weight":
        slopes = slopes * F.group_norm(inputs, module.num_groups, eps=module.eps)
    return _channel_sums(slopes, minibatch)


def _layer_norm(module: nn.LayerNorm, slot: str, inputs: Tensor, slopes: Tensor, minibatch: int) -> Rows:
    if slot == "weight":
        slopes = slopes * F.layer_norm(inputs, tuple(module.normalized_shape), eps=module.eps)
    return _channel_sums(slopes.reshape(len(slopes), -1, module.weight.numel()).mT, minibatch)


def _channel_sums(values: Tensor, minibatch: int) -> Tensor:
    """(R, channels) sums over the positions and the examples of a row of (n, channels, ...)."""
    return gather(values.reshape(*values.shape[:2], -1).sum(2), minibatch).sum(1)


_LAYERS: list[tuple[type[nn.Module], Callable[..., Rows]]] = [
    (nn.Linear, _linear),
    (nn.Conv1d, _convolution),
    (nn.Conv2d, _convolution),
    (nn.Conv3d, _convolution),
    (nn.modules.batchnorm._BatchNorm, _batch_norm),
    (nn.GroupNorm, _group_norm),
    (nn.LayerNorm, _layer_norm),
]


def layer_rows(module: nn.Module) -> Callable[..., Rows] | None:
    """What makes rows for a parameter of this layer: (module, "weight" or "bias", inputs a, slopes b, minibatch).

    None for a layer of an unknown kind, also if it descends from a known one and computes something else.
    """
    if "forward" in vars(module):
        return None
    same = (make for kind, make in _LAYERS if getattr(kind, "forward", None) is type(module).forward)
    return next(same, None)


def sees_examples(module: nn.Module, inputs: Tensor, count: int) -> bool:
    """Whether the first axis of what a layer of a known kind received can be that of so many examples."""
    axes = 1
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        # With fewer axes it takes what it receives for one example.
        axes = 1 + len(module.kernel_size)
    elif isinstance(module, nn.LayerNorm):
        axes = len(module.normalized_shape)
    return inputs.ndim > axes and len(inputs) == count
