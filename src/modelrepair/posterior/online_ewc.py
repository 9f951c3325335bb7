"""Online elastic weight consolidation: the stiffness is carried on from one piece of evidence to the next."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.curvature.diagonal import DiagonalFisher
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.base import (
    Edited,
    PosteriorUpdate,
    checked_weights,
    diagonal_precision,
    walk,
)
from modelrepair.posterior.ewc import ElasticWeightConsolidation
from modelrepair.posterior.output_gradients import curvature_roots, log_likelihood_slopes, summed_squares
from modelrepair.settings.posterior import OnlineEwcSettings
from modelrepair.training.descent import UNATTENDED, Oversight
from modelrepair.uncertainty.mean_field import MeanField


class OnlineElasticWeightConsolidation(OnlineEwcSettings, PosteriorUpdate):
    """For each piece E of the evidence, from the mode θ̂ and the diagonal precision Λ that the piece before left:

        θ̂ ← argmax over θ of Σᵢ wᵢ log p(zᵢ | θ) − ½ Σⱼ γΛⱼ (θⱼ − θ̂ⱼ)²,
        Λ ← γΛ + Σᵢ wᵢ Fᵢ,

    the sums over E (Schwarz et al. 2018, section 3.2: one penalty at the last mode, with the running sum
    F* ← γF* + F). Λ starts as N F̂, the damping with it, so it is a sum over examples and counts in the same units as
    the evidence, and γ = 1 is Bayes' rule under Laplace approximations. F of an example is that of its log-likelihood:
    its squared gradient (`empirical`, as F̂ has it) or what that is on average over the targets that the model expects
    (`expected`). Each piece is a climb by `ElasticWeightConsolidation`.

    What is inserted stiffens θ where it leads it, so its F is measured at the new mode. What is deleted has stiffened θ
    where it was, so its F is measured at the old one, and is taken away, down to the damping's share of Λ: what is no
    example's cannot be taken away with one.

    `carry_on` is one link of a chain: a repair whose result the next one goes on from.
    """

    def carry_on(
        self,
        held: MeanField,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        seed: int = 0,
        checkpoint: Checkpoint | None = None,
    ) -> MeanField:
        """The posterior with weighted evidence, to go on from with more.

        Args:
            held: the posterior so far.
            evidence: m examples, which come in `batches` pieces, in this order.
            weights: (m,) positive to insert, negative to delete.
            seed: of the order within a piece.
            checkpoint: where to keep progress.

        Raises:
            RepairError: if there is no evidence, or a number becomes NaN or infinite.
        """
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        weights = checked_weights(evidence, weights)
        climb = ElasticWeightConsolidation(
            learning_rate=self.learning_rate,
            rounds=self.rounds,
            batch_size=self.batch_size,
            bounded=self.bounded,
        )
        pieces = np.array_split(np.arange(len(evidence)), min(self.batches, len(evidence)))
        first, held = _resumed(checkpoint, held)
        for number, positions in enumerate(pieces):
            if number < first:
                continue
            piece, shares = evidence.subset(positions), weights[positions]
            prior = self.gamma * held.precision
            part = None if checkpoint is None else _Piece(checkpoint, number, held)
            edited = climb.edit(
                held.model,
                piece,
                shares,
                curvature=DiagonalFisher(held.model, piece, prior),
                count=1,
                seed=int(generator(seed, f"piece {number}").integers(2**31)),
                oversight=Oversight(checkpoint=part),
            )
            change = torch.zeros_like(prior, dtype=torch.float64)
            for sign, place in ((1, edited.model), (-1, held.model)):
                chosen = np.flatnonzero(sign * shares > 0)
                if len(chosen):
                    change += sign * self._fisher(place, piece.subset(chosen), np.abs(shares[chosen]))
            floor = self.gamma * held.prior
            precision = (prior.double() + change).clamp_min(floor).to(prior.dtype)
            held = MeanField(edited.model, precision, floor)
        return held

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
        precision = diagonal_precision(model, curvature, count)
        before = MeanField(model, precision, count * curvature.damping)
        after = self.carry_on(before, evidence, weights, seed=seed, checkpoint=oversight.checkpoint)
        step = after.model.parameter_vector - model.parameter_vector
        edited = walk(model, step, points=self.points, oversight=oversight, name="fraction", length=1.0)
        return dataclasses.replace(edited, gaussians=(before, after))

    def _fisher(self, model: TrainedModel, examples: Examples, weights: NDArray[np.float64]) -> Tensor:
        """(d,) Σᵢ |wᵢ| Fᵢ in float64."""
        scale = torch.as_tensor(np.sqrt(weights)).to(model.device, model.dtype)
        if self.fisher == "empirical":
            slopes = log_likelihood_slopes(model, examples)
            return summed_squares(model, examples, scale.unsqueeze(1) * slopes)
        roots = scale.view(-1, 1, 1) * curvature_roots(model, examples)
        return torch.stack([summed_squares(model, examples, root) for root in roots.unbind(2)]).sum(0)


class _Piece(Checkpoint):
    """The progress of one piece, kept with the posterior from which it departs in the checkpoint of the whole."""

    def __init__(self, whole: Checkpoint, number: int, held: MeanField) -> None:
        self._whole, self._number, self._held = whole, number, held

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        saved = self._whole.load()
        if saved is None or saved[1]["piece"] != self._number:
            return None
        own = {name.removeprefix("piece."): t for name, t in saved[0].items() if name.startswith("piece.")}
        return own, saved[1]["state"]

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        held = {"held.mode": self._held.model.parameter_vector, "held.precision": self._held.precision}
        own = {f"piece.{name}": tensor for name, tensor in tensors.items()}
        own_state = {"piece": self._number, "prior": self._held.prior, "state": state}
        self._whole.save({**own, **held}, own_state)


def _resumed(checkpoint: Checkpoint | None, held: MeanField) -> tuple[int, MeanField]:
    """The piece that was begun last, and the posterior from which it departs."""
    saved = checkpoint.load() if checkpoint else None
    if saved is None:
        return 0, held
    tensors, state = saved
    model = held.model.with_parameter_vector(tensors["held.mode"])
    return state["piece"], MeanField(model, tensors["held.precision"].to(held.precision), state["prior"])
