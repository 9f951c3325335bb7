"""What is each training example worth to the answers to a query?

Data Shapley values (Ghorbani & Zou 2019): the mean, over all orders in which the training examples could have come, of
what the utility gains when the example comes. A value is in the units of the utility and positive where the example
helps; a score of harm is minus a value. Zero is no safe threshold; `threshold` calibrates one. Imports `models`,
`pipeline` and `data`.
"""

from __future__ import annotations

from modelrepair.valuation.features import penultimate_features
from modelrepair.valuation.games import Game, SetGame, Walk
from modelrepair.valuation.last_layer import (
    LeastSquaresGame,
    OneEpochGame,
    best_learning_rate,
)
from modelrepair.valuation.nearest_neighbours import knn_shapley
from modelrepair.valuation.retraining import RetrainingEstimate, RetrainingGame, retraining_shapley
from modelrepair.valuation.sampling import Valuation, permutation_shapley
from modelrepair.valuation.threshold import (
    CalibratedThreshold,
    calibrated_threshold,
    plant_wrong_labels,
    query_confusion,
    threshold_by_planting,
)

__all__ = [
    "CalibratedThreshold",
    "Game",
    "LeastSquaresGame",
    "OneEpochGame",
    "RetrainingEstimate",
    "RetrainingGame",
    "SetGame",
    "Valuation",
    "Walk",
    "best_learning_rate",
    "calibrated_threshold",
    "knn_shapley",
    "penultimate_features",
    "permutation_shapley",
    "plant_wrong_labels",
    "query_confusion",
    "retraining_shapley",
    "threshold_by_planting",
]
