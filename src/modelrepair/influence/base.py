"""How harmful is each training example?

One sign everywhere: score(z) > 0 means that removing z is predicted to lower the failure loss; z is harmful.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.training.trajectory import Trajectory
from modelrepair.uncertainty.mean_field import MeanField


@dataclass(frozen=True)
class Investigation:
    """What a score may look at.

    Attributes:
        base: the model that fails, at θ̂.
        updated: the same model with the failures inserted into its posterior, at θ̂₊F.
        examples: the n training examples, with the labels that they were given.
        margins: (epochs + 1, n) how far each given label led after each epoch of the base training, or None.
        discovery: labelled examples outside training, right and wrong ones, or None.
        failures: those of them that the search is for, or None.
        own_effects: (n,) by how much each training example, inserted once more by itself, raises its own log-likelihood
            (`posterior.own_effects`), or None.
        fresh: makes the same network untrained, or None.
        seed: of what is random in a score.
        gaussians: the posterior without and with the failures, around `base` and `updated`, where the update knows more
            than a mode, or None.
        trajectory: of the base training, or None if it was not recorded.
        checkpoint: where a score that takes long keeps its progress, or None.
        known: positions of the causes that are known beforehand, or None.
    """

    base: TrainedModel
    updated: TrainedModel
    examples: Examples
    margins: NDArray[np.float32] | None = None
    discovery: Examples | None = None
    failures: Examples | None = None
    own_effects: NDArray[np.float64] | None = None
    fresh: Callable[[], TrainedModel] | None = None
    seed: int = 0
    gaussians: tuple[MeanField, MeanField] | None = None
    trajectory: Trajectory | None = None
    checkpoint: Checkpoint | None = None
    known: NDArray[np.int64] | None = None


class Influence(ABC):
    """A score of harm."""

    @abstractmethod
    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        """(n,) a score for each training example; positive means harmful."""
