"""Settings of posterior updates, and of how failures are inserted with one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from modelrepair.settings import (
    Count,
    Flag,
    Member,
    NonNegative,
    Positive,
    Proportion,
    Seed,
    Settings,
    Share,
    Text,
    expect,
)
from modelrepair.settings.curvature import CurvatureName
from modelrepair.settings.training import OptimisationSettings


class UpdateSettings(Member):
    """Of any posterior update.

    Attributes:
        stiff: whether the posterior is held as its mode and a curvature there.
        inserts: whether it inserts the failures at all.
        alone: whether it inserts each training example by itself.
        spreads: whether it leaves a distribution over parameters, for scores that are expectations.
        judges: whether it judges training examples, and asks by labelled ones outside training what that is worth.
    """

    tag: ClassVar[str] = "update"
    stiff: ClassVar[bool] = True
    inserts: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    spreads: ClassVar[bool] = False
    judges: ClassVar[bool] = False

    @property
    def of_classes(self) -> bool:
        """Whether it needs examples with one class each."""
        return False

    def misfit(self, curvature: CurvatureName, damping: float) -> str | None:
        """What is wrong with holding the posterior by this curvature, in words."""
        return None


class ClimbSettings(UpdateSettings):
    """Of updates that climb by stochastic gradients to the mode of the edited posterior."""

    update: str
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


class EwcSettings(ClimbSettings):
    """Elastic weight consolidation (Tanno et al. 2022)."""

    update: Literal["ewc"] = "ewc"


class MeanFieldSettings(ClimbSettings):
    """Of updates that carry on a precision for each parameter, and so need a curvature that is nothing else."""

    spreads: ClassVar[bool] = True
    batches: Count = 1
    """Pieces in which the evidence comes, in order: as many repairs, each from the posterior that the last one left."""

    def misfit(self, curvature: CurvatureName, damping: float) -> str | None:
        if curvature not in ("diagonal", "identity"):
            return (
                f"the posterior update {self.chosen} carries on a precision for each parameter alone, and the "
                f"curvature is {curvature}: choose diagonal or identity"
            )
        if not damping:
            return (
                f"damping is 0, and the posterior update {self.chosen} needs a precision above 0 for every parameter, "
                "also of units that never answer: give a damping above 0"
            )
        return None


class OnlineEwcSettings(MeanFieldSettings):
    """Elastic weight consolidation, piece after piece, with the stiffness carried on (Schwarz et al. 2018)."""

    update: Literal["online-ewc"] = "online-ewc"
    batches: Count = 2
    gamma: Share = 1.0
    """γ, the share of the precision that is remembered from one piece to the next."""
    fisher: Literal["empirical", "expected"] = "empirical"
    """Of the targets as given, as the curvature is, or of those that the model expects."""


class VariationalSettings(MeanFieldSettings):
    """A Gaussian for each parameter, fitted by Monte Carlo (Nguyen et al. 2018)."""

    update: Literal["variational"] = "variational"
    samples: Count = 1
    """Pairs of parameters drawn for each step."""
    temperature: Positive = 1.0
    """T of the posterior: 1 for Bayes' rule, less for one that is surer of every parameter."""


class OrthogonalGradientsSettings(ClimbSettings):
    """Gradient descent that training examples do not feel (Farajtabar et al. 2020)."""

    update: Literal["orthogonal-gradients"] = "orthogonal-gradients"
    learning_rate: Positive = 1e-2
    """Of gradient descent with momentum 0.9."""
    directions: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = 200
    """Random training examples whose outputs are protected; null for all, of which the curvature gram knows."""
    protects: Literal["logit", "log-likelihood"] = "logit"
    """Of each: the logit of the given class, or log p. With directions null it is log p."""

    @property
    def of_classes(self) -> bool:
        return self.protects == "logit" and self.directions is not None

    def misfit(self, curvature: CurvatureName, damping: float) -> str | None:
        if self.directions is None and curvature != "gram":
            return (
                "posterior.directions is null, which protects all examples that the curvature gram was fitted to, and "
                f"the curvature is {curvature}: choose gram, or give a number of directions"
            )
        return None


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


class SecondLookSettings(OptimisationSettings, UpdateSettings):
    """Training on, on the failures and on what is believed of the training data (after Shen & Sanghavi 2019)."""

    update: Literal["second-look"] = "second-look"
    stiff: ClassVar[bool] = False
    judges: ClassVar[bool] = True
    passes: ClassVar[str] = "looks"
    pace: Positive = 1.0
    """In the pipeline, where the learning rate is that of `training`: how many times as long the steps are as with that
    rate or, if it changes, with a third of its highest. A rate that does not change is a third of that, or of that a
    third, if the first look would raise the loss. One that changes rises before it falls, and so does the loss."""
    looks: Count = 12
    """Passes through what is believed; what that is, is judged anew before each."""
    memory: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.7
    """Share that the judge keeps of itself in each look; the rest is the look's last point."""
    least: Proportion = 0.5
    """Share of the training examples that is believed in any case: those whose labels the judge finds likeliest. Apart
    from these, an identification believes no larger a share than of discovery; and a treatment believes more, where its
    judge errs on discovery as often as it doubts the others."""
    share: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.2
    """Share of what a look trains on that the inserted examples are at least: few are repeated until they are."""
    repeats: Annotated[Count, expect("a whole number of 1 or more")] = 10
    """Each inserted example comes at most so often in a look, even if they stay a smaller share: more often, a handful
    would be learned by heart, and nothing of what they have in common."""


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


Update = Annotated[
    EwcSettings
    | NaturalGradientSettings
    | OnlineEwcSettings
    | OrthogonalGradientsSettings
    | VariationalSettings,
    Field(discriminator="update"),
]


class InsertionSettings(Settings):
    """How the failures, or other evidence of what is right, are inserted into the posterior."""

    posterior: Annotated[
        EachAloneSettings
        | EwcSettings
        | LayerSelectiveSettings
        | NaturalGradientSettings
        | NoUpdateSettings
        | OnlineEwcSettings
        | OrthogonalGradientsSettings
        | SecondLookSettings
        | VariationalSettings,
        Field(discriminator="update"),
    ]
    """The posterior update; `update: none` where the score needs none."""
    curvature: CurvatureName | None = None
    """How stiff the posterior is."""
    damping: Annotated[NonNegative | None, expect("a number of 0 or more")] = None
    """λ of the curvature."""
    balance_classes: Flag = True
    """Whether every class among the evidence counts alike."""
    evidence: Literal["failures", "nothing", "reserved"] = "failures"
    """What is inserted: the failures, the examples that were set aside as clean, or, for a second look, nothing."""

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
        if self.insertion and (words := self.posterior.misfit(*self.insertion)):
            raise ValueError(words)
        if self.evidence == "nothing" and not isinstance(self.posterior, SecondLookSettings):
            raise ValueError(
                f"evidence is 'nothing', and the posterior update {self.posterior.chosen} has nothing else to go by: "
                "choose failures or reserved, or the update second-look"
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
