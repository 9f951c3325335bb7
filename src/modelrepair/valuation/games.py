"""Games: what any set of training examples is worth, asked for along the prefixes of permutations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError

Positions = NDArray[np.int64]


class Walk(ABC):
    """b permutations of a game's n players, followed prefix by prefix, all together."""

    @abstractmethod
    def advance(self) -> NDArray[np.float64]:
        """(b, m) the utilities of the next m ≥ 1 prefixes of each permutation, as many as the walk likes and are left.

        Not called after the last prefix, that of all n players.
        """

    @abstractmethod
    def keep(self, going: NDArray[np.bool_]) -> None:
        """Follow only those permutations further where this mask (b,) is true; they keep their order."""


class Game(ABC):
    """A utility of sets of n players. It must be a function of the set, or at least of the order and nothing else.

    Attributes:
        players: n.
        empty: utility of no player.
        together: how many permutations to follow at once, if nobody says otherwise.
    """

    players: int
    empty: float
    together: int = 1

    @property
    @abstractmethod
    def full(self) -> float:
        """Utility of all players."""

    @abstractmethod
    def walk(self, permutations: Positions) -> Walk:
        """The walk along these permutations (b, n) of 0 to n - 1."""


class SetGame(Game):
    """Any utility function, asked for one prefix at a time.

    Args:
        utility: of the sorted positions of a set's members, at least one of them.
        players: n.
        empty: utility of no player.

    Raises:
        RepairError: if there are no players; later, if a utility is NaN or infinite.
    """

    def __init__(self, utility: Callable[[Positions], float], players: int, *, empty: float = 0.0) -> None:
        if players < 1:
            raise RepairError(f"a game of {players} players was given: give one of at least one")
        self.utility = utility
        self.players = players
        self.empty = empty
        self._full: float | None = None

    @property
    def full(self) -> float:
        if self._full is None:
            self._full = self.of(np.arange(self.players))
        return self._full

    def of(self, members: Positions) -> float:
        """Utility of these members, in any order."""
        value = float(self.utility(np.sort(members)))
        if not np.isfinite(value):
            raise RepairError(
                f"the utility of {len(members)} of {self.players} training examples is {value}: give a utility that is "
                "finite for every set"
            )
        return value

    def walk(self, permutations: Positions) -> Walk:
        return _SetWalk(self, permutations)


class _SetWalk(Walk):
    def __init__(self, game: SetGame, permutations: Positions) -> None:
        self.game = game
        self.permutations = permutations
        self.length = 0

    def advance(self) -> NDArray[np.float64]:
        self.length += 1
        if self.length == self.game.players:
            return np.full((len(self.permutations), 1), self.game.full)
        return np.array([[self.game.of(order[: self.length])] for order in self.permutations])

    def keep(self, going: NDArray[np.bool_]) -> None:
        self.permutations = self.permutations[going]
