"""Rules that turn scores into a set of causes. Ties go to the earlier example, so a rule is deterministic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.settings.selection import (
    FractionSettings,
    ListedSettings,
    OfClassSettings,
    OracleSizeSettings,
    ThresholdSettings,
    TopKSettings,
    TruthSettings,
)

Positions = NDArray[np.int64]


class Selection(ABC):
    """A rule that chooses causes."""

    @abstractmethod
    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        """Positions of the causes, most harmful first.

        Args:
            scores: (n,) positive means harmful.
            table: a row for each of the n training examples: `example`, its number in the data set; `names`, of
                its class or attributes; `is_corrupted`, for rules that may know it. A rule says what it needs.
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


class Listed(ListedSettings, Selection):
    """The examples that a person lists."""

    def select(self, scores: NDArray[np.float64], table: pd.DataFrame) -> Positions:
        path = Path(self.file)
        try:
            listed = pd.read_csv(path)
        except FileNotFoundError:
            raise RepairError(
                f"there is no file {path}, which lists the causes: write it, or choose another selection"
            ) from None
        except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise RepairError(
                f"{path} cannot be read as a CSV file ({error}): give one with a column example"
            ) from None
        if "example" not in listed or not len(listed):
            raise RepairError(
                f"{path} lists no causes: give a column example with one training example in each row"
            )
        if not pd.api.types.is_integer_dtype(listed["example"]):
            raise RepairError(f"the column example of {path} holds other things than whole numbers: mend it")
        wanted = listed["example"].drop_duplicates().to_numpy()
        position = pd.Series(np.arange(len(table)), index=table["example"].to_numpy())
        absent = wanted[~np.isin(wanted, position.index)]
        if len(absent):
            raise RepairError(
                f"{path} lists example {absent[0]}, and {len(absent) - 1} more, that the model was not trained on: "
                "list examples of the training split"
            )
        return np.asarray(position.loc[wanted], dtype=np.int64)
