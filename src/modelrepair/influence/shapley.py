"""Scores from the value that each training example has to a simpler learner on the network's features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import NearestNeighboursSettings
from modelrepair.valuation import knn_shapley, penultimate_features


class NearestNeighbours(NearestNeighboursSettings, Influence):
    """Minus the Shapley value of z to a k-nearest-neighbour classifier of the queries, in accuracy per example.

    Exact, by the recursion of Jia et al. 2019 (Theorem 1) on the inputs of the network's last linear layer.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        queries = investigation.failures if self.queries == "failures" else investigation.discovery
        if queries is None or not len(queries):
            raise RepairError(
                f"the score knn-shapley asks what helps to answer the {self.queries}, and there are none: give some, "
                "or choose another score"
            )
        if investigation.examples.targets.ndim != 1:
            raise RepairError(
                "the score knn-shapley needs examples with one class each, and these have attributes: choose another "
                "score"
            )
        base = investigation.base
        values = knn_shapley(
            penultimate_features(base, investigation.examples),
            investigation.examples.targets,
            penultimate_features(base, queries),
            queries.targets,
            neighbours=self.neighbours,
        )
        return -np.asarray(values, dtype=np.float64)
