"""What anybody would take for the causes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel


def highest_losses(model: TrainedModel, examples: Examples, share: float) -> NDArray[np.int64]:
    """Positions of the round(share·n) examples with the highest −log p(z | θ̂), highest first.

    At least one, and not all. Equal losses are in the order of the examples: unlike a method, which is told of causes
    that it cannot tell from the rest, what stands beside it is there in any case.

    Args:
        model: the base model θ̂.
        examples: n ≥ 2 training examples with the labels that they were given.
        share: in (0, 1).
    """
    losses = -model.log_likelihoods(examples).cpu().numpy()
    count = min(max(round(share * len(losses)), 1), len(losses) - 1)
    return np.argsort(-losses, kind="stable")[:count]
