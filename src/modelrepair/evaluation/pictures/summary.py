"""Cause, identification and repair in one picture, where examples were scored."""

from __future__ import annotations

from os import PathLike

import numpy as np

from modelrepair.evaluation.drawing.canvas import GAP, MARGIN, picture
from modelrepair.evaluation.drawing.charts import bar_chart, curve_chart
from modelrepair.evaluation.drawing.gallery import TrainingTiles, draw_tiles, tiles_height
from modelrepair.evaluation.drawing.names import readable
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures import identification, reference, repair


def draw(path: str | PathLike[str], evidence: Evidence) -> None:
    """The examples with the highest scores, how soon the true causes are found, and accuracy before and after,
    beside that of the reference.

    Without a truth to check the ranking by, there is no such panel and no class is called noisy. Nothing for a
    request: see `erasure`.
    """
    if evidence.scores is None:
        return
    tiles = TrainingTiles(
        evidence.training_shown,
        evidence.scores,
        evidence.given_labels,
        evidence.true_labels,
        readable(evidence.class_names),
        evidence.is_corrupted,
    )
    harmful = np.argsort(-evidence.scores, kind="stable")[:12]
    curves = identification.curves(evidence)
    block, columns, rows, top, ranking = 3.3, 4, 3, 1.08, 3.4
    width = 10.6 if curves else 10.6 - ranking - GAP
    body = tiles_height(block, columns, rows, tiles.lines)
    sign = ("Highest scores: examples held to be harmful,", "without which the failures' loss should fall.")
    framed = () if tiles.corrupted is None else ("Orange frame: the example was corrupted.",)
    with picture(path, width, top + body + 0.12) as canvas:
        canvas.panel(MARGIN, "1  Find what caused the failures", *sign, *framed)
        draw_tiles(canvas, MARGIN, top, block, columns, tiles.of(harmful))
        left = MARGIN + block + GAP
        if curves:
            inspected = ("Corrupted examples found while inspecting", "from the highest score downwards.")
            canvas.panel(left, "2  Check the ranking", *inspected)
            curve_chart(
                canvas.axes(left + 0.45, top, 2.95, body - 0.42),
                curves,
                identification.areas(evidence),
            )
            left += ranking + GAP
        canvas.panel(left, f"{3 if curves else 2}  Repair the model", "Accuracy on test examples (%)")
        canvas.before_and_after(left, "the repair")
        measured, beside = repair.measure(evidence), reference.measure(evidence)
        canvas.beside(left, evidence.reference_in_words)
        axes = canvas.axes(left, top - 0.16, width - left - MARGIN, body + 0.14)
        bar_chart(axes, measured["before"], measured["after"], _groups(evidence), beside and beside["after"])


def _groups(evidence: Evidence) -> dict[str, str]:
    """Groups of `repair_metrics` with their titles."""
    of = "attributes" if evidence.has_attributes else "classes"
    # A role goes to an example as a whole, with all of its attributes.
    whole = ", wholly right" if evidence.has_attributes else ""
    noisy = {"clean_classes": f"Clean {of}", "noisy_classes": f"Noisy {of}"}
    if evidence.is_corrupted is None:
        # The corruption left examples out.
        noisy = {"clean_classes": f"Other {of}", "noisy_classes": f"Rare {of}"}
    return {
        "all": f"All {of}",
        **(noisy if evidence.noisy_classes or evidence.is_corrupted is not None else {}),
        "holdout": f"Held-out failures{whole}",
        "remaining": f"Remaining{whole}",
    }
