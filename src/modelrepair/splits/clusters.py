"""Failures in clusters: which of them fail in the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError

MOST_CLUSTERS = 8
"""As many as are tried where their number is to be found."""
LEAST_SILHOUETTE = 0.25
"""Up to here Kaufman & Rousseeuw (1990, section 2.2) find no substantial structure."""
DIRECTIONS = 32
"""Of each factor of the gradients; those in which the failures differ most."""
MOST_TYPICAL = 8


@dataclass(frozen=True, eq=False)
class Clusters:
    """Failures in k clusters, the largest first.

    Attributes:
        numbers: (n,) from 0, the cluster of each failure.
        distances: (n,) of each to the centre of its cluster.
        centres: (k, d) of the clusters.
        silhouettes: mean silhouette of each number of clusters that was tried; of none where the number was given.
    """

    numbers: NDArray[np.int64]
    distances: NDArray[np.float64]
    centres: NDArray[np.float64]
    silhouettes: dict[int, float]

    def __len__(self) -> int:
        return len(self.centres)


class GradientSpace:
    """(n, d) unit vectors whose products are the cosines between gradients of the last layer's weights.

    Such a gradient is e φᵀ (`valuation.features.last_layer_gradients`), so the cosine is cos(eᵢ, eⱼ) cos(φᵢ, φⱼ): two
    failures are alike if the model sees alike in them and confuses the same classes. Where φ or e lie in more than 32
    dimensions, those 32 are kept in which the failures are largest, and lengths are then below 1.

    Args:
        features: (n, f) φ of the failures that are clustered.
        slopes: (n, k) e of them.
    """

    def __init__(self, features: NDArray[Any], slopes: NDArray[Any]) -> None:
        self._bases = [_leading_directions(_unit(values)) for values in (features, slopes)]

    def place(self, features: NDArray[Any], slopes: NDArray[Any]) -> NDArray[np.float64]:
        """(m, d) of any failures."""
        seen, confused = (
            _unit(values) @ basis for values, basis in zip((features, slopes), self._bases, strict=True)
        )
        return np.asarray(np.einsum("ni,nj->nij", confused, seen).reshape(len(seen), -1), dtype=np.float64)


def divide_failures(
    gradients: Callable[[NDArray[np.int64]], tuple[NDArray[Any], NDArray[Any]]],
    labels: NDArray[Any],
    predictions: NDArray[Any],
    roles: NDArray[np.str_],
    count: int | Literal["auto", "none"],
    seed: int,
    *,
    examples: NDArray[np.int64],
    classes: Sequence[str],
) -> tuple[NDArray[np.int64], list[dict[str, Any]]]:
    """Clusters of the failures that methods are shown; those that are held out belong to the nearest.

    Args:
        gradients: of positions, the factors φ and e of the last layer's gradients, as `GradientSpace` takes them.
        labels, predictions: (m,) class numbers of test examples, right and as the model answers.
        roles: (m,) "query" of failures that are shown, "holdout" of those that are not.
        count, seed: as `find_clusters` takes them.
        examples: (m,) their numbers in the data set.
        classes: class names.

    Returns:
        (m,) the cluster of each failure, -1 of other examples; and what each cluster is, as `describe_clusters` says,
        with how many failures that are held_out belong to it. Nothing is described if there is but one.

    Raises:
        RepairError: if examples have attributes instead of classes; see also `find_clusters`.
    """
    if labels.ndim == 2:
        raise RepairError(
            f"failures.clusters is {count}, which tells failures apart by the classes that are confused, but these "
            "examples have attributes: set it to none"
        )
    query, held_out = (np.flatnonzero(roles == role) for role in ("query", "holdout"))
    numbers = np.full(len(roles), -1, dtype=np.int64)
    if not len(query):
        return numbers, []
    shown = gradients(query)
    space = GradientSpace(*shown)
    clusters = find_clusters(space.place(*shown), count, seed)
    for number, silhouette in clusters.silhouettes.items():
        print(f"{number} clusters: mean silhouette {silhouette:.3f}")
    if len(clusters) == 1:
        print("the failures are one cluster: causes are sought for all together")
        return numbers, []
    numbers[query] = clusters.numbers
    if len(held_out):
        numbers[held_out] = nearest_clusters(space.place(*gradients(held_out)), clusters)
    described = describe_clusters(clusters, labels[query], predictions[query], examples[query], classes)
    for number, one in enumerate(described):
        one["held_out"] = int((numbers[held_out] == number).sum())
        print(
            f"cluster {number + 1}: {one['size']} failures, {one['share']:.0%} of them {one['name']}; of those held "
            f"out {one['held_out']} are nearest to it"
        )
    return numbers, described


def find_clusters(places: NDArray[np.float64], count: int | Literal["auto", "none"], seed: int) -> Clusters:
    """k-means on what `GradientSpace` gives: of ten starts the one with the least sum of squared distances.

    The same for the rows in any order. With `auto` the number is the one from 2 to 8 with the largest mean silhouette
    (Rousseeuw 1987), the smaller of equals, or 1 where none is above 0.25.

    Args:
        places: (n, d), at least one.
        count: of clusters; "none" is 1.
        seed: of the starts.

    Raises:
        RepairError: if there are fewer different failures than clusters.
    """
    # In one order whatever was given: sums and starts then do not depend on it.
    order = np.lexsort(places.T[::-1])
    ordered = places[order]
    different = len(np.unique(ordered, axis=0))
    silhouettes: dict[int, float] = {}
    count = 1 if count == "none" else count
    if count == "auto":
        from sklearn.metrics import silhouette_score

        tried = {
            number: _k_means(ordered, number, seed)
            for number in range(2, min(MOST_CLUSTERS, different - 1) + 1)
        }
        silhouettes = {number: float(silhouette_score(ordered, found[0])) for number, found in tried.items()}
        best = max(silhouettes, key=lambda number: (silhouettes[number], -number), default=1)
        chosen = best if silhouettes.get(best, 0.0) > LEAST_SILHOUETTE else 1
        numbers, centres = tried[chosen] if chosen > 1 else _k_means(ordered, 1, seed)
    elif count > different:
        raise RepairError(
            f"failures.clusters is {count}, and there are {len(places)} failures to find the causes of"
            f"{'' if different == len(places) else f', {different} of them different'}: give a smaller number, or auto"
        )
    else:
        numbers, centres = _k_means(ordered, count, seed)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    numbers = numbers[back]
    distances = np.linalg.norm(places - centres[numbers], axis=1)
    return Clusters(numbers, distances, centres, silhouettes)


def nearest_clusters(places: NDArray[np.float64], clusters: Clusters) -> NDArray[np.int64]:
    """(m,) the cluster of each failure whose centre is nearest to it."""
    apart = np.stack([np.linalg.norm(places - centre, axis=1) for centre in clusters.centres], axis=1)
    return np.asarray(apart.argmin(axis=1), dtype=np.int64)


def describe_clusters(
    clusters: Clusters,
    labels: NDArray[Any],
    predictions: NDArray[Any],
    examples: NDArray[np.int64],
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """What each cluster is.

    Args:
        clusters: of n failures.
        labels, predictions: (n,) class numbers, right and as the model answers.
        examples: (n,) their numbers in the data set.
        classes: class names.

    Returns:
        For each cluster: name, its most frequent confusion, the one of the lowest classes of equals; label and
        taken_for, the classes of that; share, of its members; size; typical, numbers of up to 8 members, those nearest
        to its centre, nearest first.
    """
    described = []
    for number in range(len(clusters)):
        members = np.flatnonzero(clusters.numbers == number)
        pairs, counts = np.unique(
            np.stack([labels[members], predictions[members]], axis=1), axis=0, return_counts=True
        )
        right, taken = (int(value) for value in pairs[counts.argmax()])
        nearest = members[np.lexsort((examples[members], clusters.distances[members]))][:MOST_TYPICAL]
        described.append(
            {
                "name": confusion_in_words(right, taken, classes),
                "label": right,
                "taken_for": taken,
                "share": float(counts.max() / len(members)),
                "size": len(members),
                "typical": examples[nearest].tolist(),
            }
        )
    return described


def numbered_names(described: Sequence[dict[str, Any]]) -> list[str]:
    """Names that differ, as "1: 4 taken for 9": two clusters may be of one confusion and differ in what is seen."""
    return [f"{number}: {one['name']}" for number, one in enumerate(described, 1)]


def cluster_counts(described: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`clusters`: by numbered name, how many failures are shown, of what share the name is, and how many are held out.

    Nothing where there are none.
    """
    if not described:
        return {}
    return {
        "clusters": {
            name: {"query": one["size"], "share": one["share"], "holdout": one["held_out"]}
            for name, one in zip(numbered_names(described), described, strict=True)
        }
    }


def confusion_in_words(label: int, prediction: int, classes: Sequence[str]) -> str:
    """As "4 taken for 9"; a failure that is answered rightly, as of facts that are not held, is of its class alone."""
    return f"{classes[label]} taken for {classes[prediction]}" if label != prediction else classes[label]


def _unit(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rows of length 1; those of length 0 stay so."""
    rows = np.asarray(values, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def _leading_directions(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(f, r) an orthonormal basis of the r ≤ 32 directions in which the sum of squares of the rows is largest."""
    # Rows in one order, so that rounding is that of the set.
    _, _, directions = np.linalg.svd(rows[np.lexsort(rows.T[::-1])], full_matrices=False)
    return np.ascontiguousarray(directions[:DIRECTIONS].T)


def _k_means(
    places: NDArray[np.float64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers (n,) and centres (k, d), the largest cluster first, of equals the one whose centre comes first."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    start = int(generator(seed, "clusters of failures").integers(2**31))
    # Sums over threads come in any order.
    with threadpool_limits(1):
        found = KMeans(count, n_init=10, random_state=start).fit(places)
    sizes = np.bincount(found.labels_, minlength=count)
    order = np.lexsort((*found.cluster_centers_.T[::-1], -sizes))
    numbers = np.empty(count, dtype=np.int64)
    numbers[order] = np.arange(count)
    return numbers[found.labels_], np.asarray(found.cluster_centers_[order], dtype=np.float64)
