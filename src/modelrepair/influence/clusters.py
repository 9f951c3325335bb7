"""One ranking of several: each kind of failure has its own scores, and a rare kind counts as much as a frequent one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from modelrepair.errors import RepairError
from modelrepair.influence.base import Investigation
from modelrepair.models.trained_model import TrainedModel
from modelrepair.uncertainty.mean_field import MeanField


@dataclass(frozen=True, eq=False)
class Combined:
    """Scores of n training examples, of the k clusters together.

    Attributes:
        scores: (n,) positive means harmful.
        clusters: (n,) the cluster that each example drives most: in which its rank is best, the larger of equals.
        each: (k, n) the scores of each cluster as they were.
    """

    scores: NDArray[np.float64]
    clusters: NDArray[np.int64]
    each: NDArray[np.float64]


def of_each_cluster(
    whole: Investigation,
    clusters: NDArray[np.int64],
    updates: Sequence[tuple[TrainedModel, tuple[MeanField, MeanField] | None]] | None = None,
) -> list[Investigation]:
    """An investigation for each cluster, of its failures alone.

    Args:
        whole: of all failures.
        clusters: (m,) from 0, the cluster of each failure.
        updates: for each cluster, the model with its failures inserted and, where the update knows more than a mode,
            the posteriors; None where a score looks at the failures themselves.
    """
    assert whole.failures is not None
    parts = []
    for number in range(int(clusters.max()) + 1):
        updated, gaussians = updates[number] if updates else (whole.updated, whole.gaussians)
        checkpoint = whole.checkpoint
        parts.append(
            replace(
                whole,
                failures=whole.failures.subset(clusters == number),
                updated=updated,
                gaussians=gaussians,
                checkpoint=None if checkpoint is None else checkpoint.part(f"cluster-{number}"),
            )
        )
    return parts


def combine(each: ArrayLike) -> Combined:
    """The scores of k clusters as one, in which the first of every cluster come first, then the second, and so on.

    An example is ranked by the best of its ranks in the clusters, among equals by the second best, and so on: the first
    m hold the first m/k of any cluster, however few failures it has and however small its scores are. Its score is the
    mean over the clusters of the scores of that rank (as in quantile normalisation, Bolstad et al. 2003), and between
    that and the next one for those that come later among equals: 0 lies where it lies for the clusters on average, and
    the scores of a single one are as they were. Equal scores of a cluster share their mean rank, and examples that are
    equal in all clusters stay so.

    Args:
        each: (k, n) scores, positive means harmful.

    Raises:
        RepairError: if there are no scores.
    """
    scores = np.asarray(each, dtype=np.float64)
    if scores.ndim != 2 or not scores.size:
        raise RepairError(
            f"scores of shape {scores.shape} were given: give a row for each cluster of failures"
        )
    ranks = rankdata(-scores, axis=1)
    places, group = np.unique(np.sort(ranks, axis=0).T, axis=0, return_inverse=True)
    best, first, equals = np.unique(places[:, 0], return_index=True, return_counts=True)
    of_ranks = np.sort(scores, axis=1)[:, ::-1].mean(axis=0)
    there = np.interp(best, np.arange(1, scores.shape[1] + 1), of_ranks)
    step = np.diff(there, append=of_ranks[-1]) / equals
    behind = np.arange(len(places)) - np.repeat(first, equals)
    combined = (np.repeat(there, equals) + behind * np.repeat(step, equals))[group.ravel()]
    return Combined(combined, ranks.argmin(axis=0), scores)
