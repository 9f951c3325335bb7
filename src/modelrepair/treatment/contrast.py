"""Repair by learning what remains and unlearning the causes, side by side: NegGrad+ and SCRUB (Kurmanji et al. 2023,
"Towards unbounded machine unlearning", arXiv:2302.09880).

Both unlearn without a bound as published, and go on to destroy the model, as every ascent on a loss does. So here a
cause stops counting, by default, once what is unlearned of it is no likelier than a guess (`bounded`), as in
`ElasticWeightConsolidation`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.treatment import ContrastSettings, DistilSettings, NegativeGradientSettings
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import epoch_batches
from modelrepair.treatment.base import Patient, Treated, Treatment


class NegativeGradient(NegativeGradientSettings, Treatment):
    """Descend from θ̂ on β·L(D \\ C) − (1 − β)·L(C), L the mean of −log p (NegGrad+).

    A step sees a batch of each. An epoch goes once through D \\ C, and again and again through C.
    """

    def _treat(self, patient: Patient) -> Treated:
        patient.expect_no_corrections("ascent on them")
        model = patient.model.copy()
        causes, kept = patient.examples.subset(patient.causes), patient.kept

        def losses(epoch: int) -> Iterator[Tensor]:
            sides = (
                epoch_batches(len(side), self.batch_size, seed=patient.seed, purpose=purpose, epoch=epoch)
                for side, purpose in ((kept, "ascent, remaining"), (causes, "ascent, causes"))
            )
            remaining, repeated = next(sides), itertools.cycle(next(sides))
            for learned, unlearned in zip(remaining, repeated, strict=False):
                inputs, targets = kept.batch(learned, device=model.device, dtype=model.dtype)
                likely = model.log_likelihood(model.run(inputs), targets).mean()
                inputs, targets = causes.batch(unlearned, device=model.device, dtype=model.dtype)
                outputs = model.run(inputs)
                unlikely = _until_a_guess(model, outputs, targets, self.bounded).mean()
                yield (1 - self.beta) * unlikely - self.beta * likely

        return _descend(model, patient, losses, self, "descending and ascending")


class Distil(DistilSettings, Treatment):
    """Alternately depart from θ̂ on C and stay with it on D \\ C (SCRUB).

    With KL(z) = KL(p(·|x, θ̂) ‖ p(·|x, θ)), each of the first epochs (`departures`) begins with a pass through C in
    which a step ascends the mean of KL; and every epoch goes through D \\ C, where a step descends the mean of
    α·KL − γ·log p. The published code softens both distributions by a temperature; the objective, and this, does not.
    """

    def _treat(self, patient: Patient) -> Treated:
        patient.expect_no_corrections("departing on them")
        model = patient.model.copy()
        causes, kept = patient.examples.subset(patient.causes), patient.kept

        given_causes, given_kept = patient.model.outputs(causes), patient.model.outputs(kept)

        def losses(epoch: int) -> Iterator[Tensor]:
            if epoch <= self.departures:
                for chosen, inputs, _ in batches(causes, "departing", epoch):
                    said = model.likelihood.probabilities(given_causes[chosen])
                    # Up to the entropy of what was said, which no step changes, minus the divergence.
                    yield _until_a_guess(model, model.run(inputs), said, self.bounded).mean()
            for chosen, inputs, targets in batches(kept, "staying", epoch):
                outputs = model.run(inputs)
                divergence = divergences(model, given_kept[chosen], outputs)
                loss = -model.log_likelihood(outputs, targets)
                yield (self.divergence * divergence + self.loss * loss).mean()

        def batches(
            examples: Examples, purpose: str, epoch: int
        ) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
            for chosen in epoch_batches(
                len(examples), self.batch_size, seed=patient.seed, purpose=purpose, epoch=epoch
            ):
                yield chosen, *examples.batch(chosen, device=model.device, dtype=model.dtype)

        return _descend(model, patient, losses, self, "departing and staying")


def divergences(model: TrainedModel, given: Tensor, outputs: Tensor) -> Tensor:
    """(n,) KL(q ‖ p) in nats, q what the given outputs mean and p what these do; of attributes, its sum over them.

    The cross-entropy of q and p less that of q and itself, so that whatever likelihood takes probabilities as targets
    has it.
    """
    said = model.likelihood.probabilities(given)
    return model.log_likelihood(given, said) - model.log_likelihood(outputs, said)


def _until_a_guess(model: TrainedModel, outputs: Tensor, targets: Tensor, bounded: bool) -> Tensor:
    """(n,) log p, at least that of a guess: below it there is nothing left to unlearn, and its gradient is 0."""
    log_likelihood = model.log_likelihood(outputs, targets)
    return log_likelihood.clamp(min=model.likelihood.chance(outputs)) if bounded else log_likelihood


def _descend(
    model: TrainedModel,
    patient: Patient,
    losses: Callable[[int], Iterator[Tensor]],
    settings: ContrastSettings,
    description: str,
) -> Treated:
    course = minimise(
        model,
        losses,
        Descent(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            rounds=settings.epochs,
            patience=settings.patience,
        ),
        oversight=patient.oversight,
        # What the two sides say is compared, so the network says it in one way.
        training_mode=False,
        description=description,
    )
    return Treated(model, course.trace, course.best_round)
