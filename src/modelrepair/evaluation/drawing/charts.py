"""The charts that pictures are made of, each drawn into axes that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from modelrepair.evaluation.drawing.canvas import AMBER, BLUE, INK, MUTED, ORANGE, PALE, RULE, SERIES
from modelrepair.evaluation.drawing.names import shorten

MOST_COUNTS = 20  # classes up to which a confusion matrix of this size has room for counts and names
FULL_ORANGE = 0.3  # share of a class's examples at which a confusion is drawn in full colour


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as text, such as 95.3 %."""
    return f"{100 * fraction:.{digits}f} %"


def curve_chart(axes: Axes, curves: Mapping[str, pd.DataFrame], auroc: Mapping[str, float | None]) -> None:
    """Identification curves with the oracle's and a random ranking's; the first curve stands out."""
    drawn = {name: curve for name, curve in curves.items() if len(curve)}
    if not drawn:
        empty_chart(axes, "No true causes are known")
        return
    reference = next(iter(drawn.values()))
    axes.plot(
        100 * reference["inspected"], 100 * reference["oracle"], "--", color=MUTED, lw=1.2, label="oracle"
    )
    axes.plot(
        100 * reference["inspected"], 100 * reference["random"], ":", color=MUTED, lw=1.2, label="random"
    )
    for number, (name, curve) in reversed(list(enumerate(drawn.items()))):
        area = auroc.get(name)
        axes.plot(
            100 * curve["inspected"],
            100 * curve["found"],
            color=SERIES[number % len(SERIES)],
            lw=1.5 if number else 2.4,
            label=name if area is None else f"{name} (AUROC {area:.3f})",
        )
    axes.set(xlim=(0, 100), ylim=(0, 103), xticks=range(0, 101, 20), yticks=range(0, 101, 20))
    axes.set(xlabel="training examples inspected (%)", ylabel="corrupted examples found (%)")
    lines, names = axes.get_legend_handles_labels()
    axes.legend(lines[:1:-1] + lines[:2], names[:1:-1] + names[:2], loc="lower right", handlelength=1.6)


def bar_chart(
    axes: Axes,
    before: Mapping[str, float | None],
    after: Mapping[str, float | None],
    groups: Mapping[str, str],
    reference: Mapping[str, float | None] | None = None,
) -> None:
    """Accuracy before and after for each group of examples, as bars side by side with their values.

    Args:
        axes: to draw into.
        before, after: fractions by the groups' names; None where a group has no examples.
        groups: names with their titles, from the top.
        reference: the same of the reference, whose bars stand between the others; None where there is none.
    """
    bars: list[tuple[Mapping[str, float | None], float, str]] = [(before, -0.14, PALE), (after, 0.13, BLUE)]
    height = 0.245
    if reference is not None:
        bars = [(before, -0.175, PALE), (reference, 0.015, AMBER), (after, 0.205, BLUE)]
        height = 0.17
    for row, (name, title) in enumerate(groups.items()):
        axes.text(0, row - 0.3, title, fontsize=8.5, color=INK, va="bottom")
        for values, offset, color in bars:
            value = values.get(name)
            if value is None:
                axes.text(0, row + offset, "no examples", fontsize=8, color=MUTED, va="center")
                continue
            axes.barh(row + offset, 100 * value, height=height, color=color)
            axes.text(
                100 * value + 1.5,
                row + offset,
                f"{100 * value:.1f}",
                fontsize=8,
                color=INK if color == BLUE else MUTED,
                fontweight="bold" if color == BLUE else "normal",
                va="center_baseline",
            )
    axes.set(xlim=(0, 116), ylim=(len(groups) - 0.7, -0.65), xticks=[], yticks=[])
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_color(RULE)


def confusion_chart(
    axes: Axes, counts: NDArray[np.int64], totals: NDArray[np.int64], class_names: Sequence[str]
) -> None:
    """A confusion matrix coloured by its share of the true class: blue what is right, orange what is wrong.

    Args:
        axes: to draw into.
        counts: (k, k) examples: rows true, columns predicted.
        totals: (k,) examples of each true class, whatever was predicted.
        class_names: k names.
    """
    classes = len(counts)
    share = counts / np.maximum(totals[:, None], 1)
    strength = np.clip(np.where(np.eye(classes, dtype=bool), share, share / FULL_ORANGE), 0, 1)[..., None]
    full = np.where(np.eye(classes, dtype=bool)[..., None], to_rgb(BLUE), to_rgb(ORANGE))
    colors = 1 - strength * (1 - full)
    axes.imshow(colors, interpolation="nearest", aspect="equal")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(False)
    axes.spines[:].set(visible=True, color=PALE)
    if classes > MOST_COUNTS:
        return
    size = float(np.clip(34 / classes + 4, 5, 10))
    for row, column in np.argwhere(counts > 0):
        luminance = float(colors[row, column] ** 2.2 @ (0.2126, 0.7152, 0.0722))
        axes.text(
            column,
            row,
            str(counts[row, column]),
            fontsize=size,
            color="white" if luminance < 0.3 else INK,
            ha="center",
            va="center_baseline",
        )
    names = [shorten(str(name)) for name in class_names]
    rotated = max(map(len, names)) > 2
    axes.set_xticks(range(classes), names, rotation=45 if rotated else 0, ha="right" if rotated else "center")
    if rotated:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    axes.set_yticks(range(classes), names)
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color="white", linewidth=1.2)
    axes.tick_params(which="minor", length=0)


def trace_chart(axes: Axes, steps: NDArray[np.int64], accuracy: NDArray[np.float64], returned: int) -> None:
    """Accuracies known at some steps of a treatment, with the first and the one that was returned."""
    axes.plot(steps, 100 * accuracy, color=BLUE, marker="o", markersize=3)
    axes.axhline(100 * accuracy[0], color=MUTED, linestyle=":", linewidth=1.2)
    axes.axvline(returned, color=ORANGE, linewidth=1.0, zorder=1.5)
    at = steps == returned
    axes.plot(steps[at], 100 * accuracy[at], "o", color=ORANGE, markersize=8, zorder=5)
    axes.margins(y=0.12)
    axes.set(xlabel="step", ylabel="accuracy (%)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def empty_chart(axes: Axes, message: str) -> None:
    """Axes that only say why they are empty."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, message, transform=axes.transAxes, color=MUTED, ha="center", va="center")
