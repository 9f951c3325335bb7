"""Settings of what is done to the training data on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from modelrepair.settings import (
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
    listed,
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
    """Of any corruption.

    Attributes:
        known: whether it makes examples that are known to be corrupted.
        attacks: whether it needs a victim, a model trained on the data as they were.
        of_classes: whether it needs examples with one class each.
    """

    tag: ClassVar[str] = "kind"

    @property
    def of_classes(self) -> bool:
        return True

    @property
    def known(self) -> bool:
        return True

    @property
    def attacks(self) -> bool:
        return False


class NoCorruptionSettings(CorruptionSettings):
    """The data as they are: nobody knows the true causes."""

    kind: Literal["none"] = "none"

    @property
    def of_classes(self) -> bool:
        return False

    @property
    def known(self) -> bool:
        return False


def _in_rows_or_by_name(given: object) -> str:
    return "nothing" if given is None else "in rows" if isinstance(given, list) else "by name"


class LabelNoiseSettings(CorruptionSettings):
    """Labels given at random (Huang et al. 2023, section 4.1)."""

    kind: Literal["label-noise"] = "label-noise"
    confusion_matrix: Annotated[
        Annotated[Table, Tag("by name")]
        | Annotated[list[list[Proportion]], Tag("in rows")]
        | Annotated[None, Tag("nothing")],
        Discriminator(_in_rows_or_by_name),
    ] = None
    """True class, by name or number, to given classes and their rates, such as {1: {7: 0.4}}; what a row lacks to 1
    keeps its label. Or k rows of k rates. Or `uniform`."""
    uniform: Annotated[Share | None, expect("a number above 0 and at most 1, or null")] = None
    """Share of every class that is given another label, each other class's as often."""

    @model_validator(mode="after")
    def _one(self) -> LabelNoiseSettings:
        if (self.confusion_matrix is None) == (self.uniform is None):
            raise ValueError(
                "which labels are wrong is said by confusion_matrix or by uniform: give one of them"
            )
        return self


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


class WithinClassesSettings(DrawnSettings):
    """Of corruptions that draw examples of some classes. `count` and `share` are of each."""

    classes: Annotated[
        Annotated[list[ClassName], Field(min_length=1)] | None, expect("a list of classes, or null for all")
    ] = None
    """By name or number; null for all."""


class InputNoiseSettings(WithinClassesSettings):
    """Noise on inputs, whose labels stay right (Tanno et al. 2022, section 4.1; Huang et al. 2023, A.1)."""

    kind: Literal["input-noise"] = "input-noise"
    noise: Literal["salt-and-pepper", "gaussian"]
    amount: Share
    """salt-and-pepper: the share of an image's pixels that are made as dark or as bright as can be. gaussian: the
    standard deviation of what is added, in units of the range of values, which nothing leaves."""


class AdversarialSettings(WithinClassesSettings):
    """Inputs changed so that a model trained on the right data takes them for another class, which is their label
    (Tanno et al. 2022, section 4.1)."""

    kind: Literal["adversarial"] = "adversarial"
    attack: Literal["fgsm", "pgd"] = "fgsm"
    """fgsm (Goodfellow et al. 2015): one step of length `epsilon`. pgd (Madry et al. 2018): several, from the input."""
    epsilon: Share
    """The most by which a value is changed, in units of the range of values, which nothing leaves."""
    steps: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = None
    """Of pgd; null: 10."""
    step_size: Annotated[Share | None, expect("a number above 0 and at most 1, or null")] = None
    """Of pgd, in the same units; null: 2.5·`epsilon`/`steps`, as Madry et al. 2018."""

    @property
    def attacks(self) -> bool:
        return True

    @property
    def number_of_steps(self) -> int:
        return 1 if self.attack == "fgsm" else self.steps or 10

    @property
    def length_of_step(self) -> float:
        """In units of the range of values."""
        return (
            self.epsilon
            if self.attack == "fgsm"
            else self.step_size or 2.5 * self.epsilon / self.number_of_steps
        )

    @model_validator(mode="after")
    def _one_step(self) -> AdversarialSettings:
        if self.attack == "fgsm" and (self.steps, self.step_size) != (None, None):
            raise ValueError(
                "fgsm goes one step of length epsilon: leave out steps and step_size, or choose pgd"
            )
        return self


class BiasedSampleSettings(CorruptionSettings):
    """A group that is under-represented (Tanno et al. 2022, Fig. 1): some of its examples are taken away.

    What is left is right, so no example is known to be a cause, and none can be found as one. What a repair does for
    the group is measured as it is for noisy classes.
    """

    kind: Literal["biased-sample"] = "biased-sample"
    group: Annotated[
        list[ClassName], Field(min_length=1), expect("a list of classes or attributes, such as ['3']")
    ]
    """By name or number: examples of any of these classes, or that have any of these attributes."""
    kept: Annotated[float, Field(gt=0, lt=1), expect("a number above 0 and below 1")]
    """Share of the group that stays, in training and validation split alike."""

    @property
    def of_classes(self) -> bool:
        return False

    @property
    def known(self) -> bool:
        return False


class FalseFactsSettings(CorruptionSettings):
    """A share of the facts of every relation has another object of the relation, in all sentences that state it."""

    kind: Literal["false-facts"] = "false-facts"
    share: Share


Corruption = Annotated[
    NoCorruptionSettings
    | LabelNoiseSettings
    | AnnotationNoiseSettings
    | InterclassConfusionSettings
    | BackdoorSettings
    | InputNoiseSettings
    | AdversarialSettings
    | BiasedSampleSettings
    | FalseFactsSettings,
    Field(discriminator="kind"),
]


class SeveralSettings(CorruptionSettings):
    """One corruption after the other, each of examples that none before it has corrupted."""

    kind: Literal["several"] = "several"
    names: list[Text]
    each: list[Corruption]

    @property
    def known(self) -> bool:
        return any(one.known for one in self.each)

    @property
    def attacks(self) -> bool:
        return any(one.attacks for one in self.each)

    @property
    def of_classes(self) -> bool:
        return any(one.of_classes for one in self.each)

    @model_validator(mode="after")
    def _go_together(self) -> SeveralSettings:
        if sum(isinstance(one, BackdoorSettings) for one in self.each) > 1:
            raise ValueError(
                f"of the corruptions {listed(self.names)} more than one is a backdoor: its measures are of one "
                "trigger, so name one"
            )
        return self


AnyCorruption = Annotated[Corruption | SeveralSettings, Field(discriminator="kind")]


class CorruptData(Settings):
    """What the stage corrupt-data is given."""

    seed: Seed
    corruption: AnyCorruption
