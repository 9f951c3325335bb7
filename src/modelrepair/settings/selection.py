"""Settings of the rules that choose causes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelrepair.settings.base import ClassName, Count, Member, Number, Seed, Settings, Share, Text


class SelectionSettings(Member):
    """Of any rule.

    Attributes:
        by_score: whether it looks at the scores; a rule that does not can serve a request without identification.
        knows_truth: whether it needs the examples that were corrupted on purpose.
    """

    tag: ClassVar[str] = "rule"
    by_score: ClassVar[bool] = True
    knows_truth: ClassVar[bool] = False


class TopKSettings(SelectionSettings):
    """The highest scores, a fixed number of them."""

    rule: Literal["top-k"] = "top-k"
    count: Count
    """A budget in examples to look at or to give up."""


class FractionSettings(SelectionSettings):
    """The highest-scoring fraction; 0.15 in Tanno et al. 2022, section 4.2."""

    rule: Literal["fraction"] = "fraction"
    fraction: Share


class ThresholdSettings(SelectionSettings):
    """All scores above a threshold; 0 in Algorithm 1 of Tanno et al. 2022."""

    rule: Literal["threshold"] = "threshold"
    threshold: Number = 0.0


class OracleSizeSettings(SelectionSettings):
    """As many of the highest scores as there are corrupted examples (Huang et al. 2023, A.3)."""

    rule: Literal["oracle-size"] = "oracle-size"
    knows_truth: ClassVar[bool] = True


class TruthSettings(SelectionSettings):
    """Exactly the corrupted examples: what a treatment can do with the true causes."""

    rule: Literal["truth"] = "truth"
    by_score: ClassVar[bool] = False
    knows_truth: ClassVar[bool] = True


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
    """A CSV file with a column `example`, the examples' numbers in the data set's training inputs, from 0."""


Selection = Annotated[
    TopKSettings
    | FractionSettings
    | ThresholdSettings
    | OracleSizeSettings
    | TruthSettings
    | OfClassSettings
    | ListedSettings,
    Field(discriminator="rule"),
]


class SelectCauses(Settings):
    """What the stage select-causes is given."""

    selection: Selection
