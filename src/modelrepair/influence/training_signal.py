"""Scores that need no failures: what anybody would try first, and none at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import (
    LossSettings,
    MarginSettings,
    NoScoreSettings,
    RandomSettings,
    SelfInfluenceSettings,
)


class Loss(LossSettings, Influence):
    """−log p(z | θ̂), in nats: the model itself finds a wrong label unlikely."""

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        return -investigation.base.log_likelihoods(investigation.examples).cpu().numpy()


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
        return np.asarray(-investigation.margins[1:].mean(axis=0, dtype=np.float64))


class NoScore(NoScoreSettings, Influence):
    """0 for every example: identification is skipped, because the causes are given, by a person or a request."""

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        return np.zeros(len(investigation.examples))


class Random(RandomSettings, Influence):
    """Uniform between −½ and ½: what any other score has to beat."""

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        return generator(investigation.seed, "random scores").random(len(investigation.examples)) - 0.5


class SelfInfluence(SelfInfluenceSettings, Influence):
    """gᵢᵀF̂⁻¹gᵢ/(n + 1), in nats: examples that the model holds by themselves are often wrong (Koh & Liang 2017, 5.4).

    Never negative: it ranks, and its sign says nothing.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        if investigation.own_effects is None:
            raise RepairError(
                "the score self-influence needs each training example's own effect: update the posterior with "
                "each-alone, or choose another score"
            )
        return np.asarray(investigation.own_effects, dtype=np.float64)
