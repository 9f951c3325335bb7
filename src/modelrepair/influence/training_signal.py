"""Scores that need no failures: what anybody would try first, and none at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation


@dataclass(frozen=True)
class Loss(Influence):
    """−log p(z | θ̂), in nats: the model itself finds a wrong label unlikely."""

    def score(self, investigation: Investigation) -> NDArray[np.float64]:
        return -investigation.base.log_likelihoods(investigation.examples).double().cpu().numpy()


@dataclass(frozen=True)
class Margin(Influence):
    """Minus the area under the margin, in logits (Pleiss et al. 2020): the mean over the base training's epochs
    of how far the given label's output fell behind the best other one.
    """

    def score(self, investigation: Investigation) -> NDArray[np.float64]:
        if investigation.margins is None:
            raise RepairError(
                "the margin score needs the margins of every training epoch, which were not recorded for this "
                "model: train it with `modelrepair.train`, or choose another score"
            )
        margins = np.asarray(investigation.margins[1:], dtype=np.float64)
        return np.asarray(-margins.mean(axis=0))


@dataclass(frozen=True)
class NoScore(Influence):
    """0 for every example: identification is skipped, because the causes are given, by a person or a request."""

    def score(self, investigation: Investigation) -> NDArray[np.float64]:
        return np.zeros(len(investigation.examples))
