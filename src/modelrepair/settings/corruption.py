"""Settings of what is done to the training data on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from modelrepair.settings.base import ClassName, Member, Proportion, Seed, Settings, named


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


Corruption = Annotated[NoCorruptionSettings | LabelNoiseSettings, Field(discriminator="kind")]


class CorruptData(Settings):
    """What the stage corrupt-data is given."""

    seed: Seed
    corruption: Corruption
