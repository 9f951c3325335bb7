"""What was erased on request and what is left of it, where nothing was scored."""

from __future__ import annotations

from os import PathLike

import numpy as np

from modelrepair.evaluation.drawing.canvas import GAP, INK, MARGIN, picture
from modelrepair.evaluation.drawing.charts import bar_chart
from modelrepair.evaluation.drawing.gallery import Tile, draw_tiles, tiles_height
from modelrepair.evaluation.drawing.names import label_text, readable, shorten
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures import erasure, reference, repair


def draw(path: str | PathLike[str], evidence: Evidence, count: int = 12) -> None:
    """Some of the erased examples, and what the model knows before and after, beside the reference.

    Nothing where examples were scored: see `summary`.

    Args:
        path: the PNG to write.
        evidence: of the run.
        count: examples shown, taken at even distances from all there are.
    """
    if evidence.scores is not None:
        return
    erased, labels = evidence.causes, evidence.given_labels
    places = np.linspace(0, len(erased) - 1, min(count, len(erased)))
    shown = erased[np.unique(places.round().astype(int))]
    names = readable(evidence.class_names)
    tiles = [
        Tile(
            np.asarray(evidence.training_shown[row]), [(shorten(label_text(labels[row], names)), INK, False)]
        )
        for row in shown
    ]
    block, columns, top = 4.4, 6, 0.9
    body = max(2.6, tiles_height(block, columns, -(-len(tiles) // columns), 1))
    known, measured = erasure.measure(evidence), repair.measure(evidence)
    values = {when: {**known[when], "all": measured[when]["all"]} for when in ("before", "after")}
    beside = reference.measure(evidence)
    if beside:
        values["reference"] = {**known["reference"], "all": beside["after"]["all"]}
    groups = {
        "erased": "Erased training examples",
        "kept": "Kept training examples",
        "all": f"Test examples, all {'attributes' if evidence.has_attributes else 'classes'}",
    }
    with picture(path, 9.2, top + body + 0.12) as canvas:
        number = f"{len(erased)} of {len(labels)} training examples"
        some = "" if len(shown) == len(erased) else f"; {len(shown)} of them, with their labels:"
        canvas.panel(MARGIN, "1  Erase what was asked for", number + some)
        draw_tiles(canvas, MARGIN, top, block, columns, tiles)
        left = MARGIN + block + GAP
        canvas.panel(left, "2  See what the model still knows", "Accuracy by the given labels (%)")
        canvas.before_and_after(left, "the erasure")
        canvas.beside(left, evidence.reference_in_words)
        legend = 0.12 if beside else 0.0
        axes = canvas.axes(left, top + legend, 9.2 - left - MARGIN, body - legend)
        bar_chart(axes, values["before"], values["after"], groups, values.get("reference"))
