"""How soon are the corrupted examples found?"""

from __future__ import annotations

from os import PathLike

import numpy as np

from modelrepair.evaluation.drawing.canvas import picture
from modelrepair.evaluation.drawing.charts import curve_chart, percent
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures import identification


def draw(path: str | PathLike[str], evidence: Evidence) -> None:
    """The share of the corrupted examples found against the share inspected, beside oracle and random.

    Nothing where nothing was scored or no truth is known.
    """
    curves = identification.curves(evidence)
    if not curves:
        return
    with picture(path, 6.4, 5.0) as canvas:
        name, curve = next(iter(curves.items()))
        found = float(np.interp(0.2, curve["inspected"], curve["found"]))
        canvas.heading(
            "How soon are the corrupted examples found?",
            "Training examples are inspected from the highest score, the most harmful, downwards.",
            f"The first 20 % by {name} hold {percent(found, 0)} of the corrupted examples.",
        )
        curve_chart(canvas.axes(0.62, 0.98, 5.58, 3.45), curves, identification.areas(evidence))
