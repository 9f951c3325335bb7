"""Names of classes as text that can be drawn, whatever they hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from matplotlib import font_manager
from numpy.typing import ArrayLike

LONGEST_NAME = 60


def readable(class_names: Sequence[object]) -> list[str]:
    """The names on one line each, of at most 60 characters.

    A name that the pictures' font lacks a character of, or that is empty, becomes its number, such as "no. 7": fonts
    for all scripts are not on every machine, and boxes in place of letters would not tell two classes apart.
    """
    names = [" ".join(str(name).split()) for name in class_names]
    glyphs = _glyphs()
    return [
        shorten(name, LONGEST_NAME) if name and glyphs.issuperset(map(ord, name)) else f"no. {number}"
        for number, name in enumerate(names)
    ]


def shorten(name: str, most: int = 12) -> str:
    """The name with at most `most` characters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def label_text(label: ArrayLike, names: Sequence[str]) -> str:
    """The name of the class, or of the attributes that an example has, "none" without any.

    Args:
        label: a class number, or (k,) attributes of 0 and 1.
        names: of the classes or attributes.
    """
    values = np.asarray(label)
    if values.ndim == 0:
        return names[int(values)]
    return ", ".join(names[int(number)] for number in np.flatnonzero(values > 0)) or "none"


def fit_on_one_line(names: Sequence[str]) -> bool:
    """Whether two class names fit on one line of a caption."""
    return max(map(len, names)) <= 2


@cache
def _glyphs() -> frozenset[int]:
    """The characters that both weights of the pictures' font can draw."""
    fonts = [
        font_manager.get_font(
            font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
        )
        for weight in ("normal", "bold")
    ]
    return frozenset(set(fonts[0].get_charmap()) & set(fonts[1].get_charmap()))
