"""A linear model: multinomial or multi-label logistic regression."""

from __future__ import annotations

import math

from torch import Tensor, nn


class Linear(nn.Module):
    """Logits that are linear in the flattened input; convex in its parameters.

    Args:
        input_shape: shape of one input.
        outputs: number of classes or attributes.
        bias: whether there is one; Peste et al. 2021 (section 5.1) train without.
    """

    def __init__(self, input_shape: tuple[int, ...], outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), outputs, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, outputs) of inputs (n, ...)."""
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits


Network = Linear
