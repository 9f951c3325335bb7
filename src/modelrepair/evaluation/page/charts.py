"""Curves as SVG, coloured by the page's style sheet, so that they follow its theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 40, 18, 10, 34
Points = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Chart:
    """A drawing and what it says, for who cannot see it."""

    title: str
    svg: Markup
    names: Sequence[str]


def line_chart(
    title: str,
    lines: Mapping[str, Points],
    x_label: str,
    mark: float | None = None,
    spoken: str = "",
) -> Chart:
    """Shares in percent over some number.

    Args:
        title: of the chart.
        lines: by name, at least one of them (x, share in [0, 1]) in the order of x; what is NaN is left out.
        x_label: what x is.
        mark: the x of what was returned, if something was.
        spoken: what the chart says, in a sentence.
    """
    known = {name: (x[~np.isnan(y)], 100 * y[~np.isnan(y)]) for name, (x, y) in lines.items()}
    known = {name: points for name, points in known.items() if len(points[0])}
    every_x = np.concatenate([x for x, _ in known.values()])
    every_y = np.concatenate([y for _, y in known.values()])
    low, high = float(every_x.min()), float(every_x.max())
    bottom = 10 * np.floor(float(every_y.min()) / 10)
    top = max(10 * np.ceil(float(every_y.max()) / 10), bottom + 10)

    def place(
        x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        across = LEFT + (x - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)
        down = TOP + (top - y) / (top - bottom) * (HEIGHT - TOP - BOTTOM)
        return across, down

    pieces = [
        Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="chart">').format(
            WIDTH, HEIGHT, f"{title}. {spoken}".strip()
        )
    ]
    for level in np.arange(bottom, top + 1, 10 if top - bottom <= 50 else 20):
        _, (down,) = place(np.array([low]), np.array([level]))
        pieces.append(
            Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
                LEFT, WIDTH - RIGHT, down, down
            )
        )
        pieces.append(
            Markup('<text class="tick end" x="{}" y="{:.1f}">{:.0f}</text>').format(LEFT - 6, down + 4, level)
        )
    for value in _ticks(low, high):
        (across,), _ = place(np.array([value]), np.array([bottom]))
        pieces.append(
            Markup('<text class="tick middle" x="{:.1f}" y="{}">{:.0f}</text>').format(
                across, HEIGHT - BOTTOM + 16, value
            )
        )
    pieces.append(
        Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(WIDTH - RIGHT, HEIGHT - 3, x_label)
    )
    if mark is not None:
        (across,), _ = place(np.array([mark]), np.array([bottom]))
        pieces.append(
            Markup('<line class="mark" x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}"/>').format(
                across, across, TOP, HEIGHT - BOTTOM
            )
        )
    for number, points in enumerate(known.values()):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(*place(*points), strict=True))
        pieces.append(Markup('<polyline class="line line{}" points="{}"/>').format(number % 4, path))
    return Chart(title, Markup("").join([*pieces, Markup("</svg>")]), list(known))


def _ticks(low: float, high: float) -> NDArray[np.float64]:
    """Whole numbers from low to high at a round distance, about five of them."""
    rough = max((high - low) / 5, 1.0)
    unit = 10 ** np.floor(np.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return np.arange(np.ceil(low / step) * step, high + step / 2, step)[: int((high - low) // step) + 1]
