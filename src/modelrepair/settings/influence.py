"""Settings of influence scores."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelrepair.settings.base import Bytes, Count, Flag, Member, NonNegative, Settings


class ScoreSettings(Member):
    """Of any score.

    Attributes:
        compares: whether it compares the model with and without the failures, so that a posterior update is needed.
        ranks: whether it ranks the training examples at all.
        follows: whether it goes through the base training again, so that states of that must have been kept.
    """

    tag: ClassVar[str] = "score"
    compares: ClassVar[bool] = False
    ranks: ClassVar[bool] = True
    follows: ClassVar[bool] = False

    @property
    def sees(self) -> str:
        """What it looks at beside models and training examples: "failures", "discovery", or nothing."""
        return ""


class LinearSettings(ScoreSettings):
    """The loss change to first order (Koh & Liang 2017)."""

    score: Literal["linear"] = "linear"
    compares: ClassVar[bool] = True
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² that the model was trained with; in the pipeline that of
    `training` unless it is set."""


class LossChangeSettings(ScoreSettings):
    """How much less likely the failures make an example (Tanno et al. 2022)."""

    score: Literal["loss-change"] = "loss-change"
    compares: ClassVar[bool] = True
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² that the model was trained with; in the pipeline that of
    `training` unless it is set."""


class LossSettings(ScoreSettings):
    """The loss at the base model."""

    score: Literal["loss"] = "loss"


class LossAfterSettings(ScoreSettings):
    """The loss at the model with the failures inserted."""

    score: Literal["loss-after"] = "loss-after"
    compares: ClassVar[bool] = True


class MarginSettings(ScoreSettings):
    """The area under the margin (Pleiss et al. 2020)."""

    score: Literal["margin"] = "margin"


class NearestNeighboursSettings(ScoreSettings):
    """Exact Shapley values of a nearest-neighbour classifier on the network's features (Jia et al. 2019)."""

    score: Literal["knn-shapley"] = "knn-shapley"
    neighbours: Count = 5
    """k of the classifier."""
    queries: Literal["failures", "discovery"] = "failures"
    """What the classifier is to get right."""

    @property
    def sees(self) -> str:
        return self.queries


class TrajectorySettings(ScoreSettings):
    """What leaving an example out of each step of the base training would have changed (Hara et al. 2019)."""

    score: Literal["trajectory"] = "trajectory"
    follows: ClassVar[bool] = True
    legacy: Flag = False
    """Divide the Hessian by the size of the batch twice, as the authors' script does; for plain sgd only."""
    memory: Bytes = 2**29
    """Bytes that steps of the training may take; where they are too few, parts of it are gone through again."""

    @property
    def sees(self) -> str:
        return "failures"


class NoScoreSettings(ScoreSettings):
    """None: the causes are given."""

    score: Literal["none"] = "none"
    ranks: ClassVar[bool] = False


Score = Annotated[
    LinearSettings
    | LossAfterSettings
    | LossChangeSettings
    | LossSettings
    | MarginSettings
    | NearestNeighboursSettings
    | NoScoreSettings
    | TrajectorySettings,
    Field(discriminator="score"),
]


class ScoreInfluence(Settings):
    """What the stage score-influence is given."""

    influence: Score
