"""The diagonal of the empirical Fisher."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from modelrepair.curvature.base import (
    Curvature,
    checked_damping,
    columns,
    load_fit,
    no_options,
    require_finite,
    right_hand_sides,
    save_fit,
)
from modelrepair.errors import RepairError
from modelrepair.gradients.recorder import Recorder
from modelrepair.gradients.rows import sum_of_squares
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel

FLOOR = 1e-6


class DiagonalFisher(Curvature):
    """M = diag((1/n) Σᵢ gᵢ²): no parameter's stiffness depends on another (Tanno et al. 2022, section 2.3).

    Parameters of dead units have entries of exactly 0. With a damping of 0, `solve` raises all entries to at
    least 1e-6 of the largest, and says so in a RuntimeWarning.
    """

    name = "diagonal"

    def __init__(self, model: TrainedModel, examples: Examples, entries: Tensor) -> None:
        self._model = model
        self._examples = examples
        self.entries = entries

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        parameters = model.parameters
        sums = {name: p.new_zeros(p.numel(), dtype=torch.float64) for name, p in parameters.items()}
        recorder = Recorder(model, examples)
        for _, gradients in recorder.batches(examples, set(parameters)):
            for name, rows in gradients:
                sums[name] += sum_of_squares(rows)
        entries = torch.cat(list(sums.values())) / len(examples)
        require_finite(cls.name, [entries := entries.to(model.dtype)])
        return cls(model, examples, entries)

    def damped(self, damping: float) -> Self:
        other = copy.copy(self)
        other.damping = checked_damping(damping)
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        vectors = columns(vector, self._model)
        return (vectors * (self.entries + self.damping).to(vectors.dtype).unsqueeze(1)).view_as(vector)

    def solve(self, vector: Tensor) -> Tensor:
        vectors = right_hand_sides(vector, self._model)
        stiffness = self.entries + self.damping
        if self.damping == 0:
            floor = FLOOR * stiffness.max()
            if not floor > 0:
                raise RepairError(
                    "all gradients are 0, so the Fisher is 0: use a damping above 0, such as 0.01"
                )
            low = int((stiffness < floor).sum())
            if low:
                warnings.warn(
                    f"the diagonal Fisher of {low} of {len(stiffness)} parameters is below {FLOOR:g} of the largest "
                    f"entry ({int((stiffness == 0).sum())} are 0) and was raised to {float(floor):.1e}: a damping "
                    "above 0 would make the choice yours",
                    RuntimeWarning,
                    stacklevel=2,
                )
                stiffness = stiffness.clamp_min(float(floor))
        return (vectors / stiffness.to(vectors.dtype).unsqueeze(1)).view_as(vector)

    def save(self, folder: Path) -> None:
        save_fit(folder, self.name, self._model, self._examples, {"entries": self.entries})

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        return cls(model, examples, load_fit(folder, cls.name, model, examples)["entries"])
