"""What training examples have in common with causes that are known."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import ResemblanceSettings
from modelrepair.valuation import penultimate_features

SETTLED = 1e-6
"""Mean change of a probability from one round to the next at which there is nothing left to find."""


class Resemblance(ResemblanceSettings, Influence):
    """Log-odds that an example is wrong for the same reason as the causes that are known (`mixture_log_odds`).

    The features are those on which the network's last linear layer decides. There an example that its label does not
    fit stands apart from the others of that label, also where the network has learned the label by heart: a wrong label
    beside what the image shows, a trigger beside what the label means (as Tran et al. 2018, arXiv:1811.00636, find).
    Which of the directions in which examples differ is that of the causes, the known ones say.

    A known cause scores at least as high as any other example. In a class of which no cause is known there is nothing
    to be like: its examples score below all others, and below 0.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        given, labels = investigation.known, investigation.examples.targets
        if given is None or not len(given):
            raise RepairError(
                f"the score {self.chosen} asks which examples are like the causes that are known, and none are: name "
                "some, or choose another score"
            )
        if labels.ndim != 1:
            raise RepairError(
                f"the score {self.chosen} needs examples with one class each, and these have attributes: choose "
                "another score"
            )
        features = penultimate_features(investigation.base, investigation.examples)
        numbers = torch.as_tensor(np.asarray(labels, dtype=np.int64), device=features.device)
        known = torch.zeros(len(numbers), dtype=torch.bool, device=features.device)
        known[torch.as_tensor(given, device=features.device)] = True
        odds = mixture_log_odds(features, numbers, known, ridge=self.ridge, rounds=self.rounds)
        comparable = odds.isfinite()
        others = odds[comparable & ~known]
        lowest, highest = (float(bound) for bound in others.aminmax()) if len(others) else (0.0, 0.0)
        odds[~comparable] = min(lowest, 0.0) - 1
        odds[known] = odds[known].clamp_min(highest)
        return odds.cpu().numpy()


def mixture_log_odds(
    features: Tensor, labels: Tensor, known: Tensor, *, ridge: float = 0.1, rounds: int = 200
) -> Tensor:
    """(n,) log P(sᵢ = 1 | φᵢ, yᵢ)/P(sᵢ = 0 | φᵢ, yᵢ): that an example is wrong as the known causes are.

    In every class y with a known cause the features are a mixture of two Gaussians, of what is sound and of what is
    wrong, and all have one covariance, as in linear discriminant analysis:

        P(s = 1 | y) = π_y,   φ | y, s ~ N(μ_ys, Σ),   s = 1 for the known causes.

    Expectation-maximisation from labelled and unlabelled examples (Nigam et al. 2000, section 3; with labelled ones of
    one kind alone, Liu et al. 2002). At first all but the known are sound; as nothing is said by that of how many are
    not, the first expectation is of even odds, and those after it of π_y = (Σᵢ P(sᵢ = 1) + 1)/(n_y + 2). Few examples
    say little of f features, so Σ has λ times its mean variance added to each of them.

    A round costs one solve of f equations and O(nf) for each class; memory is O(nf), and n numbers for each class.

    Args:
        features: (n, f) φ.
        labels: (n,) class numbers.
        known: (n,) whether an example is a known cause.
        ridge: λ.
        rounds: at most so many; it ends before where the probabilities have settled.

    Returns:
        Log-odds in float64, also of the known ones; -inf in a class of which no cause is known.

    Raises:
        RepairError: if the features are NaN or infinite, or those of a class never differ.
    """
    if not bool(features.isfinite().all()):
        raise RepairError("the features of training examples are NaN or infinite: check their inputs")
    x = features.double() - features.double().mean(dim=0)
    member = F.one_hot(labels).to(x)
    asked = (member.T @ known.to(x) > 0)[labels]
    squares, (count, width) = x.T @ x, x.shape
    wrong = known.to(x)
    odds = torch.zeros_like(wrong)
    for number in range(rounds):
        kinds = torch.stack([1 - wrong, wrong])
        masses = kinds @ member
        sums = torch.stack([member.T @ (kind.unsqueeze(1) * x) for kind in kinds])
        # Where there is none of a kind in a class, its mean is that of nothing, and no example is compared with it.
        means = sums / masses.clamp_min(torch.finfo(x.dtype).tiny).unsqueeze(2)
        within = (squares - torch.einsum("scf,scg->fg", sums, means)) / count
        variance = float(within.trace()) / width
        if variance <= torch.finfo(x.dtype).eps * float(squares.trace()) / (count * width):
            raise RepairError(
                "the features of all training examples of a class are alike, so none can be told from the rest: choose "
                "another score, or another network"
            )
        covariance = within + ridge * variance * torch.eye(width).to(x)
        direction = torch.linalg.solve(covariance, (means[1] - means[0]).T)
        threshold = ((means[0] + means[1]) / 2 * direction.T).sum(dim=1)
        prior = torch.log((masses[1] + 1) / (masses[0] + 1)) if number else torch.zeros_like(threshold)
        each = (x @ direction - threshold + prior).gather(1, labels.unsqueeze(1)).squeeze(1)
        odds = torch.where(asked, each, -torch.inf)
        before, wrong = wrong, torch.where(known, 1.0, odds.sigmoid())
        if float((wrong - before).abs().mean()) < SETTLED:
            break
    return odds
