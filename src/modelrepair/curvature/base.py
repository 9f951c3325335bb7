"""What every curvature can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel


class Curvature(ABC):
    """How stiff the posterior is at θ̂: a symmetric positive operator F̂ = λI + M on parameter vectors.

    M is the mean over the n examples that it was fitted to: for the empirical Fisher
    M = (1/n) Σᵢ gᵢgᵢᵀ with gᵢ = ∇ log p(yᵢ | xᵢ, θ̂). λ (`damping`) is added once. What a fit stores does
    not depend on λ, so one fitted artefact serves any damping: `damped` is cheap.

    Vectors are (d,) or, several at once, (d, k).
    """

    name: ClassVar[str]
    damping: float

    @classmethod
    @abstractmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Measure M at the model's θ̂ on these examples; damping is 0 until `damped` sets it."""

    @abstractmethod
    def damped(self, damping: float) -> Self:
        """The same M with another λ.

        Raises:
            RepairError: if λ is negative or not finite.
        """

    @abstractmethod
    def matvec(self, vector: Tensor) -> Tensor:
        """F̂v, in the shape of v."""

    @abstractmethod
    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v, in the shape of v.

        Raises:
            RepairError: if F̂ is singular to working precision; says which damping would do.
        """

    def quadratic(self, vector: Tensor) -> Tensor:
        """vᵀF̂v: a scalar for (d,), (k,) for (d, k)."""
        return (vector * self.matvec(vector)).sum(dim=0)

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `fit` measured into an existing folder."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples) -> Self:
        """Read what `save` wrote; model and examples must be those that it was fitted to.

        Raises:
            RepairError: if the folder's content is missing, damaged or of another model or data.
        """
