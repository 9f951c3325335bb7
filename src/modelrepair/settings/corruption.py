"""Settings of what is done to the training data on purpose."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelrepair.settings.base import Member, Proportion, Seed, Settings

Name = str | int
Rates = dict[Name, Proportion]


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
    confusion_matrix: dict[Name, Rates] | list[list[Proportion]]
    """True class, by name or number, to given classes and their rates, such as {1: {7: 0.4}}; what a row lacks to 1
    keeps its label. Or k rows of k rates."""


Corruption = Annotated[NoCorruptionSettings | LabelNoiseSettings, Field(discriminator="kind")]


class CorruptData(Settings):
    """What the stage corrupt-data is given."""

    seed: Seed
    corruption: Corruption
