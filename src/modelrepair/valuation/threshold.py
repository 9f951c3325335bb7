"""Below which value is an example harmful? A threshold calibrated without knowing what is wrong.

Zero is no safe threshold. Small subsets count as much as large ones in a Shapley value, and in a small subset any
example of a right class is welcome, so that values are inflated and harmful examples have positive ones too (Yang et
al. 2024, arXiv 2405.17489); and a query of failures shifts the values of all that was involved in them.

What can be had without ground truth is a sample of harmful examples: give some examples a wrong label on purpose, value
everything again, and see where those fall. Let H be the distribution function of their values and M that of the given
examples' values, a mixture M = πH + (1 − π)B of a share π of harmful examples and of the others.

* π ≤ M(t)/H(t) for every t, with near equality far down, where only harmful examples are. The estimate is the ratio at
  the t with the lowest upper confidence bound of it (best bin estimation: Garg et al. 2021, "Mixture proportion
  estimation and PU learning: a modern approach").
* Calling harmful what lies below t makes the share π(1 − H(t)) + (1 − π)B(t) = π − 2πH(t) + M(t) of wrong calls. The
  threshold minimises it: there an example is as probably harmful as not. B need not be known.

π comes out a little high, by a factor of up to 1/(1 − π), because what is made wrong on purpose may have been wrong
before and be right now. And all this assumes that examples that really are wrong have values like those made wrong on
purpose. Wrong labels that come in pairs of classes are imitated well only by wrong labels of the same pairs, and the
query knows the pairs: what the right labels are and what the model says instead (`query_confusion`). With 40 % of 1↔7
and 6↔9 swapped in MNIST, 700 queries and exact values by nearest neighbours, zero reached F1 = 0.93, this 0.93, and
labels drawn from all classes alike 0.70; with the 104 failures alone as queries 0.29, 0.53 and 0.34, where no threshold
reaches more than 0.59.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError

Labels = NDArray[np.int64]
CONFIDENCE = 0.9
SLACK = 0.01
"""δ = 1 − CONFIDENCE and γ of the upper confidence bound of Garg et al. 2021."""


@dataclass(frozen=True)
class CalibratedThreshold:
    """A threshold on Shapley values, and what is estimated of it.

    Attributes:
        value: examples whose Shapley value is below it are called harmful; −∞ if none is.
        harmful_share: π, the estimated share of harmful examples.
        called: share of the examples whose value is below it.
        found: estimated share of the harmful examples whose value is below it.
        false_calls: estimated share of those called harmful that are not; 0 if none is called.
    """

    value: float
    harmful_share: float
    called: float
    found: float
    false_calls: float


def calibrated_threshold(values: ArrayLike, planted: ArrayLike) -> CalibratedThreshold:
    """The threshold on Shapley values that makes fewest wrong calls, by values of examples made wrong on purpose.

    Args:
        values: (n,) of the examples as they are.
        planted: (p,) of examples made wrong on purpose, valued among the others.

    Raises:
        RepairError: if there are none of either, or some are NaN or infinite.
    """
    given, wrong = (np.sort(np.asarray(sample, dtype=np.float64)) for sample in (values, planted))
    for name, sample in (("values", given), ("planted values", wrong)):
        if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
            raise RepairError(
                f"{name} of shape {sample.shape} were given, {int((~np.isfinite(sample)).sum())} of them NaN or "
                "infinite: give one finite number for each of at least one example"
            )
    levels = np.unique(np.concatenate([given, wrong]))
    # Halfway between values that occur: which side equal values fall on is then no question.
    borders = np.concatenate([[-math.inf], (levels[1:] + levels[:-1]) / 2, [math.inf]])
    below = np.searchsorted(given, borders) / len(given)
    wrong_below = np.searchsorted(wrong, borders) / len(wrong)
    share = _mixture_share(below[1:], wrong_below[1:], len(given), len(wrong))
    errors = below - 2 * share * wrong_below
    # Of equally good ones, that which calls fewest.
    best = int(errors.argmin())
    called, found = float(below[best]), float(wrong_below[best])
    false_calls = max(0.0, 1 - share * found / called) if called else 0.0
    return CalibratedThreshold(float(borders[best]), share, called, found, false_calls)


def _mixture_share(
    below: NDArray[np.float64], wrong_below: NDArray[np.float64], count: int, wrong_count: int
) -> float:
    """π by best bin estimation, from M(t) and H(t) at the same t, the last of which is 1."""
    deviation = sum(
        math.sqrt(math.log(4 / (1 - CONFIDENCE)) / (2 * examples)) for examples in (count, wrong_count)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = (below + (1 + SLACK) * deviation) / wrong_below
    best = int(np.nanargmin(bound))
    return float(min(1.0, below[best] / wrong_below[best]))


def plant_wrong_labels(
    labels: ArrayLike, *, share: float, seed: int, confusion: ArrayLike | None = None
) -> tuple[Labels, Labels]:
    """Labels of which a random share was made wrong on purpose, and the positions of those.

    Args:
        labels: (n,) class numbers, of at least two classes.
        share: of the examples, above 0 and below 1; at least one. Small, or the others' values change too.
        seed: of the choice.
        confusion: (k, k) weights of the wrong label (column) that an example of each class (row) gets, 0 or more; what
            is on the diagonal does not count, and classes with no other weight are left alone. Examples are chosen with
            the total weight of their class as probability. By default all other classes are alike.

    Raises:
        RepairError: if there is nothing to choose from, or a setting is out of bounds.
    """
    given = np.asarray(labels)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given) or given.min() < 0:
        raise RepairError(
            f"labels of shape {given.shape} and type {given.dtype} were given: give one class number for each example"
        )
    # One more than the highest number may not be one of a narrow type.
    given = given.astype(np.int64)
    if not 0 < share < 1:
        raise RepairError(f"share is {share}: give a number above 0 and below 1")
    if confusion is None:
        classes = np.unique(given)
        weights = np.zeros((given.max() + 1, given.max() + 1))
        weights[np.ix_(classes, classes)] = 1
    else:
        weights = np.array(confusion, dtype=np.float64)
        if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or weights.shape[0] <= given.max():
            raise RepairError(
                f"a confusion of shape {weights.shape} was given for labels up to {given.max()}: give a row and a "
                "column for each class"
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise RepairError("the confusion has entries below 0, NaN or infinite: give weights of 0 or more")
    np.fill_diagonal(weights, 0)
    chances = weights.sum(axis=1)[given]
    count = max(1, round(share * len(given)))
    if np.count_nonzero(chances) < count:
        raise RepairError(
            f"{count} labels are to be made wrong and {np.count_nonzero(chances)} examples have a class that is "
            "confused with another: give a smaller share, or a confusion of more classes"
        )
    random = generator(seed, "plant wrong labels")
    chosen = np.sort(random.choice(len(given), size=count, replace=False, p=chances / chances.sum()))
    cumulative = weights[given[chosen]].cumsum(axis=1)
    drawn = random.random(count) * cumulative[:, -1]
    planted = given.copy()
    planted[chosen] = (cumulative <= drawn[:, None]).sum(axis=1)
    return planted, chosen.astype(np.int64)


def query_confusion(right: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.float64]:
    """(k, k) how many queries of each right class (row) the model takes for each class (column), for planting.

    Args:
        right: (q,) the queries' right class numbers.
        predicted: (q,) what the model says.
        classes: k.

    Raises:
        RepairError: if there is not one number below k of both for each query.
    """
    pair = np.asarray(right), np.asarray(predicted)
    for numbers in pair:
        if numbers.shape != pair[0].shape or numbers.ndim != 1 or numbers.dtype.kind not in "iu":
            raise RepairError(
                f"right classes of shape {pair[0].shape} and predicted ones of shape {pair[1].shape} were given: give "
                "one class number of each for every query"
            )
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < classes:
            raise RepairError(
                f"class numbers from {numbers.min()} to {numbers.max()} were given for {classes} classes: give numbers "
                f"from 0 to {classes - 1}"
            )
    counts = np.zeros((classes, classes))
    np.add.at(counts, pair, 1)
    return counts


def threshold_by_planting(
    value: Callable[[Labels], NDArray[np.float64]],
    labels: ArrayLike,
    *,
    seed: int,
    rounds: int = 5,
    share: float = 0.05,
    confusion: ArrayLike | None = None,
    values: ArrayLike | None = None,
) -> CalibratedThreshold:
    """A threshold for Shapley values of training examples, from labels made wrong on purpose in some rounds.

    Args:
        value: (n,) Shapley values of the training examples if they had these labels (n,), such as
            `lambda labels: knn_shapley(features, labels, query_features, query_labels)`.
        labels: (n,) those that they were given.
        seed: of what is made wrong; each round makes other labels wrong.
        rounds: in each the values are computed once.
        share: of the labels made wrong in a round.
        confusion: as in `plant_wrong_labels`, such as `query_confusion`.
        values: those for the given labels, if they are known; else they are computed too.

    Raises:
        RepairError: if a setting is out of bounds.
    """
    if rounds < 1:
        raise RepairError(f"rounds is {rounds}: give a whole number of 1 or more")
    given = np.asarray(labels)
    planted = []
    for round_number in range(rounds):
        # The seed of a round is drawn, so that rounds of neighbouring seeds share nothing.
        drawn = int(generator(seed, f"round {round_number} of planting").integers(2**31))
        changed, positions = plant_wrong_labels(given, share=share, seed=drawn, confusion=confusion)
        planted.append(value(changed)[positions])
    return calibrated_threshold(
        value(given.astype(np.int64)) if values is None else values, np.concatenate(planted)
    )
