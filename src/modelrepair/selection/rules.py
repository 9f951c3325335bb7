"""Rules that turn scores into a set of causes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.settings.selection import (
    FractionSettings,
    OfClassSettings,
    OracleSizeSettings,
    ThresholdSettings,
    TopKSettings,
    TruthSettings,
)

Positions = NDArray[np.int64]


class Selection(ABC):
    """A rule that chooses causes."""

    by_score: ClassVar[bool]

    @abstractmethod
    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        """Positions of the causes, most harmful first.

        Args:
            scores: (n,) positive means harmful.
            table: a row for each of the n training examples: `example`, its number in the data set; `names`, of
                its class or attributes; `is_corrupted`, for rules that may know it. A rule says what it needs.
        """


def most_harmful(scores: NDArray[np.float64], count: int) -> Positions:
    """Positions of the `count` highest scores, highest first; equal ones in the order of the examples.

    Raises:
        RepairError: if that is more than there are, or the last of them scores no higher than the first that is left.
    """
    if not 0 <= count <= len(scores):
        raise RepairError(
            f"the selection asks for {count} causes and there are {len(scores)} training examples: "
            f"ask for 1 to {len(scores)}"
        )
    order = np.argsort(-scores, kind="stable")
    if 0 < count < len(scores) and scores[order[count - 1]] == scores[order[count]]:
        level = scores[order[count]]
        above, alike = int((scores > level).sum()), int((scores == level).sum())
        raise RepairError(
            f"{count} causes cannot be told from the rest: {alike} training examples share the score {level:.4g} at "
            f"the border, and {above} score higher: ask for {above or alike} or {above + alike}, or take another score"
        )
    return order[:count]


class TopK(TopKSettings, Selection):
    """The `count` highest scores: a budget in examples to look at or to give up."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, self.count)


class Fraction(FractionSettings, Selection):
    """The highest-scoring fraction of the training examples; 0.15 in Tanno et al. 2022, section 4.2."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, round(self.fraction * len(scores)))


class Threshold(ThresholdSettings, Selection):
    """All scores above `threshold`; 0 in Algorithm 1 of Tanno et al. 2022."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, int((scores > self.threshold).sum()))


class OracleSize(OracleSizeSettings, Selection):
    """As many of the highest scores as there are corrupted examples (Huang et al. 2023, A.3)."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return most_harmful(scores, int(table["is_corrupted"].sum()))


class Truth(TruthSettings, Selection):
    """Exactly the corrupted examples: what a treatment can do with the true causes."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        return np.flatnonzero(table["is_corrupted"].to_numpy())


class OfClass(OfClassSettings, Selection):
    """A class, or a random fraction of it, on request (Peste et al. 2021, sections 5.1 to 5.3).

    What counts is the label that the model was trained with."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        wanted = str(self.name)
        members = np.flatnonzero([wanted in names for names in table["names"]])
        if not len(members):
            known = sorted({name for names in table["names"] for name in names})
            shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
            raise RepairError(f"no training example is labelled {wanted!r}: choose from {shown}")
        drawn = generator(self.seed, f"of class {wanted}").permutation(members)
        return np.sort(drawn[: max(1, round(self.fraction * len(members)))])
