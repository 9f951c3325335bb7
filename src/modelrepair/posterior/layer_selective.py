"""Learning the evidence with those layers alone that learn it best (Huang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.base import Edited, PosteriorUpdate, checked_weights, walk
from modelrepair.posterior.layers import layer_groups, layer_subsets, training_only
from modelrepair.settings import choose
from modelrepair.settings.posterior import LayerSelectiveSettings
from modelrepair.training.descent import UNATTENDED, Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches


class LayerSelective(LayerSelectiveSettings, PosteriorUpdate):
    """Train a subset of the layers on the evidence by Adam, from θ̂, until the loss on it stops falling.

    Which subset: each candidate is trained for one epoch, and the one with the lowest mean loss −Σᵢ wᵢ log p(zᵢ | θ)/m
    goes on (Huang et al. 2023, section 2.1 and A.3). Networks learn patterns first and single examples later, so the
    layers whose first epoch helps most are those whose patterns were wrong. The layers that stay hold what the model
    knew; there is no other penalty, so no curvature is used. Normalisation layers keep their statistics.

    It inserts only: what is to be deleted has no bound to train against.
    """

    def edit(
        self,
        model: TrainedModel,
        evidence: Examples,
        weights: NDArray[np.float64],
        *,
        curvature: Curvature | None = None,
        count: int | None = None,
        kept: Examples | None = None,
        seed: int = 0,
        oversight: Oversight = UNATTENDED,
    ) -> Edited:
        """The trained model or, where somebody watches, the best point of a `walk` there; see the base."""
        weights = checked_weights(evidence, weights)
        if not len(evidence):
            raise RepairError("there is no evidence to learn: give labelled examples, such as a reserved set")
        if (weights <= 0).any():
            raise RepairError(
                "the posterior update layer-selective learns evidence and deletes none: give positive weights, or "
                "delete with another update"
            )
        shares = torch.as_tensor(weights, device=model.device, dtype=model.dtype)
        groups = layer_groups(model.network)
        subsets = self._subsets(groups)

        def trained(layers: list[str], rounds: int, oversight: Oversight) -> TrainedModel:
            edited = model.copy()

            def losses(epoch: int) -> Iterator[Tensor]:
                for positions in epoch_batches(
                    len(evidence), self.batch_size, seed=seed, purpose="layer-selective", epoch=epoch
                ):
                    inputs, targets = evidence.batch(positions, device=model.device, dtype=model.dtype)
                    log_likelihood = edited.log_likelihood(edited.run(inputs), targets)
                    yield -(shares[positions] * log_likelihood).mean()

            with training_only(edited, [name for layer in layers for name in groups[layer]]):
                minimise(
                    edited,
                    losses,
                    Descent(learning_rate=self.learning_rate, rounds=rounds, patience=self.patience),
                    oversight=oversight,
                    training_mode=False,
                    description="learning with chosen layers",
                )
            return edited

        def fit(point: TrainedModel) -> float:
            return float((shares * point.log_likelihoods(evidence)).mean())

        candidates = {name: -fit(trained(layers, 1, UNATTENDED)) for name, layers in subsets.items()}
        chosen = min(candidates, key=candidates.__getitem__)
        final = trained(subsets[chosen], self.rounds, Oversight(watch=fit, checkpoint=oversight.checkpoint))
        step = final.parameter_vector - model.parameter_vector
        edited = walk(model, step, points=self.points, oversight=oversight, name="fraction", length=1.0)
        names = [name for layer in subsets[chosen] for name in groups[layer]]
        return Edited(edited.model, edited.trace, edited.best_round, names, chosen, candidates)

    def _subsets(self, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        if self.candidates is None:
            return layer_subsets(groups)
        for layer in (layer for subset in self.candidates for layer in subset):
            choose("layer", groups, layer)
        return {"+".join(subset): list(dict.fromkeys(subset)) for subset in self.candidates}
