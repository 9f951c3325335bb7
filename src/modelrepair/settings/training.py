"""Settings of the base model and of how it is trained."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from modelrepair.errors import refuse_pickle
from modelrepair.settings import Count, Flag, NonNegative, Positive, Seed, Settings, Text, Whole, expect


class ModelSettings(Settings):
    """The network."""

    network: Text
    """A module of `networks/`."""
    options: Annotated[dict[str, Any], expect("a section, {} for none")] = Field(default={})
    """Of the network, such as `bias: true` for linear."""
    pretrained: Annotated[Text | None, expect("a file, a name of weights, or null")] = None
    """Weights to begin from: a file in the folder `weights`, safetensors; or, of a classifier of torchvision, the name
    that torchvision has for some, such as IMAGENET1K_V1, which are downloaded; or, of the network transformers,
    published, for those in its folder. Null: random ones, by the seed."""
    trained: Flag = False
    """Whether those weights are the model as it is, which is then not trained."""

    @property
    def from_file(self) -> bool:
        """Whether the weights to begin from are in a file."""
        return self.pretrained is not None and self.pretrained.endswith(".safetensors")

    @model_validator(mode="after")
    def _has_weights(self) -> ModelSettings:
        if self.pretrained is not None:
            refuse_pickle(self.pretrained)
        if self.trained and self.pretrained is None:
            raise ValueError(
                "trained is true, and pretrained null names no weights: give the file of the trained model's, or set "
                "trained to false"
            )
        return self


class OptimisationSettings(Settings):
    """How a network is trained, whatever for; of what trains it anew or goes on, as in `training` unless it is set.

    Attributes:
        passes: the name of the setting that says over how many epochs the rate changes.
    """

    passes: ClassVar[str] = "epochs"
    optimiser: Literal["adam", "sgd"] = "adam"
    """sgd has the `momentum`; adam has its own."""
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² on the mean loss."""
    momentum: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.9
    """Of sgd: share of its last step that a step keeps."""
    nesterov: Flag = False
    """Of sgd: Nesterov's momentum."""
    schedule: Literal["constant", "cosine", "one-cycle", "steps"] = "constant"
    """How the learning rate changes from step to step over all epochs: not at all; down to 0 by half a cosine; up to
    `learning_rate` and down again; or to a tenth after each of `drops`."""
    warm_up: Annotated[
        Annotated[float, Field(ge=0, lt=float("inf"))] | None,
        expect("a number of epochs of 0 or more, or null"),
    ] = None
    """Epochs over which the learning rate rises; null: none, and of one-cycle three tenths of all."""
    drops: list[Count] = Field(default=[])
    """Of steps: the epochs after which the learning rate falls to a tenth."""
    batch_size: Count = 64
    """Examples in a step."""
    crop: Annotated[int, Field(ge=0, lt=2**15), expect("a whole number of pixels of 0 or more")] = 0
    """In every epoch each image is shifted by up to so many pixels at random."""
    flip: Flag = False
    """In every epoch each image is mirrored left to right or not, at random."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of products while the network is trained; all else, and every curvature and score, is in float32."""
    channels_last: Flag = False
    """Images and weights lie in memory with the channels last while the network is trained."""

    @model_validator(mode="after")
    def _is_a_way(self) -> OptimisationSettings:
        if self.nesterov and not (self.optimiser == "sgd" and self.momentum):
            raise ValueError(
                f"nesterov is of sgd with momentum, and optimiser is {self.optimiser} with momentum {self.momentum}: "
                "leave it false, or set optimiser to sgd"
            )
        if bool(self.drops) != (self.schedule == "steps") or self.drops != sorted(set(self.drops)):
            raise ValueError(
                f"drops are {self.drops} with the schedule {self.schedule}: give steps some epochs in ascending order, "
                "and the others none"
            )
        return self


def check_goes_through(schedule: str, patience: int | None) -> None:
    """Whether a rate that changes over all epochs can do so.

    Raises:
        ValueError: if the training may end before.
    """
    if schedule != "constant" and patience is not None:
        raise ValueError(
            f"the schedule {schedule} is over all epochs, and patience {patience} may end the training before: set "
            "patience to null"
        )


class TrainingSettings(OptimisationSettings):
    """How the base model is trained."""

    parts: Count = 1
    """Into so many parts each step's batch is cut, and processes that work together share them; 1: each of them takes
    the whole step. The result depends on the parts, and not on how many processes there are."""
    epochs: Count = 100
    """At most this many."""
    patience: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = 5
    """Epochs without progress on the (equally noisy) validation split; null never stops early."""
    keep: Literal["best", "last"] = "best"
    """The epoch that is the model: the one with the lowest loss on the validation split, or the last."""
    margins: Literal["after", "during"] = "after"
    """How far the given labels lead, in each epoch: in the model after it, by a pass of its own; or in the step that
    trains on the example, at no cost."""
    checkpoints: Whole = 16
    """At most this many states of the training are kept, from which the score `trajectory` goes through it again;
    0 for none."""

    def over(self, epochs: int) -> dict[str, Any]:
        """The values of a training of so many epochs in which the rate goes through what it does in this one."""
        share = epochs / self.epochs
        return {
            **{name: getattr(self, name) for name in OptimisationSettings.model_fields},
            "warm_up": None if self.warm_up is None else self.warm_up * share,
            "drops": sorted({max(1, round(drop * share)) for drop in self.drops}),
        }

    @model_validator(mode="after")
    def _goes_together(self) -> TrainingSettings:
        check_goes_through(self.schedule, self.patience)
        if self.parts > self.batch_size:
            raise ValueError(
                f"parts is {self.parts}, and a step's batch has {self.batch_size} examples: give at most as many parts"
            )
        if self.warm_up is not None and self.warm_up >= self.epochs:
            raise ValueError(
                f"warm_up is {self.warm_up:g} of {self.epochs} epochs: give fewer than there are"
            )
        return self


class TrainBase(Settings):
    """What the stage train-base is given."""

    seed: Seed
    model: ModelSettings
    training: TrainingSettings


class TrainVictim(TrainBase):
    """What the stage train-victim is given; always the same where no victim is needed."""

    needed: Flag
