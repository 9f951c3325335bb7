"""Pictures of a repair, each one PNG of the same bytes for the same numbers.

Class numbers index `class_names`. Inputs are images, bytes or floats of shape (n, channels, height, width)
or (n, height, width), or anything else, such as feature vectors (n, d), which are drawn as profiles. Only
the examples shown are read, so inputs may be memory-mapped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.canvas import BLUE, INK, MUTED, ORANGE, Canvas, picture
from modelrepair.evaluation.charts import (
    bar_chart,
    confusion_chart,
    curve_chart,
    empty_chart,
    percent,
    shorten,
    trace_chart,
)
from modelrepair.evaluation.gallery import (
    MARGIN,
    WIDTH,
    Array,
    Tile,
    TrainingTiles,
    draw_blocks,
    draw_tiles,
    fit_on_one_line,
    tiles_height,
)

Path = str | PathLike[str]
SIGN = "Score > 0: removing the example is predicted to lower the loss on the failures, so it is harmful."
GAP = 0.35


def draw_examples(
    path: Path,
    inputs: Array,
    scores: ArrayLike,
    given: ArrayLike,
    true: ArrayLike | None,
    class_names: Sequence[str],
    is_corrupted: ArrayLike | None = None,
    count: int = 16,
) -> None:
    """The most harmful training examples above the most helpful ones.

    Args:
        path: the PNG to write.
        inputs: (n, ...) training inputs.
        scores: (n,) influence scores, positive = harmful.
        given: (n,) class numbers the model was trained on.
        true: (n,) true class numbers, or None where they are not known.
        class_names: one name for each class.
        is_corrupted: (n,) bool, which examples are framed; by default those with a wrong given label.
        count: examples in each half; the halves never share one, so few examples give fewer.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    half = (len(order) + 1) // 2
    harmful, helpful = order[: min(count, half)], order[half:][::-1][:count]
    tiles = TrainingTiles(inputs, values, given, true, class_names, is_corrupted)
    # Scores such as the plain loss are all positive, and then nothing is helpful, only less harmful.
    first = "Most harmful" if np.any(values[harmful] > 0) else "Least helpful"
    last = "Most helpful" if np.any(values[helpful] < 0) else "Least harmful"
    blocks = [
        (first, ORANGE, tiles.summary(harmful), tiles.of(harmful)),
        (last, BLUE, tiles.summary(helpful), tiles.of(helpful)),
    ]
    notes = [SIGN]
    if tiles.corrupted is not None:
        notes.append("Orange frame: this training example was corrupted. Number below: its score.")
    if np.ndim(inputs) not in (3, 4):
        notes.append("Each profile shows the features of one example, all on the same scale.")
    draw_blocks(path, "Which training examples caused the failures?", notes, blocks, tiles.lines)


def draw_changes(
    path: Path,
    inputs: Array,
    labels: ArrayLike,
    base_predictions: ArrayLike,
    repaired_predictions: ArrayLike,
    class_names: Sequence[str],
    count: int = 16,
) -> None:
    """Test examples that the repair fixed above those that it broke.

    Args:
        path: the PNG to write.
        inputs: (n, ...) test inputs, of the assessment part.
        labels, base_predictions, repaired_predictions: (n,) class numbers.
        class_names: one name for each class.
        count: examples in each half, taken at even distances from all there are.
    """
    truth, before, after = (np.asarray(array) for array in (labels, base_predictions, repaired_predictions))
    was_right, is_right = before == truth, after == truth
    names = [str(name) for name in class_names]
    short = fit_on_one_line(names)

    def tile(row: np.intp, color: str) -> Tile:
        true, old, new = names[truth[row]], names[before[row]], names[after[row]]
        caption = [(f"true {true}", INK, False)]
        if short:
            caption.append((f"{old} → {new}", color, True))
        else:
            caption += [(f"before {old}", MUTED, False), (f"after {new}", color, True)]
        return Tile(np.asarray(inputs[row]), caption)

    blocks = []
    for title, color, members, among, noun in (
        ("Fixed", BLUE, ~was_right & is_right, ~was_right, "wrong before"),
        ("Broken", ORANGE, was_right & ~is_right, was_right, "right before"),
    ):
        rows = np.flatnonzero(members)
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]
        summary = f"{len(rows)} of {int(among.sum())} that were {noun}"
        blocks.append((title, color, summary, [tile(row, color) for row in shown]))
    notes = [
        f"On {len(truth)} test examples for assessment: accuracy {percent(_share(was_right))} before, "
        f"{percent(_share(is_right))} after the repair.",
        "Below each example: its true class and what was predicted before and after.",
    ]
    draw_blocks(path, "What the repair fixed and what it broke", notes, blocks, 2 if short else 3)


def draw_identification_curve(
    path: Path, curves: Mapping[str, pd.DataFrame], auroc: Mapping[str, float | None]
) -> None:
    """The share of the corrupted examples found against the share inspected, beside oracle and random.

    Args:
        path: the PNG to write.
        curves: named tables of `identification_curve`, the method first, then what it is compared with.
        auroc: area under the ROC curve by the same names, shown beside the name.
    """
    with picture(path, 6.4, 5.0) as canvas:
        name, curve = next(iter(curves.items()))
        notes = ["Training examples are inspected from the highest score, the most harmful, downwards."]
        if len(curve):
            found = float(np.interp(0.2, curve["inspected"], curve["found"]))
            notes.append(f"The first 20 % by {name} hold {percent(found, 0)} of the corrupted examples.")
        canvas.heading("How soon are the corrupted examples found?", *notes)
        curve_chart(canvas.axes(0.62, 0.98, 5.58, 3.45), curves, auroc)


def draw_confusions(
    path: Path, before: NDArray[np.int64], after: NDArray[np.int64], class_names: Sequence[str]
) -> None:
    """Two confusion matrices side by side.

    Args:
        path: the PNG to write.
        before, after: (k, k) counts of `confusion_matrix`: rows true, columns predicted.
        class_names: one name for each of the k classes.
    """
    longest = max(len(shorten(str(name))) for name in class_names)
    room = 0.4 + 0.065 * longest
    side = (WIDTH - 2 * MARGIN - GAP) / 2 - room
    with picture(path, WIDTH, 1.0 + side + 0.44 + 0.05 * longest) as canvas:
        canvas.heading(
            "Which classes are confused, before and after the repair",
            "Counts of test examples; colour is the share of the true class (row): blue right, orange wrong "
            "(full orange from 30 %).",
        )
        for left, title, counts in (
            (MARGIN, "Before", before),
            (MARGIN + room + side + GAP, "After", after),
        ):
            right, total = int(np.trace(counts)), int(counts.sum())
            canvas.text(left + room, 0.78, title, size=9.5, bold=True)
            canvas.text(
                left + room + side,
                0.79,
                f"{right} of {total} right ({percent(right / total)})" if total else "no examples",
                color=MUTED,
                align="right",
            )
            confusion_chart(canvas.axes(left + room, 1.0, side, side), counts, class_names)


def draw_trade_off(path: Path, trace: pd.DataFrame, returned_step: int | None = None) -> None:
    """Accuracies along the steps of a treatment, and the point that it returned.

    Args:
        path: the PNG to write.
        trace: a column step and any columns ending in _accuracy (fractions; missing where not measured).
        returned_step: the step returned; by default the first with the highest discovery_accuracy.

    Raises:
        RepairError: if the trace lacks the column step.
    """
    if "step" not in trace.columns:
        raise RepairError(
            f"the treatment's trace has the columns {list(trace.columns)}: it needs a column step"
        )
    accuracies = {
        str(name): trace[name].to_numpy(dtype=np.float64)
        for name in trace.columns
        if str(name).endswith("_accuracy") and trace[name].notna().any()
    }
    steps = trace["step"].to_numpy(dtype=np.int64)
    with picture(path, WIDTH, 3.9) as canvas:
        title = "Accuracy along the treatment"
        if not accuracies:
            canvas.heading(title)
            empty_chart(
                canvas.axes(MARGIN, 0.9, WIDTH - 2 * MARGIN, 2.6), "This treatment has no steps to show"
            )
            return
        watched = accuracies.get("discovery_accuracy", next(iter(accuracies.values())))
        returned = int(steps[np.nanargmax(watched)]) if returned_step is None else returned_step
        canvas.heading(
            title, f"Orange: the point that is returned (step {returned}). Dotted: before treatment."
        )
        pitch = (WIDTH - MARGIN) / len(accuracies)
        for number, (name, accuracy) in enumerate(accuracies.items()):
            left, width = MARGIN + number * pitch + 0.5, pitch - 0.62
            known = ~np.isnan(accuracy)
            label = name.removesuffix("_accuracy").replace("_", " ").capitalize()
            canvas.text(left, 0.78, label, size=9.5, bold=True)
            for value in accuracy[known & (steps == returned)][:1]:
                canvas.text(
                    left + width, 0.79, percent(value), size=9, color=ORANGE, bold=True, align="right"
                )
            trace_chart(canvas.axes(left, 1.02, width, 2.35), steps[known], accuracy[known], returned)


def draw_summary(
    path: Path,
    inputs: Array,
    scores: ArrayLike,
    given: ArrayLike,
    true: ArrayLike | None,
    class_names: Sequence[str],
    is_corrupted: ArrayLike | None,
    curves: Mapping[str, pd.DataFrame],
    auroc: Mapping[str, float | None],
    metrics: Mapping[str, object],
) -> None:
    """Cause, identification and repair in one picture.

    Args:
        path: the PNG to write.
        inputs, scores, given, true, class_names, is_corrupted: as in `draw_examples`.
        curves, auroc: as in `draw_identification_curve`.
        metrics: the value of `repair_metrics`.
    """
    values = np.asarray(scores, dtype=np.float64)
    tiles = TrainingTiles(inputs, values, given, true, class_names, is_corrupted)
    harmful = np.argsort(-values, kind="stable")[:12]
    before, after = metrics["before"], metrics["after"]
    assert isinstance(before, Mapping)
    assert isinstance(after, Mapping)
    block, columns, rows, top = 3.3, 4, 3, 1.08
    body = tiles_height(block, columns, rows, tiles.lines)
    sign = ("Highest scores (> 0: removing the example is", "predicted to lower the loss on the failures).")
    framed = () if tiles.corrupted is None else ("Orange frame: the example was corrupted.",)
    with picture(path, 10.6, top + body + 0.12) as canvas:
        _panel_heading(canvas, MARGIN, "1  Find what caused the failures", *sign, *framed)
        draw_tiles(canvas, MARGIN, top, block, columns, tiles.of(harmful))
        left = MARGIN + block + GAP
        inspected = ("Corrupted examples found while inspecting", "from the highest score downwards.")
        _panel_heading(canvas, left, "2  Check the ranking", *inspected)
        curve_chart(canvas.axes(left + 0.45, top, 2.95, body - 0.42), curves, auroc)
        left += 3.4 + GAP
        _panel_heading(canvas, left, "3  Repair the model", "Accuracy on test examples (%)")
        _before_and_after(canvas, left, "the repair")
        bar_chart(canvas.axes(left, top - 0.16, 10.6 - left - MARGIN, body + 0.14), before, after)


def draw_erasure(
    path: Path,
    inputs: Array,
    given: ArrayLike,
    erased: ArrayLike,
    class_names: Sequence[str],
    erasure: Mapping[str, Any],
    metrics: Mapping[str, Any],
    count: int = 12,
) -> None:
    """Some of the examples that were erased on request, and what the model knows before and after.

    Args:
        path: the PNG to write.
        inputs: (n, ...) training inputs.
        given: (n,) class numbers the model was trained on.
        erased: positions of the erased examples among them.
        class_names: one name for each class.
        erasure: before and after, each the value of `forgetting`.
        metrics: the value of `repair_metrics`.
        count: examples shown, taken at even distances from all there are.
    """
    positions, labels = np.asarray(erased), np.asarray(given)
    shown = positions[np.unique(np.linspace(0, len(positions) - 1, count).round().astype(int))]
    names = [str(name) for name in class_names]
    tiles = [Tile(np.asarray(inputs[row]), [(shorten(names[labels[row]]), INK, False)]) for row in shown]
    block, columns, top = 4.4, 6, 0.9
    body = max(2.6, tiles_height(block, columns, -(-len(tiles) // columns), 1))
    values = {when: {**erasure[when], "all": metrics[when]["all"]} for when in ("before", "after")}
    groups = {
        "erased": "Erased training examples",
        "kept": "Kept training examples",
        "all": "Test examples, all classes",
    }
    with picture(path, 9.2, top + body + 0.12) as canvas:
        number = f"{len(positions)} of {len(labels)} training examples"
        some = "" if len(shown) == len(positions) else f"; {len(shown)} of them, with their labels:"
        _panel_heading(canvas, MARGIN, "1  Erase what was asked for", number + some)
        draw_tiles(canvas, MARGIN, top, block, columns, tiles)
        left = MARGIN + block + GAP
        _panel_heading(canvas, left, "2  See what the model still knows", "Accuracy by the given labels (%)")
        _before_and_after(canvas, left, "the erasure")
        bar_chart(
            canvas.axes(left, top, 9.2 - left - MARGIN, body), values["before"], values["after"], groups
        )


def _before_and_after(canvas: Canvas, left: float, what: str) -> None:
    """The legend of a bar chart."""
    end = canvas.text(left, 0.56, "before", color=MUTED, bold=True)
    end = canvas.text(end + 0.05, 0.56, "and", color=MUTED)
    end = canvas.text(end + 0.05, 0.56, "after", color=BLUE, bold=True)
    canvas.text(end + 0.05, 0.56, what, color=MUTED)


def _panel_heading(canvas: Canvas, left: float, title: str, *lines: str) -> None:
    canvas.text(left, 0.12, title, size=11, bold=True)
    for number, line in enumerate(lines):
        canvas.text(left, 0.38 + 0.18 * number, line, color=MUTED)


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else 0.0
