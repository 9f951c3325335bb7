"""Settings of posterior updates, and of how failures are inserted with one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from modelrepair.settings.base import (
    Count,
    Flag,
    Member,
    NonNegative,
    Positive,
    Seed,
    Settings,
    Text,
    expect,
)
from modelrepair.settings.curvature import CurvatureName


class UpdateSettings(Member):
    """Of any posterior update.

    Attributes:
        stiff: whether the posterior is held as its mode and a curvature there.
        inserts: whether it inserts the failures at all.
        alone: whether it inserts each training example by itself.
    """

    tag: ClassVar[str] = "update"
    stiff: ClassVar[bool] = True
    inserts: ClassVar[bool] = True
    alone: ClassVar[bool] = False


class EwcSettings(UpdateSettings):
    """Elastic weight consolidation (Tanno et al. 2022)."""

    update: Literal["ewc"] = "ewc"
    learning_rate: Positive = 1e-3
    """Of Adam."""
    rounds: Count = 50
    """Passes through the evidence."""
    batch_size: Count = 500
    """Examples of evidence in a step."""
    points: Count = 20
    """Equal parts of the way from θ̂ to where the climb ends that are tried; where nobody watches, only the end is."""
    bounded: Flag = True
    """A deleted example stops counting once it is no likelier than a guess; false for Eq. 17 as it is printed."""


class NaturalGradientSettings(UpdateSettings):
    """One step of the natural gradient: Newton removal, linear influence, SSSE (Peste et al. 2021)."""

    update: Literal["natural-gradient"] = "natural-gradient"
    epsilon: Positive = 1.0
    """Length of the step in units of the full Newton step."""
    points: Count = 20
    """Equal parts of the step that are tried; where nobody watches, the whole step is taken."""
    gradient: Literal["removed", "kept"] = "removed"
    """Sum over the evidence, or over the training examples that stay (Peste et al. 2021, section 5.3)."""
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² that the model was trained with; in the pipeline that of
    `training` unless it is set."""


class SecondLookSettings(UpdateSettings):
    """Training on, on the failures and on what is believed of the training data (after Shen & Sanghavi 2019)."""

    update: Literal["second-look"] = "second-look"
    stiff: ClassVar[bool] = False
    learning_rate: Positive = 1e-3
    """Of Adam."""
    looks: Count = 12
    """Passes through what is believed; what that is, is judged anew before each."""
    memory: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.7
    """Share that the judge keeps of itself in each look; the rest is the look's last point."""
    batch_size: Count = 64
    """Examples in a step."""
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² on the mean loss; in the pipeline that of `training` unless it is set."""


class LayerSelectiveSettings(UpdateSettings):
    """Training of those layers that learn the evidence best (Huang et al. 2023)."""

    update: Literal["layer-selective"] = "layer-selective"
    stiff: ClassVar[bool] = False
    learning_rate: Positive = 1e-3
    """Of Adam."""
    rounds: Count = 100
    """At most this many passes through the evidence."""
    patience: Count = 5
    """Passes without a lower loss on the evidence after which the training stops."""
    batch_size: Count = 16
    """Examples of evidence in a step."""
    points: Count = 20
    """Equal parts of the way from θ̂ to where the training ends that are tried; unwatched, only the end is."""
    candidates: Annotated[
        list[Annotated[list[Text], Field(min_length=1)]] | None,
        Field(min_length=1),
        expect("a list of lists of layers' names, or null"),
    ] = None
    """Subsets of layers to choose from, by names of the network's top-level parts, such as [[conv1], [conv1, conv2]].
    null: each layer alone, the first two, the first three, and all."""


class NoUpdateSettings(UpdateSettings):
    """Nothing is inserted: for scores that look at the base model alone."""

    update: Literal["none"] = "none"
    stiff: ClassVar[bool] = False
    inserts: ClassVar[bool] = False


class EachAloneSettings(UpdateSettings):
    """Each training example is inserted once more, by itself: for scores that look at no failures."""

    update: Literal["each-alone"] = "each-alone"
    inserts: ClassVar[bool] = False
    alone: ClassVar[bool] = True


Update = Annotated[EwcSettings | NaturalGradientSettings, Field(discriminator="update")]


class InsertionSettings(Settings):
    """How the failures, or other evidence of what is right, are inserted into the posterior."""

    posterior: Annotated[
        EachAloneSettings
        | EwcSettings
        | LayerSelectiveSettings
        | NaturalGradientSettings
        | NoUpdateSettings
        | SecondLookSettings,
        Field(discriminator="update"),
    ]
    """The posterior update; `update: none` where the score needs none."""
    curvature: CurvatureName | None = None
    """How stiff the posterior is."""
    damping: Annotated[NonNegative | None, expect("a number of 0 or more")] = None
    """λ of the curvature."""
    balance_classes: Flag = True
    """Whether every class among the evidence counts alike."""
    evidence: Literal["failures", "reserved"] = "failures"
    """What is inserted: the failures, or the examples that were set aside as clean."""

    @model_validator(mode="after")
    def _fits(self) -> InsertionSettings:
        needed = [name for name in ("curvature", "damping") if getattr(self, name) is None]
        if not self.posterior.stiff:
            if len(needed) < 2:
                raise ValueError(
                    f"with posterior.update {self.posterior.chosen} no curvature is used: leave curvature and damping "
                    "out"
                )
        elif needed:
            raise ValueError(
                f"the posterior update {self.posterior.chosen} needs {' and '.join(needed)}: add it"
            )
        if isinstance(self.posterior, NaturalGradientSettings) and self.posterior.gradient == "kept":
            raise ValueError(
                "posterior.gradient is 'kept', which is for deletions: failures are inserted with gradient removed"
            )
        if isinstance(self.posterior, NaturalGradientSettings) and self.posterior.weight_decay:
            raise ValueError(
                "posterior.weight_decay is for deletions: failures are judged, and inserted, without a penalty: give 0"
            )
        return self

    @property
    def insertion(self) -> tuple[CurvatureName, float] | None:
        """Name and damping of the curvature, where the posterior update uses one."""
        return None if self.curvature is None or self.damping is None else (self.curvature, self.damping)


class UpdatePosterior(InsertionSettings):
    """What the stage update-posterior is given."""

    seed: Seed
