"""How is the model repaired, once the causes are known?"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.knowledge.editor import Editor
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings.treatment import JudgedBy, Taught
from modelrepair.training.descent import Oversight


@dataclass(frozen=True)
class Stated:
    """Which facts a patient's sentences are about.

    Attributes:
        facts, relations: (n,) numbers of the facts that the training examples state, and of their relations.
        failing: (f,) numbers of the facts that the failures ask for.
    """

    facts: NDArray[np.int64]
    relations: NDArray[np.int64]
    failing: NDArray[np.int64]


@dataclass(frozen=True)
class Patient:
    """A model with its failures and their causes, and what a treatment may use.

    Attributes:
        model: the model that fails.
        examples: the n training examples, with the labels that they were given.
        causes: positions among them, most harmful first; none, where nothing in training is to blame.
        discovery: examples outside training, right and wrong ones. A treatment stops where accuracy on all
            of them is best; watching the failures alone would sacrifice the rest.
        failures: the failures that the repair is for; their accuracy is written down, and they are acted on only by a
            treatment that is told to train on them.
        reserved: fetches clean examples outside discovery, for treatments that are told to train on them.
        curvature: fetches a fitted curvature by name and damping.
        fresh: makes the same network untrained; only retraining needs it.
        tolerance: share of what the model has right on discovery that a treatment may break.
        judged_by: accuracy, on all of discovery, or failures, on those alone: what a point is best in that breaks no
            more than that.
        guarded: whether the treatment stops where it is best by this rule. An erasure must not be guarded:
            that a model without a class has less accuracy is the wish, so the treatment's whole effect is taken.
        seed: of what is random in a treatment.
        checkpoint: where to keep progress.
        corrections: (m,) numbers of the classes that a person gives to the causes, -1 to those that are only to be
            removed; None where nobody gives any.
        stated: of sentences that state facts, which; None where examples are no such.
    """

    model: TrainedModel
    examples: Examples
    causes: NDArray[np.int64]
    discovery: Examples
    failures: Examples
    curvature: Callable[[str, float], Curvature]
    reserved: Callable[[], Examples] | None = None
    fresh: Callable[[], TrainedModel] | None = None
    tolerance: float = 0.01
    judged_by: JudgedBy = "accuracy"
    guarded: bool = True
    seed: int = 0
    checkpoint: Checkpoint | None = None
    corrections: NDArray[np.int64] | None = None
    stated: Stated | None = None

    def __post_init__(self) -> None:
        if self.corrections is not None and self.corrections.shape != self.causes.shape:
            raise RepairError(
                f"there are {len(self.corrections)} corrections and {len(self.causes)} causes: give one for each, -1 "
                "where a cause is only to be removed"
            )
        outside = self.causes[(self.causes < 0) | (self.causes >= len(self.examples))]
        if len(outside):
            raise RepairError(
                f"the causes name training example {int(outside[0])} and there are {len(self.examples)}: "
                "rerun the stage select-causes"
            )
        if self.guarded and self.judged_by == "failures" and not len(self.failures):
            raise RepairError(
                "the treatment is judged by failures, and there are none: set judged_by to accuracy, or give failures"
            )

    @cached_property
    def remaining(self) -> NDArray[np.int64]:
        """Positions of D \\ C, ascending."""
        return np.setdiff1d(np.arange(len(self.examples)), self.causes)

    @property
    def kept(self) -> Examples:
        """D \\ C.

        Raises:
            RepairError: if it is empty.
        """
        if not len(self.remaining):
            raise RepairError("no training examples remain without the causes: select fewer causes")
        return self.examples.subset(self.remaining)

    @property
    def corrected(self) -> Examples:
        """The causes that a person gives another class, with that class."""
        if self.corrections is None:
            return self.examples.subset([])
        told = self.corrections >= 0
        given = self.examples.subset(self.causes[told])
        return given.with_targets(self.corrections[told].astype(given.targets.dtype))

    @property
    def restated(self) -> Examples:
        """The causes that state a fact of the failures, with the right object in place of what they state.

        Those that a person gives another class are among `corrected`.
        """
        if self.stated is None:
            return self.examples.subset([])
        stated, asked = self.stated.facts, self.stated.failing
        order = np.argsort(asked, kind="stable")
        told = np.zeros(len(self.causes), bool) if self.corrections is None else self.corrections >= 0
        causes = self.causes[np.isin(stated[self.causes], asked) & ~told]
        place = np.searchsorted(asked[order], stated[causes])
        return self.examples.subset(causes).with_targets(self.failures.targets[order[place]])

    @property
    def elsewhere(self) -> NDArray[np.int64]:
        """Positions of what a model that is taught the failures may go on saying as it does, ascending.

        Of sentences that state facts, all but those that state a fact of the failures: also those among the causes, of
        which nobody has said what is right. Elsewhere D \\ C.
        """
        if self.stated is None:
            return self.remaining
        return np.flatnonzero(~np.isin(self.stated.facts, self.stated.failing))

    def lessons(self, wordings: Literal["query", "causes"]) -> tuple[Examples, Examples]:
        """What is taught, with right answers, and what the model is to go on saying as it does.

        Args:
            wordings: query: the failures. causes: also the causes that state a fact of theirs.

        Raises:
            RepairError: if there is nothing to teach.
        """
        taught = self.failures.followed_by(self.corrected)
        if not len(taught):
            raise RepairError(
                "the treatment teaches failures, and there are none: give failures with their right labels, or choose "
                "a treatment that takes causes away"
            )
        if wordings == "causes":
            taught = taught.followed_by(self.restated)
        return taught, self.examples.subset(self.elsewhere)

    def with_failures(self, chosen: NDArray[np.bool_], *, corrected: bool = True) -> Patient:
        """The patient with some of its failures alone, and with what a person gives the causes or without."""
        stated = self.stated
        if stated is not None:
            stated = dataclasses.replace(stated, failing=stated.failing[chosen])
        return dataclasses.replace(
            self,
            failures=self.failures.subset(np.flatnonzero(chosen)),
            stated=stated,
            corrections=self.corrections if corrected else None,
        )

    def expect_no_corrections(self, treatment: str) -> None:
        """For treatments that can only remove causes.

        Raises:
            RepairError: if a cause is to get another label.
        """
        if len(self.corrected):
            raise RepairError(
                f"{len(self.corrected)} causes are to get another label, and {treatment} can only remove causes: give "
                "no corrections, or choose a treatment that learns them, such as mending, fine-tuning or aligning"
            )

    def taught_with(self, parts: Sequence[Taught]) -> tuple[Patient, Examples]:
        """The patient as a treatment sees it that trains on more than D \\ C, and these further examples.

        Where it trains on discovery, a random fifth of discovery is left to judge it by.

        Raises:
            RepairError: if a part has no examples.
        """
        seen, further = self, self.failures.subset([])
        for part in sorted(set(parts) - {"remaining"}):
            examples: Examples | None = None
            if part == "discovery":
                order = generator(self.seed, "a fifth of discovery").permutation(len(self.discovery))
                judging, examples = (
                    self.discovery.subset(np.sort(positions))
                    for positions in np.split(order, [len(order) // 5])
                )
                seen = dataclasses.replace(self, discovery=judging)
            elif part in ("failures", "restated"):
                if part == "restated" and self.stated is None:
                    raise RepairError(
                        "the treatment is to train on restated, and these examples state no facts: use the source "
                        "facts, or another trains_on"
                    )
                examples = self.failures if part == "failures" else self.restated
                if len(parts) > 1 and not len(examples):
                    # A model without failures, as a request may have, is taught the rest.
                    continue
            elif self.reserved:
                examples = self.reserved()
            if not (examples and len(seen.discovery)):
                raise RepairError(
                    f"the treatment is to train on {part}, of which there are too few examples: choose another "
                    "trains_on, or a data set with more"
                )
            further = further.followed_by(examples)
        return seen, further

    def remaining_sample(self) -> NDArray[np.int64]:
        """As many random positions of D \\ C as there are causes, or all if there are fewer.

        Huang et al. 2023 (A.3) let every treatment see these besides the causes.
        """
        count = min(len(self.causes), len(self.remaining))
        drawn = generator(self.seed, "remaining sample").choice(self.remaining, count, replace=False)
        return np.sort(drawn)

    @cached_property
    def _correct_before(self) -> NDArray[np.float64]:
        return self._correct(self.model)

    def watch(self, model: TrainedModel) -> float:
        """What every treatment is judged by on its way: accuracy on all of discovery, or on the failures alone.

        A point that breaks more than `tolerance` of what the given model had right there is no repair, however
        much it fixes: it is worth minus the share that it breaks. That share is measured on few examples, n, so a point
        is refused only if it is above the tolerance τ by more than its standard error there, √(τ(1 − τ)/n).
        """
        accuracy, kept = self._accuracies(model)
        return self._worth(accuracy if self.judged_by == "accuracy" else model.accuracy(self.failures), kept)

    def _worth(self, accuracy: float, kept: float) -> float:
        count = max(float(self._correct_before.sum()), 1.0)
        allowed = self.tolerance + math.sqrt(self.tolerance * (1 - self.tolerance) / count)
        return accuracy if kept >= 1 - allowed else kept - 1

    def _accuracies(self, model: TrainedModel) -> tuple[float, float]:
        """On all of discovery, and the share that is still right of what the given model had right there.

        With c and b how right an example is now and before, Σ min(c, b)/Σ b, or 1 if nothing was right. Of examples
        with one class these are 0 or 1; of attributes, shares, so that what counts is how many of each example's
        attributes are right.
        """
        correct, before = self._correct(model), self._correct_before
        kept = np.minimum(correct, before).sum() / before.sum() if before.any() else 1.0
        return float(correct.mean()), float(kept)

    def _correct(self, model: TrainedModel) -> NDArray[np.float64]:
        return model.correct(self.discovery).double().cpu().numpy()

    @property
    def oversight(self) -> Oversight:
        """What looks on during a treatment: it judges the points if the treatment is guarded, else takes notes."""

        # A look observes and then watches: one pass through discovery serves both.
        seen: dict[str, float] = {}
        aim = "discovery_accuracy" if self.judged_by == "accuracy" else "query_accuracy"

        def observe(model: TrainedModel) -> dict[str, float | Tensor]:
            accuracy, kept = self._accuracies(model)
            right = model.accuracy(self.failures)
            seen.update(discovery_accuracy=accuracy, kept_accuracy=kept, query_accuracy=right)
            return {**seen}

        return Oversight(
            watch=(lambda model: self._worth(seen[aim], seen["kept_accuracy"])) if self.guarded else None,
            observe=observe,
            checkpoint=self.checkpoint,
            aim=aim if self.guarded else None,
        )


@dataclass(frozen=True)
class Treated:
    """A treated model.

    Attributes:
        model: the best point seen, by accuracy on discovery; the given model if nothing was better. If the
            treatment is not guarded, the last point.
        trace: one row a point: `round`, `watched` (what it was judged by; None if the treatment is not guarded), and
            `discovery_accuracy`, `kept_accuracy` (of what was right before) and `query_accuracy`.
        best_round: the row of the model.
        editor: of a treatment by edits, what made them, with the given model.
    """

    model: TrainedModel
    trace: list[dict[str, Any]]
    best_round: int
    editor: Editor | None = None


class Treatment(ABC):
    """A way to repair a model."""

    @property
    @abstractmethod
    def goes_without_causes(self) -> bool:
        """As in `TreatmentSettings`."""

    def treat(self, patient: Patient) -> Treated:
        """The repaired model; the patient's own is left as it is.

        Raises:
            RepairError: if there are no causes, and it learns nothing beside the training examples; or if the treatment
                cannot do what it is told with this patient.
        """
        if not (len(patient.causes) or self.goes_without_causes):
            raise RepairError(
                "there are no causes to treat: select at least one training example, or choose a treatment that "
                "learns what is right, such as mending"
            )
        return self._treat(patient)

    @abstractmethod
    def _treat(self, patient: Patient) -> Treated:
        """The same, of a patient that has causes, or of a treatment that goes without."""
