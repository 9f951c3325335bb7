"""Settings of what is done to the training data on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from modelrepair.settings.base import (
    ClassName,
    Count,
    Member,
    Number,
    Proportion,
    Seed,
    Settings,
    Share,
    Text,
    expect,
    named,
)


def _once(rates: Mapping[str | int, Any]) -> dict[str, Any]:
    """The same with texts for names, as JSON has them."""
    texts = [str(name) for name in rates]
    if twice := [name for name in texts if texts.count(name) > 1]:
        raise ValueError(f"{named(twice[0])} stands there as a number and as a text: name each class once")
    return dict(zip(texts, rates.values(), strict=True))


Rates = Annotated[dict[ClassName, Proportion], AfterValidator(_once)]
Table = Annotated[dict[ClassName, Rates], AfterValidator(_once)]


class CorruptionSettings(Member):
    """Of any corruption."""

    tag: ClassVar[str] = "kind"
    known: ClassVar[bool] = True
    """Whether it makes examples that are known to be corrupted."""


class NoCorruptionSettings(CorruptionSettings):
    """The data as they are: nobody knows the true causes."""

    kind: Literal["none"] = "none"
    known: ClassVar[bool] = False


class LabelNoiseSettings(CorruptionSettings):
    """Labels given at random (Huang et al. 2023, section 4.1)."""

    kind: Literal["label-noise"] = "label-noise"
    confusion_matrix: Annotated[
        Annotated[Table, Tag("by name")] | Annotated[list[list[Proportion]], Tag("in rows")],
        Discriminator(lambda given: "in rows" if isinstance(given, list) else "by name"),
    ]
    """True class, by name or number, to given classes and their rates, such as {1: {7: 0.4}}; what a row lacks to 1
    keeps its label. Or k rows of k rates."""


class AnnotationNoiseSettings(CorruptionSettings):
    """The labels that people gave, which the data set has beside its own (Wei et al. 2022: CIFAR-10N)."""

    kind: Literal["annotation-noise"] = "annotation-noise"
    column: Text
    """One of the data set's `labels.columns`. What differs from its own label is corrupted."""


class DrawnSettings(CorruptionSettings):
    """Of corruptions that draw a number of examples, or a share."""

    count: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = None
    """So many of the training split; the validation split has the same share. Or `share`."""
    share: Annotated[Share | None, expect("a number above 0 and at most 1, or null")] = None

    @model_validator(mode="after")
    def _one(self) -> DrawnSettings:
        if (self.count is None) == (self.share is None):
            raise ValueError("how many examples are corrupted is said by count or by share: give one of them")
        return self


class InterclassConfusionSettings(DrawnSettings):
    """Examples of two classes are given each other's label (Goel et al. 2024, the interclass confusion test)."""

    kind: Literal["interclass-confusion"] = "interclass-confusion"
    classes: Annotated[
        list[ClassName], Field(min_length=2, max_length=2), expect("two classes, such as [3, 5]")
    ]
    """By name or number. `count` and `share` are of each."""


class BackdoorSettings(DrawnSettings):
    """Images of any class with a patch in a corner and the attacker's label (Gu et al. 2017; Goel et al. 2024)."""

    kind: Literal["backdoor"] = "backdoor"
    label: ClassName = 0
    """The attacker's class, by name or number."""
    corner: Literal["bottom-right", "bottom-left", "top-right", "top-left"] = "bottom-right"
    size: Count = 3
    """Side of the square patch in pixels."""
    value: Annotated[Number | None, expect("a finite number, or null")] = None
    """Of its pixels, in the unit of the inputs: bytes go to 255. null: the largest among the training inputs."""


Corruption = Annotated[
    NoCorruptionSettings
    | LabelNoiseSettings
    | AnnotationNoiseSettings
    | InterclassConfusionSettings
    | BackdoorSettings,
    Field(discriminator="kind"),
]


class CorruptData(Settings):
    """What the stage corrupt-data is given."""

    seed: Seed
    corruption: Corruption
