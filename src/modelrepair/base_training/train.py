"""Training a base model, and what is kept of its course."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings import choose
from modelrepair.training.conditions import PLAIN, Conditions, conditions_as
from modelrepair.training.descent import Course, Descent, Oversight, descent_as, minimise
from modelrepair.training.epochs import Step, mean_losses
from modelrepair.training.trajectory import Trajectory, TrajectoryRecorder

if TYPE_CHECKING:
    from modelrepair.settings.training import TrainingSettings


def train_as(
    settings: TrainingSettings,
    model: TrainedModel,
    examples: Examples,
    *,
    seed: int,
    validation: Examples | None = None,
    checkpoint: Checkpoint | None = None,
    description: str = "training",
    checkpoints: int | None = None,
) -> Course:
    """`train` as the section `training` of params.yaml says."""
    return train(
        model,
        examples,
        descent_as(settings, settings.epochs, patience=settings.patience),
        batch_size=settings.batch_size,
        seed=seed,
        validation=validation,
        checkpoint=checkpoint,
        description=description,
        checkpoints=checkpoints,
        conditions=conditions_as(settings),
        keep=settings.keep,
        margins=settings.margins,
        parts=settings.parts,
    )


def as_given(model: TrainedModel, examples: Examples, *, validation: Examples | None = None) -> Course:
    """The course of a model that somebody else has trained: as of `train`, the row of its start alone.

    Args:
        model: trained.
        examples: that it was trained on.
        validation: as in `train`.

    Raises:
        RepairError: if there are no examples.
    """
    if not len(examples):
        raise RepairError("there are no examples that the model was trained on: check the data set")
    row: dict[str, Any] = {"round": 0, "loss": None, "watched": None}
    if validation is not None and len(validation):
        row["watched"], row["validation_accuracy"] = model.performance(validation)
    return Course([row], 0, {"margins": model.margins(examples).detach().cpu()[None]})


def train(
    model: TrainedModel,
    examples: Examples,
    descent: Descent,
    *,
    batch_size: int,
    seed: int,
    validation: Examples | None = None,
    checkpoint: Checkpoint | None = None,
    description: str = "training",
    checkpoints: int | None = None,
    conditions: Conditions = PLAIN,
    keep: str = "best",
    margins: str = "after",
    parts: int = 1,
) -> Course:
    """Train the model's network in place.

    Args:
        model: freshly initialised.
        examples: to train on.
        descent: optimiser, learning rate, epochs (`rounds`) and patience.
        batch_size: examples a step.
        seed: of the batch order.
        validation: if given, the mean loss on it is written down, and `patience` counts epochs without progress on it.
        checkpoint: where to keep progress.
        description: shown beside the progress bar.
        checkpoints: if given, the course has a `trajectory`, with at most this many of the training's states.
        conditions: how examples are shown, and in which numbers the network runs; validation and margins "after" are
            of the examples as they are, in the numbers of the parameters.
        keep: the epoch that is the result: "best", with the lowest mean loss on validation, or "last", as without
            validation.
        margins: "after": those of the model after each epoch; "during": those of the step in which the epoch trains on
            the example, as it is shown there (Pleiss et al. 2020, Eq. 1), for which nothing more is computed.
        parts: into which the batch of a step is cut, for processes that work together to share; see `training.parts`.

    Returns:
        The course: a row an epoch with `loss`, `watched` (minus the mean validation loss) and
        `validation_accuracy`; as tensor `margins` (epochs + 1, n), how far each example's given label led; the first
        row is of the model at the start.

    Raises:
        RepairError: if there is nothing to train on, or a loss is NaN or infinite.
    """
    choose("epoch to keep", dict.fromkeys(("best", "last")), keep)
    if not len(examples):
        raise RepairError("there are no examples to train on: check the data set and the selection of causes")
    judged = validation if validation is not None and len(validation) else None
    led = choose("time of margins", {"after": Margins, "during": MarginsOfSteps}, margins)(examples)

    watched = math.nan

    def observe(model: TrainedModel) -> dict[str, float | Tensor]:
        nonlocal watched
        seen: dict[str, float | Tensor] = {}
        if judged is not None:
            # What is watched comes of the same pass.
            watched, seen["validation_accuracy"] = model.performance(judged)
        return {**seen, "margins": led.of_epoch(model)}

    def see(step: Step, outputs: Tensor, targets: Tensor) -> None:
        led.see(model, step, outputs, targets)

    losses = mean_losses(
        model,
        examples,
        batch_size,
        seed=seed,
        purpose=description,
        conditions=conditions,
        see=see if margins == "during" else None,
        parts=parts,
    )
    with conditions.laid_out(model.network):
        # What it keeps lies in memory as the parameters do.
        recorder = None if checkpoints is None else TrajectoryRecorder(model, checkpoints)
        course = minimise(
            model,
            losses,
            descent,
            oversight=Oversight(
                watch=None if judged is None else (lambda model: watched),
                observe=observe,
                checkpoint=checkpoint,
                slack=math.inf if keep == "last" else 0.0,
            ),
            description=description,
            recorder=recorder,
            steps_a_round=math.ceil(len(examples) / max(1, batch_size)),
        )
    if recorder is None:
        return course
    trajectory = Trajectory(
        descent=descent,
        rounds=course.best_round,
        batch_size=batch_size,
        seed=seed,
        purpose=description,
        count=len(examples),
        conditions=conditions,
        **recorder.path(model.parameter_vector, course.best_round),
    )
    return replace(course, trajectory=trajectory)


class Margins:
    """How far each example's given label leads in the model after an epoch: a pass of its own."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def see(self, model: TrainedModel, step: Step, outputs: Tensor, targets: Tensor) -> None:
        """What a step showed of its examples."""

    def of_epoch(self, model: TrainedModel) -> Tensor:
        """(n,) the margins of the epoch that is over; before the first one those of the model."""
        return model.margins(self._examples)


class MarginsOfSteps(Margins):
    """How far it led in the step that trained on it."""

    def __init__(self, examples: Examples) -> None:
        super().__init__(examples)
        self._seen: Tensor | None = None

    def see(self, model: TrainedModel, step: Step, outputs: Tensor, targets: Tensor) -> None:
        if self._seen is None:
            self._seen = torch.empty(len(self._examples), dtype=outputs.dtype, device=outputs.device)
        places = torch.from_numpy(step.positions).to(outputs.device)
        self._seen[places] = model.likelihood.margin(outputs, targets)

    def of_epoch(self, model: TrainedModel) -> Tensor:
        # Every epoch sees every example, so that nothing is left of the one before.
        return super().of_epoch(model) if self._seen is None else self._seen.clone()
