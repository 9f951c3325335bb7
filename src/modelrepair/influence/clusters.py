"""One ranking of several: each kind of failure has scores of its own, and a rare kind counts as much as a frequent one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.influence.base import Investigation
from modelrepair.models.trained_model import TrainedModel
from modelrepair.uncertainty.mean_field import MeanField


@dataclass(frozen=True, eq=False)
class Combined:
    """Scores of n training examples, of the k clusters together.

    Attributes:
        scores: (n,) positive means harmful, for one cluster at least.
        clusters: (n,) the cluster that each example drives most.
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
        updates: for each cluster, the model with its failures inserted and, where the update knows more than a mode, the
            posteriors; None where a score looks at the failures themselves.
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


def combine(each: ArrayLike, *, alike: bool = False) -> Combined:
    """The scores of k clusters as one.

    Each cluster's scores are divided by their root mean square, and the largest of the quotients counts, times the smallest
    of the root mean squares.

    Args:
        each: (k, n) scores.
        alike: whether scores mean the same whatever the cluster.

    Raises:
        RepairError: if there are no scores.
    """
    scores = np.asarray(each, dtype=np.float64)
    if scores.ndim != 2 or not len(scores):
        raise RepairError(
            f"scores of shape {scores.shape} were given: give a row for each cluster of failures"
        )
    scale = np.ones(len(scores)) if alike else np.sqrt((scores**2).mean(axis=1))
    standard = scores / np.where(scale > 0, scale, 1.0)[:, None]
    clusters = standard.argmax(axis=0)
    return Combined(standard.max(axis=0), clusters, scores)
