"""What the choice of a point on the course of a treatment gives up."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

COLUMNS = ("round", "kept_accuracy", "query_accuracy", "returned")


@dataclass(frozen=True)
class GivenUp:
    """A point that has more of the failures right than the one that was returned.

    Attributes:
        point: its number.
        right, right_returned: shares of the failures shown that are right there, and at the returned point.
        broken, broken_returned: shares of what was right on discovery that are no longer right.
    """

    point: int
    right: float
    right_returned: float
    broken: float
    broken_returned: float

    def __str__(self) -> str:
        return (
            f"point {self.point} has {_percent(self.right)} of the failures shown right in place of "
            f"{_percent(self.right_returned)}, and breaks {_percent(self.broken)} of what was right in place of "
            f"{_percent(self.broken_returned)}"
        )


def given_up(course: pd.DataFrame) -> GivenUp | None:
    """The point with the most failures right, the first of equals; None if it is the returned one or no better.

    Args:
        course: a row for each point, with `round`, `kept_accuracy`, `query_accuracy`, and `returned`, of one of them.
            Without one of these nothing can be said.
    """
    if not set(COLUMNS) <= set(course.columns):
        return None
    known = course.dropna(subset=["kept_accuracy", "query_accuracy"])
    taken = known[known["returned"].astype(bool)]
    if not len(taken):
        return None
    taken = taken.iloc[0]
    most = known.loc[known["query_accuracy"].idxmax()]
    if most["query_accuracy"] <= taken["query_accuracy"]:
        return None
    return GivenUp(
        int(most["round"]),
        float(most["query_accuracy"]),
        float(taken["query_accuracy"]),
        1 - float(most["kept_accuracy"]),
        1 - float(taken["kept_accuracy"]),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
