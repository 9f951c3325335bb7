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

from modelrepair.errors import RepairError
from modelrepair.settings import choose

PROBABILITY_ROUNDING = 0.01
"""How far the probabilities of an example may be from a sum of 1, as half-precision ones are."""


class Likelihood(Protocol):
    """p(y | x, θ) as a function of a network's raw outputs."""

    name: str

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) log p(yᵢ | xᵢ, θ) in nats."""
        ...

    def log_complement(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) log(1 − p(yᵢ | xᵢ, θ)) in nats: how likely any other target is, also where p rounds to 1."""
        ...

    def chance(self, outputs: Tensor) -> float:
        """log p(y | x) in nats of a guess that knows nothing."""
        ...

    def even_odds(self, outputs: Tensor) -> float:
        """log p(y | x) in nats below which a target is less likely than all that it could be instead."""
        ...

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Predicted probabilities, in the shape of the outputs."""
        ...

    def energy(self, outputs: Tensor) -> Tensor:
        """(n,) −log Σ_y exp f(x)[y] over all targets y: the energy of x, if exp f(x)[y] is p(x, y) but for a constant.

        Grathwohl et al. 2020 (arXiv:1912.03263), Eq. 7.
        """
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

    Raises:
        RepairError: wherever outputs and targets are given, if they are not such.
    """

    name = "softmax"

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_classes(outputs, targets)
        return -F.cross_entropy(outputs, targets, reduction="none")

    def log_complement(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) log(1 − p_y) = log σ(log Σ_{j≠y} exp zⱼ − z_y) of logits z; of probabilities y is the likeliest."""
        _require_classes(outputs, targets)
        if outputs.shape[1] < 2:
            raise RepairError(
                "of one class alone no other target can be likely: give a network with two outputs or more"
            )
        chosen, others = _apart(outputs, targets)
        # Logits of any size differ exactly; their logsumexp would round to their size.
        level = others.detach().amax(dim=1)
        return F.logsigmoid((others - level.unsqueeze(1)).logsumexp(dim=1) - (chosen - level))

    def chance(self, outputs: Tensor) -> float:
        return -math.log(outputs.shape[1])

    def even_odds(self, outputs: Tensor) -> float:
        return -math.log(2)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.softmax(dim=1)

    def energy(self, outputs: Tensor) -> Tensor:
        return -outputs.logsumexp(dim=1)

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(dim=1)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_classes(outputs, targets)
        classes = targets.argmax(dim=1) if targets.ndim == 2 else targets
        return (self.predictions(outputs) == classes).to(outputs.dtype)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_classes(outputs, targets)
        chosen, others = _apart(outputs, targets)
        return chosen - others.amax(dim=1)


class Sigmoid:
    """k independent yes/no attributes: outputs (n, k) are logits, targets (n, k) zeros and ones, or probabilities.

    Raises:
        RepairError: wherever outputs and targets are given, if they are not such.
    """

    name = "sigmoid"

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_attributes(outputs, targets)
        wanted = targets.to(outputs.dtype)
        return -F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").sum(dim=1)

    def log_complement(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(n,) log(1 − Πⱼ pⱼ), pⱼ the probability of the given value of attribute j.

        As a sum over which attribute is the first that is another: 1 − Πⱼ pⱼ = Σⱼ (1 − pⱼ) Π_{i<j} pᵢ.
        """
        _require_attributes(outputs, targets)
        towards = torch.where(targets > 0, outputs, -outputs)
        before = F.pad(F.logsigmoid(towards)[:, :-1], (1, 0)).cumsum(dim=1)
        return (F.logsigmoid(-towards) + before).logsumexp(dim=1)

    def chance(self, outputs: Tensor) -> float:
        return -math.log(2) * outputs.shape[1]

    def even_odds(self, outputs: Tensor) -> float:
        """That of every attribute by itself: the geometric mean of their likelihoods at ½."""
        return self.chance(outputs)

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs.sigmoid()

    def energy(self, outputs: Tensor) -> Tensor:
        """The sum over all 2ᵏ targets y of exp ⟨y, f(x)⟩ is Π(1 + exp fⱼ)."""
        return -F.softplus(outputs).sum(dim=1)

    def predictions(self, outputs: Tensor) -> Tensor:
        return (outputs > 0).to(outputs.dtype)

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_attributes(outputs, targets)
        return (self.predictions(outputs) == targets).to(outputs.dtype).mean(dim=1)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_attributes(outputs, targets)
        return torch.where(targets > 0, outputs, -outputs).amin(dim=1)


def _apart(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) the outputs of the given classes, and (n, k) those of all others, with -inf in place of the given ones."""
    classes = (targets.argmax(dim=1) if targets.ndim == 2 else targets).unsqueeze(1)
    return outputs.gather(1, classes).squeeze(1), outputs.scatter(1, classes, float("-inf"))


def _require_classes(outputs: Tensor, targets: Tensor) -> None:
    """Nothing for outputs (n, k) and n class numbers below k, or (n, k) probabilities.

    Raises:
        RepairError: for others.
    """
    numbers = targets.ndim == 1 and not targets.is_floating_point()
    mixtures = targets.shape == outputs.shape and targets.is_floating_point()
    if outputs.ndim != 2 or not (mixtures or (numbers and len(targets) == len(outputs))):
        raise _misfit("softmax", outputs, targets, "class numbers (n,), or probabilities (n, k)")
    if numbers:
        wrong = (targets < 0) | (targets >= outputs.shape[1])
        expected = f"class numbers from 0 to {outputs.shape[1] - 1}, one for each output of the network"
    else:
        off = ~((targets.sum(dim=1) - 1).abs() <= PROBABILITY_ROUNDING)
        wrong = ~(targets >= 0) | off.unsqueeze(1)
        expected = "probabilities that are 0 or more and sum to 1 for each example"
    _require_values(wrong, targets, "softmax", expected)


def _require_attributes(outputs: Tensor, targets: Tensor) -> None:
    """Nothing for outputs (n, k) and as many targets from 0 to 1.

    Raises:
        RepairError: for others.
    """
    if outputs.ndim != 2 or targets.shape != outputs.shape:
        raise _misfit("sigmoid", outputs, targets, "(n, k) zeros and ones")
    wrong = ~((targets >= 0) & (targets <= 1))
    _require_values(wrong, targets, "sigmoid", "zeros and ones, or probabilities between them")


def _misfit(name: str, outputs: Tensor, targets: Tensor, wanted: str) -> RepairError:
    kind = str(targets.dtype).removeprefix("torch.")
    return RepairError(
        f"outputs of shape {tuple(outputs.shape)} met targets of shape {tuple(targets.shape)} and type {kind}: the "
        f"likelihood {name} needs outputs (n, k) and as targets {wanted}"
    )


def _require_values(wrong: Tensor, targets: Tensor, name: str, expected: str) -> None:
    """Nothing if no target is wrong.

    Raises:
        RepairError: if one is; names the first.
    """
    try:
        some = bool(wrong.any())
    except RuntimeError:
        # Within `vmap` nothing may depend on values. Whoever maps over examples has run them as a batch before.
        return
    if some:
        value = targets[wrong][0].item()
        raise RepairError(
            f"{int(wrong.sum())} of {targets.numel()} targets are not what the likelihood {name} can have, the first "
            f"{value:g}: give {expected}"
        )


LIKELIHOODS: dict[str, type[Softmax] | type[Sigmoid]] = {"softmax": Softmax, "sigmoid": Sigmoid}


def make_likelihood(name: str) -> Likelihood:
    """The likelihood of that name.

    Raises:
        RepairError: if there is none.
    """
    return choose("likelihood", LIKELIHOODS, name)()
