"""What every curvature can do."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from modelrepair.artifacts import read_tensors, write_tensors
from modelrepair.curvature.memory import Estimate
from modelrepair.curvature.recorder import Recorder
from modelrepair.curvature.rows import WRITTEN_BYTES
from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel

FINGERPRINTED_INPUTS = 256


class Curvature(ABC):
    """How stiff the posterior is at θ̂: a symmetric positive operator F̂ = λI + M on parameter vectors.

    M is the mean over the n examples that it was fitted to: for the empirical Fisher
    M = (1/n) Σᵢ gᵢgᵢᵀ with gᵢ = ∇ log p(yᵢ | xᵢ, θ̂). λ (`damping`) is added once. What a fit stores does
    not depend on λ, so one fitted artefact serves any damping: `damped` is cheap.

    Vectors are (d,) or, several at once, (d, k).
    """

    name: ClassVar[str]
    damping: float = 0.0

    @classmethod
    @abstractmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Measure M at the model's θ̂ on these examples; damping is 0 until `damped` sets it."""

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        """What `fit` with these options and a solve will take; runs a few examples only."""
        recorder = Recorder(model, examples)
        vectors = (
            8 * sum(p.numel() for p in model.parameters.values()) * model.parameter_vector.element_size()
        )
        return Estimate(
            vectors + recorder.batch_size * recorder.bytes_per_example + 2 * WRITTEN_BYTES,
            len(examples) * recorder.operations_per_example,
        )

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
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Read what `save` wrote; model and examples must be those that it was fitted to.

        Raises:
            RepairError: if the folder's content is missing, damaged or of another model or data.
        """


def checked_damping(damping: float) -> float:
    """The damping as given.

    Raises:
        RepairError: if it is negative or not finite.
    """
    if not (math.isfinite(damping) and damping >= 0):
        raise RepairError(f"damping is {damping}: give a finite number, 0 or more, such as 0.01")
    return float(damping)


def no_options(name: str, options: dict[str, Any]) -> None:
    """Nothing if there are no options left.

    Raises:
        RepairError: if there are any, which curvature `name` does not have.
    """
    if options:
        raise RepairError(f"curvature {name!r} has no option {', '.join(sorted(options))}: leave it out")


def fingerprint(model: TrainedModel, examples: Examples) -> Tensor:
    """(32,) uint8: SHA-256 of θ̂, the likelihood, the targets and up to 256 evenly spread inputs."""
    digest = hashlib.sha256(model.likelihood.name.encode())
    digest.update(model.parameter_vector.cpu().numpy().data)
    digest.update(str((len(examples), list(model.parameters))).encode())
    spread = np.unique(np.linspace(0, len(examples) - 1, FINGERPRINTED_INPUTS).astype(np.int64))
    for array in (examples.targets, examples.subset(spread).inputs):
        digest.update(str((array.dtype, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def save_fit(
    folder: Path, name: str, model: TrainedModel, examples: Examples, tensors: dict[str, Tensor]
) -> None:
    """Write a fitted curvature's tensors, with the fingerprint of model and examples, as NAME.safetensors."""
    write_tensors(folder / f"{name}.safetensors", {**tensors, "fingerprint": fingerprint(model, examples)})


def load_fit(folder: Path, name: str, model: TrainedModel, examples: Examples) -> dict[str, Tensor]:
    """The tensors that `save_fit` wrote, on the model's device.

    Raises:
        RepairError: if the file is missing, damaged, or of another model or other examples.
    """
    path = folder / f"{name}.safetensors"
    tensors = read_tensors(path, model.device)
    if not torch.equal(tensors.pop("fingerprint", torch.empty(0)).cpu(), fingerprint(model, examples)):
        raise RepairError(
            f"{path} was fitted to another model or to other examples than those given: give the ones it was "
            "fitted to, or fit it again"
        )
    # Copies are aligned as the tensors of a fit are: a product's last bits can depend on it.
    return {key: tensor.clone() for key, tensor in tensors.items()}
