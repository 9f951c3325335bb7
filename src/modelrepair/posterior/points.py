"""Points that somebody looks at, one after another, and the best of them."""

from __future__ import annotations

from typing import Any

from modelrepair.models.trained_model import TrainedModel
from modelrepair.training.descent import Oversight


class Points:
    """Keeps the point that who watches prefers, or the last where nobody watches, and writes down all.

    Attributes:
        trace: a row for each point: `round`, the columns that come with it, `watched`, and what was observed.
        best: the point that is kept.
        best_round: its row.

    Args:
        oversight: who looks on.
        start: the first point.
        columns: that come with it.
    """

    def __init__(self, oversight: Oversight, start: TrainedModel, **columns: object) -> None:
        self._oversight, self._value = oversight, -float("inf")
        self.trace: list[dict[str, Any]] = []
        self.best, self.best_round = start, 0
        self.look(start, **columns)

    def look(self, model: TrainedModel, **columns: object) -> bool:
        """Whether this further point is the best so far."""
        value, numbers, _ = self._oversight.look(model)
        self.trace.append({"round": len(self.trace), **columns, "watched": value, **numbers})
        if not self._oversight.prefers(value, self._value):
            return False
        self.best, self.best_round = model, len(self.trace) - 1
        if value is not None:
            self._value = max(value, self._value)
        return True
