"""Repair after repair: a posterior that is carried on from one piece of evidence to the next."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior.base import Edited, PosteriorUpdate, checked_weights, diagonal_precision, walk
from modelrepair.settings.posterior import MeanFieldSettings
from modelrepair.training.descent import UNATTENDED, Oversight
from modelrepair.uncertainty.mean_field import MeanField


class CarriedUpdate(MeanFieldSettings, PosteriorUpdate):
    """Updates by which p(θ | D, E₁ … E_b) comes from p(θ | D, E₁ … E_{b−1}) and E_b alone, as failures arrive in
    batches and requests one by one.

    The posterior is N(μ, diag 1/Λ). At first it is the Laplace approximation N(θ̂, diag T/(N F̂ⱼⱼ)), the damping in F̂
    with the rest. `carry_on` is one link of a chain or, where the evidence is to come in `batches`, several: a repair
    whose result the next one goes on from. In `edit`, which walks in a straight line to where the chain ends, the
    models are those at the means.
    """

    @property
    def temperature_so_far(self) -> float:
        """T of the posterior before the first piece."""
        return 1.0

    @abstractmethod
    def link(
        self,
        held: MeanField,
        piece: Examples,
        weights: NDArray[np.float64],
        *,
        number: int,
        seed: int,
        checkpoint: Checkpoint | None,
    ) -> MeanField:
        """The posterior with one piece of weighted evidence more.

        Args:
            held: the posterior so far.
            piece: m examples, at least one.
            weights: (m,) positive to insert, negative to delete.
            number: of the piece, from 0.
            seed: of what is random in the whole chain.
            checkpoint: where to keep progress.
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
            evidence: m examples. They come in `batches` pieces, in this order, each of which has its share of what is
                inserted and of what is deleted.
            weights: (m,) positive to insert, negative to delete.
            seed: of what is random in it.
            checkpoint: where to keep progress.

        Raises:
            RepairError: if there is no evidence, or a number becomes NaN or infinite.
        """
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        weights = checked_weights(evidence, weights)
        pieces = _pieces(weights, self.batches)
        first, held = _resumed(checkpoint, held)
        for number in range(first, len(pieces)):
            held = self.link(
                held,
                evidence.subset(pieces[number]),
                weights[pieces[number]],
                number=number,
                seed=seed,
                checkpoint=None if checkpoint is None else _Piece(checkpoint, number, held),
            )
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
        total = count / self.temperature_so_far
        precision = diagonal_precision(model, curvature, total)
        before = MeanField(model, precision, total * curvature.damping)
        after = self.carry_on(before, evidence, weights, seed=seed, checkpoint=oversight.checkpoint)
        step = after.model.parameter_vector - model.parameter_vector
        edited = walk(model, step, points=self.points, oversight=oversight, name="fraction", length=1.0)
        return dataclasses.replace(edited, gaussians=(before, after))


def _pieces(weights: NDArray[np.float64], count: int) -> list[NDArray[np.int64]]:
    """Positions of the evidence, piece by piece: as equal in number as can be, and none without either sign."""
    deleted, inserted = np.flatnonzero(weights < 0), np.flatnonzero(weights >= 0)
    count = min([count, *(len(part) for part in (deleted, inserted) if len(part))])
    parts = (np.array_split(part, count) for part in (deleted, inserted))
    return [np.sort(np.concatenate(piece)) for piece in zip(*parts, strict=True)]


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
