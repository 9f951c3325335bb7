"""Which attributes are confused?"""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from modelrepair.evaluation.drawing.canvas import GAP, MARGIN, WIDTH, picture
from modelrepair.evaluation.drawing.charts import bar_chart
from modelrepair.evaluation.drawing.names import readable, shorten
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.repair import attribute_recalls

MOST_ATTRIBUTES = 20


def draw(path: str | PathLike[str], evidence: Evidence) -> None:
    """How often each attribute is found where it is and left out where it is not, before and after.

    On the examples for assessment. Of more than 20 attributes, those that changed most are shown. Nothing for classes:
    see `confusion`.
    """
    if not evidence.has_attributes:
        return
    rows = evidence.assessed
    labels = evidence.test_labels[rows]
    before, after = (
        np.stack(attribute_recalls(answers.test_predictions[rows], labels))
        for answers in (evidence.before, evidence.after)
    )
    change = np.nan_to_num(np.abs(after - before)).max(axis=0)
    shown = np.sort(np.argsort(-change, kind="stable")[:MOST_ATTRIBUTES])
    names = readable(evidence.class_names)
    groups = {str(number): shorten(names[number], 40) for number in shown}
    notes = [f"Accuracy on {len(rows)} test examples for assessment (%)"]
    if len(shown) < len(names):
        notes.append(f"Of {len(names):,} attributes, the {len(shown)} that changed most.")
    top, width = 0.82 + 0.18 * len(notes), (WIDTH - 2 * MARGIN - GAP) / 2
    height = 0.3 + 0.56 * len(shown)
    with picture(path, WIDTH, top + height + MARGIN) as canvas:
        canvas.heading("Which attributes are confused, before and after the repair", *notes)
        for side, title in enumerate(("Found where it is", "Left out where it is not")):
            left = MARGIN + side * (width + GAP)
            canvas.text(left, top - 0.22, title, size=9.5, bold=True)
            axes = canvas.axes(left, top, width, height)
            bar_chart(axes, _shares(before[side], shown), _shares(after[side], shown), groups)
        canvas.before_and_after(MARGIN + width + GAP, "the repair", top=0.40)


def _shares(recalls: NDArray[np.float64], shown: NDArray[np.intp]) -> dict[str, float | None]:
    return {str(number): None if np.isnan(recalls[number]) else float(recalls[number]) for number in shown}
