"""Rules that turn scores into a set of causes. Ties go to the earlier example, so a rule is deterministic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError

Positions = NDArray[np.int64]


class Selection(ABC):
    """A rule that chooses causes."""

    @abstractmethod
    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        """Positions of the causes, most harmful first.

        Args:
            scores: (n,) positive means harmful.
            table: a row for each of the n training examples, with `is_corrupted` for rules that may know it.
        """


def most_harmful(scores: NDArray[np.float64], count: int) -> Positions:
    """Positions of the `count` highest scores, highest first.

    Raises:
        RepairError: if that is more than there are.
    """
    if not 0 <= count <= len(scores):
        raise RepairError(
            f"the selection asks for {count} causes and there are {len(scores)} training examples: "
            f"ask for 1 to {len(scores)}"
        )
    return np.argsort(-scores, kind="stable")[:count]


@dataclass(frozen=True)
class TopK(Selection):
    """The `count` highest scores: a budget in examples to look at or to give up."""

    count: int

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, self.count)


@dataclass(frozen=True)
class Fraction(Selection):
    """The highest-scoring fraction of the training examples; 0.15 in Tanno et al. 2022, section 4.2."""

    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise RepairError(f"the selection's fraction is {self.fraction}: give one above 0 and at most 1")

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, round(self.fraction * len(scores)))


@dataclass(frozen=True)
class Threshold(Selection):
    """All scores above `threshold`; 0 in Algorithm 1 of Tanno et al. 2022."""

    threshold: float = 0.0

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, int((scores > self.threshold).sum()))


@dataclass(frozen=True)
class OracleSize(Selection):
    """As many of the highest scores as there are corrupted examples (Huang et al. 2023, A.3)."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, int(table["is_corrupted"].sum()))


@dataclass(frozen=True)
class Truth(Selection):
    """Exactly the corrupted examples: what a treatment can do with the true causes."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return np.flatnonzero(table["is_corrupted"].to_numpy())
