"""Curvatures that store next to nothing and solve by products: conjugate gradients and LiSSA."""

from __future__ import annotations

import copy
import math
import warnings
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from modelrepair.curvature.base import (
    Curvature,
    checked_damping,
    columns,
    dimension,
    load_fit,
    require_finite,
    right_hand_sides,
    save_fit,
)
from modelrepair.curvature.memory import HOLES, HOLES_OF_CONVOLUTIONS, Estimate
from modelrepair.curvature.solvers import euclidean, largest_eigenvalue, largest_share, refined_gradients
from modelrepair.errors import RepairError
from modelrepair.gradients.footprint import in_small_batches, product_bytes
from modelrepair.gradients.products import matrix_product
from modelrepair.gradients.recorder import Recorder
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import read_json, write_json
from modelrepair.settings.curvature import ConjugateGradientSettings, LissaSettings

DIVERGED = 1e3


class _ByProducts(Curvature):
    """M as a product with vectors, at the cost of a pass over the examples each."""

    options_type: ClassVar[type[ConjugateGradientSettings]]
    by_products: ClassVar[bool] = True

    def __init__(
        self, model: TrainedModel, examples: Examples, options: Any, largest: float = math.nan
    ) -> None:
        self._model = model
        self._examples = examples
        self._options = options
        self._largest = largest
        self.residual = math.nan

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Take note of the model and the examples.

        Args:
            model: at θ̂.
            examples: n of them.
            options: the fields of `options_type`.

        Raises:
            RepairError: for options that do not exist or make no sense.
        """
        if not len(examples):
            raise RepairError("curvature was asked for of no examples: give at least one")
        return cls(model, examples, cls.options_type(**options))

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        chosen = cls.options_type(**options)
        recorder, d = Recorder(model, examples), dimension(model)
        batch = min(len(examples), in_small_batches(model, examples).batch_size)
        patches = model.device.type == "cpu" and recorder.footprint.patches > 0
        holes = HOLES_OF_CONVOLUTIONS if patches else HOLES
        passes = holes * product_bytes(chosen.matrix, model, examples, batch)
        # In float64: the right-hand side, the answer of before and the one sought, its change, a direction and a
        # rest; and the model in float64.
        vectors = 8 * d * (6 + (recorder.footprint.element != 8))
        return Estimate(int(vectors + passes), len(examples) * recorder.operations_per_example)

    def damped(self, damping: float) -> Self:
        other = copy.copy(self)
        other.damping, other.residual = checked_damping(damping), math.nan
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        return self._product(columns(vector, self._model), self._examples).view_as(vector)

    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v in the shape of v; `residual` says how well, of x in float64 and by products in float64.

        Raises:
            RepairError: if v is no vector of finite floats as long as θ, or the iteration cannot converge or does not
                in time; says what would help.
        """
        return self._solved(right_hand_sides(vector, self._model).double()).to(vector.dtype).view_as(vector)

    @abstractmethod
    def _solved(self, vectors: Tensor) -> Tensor:
        """(d, k) F̂⁻¹ times vectors in float64."""

    def save(self, folder: Path) -> None:
        tensors = {"largest": torch.tensor(self._largest, dtype=torch.float64)}
        save_fit(folder, self.name, self._model, self._examples, tensors)
        write_json(folder / f"{self.name}.json", self._options.model_dump())

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        tensors = load_fit(folder, cls.name, model, examples)
        options = {**read_json(folder / f"{cls.name}.json"), **options}
        return cls(
            model,
            examples,
            cls.options_type(**options),
            float(tensors["largest"]),
        )

    def _product(self, vectors: Tensor, examples: Examples) -> Tensor:
        """(d, k) F̂v, with M the mean over these examples, by the network in its own type."""
        return self._multiplied(self._batched, vectors, examples)

    def _coarse_product(self, vectors: Tensor) -> Tensor:
        """(d, k) F̂v by the network in its own type."""
        return self._product(vectors, self._examples)

    def _precise_product(self, vectors: Tensor) -> Tensor:
        """(d, k) F̂v by the network in float64."""
        return self._multiplied(self._precise_model, vectors, self._examples)

    def _multiplied(self, model: TrainedModel, vectors: Tensor, examples: Examples) -> Tensor:
        image = matrix_product(self._options.matrix, model, examples, vectors)
        require_finite(self.name, [image])
        return image.add_(vectors, alpha=self.damping)

    @cached_property
    def _batched(self) -> TrainedModel:
        return in_small_batches(self._model, self._examples)

    @cached_property
    def _precise_model(self) -> TrainedModel:
        return self._batched.in_dtype(torch.float64)

    def _remedy(self) -> str:
        return " or matrix: ggn" if self._options.matrix == "hessian" else ""


class ConjugateGradient(_ByProducts):
    """F̂x = v by conjugate gradients; F̂ must be positive (Martens 2010, section 4)."""

    name = "cg"
    options_type = ConjugateGradientSettings

    def _solved(self, vectors: Tensor) -> Tensor:
        found = refined_gradients(
            self._precise_product,
            vectors,
            tolerance=self._options.tolerance,
            iterations=self._options.iterations,
            coarse=None if self._precise_model is self._batched else self._coarse_product,
        )
        self.residual = found.residual
        if not found.residual <= self._options.tolerance and not found.curvature > 0:
            raise RepairError(
                f"conjugate gradients met a direction in which the {self._options.matrix} with damping "
                f"{self.damping:g} has curvature {found.curvature:.1e}, and need it positive in all: use a damping "
                f"above {2 * (self.damping - found.curvature):.0e}{self._remedy()}"
            )
        if not found.residual <= self._options.tolerance:
            raise RepairError(
                f"conjugate gradients reached a residual of {found.residual:.1e} after {found.iterations} products "
                f"and were to reach {self._options.tolerance:g}: use a larger damping, more iterations, or a larger "
                "tolerance"
            )
        return found.vectors


class Lissa(_ByProducts):
    """F̂x = v by the recursion of LiSSA (Agarwal et al. 2017; Koh & Liang 2017, section 3).

    h ← v + (1 − d)h − Mh/σ with d = λ/σ has the fixed point σF̂⁻¹v. It converges if F̂ is positive and σ is above
    half of its largest eigenvalue.
    """

    name = "lissa"
    options_type = LissaSettings

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Measure the largest eigenvalue of M, unless a scale is given."""
        fitted = super().fit(model, examples, **options)
        if fitted._options.scale is None:
            fitted._largest = largest_eigenvalue(fitted.matvec, model.parameter_vector)
        return fitted

    def _solved(self, vectors: Tensor) -> Tensor:
        scale = self._options.scale or 1.1 * (abs(self._largest) + self.damping) or 1.0
        length = euclidean(vectors)
        runs = [self._run(vectors, length, scale, run) for run in range(self._options.repeats)]
        solution = torch.stack(runs).mean(0)
        self.residual = largest_share(vectors - self._precise_product(solution), length)
        if not self.residual <= self._options.tolerance:
            warnings.warn(
                f"LiSSA reached a residual of {self.residual:.1e}, not {self._options.tolerance:g}: use more "
                "iterations, a larger sample, a larger damping, or the curvature gram or cg",
                RuntimeWarning,
                stacklevel=3,
            )
        return solution

    def _run(self, vectors: Tensor, length: Tensor, scale: float, run: int) -> Tensor:
        """x = h/σ after one run of the recursion: x ← x + (v − F̂x)/σ."""
        random = np.random.default_rng([self._options.seed, run])
        solution, examples = torch.zeros_like(vectors), self._examples
        for _ in range(self._options.iterations):
            if self._options.sample is not None:
                drawn = random.integers(len(self._examples), size=self._options.sample)
                examples = self._examples.subset(drawn)
            rest = vectors - self._product(solution, examples)
            achieved = largest_share(rest, length)
            if not achieved < DIVERGED:
                raise self._divergence(scale, examples)
            if self._options.sample is None and achieved <= self._options.tolerance:
                break
            solution = solution + rest / scale
        return solution

    def _divergence(self, scale: float, examples: Examples) -> RepairError:
        """Why the recursion diverged on these examples, and what would help."""
        largest = largest_eigenvalue(lambda v: self._product(v, examples), self._model.parameter_vector)
        if largest > 0 and scale <= largest / 2:
            reason = f"half of the largest eigenvalue {largest:.1e} is above it: use a scale of {1.1 * largest:.1e}"
        else:
            bound = max(largest, 0.0)
            reflected = largest_eigenvalue(
                lambda v: bound * v - self._product(v, examples), self._model.parameter_vector
            )
            lowest = bound - reflected
            reason = (
                f"it has an eigenvalue of {lowest:.1e}: use a damping above {self.damping - 1.5 * lowest:.1e}"
                f"{self._remedy()}"
            )
        return RepairError(
            f"LiSSA diverges on the {self._options.matrix} with damping {self.damping:g} at scale {scale:.1e}, because "
            f"{reason}"
        )
