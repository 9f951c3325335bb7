"""A trained network with its likelihood: the point θ̂ at which every method of this library works.

Conventions, here and in all families: θ is the flat vector (d,) of the network's trainable parameters in
the order of `network.parameters()`; gradients are of the log-likelihood log p(y | x, θ), summed over
examples unless the text says mean; the network runs in eval mode, so statistics of normalisation layers
are constants and no example influences another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.func import functional_call, jvp

from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.likelihood import Likelihood


def default_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """(d,) the tensors' entries one after the other, whatever their layout in memory."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


class TrainedModel:
    """A network at θ̂, its likelihood, and how to run it.

    Args:
        network: any module that maps a batch of inputs to a batch of outputs; it is put into eval mode.
        likelihood: what the outputs mean.
        batch_size: examples in one pass; changes speed and memory, never a result beyond rounding.
        device: where to run; the GPU if there is one by default.
    """

    def __init__(
        self,
        network: nn.Module,
        likelihood: Likelihood,
        *,
        batch_size: int = 500,
        device: torch.device | str | None = None,
    ) -> None:
        self.device = torch.device(device) if device is not None else default_device()
        self.network = network.to(self.device).eval()
        self.likelihood = likelihood
        self.batch_size = batch_size

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        return next(self.network.parameters()).dtype

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name, each tied one once, in the order of the vector θ."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    @property
    def parameter_vector(self) -> Tensor:
        """(d,) a copy of θ."""
        return flatten(self.parameters.values()).detach().clone()

    def with_parameter_vector(self, vector: Tensor) -> TrainedModel:
        """The same model at another θ of shape (d,); this one is left as it is.

        Raises:
            RepairError: if the vector holds NaN or infinity, or what is infinite in this model's dtype.
        """
        values = vector.detach().to(self.device, self.dtype)
        bad = int((~torch.isfinite(values)).sum())
        if bad:
            raise RepairError(
                f"{bad} of {len(vector)} parameters of the updated model are NaN or infinite: "
                "use a smaller step or a larger damping"
            )
        moved = self.copy()
        with torch.no_grad():
            for parameter, piece in zip(moved.parameters.values(), self.split(values).values(), strict=True):
                parameter.copy_(piece)
        return moved

    def copy(self) -> TrainedModel:
        """The same model with a network of its own."""
        return TrainedModel(
            copy.deepcopy(self.network), self.likelihood, batch_size=self.batch_size, device=self.device
        )

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Cut a vector (d,) into pieces of the parameters' names and shapes."""
        pieces = torch.split(vector, [p.numel() for p in self.parameters.values()])
        return {
            name: piece.view_as(p) for (name, p), piece in zip(self.parameters.items(), pieces, strict=True)
        }

    def batches(self, examples: Examples) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """(positions, inputs, targets) of the examples, in order, on this model's device and in its dtype."""
        return examples.batches(self.batch_size, device=self.device, dtype=self.dtype)

    @torch.no_grad()
    def outputs(self, examples: Examples) -> Tensor:
        """(n, ...) raw network outputs."""
        return torch.cat([self.network(inputs) for _, inputs, _ in self.batches(examples)])

    @torch.no_grad()
    def log_likelihoods(self, examples: Examples) -> Tensor:
        """(n,) log p(yᵢ | xᵢ, θ̂)."""
        return torch.cat(
            [self.likelihood.log_likelihood(self.network(x), y) for _, x, y in self.batches(examples)]
        )

    def mean_log_likelihood(self, examples: Examples) -> float:
        """(1/n) Σ log p(yᵢ | xᵢ, θ̂) in nats."""
        return float(self.log_likelihoods(examples).double().mean())

    @torch.no_grad()
    def margins(self, examples: Examples) -> Tensor:
        """(n,) how far the given target's output leads all others; negative where it does not."""
        return torch.cat([self.likelihood.margin(self.network(x), y) for _, x, y in self.batches(examples)])

    @torch.no_grad()
    def correct(self, examples: Examples) -> Tensor:
        """(n,) in [0, 1]: how right the prediction for each example is."""
        return torch.cat([self.likelihood.correct(self.network(x), y) for _, x, y in self.batches(examples)])

    def accuracy(self, examples: Examples) -> float:
        """Mean of `correct`; NaN for no examples."""
        return float(self.correct(examples).double().mean()) if len(examples) else float("nan")

    def weighted_gradient(self, examples: Examples, weights: ArrayLike | Tensor | None = None) -> Tensor:
        """(d,) Σᵢ wᵢ ∇ log p(yᵢ | xᵢ, θ̂); all weights are 1 by default. With G the (n, d) gradients, Gᵀw.

        One weighted backward pass a batch; no single example's gradient is ever stored.
        """
        parameters = list(self.parameters.values())
        total = torch.zeros(sum(p.numel() for p in parameters), device=self.device, dtype=self.dtype)
        if weights is not None:
            weights = torch.as_tensor(np.asarray(weights) if not torch.is_tensor(weights) else weights)
            weights = weights.to(self.device, self.dtype)
        for positions, x, y in self.batches(examples):
            log_likelihood = self.likelihood.log_likelihood(self.network(x), y)
            weighted = log_likelihood if weights is None else weights[positions] * log_likelihood
            gradients = torch.autograd.grad(weighted.sum(), parameters, materialize_grads=True)
            total += flatten(gradients)
        return total

    def directional_derivatives(self, examples: Examples, direction: Tensor) -> Tensor:
        """(n,) ⟨∇ log p(yᵢ | xᵢ, θ̂), v⟩ for a direction v of shape (d,). With G the (n, d) gradients, Gv.

        One forward-mode pass; costs about two forward passes and no (n, d) memory.
        """
        parameters = {name: p.detach() for name, p in self.parameters.items()}
        tangents = {name: t.contiguous() for name, t in self.split(direction.to(self.dtype)).items()}
        derivatives = []
        for _, x, y in self.batches(examples):

            def log_likelihood(values: dict[str, Tensor], x: Tensor = x, y: Tensor = y) -> Tensor:
                return self.likelihood.log_likelihood(functional_call(self.network, values, (x,)), y)

            derivatives.append(jvp(log_likelihood, (parameters,), (tangents,))[1].detach())
        return torch.cat(derivatives)
