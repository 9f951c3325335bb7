"""Scores that need no failures: what anybody would try first, and none at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import LossSettings, MarginSettings, NoScoreSettings


class Loss(LossSettings, Influence):
    """−log p(z | θ̂), in nats: the model itself finds a wrong label unlikely."""

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        return -investigation.base.log_likelihoods(investigation.examples).double().cpu().numpy()


class Margin(MarginSettings, Influence):
    """Minus the area under the margin, in logits (Pleiss et al. 2020): the mean over the base training's epochs
    of how far the given label's output fell behind the best other one.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        if investigation.margins is None:
            raise RepairError(
                "the margin score needs the margins of every training epoch, which were not recorded for this "
                "model: train it with `modelrepair.train`, or choose another score"
            )
        margins = np.asarray(investigation.margins[1:], dtype=np.float64)
        return np.asarray(-margins.mean(axis=0))


class NoScore(NoScoreSettings, Influence):
    """0 for every example: identification is skipped, because the causes are given, by a person or a request."""

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        return np.zeros(len(investigation.examples))
