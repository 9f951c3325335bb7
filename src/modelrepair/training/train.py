"""Training a base model, and what is kept of its course."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.training.descent import Course, Descent, Oversight, mean_losses, minimise
from modelrepair.training.trajectory import Trajectory, TrajectoryRecorder


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
) -> Course:
    """Train the model's network in place.

    Args:
        model: freshly initialised.
        examples: to train on.
        descent: optimiser, learning rate, epochs (`rounds`) and patience.
        batch_size: examples a step.
        seed: of the batch order.
        validation: if given, the epoch with the lowest mean loss on it is kept and `patience` counts
            epochs without progress on it; else the last epoch is the result.
        checkpoint: where to keep progress.
        description: shown beside the progress bar.
        checkpoints: if given, the course has a `trajectory`, with at most this many of the training's states.

    Returns:
        The course: a row an epoch with `loss`, `watched` (minus the mean validation loss) and
        `validation_accuracy`; as tensor `margins` (epochs + 1, n), how far each example's given label led
        after each epoch.

    Raises:
        RepairError: if there is nothing to train on, or a loss is NaN or infinite.
    """
    if not len(examples):
        raise RepairError("there are no examples to train on: check the data set and the selection of causes")
    judged = validation if validation is not None and len(validation) else None

    def observe(model: TrainedModel) -> dict[str, float | Tensor]:
        accuracy = {} if judged is None else {"validation_accuracy": model.accuracy(judged)}
        return {**accuracy, "margins": model.margins(examples)}

    recorder = None if checkpoints is None else TrajectoryRecorder(model, checkpoints)
    course = minimise(
        model,
        mean_losses(model, examples, batch_size, seed=seed, purpose=description),
        descent,
        oversight=Oversight(
            watch=None if judged is None else (lambda model: model.mean_log_likelihood(judged)),
            observe=observe,
            checkpoint=checkpoint,
        ),
        description=description,
        recorder=recorder,
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
        **recorder.path(model.parameter_vector, course.best_round),
    )
    return replace(course, trajectory=trajectory)
