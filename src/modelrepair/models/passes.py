"""A pass over examples by several processes: each goes through a part of the batches, and all get all of the result.

The batches are those of one process alone, so what a network makes of an example is the same to the byte, and only sums
over examples are added up in another order. Where one process works alone nothing of this costs anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.pipeline import processes

EXCHANGED = {torch.bool: torch.uint8, torch.bfloat16: torch.float32, torch.float16: torch.float32}
"""Types that not every way of exchanging tensors knows, and wider ones that hold the same values."""


def own(items: range) -> range:
    """Those of the items that this process takes: consecutive ones, as many as any other takes, or one more or less."""
    number, count = processes.number(), processes.count()
    return items[len(items) * number // count : len(items) * (number + 1) // count]


def gathered(parts: Sequence[tuple[slice, Tensor]], total: int, empty: Tensor | None = None) -> Tensor:
    """(total, ...) the values of all examples in order, in every process, from those that each process has.

    Args:
        parts: which examples, and a value (m, ...) for each.
        total: how many examples there are.
        empty: (0,) the result of no examples, whose type is widened to that of the values; None where there are some.

    Raises:
        RepairError: if some example's value comes from no process or from more than one.
    """
    if processes.count() == 1 or not total:
        return torch.cat([*(() if empty is None else (empty,)), *(value for _, value in parts)])
    from accelerate import PartialState
    from accelerate.utils import gather, gather_object

    with processes.in_touch():
        # Of those that have any.
        kinds = gather_object([(value.shape[1:], value.dtype, value.device.type) for _, value in parts[:1]])
        longest = max(gather_object([sum(len(value) for _, value in parts)]))
        shape, dtype, kept_on = kinds[0]
        # All send as much, what is too much with a place that there is not.
        device = PartialState().device
        places = torch.full((longest,), -1, device=device)
        values = torch.zeros(longest, *shape, dtype=EXCHANGED.get(dtype, dtype), device=device)
        filled = 0
        for positions, value in parts:
            here = slice(filled, filled + len(value))
            places[here] = torch.arange(positions.start, positions.stop)
            values[here] = value.detach()
            filled = here.stop
        places, values = gather(places), gather(values)
    there = places >= 0
    places, values = places[there], values[there]
    times = torch.bincount(places, minlength=total)
    if len(times) != total or not bool((times == 1).all()):
        raise RepairError(
            f"of {total} examples, {int((times != 1).sum())} were taken by no process or by more than one: start all "
            "processes with the same program, parameters and data"
        )
    ordered = torch.empty_like(values).index_copy_(0, places, values).to(kept_on, dtype)
    return ordered if empty is None else ordered.to(torch.promote_types(empty.dtype, dtype))


def summed(*totals: Tensor) -> None:
    """Put the sum over all processes in the place of each process's own, in every process to the same byte."""
    if processes.count() == 1:
        return
    from accelerate import PartialState
    from accelerate.utils import reduce

    with processes.in_touch():
        for total in totals:
            total.copy_(reduce(total.to(PartialState().device), "sum"))
