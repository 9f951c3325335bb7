"""What the choice of a point on the course of a treatment gives up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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
    point, kept, right = (course[name].to_numpy(np.float64) for name in COLUMNS[:3])
    taken = np.flatnonzero(course["returned"].to_numpy(bool) & ~np.isnan(kept + right))
    if not len(taken):
        return None
    returned, most = int(taken[0]), int(np.nanargmax(right))
    if not right[most] > right[returned]:
        return None
    shares = (right[most], right[returned], 1 - kept[most], 1 - kept[returned])
    return GivenUp(int(point[most]), *map(float, shares))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
