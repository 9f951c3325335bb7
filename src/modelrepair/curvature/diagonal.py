"""The diagonal of the empirical Fisher, and what every diagonal curvature can do."""

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
    dimension,
    load_fit,
    no_options,
    require_finite,
    right_hand_sides,
    save_fit,
)
from modelrepair.curvature.memory import Estimate, after, passed
from modelrepair.errors import RepairError
from modelrepair.gradients.recorder import Recorder
from modelrepair.gradients.rows import sum_of_squares
from modelrepair.models.examples import Examples
from modelrepair.models.passes import summed
from modelrepair.models.trained_model import TrainedModel

FLOOR = 1e-6


class DiagonalCurvature(Curvature):
    """M = diag(entries), of entries (d,) of 0 or more: no parameter's stiffness depends on another.

    With a damping of 0, `solve` raises all entries to at least 1e-6 of the largest, and says so in a RuntimeWarning.
    """

    def __init__(self, model: TrainedModel, examples: Examples, entries: Tensor) -> None:
        self._model = model
        self._examples = examples
        self.entries = entries

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
                    f"all entries of the curvature {self.name} are 0: use a damping above 0, such as 0.01"
                )
            low = int((stiffness < floor).sum())
            if low:
                warnings.warn(
                    f"the curvature {self.name} of {low} of {len(stiffness)} parameters is below {FLOOR:g} of the "
                    f"largest entry ({int((stiffness == 0).sum())} are 0) and was raised to {float(floor):.1e}: a "
                    "damping above 0 would make the choice yours",
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


class DiagonalFisher(DiagonalCurvature):
    """M = diag((1/n) Σᵢ gᵢ²): no parameter's stiffness depends on another (Tanno et al. 2022, section 2.3).

    Parameters of dead units have entries of exactly 0.
    """

    name = "diagonal"

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        no_options(cls.name, options)
        parameters, recorder = model.parameters, Recorder(model, examples)
        total = torch.zeros(dimension(model), dtype=torch.float64, device=model.device)
        parts = torch.split(total, [p.numel() for p in parameters.values()])
        sums = dict(zip(parameters, parts, strict=True))
        for _, gradients in recorder.batches(examples, set(parameters), shared=True):
            for name, rows in gradients:
                sums[name] += sum_of_squares(rows)
        summed(total)
        entries = total.div_(len(examples)).to(model.dtype)
        require_finite(cls.name, [entries])
        return cls(model, examples, entries)

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        no_options(cls.name, options)
        recorder, d = Recorder(model, examples), dimension(model)
        held, touched = recorder.pass_bytes(len(examples))
        size = recorder.footprint.element
        # The sums in float64, and what a batch adds to one of them; then the entries and what a solve makes of them:
        # the damped ones and the answer.
        added = (8 + size) * max(parameter.numel() for parameter in model.parameters.values())
        fit, solve = 8 * d + added + passed(held, touched), 3 * d * size
        return Estimate(max(fit, after(touched, solve)), len(examples) * recorder.operations_per_example)
