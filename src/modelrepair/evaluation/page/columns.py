"""The records of the page as columns, which its script shows a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.evaluation.drawing.names import label_text
from modelrepair.evaluation.evidence import Array, Evidence, Inputs
from modelrepair.evaluation.links import Links
from modelrepair.evaluation.measures.repair import is_right

MOST_DRIVEN, MOST_CAUSES, MOST_CHANGES = 6, 12, 60
FEATURES_IN_WORDS, IDS_IN_WORDS = 8, 24
SENTENCES_CHARACTERS, SENTENCE_CHARACTERS = 1_000_000, 80
"""Of all sentences together, and of each in any case."""

Columns = dict[str, list[Any] | None]


class Labels:
    """Labels as numbers of texts: of classes their names, of attributes one for each set of them that occurs."""

    def __init__(self, evidence: Evidence) -> None:
        self._of_classes = not evidence.has_attributes
        self._names = [
            " ".join(name.split()) or f"no. {number}" for number, name in enumerate(evidence.class_names)
        ]
        self.texts: list[str] = list(self._names) if self._of_classes else []
        self._known: dict[bytes, int] = {}

    def numbers(self, labels: Array | None) -> list[int] | None:
        """For each label the number of its text."""
        if labels is None:
            return None
        if self._of_classes:
            return [int(number) for number in labels]
        return [self._number(row > 0.5) for row in labels]

    def _number(self, present: NDArray[np.bool_]) -> int:
        key = present.tobytes()
        if key not in self._known:
            self._known[key] = len(self.texts)
            self.texts.append(label_text(present, self._names))
        return self._known[key]


def suspects(evidence: Evidence, links: Links, labels: Labels) -> Columns:
    """A row for each suspect.

    Returns:
        example: its number in the data set; given, before, after: numbers of labels, as given and as the models answer;
        belief_before, belief_after: the probability of the given label in thousandths; score; taken: 1 for what was
        taken as a cause; new: the class that a person gave it, -1 without; wrong, true: where the truth is known;
        drives: up to 6 failures by their place in `failures`, the most driven first; text: what a vector or a list of
        ids holds; cluster: the one that it drives most, where scores are by cluster.
    """
    rows = links.suspects
    taken = np.zeros(len(evidence.given_labels), dtype=np.int64)
    taken[evidence.causes] = 1
    new = np.full(len(taken), -1, dtype=np.int64)
    if evidence.corrections is not None:
        new[evidence.causes] = evidence.corrections
    return {
        "example": _numbers(evidence.training_numbers, rows),
        "given": labels.numbers(evidence.given_labels[rows]),
        "before": labels.numbers(_chosen(evidence.before.training_predictions, rows)),
        "after": labels.numbers(_chosen(evidence.after.training_predictions, rows)),
        "belief_before": _thousandths(evidence.before.training_log_likelihoods[rows]),
        "belief_after": _thousandths(evidence.after.training_log_likelihoods[rows]),
        "score": None
        if evidence.scores is None
        else [float(f"{value:.4g}") for value in evidence.scores[rows]],
        "taken": taken[rows].tolist(),
        "new": None if evidence.corrections is None else new[rows].tolist(),
        "wrong": None if evidence.is_corrupted is None else evidence.is_corrupted[rows].astype(int).tolist(),
        "true": labels.numbers(_chosen(evidence.true_labels, rows)),
        "drives": None if links.pull is None else _strongest(links.pull, MOST_DRIVEN),
        "text": _in_words(evidence.training_shown, rows),
        **({} if evidence.driven_clusters is None else {"cluster": evidence.driven_clusters[rows].tolist()}),
    }


def failures(evidence: Evidence, links: Links, labels: Labels) -> Columns:
    """A row for each failure: `tests`, and causes: up to 12 suspects by their place, the strongest first."""
    causes = None if links.pull is None else _strongest(links.pull.T, MOST_CAUSES)
    return {**tests(evidence, links.failures, labels), "causes": causes}


def clusters(evidence: Evidence, links: Links) -> list[list[int]]:
    """Of each cluster of failures its typical members by their place in `failures`, those of them that are there."""
    place = {number: row for row, number in enumerate(_numbers(evidence.test_numbers, links.failures))}
    return [[place[number] for number in one["typical"] if number in place] for one in evidence.clusters]


def changed(evidence: Evidence) -> dict[str, tuple[NDArray[np.int64], int]]:
    """The test examples for assessment that the repair fixed and broke: up to 60 at even distances, and how many."""
    assessed = evidence.assessed
    was, now = (
        is_right(answers.test_predictions[assessed], evidence.test_labels[assessed])
        for answers in (evidence.before, evidence.after)
    )
    found = {}
    for name, members in (("fixed", ~was & now), ("broken", was & ~now)):
        rows = assessed[members]
        shown = np.unique(np.linspace(0, len(rows) - 1, min(MOST_CHANGES, len(rows))).round().astype(int))
        found[name] = rows[shown], len(rows)
    return found


def tests(evidence: Evidence, rows: NDArray[np.int64], labels: Labels) -> Columns:
    """A row for each of these test examples: example, label, before, after; and how it answered, belief_before and
    belief_after, the probability of the right label in thousandths."""
    return {
        "example": _numbers(evidence.test_numbers, rows),
        "label": labels.numbers(evidence.test_labels[rows]),
        "before": labels.numbers(evidence.before.test_predictions[rows]),
        "after": labels.numbers(evidence.after.test_predictions[rows]),
        "belief_before": _thousandths(evidence.before.test_log_likelihoods[rows]),
        "belief_after": _thousandths(evidence.after.test_log_likelihoods[rows]),
        "text": _in_words(evidence.test_shown, rows),
    }


def _strongest(pull: NDArray[np.float32], most: int) -> list[list[int]]:
    """For each row of (a, b) the places of its largest positive entries, the largest first."""
    count = min(most, pull.shape[1])
    nearest = np.argpartition(-pull, count - 1, axis=1)[:, :count]
    values = np.take_along_axis(pull, nearest, axis=1)
    order = np.lexsort((nearest, -values), axis=1)
    nearest, values = np.take_along_axis(nearest, order, axis=1), np.take_along_axis(values, order, axis=1)
    return [row[keep].tolist() for row, keep in zip(nearest, values > 0, strict=True)]


def _chosen(values: Array | None, rows: NDArray[np.int64]) -> Array | None:
    return None if values is None else values[rows]


def _numbers(numbers: NDArray[np.int64] | None, rows: NDArray[np.int64]) -> list[int]:
    """The examples' numbers, or where they have none their positions."""
    return [int(number) for number in (rows if numbers is None else numbers[rows])]


def _thousandths(log_likelihoods: NDArray[np.float64]) -> list[int]:
    return [int(value) for value in (1000 * np.exp(np.minimum(log_likelihoods, 0.0))).round()]


def are_spelled(inputs: Inputs) -> bool:
    """Whether examples are texts, or lists of ids, which are read and not looked at."""
    return inputs.ndim == 1 or (inputs.ndim == 2 and np.asarray(inputs[np.arange(1)]).dtype.kind in "iu")


def _in_words(inputs: Inputs, rows: NDArray[np.int64]) -> list[str] | None:
    """Sentences, short vectors and lists of ids as text; None for images and what is long.

    Of long sentences the beginning, so that those of all rows take about a megabyte at most.
    """
    if inputs.ndim == 1 and len(rows):
        most = max(SENTENCES_CHARACTERS // len(rows), SENTENCE_CHARACTERS)
        return [
            sentence if len(sentence) <= most else sentence[: most - 1] + "…"
            for sentence in map(str, inputs[rows])
        ]
    if inputs.ndim != 2 or not len(rows):
        return None
    values = np.asarray(inputs[rows])
    if values.dtype.kind in "iu":
        return [_list([str(int(number)) for number in row[:IDS_IN_WORDS]], values.shape[1]) for row in values]
    if values.shape[1] > FEATURES_IN_WORDS:
        return None
    return [_list([f"{number:.3g}" for number in row], values.shape[1]) for row in values]


def _list(words: Sequence[str], length: int) -> str:
    return ", ".join(words) + (", …" if len(words) < length else "")
