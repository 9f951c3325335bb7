"""Settings of influence scores."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelrepair.settings import (
    Bytes,
    Count,
    Flag,
    Member,
    NonNegative,
    Positive,
    Seed,
    Settings,
    expect,
)
from modelrepair.settings.training import OptimisationSettings


class ScoreSettings(Member):
    """Of any score.

    Attributes:
        compares: whether it compares the model with and without the failures, so that a posterior update is needed.
        alone: whether it is made of each training example's own posterior update.
        averages: whether it averages over a posterior, of which a mode is not enough.
        ranks: whether it ranks the training examples at all.
        unit: what its numbers are.
        even_odds: whether a score s says that the given target is wrong with a probability of 1 − ½e⁻ˢ.
        follows: whether it goes through the base training again, so that states of that must have been kept.
        lasts: whether it may take long, so that its progress is kept.
        starts: whether it starts from causes that are known beforehand.
        of_classes: whether it needs examples with one class each.
    """

    tag: ClassVar[str] = "score"
    compares: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    ranks: ClassVar[bool] = True
    unit: ClassVar[str]
    even_odds: ClassVar[bool] = False
    follows: ClassVar[bool] = False
    lasts: ClassVar[bool] = False
    starts: ClassVar[bool] = False
    of_classes: ClassVar[bool] = False

    @property
    def sees(self) -> str:
        """What it looks at beside models and training examples: "failures", "discovery", or nothing."""
        return ""


class ConfidentLearningSettings(OptimisationSettings, ScoreSettings):
    """How far the given label falls behind in networks that were trained without it (Northcutt et al. 2021)."""

    score: Literal["confident-learning"] = "confident-learning"
    unit: ClassVar[str] = "probability"
    of_classes: ClassVar[bool] = True
    folds: Annotated[int, Field(ge=2, lt=2**31), expect("a whole number of 2 or more")] = 5
    """Parts of the training data; each is judged by a network that was trained on the others."""
    epochs: Count = 10
    """Over which the rate changes, where the schedule changes it."""


class LinearSettings(ScoreSettings):
    """The loss change to first order (Koh & Liang 2017)."""

    score: Literal["linear"] = "linear"
    compares: ClassVar[bool] = True
    unit: ClassVar[str] = "nats"
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² that the model was trained with; in the pipeline that of
    `training` unless it is set."""


class LossChangeSettings(ScoreSettings):
    """How much less likely the failures make an example (Tanno et al. 2022)."""

    score: Literal["loss-change"] = "loss-change"
    compares: ClassVar[bool] = True
    unit: ClassVar[str] = "nats"
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² that the model was trained with; in the pipeline that of
    `training` unless it is set."""


class ExpectedLossChangeSettings(ScoreSettings):
    """How much less likely the failures make an example, on average over the posterior (Tanno et al. 2022)."""

    score: Literal["expected-loss-change"] = "expected-loss-change"
    unit: ClassVar[str] = "nats"
    compares: ClassVar[bool] = True
    averages: ClassVar[bool] = True
    samples: Annotated[int, Field(ge=2, lt=2**31), expect("a whole number of 2 or more")] = 32
    """Pairs of parameters drawn."""
    weight_decay: NonNegative = 0.0
    """Strength α of the penalty α/2·‖θ‖² that the model was trained with; in the pipeline that of
    `training` unless it is set."""


class LossSettings(ScoreSettings):
    """The loss at the base model."""

    score: Literal["loss"] = "loss"
    unit: ClassVar[str] = "nats"


class LossAfterSettings(ScoreSettings):
    """The loss at the model with the failures inserted."""

    score: Literal["loss-after"] = "loss-after"
    compares: ClassVar[bool] = True
    unit: ClassVar[str] = "nats below even odds"
    even_odds: ClassVar[bool] = True


class MarginSettings(ScoreSettings):
    """The area under the margin (Pleiss et al. 2020)."""

    score: Literal["margin"] = "margin"
    unit: ClassVar[str] = "logits"


class ShapleySettings(ScoreSettings):
    """Of scores that are minus the value of an example to the queries' answers, and how their zero is chosen."""

    unit: ClassVar[str] = "accuracy on the queries"
    of_classes: ClassVar[bool] = True
    queries: Literal["failures", "discovery"] = "failures"
    """What is to be got right."""
    calibrated: Flag = False
    """Shift the scores such that 0 is the calibrated threshold, found by valuing everything again with some labels made
    wrong on purpose. On the development cases it raised precision and lowered recall: with discovery as queries F1 went
    from 0.88 to 0.87 by nearest neighbours, from 0.86 to 0.83 by 1,000 permutations (tmc-shapley) and from 0.59 to 0.77
    by 200, where zero is far from safe; with the failures alone from 0.24 to 0.28 by nearest neighbours."""
    planting_rounds: Count = 5
    """How often some labels are made wrong and everything is valued again, where it is calibrated."""
    planting_share: Annotated[float, Field(gt=0, lt=1), expect("a number above 0 and below 1")] = 0.05
    """Of the labels, those that are made wrong in a round."""

    @property
    def sees(self) -> str:
        return self.queries


class NearestNeighboursSettings(ShapleySettings):
    """Exact Shapley values of a nearest-neighbour classifier on the network's features (Jia et al. 2019)."""

    score: Literal["knn-shapley"] = "knn-shapley"
    neighbours: Count = 5
    """k of the classifier."""


class PermutationSettings(ShapleySettings):
    """Of Shapley values by permutations of the training examples: when there are enough of them."""

    lasts: ClassVar[bool] = True
    permutations: Count = 1000
    """At most so many."""
    minimum: Count = 100
    """At least so many."""
    window: Count = 100
    """Of so many of the last running means none may lie further than `movement` from the present one."""
    movement: NonNegative = 0.1
    """Share of the sum of all absolute values; 0 never stops early."""
    planting_rounds: Count = 1


class TruncatedMonteCarloSettings(PermutationSettings):
    """Shapley values of a least-squares classifier on the network's features (Ghorbani & Zou 2019, Algorithm 1)."""

    score: Literal["tmc-shapley"] = "tmc-shapley"
    tolerance: Annotated[NonNegative | None, expect("a number of 0 or more, or null")] = 0.01
    """Share of the utility of all examples within which the rest of a permutation counts for nothing. null: follow each
    to its end."""
    patience: Count = 5
    """So many prefixes in a row must be within the tolerance."""
    ridge: Annotated[float, Field(ge=1e-6, lt=float("inf")), expect("a number of 1e-6 or more")] = 1.0
    """Strength of the penalty on the classifier, in units of the features' mean square."""


class OneEpochSettings(PermutationSettings):
    """What a softmax layer on the network's features learns of each example in one pass (Ghorbani & Zou 2019,
    Algorithm 2)."""

    score: Literal["g-shapley"] = "g-shapley"
    learning_rate: Annotated[Positive | None, expect("a number above 0, or null")] = None
    """In units of 1 / mean ‖x‖² of the features. null: that with the best accuracy on the queries after a pass."""


class TrajectorySettings(ScoreSettings):
    """What leaving an example out of each step of the base training would have changed (Hara et al. 2019)."""

    score: Literal["trajectory"] = "trajectory"
    unit: ClassVar[str] = "nats"
    follows: ClassVar[bool] = True
    lasts: ClassVar[bool] = True
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
    unit: ClassVar[str] = "none"


class RandomSettings(ScoreSettings):
    """Random numbers: what a ranking that knows nothing gives."""

    score: Literal["random"] = "random"
    unit: ClassVar[str] = "none"


class ResemblanceSettings(ScoreSettings):
    """How much likelier it is that an example belongs with the causes that are known than that it does not."""

    score: Literal["resemblance"] = "resemblance"
    unit: ClassVar[str] = "log-odds"
    starts: ClassVar[bool] = True
    of_classes: ClassVar[bool] = True
    ridge: Positive = 0.1
    """λ, added to the variance of each feature, in units of their mean."""
    rounds: Count = 200
    """Of expectation and maximisation, at most; they end where nothing changes any more."""


class SelfInfluenceSettings(ScoreSettings):
    """How much each training example moves its own likelihood (Koh & Liang 2017, section 5.4)."""

    score: Literal["self-influence"] = "self-influence"
    alone: ClassVar[bool] = True
    unit: ClassVar[str] = "nats"


Score = Annotated[
    ConfidentLearningSettings
    | ExpectedLossChangeSettings
    | LinearSettings
    | LossAfterSettings
    | LossChangeSettings
    | LossSettings
    | MarginSettings
    | NearestNeighboursSettings
    | NoScoreSettings
    | OneEpochSettings
    | RandomSettings
    | ResemblanceSettings
    | SelfInfluenceSettings
    | TrajectorySettings
    | TruncatedMonteCarloSettings,
    Field(discriminator="score"),
]


class ScoreInfluence(Settings):
    """What the stage score-influence is given."""

    seed: Seed
    influence: Score
