"""A pass over examples: by several processes, and in batches that the device has memory for.

Each process goes through a part of the batches, and all get all of the result. The batches are those of one process
alone, so what a network makes of an example is the same to the byte, and only sums over examples are added up in
another order. Where one process works alone nothing of this costs anything.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.precision import exact_products
from modelrepair.pipeline import processes

log = logging.getLogger(__name__)

EXCHANGED = {torch.bool: torch.uint8, torch.bfloat16: torch.float32, torch.float16: torch.float32}
"""Types that not every way of exchanging tensors knows, and wider ones that hold the same values."""

Given = ParamSpec("Given")
Found = TypeVar("Found")


class InBatches(Protocol):
    """What goes through examples so many at a time."""

    batch_size: int
    device: torch.device


Passing = TypeVar("Passing", bound=InBatches)


def fitting(
    go_through: Callable[Concatenate[Passing, Given], Found],
) -> Callable[Concatenate[Passing, Given], Found]:
    """The same pass over examples, by `exact_products`, in batches of half the size where there is no memory for them.

    It begins anew and says so, and this model goes on in such batches.

    Args:
        go_through: a method whose result depends on the model's `batch_size` in nothing but rounding.

    Raises:
        RepairError: from the method, if there is no memory for a single example; or for the batch of each of several
            processes, which have to go through the same ones.
    """

    @functools.wraps(go_through)
    def in_smaller_ones(model: Passing, /, *given: Given.args, **named: Given.kwargs) -> Found:
        while True:
            try:
                with exact_products():
                    return go_through(model, *given, **named)
            except torch.OutOfMemoryError as error:
                _expect_smaller_ones(model, error)
            # Not while the error is at hand, whose traceback holds what the batch has filled the memory with.
            whole, model.batch_size = model.batch_size, -(-model.batch_size // 2)
            log.warning(
                "%s has no memory for %d examples at a time: going on with %d",
                model.device,
                whole,
                model.batch_size,
            )

    return in_smaller_ones


def _expect_smaller_ones(model: InBatches, error: RuntimeError) -> None:
    reason = " ".join(str(error).split())[:200]
    if processes.count() > 1:
        raise RepairError(
            f"{model.device} has no memory for {model.batch_size} examples at a time of each process ({reason}): start "
            "fewer processes, or one alone, which takes fewer examples then"
        ) from None
    if model.batch_size == 1:
        raise RepairError(
            f"{model.device} has no memory for a single example ({reason}): use a smaller network or smaller inputs, "
            "or hide the GPU with CUDA_VISIBLE_DEVICES="
        ) from None


GPU_TIMES = 32
GPU_SHARE = 1 / 16


def at_a_time(device: torch.device, on_cpu: int) -> int:
    """Bytes that are worked on at a time where it is so many on a CPU, for its caches and for what malloc keeps.

    On a GPU, which takes as long to be told of a small piece of work as of a large one, `GPU_TIMES` as many, up to
    `GPU_SHARE` of its memory.
    """
    if device.type != "cuda":
        return on_cpu
    return int(min(GPU_TIMES * on_cpu, GPU_SHARE * torch.cuda.get_device_properties(device).total_memory))


def own(items: range) -> range:
    """Those of the items that this process takes: consecutive ones, as many as any other takes, or one more or less."""
    number, count = processes.number(), processes.count()
    return items[len(items) * number // count : len(items) * (number + 1) // count]


class PerExample:
    """(n, ...) a value for each of n examples, put down a batch at a time.

    All go to one place from the start: were each batch's kept by itself, they would lie between the much larger blocks
    that passes free again, and the process would grow with n by far more than they take.

    Args:
        total: n.
        empty: (0,) the result of no examples, whose type is widened to that of the values; None where there are some.
    """

    def __init__(self, total: int, empty: Tensor | None = None) -> None:
        self._total = total
        self._empty = empty
        self._values: Tensor | None = None
        self._own: list[slice] = []

    def put(self, positions: slice, values: Tensor) -> None:
        """Take the values (m, ...) of the examples at these positions."""
        if self._values is None:
            kind = (
                values.dtype if self._empty is None else torch.promote_types(self._empty.dtype, values.dtype)
            )
            self._values = values.new_empty(self._total, *values.shape[1:], dtype=kind)
        self._values[positions] = values.detach()
        self._own.append(positions)

    def whole(self) -> Tensor:
        """The values of all examples in order, in every process that put down a part of them.

        Raises:
            RepairError: if some example's value comes from no process or from more than one.
        """
        if not self._total or processes.count() == 1:
            found = self._empty if self._values is None else self._values
            assert found is not None
            return found
        from accelerate import PartialState
        from accelerate.utils import gather, gather_object

        own = self._values
        places = torch.cat(
            [torch.empty(0, dtype=torch.int64), *(torch.arange(p.start, p.stop) for p in self._own)]
        )
        with processes.in_touch():
            # Of those that have any.
            kinds = gather_object([] if own is None else [(own.shape[1:], own.dtype, own.device.type)])
            longest = max(gather_object([len(places)]))
            shape, dtype, kept_on = kinds[0]
            device = PartialState().device
            # All send as much, what is too much with a place that there is not.
            sent = torch.zeros(longest, *shape, dtype=EXCHANGED.get(dtype, dtype), device=device)
            to = torch.full((longest,), -1, device=device)
            if own is not None:
                sent[: len(places)] = own[places.to(own.device)]
                to[: len(places)] = places
            to, sent = gather(to), gather(sent)
        return in_order(to[to >= 0], sent[to >= 0], self._total).to(kept_on, dtype)


def in_order(places: Tensor, values: Tensor, total: int) -> Tensor:
    """(total, ...) the values (m, ...) at their places (m,).

    Raises:
        RepairError: if some place has no value or more than one.
    """
    times = torch.bincount(places, minlength=total)
    wrong = int((times[:total] != 1).sum() + times[total:].sum())
    if wrong:
        raise RepairError(
            f"of {total} examples, {wrong} were taken by no process or by more than one: start all processes with the "
            "same program, parameters and data"
        )
    return torch.empty_like(values).index_copy_(0, places, values)


def summed(*totals: Tensor) -> None:
    """Put the sum over all processes in the place of each process's own, in every process to the same byte."""
    if processes.count() == 1:
        return
    from accelerate import PartialState
    from accelerate.utils import reduce

    with processes.in_touch():
        for total in totals:
            total.copy_(reduce(total.to(PartialState().device), "sum"))
