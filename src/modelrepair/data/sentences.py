"""Sentences as numbers of the words of a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

PADDING, BLANK = "[none]", "[blank]"
PADDING_NUMBER, BLANK_NUMBER = 0, 1
"""In every vocabulary: what fills a sentence up behind its end, and what stands for the missing word."""


def in_words(numbers: NDArray[Any], vocabulary: Sequence[str]) -> str:
    """The sentence that (length,) numbers of words spell, with ___ for the blank."""
    words = ["___" if number == BLANK_NUMBER else vocabulary[int(number)] for number in numbers if number]
    return " ".join(words)
