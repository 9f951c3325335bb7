"""Settings of the base model and of how it is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from modelrepair.settings.base import Count, Flag, NonNegative, Positive, Seed, Settings, Text, Whole, expect


class ModelSettings(Settings):
    """The network."""

    network: Text
    """A module of `networks/`."""
    options: Annotated[dict[str, Any], expect("a section, {} for none")] = Field(default={})
    """Of the network, such as `bias: true` for linear."""


class TrainingSettings(Settings):
    """How the base model is trained."""

    optimiser: Literal["adam", "sgd"] = "adam"
    """sgd has the `momentum`; adam has its own."""
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² on the mean loss."""
    momentum: Annotated[float, Field(ge=0, lt=1), expect("a number of 0 or more, below 1")] = 0.9
    """Of sgd: share of its last step that a step keeps."""
    batch_size: Count = 64
    epochs: Count = 100
    """At most this many."""
    patience: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = 5
    """Epochs without progress on the (equally noisy) validation split; null never stops early."""
    checkpoints: Whole = 16
    """At most this many states of the training are kept, from which the score `trajectory` goes through it again;
    0 for none."""

    @property
    def descent(self) -> dict[str, Any]:
        """What `training.descent.Descent` is made of, by its names."""
        same = ("optimiser", "learning_rate", "weight_decay", "momentum", "patience")
        return {"rounds": self.epochs, **{name: getattr(self, name) for name in same}}


class TrainBase(Settings):
    """What the stage train-base is given."""

    seed: Seed
    model: ModelSettings
    training: TrainingSettings


class TrainVictim(TrainBase):
    """What the stage train-victim is given; always the same where no victim is needed."""

    needed: Flag
