"""What a fit will take, before it starts, and what would take less."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline import processes

KEPT_BYTES = 64 * 2**20
"""What glibc keeps of freed memory: it learns to take blocks of up to 32 MiB from its heap, and gives the heap's end
back once twice as much of it is free. Larger blocks it asks of the system, and gives back, one by one.
"""
LARGEST_KEPT = KEPT_BYTES // 2


def passed(held: int, touched: int) -> int:
    """Bytes at the worst moment of passes that hold so much of what they allocate and free in all.

    What is freed is seldom used again for what is larger, and kept up to a bound. Holes of more than a third of what is
    held were not met: what is as large as what was freed takes its place.
    """
    return held + min(touched - held, held // 3, KEPT_BYTES)


HOLES = 2.6
HOLES_OF_CONVOLUTIONS = 4.0
"""By how much what the passes of products hold grows in glibc's heap; and where patches of convolutions in float64 come
and go between.

Every operation makes tensors of other sizes, among them those that a backward pass needs, and what lies between these
is given back seldom: it took 2.0 to 2.9 times as much for networks of `benchmarks/estimates.py` without patches, 2.4 to
4.6 times with them, and not the same in every run. With every block asked of the system it takes little more than what
is held, and passes take half as long again.
"""


def after(touched: int, wanted: int) -> int:
    """Bytes of what is wanted after passes have freed so much, which can be used again for small blocks."""
    kept = min(touched, KEPT_BYTES)
    return wanted + kept if wanted > LARGEST_KEPT else max(wanted, kept)


@dataclass(frozen=True)
class Estimate:
    """What fitting a curvature and solving with it takes, beside the model and the data.

    Attributes:
        memory: bytes at the worst moment.
        operations: floating-point operations of the fit.
    """

    memory: int
    operations: float

    def in_words(self, device: torch.device) -> str:
        """Memory, and the time if all operations ran as fast as those of a large matrix product do; most run slower."""
        seconds = self.operations / product_rate(device)
        return f"about {_gib(self.memory)}, and {seconds:.1f} s at the speed of a matrix product"


def product_rate(device: torch.device | str = "cpu", size: int = 1000) -> float:
    """Floating-point operations a second of a float32 matrix product on this device, the best of four."""
    matrix = torch.ones(size, size, device=device)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        # Reading a number waits for devices that run ahead.
        float((matrix @ matrix)[0, 0])
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still have on a device; of a machine's memory, its share among those at work."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    information = Path("/proc/meminfo")
    if information.exists():
        lines = dict(line.split(":") for line in information.read_text().splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        files = Path("/sys/fs/cgroup") / limit, Path("/sys/fs/cgroup") / used
        if all(file.exists() for file in files):
            bound, current = (file.read_text().strip() for file in files)
            if bound.isdigit():
                free.append(int(bound) - int(current))
    return min(free) // processes.count_here()


def require_memory(
    estimate: Estimate, name: str, model: TrainedModel, examples: Examples, options: dict[str, Any]
) -> None:
    """Nothing if the estimate fits.

    Raises:
        RepairError: if it does not; names what would.
    """
    available = available_memory(model.device)
    if estimate.memory <= available:
        return
    remedies = list(_smaller(name, model, examples, options, available))
    raise RepairError(
        f"curvature {name!r} of {len(examples)} examples takes about {_gib(estimate.memory)} and "
        f"{_gib(available)} are available: use {', or '.join(remedies) or 'fewer examples and a smaller model'}"
    )


def _smaller(
    name: str, model: TrainedModel, examples: Examples, options: dict[str, Any], available: int
) -> Iterator[str]:
    """In words, the nearest choices of each kind that fit."""
    # The members of the registry import this module.
    from modelrepair.curvature import (
        BlockFisher,
        Curvature,
        DiagonalFisher,
        EigenvalueCorrectedFisher,
        GramFisher,
    )

    count, minibatch = len(examples), options.get("minibatch", 1)
    plain = {key: value for key, value in options.items() if key in ("memory", "scratch")}
    Choice = tuple[str, type[Curvature], Examples, dict[str, Any]]
    kinds: list[list[Choice]] = [
        [
            (f"mini-batch gradients (gram, minibatch: {m})", GramFisher, examples, {**plain, "minibatch": m})
            for m in (10, 30, 100, 300, 1000, 10_000, 100_000)
            if minibatch < m < count
        ],
        [
            (f"blocks (block, block_size: {size})", BlockFisher, examples, {"block_size": size})
            for size in (3000, 1000, 300, 100, 30)
            if size <= count
        ],
        [("Kronecker factors (ekfac)", EigenvalueCorrectedFisher, examples, {})],
        [("the diagonal (diagonal)", DiagonalFisher, examples, {})],
        [
            (f"a sample of {count // k} examples", GramFisher, examples.subset(range(count // k)), plain)
            for k in (2, 4, 8, 16, 32, 64)
            if count // k
        ],
    ]
    for choices in kinds:
        for words, member, chosen, changed in choices:
            needed = member.estimate(model, chosen, **changed).memory
            if needed <= available:
                yield f"{words}, about {_gib(needed)}"
                break


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
