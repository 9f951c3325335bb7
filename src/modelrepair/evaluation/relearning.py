"""How soon a model learns again what was deleted from it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.training.descent import Descent, Oversight, minimise
from modelrepair.training.epochs import epoch_batches


def relearning_steps(
    model: TrainedModel,
    examples: Examples,
    level: float,
    *,
    most: int,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> int | None:
    """min{t : accuracy(S | θ_t) ≥ level}, with θ_t the model after t steps of Adam on the deleted examples S.

    What is only hidden comes back sooner than what was never learned, so the number stands beside that of a retrained
    model (relearn time, Golatkar et al. 2020, arXiv:1911.04933).

    Args:
        model: at θ₀; left as it is.
        examples: S, with the labels that they had.
        level: of the accuracy, such as that of the model before the deletion.
        most: so many steps are taken, 1 or more.
        learning_rate: of Adam.
        batch_size: examples in a step.
        seed: of their order.

    Returns:
        The number of steps, 0 if nothing is to be learned again; None if `most` are not enough.

    Raises:
        RepairError: if a loss becomes NaN or infinite.
    """
    learner = model.copy()
    an_epoch = -(-len(examples) // batch_size)

    def losses(step: int) -> Iterator[Tensor]:
        epoch, place = divmod(step - 1, an_epoch)
        batches = epoch_batches(len(examples), batch_size, seed=seed, purpose="relearning", epoch=epoch)
        inputs, targets = examples.batch(batches[place], device=learner.device, dtype=learner.dtype)
        yield -learner.log_likelihood(learner.run(inputs), targets).mean()

    course = minimise(
        learner,
        losses,
        Descent(learning_rate=learning_rate, rounds=most),
        oversight=Oversight(observe=lambda model: {"accuracy": model.accuracy(examples)}),
        # Statistics of normalisation layers are no part of what is learned again.
        training_mode=False,
        description="learning again",
    )
    reached = [row["round"] for row in course.trace if row["accuracy"] >= level]
    return int(reached[0]) if reached else None
