"""Which examples are the causes?

Imports `data`, `lists` and `settings`, and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.selection.candidates import candidates
from modelrepair.selection.listed import Listed
from modelrepair.selection.rules import (
    Expected,
    Fraction,
    OfClass,
    OracleSize,
    PartialTruth,
    Selection,
    Threshold,
    TopK,
    Truth,
    expected_causes,
)
from modelrepair.settings import choose
from modelrepair.sound import Sound

SELECTIONS: dict[str, type[Selection]] = {
    "expected": Expected,
    "fraction": Fraction,
    "listed": Listed,
    "of-class": OfClass,
    "oracle-size": OracleSize,
    "partial-truth": PartialTruth,
    "threshold": Threshold,
    "top-k": TopK,
    "truth": Truth,
}

__all__ = [
    "SELECTIONS",
    "Expected",
    "Fraction",
    "Listed",
    "OfClass",
    "OracleSize",
    "PartialTruth",
    "Selection",
    "Threshold",
    "TopK",
    "Truth",
    "candidates",
    "corrections",
    "expected_causes",
    "scores_of",
    "select_causes",
]


def select_causes(
    scores: NDArray[np.float64],
    table: pd.DataFrame,
    rule: str,
    *,
    known: NDArray[np.int64] | None = None,
    sound: Sound | None = None,
    at_least_one: bool = True,
    **options: object,
) -> NDArray[np.int64]:
    """Positions of the causes among the training examples, most harmful first.

    Args:
        scores: (n,) positive means harmful.
        table: a row for each training example.
        rule: one of `SELECTIONS`.
        known: positions of causes that are known beforehand: they are taken in any case, and come first.
        sound: how often the judge believes what is right outside training, for rules that count by it.
        at_least_one: whether finding none is an error where the rule goes by scores; to others it always is.
        options: of the rule.

    Raises:
        RepairError: if there is no such rule, it wants more than there is, or it finds nothing.
    """
    if len(scores) != len(table):
        raise RepairError(
            f"there are {len(scores)} scores and {len(table)} training examples: rerun the stage score-influence"
        )
    if not np.isfinite(scores).all():
        raise RepairError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are NaN or infinite")
    chosen = choose("selection rule", SELECTIONS, rule)(**options)
    if chosen.by_score and len(scores) > 1 and scores.min() == scores.max():
        raise RepairError(
            f"all {len(scores)} training examples score {scores[0]:.4g}, so none can be told from the rest: choose "
            "another identification"
        )
    causes = chosen.select(scores, table, sound)
    if known is not None:
        causes = np.r_[known, causes[~np.isin(causes, known)]]
    if not len(causes) and (at_least_one or not chosen.by_score):
        raise RepairError(
            f"the selection rule {rule!r} finds no causes (the highest score is {scores.max():.4g}): "
            "choose a lower threshold or another rule, or a treatment that goes without, such as mend"
        )
    return causes


def scores_of(ranked: pd.DataFrame, table: pd.DataFrame) -> NDArray[np.float64]:
    """(n,) the scores of the training examples, which must be theirs and in their order.

    Args:
        ranked: a row for each scored example, with `example`, its number, and `score`.
        table: a row for each training example, with `example`.

    Raises:
        RepairError: if they are of other examples, or in another order.
    """
    scores: NDArray[np.float64] = ranked["score"].to_numpy()
    if len(scores) == len(table):
        other = np.flatnonzero(ranked["example"].to_numpy() != table["example"].to_numpy())
        if len(other):
            scored, there = (rows["example"].iloc[other[0]] for rows in (ranked, table))
            raise RepairError(
                f"the scores are of other training examples, or of these in another order: number {other[0] + 1} is of "
                f"example {scored}, and the model was trained on example {there} there: rerun the stage score-influence"
            )
    return scores


def corrections(
    table: pd.DataFrame, classes: Sequence[str], rule: str, **options: object
) -> NDArray[np.int64] | None:
    """(n,) the number of the class that a person gives to each training example, -1 without; None of none at all.

    Args:
        table: a row for each training example.
        classes: names of the classes or attributes.
        rule: one of `SELECTIONS`, by which the causes were selected.
        options: of the rule.

    Raises:
        RepairError: if what is given is no class, or the one that the example has.
    """
    return choose("selection rule", SELECTIONS, rule)(**options).corrections(table, classes)
