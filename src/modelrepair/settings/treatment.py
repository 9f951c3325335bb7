"""Settings of treatments."""

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
    Whole,
    expect,
)
from modelrepair.settings.curvature import CurvatureName, FisherTable
from modelrepair.settings.posterior import (
    InsertionSettings,
    OrthogonalGradientsSettings,
    SecondLookSettings,
    Update,
    UpdateSettings,
)
from modelrepair.settings.training import OptimisationSettings, check_goes_through

JudgedBy = Literal["accuracy", "failures"]


class TreatmentSettings(Member):
    """Of any treatment: how its points are judged."""

    tag: ClassVar[str] = "kind"
    relabels: ClassVar[bool] = True
    """Whether it learns the labels that a person gives to causes; if not, it can only remove them."""

    guarded: Annotated[bool | None, expect("true, false or null")] = None
    """Whether the best point by accuracy on discovery is returned, or the last. null: the best, unless the causes are
    given by a request, whose wish it is that a model loses accuracy."""
    tolerance: Proportion = 0.01
    """Share of what the model has right on discovery that a point may break, beside the standard error of that."""
    judged_by: JudgedBy = "accuracy"
    """What the best point is best in, of those within the tolerance. accuracy: on all of discovery. failures: on those
    that the repair is for, as Tanno et al. 2022 stop; the tolerance is then a place on the curve of what is fixed
    against what is broken (their Fig. 5)."""

    @property
    def taught(self) -> list[str]:
        """What it trains on beside the training examples."""
        return []

    @property
    def goes_without_causes(self) -> bool:
        """Whether it repairs where no training example is to blame: it learns what is right from something else."""
        return any(part != "restated" for part in self.taught)

    @model_validator(mode="after")
    def _judges_what_it_did_not_learn(self) -> TreatmentSettings:
        learned = [part for part in self.taught if part in ("discovery", "failures")]
        if self.judged_by == "failures" and learned:
            raise ValueError(
                f"judged_by is failures, and the treatment is taught {learned[0]}, so that it would be judged by what "
                "it has learned: set judged_by to accuracy"
            )
        return self

    @property
    def stiffness(self) -> CurvatureName | None:
        """The curvature that it asks for, if any."""
        return None


class DeleteSettings(TreatmentSettings):
    """Delete the causes from the posterior."""

    kind: Literal["delete"] = "delete"
    posterior: Update
    """The posterior update that deletes."""
    curvature: CurvatureName
    damping: NonNegative
    """λ of the curvature."""
    remaining: Literal["none", "equal"] = "none"
    """equal: as many random remaining examples as there are causes are inserted (Huang et al. 2023, A.3)."""
    curvature_without_causes: Flag = False
    """Measure the curvature on D \\ C, from what was measured on D (Peste et al. 2021, section 3.2)."""

    @property
    def stiffness(self) -> CurvatureName | None:
        return self.curvature

    @model_validator(mode="after")
    def _fits(self) -> DeleteSettings:
        able = [name for name, field in FisherTable.model_fields.items() if field.annotation.forgets]  # type: ignore[union-attr]
        if self.curvature_without_causes and self.curvature not in able:
            raise ValueError(
                f"the curvature {self.curvature} cannot leave out the causes after its fit: choose one of "
                f"{', '.join(able)}, or set curvature_without_causes to false"
            )
        # In Python any posterior update may stand here, whatever it is made of.
        if isinstance(self.posterior, UpdateSettings):
            words = self.posterior.misfit(self.curvature, self.damping)
            if words:
                raise ValueError(words)
        everything = (
            isinstance(self.posterior, OrthogonalGradientsSettings) and self.posterior.directions is None
        )
        if everything and not self.curvature_without_causes:
            raise ValueError(
                "posterior.directions is null, which would protect the causes too: set curvature_without_causes to "
                "true, or give a number of directions"
            )
        return self


Patience = Annotated[Count | None, expect("a whole number of 1 or more, or null")]


class DescentSettings(TreatmentSettings):
    """Of treatments that train."""

    learning_rate: Positive = 1e-3
    """Of Adam."""
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² on the mean loss; in the pipeline that of `training` unless it is set, so
    that the treated model solves the base model's problem."""
    batch_size: Count = 64
    patience: Patience = None
    """Stop after this many epochs without a better accuracy on discovery; null never stops early."""


Taught = Literal["discovery", "failures", "remaining", "reserved", "restated"]


class TeachingSettings(TreatmentSettings):
    """Of treatments that choose what they train on."""

    trains_on: list[Taught] = Field(default=["remaining"])
    """remaining: the training examples without the causes. failures: those that the repair is for. discovery: four
    fifths of it, right and wrong ones; the rest judges. reserved: the examples that were set aside as clean. restated:
    of sentences that state facts, those causes that state one of the failures', with the right object."""

    @model_validator(mode="after")
    def _once(self) -> TeachingSettings:
        if not self.trains_on:
            raise ValueError(
                "trains_on is empty: name at least one of discovery, failures, remaining, reserved, restated"
            )
        if len(set(self.trains_on)) < len(self.trains_on):
            raise ValueError("trains_on names something twice: name each once")
        if {"discovery", "failures"} <= set(self.trains_on):
            raise ValueError("trains_on names discovery and failures, which are part of it: name one of them")
        return self

    @property
    def taught(self) -> list[str]:
        return [part for part in self.trains_on if part != "remaining"]


class TrainingOnSettings(OptimisationSettings, TeachingSettings):
    """Of treatments that train as the base was trained, in the pipeline, unless they are told otherwise."""

    epochs: Count
    """Over which the rate changes, where the schedule changes it."""
    patience: Patience = None
    """Stop after this many epochs without a better accuracy on discovery; null never stops early."""

    @model_validator(mode="after")
    def _goes_through(self) -> TrainingOnSettings:
        check_goes_through(self.schedule, self.patience)
        return self


class FineTuneSettings(TrainingOnSettings):
    """Train on without the causes."""

    kind: Literal["fine-tune"] = "fine-tune"
    epochs: Count = 10
    remaining: Literal["all", "equal"] = "all"
    """all of D \\ C, or as many random ones as there are causes."""
    layers: Annotated[
        Annotated[list[Text], Field(min_length=1)] | None,
        expect("a list of paths of layers, such as [layers.0, output], or null for all"),
    ] = None
    """Paths of the layers that are trained, within the network; null for all."""
    anchor: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ − θ̂‖² on the mean loss."""

    @model_validator(mode="after")
    def _remains(self) -> FineTuneSettings:
        if self.remaining == "equal" and "remaining" not in self.trains_on:
            raise ValueError(
                "remaining is 'equal', and trains_on leaves the remaining out: leave out one of the two"
            )
        return self


class JudgedSettings(TreatmentSettings):
    """Of treatments that ask a model with evidence of what is right inserted into its posterior."""

    judge: InsertionSettings
    """How that model is made."""

    @property
    def taught(self) -> list[str]:
        return [] if self.judge.evidence == "nothing" else [self.judge.evidence]

    @property
    def stiffness(self) -> CurvatureName | None:
        return self.judge.curvature

    @model_validator(mode="after")
    def _judges(self) -> JudgedSettings:
        if not self.judge.posterior.inserts:
            raise ValueError(
                f"judge.posterior.update is {self.judge.posterior.chosen}, which inserts nothing that is right: choose "
                "another posterior update"
            )
        return self


class InsertSettings(JudgedSettings):
    """The judge itself: the model with what is right inserted, whatever the causes are."""

    kind: Literal["insert"] = "insert"
    relabels: ClassVar[bool] = False


class MendSettings(TeachingSettings):
    """Train on, on what is right and on what is believed of the rest."""

    kind: Literal["mend"] = "mend"
    trains_on: list[Taught] = Field(default=["remaining", "failures"])
    """See `TeachingSettings`."""
    posterior: SecondLookSettings = SecondLookSettings()
    """How what is believed is found out."""


class RetrainSettings(TrainingOnSettings):
    """Train from scratch without the causes."""

    kind: Literal["retrain"] = "retrain"
    epochs: Count = 40
    """In the pipeline as many as the base training goes through, where it never stops early, unless it is set."""


class ScrubSettings(TreatmentSettings):
    """Noise where the remaining examples need no precision (Golatkar et al. 2020)."""

    kind: Literal["scrub"] = "scrub"
    relabels: ClassVar[bool] = False
    alpha: Positive = 3e-6
    """How much noise."""
    cap: Positive = 1e3
    """The largest 1/F̂ⱼ that counts."""
    points: Count = 20
    """Equal parts of the noise that are tried."""


class DampenSettings(TreatmentSettings):
    """Selective synaptic dampening: parameters that the causes need more than the whole do (Foster et al. 2024)."""

    kind: Literal["dampen"] = "dampen"
    relabels: ClassVar[bool] = False
    alpha: Positive = 1.0
    """A parameter is dampened if its importance to the causes is above α times that to all training examples."""
    strength: Positive = 3.0
    """λ: a dampened parameter is multiplied by λ times the second importance over the first, and by no more than 1."""
    points: Count = 20
    """Equal parts of the dampening that are tried; where nobody watches, only the whole is."""


class ContrastSettings(DescentSettings):
    """Of treatments that learn what remains and unlearn the causes, side by side."""

    relabels: ClassVar[bool] = False

    epochs: Count = 10
    """Passes through what remains."""
    bounded: Flag = True
    """A cause stops counting once what is unlearned of it is no likelier than a guess; false as published."""


class NegativeGradientSettings(ContrastSettings):
    """NegGrad+: descend on what remains, ascend on the causes (Kurmanji et al. 2023)."""

    kind: Literal["negative-gradient"] = "negative-gradient"
    beta: Proportion = 0.99
    """Weight β of the loss on what remains; that of the causes is 1 − β."""


class DistilSettings(ContrastSettings):
    """SCRUB: stay with the given model on what remains, depart from it on the causes (Kurmanji et al. 2023)."""

    kind: Literal["distil"] = "distil"
    departures: Count = 3
    """Epochs that begin with a pass through the causes; those after them only mend what that broke."""
    divergence: NonNegative = 0.1
    """α, weight of the divergence from the given model on what remains."""
    loss: NonNegative = 1.0
    """γ, weight of the loss on what remains."""


class RelabellingSettings(DescentSettings):
    """Of treatments that train on, with other labels for the causes."""

    epochs: Count = 10
    remaining: Literal["all", "equal"] = "all"
    """all of D \\ C, or as many random ones as there are causes."""


class ComplementaryLabelsSettings(RelabellingSettings):
    """The causes are anything but what they are called: the relabelling of RDIA (Kong et al. 2022)."""

    kind: Literal["complementary-labels"] = "complementary-labels"


class RandomLabelsSettings(RelabellingSettings):
    """SalUn: random other labels, learned by the parameters that the causes' loss is steepest in (Fan et al. 2024)."""

    kind: Literal["random-labels"] = "random-labels"
    salient: Share = 0.5
    """Share of the parameters that are trained; 1 trains all of them."""


class AlignSettings(RelabellingSettings, JudgedSettings):
    """The causes become what a model that knows better thinks that they should be (Huang et al. 2023)."""

    kind: Literal["align"] = "align"
    step: NonNegative = 1.0
    """η, how far an input goes down the judge's energy, in units of the input: byte images count from 0 to 1. 0 leaves
    inputs as they are, and corrects labels alone."""

    @property
    def goes_without_causes(self) -> bool:
        return False


class SelectorSettings(Settings):
    """For which inputs an addition answers: those like what it was taught (Lee et al. 2022)."""

    layer: Annotated[Whole | None, expect("the number of a layer, from 0, or null")] = None
    """Inputs are compared by the mean of the states that enter this layer; null: the middle one."""
    threshold: Annotated[float, Field(gt=-1, lt=1), expect("a number above -1 and below 1")] = 0.9
    """δ, the least cosine with something that was taught."""


class LessonSettings(TreatmentSettings):
    """Of treatments that teach the failures in some place of the network, and leave the rest as it is."""

    wordings: Literal["query", "causes"] = "causes"
    """What is taught. query: the failures. causes: also those causes that state a fact of theirs, with the right
    object, where the data say which fact a sentence states."""

    @property
    def taught(self) -> list[str]:
        return ["failures"]

    @property
    def needs_room(self) -> dict[str, int]:
        """Sites of a network at which it sits, with the number of the deepest layer that is asked for, from 0."""
        return {}


class EditorSettings(LessonSettings):
    """Of treatments that teach the failures to an addition and leave the network as it is."""

    retention: NonNegative = 1.0
    """Weight of the divergence KL(before ‖ after) on training examples that have nothing to do with the failures: of
    sentences, those of other facts, elsewhere those that are no causes; 0: none."""
    learning_rate: Positive = 3e-3
    """Of Adam, at first: it falls to 0 by half a cosine."""
    steps: Count = 600
    looks: Count = 10
    """Points at which accuracy on discovery is looked at, the last after all steps."""
    batch_size: Count = 64
    """Of what is taught and, as many again, of what is retained."""
    selector: SelectorSettings | None = None
    """For which inputs the addition answers; null: for all."""
    updates: Count = 1
    """In so many parts the failures are taught, one after another, each by an addition of its own beside those before
    it; what a part teaches is not shown again."""

    @property
    def needs_room(self) -> dict[str, int]:
        return {} if self.selector is None else {"states": self.selector.layer or 0}

    @model_validator(mode="after")
    def _looks(self) -> EditorSettings:
        if self.steps % self.looks:
            raise ValueError(
                f"steps is {self.steps} and looks is {self.looks}, between which there are as many steps each: make "
                "steps a multiple of looks"
            )
        return self


class SlotsSettings(EditorSettings):
    """CALINET: slots beside a two-layer network (Dong et al. 2022)."""

    kind: Literal["memory-slots"] = "memory-slots"
    slots: Count = 256
    """d_c."""
    layer: Annotated[Whole | None, expect("the number of a layer, from 0, or null")] = None
    """Beside whose network they sit; null: the last."""
    learning_rate: Positive = 5e-3

    @property
    def needs_room(self) -> dict[str, int]:
        return {**super().needs_room, "feed-forward": self.layer or 0}


class LowRankSettings(EditorSettings):
    """LoRA on queries, values and both layers of the two-layer networks (Lee et al. 2022)."""

    kind: Literal["low-rank"] = "low-rank"
    rank: Count = 8
    """r."""
    scale: Positive = 4.0
    """By what the products are multiplied, α/r."""

    @property
    def needs_room(self) -> dict[str, int]:
        return {
            **super().needs_room,
            **dict.fromkeys(("query", "value", "feed-forward-in", "feed-forward-out"), 0),
        }


class StateAdaptersSettings(EditorSettings):
    """K-adapter: small transformers fed by hidden states of three depths (Lee et al. 2022)."""

    kind: Literal["state-adapters"] = "state-adapters"
    heads: Count = 4
    """Of attention in the adapters."""
    learning_rate: Positive = 1e-3

    @property
    def needs_room(self) -> dict[str, int]:
        return {"states": 0, **super().needs_room, "answer": 0}


class ClosedFormSettings(LessonSettings):
    """MEMIT: the second matrix of a two-layer network, moved by one solve (Meng et al. 2023)."""

    kind: Literal["closed-form"] = "closed-form"
    layer: Annotated[Whole | None, expect("the number of a layer, from 0, or null")] = None
    """Of which two-layer network the matrix is; null: of the last."""
    edits: Literal["sequential", "together"] = "together"
    """sequential: fact after fact, each from where the last has led. together: all by one solve."""
    covariance: Positive = 10.0
    """λ, weight of what is to stay beside what is taught: of the mean over the former, and the sum over the latter."""
    norm: NonNegative = 0.02
    """ν, what a large residual costs."""
    steps: Count = 100
    """Of Adam, for the residuals."""
    learning_rate: Positive = 0.1
    points: Count = 10
    """Points on the way that are looked at; where nobody watches, only the last is made."""

    @property
    def needs_room(self) -> dict[str, int]:
        return {"feed-forward": self.layer or 0}


class EditorTrainingSettings(Settings):
    """How the hyper-network of a knowledge editor is made and trained (De Cao et al. 2021)."""

    memory: Count = 64
    """Numbers of its LSTM in each direction; 128 as published."""
    condition: Count = 256
    """Numbers of what is read of an edit; 1024 as published."""
    hidden: Count = 64
    """Width of the networks that make each matrix's gates; 128 as published."""
    scale: Positive = 1.0
    """The largest strength of a shift."""
    at_once: Count = 16
    """Edits whose shifts are summed in each step of its training. 1 as published, for edits that stay single: only one
    that has learned several at once makes edits that can be summed, or follow each other."""
    views: Flag = True
    """Whether another wording of each edit is taught with it (P^x)."""
    others: Count = 48
    """Sentences of other facts in each step, half of them of the edits' relations (O^x)."""
    learning_rate: Positive = 3e-3
    """Of RMSprop, centred."""
    warm_up: Whole = 20
    """Steps over which the rate rises."""
    rounds: Count = 6
    """After each of which edits are tried, and the margin shrinks if they succeed."""
    steps: Count = 100
    """Of each round."""
    margin: Positive = 1e-2
    """m of the first round: how far answers to other sentences may move, in nats."""
    least_margin: Positive = 1e-3
    """Below which m does not shrink."""
    multiplier_rate: Positive = 0.3
    """By how much of the difference from m the multiplier moves in each step."""
    tried: Count = 64
    """Facts that are tried after each round instead of learned from."""


class KnowledgeEditorSettings(TreatmentSettings):
    """Edit the failures, which are facts, by a hyper-network that has learned to on others (De Cao et al. 2021)."""

    kind: Literal["knowledge-editor"] = "knowledge-editor"
    relabels: ClassVar[bool] = False
    edits: Literal["sequential", "together"] = "together"
    """sequential: one after another, each from where the last has led. together: all shifts in one sum."""
    loops: Count = 5
    """How often at most an edit that has not taken is made again, from where the model then is."""
    points: Count = 10
    """Points that are looked at on the way of each loop, or of all edits that come one after another."""
    training: EditorTrainingSettings = EditorTrainingSettings()
    """Of the hyper-network."""

    @property
    def taught(self) -> list[str]:
        return ["failures"]


Treatment = Annotated[
    AlignSettings
    | ClosedFormSettings
    | ComplementaryLabelsSettings
    | DampenSettings
    | DeleteSettings
    | DistilSettings
    | FineTuneSettings
    | InsertSettings
    | KnowledgeEditorSettings
    | LowRankSettings
    | MendSettings
    | NegativeGradientSettings
    | RandomLabelsSettings
    | RetrainSettings
    | ScrubSettings
    | SlotsSettings
    | StateAdaptersSettings,
    Field(discriminator="kind"),
]


class Treat(Settings):
    """What the stage treat is given."""

    seed: Seed
    treatment: Treatment
