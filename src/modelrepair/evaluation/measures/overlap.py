"""How much of the right answer does an answer have? Exact match and F1 of words (Rajpurkar et al. 2016, SQuAD)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

_ARTICLES = {"a", "an", "the"}
_PUNCTUATION = re.compile(f"[{re.escape(string.punctuation)}]")


def overlap(answers: ArrayLike, right: ArrayLike, vocabulary: Sequence[str]) -> dict[str, float | None]:
    """Means over answers, of which each is one entry of the vocabulary that may be several words, such as New York.

    Args:
        answers, right: (k,) numbers of entries.
        vocabulary: the entries.

    Returns:
        exact_match: share of the answers that are right but for capitals, punctuation and articles;
        f1: mean harmonic mean of the shares of the answer's words that the right one has, and of its words that the
        answer has. None where there are no answers.
    """
    pairs = np.stack([np.asarray(answers), np.asarray(right)], axis=1)
    if not len(pairs):
        return {"exact_match": None, "f1": None}
    different, places = np.unique(pairs, axis=0, return_inverse=True)
    shared = np.array([_f1(vocabulary[answer], vocabulary[wanted]) for answer, wanted in different])
    same = np.array(
        [_words(vocabulary[answer]) == _words(vocabulary[wanted]) for answer, wanted in different]
    )
    return {"exact_match": float(same[places].mean()), "f1": float(shared[places].mean())}


def _f1(answer: str, wanted: str) -> float:
    said, right = _words(answer), _words(wanted)
    if not said or not right:
        return float(said == right)
    common = (Counter(said) & Counter(right)).total()
    return 2 * common / (len(said) + len(right))


def _words(text: str) -> list[str]:
    return [word for word in _PUNCTUATION.sub("", text.lower()).split() if word not in _ARTICLES]
