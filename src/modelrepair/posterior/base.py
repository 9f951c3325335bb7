"""Editing a posterior: inserting and deleting evidence without the data behind it.

The posterior p(θ | D) of N training examples is held as its mode θ̂ and a curvature F̂ there: approximately
exp(−(N/2) δᵀF̂δ) with δ = θ − θ̂. By Bayes' rule, evidence E enters by multiplying with p(E | θ) and leaves by
dividing (Tanno et al. 2022, section 2.2), so both are one operation: maximise over θ

    Σᵢ wᵢ log p(zᵢ | θ) − (N/2) (θ − θ̂)ᵀ F̂ (θ − θ̂),        wᵢ = +1 to insert zᵢ, −1 to delete it.

The paper's separate prior term (λ/2)‖δ‖² is part of F̂ here: a damping of λ/N.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.points import Points
from modelrepair.training.descent import UNATTENDED, Oversight
from modelrepair.uncertainty.mean_field import MeanField


@dataclass(frozen=True)
class Edited:
    """An edited posterior.

    Attributes:
        model: the model at the new mode.
        trace: one row a point seen, the first the model that was given: `round`, `watched` and others.
        best_round: which of them the model is.
        changed: the names of the parameters that were changed, where the update chose some.
        chosen: what it chose, by name.
        candidates: the loss of each choice that there was.
        gaussians: the whole posterior before the edit and after all of it, where the update knows more than a mode:
            what a chain of edits goes on from, and expectations are taken over.
    """

    model: TrainedModel
    trace: list[dict[str, Any]]
    best_round: int
    changed: Sequence[str] | None = None
    chosen: str = ""
    candidates: Mapping[str, float] = field(default_factory=dict)
    gaussians: tuple[MeanField, MeanField] | None = None


def class_balanced_weights(examples: Examples) -> NDArray[np.float64]:
    """(n,) weights under which every class that occurs counts alike, with mean 1.

    Failures are often one-sided: many sixes taken for nines and few nines taken for sixes. Inserted as they are,
    they teach the model to say six, and clean nines then look harmful. Balanced, they teach the difference.
    All 1 for examples with attributes, which have no classes.
    """
    if examples.targets.ndim != 1:
        return np.ones(len(examples))
    _, group, sizes = np.unique(examples.targets, return_inverse=True, return_counts=True)
    return np.asarray(len(examples) / (len(sizes) * sizes[group]), dtype=np.float64)


def checked_weights(evidence: Examples, weights: ArrayLike) -> NDArray[np.float64]:
    """(m,) the weights of the evidence, as given.

    Raises:
        RepairError: if there is not one finite weight for each example.
    """
    checked = np.asarray(weights, dtype=np.float64)
    if checked.shape != (len(evidence),) or not np.isfinite(checked).all():
        raise RepairError(
            f"weights of shape {checked.shape}, {int((~np.isfinite(checked)).sum())} of them NaN or infinite, were "
            f"given for {len(evidence)} examples of evidence: give one finite number for each"
        )
    return checked


def weighted_log_likelihood(
    model: TrainedModel, outputs: Tensor, targets: Tensor, weights: Tensor, *, bounded: bool
) -> Tensor:
    """(b,) wᵢ log p(zᵢ | θ) of a batch, through which evidence pulls on θ.

    Args:
        model: whose likelihood it is.
        outputs: at θ.
        targets: of the batch.
        weights: (b,) positive to insert, negative to delete.
        bounded: whether log p of a deleted example counts as that of a guess where it is below, so that nothing pulls
            on it any more.
    """
    log_likelihood = model.log_likelihood(outputs, targets)
    if bounded:
        forgotten = log_likelihood.clamp(min=model.likelihood.chance(outputs))
        log_likelihood = torch.where(weights < 0, forgotten, log_likelihood)
    return weights * log_likelihood


def half_quadratic(curvature: Curvature, displacement: Tensor) -> Tensor:
    """½ δᵀF̂δ, whose gradient autograd reads off as F̂δ; the curvature need not be differentiable code."""
    stiffness = curvature.matvec(displacement.detach())
    value = 0.5 * (stiffness * displacement.detach()).sum()
    slope = (stiffness * displacement).sum()
    return value + (slope - slope.detach())


def diagonal_precision(model: TrainedModel, curvature: Curvature, count: float) -> Tensor:
    """(d,) the diagonal of N F̂ of a curvature that is nothing but its diagonal.

    Args:
        model: at θ̂.
        curvature: F̂.
        count: N.

    Raises:
        RepairError: if it is more.
    """
    ones = torch.ones_like(model.parameter_vector)
    entries = curvature.matvec(ones)
    # Of another matrix the products with alternating signs would miss what is beside the diagonal.
    signs = torch.as_tensor(generator(0, "diagonal or not").choice([-1.0, 1.0], len(ones))).to(ones)
    missed = curvature.matvec(signs) * signs - entries
    if float(missed.abs().max()) > float(torch.finfo(ones.dtype).eps ** 0.5 * entries.abs().max()):
        raise RepairError(
            f"the curvature {curvature.name} is more than its diagonal, which is all that this posterior update can "
            "carry on: use the curvature diagonal or identity"
        )
    return count * entries


def walk(
    model: TrainedModel, step: Tensor, *, points: int, oversight: Oversight, name: str, length: float
) -> Edited:
    """Go from θ̂ in a straight line, with equal parts of the step as points.

    Args:
        model: the model at θ̂; left as it is.
        step: (d,) the whole step, θ − θ̂.
        points: how many points are tried where somebody watches; where nobody does, only the whole step.
        oversight: the best point that it sees is returned, the earlier one of equals.
        name: of the column of the trace that says how far along a point is.
        length: its value at the end.

    Raises:
        RepairError: if a parameter becomes NaN or infinite.
    """
    start = model.parameter_vector
    seen = Points(oversight, model, **{name: 0.0})
    points = points if oversight.watch else 1
    for point in range(1, points + 1):
        fraction = point / points
        seen.look(model.with_parameter_vector(start + fraction * step), **{name: fraction * length})
    return Edited(seen.best, seen.trace, seen.best_round)


class PosteriorUpdate(ABC):
    """A way to find the mode of an edited posterior."""

    def insert(
        self, model: TrainedModel, evidence: Examples, weights: NDArray[np.float64] | None = None, **how: Any
    ) -> Edited:
        """p(θ | D, E): `edit` with positive weights, 1 by default."""
        return self.edit(model, evidence, np.ones(len(evidence)) if weights is None else weights, **how)

    def delete(
        self, model: TrainedModel, evidence: Examples, weights: NDArray[np.float64] | None = None, **how: Any
    ) -> Edited:
        """p(θ | D \\ E): `edit` with the weights negated, 1 by default."""
        return self.edit(
            model, evidence, -np.ones(len(evidence)) if weights is None else -np.asarray(weights), **how
        )

    @abstractmethod
    def edit(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature,
        count: int,
        kept: Examples | None = None,
        seed: int = 0,
        oversight: Oversight = UNATTENDED,
    ) -> Edited:
        """The posterior with weighted evidence.

        If nobody watches, the result is the model at the new mode. Otherwise it is the best point of a `walk` from
        θ̂ to the mode. Both ends are modes, of the posterior with none of the change and with all of it, and what lies
        between breaks less than the points that a descent happens to pass on its way.

        Args:
            model: the model at θ̂; left as it is.
            evidence: m examples.
            weights: (m,) positive to insert, negative to delete; 1 is one example's worth of evidence.
            curvature: F̂ at θ̂, damped as wanted.
            count: N, the number of training examples behind the posterior.
            kept: the training examples that stay, for updates that look at them.
            seed: of what is random in it.
            oversight: who judges the points, what is written down, where progress is kept.

        Raises:
            RepairError: if there is no evidence, or a number becomes NaN or infinite.
        """
