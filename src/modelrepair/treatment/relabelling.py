"""Repair by training on, with other labels for the causes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.trained_model import flatten
from modelrepair.settings.treatment import (
    ComplementaryLabelsSettings,
    RandomLabelsSettings,
    RelabellingSettings,
)
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import epoch_batches
from modelrepair.treatment.base import Patient, Treated, Treatment

Belief = Callable[[Tensor, Tensor, NDArray[np.int64], int], Tensor]
"""(m,) log-likelihoods of a batch's causes under what is now believed of them, from the network's outputs, the targets
that they were given, their positions among the causes, and the epoch."""


class ComplementaryLabels(ComplementaryLabelsSettings, Treatment):
    """Train on from θ̂ with −log(1 − p(y|x, θ)) as the loss of a cause: what it was called is what it is not.

    The relabelling function of RDIA (Kong et al. 2022, "Resolving training biases via influence-based data relabeling")
    puts log_{pⱼ}((1 − p_y)^{1/(k−1)}) in place of the label of each class j ≠ y, and 0 in that of y, so that the
    cross-entropy becomes this loss. Right labels that were taken for wrong ones are then pushed off.
    """

    def _treat(self, patient: Patient) -> Treated:
        likelihood = patient.model.likelihood
        return relabelled(
            patient,
            self,
            lambda outputs, targets, positions, epoch: likelihood.log_complement(outputs, targets),
            "training on complementary labels",
        )


class RandomLabels(RandomLabelsSettings, Treatment):
    """Train on from θ̂ with a random other label for every cause, drawn anew in each epoch (SalUn; Fan et al. 2024,
    "SalUn: empowering machine unlearning via gradient-based weight saliency", arXiv:2310.12508).

    Only those parameters are trained in which the loss of the causes is steepest at θ̂, a share `salient` of all.
    """

    def saliency(self, patient: Patient) -> Tensor:
        """(d,) whether a parameter is among the `salient` share, at least one, with the largest |∂ log p(C|θ̂)/∂θⱼ|;
        the first of equals."""
        steepness = patient.model.weighted_gradient(patient.examples.subset(patient.causes)).abs()
        order = steepness.argsort(descending=True, stable=True)
        salient = torch.zeros_like(steepness, dtype=torch.bool)
        salient[order[: max(round(self.salient * len(order)), 1)]] = True
        return salient

    def _treat(self, patient: Patient) -> Treated:
        model, causes = patient.model, patient.examples.subset(patient.causes)
        width = model.outputs(causes.subset([0])).shape[1]

        @functools.lru_cache(maxsize=1)
        def drawn(epoch: int) -> Tensor:
            draw = generator(patient.seed, f"random labels, epoch {epoch}")
            targets = torch.from_numpy(other_targets(causes.targets, width, draw)).to(model.device)
            return targets.to(model.dtype) if targets.is_floating_point() else targets

        return relabelled(
            patient,
            self,
            lambda outputs, targets, positions, epoch: model.log_likelihood(outputs, drawn(epoch)[positions]),
            "training on random labels",
            trained=model.split(self.saliency(patient)),
        )


def other_targets(targets: NDArray[Any], outputs: int, draw: np.random.Generator) -> NDArray[Any]:
    """(n, ...) for each target a random one among all others, each as likely.

    Args:
        targets: (n,) class numbers, or (n, k) attributes, of which at least one comes out as another.
        outputs: how many classes there are.
        draw: of what is random.

    Raises:
        RepairError: if there is one class alone.
    """
    if targets.ndim == 1:
        if outputs < 2:
            raise RepairError(
                "of one class alone there is no other label: give a network with two outputs or more"
            )
        return np.asarray((targets + draw.integers(1, outputs, len(targets))) % outputs, dtype=np.int64)
    flipped = draw.random(targets.shape) < 0.5
    while len(same := np.flatnonzero(~flipped.any(axis=1))):
        flipped[same] = draw.random((len(same), targets.shape[1])) < 0.5
    return np.where(flipped, 1 - targets, targets)


def relabelled(
    patient: Patient,
    settings: RelabellingSettings,
    belief: Belief,
    description: str,
    moved: Tensor | None = None,
    trained: Mapping[str, Tensor] | None = None,
) -> Treated:
    """Train on from θ̂ on the causes and what remains together, every example as one.

    Args:
        patient: see there.
        settings: how.
        belief: how likely the causes are, but for those to which a person gives a class: they are what it says.
        description: see `minimise`.
        moved: (m, ...) inputs of the causes, as the network sees them, in place of their own.
        trained: by the parameters' names, which of their entries are trained; all by default. The penalty of weight
            decay is then part of the losses of the trace, and does not move the others.
    """
    model, count = patient.model.copy(), len(patient.causes)
    told = np.full(count, -1) if patient.corrections is None else patient.corrections
    kept = (
        patient.kept if settings.remaining == "all" else patient.examples.subset(patient.remaining_sample())
    )
    pool = patient.examples.subset(patient.causes).followed_by(kept)

    def run(inputs: Tensor) -> tuple[Tensor, Tensor | float]:
        """The network's outputs, and the penalty that the step itself does not add."""
        if trained is None:
            return model.run(inputs), 0.0
        values = {name: torch.where(trained[name], p, p.detach()) for name, p in model.parameters.items()}
        penalty = settings.weight_decay / 2 * flatten(values.values()).square().sum()
        return model.outputs_at(values, inputs), penalty

    def losses(epoch: int) -> Iterator[Tensor]:
        for chosen in epoch_batches(
            len(pool), settings.batch_size, seed=patient.seed, purpose=description, epoch=epoch
        ):
            inputs, targets = pool.batch(chosen, device=model.device, dtype=model.dtype)
            cause = chosen < count
            of_cause = chosen[cause]
            if moved is not None:
                # What a person labels is labelled as it is.
                astray = told[of_cause] < 0
                inputs[torch.from_numpy(np.flatnonzero(cause)[astray])] = moved[of_cause[astray]]
            outputs, penalty = run(inputs)
            believed = belief(outputs[cause], targets[cause], of_cause, epoch)
            if (told[of_cause] >= 0).any():
                new = torch.from_numpy(told[of_cause]).to(model.device)
                right = model.log_likelihood(outputs[cause], torch.where(new >= 0, new, targets[cause]))
                believed = torch.where(new >= 0, right, believed)
            likely = model.log_likelihood(outputs[~cause], targets[~cause])
            yield penalty - torch.cat([believed, likely]).mean()

    course = minimise(
        model,
        losses,
        Descent(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay if trained is None else 0.0,
            rounds=settings.epochs,
            patience=settings.patience,
        ),
        oversight=patient.oversight,
        # What is believed, and which parameters matter, was found out with the network in this mode.
        training_mode=False,
        description=description,
    )
    return Treated(model, course.trace, course.best_round)
