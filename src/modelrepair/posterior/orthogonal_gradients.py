"""Orthogonal gradient descent: edit the posterior only where examples that are to stay as they are do not feel it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.curvature.gram import GramFisher
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.differentiable import backward_passes
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel, flatten
from modelrepair.posterior.base import (
    Edited,
    PosteriorUpdate,
    checked_weights,
    half_quadratic,
    walk,
    weighted_log_likelihood,
)
from modelrepair.posterior.output_gradients import (
    log_likelihood_slopes,
    logit_slopes,
    weighted_output_gradients,
)
from modelrepair.settings.posterior import OrthogonalGradientsSettings
from modelrepair.training.descent import UNATTENDED, Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches

Projection = Callable[[Tensor], Tensor]


class OrthogonalGradients(OrthogonalGradientsSettings, PosteriorUpdate):
    """Maximise Σᵢ wᵢ log p(zᵢ | θ) − (N/2) δᵀF̂δ over those δ = θ − θ̂ that leave protected outputs as they are.

    Every gradient loses what it has in the span of the protected examples' own gradients at θ̂, so that to first order
    nothing changes for them (Farajtabar et al. 2020, algorithm 1). These are the gradients of the logit of the given
    class (the paper's OGD-GTL) or of log p. The steps are those of gradient descent with momentum: unlike Adam's, sums
    of what is orthogonal. The objective is divided by the m examples of evidence.

    Protected is a random sample of `directions` of the training examples that stay (`kept`), whose gradients are held,
    orthonormal. With `directions: null` it is all examples to which the curvature `gram` was fitted, whose gradients of
    log p are applied and never held (`GramFisher.outside_span`).

    The paper has no penalty: that is the curvature identity with a damping of 0.
    """

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
        if not len(evidence):
            raise RepairError(
                "there is no evidence to insert or delete: the failures or the causes are empty"
            )
        shares = torch.as_tensor(checked_weights(evidence, weights), device=model.device, dtype=model.dtype)
        outside = self._outside(model, curvature, kept, seed)
        start, edited = model.parameter_vector, model.copy()
        scale = count / len(evidence)

        def losses(number: int) -> Iterator[Tensor]:
            order = epoch_batches(len(evidence), self.batch_size, seed=seed, purpose="evidence", epoch=number)
            for positions in order:
                inputs, targets = evidence.batch(positions, device=model.device, dtype=model.dtype)
                pull = weighted_log_likelihood(
                    edited, edited.run(inputs), targets, shares[positions], bounded=self.bounded
                )
                parameters = list(edited.parameters.values())
                position = flatten(parameters)
                loss = scale * half_quadratic(curvature, position - start) - pull.mean()
                with backward_passes():
                    slope = flatten(
                        torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
                    )
                # The loss, with the projected gradient in place of its own.
                way = outside(slope) @ position
                yield loss.detach() + (way - way.detach())

        minimise(
            edited,
            losses,
            Descent(learning_rate=self.learning_rate, rounds=self.rounds, optimiser="sgd"),
            oversight=Oversight(checkpoint=oversight.checkpoint),
            # The gradients were measured with the statistics of normalisation layers held fixed.
            training_mode=False,
            description="editing the posterior",
        )
        # Once more, for what rounding added up to.
        step = outside(edited.parameter_vector - start)
        return walk(model, step, points=self.points, oversight=oversight, name="fraction", length=1.0)

    def _outside(
        self, model: TrainedModel, curvature: Curvature, kept: Examples | None, seed: int
    ) -> Projection:
        """The projection onto what is orthogonal to all protected gradients."""
        if self.directions is None:
            if not isinstance(curvature, GramFisher):
                raise RepairError(
                    f"directions is None, which protects all examples that the curvature gram was fitted to, and the "
                    f"curvature is {curvature.name}: use gram, or give a number of directions"
                )
            return curvature.outside_span
        if kept is None or not len(kept):
            raise RepairError(
                "orthogonal gradients protect training examples: give those that stay as `kept`, or choose another "
                "posterior update"
            )
        count = min(self.directions, len(kept))
        chosen = np.sort(generator(seed, "protected examples").choice(len(kept), count, replace=False))
        protected = kept.subset(chosen)
        slopes = (logit_slopes if self.protects == "logit" else log_likelihood_slopes)(model, protected)
        basis = orthonormal_basis(weighted_output_gradients(model, protected, slopes))
        if basis.shape[1] == len(basis):
            raise RepairError(
                f"the gradients of {count} protected examples span all {len(basis)} parameters, so that none can move: "
                f"give posterior.directions below {len(basis)}, or choose another posterior update"
            )

        def outside(vector: Tensor) -> Tensor:
            # Twice is enough, once is not where most of a vector is taken away (Giraud et al. 2005).
            for _ in range(2):
                vector = vector - basis @ (basis.T @ vector)
            return vector

        return outside


def orthonormal_basis(rows: Tensor) -> Tensor:
    """(d, r) orthonormal columns that span the rows (k, d), of rank r, each row counting alike whatever its length.

    By QR in float64, as from Gram and Schmidt, and a singular value decomposition of the k × k factor R, which finds
    rows that depend on others.
    """
    wide = rows.double()
    lengths = torch.linalg.vector_norm(wide, dim=1)
    wide = wide[lengths > 0] / lengths[lengths > 0].unsqueeze(1)
    if not len(wide):
        return rows.new_zeros(rows.shape[1], 0)
    orthogonal, triangle = torch.linalg.qr(wide.T)
    turned, values, _ = torch.linalg.svd(triangle)
    rank = int((values > max(wide.shape) * torch.finfo(rows.dtype).eps * values[0]).sum())
    basis: Tensor = orthogonal @ turned[:, :rank]
    return basis.to(rows.dtype)
