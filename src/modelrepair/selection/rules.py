"""Rules that turn scores into a set of causes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.settings.selection import (
    ExpectedSettings,
    FractionSettings,
    OfClassSettings,
    OracleSizeSettings,
    PartialTruthSettings,
    ThresholdSettings,
    TopKSettings,
    TruthSettings,
)
from modelrepair.sound import Sound

Positions = NDArray[np.int64]


class Selection(ABC):
    """A rule that chooses causes."""

    by_score: ClassVar[bool]

    @abstractmethod
    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        """Positions of the causes, most harmful first.

        Args:
            scores: (n,) positive means harmful.
            table: a row for each of the n training examples: `example`, its number in the data set; `names`, of
                its class or attributes; `is_corrupted`, for rules that may know it. A rule says what it needs.
            sound: how often the judge believes what is right outside training, where scores are odds; None: unknown.
        """

    def corrections(self, table: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.int64] | None:
        """(n,) the number of the class that somebody gives to each training example, -1 without; None of none at all.

        Args:
            table: as for `select`, with `label`.
            classes: names of the classes or attributes.
        """
        return None


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


def within_limits(causes: Positions, table: pd.DataFrame, share: float | None) -> Positions:
    """Those of the causes, in their order, that leave of each class or attribute what its limit wants.

    A class's causes end where they would be more than this share of its training examples, rounded down.

    Args:
        causes: positions, most harmful first.
        table: a row for each training example, with `names`.
        share: of the limit; None for no limit.
    """
    if share is None:
        return causes
    members = Counter(name for names in table["names"] for name in names)
    left = {name: math.floor(share * count) for name, count in members.items()}
    kept = []
    for position in causes:
        names = table["names"].iloc[position]
        if all(left[name] > 0 for name in names):
            kept.append(position)
            for name in names:
                left[name] -= 1
    return np.asarray(kept, dtype=np.int64)


class TopK(TopKSettings, Selection):
    """The `count` highest scores: a budget in examples to look at or to give up."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        return within_limits(most_harmful(scores, self.count), table, self.per_class)


class Fraction(FractionSettings, Selection):
    """The highest-scoring fraction of the training examples; 0.15 in Tanno et al. 2022, section 4.2."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        harmful = most_harmful(scores, round(self.fraction * len(scores)))
        return within_limits(harmful, table, self.per_class)


class Threshold(ThresholdSettings, Selection):
    """All scores above `threshold`; 0 in Algorithm 1 of Tanno et al. 2022."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        count = int((scores > self.threshold).sum())
        if self.at_most is not None:
            count = min(count, round(self.at_most * len(scores)))
        harmful = most_harmful(scores, count)
        return within_limits(harmful, table, self.per_class)


class Expected(ExpectedSettings, Selection):
    """As many of the highest scores as `expected_causes` counts, of those that are doubted (score > 0).

    A judge that has learned the training examples by heart doubts fewer of them than of others, so that the count is
    too low: where it doubts fewer, or at least a half of what it doubts is expected to be wrong, all that is doubted is
    taken, if it is no more than a share `trusted` of the training examples. A judge that is sure of little doubts many
    that are right, and all of them would be far too many; up to a share `certain` they are taken in any case.
    """

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        count, error = expected_causes(scores, sound)
        doubted = int((scores > 0).sum())
        by_heart = sound is not None and doubted < (1 - sound.believed) * len(scores)
        # Also where nothing is wrong, which nobody can tell from wrong labels that are known by heart.
        more = (
            ", or more if the judge knows them by heart: it doubts fewer than of discovery"
            if by_heart
            else ""
        )
        print(f"{count:.0f} ± {error:.0f} training examples are expected to be wrong{more}")
        trusted, certain = (round(share * len(scores)) for share in (self.trusted, self.certain))
        if doubted <= trusted and (by_heart or 2 * count >= doubted):
            taken = doubted
        else:
            taken = min(doubted, max(round(count), certain))
        return within_limits(most_harmful(scores, taken), table, self.per_class)


def expected_causes(scores: NDArray[np.float64], sound: Sound | None) -> tuple[float, float]:
    """How many training examples are wrong, n − B/a, and the standard deviation of that number; 0 at least.

    B of the n training examples are believed (score 0 or less), and elsewhere a share a of m (`Sound.share_right`):
    B is taken for binomial with (n − |C|, a). The deviation is √(B(1 − a)/a² + (B/a)²(1 − a)/(am)), of both counts.
    That a judge believes what is wrong is not in it: docs/results.md shows the numbers beside the truth.

    Args:
        scores: (n,) positive where the given target is less likely than all others together.
        sound: what the judge says elsewhere.

    Raises:
        RepairError: if that is not known, or it believes nothing there.
    """
    if sound is None or not sound.count or not sound.believed:
        raise RepairError(
            "how many causes are expected is told by how often the judge believes right targets outside training, "
            f"{'which is not known' if sound is None or not sound.count else 'where it believes none'}: choose another "
            "selection, such as fraction"
        )
    believed, share = int((scores <= 0).sum()), sound.believed
    count = len(scores) * (1 - sound.share_right(believed / len(scores)))
    right = believed / share
    variance = right * (1 - share) / share + right**2 * (1 - share) / (share * sound.count)
    return count, math.sqrt(variance)


class OracleSize(OracleSizeSettings, Selection):
    """As many of the highest scores as there are corrupted examples (Huang et al. 2023, A.3)."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        return most_harmful(scores, int(table["is_corrupted"].sum()))


class Truth(TruthSettings, Selection):
    """Exactly the corrupted examples: what a treatment can do with the true causes."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        return np.flatnonzero(table["is_corrupted"].to_numpy())


class PartialTruth(PartialTruthSettings, Selection):
    """A share γ of the corrupted examples, at random, and clean ones that are taken for corrupted among them.

    With K corrupted examples, round(γK) of them, at least one, and of clean ones as many as make up the share c of all
    that is taken, round(round(γK)·c/(1 − c)).
    """

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        corrupted = table["is_corrupted"].to_numpy(bool)
        if not corrupted.any():
            return np.empty(0, dtype=np.int64)
        known = self._drawn(corrupted, "known causes", max(1, round(self.share * corrupted.sum())))
        mistaken = round(len(known) * self.clean / (1 - self.clean))
        if mistaken > (~corrupted).sum():
            raise RepairError(
                f"a share of {self.clean} clean examples beside {len(known)} causes is {mistaken}, and "
                f"{int((~corrupted).sum())} training examples are clean: give a smaller clean or share"
            )
        return np.sort(np.r_[known, self._drawn(~corrupted, "taken for causes", mistaken)])

    def _drawn(self, members: NDArray[np.bool_], purpose: str, count: int) -> Positions:
        return generator(self.seed, purpose).permutation(np.flatnonzero(members))[:count]


class OfClass(OfClassSettings, Selection):
    """A class, or a random fraction of it, on request (Peste et al. 2021, sections 5.1 to 5.3).

    What counts is the label that the model was trained with."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        wanted = str(self.name)
        members = np.flatnonzero([wanted in names for names in table["names"]])
        if not len(members):
            known = sorted({name for names in table["names"] for name in names})
            shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
            raise RepairError(f"no training example is labelled {wanted!r}: choose from {shown}")
        drawn = generator(self.seed, f"of class {wanted}").permutation(members)
        return np.sort(drawn[: max(1, round(self.fraction * len(members)))])
