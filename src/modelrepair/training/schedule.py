"""How the learning rate changes while a descent goes on: a function of the step's number alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from modelrepair.errors import RepairError
from modelrepair.settings import choose

DROP = 0.1
"""By what a rate is multiplied at each drop (He et al. 2016, section 4.2)."""
RISE = 0.3
"""Share of all steps over which one cycle rises, unless a warm-up says otherwise."""
BEGIN, END = 1 / 25, 1 / 250_000
"""Of the highest rate, those at which one cycle begins and ends, as in PyTorch's `OneCycleLR`."""


@dataclass(frozen=True)
class Schedule:
    """The rate of every step, as a share of the descent's learning rate.

    With step t = 0, …, T − 1 and W steps of warm-up:

        constant    1
        cosine      ½(1 + cos π(t − W)/(T − W))  (Loshchilov & Hutter 2017, Eq. 5, without restarts)
        steps       0.1^k behind the k-th drop  (He et al. 2016, section 4.2)
        one-cycle   from 1/25 up to 1 at t = W − 1, then down to 1/250,000 at t = T − 1, both ways by half a cosine
                    (Smith & Topin 2018)

    of which the first three begin with (t + 1)/W for t < W. One cycle warms up over three tenths of all steps unless
    told otherwise.

    Attributes:
        name: constant, cosine, one-cycle or steps.
        warm_up: rounds over which the rate rises; None: none, or what one cycle takes.
        drops: rounds after which the rate drops, for steps.
    """

    name: str = "constant"
    warm_up: float | None = None
    drops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        choose("schedule", SHAPES, self.name)
        if self.warm_up is not None and not (math.isfinite(self.warm_up) and self.warm_up >= 0):
            raise RepairError(f"the warm-up is {self.warm_up!r} rounds: give a number of 0 or more, or null")
        # As read from a file they are a list.
        object.__setattr__(self, "drops", tuple(self.drops))
        if bool(self.drops) != (self.name == "steps") or list(self.drops) != sorted(set(self.drops)):
            raise RepairError(
                f"the schedule {self.name} was given the drops {list(self.drops)}: steps needs some "
                "rounds in ascending order, the others take none"
            )

    @property
    def is_constant(self) -> bool:
        """Whether every step has the same rate."""
        return self.name == "constant" and not self.warm_up

    def share(self, step: int, steps_a_round: int, rounds: int) -> float:
        """The rate of step t = `step`, counted from 0 over all rounds, as a share of the learning rate.

        Args:
            step: which one.
            steps_a_round: how many steps a round takes.
            rounds: how many rounds the whole descent has.
        """
        total = rounds * steps_a_round
        rise = (RISE * rounds if self.name == "one-cycle" else 0.0) if self.warm_up is None else self.warm_up
        warm = rise * steps_a_round
        if self.name != "one-cycle" and step < warm:
            return min(1.0, (step + 1) / warm)
        drops = sum(step >= drop * steps_a_round for drop in self.drops)
        return SHAPES[self.name](step, warm, total, drops)


def _cosine(step: float, begin: float, end: float, high: float = 1.0, low: float = 0.0) -> float:
    """Half a cosine from `high` at step `begin` to `low` at step `end`."""
    share = (step - begin) / (end - begin) if end > begin else 1.0
    return low + (high - low) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(step: int, warm: float, total: int, drops: int) -> float:
    top = warm - 1
    if step <= top:
        return _cosine(step, 0, top, BEGIN, 1.0)
    return _cosine(step, top, total - 1, 1.0, END)


SHAPES: dict[str, Callable[[int, float, int, int], float]] = {
    "constant": lambda step, warm, total, drops: 1.0,
    "cosine": lambda step, warm, total, drops: _cosine(step, warm, total),
    "one-cycle": _one_cycle,
    "steps": lambda step, warm, total, drops: DROP**drops,
}
"""From the step, the steps of warm-up, all steps, and how many drops lie behind, to the share behind the warm-up."""

CONSTANT = Schedule()
