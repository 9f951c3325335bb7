"""A sheet to draw on, measured in inches from its top left corner, that always gives the same PNG bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from modelrepair.pipeline.artifacts import output_file

# Okabe and Ito's colours, which stay apart for every common form of colour blindness.
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
SERIES = (BLUE, AMBER, GREEN, PURPLE, SKY)  # orange is kept for what is wrong
REFERENCE = "#9A6B00"  # a darker amber, legible as text
INK, MUTED, PALE, RULE = "#1F2328", "#656D76", "#B4BBC4", "#D8DCE1"

DOTS_PER_INCH = 150
WIDTH, MARGIN, GAP = (
    8.0,
    0.12,
    0.35,
)  # inches: of most sheets, around them, and between what stands side by side
SMALLEST_TEXT = 5.5
STYLE: dict[Any, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    # Names of classes come from the user's data, where a $ is a $.
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8.5,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
}


class Canvas:
    """A white sheet of `width` by `height` inches."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor="white")
        FigureCanvasAgg(self.figure)  # becomes the figure's canvas, whatever backend the user has chosen

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame fills this rectangle, in inches from the top left corner of the sheet."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(
        self,
        left: float,
        top: float,
        string: str,
        *,
        size: float = 8.5,
        color: str = INK,
        bold: bool = False,
        align: str = "left",
        width: float = np.inf,
    ) -> float:
        """Write with the top of the line at `top`; if it is wider than `width`, smaller, then cut short.

        Returns:
            Where the text ends, in inches from the left.
        """
        text = self.figure.text(
            left / self.width,
            1 - top / self.height,
            string,
            fontsize=size,
            color=color,
            fontweight="bold" if bold else "normal",
            ha=align,
            va="top",
        )
        room = width * DOTS_PER_INCH
        while size > SMALLEST_TEXT and text.get_window_extent().width > room:
            size -= 0.5
            text.set_fontsize(size)
        if len(string) > 1 and text.get_window_extent().width > room:
            fits, too_long = 1, len(string)
            while too_long - fits > 1:
                length = (fits + too_long) // 2
                text.set_text(string[:length] + "…")
                wide = text.get_window_extent().width > room
                fits, too_long = (fits, length) if wide else (length, too_long)
            text.set_text(string[:fits] + "…")
        return float(text.get_window_extent().x1 / DOTS_PER_INCH)

    def heading(self, title: str, *lines: str, left: float = MARGIN) -> None:
        """The title at the top of the sheet and what one sees below it, a line each."""
        room = self.width - 2 * left
        self.text(left, 0.12, title, size=12, bold=True, width=room)
        for number, line in enumerate(lines):
            self.text(left, 0.40 + 0.18 * number, line, color=MUTED, width=room)

    def panel(self, left: float, title: str, *lines: str) -> None:
        """The title at the top of one of several panels side by side, and what one sees below it, a line each."""
        self.text(left, 0.12, title, size=11, bold=True)
        for number, line in enumerate(lines):
            self.text(left, 0.38 + 0.18 * number, line, color=MUTED)

    def before_and_after(self, left: float, what: str, top: float = 0.56) -> None:
        """The legend of a bar chart; by default where the second line of a panel stands."""
        end = self.text(left, top, "before", color=MUTED, bold=True)
        end = self.text(end + 0.05, top, "and", color=MUTED)
        end = self.text(end + 0.05, top, "after", color=BLUE, bold=True)
        self.text(end + 0.05, top, what, color=MUTED)

    def beside(self, left: float, what: str | None, top: float = 0.74) -> None:
        """The legend of the bars between those of before and after: what the reference is; by default on the line that
        follows. Nothing where there is none."""
        if what is not None:
            end = self.text(left, top, "reference", color=REFERENCE, bold=True) + 0.05
            self.text(end, top, what, color=MUTED, width=self.width - end - MARGIN)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the sheet as a PNG without a date or the name of a program, so equal sheets are equal bytes."""
        with output_file(Path(path)) as file:
            self.figure.savefig(file, format="png", metadata={"Software": None})


@contextmanager
def picture(path: str | PathLike[str], width: float, height: float) -> Iterator[Canvas]:
    """A sheet in the project's style, whatever the user's own matplotlib settings; written to `path` at the end.

    Nothing is written if drawing fails.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        canvas = Canvas(width, height)
        yield canvas
        canvas.save(path)
