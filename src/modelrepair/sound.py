"""What a judge of the training examples makes of examples whose targets are known to be right."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sound:
    """Examples outside training, whose targets are right, as a judge sees them.

    Attributes:
        believed: a, the share of them whose target it finds at least as likely as all others together.
        count: m, how many they are.
    """

    believed: float
    count: int

    def share_right(self, believed: float) -> float:
        """1 − w = (1 − p)/a, at most 1: the share of the training examples that is right.

        If the judge doubts all of the share w that is wrong, and of those that are right as many as elsewhere, it
        believes 1 − p = (1 − w) a. Our own; 1 where it believes no less than elsewhere, 0 where it believes none.

        Args:
            believed: 1 − p, the share of the training examples that it believes.
        """
        return believed / max(self.believed, believed) if believed else 0.0
