"""A Gaussian over a model's parameters in which none depends on another: a posterior that knows how sure it is.

q(θ) = Π_j N(θ_j; μ_j, 1/Λ_j): with Λ_j = N F̂_jj it is the diagonal Laplace approximation at θ̂ = μ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import read_tensors, write_tensors

FILE = "precision.safetensors"


@dataclass(frozen=True)
class MeanField:
    """N(μ, diag(1/Λ)).

    Attributes:
        model: the model at μ.
        precision: (d,) Λ, positive.
        prior: the part of every Λⱼ that no evidence has brought and no deletion can take away.

    Raises:
        RepairError: if there is not one positive precision for each parameter.
    """

    model: TrainedModel
    precision: Tensor
    prior: float = 0.0

    def __post_init__(self) -> None:
        self.model.split(self.precision)
        wrong = int((~((self.precision > 0) & torch.isfinite(self.precision))).sum())
        if wrong:
            raise RepairError(
                f"the posterior's precision is 0, negative or not finite for {wrong} of {len(self.precision)} "
                "parameters: use a curvature with a damping above 0, and delete no more than has been inserted"
            )

    @property
    def deviation(self) -> Tensor:
        """(d,) the standard deviations σ = Λ^−½."""
        return self.precision.rsqrt()

    def at(self, noise: Tensor) -> TrainedModel:
        """The model at μ + σε for a noise ε of shape (d,)."""
        return self.model.with_parameter_vector(self.model.parameter_vector + self.deviation * noise)


def gaussian_divergence(
    mean: Tensor, log_deviation: Tensor, prior_mean: Tensor, prior_precision: Tensor
) -> Tensor:
    """KL(q ‖ p) = ½ Σⱼ [Λⱼσⱼ² + Λⱼ(μⱼ − mⱼ)² − 1 − log(Λⱼσⱼ²)] of q = N(μ, σ²) from p = N(m, 1/Λ), in nats.

    Args:
        mean: (d,) μ.
        log_deviation: (d,) log σ.
        prior_mean: (d,) m.
        prior_precision: (d,) Λ.
    """
    shares = prior_precision.log() + 2 * log_deviation
    return 0.5 * (shares.exp() - 1 - shares + prior_precision * (mean - prior_mean).square()).sum()


def expected_log_likelihood_change(
    before: MeanField, after: MeanField, examples: Examples, *, samples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) E_before[log p(z | θ)] − E_after[log p(z | θ)] in nats by Monte Carlo, and (n,) the standard errors.

    Both expectations see the same noise, in pairs ±ε, so that what it does to both alike and whatever is odd in it
    cancels. The standard error is that of a mean over pairs.

    Args:
        before: one Gaussian.
        after: another, of the same network.
        examples: n of them.
        samples: how many pairs, 2 or more.
        seed: of the noise.
    """
    total = np.zeros(len(examples))
    squares = np.zeros(len(examples))
    for number, noise in enumerate(_noises(before, samples, seed), start=1):
        change = np.zeros(len(examples))
        for sign in (1, -1):
            old, new = (gaussian.at(sign * noise).log_likelihoods(examples) for gaussian in (before, after))
            change += 0.5 * (old.double() - new.double()).cpu().numpy()
        # Welford's recurrence: sums of squares would cancel where all changes are alike.
        shift = change - total
        total += shift / number
        squares += shift * (change - total)
    return total, np.sqrt(squares / (samples - 1) / samples)


def save_precisions(folder: Path, before: MeanField, after: MeanField) -> None:
    """Write the precisions of a posterior before and after an edit into an existing folder."""
    write_tensors(folder / FILE, {"before": before.precision, "after": after.precision})


def load_precisions(
    folder: Path, before: TrainedModel, after: TrainedModel
) -> tuple[MeanField, MeanField] | None:
    """What `save_precisions` wrote, around these models; None where the edit was of a mode alone.

    Raises:
        RepairError: if the file is damaged or of another model.
    """
    if not (folder / FILE).exists():
        return None
    found = read_tensors(folder / FILE, before.device)
    return MeanField(before, found["before"]), MeanField(after, found["after"])


def _noises(gaussian: MeanField, samples: int, seed: int) -> Iterator[Tensor]:
    draws = generator(seed, "expectations over the posterior")
    for _ in range(samples):
        noise = torch.from_numpy(draws.standard_normal(len(gaussian.precision)))
        yield noise.to(gaussian.model.device, gaussian.model.dtype)
