"""Examples side by side: images as images, feature vectors as profiles, with captions and frames."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from modelrepair.evaluation.drawing.canvas import (
    DOTS_PER_INCH,
    INK,
    MARGIN,
    MUTED,
    ORANGE,
    PALE,
    RULE,
    WIDTH,
    Canvas,
    picture,
)
from modelrepair.evaluation.drawing.names import fit_on_one_line, label_text

Array = NDArray[np.generic]
COLUMNS = 8
TILE_GAP, ROW_GAP, CAPTION_LINE = 0.13, 0.15, 0.145
LETTER = 0.055  # inches that one of a sentence takes


@dataclass(frozen=True)
class Tile:
    """One example: its input, or a sentence, lines of caption (text, colour, bold), and whether a frame marks it."""

    values: Array
    caption: list[tuple[str, str, bool]] = field(default_factory=list)
    frame: str | None = None


def tiles_height(width: float, columns: int, rows: int, lines: int) -> float:
    """Inches that `rows` rows of tiles with `lines` lines of caption take in a block `width` inches wide."""
    side = (width + TILE_GAP) / columns - TILE_GAP
    return rows * (side + CAPTION_LINE * lines) + (rows - 1) * ROW_GAP


def draw_tiles(
    canvas: Canvas, left: float, top: float, width: float, columns: int, tiles: Sequence[Tile]
) -> None:
    """Tiles row by row into a block `width` inches wide: images as images, feature vectors as profiles.

    All profiles share one vertical scale, from the smallest to the greatest value shown.
    """
    if not tiles:
        return
    pitch = (width + TILE_GAP) / columns
    side = pitch - TILE_GAP
    lines = max(len(tile.caption) for tile in tiles)
    profiles = [
        values
        for values in (as_picture(tile.values) for tile in tiles if not _is_sentence(tile))
        if values.ndim == 1
    ]
    lowest = min([0.0, *(float(values.min()) for values in profiles)])
    highest = max([0.0, *(float(values.max()) for values in profiles)])
    # All of them in one coordinate system, in inches from the sheet's lower left corner: axes of their own would take
    # ten milliseconds each.
    rows = -(-len(tiles) // columns)
    height = tiles_height(width, columns, rows, lines)
    axes = canvas.axes(left, top, width, height)
    axes.set_axis_off()
    axes.set(xlim=(left, left + width), ylim=(canvas.height - top - height, canvas.height - top))
    axes.set_autoscale_on(False)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        x, y = left + column * pitch, top + row * (side + CAPTION_LINE * lines + ROW_GAP)
        bottom = canvas.height - y - side
        # The part of the tile that is framed: from the left, from below, width and height.
        shown = (x, bottom, side, side)
        values = np.zeros((1, 1)) if _is_sentence(tile) else as_picture(tile.values)
        if _is_sentence(tile):
            words = textwrap.fill(str(tile.values), max(int(side / LETTER), 1))
            axes.text(x + side / 2, bottom + side / 2, words, ha="center", va="center", size=6.5, color=INK)
        elif values.ndim == 1:
            margin = 0.05 * (highest - lowest) or 1.0
            zero, *heights = bottom + side * (np.array([0.0, *values]) - lowest + margin) / (
                highest - lowest + 2 * margin
            )
            edges = np.linspace(x, x + side, len(values) + 1)
            axes.stairs(heights, edges, baseline=zero, fill=True, color=MUTED)
            axes.plot([x, x + side], [zero, zero], color=PALE, linewidth=0.6)
        else:
            coarse = max(values.shape[:2]) < side * DOTS_PER_INCH
            wide, high = (
                side * length / max(values.shape[:2]) for length in (values.shape[1], values.shape[0])
            )
            shown = (x + (side - wide) / 2, bottom + (side - high) / 2, wide, high)
            axes.imshow(
                values,
                cmap="gray",
                vmin=0,
                vmax=1,
                interpolation="nearest" if coarse else "antialiased",
                extent=(shown[0], shown[0] + wide, shown[1], shown[1] + high),
                aspect="auto",
            )
        axes.add_patch(
            Rectangle(
                shown[:2],
                *shown[2:],
                fill=False,
                color=tile.frame or RULE,
                linewidth=2.6 if tile.frame is not None else 0.8,
                joinstyle="miter",
                clip_on=False,
                zorder=3,
            )
        )
        for line, (string, color, bold) in enumerate(tile.caption):
            canvas.text(
                x + side / 2,
                y + side + 0.045 + CAPTION_LINE * line,
                string,
                size=7.5,
                color=color,
                bold=bold,
                align="center",
                width=pitch - 0.04,
            )


def _is_sentence(tile: Tile) -> bool:
    return tile.values.dtype.kind == "U"


def as_picture(values: Array) -> NDArray[np.float64]:
    """An input as (h, w) grey or (h, w, 3) colours in [0, 1], or as a profile (d,) if it is no image.

    Bytes are divided by 255; floats outside [0, 1] are stretched to it. Images with neither one nor three
    channels are averaged over their channels.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (2, 3):
        return array.reshape(-1)
    if values.dtype == np.uint8:
        array = array / 255
    elif array.min() < 0 or array.max() > 1:
        array = (array - array.min()) / max(float(np.ptp(array)), 1e-12)
    if array.ndim == 3:
        array = np.moveaxis(array, 0, 2) if len(array) == 3 else array.mean(axis=0)
    return array


class TrainingTiles:
    """Training examples as tiles with given and true label and score.

    Args:
        inputs: (n, ...) of which only the rows that are shown are read.
        scores: (n,) positive = harmful.
        given: (n,) class numbers, or (n, k) attributes, that the model was trained with.
        true: the same as they should be, or None where they are not known.
        class_names: a readable name for each class or attribute.
        is_corrupted: (n,) bool, which examples are framed; by default those with a wrong given label.
    """

    def __init__(
        self,
        inputs: Any,
        scores: NDArray[np.float64],
        given: ArrayLike,
        true: ArrayLike | None,
        class_names: Sequence[str],
        is_corrupted: ArrayLike | None,
    ) -> None:
        self.inputs, self.scores, self.given = inputs, scores, np.asarray(given)
        self.true = None if true is None else np.asarray(true)
        self.corrupted: NDArray[np.bool_] | None = None
        if is_corrupted is not None:
            self.corrupted = np.asarray(is_corrupted, dtype=bool)
        elif self.true is not None:
            self.corrupted = self._differ(slice(None))
        self.names = class_names
        self.on_one_line = self.given.ndim == 1 and fit_on_one_line(self.names)
        self.lines = 2 if self.true is None or self.on_one_line else 3

    def summary(self, rows: NDArray[np.intp]) -> str:
        """How many of these rows there are, and are corrupted."""
        if self.corrupted is None:
            return f"{len(rows)} examples"
        return f"{int(self.corrupted[rows].sum())} of these {len(rows)} are corrupted"

    def of(self, rows: NDArray[np.intp]) -> list[Tile]:
        """One tile for each of these rows."""
        return [self._tile(row) for row in rows]

    def _differ(self, rows: Any) -> Any:
        """Whether given and true label of these rows differ."""
        if self.true is None:
            return False
        differ = self.given[rows] != self.true[rows]
        return differ.any(axis=-1) if self.given.ndim == 2 else differ

    def _tile(self, row: np.intp) -> Tile:
        marked = self.corrupted is not None and bool(self.corrupted[row])
        color = ORANGE if self._differ(row) else INK
        given = f"given {label_text(self.given[row], self.names)}"
        if self.true is None:
            caption = [(given, INK, False)]
        else:
            true = f"true {label_text(self.true[row], self.names)}"
            pair = [f"{given}, {true}"] if self.on_one_line else [given, true]
            caption = [(line, color, False) for line in pair]
        score = f"{self.scores[row]:+#.3g}".rstrip(".").replace("-", "−")
        return Tile(
            np.asarray(self.inputs[row]), [*caption, (score, MUTED, False)], ORANGE if marked else None
        )


def draw_blocks(
    path: str | PathLike[str],
    title: str,
    notes: Sequence[str],
    blocks: Sequence[tuple[str, str, str, list[Tile]]],
    lines: int,
) -> None:
    """Blocks of tiles one below the other, each with a coloured title and a summary."""
    width, head, gap = WIDTH - 2 * MARGIN, 0.26, 0.24
    bodies = [
        tiles_height(width, COLUMNS, -(-len(tiles) // COLUMNS), lines) if tiles else 0.0
        for *_, tiles in blocks
    ]
    top = 0.54 + 0.18 * len(notes)
    with picture(path, WIDTH, top + sum(bodies) + len(blocks) * (head + gap) - 0.1) as canvas:
        canvas.heading(title, *notes)
        for (name, color, summary, tiles), body in zip(blocks, bodies, strict=True):
            end = canvas.text(MARGIN, top, name, size=9.5, color=color, bold=True)
            canvas.text(end + 0.12, top + 0.01, summary, color=MUTED)
            draw_tiles(canvas, MARGIN, top + head, width, COLUMNS, tiles)
            top += head + body + gap
