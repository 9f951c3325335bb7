"""What did the repair fix, and what did it break?"""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.evaluation.drawing.canvas import BLUE, INK, MUTED, ORANGE
from modelrepair.evaluation.drawing.charts import percent
from modelrepair.evaluation.drawing.gallery import Tile, draw_blocks
from modelrepair.evaluation.drawing.names import fit_on_one_line, label_text, readable
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.repair import is_right

Caption = list[tuple[str, str, bool]]


def draw(path: str | PathLike[str], evidence: Evidence, count: int = 16) -> None:
    """Examples for assessment that the repair fixed above those that it broke; attributes count as right together.

    Args:
        path: the PNG to write.
        evidence: of the run.
        count: examples in each half, taken at even distances from all there are.
    """
    assessed, names = evidence.assessed, readable(evidence.class_names)
    truth = evidence.test_labels[assessed]
    before, after = (of.test_predictions[assessed] for of in (evidence.before, evidence.after))
    was_right, now_right = is_right(before, truth), is_right(after, truth)
    short = not evidence.has_attributes and fit_on_one_line(names)

    def tile(row: np.intp, color: str) -> Tile:
        true, old, new = truth[row], before[row], after[row]
        caption: Caption = [(f"true {label_text(true, names)}", INK, False)]
        if short:
            caption.append((f"{label_text(old, names)} → {label_text(new, names)}", color, True))
        else:
            caption.append((f"before {_answer(old, true, names)}", MUTED, False))
            caption.append((f"after {_answer(new, true, names)}", color, True))
        return Tile(np.asarray(evidence.test_shown[assessed[row]]), caption)

    blocks = []
    for title, color, members, among, noun in (
        ("Fixed", BLUE, ~was_right & now_right, ~was_right, "wrong before"),
        ("Broken", ORANGE, was_right & ~now_right, was_right, "right before"),
    ):
        rows = np.flatnonzero(members)
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        summary = f"{len(rows)} of {int(among.sum())} that were {noun}"
        blocks.append((title, color, summary, [tile(row, color) for row in shown]))
    measured = "all attributes right for" if evidence.has_attributes else "accuracy"
    notes = [
        f"On {len(truth)} test examples for assessment: {measured} {percent(_share(was_right))} before, "
        f"{percent(_share(now_right))} after the repair.",
        "Below each example: its attributes and how many were predicted wrong before and after."
        if evidence.has_attributes
        else "Below each example: its true class and what was predicted before and after.",
    ]
    draw_blocks(path, "What the repair fixed and what it broke", notes, blocks, 2 if short else 3)


def _answer(predicted: NDArray[Any], true: NDArray[Any], names: list[str]) -> str:
    """The predicted class; of attributes, how many are wrong, for a list of them would be cut short."""
    if np.ndim(true) == 0:
        return label_text(predicted, names)
    wrong = int((predicted != true).sum())
    return f"{wrong} of {len(true)} wrong" if wrong else "all right"


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else 0.0
