"""What every curvature can do."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.memory import Estimate, passed
from modelrepair.errors import RepairError
from modelrepair.gradients.recorder import Recorder
from modelrepair.gradients.rows import all_finite, dense
from modelrepair.models.examples import Examples
from modelrepair.models.precision import full_precision
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import read_tensors, write_tensors

SOLVED_BYTES = 256 * 2**20
"""What several right-hand sides and their solutions take at a time."""
HASHED_INPUTS = 1024
COMPARED_OUTPUTS = 4


class Curvature(ABC):
    """How stiff the posterior is at θ̂: a symmetric positive operator F̂ = λI + M on parameter vectors.

    M is the mean over the n examples that it was fitted to: for the empirical Fisher
    M = (1/n) Σᵢ gᵢgᵢᵀ with gᵢ = ∇ log p(yᵢ | xᵢ, θ̂). λ (`damping`) is added once. What a fit stores does
    not depend on λ, so one fitted artefact serves any damping: `damped` is cheap.

    Vectors are (d,) or, several at once, (d, k).

    Attributes:
        by_products: whether each solution takes many passes over the examples, and more of them the smaller λ is.
    """

    name: ClassVar[str]
    by_products: ClassVar[bool] = False
    damping: float = 0.0

    @classmethod
    @abstractmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """Measure M at the model's θ̂ on these examples; damping is 0 until `damped` sets it."""

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        """What `fit` with these options and a solve with one vector will take; runs a few examples only.

        At the damping that makes it well-conditioned: what mends a solution takes more.
        """
        recorder, d = Recorder(model, examples), dimension(model)
        held, touched = recorder.pass_bytes(len(examples))
        vectors = 8 * d * model.parameter_vector.element_size()
        return Estimate(vectors + passed(held, touched), len(examples) * recorder.operations_per_example)

    @abstractmethod
    def damped(self, damping: float) -> Self:
        """The same M with another λ.

        Raises:
            RepairError: if λ is negative or not finite.
        """

    @abstractmethod
    def matvec(self, vector: Tensor) -> Tensor:
        """F̂v, in the shape of v.

        Raises:
            RepairError: if v is of another length than θ.
        """

    @abstractmethod
    def solve(self, vector: Tensor) -> Tensor:
        """F̂⁻¹v, in the shape of v.

        Raises:
            RepairError: if v is of another length than θ or holds NaN or infinity, or F̂ is singular to working
                precision; says which damping would do.
        """

    def quadratic(self, vector: Tensor) -> Tensor:
        """vᵀF̂v: a scalar for (d,), (k,) for (d, k)."""
        return (vector * self.matvec(vector)).sum(dim=0)

    def self_influences(self, model: TrainedModel, examples: Examples) -> Tensor:
        """(n,) gᵢᵀF̂⁻¹gᵢ in float64, of the model and the n examples that it was fitted to.

        Raises:
            RepairError: as `solve`.
        """
        names, values = list(model.parameters), []
        # Gradients, their solutions, and what solving takes.
        fitting = SOLVED_BYTES // (4 * dimension(model) * model.parameter_vector.element_size())
        few = max(1, min(model.batch_size, fitting))
        recorder = Recorder(
            TrainedModel(model.network, model.likelihood, batch_size=few, device=model.device), examples
        )
        for _, pieces in recorder.batches(examples, set(names)):
            written = {name: dense(rows) for name, rows in pieces}
            gradients = torch.cat([written[name] for name in names], dim=1).T
            values.append((gradients.double() * self.solve(gradients).double()).sum(0))
        return torch.cat(values)

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


def dimension(model: TrainedModel) -> int:
    """d, how many trainable parameters there are."""
    return sum(parameter.numel() for parameter in model.parameters.values())


def columns(vector: Tensor, model: TrainedModel) -> Tensor:
    """(d, k) the vectors (d, k), or the one vector (d,), on which a curvature of this model acts.

    Raises:
        RepairError: if it is of another shape or type.
    """
    d = dimension(model)
    if vector.ndim not in (1, 2) or len(vector) != d or not vector.numel() or not vector.is_floating_point():
        kind = str(vector.dtype).removeprefix("torch.")
        raise RepairError(
            f"a curvature of {d} parameters was given vectors of shape {tuple(vector.shape)} and type {kind}: "
            f"give floats of shape ({d},), or ({d}, k) for k at once"
        )
    return vector.reshape(d, -1)


def right_hand_sides(vector: Tensor, model: TrainedModel) -> Tensor:
    """(d, k) the right-hand sides v of F̂x = v as `columns`.

    Raises:
        RepairError: if they are of another shape or type, or hold NaN or infinity.
    """
    vectors = columns(vector, model)
    if not all_finite(vectors):
        bad = ~torch.isfinite(vectors)
        raise RepairError(
            f"{int(bad.any(0).sum())} of {vectors.shape[1]} right-hand sides hold NaN or infinity, in {int(bad.sum())} "
            "places: check the inputs and targets of the evidence that they are gradients of"
        )
    return vectors


def require_finite(name: str, measured: Iterable[Tensor]) -> None:
    """Nothing if what a fit measured is finite.

    Raises:
        RepairError: if it is not.
    """
    if not all(map(all_finite, measured)):
        raise RepairError(
            f"the curvature {name} of these examples holds NaN or infinity: check the model and the examples' inputs "
            "and targets, or convert the model to a wider floating-point type"
        )


def fingerprint(model: TrainedModel, examples: Examples) -> Tensor:
    """(32,) uint8: SHA-256 of the likelihood, of all parameters and buffers, and of all inputs and targets."""
    digest = hashlib.sha256(model.likelihood.name.encode())

    def add(what: object, content: NDArray[Any]) -> None:
        digest.update(str((what, content.dtype, content.shape)).encode())
        digest.update(np.ascontiguousarray(content).data)

    state = [*model.network.named_parameters(), *model.network.named_buffers()]
    for name, tensor in state:
        values = tensor.detach().cpu().contiguous()
        add((name, values.dtype, values.shape), values.reshape(-1).view(torch.uint8).numpy())
    add(list(model.parameters), np.asarray(examples.targets))
    for start in range(0, len(examples), HASHED_INPUTS):
        add(start, examples.subset(range(start, min(start + HASHED_INPUTS, len(examples)))).inputs)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def _first_outputs(model: TrainedModel, examples: Examples) -> Tensor:
    """What the network says of the first few examples: its function, of which parameters are only a part."""
    with full_precision():
        return model.outputs(examples.subset(range(min(COMPARED_OUTPUTS, len(examples)))))


def save_fit(
    folder: Path, name: str, model: TrainedModel, examples: Examples, tensors: dict[str, Tensor]
) -> None:
    """Write a fitted curvature's tensors, with what identifies model and examples, as NAME.safetensors."""
    identity = {"fingerprint": fingerprint(model, examples), "outputs": _first_outputs(model, examples)}
    write_tensors(folder / f"{name}.safetensors", {**tensors, **identity})


def load_fit(folder: Path, name: str, model: TrainedModel, examples: Examples) -> dict[str, Tensor]:
    """The tensors that `save_fit` wrote, on the model's device.

    Raises:
        RepairError: if the file is missing, damaged, or of another model or other examples.
    """
    path = folder / f"{name}.safetensors"
    tensors = read_tensors(path, model.device)
    same = torch.equal(tensors.pop("fingerprint", torch.empty(0)).cpu(), fingerprint(model, examples))
    outputs = tensors.pop("outputs", torch.empty(0))
    if not (same and _alike(outputs, _first_outputs(model, examples))):
        raise RepairError(
            f"{path} was fitted to another model or to other examples than those given: give the ones it was "
            "fitted to, or fit it again"
        )
    # Copies are aligned as the tensors of a fit are: a product's last bits can depend on it.
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _alike(saved: Tensor, found: Tensor) -> bool:
    """Whether outputs are equal up to the rounding of another device or number of threads."""
    if saved.shape != found.shape or saved.dtype != found.dtype:
        return False
    tolerance = torch.finfo(found.dtype).eps ** 0.5 * float(found.abs().max())
    return torch.allclose(saved, found, rtol=0, atol=tolerance)
