"""Repair by correction: what a better model thinks that the causes should have been (Huang et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import Edited, insert_evidence
from modelrepair.posterior.layers import training_only
from modelrepair.settings.posterior import InsertionSettings
from modelrepair.settings.treatment import AlignSettings, InsertSettings
from modelrepair.training.descent import UNATTENDED, Descent, Oversight, epoch_batches, minimise
from modelrepair.treatment.base import Patient, Treated, Treatment


class Insert(InsertSettings, Treatment):
    """The judge φ̂ of `Align` itself, which learned what is right: where that is enough, no causes need be known."""

    def treat(self, patient: Patient) -> Treated:
        edited = judged(patient, self.judge, patient.oversight)
        return Treated(edited.model, edited.trace, edited.best_round)


class Align(AlignSettings, Treatment):
    """Train θ̂ on causes that are aligned with what is right, and on what remains (Huang et al. 2023, Algorithm 1).

    A judge φ̂, the model with evidence of what is right in its posterior, corrects each cause (`align`). Then the layers
    of θ̂ that the judge chose to change, or all where it chose none, are trained on the corrected causes with their soft
    labels and on the remaining examples as they were given. Every epoch is a point. With a `layer-selective` judge on
    reserved examples it is BIR; with `ewc` on the failures it lets θ̂₊F judge; with `step` 0 it corrects labels alone.

    The judge is made afresh, from the same seed: where causes were found with the same settings it is the same model.
    """

    def treat(self, patient: Patient) -> Treated:
        edited = judged(patient, self.judge)
        causes = patient.examples.subset(patient.causes)
        inputs, targets = align(edited.model, causes, self.step)
        chosen = {
            "none": np.empty(0, np.int64),
            "equal": patient.remaining_sample(),
            "all": patient.remaining,
        }
        others = patient.examples.subset(chosen[self.remaining])
        model = patient.model.copy()

        def log_likelihoods(positions: np.ndarray) -> Tensor:
            """Of corrected causes, which come first, and others at these positions."""
            corrected = torch.as_tensor(positions[positions < len(causes)], device=model.device)
            parts = [(inputs[corrected], targets[corrected])] if len(corrected) else []
            if len(corrected) < len(positions):
                given = positions[positions >= len(causes)] - len(causes)
                parts.append(others.batch(given, device=model.device, dtype=model.dtype))
            return torch.cat([model.log_likelihood(model.network(x), y) for x, y in parts])

        def losses(epoch: int) -> Iterator[Tensor]:
            for positions in epoch_batches(
                len(causes) + len(others),
                self.batch_size,
                seed=patient.seed,
                purpose="corrected causes",
                epoch=epoch,
            ):
                yield -log_likelihoods(positions).mean()

        with training_only(model, edited.changed or list(model.parameters)):
            course = minimise(
                model,
                losses,
                Descent(learning_rate=self.learning_rate, rounds=self.epochs),
                oversight=patient.oversight,
                # The judge was made with the statistics of normalisation layers held fixed.
                training_mode=False,
                description="training on corrected causes",
            )
        return Treated(model, course.trace, course.best_round)


def judged(patient: Patient, settings: InsertionSettings, oversight: Oversight = UNATTENDED) -> Edited:
    """The patient's model with evidence of what is right inserted into its posterior.

    Raises:
        RepairError: if there is no such evidence.
    """
    if settings.evidence == "reserved":
        evidence = patient.reserved() if patient.reserved else patient.failures.subset([])
    else:
        evidence = patient.failures
    if not len(evidence):
        raise RepairError(
            f"the treatment asks a model that has learned {settings.evidence} examples, and there are none: choose "
            "other evidence, or a data set with some"
        )
    return insert_evidence(
        settings,
        patient.model,
        evidence,
        patient.examples,
        curvature=patient.curvature,
        seed=patient.seed,
        oversight=oversight,
    )


def align(judge: TrainedModel, examples: Examples, step: float) -> tuple[Tensor, Tensor]:
    """Examples as a judge φ̂ thinks that they should be: x̃ = x − η∇ₓE(x), ỹ = p(· | x̃, φ̂).

    E is the judge's energy (`Likelihood.energy`), low where it knows inputs well (Huang et al. 2023, Eqs. 3 to 5).
    Inputs may leave the range that images have.

    Args:
        judge: at φ̂.
        examples: m of them; their given targets are not looked at.
        step: η, in units of the inputs that the network sees.

    Returns:
        (m, ...) inputs as the network sees them and (m, k) probabilities.

    Raises:
        RepairError: if inputs are to be moved that are ids, or become NaN or infinite.
    """
    inputs, targets = [], []
    for _, given, _ in judge.batches(examples):
        moved = given
        if step:
            if not given.is_floating_point():
                raise RepairError(
                    "the inputs are ids, which have no neighbours to move to: give the step 0, which corrects labels "
                    "alone"
                )
            place = given.clone().requires_grad_()
            energy = judge.likelihood.energy(judge.network(place)).sum()
            moved = (place - step * torch.autograd.grad(energy, place)[0]).detach()
        with torch.no_grad():
            probabilities = judge.likelihood.probabilities(judge.network(moved))
        if not bool(torch.isfinite(probabilities).all()):
            raise RepairError(
                "corrected examples are NaN or infinite: use a smaller step, or check the inputs for NaN"
            )
        inputs.append(moved)
        targets.append(probabilities)
    return torch.cat(inputs), torch.cat(targets)
