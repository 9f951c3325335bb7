"""What a network's outputs mean: the likelihood p(y | x, θ) through which every method sees a model.

Everything here takes raw network outputs and targets and works example by example, so no method needs to
know whether it repairs a classifier, a multi-label model or something else.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from modelrepair.configuration import choose


class Likelihood(Protocol):
    """p(y | x, θ) as a function of a network's raw outputs."""

    name: str

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) log p(yᵢ | xᵢ, θ) in nats."""
        ...

    def chance(self, outputs: Tensor) -> float:
        """log p(y | x) in nats of a guess that knows nothing."""
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Predicted probabilities, in the shape of the outputs."""
        ...

    def predictions(self, outputs: Tensor) -> Tensor:
        """The most likely targets."""
        ...

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) in [0, 1]: how right the prediction is."""
        ...

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) output of the given target minus the largest other output; negative where it is wrong."""
        ...


class Softmax:
    """One of k classes: outputs (n, k) are logits, targets (n,) class numbers or (n, k) probabilities.

    With probabilities as targets the log-likelihood is the negative cross-entropy Σⱼ qⱼ log pⱼ.
    """

    name = "softmax"

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(outputs, targets, reduction="none")

    def chance(self, outputs: Tensor) -> float:
        return -math.log(outputs.shape[1])

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        classes = targets.argmax(dim=1) if targets.ndim == 2 else targets
        return (self.predictions(outputs) == classes).to(outputs.dtype)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        classes = (targets.argmax(dim=1) if targets.ndim == 2 else targets).unsqueeze(1)
        others = outputs.scatter(1, classes, float("-inf"))
        return outputs.gather(1, classes).squeeze(1) - others.amax(dim=1)


class Sigmoid:
    """k independent yes/no attributes: outputs (n, k) are logits, targets (n, k) zeros and ones."""

    name = "sigmoid"

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(dim=1)

    def chance(self, outputs: Tensor) -> float:
        return -math.log(2) * outputs.shape[1]

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def predictions(self, outputs: Tensor) -> Tensor:
        return (outputs > 0).to(outputs.dtype)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (self.predictions(outputs) == targets).to(outputs.dtype).mean(dim=1)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.where(targets > 0, outputs, -outputs).amin(dim=1)


LIKELIHOODS: dict[str, type[Softmax] | type[Sigmoid]] = {"softmax": Softmax, "sigmoid": Sigmoid}


def make_likelihood(name: str) -> Likelihood:
    """The likelihood of that name.

    Raises:
        RepairError: if there is none.
    """
    return choose("likelihood", LIKELIHOODS, name)()
