"""How harmful is each training example?

Imports `training`, `uncertainty`, `valuation`, `models`, `data` and `settings`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.influence.clusters import Combined, combine, of_each_cluster
from modelrepair.influence.confident_learning import ConfidentLearning
from modelrepair.influence.expectation import ExpectedLossChange
from modelrepair.influence.posterior_shift import Linear, LossAfter, LossChange, belief
from modelrepair.influence.resemblance import Resemblance, mixture_log_odds
from modelrepair.influence.shapley import NearestNeighbours, OneEpoch, TruncatedMonteCarlo
from modelrepair.influence.training_signal import Loss, Margin, NoScore, Random, SelfInfluence
from modelrepair.influence.trajectory import SgdInfluence
from modelrepair.settings import choose

INFLUENCES: dict[str, type[Influence]] = {
    "confident-learning": ConfidentLearning,
    "expected-loss-change": ExpectedLossChange,
    "g-shapley": OneEpoch,
    "knn-shapley": NearestNeighbours,
    "linear": Linear,
    "loss": Loss,
    "loss-after": LossAfter,
    "loss-change": LossChange,
    "margin": Margin,
    "none": NoScore,
    "random": Random,
    "resemblance": Resemblance,
    "self-influence": SelfInfluence,
    "tmc-shapley": TruncatedMonteCarlo,
    "trajectory": SgdInfluence,
}

__all__ = [
    "INFLUENCES",
    "Combined",
    "ConfidentLearning",
    "ExpectedLossChange",
    "Influence",
    "Investigation",
    "Linear",
    "Loss",
    "LossAfter",
    "LossChange",
    "Margin",
    "NearestNeighbours",
    "NoScore",
    "OneEpoch",
    "Random",
    "Resemblance",
    "SelfInfluence",
    "SgdInfluence",
    "TruncatedMonteCarlo",
    "belief",
    "combine",
    "influence_scores",
    "mixture_log_odds",
    "of_each_cluster",
]


def influence_scores(investigation: Investigation, name: str, **options: object) -> NDArray[np.float64]:
    """(n,) scores of the training examples; positive means harmful.

    Raises:
        RepairError: if there is no score of that name, or a score is NaN or infinite.
    """
    scores = choose("influence score", INFLUENCES, name)(**options).scores(investigation)
    bad = ~np.isfinite(scores)
    if bad.any():
        raise RepairError(
            f"{int(bad.sum())} of {len(scores)} {name} scores are NaN or infinite, the first for training example "
            f"{int(np.flatnonzero(bad)[0])}: check that input, or use a larger damping"
        )
    return scores
