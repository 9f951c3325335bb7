"""Settings of the rules that choose causes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelrepair.settings import (
    ClassName,
    Count,
    Flag,
    Member,
    Number,
    Seed,
    Settings,
    Share,
    Text,
    expect,
)


class SelectionSettings(Member):
    """Of any rule.

    Attributes:
        by_score: whether it looks at the scores; a rule that does not can serve a request without identification.
        knows_truth: whether it needs the examples that were corrupted on purpose.
        by_even_odds: whether it takes a positive score to say that the given target is less likely than all others, and
            asks how often its judge says so elsewhere.
    """

    tag: ClassVar[str] = "rule"
    by_score: ClassVar[bool] = True
    knows_truth: ClassVar[bool] = False
    by_even_odds: ClassVar[bool] = False


class RankingSettings(SelectionSettings):
    """Of rules that take the highest scores."""

    per_class: Annotated[Share | None, expect("a number above 0 and at most 1, or null")] = None
    """At most this share of the training examples of any class, or of those with any attribute; the next highest scores
    do not take their places. null: no limit."""


class TopKSettings(RankingSettings):
    """The highest scores, a fixed number of them."""

    rule: Literal["top-k"] = "top-k"
    count: Count
    """A budget in examples to look at or to give up."""


class FractionSettings(RankingSettings):
    """The highest-scoring fraction; 0.15 in Tanno et al. 2022, section 4.2."""

    rule: Literal["fraction"] = "fraction"
    fraction: Share


class ThresholdSettings(RankingSettings):
    """All scores above a threshold; 0 in Algorithm 1 of Tanno et al. 2022."""

    rule: Literal["threshold"] = "threshold"
    threshold: Number = 0.0
    at_most: Annotated[Share | None, expect("a number above 0 and at most 1, or null")] = None
    """Share of the training examples that is taken at most, those with the highest scores; null: however many."""


class ExpectedSettings(RankingSettings):
    """As many of the highest scores as are expected to be wrong."""

    rule: Literal["expected"] = "expected"
    trusted: Annotated[float, Field(ge=0, le=1), expect("a number from 0 to 1")] = 0.15
    """Share of the training examples up to which all are taken that the judge doubts, if it doubts more outside
    training or at least a half of them is expected to be wrong. What has been learned by heart, such as facts, is
    doubted less often than what is new."""
    certain: Annotated[float, Field(ge=0, le=1), expect("a number from 0 to 1")] = 0.05
    """The same, whatever is expected."""
    by_even_odds: ClassVar[bool] = True


class OracleSizeSettings(SelectionSettings):
    """As many of the highest scores as there are corrupted examples (Huang et al. 2023, A.3)."""

    rule: Literal["oracle-size"] = "oracle-size"
    knows_truth: ClassVar[bool] = True


class TruthSettings(SelectionSettings):
    """Exactly the corrupted examples: what a treatment can do with the true causes."""

    rule: Literal["truth"] = "truth"
    by_score: ClassVar[bool] = False
    knows_truth: ClassVar[bool] = True


class PartialTruthSettings(SelectionSettings):
    """A random part of the corrupted examples: what a treatment can do that knows few causes (Goel et al. 2024)."""

    rule: Literal["partial-truth"] = "partial-truth"
    by_score: ClassVar[bool] = False
    knows_truth: ClassVar[bool] = True
    share: Share
    """γ, of the corrupted examples; at least one is taken."""
    clean: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.0
    """Share of clean examples among the causes, taken for corrupted (Huang et al. 2023, tables 4 and 5: 0.25)."""
    seed: Seed = 0
    """Of the drawing. With one seed, a smaller share is part of a larger one."""


class OfClassSettings(SelectionSettings):
    """A class, or a random fraction of it, on request (Peste et al. 2021, sections 5.1 to 5.3)."""

    rule: Literal["of-class"] = "of-class"
    by_score: ClassVar[bool] = False
    name: ClassName
    """Of the class or, where examples have several, of the attribute."""
    fraction: Share = 1.0
    """Share of its examples; at least one is taken."""
    seed: Seed = 0
    """Of the drawing. With one seed, a smaller fraction is part of a larger one."""


class ListedSettings(SelectionSettings):
    """The examples that a person lists."""

    rule: Literal["listed"] = "listed"
    by_score: ClassVar[bool] = False
    file: Text
    """A CSV file with a column `example`, the examples' numbers in the data set's training inputs, from 0. Columns
    `action` (keep, remove or relabel) and `label` (the class of what is to be relabelled) say what is to be done with
    each, as in the marks that the page saves."""


Selection = Annotated[
    TopKSettings
    | FractionSettings
    | ThresholdSettings
    | ExpectedSettings
    | OracleSizeSettings
    | TruthSettings
    | PartialTruthSettings
    | OfClassSettings
    | ListedSettings,
    Field(discriminator="rule"),
]


class KnowCauses(Settings):
    """What the stage know-causes is given."""

    known: Selection | None
    """The causes that are known before anything is scored; null for none."""


class SelectCauses(Settings):
    """What the stage select-causes is given."""

    selection: Selection
    for_reference: Flag = False
    """Whether the reference treats the same causes. Where it does not, its stage must not see them, so that all methods
    share its result."""
    at_least_one: Flag = True
    """Whether there has to be a cause: the treatment, or that of the reference of the same causes, needs one."""
    only_removes: Text | None = None
    """The treatment, or that of the reference of the same causes, if it cannot give causes another label."""
