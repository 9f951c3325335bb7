"""The utility that trains the whole network again for every set: for small sets, and only after saying how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.valuation.games import Positions, SetGame
from modelrepair.valuation.sampling import Valuation, permutation_shapley

Measure = Literal["accuracy", "log-likelihood"]
Fit = Callable[[Positions], TrainedModel]


@dataclass(frozen=True)
class RetrainingEstimate:
    """How long a valuation by retraining would take.

    Attributes:
        trainings: as many, if nothing is truncated and no stopping rule ends it early.
        longest: seconds of one training on all examples and the judgement of its queries.
        shortest: seconds of the same on a tenth of them.
        seconds: of all trainings, the time of one taken to be linear in the number of examples.
    """

    trainings: int
    longest: float
    shortest: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.trainings:,} trainings of up to {self.longest:.2g} s take about {_duration(self.seconds)}, less if "
            "permutations are truncated"
        )


class RetrainingGame(SetGame):
    """What the network says of the queries when it was trained on a set of the examples alone.

    Args:
        fit: trains from scratch on the examples at these sorted positions and gives the model; deterministic, or the
            utility is not a function of the set and its noise is in every contribution.
        players: n, how many training examples there are.
        queries: examples to be right on, with right labels.
        untrained: the model before any training: the utility of no example.
        measure: "accuracy" on the queries, or "log-likelihood", the mean in nats.

    Raises:
        RepairError: if there are no queries or no such measure.
    """

    def __init__(
        self,
        fit: Fit,
        players: int,
        queries: Examples,
        *,
        untrained: TrainedModel,
        measure: Measure = "accuracy",
    ) -> None:
        if measure not in get_args(Measure):
            raise RepairError(f"there is no measure {measure!r}: choose from {', '.join(get_args(Measure))}")
        if not len(queries):
            raise RepairError("there are no query examples: give at least one")

        def judged(model: TrainedModel) -> float:
            return model.accuracy(queries) if measure == "accuracy" else model.mean_log_likelihood(queries)

        super().__init__(lambda members: judged(fit(members)), players, empty=judged(untrained))

    def estimate(self, permutations: int) -> RetrainingEstimate:
        """How long so many permutations take: times a training on all examples and one on every tenth of them."""
        start = time.perf_counter()
        self._full = self.of(np.arange(self.players))
        longest = time.perf_counter() - start
        few = np.arange(0, self.players, 10)
        start = time.perf_counter()
        self.of(few)
        shortest = time.perf_counter() - start
        slope = (longest - shortest) / max(self.players - len(few), 1)
        mean = max(longest - slope * (self.players - 1) / 2, 0.0)
        trainings = permutations * self.players
        return RetrainingEstimate(trainings, longest, shortest, trainings * mean)


def retraining_shapley(
    game: RetrainingGame,
    *,
    seed: int,
    permutations: int,
    budget: float = 600.0,
    beyond_budget: bool = False,
    **options: Any,
) -> tuple[Valuation, RetrainingEstimate]:
    """Shapley values of the training examples by retraining, with what was estimated beforehand.

    Args:
        game: what to train and to judge.
        seed: of the permutations.
        permutations: at most so many.
        budget: seconds that it may take by the estimate.
        beyond_budget: whether to go on if it takes longer.
        options: of `permutation_shapley`.

    Raises:
        RepairError: if the estimate is beyond the budget and nobody said to go on; says how many permutations fit.
    """
    estimate = game.estimate(permutations)
    if estimate.seconds > budget and not beyond_budget:
        affordable = int(permutations * budget / estimate.seconds)
        fitting = (
            f"ask for {affordable} permutations or fewer"
            if affordable
            else "value fewer examples, or a last layer on features"
        )
        raise RepairError(
            f"{estimate}, and the budget is {_duration(budget)}: {fitting}, or set a larger budget or beyond_budget"
        )
    return permutation_shapley(game, seed=seed, permutations=permutations, **options), estimate


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
