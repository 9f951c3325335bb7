"""Which classes are confused?"""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from modelrepair.evaluation.drawing.canvas import GAP, MARGIN, MUTED, WIDTH, picture
from modelrepair.evaluation.drawing.charts import MOST_COUNTS, confusion_chart, percent
from modelrepair.evaluation.drawing.names import readable, shorten
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.repair import confusion_matrix

MOST_CLASSES = 100  # of which all have room in a matrix, though without names above MOST_COUNTS


def draw(path: str | PathLike[str], evidence: Evidence) -> None:
    """Two confusion matrices of the examples for assessment side by side. Nothing for attributes.

    Of more than 100 classes, the 20 that are confused most are shown.
    """
    if evidence.has_attributes:
        return
    rows = evidence.assessed
    labels = evidence.test_labels[rows]
    sides = {"Before": evidence.before.test_predictions[rows], "After": evidence.after.test_predictions[rows]}
    notes = [
        "Counts of test examples; colour is the share of the true class (row): blue right, orange wrong "
        "(full orange from 30 %)."
    ]
    number = len(evidence.class_names)
    shown = np.arange(number)
    if number > MOST_CLASSES:
        shown = _most_confused(labels, *sides.values())
        notes.append(f"Of {number:,} classes, the {len(shown)} that are confused most, before and after.")
    every = readable(evidence.class_names)
    names = [every[row] for row in shown]
    totals = np.bincount(labels, minlength=number)[shown]
    longest = max((len(shorten(name)) for name in names), default=0)
    room = 0.4 + 0.065 * longest
    side = (WIDTH - 2 * MARGIN - GAP) / 2 - room
    top = 0.82 + 0.18 * len(notes)
    with picture(path, WIDTH, top + side + 0.44 + 0.05 * longest) as canvas:
        canvas.heading("Which classes are confused, before and after the repair", *notes)
        for column, (title, predicted) in enumerate(sides.items()):
            left = MARGIN + column * (room + side + GAP)
            right, total = int((predicted == labels).sum()), len(labels)
            canvas.text(left + room, top - 0.22, title, size=9.5, bold=True)
            canvas.text(
                left + room + side,
                top - 0.21,
                f"{right} of {total} right ({percent(right / total)})" if total else "no examples",
                color=MUTED,
                align="right",
            )
            among = np.isin(labels, shown) & np.isin(predicted, shown)
            truth, guess = (np.searchsorted(shown, numbers[among]) for numbers in (labels, predicted))
            counts = confusion_matrix(truth, guess, len(shown))
            confusion_chart(canvas.axes(left + room, top, side, side), counts, totals, names)


def _most_confused(labels: NDArray[np.int64], *predictions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to 20 of the classes that occur, ascending: those of the pairs that are confused most often come first."""
    pairs = np.concatenate([np.stack([labels, predicted], axis=1) for predicted in predictions])
    confused, counts = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0, return_counts=True)
    by_rank = confused[np.argsort(-counts, kind="stable")].reshape(-1)
    chosen = dict.fromkeys([*by_rank.tolist(), *np.unique(pairs).tolist()])
    return np.sort(np.array([*chosen][:MOST_COUNTS], dtype=np.int64))
