"""Curvatures that store next to nothing and solve by products: conjugate gradients and LiSSA."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from modelrepair.artifacts import read_json, write_json
from modelrepair.configuration import build, choose
from modelrepair.curvature.base import Curvature, checked_damping, load_fit, save_fit
from modelrepair.curvature.products import MATRICES, matrix_product
from modelrepair.curvature.solvers import conjugate_gradients, largest_eigenvalue
from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel

DIVERGED = 1e3


@dataclass(frozen=True)
class ConjugateGradientOptions:
    """How conjugate gradients work.

    Attributes:
        matrix: what M is: fisher, ggn or hessian (see `products`).
        tolerance: the residual ‖F̂x − v‖/‖v‖ at which to stop.
        iterations: at most this many products with F̂.
    """

    matrix: str = "fisher"
    tolerance: float = 1e-4
    iterations: int = 1000

    def __post_init__(self) -> None:
        choose("curvature matrix", MATRICES, self.matrix)
        if not (self.tolerance > 0 and self.iterations > 0):
            raise RepairError(
                f"tolerance is {self.tolerance} and iterations {self.iterations}: both must be above 0"
            )


@dataclass(frozen=True)
class LissaOptions(ConjugateGradientOptions):
    """How LiSSA works.

    Attributes:
        scale: σ; by default 1.1 times the largest eigenvalue of F̂.
        sample: examples drawn for each product; all of them by default.
        repeats: runs to average, where examples are drawn.
        seed: of the drawing.
    """

    scale: float | None = None
    sample: int | None = None
    repeats: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None and not 0 < self.scale < math.inf:
            raise RepairError(f"scale is {self.scale}: give a positive number, or null to have it measured")
        if self.repeats < 1 or (self.sample is not None and self.sample < 1):
            raise RepairError(f"sample is {self.sample} and repeats {self.repeats}: both must be at least 1")


class _ByProducts(Curvature):
    """M as a product with vectors, at the cost of a pass over the examples each."""

    options_type: ClassVar[type[ConjugateGradientOptions]]

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
        return cls(model, examples, build("curvature", {cls.name: cls.options_type}, cls.name, options))

    def damped(self, damping: float) -> Self:
        other = copy.copy(self)
        other.damping, other.residual = checked_damping(damping), math.nan
        return other

    def matvec(self, vector: Tensor) -> Tensor:
        return self._product(vector.reshape(len(vector), -1), self._examples).view_as(vector)

    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v in the shape of v; `residual` says how well.

        Raises:
            RepairError: if the iteration cannot converge or does not in time; says what would help.
        """
        return self._solved(vector.reshape(len(vector), -1).double()).to(vector.dtype).view_as(vector)

    @abstractmethod
    def _solved(self, vectors: Tensor) -> Tensor:
        """(d, k) F̂⁻¹ times vectors in float64."""

    def save(self, folder: Path) -> None:
        tensors = {"largest": torch.tensor(self._largest, dtype=torch.float64)}
        save_fit(folder, self.name, self._model, self._examples, tensors)
        write_json(folder / f"{self.name}.json", dataclasses.asdict(self._options))

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        tensors = load_fit(folder, cls.name, model, examples)
        options = {**read_json(folder / f"{cls.name}.json"), **options}
        return cls(
            model,
            examples,
            build("curvature", {cls.name: cls.options_type}, cls.name, options),
            float(tensors["largest"]),
        )

    def _product(self, vectors: Tensor, examples: Examples) -> Tensor:
        """(d, k) F̂v, with M the mean over these examples."""
        return matrix_product(self._options.matrix, self._model, examples, vectors) + self.damping * vectors

    def _remedy(self) -> str:
        return " or matrix: ggn" if self._options.matrix == "hessian" else ""


class ConjugateGradient(_ByProducts):
    """F̂x = v by conjugate gradients; F̂ must be positive (Martens 2010, section 4)."""

    name = "cg"
    options_type = ConjugateGradientOptions

    def _solved(self, vectors: Tensor) -> Tensor:
        found = conjugate_gradients(
            lambda v: self._product(v, self._examples),
            vectors,
            tolerance=self._options.tolerance,
            iterations=self._options.iterations,
        )
        self.residual = found.residual
        if found.residual > self._options.tolerance and not found.curvature > 0:
            raise RepairError(
                f"conjugate gradients met a direction in which the {self._options.matrix} with damping "
                f"{self.damping:g} has curvature {found.curvature:.1e}, and need it positive in all: use a damping "
                f"above {2 * (self.damping - found.curvature):.0e}{self._remedy()}"
            )
        if found.residual > self._options.tolerance:
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
    options_type = LissaOptions

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Measure the largest eigenvalue of M, unless a scale is given."""
        fitted = super().fit(model, examples, **options)
        if fitted._options.scale is None:
            fitted._largest = largest_eigenvalue(fitted.matvec, model.parameter_vector)
        return fitted

    def _solved(self, vectors: Tensor) -> Tensor:
        scale = self._options.scale or 1.1 * (abs(self._largest) + self.damping) or 1.0
        length = torch.linalg.vector_norm(vectors, dim=0)
        length = torch.where(length > 0, length, 1)
        runs = [self._run(vectors, length, scale, run) for run in range(self._options.repeats)]
        solution = torch.stack(runs).mean(0)
        rest = vectors - self._product(solution, self._examples)
        self.residual = float((torch.linalg.vector_norm(rest, dim=0) / length).max())
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
            achieved = float((torch.linalg.vector_norm(rest, dim=0) / length).max())
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
