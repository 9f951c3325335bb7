"""How what a training ends at depends on each of its steps: the adjoint of one step of an optimiser.

With J any function of the last parameters, u = ∂J/∂θ, and likewise for what the optimiser remembers, a step is gone
through backwards: from the adjoint of the state behind it, and the gradient g that it took, to the adjoint ĝ of g and
those of the state before it. As g = ∇L(θ) + αθ with the batch's mean loss L and the weight decay α, the rest is
common to all: u ← u + (∇²L + αI)ĝ. Vectors are (d,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Adjoint:
    """∂J/∂ of an optimiser's state.

    Attributes:
        parameters: u = ∂J/∂θ.
        first: ∂J/∂ of its running mean of gradients, or its momentum.
        second: ∂J/∂ of its running mean of squared gradients.
    """

    parameters: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Moment:
    """One step that was taken.

    Attributes:
        parameters: θ before it.
        gradient: g, with weight decay.
        first: running mean of gradients behind it, or momentum.
        second: running mean of squared gradients behind it.
        number: of the step since the training began, from 1.
    """

    parameters: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    number: int


Backward = Callable[[Adjoint, Moment, dict[str, Any]], tuple[Adjoint, Tensor]]
"""From the adjoint behind a step, the step and the optimiser's options: the adjoint before it but for g, and ĝ."""


def sgd_backward(behind: Adjoint, moment: Moment, options: dict[str, Any]) -> tuple[Adjoint, Tensor]:
    """b ← μb + g, θ ← θ − ηb, backwards: ĝ = ∂J/∂b − ηu, and ∂J/∂b ← μĝ.

    With Nesterov's momentum θ ← θ − η(g + μb), of which b̂ = ∂J/∂b − ημu, ĝ = b̂ − ηu and ∂J/∂b ← μb̂.
    """
    pull = options["lr"] * behind.parameters
    if options["nesterov"]:
        velocity = behind.first - options["momentum"] * pull
        return replace(behind, first=options["momentum"] * velocity), velocity - pull
    change = behind.first - pull
    return replace(behind, first=options["momentum"] * change), change


def adam_backward(behind: Adjoint, moment: Moment, options: dict[str, Any]) -> tuple[Adjoint, Tensor]:
    """Adam (Kingma & Ba 2015, Algorithm 1), backwards.

    With step k, β̄ᵢ = 1 − βᵢᵏ, s = √(v/β̄₂) and D = s + ε behind the step

        m ← β₁m + (1 − β₁)g,  v ← β₂v + (1 − β₂)g²,  θ ← θ − (η/β̄₁) m/D,

    so m̂ = ∂J/∂m − (η/β̄₁) u/D and v̂ = ∂J/∂v + (η/β̄₁) um/(2β̄₂sD²), of which ∂J/∂m ← β₁m̂, ∂J/∂v ← β₂v̂ and
    ĝ = (1 − β₁)m̂ + 2(1 − β₂)g v̂. Where v = 0, g was 0 in every step, and the term with s in it does not count.
    """
    beta_first, beta_second = options["betas"]
    rate = options["lr"] / (1 - beta_first**moment.number)
    correction = 1 - beta_second**moment.number
    spread = (moment.second / correction).sqrt()
    scale = spread + options["eps"]
    pull = rate * behind.parameters / scale
    first = behind.first - pull
    second = behind.second + torch.where(
        spread > 0, pull * moment.first / (2 * correction * spread * scale), 0.0
    )
    gradient = (1 - beta_first) * first + 2 * (1 - beta_second) * moment.gradient * second
    return replace(behind, first=beta_first * first, second=beta_second * second), gradient


BACKWARD: dict[str, Backward] = {"adam": adam_backward, "sgd": sgd_backward}
REMEMBERED: dict[str, tuple[str, str]] = {
    "adam": ("exp_avg", "exp_avg_sq"),
    "sgd": ("momentum_buffer", ""),
}
"""What PyTorch calls the first and the second running mean in an optimiser's state; nothing if there is none."""
