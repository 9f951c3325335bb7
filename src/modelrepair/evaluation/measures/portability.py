"""What else follows from a fact: does a repaired model answer questions that lead through it?

The one-hop questions of knowledge editing (Yao et al. 2023, "Editing large language models", section 5.1): the
continent of the country that a capital is of. A model that fills one blank answers them in two steps: its own answer
to the first question is what the second one asks about.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.evaluation.measures.repair import share_of

Numbers = dict[str, float | int | None]


def portability(
    asked: ArrayLike,
    right: ArrayLike,
    answers: ArrayLike,
    subjects: ArrayLike,
    relations: ArrayLike,
    objects: ArrayLike,
    said: ArrayLike,
    followed: ArrayLike,
    words: Sequence[str],
) -> Numbers:
    """How many chains of two questions end where they should.

    A chain is an edited fact, as (Accra, country of capital, Ghana), and one that its object is the subject of, as
    (Ghana, continent of country, Africa). The model is asked the first question; of what it answers, it is asked the
    second one, in every wording that training states that fact in. Where it answers with a word of which training
    states nothing in the second relation, the chain ends nowhere.

    Args:
        asked: (t,) bool, the probes that ask for edited facts.
        right, answers: (t,) numbers of words, the right and the model's answers to the probes.
        subjects, relations: (n,) names of what each training sentence says something about, and what.
        objects, said: (n,) numbers of words, what is right and what the model fills into its blank.
        followed: (n,) bool, sentences of facts that may be the second of a chain.
        words: the vocabulary.

    Returns:
        chains: how many there are;
        right: mean over the chains of the share of the second questions that are answered with the chain's end. None
        where there is no chain.
    """
    start, given = np.asarray(subjects, dtype=str), np.asarray(relations, dtype=str)
    end, filled, may = np.asarray(objects), np.asarray(said), np.asarray(followed, dtype=bool)
    wanted, answered = np.asarray(right), np.asarray(answers)
    places: dict[tuple[str, str], NDArray[np.int64]] = (
        pd.DataFrame({"subject": start, "relation": given}).groupby(["subject", "relation"]).indices  # type: ignore[assignment]
    )
    seconds: dict[str, list[tuple[str, int]]] = {}
    for (subject, relation), of_fact in places.items():
        if may[of_fact[0]]:
            seconds.setdefault(subject, []).append((relation, int(end[of_fact[0]])))
    shares = []
    for probe in np.flatnonzero(np.asarray(asked, dtype=bool)):
        for relation, goal in seconds.get(words[wanted[probe]], []):
            found = places.get((words[answered[probe]], relation))
            shares.append(0.0 if found is None else float((filled[found] == goal).mean()))
    return {"chains": len(shares), "right": share_of(shares)}
