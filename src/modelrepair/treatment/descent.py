"""Repair by further training: the reference lines that deletion is measured against."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.layers import training_only
from modelrepair.settings import alternatives, shown
from modelrepair.settings.treatment import FineTuneSettings, RetrainSettings, TrainingOnSettings
from modelrepair.training.conditions import conditions_as
from modelrepair.training.descent import descent_as, minimise
from modelrepair.training.epochs import mean_losses
from modelrepair.treatment.base import Patient, Treated, Treatment


class FineTune(FineTuneSettings, Treatment):
    """Train on from θ̂ on D \\ C (Tanno et al. 2022, section 2.2, example 1); every epoch is a point.

    With the true causes this is the paper's semi-oracle. Told to train on labelled examples that the model was tested
    on, instead or besides, it is what anybody would do who has some. Told to train some layers alone, or to stay near
    θ̂, it is what edits of facts stand beside (De Cao et al. 2021, section 4).
    """

    def _treat(self, patient: Patient) -> Treated:
        seen, examples = patient.taught_with(self.trains_on)
        if "remaining" in self.trains_on:
            kept = patient.remaining if self.remaining == "all" else patient.remaining_sample()
            examples = patient.examples.subset(kept).followed_by(examples)
        examples = examples.followed_by(patient.corrected)
        model = patient.model.copy()
        with training_only(model, self._trained(model)):
            return _descend(model, seen, examples, self, "fine-tuning", anchor=self.anchor)

    def _trained(self, model: TrainedModel) -> list[str]:
        """The names of the parameters of the layers that are trained.

        Raises:
            RepairError: if the network has no such layer.
        """
        names = [*model.parameters]
        if self.layers is None:
            return names
        for path in self.layers:
            if not any(name == path or name.startswith(f"{path}.") for name in names):
                paths = dict.fromkeys(name.rpartition(".")[0] or name for name in names)
                raise RepairError(
                    f"the network has no trainable layer {shown(path)}: choose one of {alternatives(path, paths)}, or "
                    "what such paths begin with"
                )
        return [
            name for name in names if any(name == path or name.startswith(f"{path}.") for path in self.layers)
        ]


class Retrain(RetrainSettings, Treatment):
    """Train from scratch on D \\ C: the gold standard that repair without retraining tries to reach.

    Told to train on labelled examples besides, such as causes that state facts with the right object in place of the
    false one, it is what anybody would do who may correct the training data.
    """

    def _treat(self, patient: Patient) -> Treated:
        if patient.fresh is None:
            raise RepairError(
                "retraining needs an untrained network: give the patient a function `fresh` that makes one"
            )
        seen, taught = patient.taught_with(self.trains_on)
        kept = patient.examples.subset(patient.remaining if "remaining" in self.trains_on else ())
        examples = kept.followed_by(taught).followed_by(patient.corrected)
        treated = _descend(patient.fresh(), seen, examples, self, "retraining")
        if patient.guarded and seen.watch(treated.model) < seen.watch(patient.model):
            watched, numbers, _ = seen.oversight.look(patient.model)
            given = {"round": 0, "loss": None, "watched": watched, **numbers}
            return Treated(patient.model, [given, *treated.trace[1:]], 0)
        return treated


def _descend(
    model: TrainedModel,
    patient: Patient,
    examples: Examples,
    settings: TrainingOnSettings,
    description: str,
    *,
    anchor: float = 0.0,
) -> Treated:
    if not len(examples):
        raise RepairError("no training examples remain without the causes: select fewer causes")
    conditions = conditions_as(settings)
    losses = mean_losses(
        model,
        examples,
        settings.batch_size,
        seed=patient.seed,
        purpose=description,
        conditions=conditions,
    )
    with conditions.laid_out(model.network):
        course = minimise(
            model,
            _anchored(model, losses, anchor) if anchor else losses,
            descent_as(settings, settings.epochs, patience=settings.patience),
            oversight=patient.oversight,
            description=description,
            steps_a_round=math.ceil(len(examples) / settings.batch_size),
        )
    return Treated(model, course.trace, course.best_round)


def _anchored(
    model: TrainedModel, losses: Callable[[int], Iterator[Tensor]], strength: float
) -> Callable[[int], Iterator[Tensor]]:
    """The losses with the penalty α/2·‖θ − θ̂‖², θ̂ where the model is now."""
    start = {name: parameter.detach().clone() for name, parameter in model.parameters.items()}

    def penalised(epoch: int) -> Iterator[Tensor]:
        for loss in losses(epoch):
            moved = sum((p - start[name]).square().sum() for name, p in model.parameters.items())
            yield loss + strength / 2 * moved

    return penalised
