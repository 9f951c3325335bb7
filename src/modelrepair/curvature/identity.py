"""No curvature at all: with it a natural-gradient step is a plain gradient step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from modelrepair.curvature.base import (
    Curvature,
    checked_damping,
    columns,
    load_fit,
    no_options,
    right_hand_sides,
    save_fit,
)
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples, chosen_positions
from modelrepair.models.trained_model import TrainedModel


class Identity(Curvature):
    """M = 0, so F̂ = λI: every direction is as stiff as any other.

    Deleting with it is gradient ascent on the loss of what is deleted, the baseline of Peste et al. 2021
    (section 5.3, Figure 6): with λ = 1, ε is its learning rate.
    """

    name = "identity"

    def __init__(self, model: TrainedModel, examples: Examples) -> None:
        self._model = model
        self._examples = examples

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        return cls(model, examples)

    def damped(self, damping: float) -> Self:
        other = copy.copy(self)
        other.damping = checked_damping(damping)
        return other

    def without(self, indices: ArrayLike) -> Self:
        """The same: it does not depend on the examples.

        Raises:
            RepairError: if none are left or a position does not exist.
        """
        if len(np.unique(chosen_positions(indices, len(self._examples)))) >= len(self._examples):
            raise RepairError("without all of its examples a curvature has none left: remove fewer")
        return copy.copy(self)

    def matvec(self, vector: Tensor) -> Tensor:
        return self.damping * columns(vector, self._model).view_as(vector)

    def solve(self, vector: Tensor) -> Tensor:
        if self.damping == 0:
            raise RepairError(
                "the curvature identity is nothing but its damping, which is 0: use a damping of 1"
            )
        return right_hand_sides(vector, self._model).view_as(vector) / self.damping

    def save(self, folder: Path) -> None:
        save_fit(folder, self.name, self._model, self._examples, {})

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        load_fit(folder, cls.name, model, examples)
        return cls(model, examples)
