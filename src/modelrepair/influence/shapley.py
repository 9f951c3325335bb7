"""Scores from the value that each training example has to a simpler learner on the network's features."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings.influence import (
    NearestNeighboursSettings,
    OneEpochSettings,
    PermutationSettings,
    ShapleySettings,
    TruncatedMonteCarloSettings,
)
from modelrepair.valuation import (
    CalibratedThreshold,
    Game,
    LeastSquaresGame,
    OneEpochGame,
    best_learning_rate,
    knn_shapley,
    penultimate_features,
    permutation_shapley,
    query_confusion,
    threshold_by_planting,
)

Labels = NDArray[np.int64]
Values = NDArray[np.float64]
Valuer = Callable[[Labels], Values]


class Truncation(TypedDict):
    """Of `permutation_shapley`."""

    tolerance: float | None
    patience: int


@dataclass(frozen=True)
class Question:
    """What training examples are valued for, all as the network's last linear layer sees it.

    Attributes:
        features: (n, f) of the training examples.
        query_features: (q, f) of the examples to be right on.
        right: (q,) their right class numbers.
        predicted: (q,) class numbers that the network gives them.
        classes: how many the network knows.
        seed: of what is random in a valuation.
        checkpoint: where a valuation that takes long keeps its progress, or None.
    """

    features: Tensor
    query_features: Tensor
    right: Labels
    predicted: Labels
    classes: int
    seed: int
    checkpoint: Checkpoint | None


class ShapleyScore(ShapleySettings, Influence):
    """Minus the Shapley value of z, or how far its value is below the calibrated threshold.

    With φ the values and τ the threshold of `valuation.threshold_by_planting`, for which labels are made wrong where
    the network takes one class of the queries for another,

        score(z) = −φ(z), or, calibrated, τ − φ(z):

    score > 0 is φ < 0, or φ < τ. All games are of the features that the network's last linear layer takes.
    """

    def scores(self, investigation: Investigation) -> Values:
        labels, question = self.asked(investigation)
        value = self.valuer(labels, question)
        values = value(labels)
        if not self.calibrated:
            return -values
        threshold = threshold_by_planting(
            value,
            labels,
            seed=question.seed,
            rounds=self.planting_rounds,
            share=self.planting_share,
            confusion=query_confusion(question.right, question.predicted, question.classes),
            values=values,
        )
        print(in_words(threshold), flush=True)
        # Where none is called harmful the threshold is −∞, and where all are ∞: then the lowest or the highest value.
        border = np.clip(threshold.value, values.min(), np.nextafter(values.max(), np.inf))
        return np.asarray(border - values)

    @abstractmethod
    def valuer(self, labels: Labels, question: Question) -> Valuer:
        """What gives the values (n,) of the training examples if they had certain labels (n,).

        Args:
            labels: (n,) those that they were given, which are asked for first.
            question: what they are valued for.
        """

    def asked(self, investigation: Investigation) -> tuple[Labels, Question]:
        """The given labels (n,), and what the examples are valued for.

        Raises:
            RepairError: if there are no queries, or examples have attributes.
        """
        queries = investigation.failures if self.queries == "failures" else investigation.discovery
        if queries is None or not len(queries):
            raise RepairError(
                f"the score {self.chosen} asks what helps to answer the {self.queries}, and there are none: give "
                "some, or choose another score"
            )
        if investigation.examples.targets.ndim != 1:
            raise RepairError(
                f"the score {self.chosen} needs examples with one class each, and these have attributes: choose "
                "another score"
            )
        base: TrainedModel = investigation.base
        outputs = base.outputs(queries)
        return np.asarray(investigation.examples.targets, dtype=np.int64), Question(
            penultimate_features(base, investigation.examples),
            penultimate_features(base, queries),
            np.asarray(queries.targets, dtype=np.int64),
            outputs.argmax(dim=1).cpu().numpy(),
            outputs.shape[1],
            investigation.seed,
            investigation.checkpoint,
        )


def in_words(threshold: CalibratedThreshold) -> str:
    """One line on a calibrated threshold."""
    return (
        f"calibrated: {100 * threshold.harmful_share:.1f} % of the training examples are estimated to be harmful; "
        f"{100 * threshold.called:.1f} % are below the value {threshold.value:.3g}, {100 * threshold.found:.0f} % of "
        f"the harmful ones, and {100 * threshold.false_calls:.0f} % of those called so are not"
    )


class NearestNeighbours(NearestNeighboursSettings, ShapleyScore):
    """By values to a k-nearest-neighbour classifier of the queries, in accuracy per example.

    Exact, by the recursion of Jia et al. 2019 (Theorem 1).
    """

    def valuer(self, labels: Labels, question: Question) -> Valuer:
        return lambda given: knn_shapley(
            question.features, given, question.query_features, question.right, neighbours=self.neighbours
        )


class PermutationScore(PermutationSettings, ShapleyScore):
    """By the mean of marginal contributions along random permutations, the same ones whatever the labels."""

    @abstractmethod
    def game(self, labels: Labels, question: Question) -> Callable[[Labels], Game]:
        """What gives the game of the training examples if they had certain labels (n,); `labels` are the given ones."""

    @property
    def truncation(self) -> Truncation:
        """When the rest of a permutation counts for nothing: never."""
        return {"tolerance": None, "patience": 1}

    def valuer(self, labels: Labels, question: Question) -> Valuer:
        game, numbers = self.game(labels, question), count()

        def value(given: Labels) -> Values:
            number = next(numbers)
            name = f"{self.chosen}, some labels made wrong ({number})" if number else self.chosen
            found = permutation_shapley(
                game(given),
                seed=question.seed,
                permutations=self.permutations,
                minimum=self.minimum,
                window=self.window,
                movement=self.movement,
                **self.truncation,
                checkpoint=question.checkpoint.part(f"valuation-{number}") if question.checkpoint else None,
                description=name,
            )
            standing = "the values stand still" if found.converged else "the values still move"
            print(
                f"{name}: {standing} after {found.permutations} permutations, of which {found.prefixes:.0f} prefixes "
                "were followed on average",
                flush=True,
            )
            return found.values

        return value


class TruncatedMonteCarlo(TruncatedMonteCarloSettings, PermutationScore):
    """By values to a ridge-regularised least-squares classifier, in accuracy on the queries.

    Truncated Monte Carlo (Ghorbani & Zou 2019, Algorithm 1), with a utility that is fitted exactly to every prefix.
    """

    def game(self, labels: Labels, question: Question) -> Callable[[Labels], Game]:
        return lambda given: LeastSquaresGame(
            question.features, given, question.query_features, question.right, ridge=self.ridge
        )

    @property
    def truncation(self) -> Truncation:
        return {"tolerance": self.tolerance, "patience": self.patience}


class OneEpoch(OneEpochSettings, PermutationScore):
    """By what accuracy on the queries gains in the step of each example, in one pass of gradient descent.

    G-Shapley (Ghorbani & Zou 2019, Algorithm 2) of a softmax layer that starts at 0.
    """

    def game(self, labels: Labels, question: Question) -> Callable[[Labels], Game]:
        asked = (question.query_features, question.right)
        rate = self.learning_rate
        if rate is None:
            rate = best_learning_rate(question.features, labels, *asked, seed=question.seed)
            print(f"{self.chosen}: learning rate {rate:g} / mean ‖x‖²", flush=True)
        return lambda given: OneEpochGame(question.features, given, *asked, learning_rate=rate)
