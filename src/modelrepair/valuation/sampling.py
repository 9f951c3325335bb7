"""Shapley values from sampled permutations, with truncation and a stopping rule."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.valuation.games import Game, Positions

SECONDS_BETWEEN_SAVES = 5.0
"""What is kept, mostly the running means of a window, may take longer to write than a permutation takes."""


@dataclass(frozen=True)
class Valuation:
    """Estimated Shapley values, and how sure they are.

    Attributes:
        values: (n,) in the units of the utility; positive where the example helps, so minus a score of harm.
        standard_errors: (n,) of the values, from the spread over permutations; infinite where fewer than two count.
            What truncation cuts off is not in them.
        permutations: how many were sampled.
        converged: whether the stopping rule ended it, not the number of permutations.
        movement: how far the running means moved over the last window, as the stopping rule measures it; infinite where
            there were too few permutations to tell.
        prefixes: mean number of prefixes followed in a permutation, of n.
    """

    values: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    permutations: int
    converged: bool
    movement: float
    prefixes: float


def permutation_shapley(
    game: Game,
    *,
    seed: int,
    permutations: int = 1000,
    minimum: int = 100,
    window: int = 100,
    movement: float = 0.1,
    tolerance: float | None = 0.01,
    patience: int = 5,
    smallest_subset: int = 0,
    together: int | None = None,
    checkpoint: Checkpoint | None = None,
    description: str = "Shapley values",
) -> Valuation:
    """Shapley values as means of marginal contributions along random permutations of the training examples.

    Truncated Monte Carlo (Ghorbani & Zou 2019, Algorithm 1): a permutation is followed until `patience` prefixes one
    after the other have a utility within `tolerance` times |V(D)| of V(D), that of all examples; what comes later
    contributes 0. The values then sum to V(D) − V(∅) only up to that tolerance. Without a tolerance every permutation
    is followed to its end (Algorithm 2, with `OneEpochGame`).

    It stops after at least `minimum` permutations as soon as the running means of the last `window` all lie within
    `movement` of the present one. The distance is Σ|u_i − v_i| / Σ|v_i|: a mean of ratios |u_i − v_i|/|v_i| would be
    ruled by the examples whose value is next to nothing.

    `smallest_subset` T > 0 lets an example's contribution count only where at least T others came before it, so every
    size of at least T counts alike, as in `knn_shapley`. Where the query is what the model gets wrong, the first few
    prefixes are mostly noise.

    The t-th permutation depends on the seed and t alone, and it counts in its turn, so the result does not depend on
    how many are followed together, beyond the rounding of a game's products.

    Args:
        game: whose players are the n training examples.
        seed: of the permutations.
        permutations: at most so many.
        minimum: at least so many.
        window: over how many of the last running means movement is judged.
        movement: below which to stop; 0 never stops early.
        tolerance: of the truncation, as a share of |V(D)|; None for no truncation.
        patience: prefixes in a row within the tolerance.
        smallest_subset: T, from 0 to n − 1.
        together: permutations followed at once; changes memory and speed only. By default the game says.
        checkpoint: where to keep progress, to go on after a kill, to the same bytes; of this game and these settings.
        description: for the progress bar.

    Raises:
        RepairError: if a setting is out of bounds.
    """
    together = game.together if together is None else together
    counts = {
        "permutations": permutations,
        "minimum": minimum,
        "window": window,
        "patience": patience,
        "together": together,
    }
    for name, count in counts.items():
        if count < 1:
            raise RepairError(f"{name} is {count}: give a whole number of 1 or more")
    if not movement >= 0 or (tolerance is not None and not tolerance >= 0):
        raise RepairError(f"movement is {movement} and tolerance {tolerance}: give numbers of 0 or more")
    if not 0 <= smallest_subset < game.players:
        raise RepairError(
            f"smallest_subset is {smallest_subset} with {game.players} training examples: give a number from 0 to "
            f"{game.players - 1}"
        )
    sums = _Sums(game.players, window)
    if saved := checkpoint.load() if checkpoint else None:
        sums.restore(*saved)
        print(f"{description}: resuming after {sums.count} permutations", flush=True)
    written = time.monotonic()
    bar = tqdm(total=permutations, initial=sums.count, desc=description, unit="permutation", mininterval=1)
    with bar:
        while sums.count < permutations and not sums.moved < movement:
            numbers = range(sums.count, min(sums.count + together, permutations))
            orders = np.stack([_permutation(seed, number, game.players) for number in numbers])
            contributions, lengths = marginal_contributions(
                game, orders, tolerance=tolerance, patience=patience
            )
            for order, contribution, length in zip(orders, contributions, lengths, strict=True):
                sums.add(order[smallest_subset:], contribution, int(length))
                sums.judge(minimum, movement)
                bar.update()
                if sums.moved < movement:
                    break
            ended = sums.count == permutations or sums.moved < movement
            if checkpoint and (ended or time.monotonic() - written > SECONDS_BETWEEN_SAVES):
                checkpoint.save(*sums.kept())
                written = time.monotonic()
    return sums.valuation(movement)


class _Sums:
    """What is known after some permutations.

    Attributes:
        count, followed: permutations, and prefixes of them.
        moved: as `Valuation.movement`.
    """

    def __init__(self, players: int, window: int) -> None:
        self.total, self.squares, self.counted = (np.zeros(players) for _ in range(3))
        self.means: deque[NDArray[np.float64]] = deque(maxlen=window)
        self.count, self.followed, self.moved = 0, 0, float(np.inf)

    def add(self, late: Positions, contribution: NDArray[np.float64], length: int) -> None:
        """Count one more permutation: the contributions (n,) of these players."""
        self.count += 1
        self.followed += length
        self.total[late] += contribution[late]
        self.squares[late] += contribution[late] ** 2
        self.counted[late] += 1

    def judge(self, minimum: int, movement: float) -> None:
        """See how far the running means have moved, and remember the present one."""
        means, present = self.means, self.values
        # The oldest has most often moved furthest: where it alone is too far, the others need no look.
        full = len(means) == means.maxlen and self.count >= minimum
        self.moved = _distance(means[0], present) if full else float(np.inf)
        if self.moved < movement:
            self.moved = max(_distance(mean, present) for mean in means)
        means.append(present)

    @property
    def values(self) -> NDArray[np.float64]:
        return self.total / np.maximum(self.counted, 1)

    def valuation(self, movement: float) -> Valuation:
        values, counted = self.values, self.counted
        # Never below 0, which rounding alone could make of equal contributions.
        variance = np.clip(self.squares - counted * values**2, 0, None) / np.maximum(counted - 1, 1)
        errors = np.where(counted > 1, np.sqrt(variance / np.maximum(counted, 1)), np.inf)
        converged, prefixes = bool(self.moved < movement), self.followed / self.count
        return Valuation(values, errors, self.count, converged, self.moved, prefixes)

    def kept(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """All of it, as a checkpoint takes it."""
        arrays = {name: getattr(self, name) for name in ("total", "squares", "counted")}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        tensors["means"] = torch.from_numpy(np.stack(self.means))
        return tensors, {"count": self.count, "followed": self.followed, "moved": self.moved}

    def restore(self, tensors: dict[str, torch.Tensor], state: dict[str, float]) -> None:
        """Take up what `kept` gave."""
        self.total, self.squares, self.counted = (
            tensors[name].numpy().copy() for name in ("total", "squares", "counted")
        )
        self.means.extend(tensors["means"].numpy().copy())
        self.count, self.followed = int(state["count"]), int(state["followed"])
        self.moved = float(state["moved"])


def marginal_contributions(
    game: Game, orders: Positions, *, tolerance: float | None, patience: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(b, n) what each player added to those before it in each permutation, and (b,) the prefixes followed.

    Args:
        game: of n players.
        orders: (b, n) permutations of 0 to n - 1.
        tolerance, patience: of the truncation, as in `permutation_shapley`.
    """
    count, players = orders.shape
    contributions = np.zeros((count, players))
    lengths = np.full(count, players)
    following = np.arange(count)
    before = np.full(count, float(game.empty))
    streak = np.zeros(count, dtype=np.int64)
    walk = game.walk(orders)
    done = 0
    while done < players and len(following):
        utilities = walk.advance()
        steps = np.diff(utilities, axis=1, prepend=before[:, None])
        width = steps.shape[1]
        going: NDArray[np.bool_] = np.full(len(following), True)
        if tolerance is not None:
            near = np.abs(utilities - game.full) <= tolerance * abs(game.full)
            place = np.arange(width)
            # How many prefixes in a row, up to each, were near: since the last that was not, maybe before these.
            row = place - np.maximum.accumulate(np.where(near, -1 - streak[:, None], place), axis=1)
            enough = row >= patience
            going = np.logical_not(enough.any(axis=1))
            end = np.where(going, width, enough.argmax(axis=1) + 1)
            steps[place >= end[:, None]] = 0
            lengths[following] = np.where(going, lengths[following], done + end)
            streak = row[going, -1]
        contributions[following[:, None], orders[following, done : done + width]] = steps
        done += width
        before = utilities[going, -1]
        following = following[going]
        if not going.all() and done < players and len(following):
            walk.keep(going)
    return contributions, lengths


def _permutation(seed: int, number: int, players: int) -> Positions:
    return generator(seed, f"permutation {number} for Shapley values").permutation(players).astype(np.int64)


def _distance(other: NDArray[np.float64], present: NDArray[np.float64]) -> float:
    """Σ|u_i − v_i| / Σ|v_i|; 0 where both are 0 everywhere."""
    difference, size = float(np.abs(other - present).sum()), float(np.abs(present).sum())
    if size == 0:
        return 0.0 if difference == 0 else np.inf
    return difference / size
