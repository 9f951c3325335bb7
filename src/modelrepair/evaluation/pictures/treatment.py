"""How did accuracy go along the treatment?"""

from __future__ import annotations

from os import PathLike

import numpy as np

from modelrepair.errors import RepairError
from modelrepair.evaluation.drawing.canvas import MARGIN, ORANGE, WIDTH, picture
from modelrepair.evaluation.drawing.charts import empty_chart, percent, trace_chart
from modelrepair.evaluation.evidence import Evidence


def draw(path: str | PathLike[str], evidence: Evidence) -> None:
    """Accuracies along the points of the treatment, and the one that it returned.

    Where none is marked as returned, it is the first with the highest discovery_accuracy.

    Raises:
        RepairError: if the course lacks the column round.
    """
    course = evidence.course
    if "round" not in course.columns:
        raise RepairError(
            f"the treatment's course has the columns {list(course.columns)}: it needs a column round"
        )
    accuracies = {
        str(name): course[name].to_numpy(dtype=np.float64)
        for name in course.columns
        if str(name).endswith("_accuracy") and course[name].notna().any()
    }
    steps = course["round"].to_numpy(dtype=np.int64)
    with picture(path, WIDTH, 3.9) as canvas:
        title = "Accuracy along the treatment"
        if not accuracies:
            canvas.heading(title)
            empty_chart(
                canvas.axes(MARGIN, 0.9, WIDTH - 2 * MARGIN, 2.6), "This treatment has no steps to show"
            )
            return
        marked = steps[course["returned"].to_numpy(dtype=bool)] if "returned" in course.columns else steps[:0]
        watched = accuracies.get("discovery_accuracy", next(iter(accuracies.values())))
        returned = int(marked[0] if len(marked) else steps[np.nanargmax(watched)])
        canvas.heading(
            title, f"Orange: the point that is returned (step {returned}). Dotted: before treatment."
        )
        pitch = (WIDTH - MARGIN) / len(accuracies)
        for number, (name, accuracy) in enumerate(accuracies.items()):
            left, width = MARGIN + number * pitch + 0.6, pitch - 0.76
            known = ~np.isnan(accuracy)
            label = name.removesuffix("_accuracy").replace("_", " ").capitalize()
            canvas.text(left, 0.78, label, size=9.5, bold=True)
            for value in accuracy[known & (steps == returned)][:1]:
                canvas.text(
                    left + width, 0.79, percent(value), size=9, color=ORANGE, bold=True, align="right"
                )
            trace_chart(canvas.axes(left, 1.02, width, 2.35), steps[known], accuracy[known], returned)
