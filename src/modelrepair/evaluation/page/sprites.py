"""Thumbnails of many examples on few sheets, each a PNG, within a budget of bytes."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from modelrepair.evaluation.drawing.gallery import as_picture
from modelrepair.evaluation.evidence import Inputs

SIDES = (64, 56, 48, 40, 32, 28, 24, 20, 16, 14, 12, 10, 8)
COLUMNS = 40
MOST_SHEETS = 200
READ_AT_ONCE = 500
TRIED = 400  # thumbnails by which the bytes of all are estimated
GREYS, COLOURS = 32, 64
BACKGROUND, BAR = 26, 190  # of a profile

Thumbnails = NDArray[np.uint8]


@dataclass(frozen=True)
class Sheet:
    """A PNG with thumbnails in rows of 40, of `side` pixels each way, and how many rows there are."""

    png: bytes
    side: int
    rows: int

    @property
    def data(self) -> str:
        """The PNG as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def draw_sheets(
    inputs: Inputs, rows: NDArray[np.int64], groups: NDArray[np.int64], budget: int
) -> tuple[list[Sheet], NDArray[np.int64]]:
    """One sheet for each group that occurs, ascending, and where on its sheet every example is.

    Args:
        inputs: images, or vectors, which are drawn as profiles.
        rows: (n,) those to draw.
        groups: (n,) what each belongs to. Of more than 200 groups all are drawn on sheets of 4,000.
        budget: bytes that all sheets together may take. Thumbnails are as large as that allows and no larger than the
            images; where even the smallest take more, they take more.

    Returns:
        The sheets, and (n, 2) the number of its sheet and the place on it of each example.
    """
    kinds, sheet = np.unique(groups, return_inverse=True)
    if len(kinds) > MOST_SHEETS:
        sheet = np.arange(len(rows)) // 4000
    place = np.zeros(len(rows), dtype=np.int64)
    members = [np.flatnonzero(sheet == number) for number in range(int(sheet.max()) + 1)] if len(rows) else []
    for chosen in members:
        place[chosen] = np.arange(len(chosen))
    tried = rows[np.unique(np.linspace(0, max(len(rows) - 1, 0), TRIED).astype(int))] if len(rows) else rows
    for side in _sides(inputs, tried):
        if len(_encode(_thumbnails(inputs, tried, side))) * len(rows) > budget * len(tried):
            continue
        sheets = [_sheet(_thumbnails(inputs, rows[chosen], side)) for chosen in members]
        if sum(len(sheet.png) for sheet in sheets) <= budget or side == SIDES[-1]:
            break
    else:
        sheets = [_sheet(_thumbnails(inputs, rows[chosen], SIDES[-1])) for chosen in members]
    return sheets, np.stack([sheet, place], axis=1)


def _sides(inputs: Inputs, tried: NDArray[np.int64]) -> Sequence[int]:
    """Sides of thumbnails to try, the largest first, none of them larger than the images."""
    if not len(tried):
        return SIDES[-1:]
    example = as_picture(np.asarray(inputs[int(tried[0])]))
    largest = SIDES[0] if example.ndim == 1 else min(max(example.shape[:2]), SIDES[0])
    return [largest, *(side for side in SIDES if side < largest)]


def _sheet(thumbnails: Thumbnails) -> Sheet:
    return Sheet(_encode(thumbnails), thumbnails.shape[1], -(-len(thumbnails) // COLUMNS))


def _thumbnails(inputs: Inputs, rows: NDArray[np.int64], side: int) -> Thumbnails:
    """(n, side, side) grey or (n, side, side, 3) coloured bytes."""
    pictures = [as_picture(values) for values in _read(inputs, rows)]
    if pictures and pictures[0].ndim == 1:
        return _profiles(np.stack(pictures), side)
    shape = (side, side, 3) if pictures and pictures[0].ndim == 3 else (side, side)
    drawn = np.zeros((len(rows), *shape), dtype=np.uint8)
    for thumbnail, picture in zip(drawn, pictures, strict=True):
        small = Image.fromarray((255 * picture).round().astype(np.uint8))
        if max(small.size) > side:
            scale = side / max(small.size)
            small = small.resize(
                (max(round(small.width * scale), 1), max(round(small.height * scale), 1)),
                Image.Resampling.BOX,
            )
        top, left = (side - small.height) // 2, (side - small.width) // 2
        thumbnail[top : top + small.height, left : left + small.width] = np.asarray(small)
    return drawn


def _read(inputs: Inputs, rows: NDArray[np.int64]) -> Iterator[Any]:
    for start in range(0, len(rows), READ_AT_ONCE):
        yield from np.asarray(inputs[rows[start : start + READ_AT_ONCE]])


def _profiles(values: NDArray[np.float64], side: int) -> Thumbnails:
    """(n, side, side) bars from 0 to each value of (n, d), all on one scale that leaves out the most extreme ones."""
    bars = np.stack([values[:, part].mean(axis=1) for part in _parts(values.shape[1], side)], axis=1)
    low, high = (float(np.quantile(bars, share)) for share in (0.005, 0.995))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (side - 1) / ((high - low) or 1.0)
    ends, zero = (np.clip(bars, low, high) - low) * scale, -low * scale
    height = np.arange(side)[::-1, None]
    column = np.arange(side) * bars.shape[1] // side
    lower, upper = np.minimum(ends, zero).round()[:, column], np.maximum(ends, zero).round()[:, column]
    inside = (height >= lower[:, None, :]) & (height <= upper[:, None, :])
    return np.where(inside, BAR, BACKGROUND).astype(np.uint8)


def _parts(length: int, most: int) -> Iterable[slice]:
    edges = np.unique(np.linspace(0, length, min(length, most) + 1).astype(int))
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _encode(thumbnails: Thumbnails) -> bytes:
    """A PNG of all, 40 a row; a few greys or colours, which take half the bytes and look the same at this size."""
    count, side = thumbnails.shape[:2]
    rows = max(-(-count // COLUMNS), 1)
    sheet = np.zeros((rows * COLUMNS, *thumbnails.shape[1:]), dtype=np.uint8)
    sheet[:count] = thumbnails
    grid = sheet.reshape(rows, COLUMNS, side, side, *thumbnails.shape[3:]).swapaxes(1, 2)
    image = Image.fromarray(grid.reshape(rows * side, COLUMNS * side, *thumbnails.shape[3:]))
    if thumbnails.ndim == 4:
        image = image.quantize(COLOURS, dither=Image.Dither.NONE)
    else:
        steps = (np.arange(256) * (GREYS - 1) / 255).round()
        image = image.point([int(step) for step in steps]).convert("P")
        greys = (np.arange(GREYS) * 255 / (GREYS - 1)).round().astype(np.uint8)
        image.putpalette(np.repeat(greys, 3).tobytes())
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=7)
    return content.getvalue()
