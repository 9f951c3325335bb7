"""Exact Shapley values of the training examples of a classifier by nearest neighbours."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.valuation.features import on_same_footing

CHUNK_MEMORY = 64 * 2**20
"""Bytes of a chunk of queries, by default."""
MOST_NEIGHBOURS = 10**9
NUMBERS_A_PAIR = 6
"""Eight-byte numbers that a chunk holds for each pair of a query and a training example."""


def knn_shapley(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    query_features: ArrayLike | Tensor,
    query_labels: ArrayLike | Tensor,
    *,
    neighbours: int = 5,
    smallest_subset: int = 0,
    queries_together: int | None = None,
) -> NDArray[np.float64]:
    """(n,) exact Shapley values of the training examples, the mean over the queries; positive where they help.

    The utility of a training subset S for a query (x, y) is the share of votes for y among K: (1/K) times how many of
    the min(K, |S|) nearest of S to x have the label y (Jia et al. 2019, "Efficient task-specific data valuation for
    nearest neighbor algorithms", Eq. 5). With the training examples in order of their distance to the query and I_i = 1
    where the i-th has its label, Theorem 1 there is

        s_n = I_n·min(K, n)/(K·n),    s_i = s_{i+1} + (I_i − I_{i+1})/K · min(K, i)/i.

    Values sum to the utility of all examples. O(n log n) a query, and no memory beyond a chunk of queries.

    `smallest_subset` T > 0 lets only subsets of T examples or more count, each size alike: values of this kind are
    inflated by small subsets, in which any example of a right label helps, also one that does harm among many (Yang et
    al. 2024, arXiv 2405.17489, whose remedy this is; near T = n − 2K zero becomes a threshold). It changes only the
    factor min(K, i)/i, to the weighted probability that fewer than K of the i − 1 nearer ones are in a subset. Such
    values no longer sum to the utility.

    Distances are Euclidean, in float64. Of examples with the same features, and others at the same computed distance,
    the first by position counts as the nearest.

    Args:
        features: (n, f) of the training examples, such as `penultimate_features`.
        labels: (n,) the class numbers they were given.
        query_features: (q, f) of examples to be right on.
        query_labels: (q,) their right class numbers.
        neighbours: K.
        smallest_subset: T, from 0 to n − 1.
        queries_together: queries in a chunk; changes memory and speed, and values by rounding only. By default as many
            as take 64 MiB.

    Raises:
        RepairError: if the arrays do not belong together or are not finite, or a setting is out of bounds.
    """
    training, given, query, right = on_same_footing(features, labels, query_features, query_labels)
    n = len(training)
    if not (_whole(neighbours) and 1 <= neighbours <= MOST_NEIGHBOURS):
        raise RepairError(
            f"neighbours is {neighbours!r:.40}: give a whole number from 1 to {MOST_NEIGHBOURS}"
        )
    if not (_whole(smallest_subset) and 0 <= smallest_subset < n):
        raise RepairError(
            f"smallest_subset is {smallest_subset!r:.40} with {n} training examples: give a number from 0 to {n - 1}"
        )
    if queries_together is None:
        queries_together = max(1, CHUNK_MEMORY // (8 * NUMBERS_A_PAIR * n))
    if queries_together < 1:
        raise RepairError(f"queries_together is {queries_together}: give a whole number of 1 or more")
    weights = torch.from_numpy(_weights(n, neighbours, smallest_subset)).to(training)
    # Distances of each distinct row once, so that equal rows are at equal distances whatever a product rounds. Far from
    # the origin squares would cancel; a whole shift keeps whole features exact.
    shift = training.mean(dim=0).round()
    distinct, which = torch.unique(training - shift, dim=0, return_inverse=True)
    squares = distinct.square().sum(dim=1)
    total = torch.zeros(n, dtype=torch.float64, device=training.device)
    for start in range(0, len(query), queries_together):
        chunk = query[start : start + queries_together] - shift
        # Less the query's own square, which changes no order.
        distances = torch.addmm(squares, chunk, distinct.T, alpha=-2)
        order = distances[:, which].sort(dim=1, stable=True).indices
        right_vote = (given[order] == right[start : start + queries_together, None]).to(torch.float64)
        right_vote[:, :-1] -= right_vote[:, 1:].clone()
        values = (right_vote * weights).flip(1).cumsum(1).flip(1)
        total += torch.empty_like(values).scatter_(1, order, values).sum(dim=0)
    return (total / len(query)).cpu().numpy()


def _whole(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _weights(n: int, neighbours: int, smallest: int) -> NDArray[np.float64]:
    """(n,) what multiplies I_i − I_{i+1} for i = 1 to n − 1, and I_n.

    Swapping i for i+1 behind a subset S of the n − 2 others changes the utility by (I_i − I_{i+1})/K if fewer than K of
    the i − 1 nearer ones are in S. A semivalue that weighs sizes s = T … n−1 alike gives all subsets of s of the others
    together the weight a_s = (1[s ≥ T]·(n−1−s) + 1[s+1 ≥ T]·(s+1)) / ((n−T)(n−1)), which for T = 0 is 1/(n−1).
    """
    weights = np.empty(n)
    weights[-1] = max(min(neighbours, n) - smallest, 0) / ((n - smallest) * neighbours)
    rank = np.arange(1, n)
    if smallest == 0:
        weights[:-1] = np.minimum(neighbours, rank) / rank / neighbours
        return weights
    # A second to load, for this option alone.
    from scipy.stats import hypergeom

    first = smallest - 1
    # (n - 1, K) probabilities that 0 … K-1 of the nearer ones are in a subset of s, for one s after the other: one more
    # is drawn each time.
    nearer = (rank - 1)[:, None]
    drawn = np.arange(neighbours)[None, :]
    chance = hypergeom.pmf(drawn, n - 2, nearer, first) if n > 2 else (drawn == 0) * np.ones((n - 1, 1))
    sums = np.zeros(n - 1)
    for size in range(first, n - 1):
        weight = (size >= smallest) * (n - 1 - size) + (size + 1)
        sums += weight * chance.sum(axis=1)
        left = n - 2 - size
        if left:
            hit = np.clip(nearer - drawn, 0, None) / left * chance
            chance = chance - hit
            chance[:, 1:] += hit[:, :-1]
    weights[:-1] = sums / ((n - smallest) * (n - 1)) / neighbours
    return weights
