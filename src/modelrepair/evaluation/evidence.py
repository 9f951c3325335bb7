"""What a run leaves to judge it by: every measure and every picture takes this one object.

It is plain arrays, gathered once (`gathering.gather`), so a measure or a picture can be tried, or used on results from
elsewhere, with an `Evidence` written by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.sentences import in_words as sentence
from modelrepair.errors import RepairError
from modelrepair.settings.failures import CkaSettings
from modelrepair.splits.clusters import numbered_names

Array = NDArray[Any]


class Inputs(Protocol):
    """(n, ...) inputs of which single rows, or arrays of rows, are read, such as an array, memory-mapped or not."""

    @property
    def ndim(self) -> int: ...

    def __getitem__(self, row: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class Answers:
    """What one model makes of the n training and the t test examples.

    Attributes:
        training_log_likelihoods: (n,) log p(y | x, θ) in nats of the given labels.
        training_correct: (n,) in [0, 1], how right the predictions are by the given labels; of attributes,
            the share that is right.
        test_log_likelihoods: (t,) log p(y | x, θ) in nats.
        test_predictions: (t,) class numbers, or (t, k) attributes of 0 and 1.
        training_predictions: (n,) or (n, k), as those of the test examples; None where nobody asked for them.
        training_probabilities: (n, k) of k classes or attributes; None where nothing asks for them.
        test_probabilities: (t, k), likewise.
        additions_on: (t,) bool, for which test examples something was on that the model has beside its network and that
            answers for some alone; None where it has no such thing.
        relearning_steps: after how many steps the model knows the causes as well as the base model does; infinity if
            those that were taken were not enough, None where this was not measured.
        contrasted: (t,) mean probability of the object in relations that contradict the probe's; NaN where there are
            none. None where examples are no facts.
        adversarial: (t,) log p in nats of another object of the relation; NaN and None likewise.
        likeliest, likeliest_probabilities: (t, 3) the words that are likeliest in the blank, first the answer, and how
            likely they are; None where inputs are no sentences.
    """

    training_log_likelihoods: NDArray[np.float64]
    training_correct: Array
    test_log_likelihoods: NDArray[np.float64]
    test_predictions: Array
    training_predictions: Array | None = None
    training_probabilities: Array | None = None
    test_probabilities: Array | None = None
    additions_on: NDArray[np.bool_] | None = None
    relearning_steps: float | None = None
    contrasted: NDArray[np.float64] | None = None
    adversarial: NDArray[np.float64] | None = None
    likeliest: NDArray[np.int64] | None = None
    likeliest_probabilities: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class SingleEdits:
    """What becomes of the base model when one fact is edited, of k facts one by one.

    Attributes:
        edited: (k,) the test examples whose right answers were edits.
        asked: (a,) the test examples that each edited model was asked.
        said: (k,) what each says of its own.
        answers: (k, a) what each says of all.
    """

    edited: NDArray[np.int64]
    asked: NDArray[np.int64]
    said: NDArray[np.int64]
    answers: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class EditsInARow:
    """What becomes of the base model when k facts are edited one after another.

    Attributes:
        edited: (k,) the test examples whose right answers were edits, in their order.
        asked: (a,) the test examples that the model was asked on the way.
        after: (m,) after how many edits.
        said: (m, k) what it then said of all sentences that are edited in the end.
        answers: (m, a) what it then said of those that were asked.
    """

    edited: NDArray[np.int64]
    asked: NDArray[np.int64]
    after: NDArray[np.int64]
    said: NDArray[np.int64]
    answers: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """A run's examples and what its models make of them. None says that something is not there.

    Labels are (n,) class numbers or, for all examples alike, (n, k) attributes of 0 and 1.

    Attributes:
        class_names: one name for each class or attribute.
        noisy_classes: the classes whose training examples were corrupted on purpose.
        training_inputs: (n, ...) bytes or floats; only the rows that are shown are read.
        given_labels: (n,) or (n, k), those that the model was trained with.
        true_labels: the same, as they should be; None where no truth is known.
        is_corrupted: (n,) bool, the true causes; None where no truth is known.
        corrupted_by: (n,) the name of the corruption of each example, "" for none; None unless there were several.
        scores: (n,) positive = harmful; None where nothing was scored, as for a request.
        causes: (m,) positions among the training examples of those that were taken as causes.
        test_inputs: (t, ...) as the training inputs.
        test_labels: (t,) or (t, k), true.
        roles: (t,) "query", "holdout", "remaining" or "", as in `repair_metrics`.
        parts: (t,) "reserved", "discovery" or "assessment".
        before: what the base model makes of the examples.
        after: what the repaired model makes of them.
        course: a row for each point of the treatment: `round`, columns that end in `_accuracy` (fractions,
            missing where not measured) and `returned` (bool).
        reference: what the model makes of them that the repaired one stands beside; None where there is none.
        reference_in_words: what that is.
        reference_retrained: whether it is the model retrained without the causes. All answers then have probabilities.
        in_domain: (t,) bool, the test examples that the corruption is about; None where it has no such domain.
        attacker_class: the class that a trigger is to lead to; None without a trigger.
        corrections: (m,) class numbers that a person gave to the causes, -1 to those that are only to be removed; None
            where nobody gave any.
        training_numbers, test_numbers: (n,), (t,) the examples' numbers in the data set; None where they have none.
        training_facts, test_facts: (n,), (t,) numbers of the facts that sentences state or ask for; None where examples
            are no such.
        training_relations, test_relations: (n,), (t,) the names of those facts' relations.
        taught_in: (t,) which of several updates taught the fact that a test example asks for, from 0; -1 of all other
            facts. None unless there were several.
        training_subjects: (n,) the names of what the training sentences are about.
        vocabulary: the words that inputs are numbers of; None where they are none.
        cka: how facts are assessed; None where they are not.
        single_edits: what each of some edits does by itself; None where none were made.
        edits_in_a_row: what edits do one after another; None where none were made.
        clusters: what each cluster of failures is (`splits.clusters.describe_clusters`); nothing where they are not
            divided.
        failure_clusters: (t,) the cluster of each test example that fails, -1 of others; None likewise.
        driven_clusters: (n,) the cluster that each training example drives most; None where scores are not by cluster.
        parameter_distance: `relative_parameter_distance` of the three models; None where the reference is not
            retrained, or one of them has other parameters.
        expected_causes: how many causes were expected, and the standard deviation of that number
            (`selection.expected_causes`); None where nobody asked.

    Raises:
        RepairError: if there is not one value for each example.
    """

    class_names: tuple[str, ...]
    noisy_classes: tuple[int, ...]
    training_inputs: Inputs
    given_labels: Array
    true_labels: Array | None
    is_corrupted: NDArray[np.bool_] | None
    scores: NDArray[np.float64] | None
    causes: Array
    test_inputs: Inputs
    test_labels: Array
    roles: Array
    parts: Array
    before: Answers
    after: Answers
    course: pd.DataFrame
    reference: Answers | None = None
    reference_in_words: str | None = None
    reference_retrained: bool = False
    in_domain: NDArray[np.bool_] | None = None
    attacker_class: int | None = None
    corrupted_by: Array | None = None
    corrections: NDArray[np.int64] | None = None
    training_numbers: NDArray[np.int64] | None = None
    test_numbers: NDArray[np.int64] | None = None
    training_facts: NDArray[np.int64] | None = None
    test_facts: NDArray[np.int64] | None = None
    taught_in: NDArray[np.int64] | None = None
    training_relations: Array | None = None
    test_relations: Array | None = None
    training_subjects: Array | None = None
    vocabulary: tuple[str, ...] | None = None
    cka: CkaSettings | None = None
    single_edits: SingleEdits | None = None
    edits_in_a_row: EditsInARow | None = None
    clusters: tuple[dict[str, Any], ...] = ()
    failure_clusters: NDArray[np.int64] | None = None
    driven_clusters: NDArray[np.int64] | None = None
    parameter_distance: float | None = None
    expected_causes: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        answers = {"before": self.before, "after": self.after}
        if self.reference is not None:
            answers["of the reference"] = self.reference
        named: dict[str, dict[str, Array | None]] = {
            "training": {
                "given labels": self.given_labels,
                "true labels": self.true_labels,
                "marks of corruption": self.is_corrupted,
                "names of corruptions": self.corrupted_by,
                "scores": self.scores,
                "numbers": self.training_numbers,
                "facts": self.training_facts,
                "relations": self.training_relations,
                "subjects": self.training_subjects,
                "driven clusters": self.driven_clusters,
                **{f"predictions {when}": of.training_predictions for when, of in answers.items()},
                **{f"log-likelihoods {when}": of.training_log_likelihoods for when, of in answers.items()},
                **{f"marks of what is right {when}": of.training_correct for when, of in answers.items()},
            },
            "test": {
                "labels": self.test_labels,
                "roles": self.roles,
                "parts": self.parts,
                "marks of the domain": self.in_domain,
                "numbers": self.test_numbers,
                "facts": self.test_facts,
                "relations": self.test_relations,
                "numbers of updates": self.taught_in,
                **{f"likeliest words {when}": of.likeliest for when, of in answers.items()},
                "clusters": self.failure_clusters,
                **{f"log-likelihoods {when}": of.test_log_likelihoods for when, of in answers.items()},
                **{f"predictions {when}": of.test_predictions for when, of in answers.items()},
                **{f"marks of additions {when}": of.additions_on for when, of in answers.items()},
                **{f"contrasts {when}": of.contrasted for when, of in answers.items()},
                **{f"adversaries {when}": of.adversarial for when, of in answers.items()},
            },
            "cause": {"causes": self.causes, "corrections": self.corrections},
        }
        for kind, columns in named.items():
            lengths = {name: len(values) for name, values in columns.items() if values is not None}
            count = next(iter(lengths.values()))
            for name, length in lengths.items():
                if length != count:
                    raise RepairError(
                        f"there are {length} {name} for {count} {kind} examples: give one for each"
                    )

    @property
    def has_attributes(self) -> bool:
        """Whether an example has k yes/no attributes instead of one class."""
        return self.test_labels.ndim == 2

    @property
    def cluster_names(self) -> list[str]:
        """Numbered names of the clusters of failures."""
        return numbered_names(self.clusters)

    @property
    def training_shown(self) -> Inputs:
        """The training inputs as a person reads them: sentences in words, all else as it is."""
        return self._shown(self.training_inputs)

    @property
    def test_shown(self) -> Inputs:
        """The test inputs, likewise."""
        return self._shown(self.test_inputs)

    def _shown(self, inputs: Inputs) -> Inputs:
        return inputs if self.vocabulary is None else _Sentences(inputs, self.vocabulary)

    @property
    def assessed(self) -> NDArray[np.int64]:
        """Positions of the test examples that no method has seen."""
        return np.flatnonzero(self.parts == "assessment")


class _Sentences:
    """Sentences in words, of inputs (n, length) of numbers of words."""

    ndim = 1

    def __init__(self, inputs: Inputs, vocabulary: tuple[str, ...]) -> None:
        self._inputs, self._vocabulary = inputs, vocabulary

    def __getitem__(self, row: Any, /) -> Any:
        if np.ndim(row):
            return np.array([sentence(one, self._vocabulary) for one in self._inputs[row]], dtype=np.str_)
        return np.array(sentence(self._inputs[row], self._vocabulary))
