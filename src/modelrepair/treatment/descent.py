"""Repair by further training: the reference lines that deletion is measured against."""

from __future__ import annotations

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.treatment import FineTuneSettings, RetrainSettings
from modelrepair.training.descent import Descent, mean_losses, minimise
from modelrepair.treatment.base import Patient, Treated, Treatment


class FineTune(FineTuneSettings, Treatment):
    """Train on from θ̂ on D \\ C (Tanno et al. 2022, section 2.2, example 1); every epoch is a point.

    With the true causes this is the paper's semi-oracle. Told to train on labelled examples that the model was tested
    on, instead or besides, it is what anybody would do who has some.
    """

    def treat(self, patient: Patient) -> Treated:
        seen, examples = patient.taught_with(self.trains_on)
        if "remaining" in self.trains_on:
            kept = patient.remaining if self.remaining == "all" else patient.remaining_sample()
            examples = patient.examples.subset(kept).followed_by(examples)
        examples = examples.followed_by(patient.corrected)
        return _descend(patient.model.copy(), seen, examples, self, "fine-tuning")


class Retrain(RetrainSettings, Treatment):
    """Train from scratch on D \\ C: the gold standard that repair without retraining tries to reach."""

    def treat(self, patient: Patient) -> Treated:
        if patient.fresh is None:
            raise RepairError(
                "retraining needs an untrained network: give the patient a function `fresh` that makes one"
            )
        examples = patient.examples.subset(patient.remaining).followed_by(patient.corrected)
        treated = _descend(patient.fresh(), patient, examples, self, "retraining")
        if patient.guarded and patient.watch(treated.model) < patient.watch(patient.model):
            watched, numbers, _ = patient.oversight.look(patient.model)
            given = {"round": 0, "loss": None, "watched": watched, **numbers}
            return Treated(patient.model, [given, *treated.trace[1:]], 0)
        return treated


def _descend(
    model: TrainedModel,
    patient: Patient,
    examples: Examples,
    settings: FineTune | Retrain,
    description: str,
) -> Treated:
    if not len(examples):
        raise RepairError("no training examples remain without the causes: select fewer causes")
    course = minimise(
        model,
        mean_losses(
            model,
            examples,
            settings.batch_size,
            seed=patient.seed,
            purpose=description,
        ),
        Descent(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            rounds=settings.epochs,
            patience=settings.patience,
        ),
        oversight=patient.oversight,
        description=description,
    )
    return Treated(model, course.trace, course.best_round)
