"""A problem on which the posterior is a Gaussian in which no parameter depends on another, whatever the evidence, and a
checkpoint whose process ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelrepair.models.examples import Examples
from modelrepair.pipeline.checkpoint import Checkpoint
from models import linear_gaussian, prior_curvature, with_prior_mode

PRIOR = 2.0


def separate(count: int, seed: int) -> Examples:
    """Noisy examples of the linear-Gaussian model, each of which sees one parameter alone."""
    draw = np.random.default_rng(seed)
    inputs = np.zeros((count, 4))
    inputs[np.arange(count), np.arange(count) % 4] = draw.normal(size=count) + 0.5
    return Examples(inputs, inputs @ np.linspace(-1, 2, 4)[:, None] + draw.normal(size=(count, 1)))


N = 40
DATA, FAILURES = separate(N, 0), separate(6, 1)
BASE = with_prior_mode(linear_gaussian()[0], DATA, PRIOR)
CURVATURE = prior_curvature(BASE, DATA, PRIOR)


def exact(examples: Examples, weights: Any = 1.0) -> tuple[Tensor, Tensor]:
    """(θ, Λ) of the posterior of these weighted examples, parameter by parameter: a division each."""
    counts = np.broadcast_to(weights, len(examples))[:, None]
    precision = (counts * examples.inputs**2).sum(0) + PRIOR
    return (
        torch.from_numpy((counts * examples.inputs * examples.targets).sum(0) / precision),
        torch.from_numpy(precision),
    )


class MortalCheckpoint(Checkpoint):
    """A checkpoint with which the process ends after so many saves."""

    def __init__(self, folder: Path, saves: int) -> None:
        super().__init__(folder, "fingerprint")
        self.left = saves

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        if not self.left:
            raise SystemExit
        self.left -= 1
        super().save(tensors, state)
