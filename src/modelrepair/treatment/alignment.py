"""Repair by correction: what a better model thinks that the causes should have been (Huang et al. 2023)."""

from __future__ import annotations

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import Edited, evidence_of, insert_evidence
from modelrepair.settings.posterior import InsertionSettings
from modelrepair.settings.treatment import AlignSettings, InsertSettings
from modelrepair.training.descent import Oversight
from modelrepair.treatment.base import Patient, Treated, Treatment
from modelrepair.treatment.relabelling import relabelled


class Insert(InsertSettings, Treatment):
    """The judge φ̂ of `Align` itself, which learned what is right: where that is enough, no causes need be known."""

    def _treat(self, patient: Patient) -> Treated:
        patient.expect_no_corrections("inserting what is right")
        edited = judged(patient, self.judge, patient.oversight)
        return Treated(edited.model, edited.trace, edited.best_round)


class Align(AlignSettings, Treatment):
    """Train θ̂ on causes that are aligned with what is right, and on what remains (Huang et al. 2023, Algorithm 1).

    A judge φ̂, the model with evidence of what is right in its posterior, corrects each cause (`align`). Then the layers
    of θ̂ that the judge chose to change, or all where it chose none, are trained on the corrected causes with their soft
    labels and on remaining examples as they were given. Every epoch is a point. With a `layer-selective` judge on
    reserved examples it is BIR; with `ewc` on the failures θ̂₊F judges; with `second-look` at what remains, on nothing
    else, and `step` 0 a repaired model corrects the labels alone.

    The judge is made afresh, from the same seed: where causes were found with the same settings it is the same model.
    """

    def _treat(self, patient: Patient) -> Treated:
        progress = patient.checkpoint and patient.checkpoint.part("judge")
        edited = judged(patient, self.judge, Oversight(checkpoint=progress))
        causes = patient.examples.subset(patient.causes)
        inputs, labels = align(edited.model, causes, self.step)
        model = patient.model
        chosen = None
        if edited.changed is not None:
            chosen = {
                name: torch.full_like(parameter, name in edited.changed, dtype=torch.bool)
                for name, parameter in model.parameters.items()
            }
        return relabelled(
            patient,
            self,
            lambda outputs, targets, positions, epoch: model.log_likelihood(outputs, labels[positions]),
            "training on corrected causes",
            moved=inputs if self.step else None,
            trained=chosen,
        )


def judged(patient: Patient, settings: InsertionSettings, oversight: Oversight) -> Edited:
    """The patient's model with evidence of what is right inserted into its posterior.

    Args:
        patient: see there.
        settings: of the insertion. What an update may look at of the training examples is D \\ C.
        oversight: who judges the points, where progress is kept.

    Raises:
        RepairError: if there is no such evidence.
    """
    evidence = evidence_of(settings, patient.failures, patient.reserved)
    if not len(evidence) and settings.evidence != "nothing":
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
        kept=patient.kept,
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
            energy = judge.likelihood.energy(judge.run(place)).sum()
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
