"""Gradients of weighted outputs: Jᵢᵀsᵢ for any slopes sᵢ by the outputs of example i, with Jᵢ = ∂fᵢ/∂θ.

Whatever depends on θ through the outputs alone has such gradients: sᵢ = ∇_f log p(yᵢ | fᵢ) gives those of the
log-likelihood, a unit vector those of one logit, and the columns of a root of H = −∇_f² log p those whose squares sum
to the diagonal of JᵢᵀHᵢJᵢ, which for a softmax or a Gaussian is the expected Fisher.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, hessian, vmap

from modelrepair.errors import RepairError
from modelrepair.gradients.recorder import Recorder
from modelrepair.gradients.rows import dense, sum_of_squares
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.passes import summed
from modelrepair.models.trained_model import TrainedModel


class _Weighted(Softmax):
    """⟨f, s⟩ in place of the log-likelihood, with slopes s as targets; only gradients of it are asked for."""

    name = "weighted outputs"

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).sum(dim=1)


def log_likelihood_slopes(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, k) ∇_f log p(yᵢ | fᵢ) by the network's outputs fᵢ at θ̂."""

    def one(outputs: Tensor, target: Tensor) -> Tensor:
        return model.likelihood.log_likelihood(outputs.unsqueeze(0), target.unsqueeze(0)).squeeze(0)

    return torch.cat(
        [
            vmap(grad(one))(model.network(inputs).detach(), targets)
            for _, inputs, targets in model.batches(examples)
        ]
    )


def logit_slopes(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, k) unit vectors: the slopes of each given class's own logit.

    Raises:
        RepairError: if the examples have no classes.
    """
    if examples.targets.ndim != 1:
        raise RepairError(
            f"the logit of the given class was asked for of examples whose targets have shape "
            f"{examples.targets.shape[1:]}: use the log-likelihood, which all examples have"
        )
    outputs = model.outputs(examples)
    chosen = torch.as_tensor(np.asarray(examples.targets), device=outputs.device).long()
    return torch.zeros_like(outputs).scatter_(1, chosen.unsqueeze(1), 1.0)


def curvature_roots(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, k, k) Rᵢ with RᵢRᵢᵀ = −∇_f² log p(yᵢ | fᵢ), its negative eigenvalues taken for 0; a column a root."""

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return -model.likelihood.log_likelihood(outputs.unsqueeze(0), target.unsqueeze(0)).squeeze(0)

    parts = []
    for _, inputs, targets in model.batches(examples):
        curved = vmap(hessian(loss))(model.network(inputs).detach(), targets)
        values, vectors = torch.linalg.eigh(curved)
        parts.append(vectors * values.clamp_min(0).sqrt().unsqueeze(1))
    return torch.cat(parts)


def weighted_output_gradients(model: TrainedModel, examples: Examples, slopes: Tensor) -> Tensor:
    """(n, d) the rows Jᵢᵀsᵢ, written out.

    Args:
        model: at θ̂.
        examples: n of them.
        slopes: (n, k) sᵢ, by each example's outputs.
    """
    weighted, sloped = _in_place_of_targets(model, examples, slopes)
    sizes = {name: parameter.numel() for name, parameter in model.parameters.items()}
    gradients = torch.zeros(len(examples), sum(sizes.values()), dtype=model.dtype, device=model.device)
    columns = dict(zip(sizes, torch.split(gradients, list(sizes.values()), dim=1), strict=True))
    for positions, recorded in Recorder(weighted, sloped).batches(sloped, set(sizes)):
        for name, rows in recorded:
            columns[name][positions] = dense(rows)
    return gradients


def summed_squares(model: TrainedModel, examples: Examples, slopes: Tensor) -> Tensor:
    """(d,) Σᵢ (Jᵢᵀsᵢ)², entry by entry, in float64; no single example's gradient is kept.

    Args:
        model: at θ̂.
        examples: n of them.
        slopes: (n, k) sᵢ, by each example's outputs.
    """
    weighted, sloped = _in_place_of_targets(model, examples, slopes)
    sizes = {name: parameter.numel() for name, parameter in model.parameters.items()}
    total = torch.zeros(sum(sizes.values()), dtype=torch.float64, device=model.device)
    parts = dict(zip(sizes, torch.split(total, list(sizes.values())), strict=True))
    for _, recorded in Recorder(weighted, sloped).batches(sloped, set(sizes), shared=True):
        for name, rows in recorded:
            parts[name] += sum_of_squares(rows)
    summed(total)
    return total


def _in_place_of_targets(
    model: TrainedModel, examples: Examples, slopes: Tensor
) -> tuple[TrainedModel, Examples]:
    """The same network under `_Weighted`, and the same inputs with slopes as targets."""
    weighted = TrainedModel(model.network, _Weighted(), batch_size=model.batch_size, device=model.device)
    return weighted, examples.with_targets(slopes.detach().cpu().double().numpy())
