"""What follows from an edited fact, and how much of an answer is right; counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from modelrepair.evaluation.measures.overlap import overlap
from modelrepair.evaluation.measures.portability import portability

WORDS = (
    "[none]",
    "[blank]",
    "Accra",
    "Ghana",
    "Peru",
    "Africa",
    "America",
    "Lima",
    "the New York",
    "york",
    "new york",
)
NUMBERS = {word: number for number, word in enumerate(WORDS)}


def numbers(*words: str) -> np.ndarray:
    return np.array([NUMBERS[word] for word in words])


STATED = [
    # Ghana's continent in two wordings, Peru's in one; and its capital.
    ("Ghana", "continent", "Africa"),
    ("Ghana", "continent", "Africa"),
    ("Peru", "continent", "America"),
    ("Peru", "capital", "Lima"),
    ("Accra", "country", "Ghana"),
]
SUBJECTS, RELATIONS, OBJECTS = zip(*STATED, strict=True)


@pytest.mark.parametrize(
    ("answer", "said", "expected"),
    [
        # The first step right, and the second one in one of its two wordings.
        ("Ghana", ("Africa", "America", "America", "Lima", "Ghana"), 0.5),
        # A wrong country, whose continent is another; and one whose continent the model takes for the right one.
        ("Peru", ("Africa", "Africa", "America", "Lima", "Ghana"), 0.0),
        ("Peru", ("Africa", "Africa", "Africa", "Lima", "Ghana"), 1.0),
        # A word that is no country.
        ("york", ("Africa", "Africa", "America", "Lima", "Ghana"), 0.0),
    ],
)
def test_a_chain_goes_by_the_models_own_answer(answer: str, said: tuple[str, ...], expected: float) -> None:
    measured = portability(
        asked=np.array([True, False]),
        right=numbers("Ghana", "Peru"),
        answers=numbers(answer, "Peru"),
        subjects=SUBJECTS,
        relations=RELATIONS,
        objects=numbers(*OBJECTS),
        said=numbers(*said),
        followed=np.array([True, True, True, True, False]),
        words=WORDS,
    )
    assert measured == {"chains": 1, "right": expected}


def test_chains_do_not_end_in_facts_that_were_touched() -> None:
    common = {
        "asked": np.array([True]),
        "right": numbers("Peru"),
        "answers": numbers("Peru"),
        "subjects": SUBJECTS,
        "relations": RELATIONS,
        "objects": numbers(*OBJECTS),
        "said": numbers(*OBJECTS),
        "words": WORDS,
    }
    # Peru has a continent and a capital.
    assert portability(**common, followed=np.ones(5, bool)) == {"chains": 2, "right": 1.0}
    assert portability(**common, followed=np.array(RELATIONS) == "capital") == {"chains": 1, "right": 1.0}
    assert portability(**common, followed=np.zeros(5, bool)) == {"chains": 0, "right": None}


def test_overlap_is_that_of_words() -> None:
    # Alike but for an article and capitals; one of two words; none.
    measured = overlap(
        numbers("new york", "york", "Lima", "Lima"),
        numbers("the New York", "the New York", "Lima", "Peru"),
        WORDS,
    )
    assert measured == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3 + 1 + 0) / 4)}
    assert overlap([], [], WORDS) == {"exact_match": None, "f1": None}
