"""Several processes that compute one result together.

All run the same program on the same inputs, and each computes everything, but of a pass over examples a part (see
`models.passes`); only the first writes. How many there are is no part of a result's identity.

They are started in one of two ways: by this module, on this machine, where MODELREPAIR_PROCESSES, or who calls it, says
how many; or by `torchrun` or `accelerate launch`, on one machine or several that see the same folder, whose processes
are joined. They talk through accelerate over torch.distributed, neither of which is imported where one process works
alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, NoReturn, TypeVar

from modelrepair.errors import RepairError

Value = TypeVar("Value")

PROCESSES = "MODELREPAIR_PROCESSES"
ABANDONED = 3
"""The status with which a process ends because another one did."""
PATIENCE = 30.0
"""Seconds in which a process whose end was noticed, or that was asked to end, has to be gone."""


@dataclass(frozen=True)
class _Group:
    """The processes that work together: which of them this one is, how many there are, how many on this machine."""

    number: int = 0
    count: int = 1
    here: int = 1


_group = _Group()
_others: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
"""The processes that this one has started, with what each says on stderr."""


def count() -> int:
    """How many processes work together; 1 unless this one has joined others."""
    return _group.count


def count_here() -> int:
    """How many of them share the memory of this machine."""
    return _group.here


def number() -> int:
    """Which of them this one is, from 0."""
    return _group.number


def is_first() -> bool:
    """Whether this one writes results."""
    return _group.number == 0


def is_further() -> bool:
    """Whether this process was started as another one's companion, also before it has joined."""
    return _is_started() and os.environ["RANK"] != "0"


@contextlib.contextmanager
def together(processes: Callable[[], int] = lambda: 1) -> Iterator[None]:
    """While the block runs, this process works together with others, if any are asked for or have been started.

    Args:
        processes: says how many there are to be; asked where the environment does not say it.

    Raises:
        RepairError: if they cannot be.
        SystemExit: in the block, where one of the others ends before all are done: with what that one says.
    """
    global _group
    wanted, starts = _wanted(processes), not _is_started()
    if wanted == 1:
        yield
        return
    done = False
    try:
        with _environment(_start(wanted) if starts else {}):
            _group = _join(wanted)
            yield
        # None leaves before all have come to the end: an error of one is the error of all.
        with in_touch():
            _leave()
        done = True
    finally:
        _group = _Group()
        _end_others(asked=done)


def from_first(make: Callable[[], Value]) -> Value:
    """What the first process makes, in all processes; the others do not make it.

    Args:
        make: makes something that can be pickled.
    """
    if count() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    content = [make() if is_first() else None]
    with in_touch():
        broadcast_object_list(content)
    return content[0]  # type: ignore[return-value]


@contextlib.contextmanager
def in_touch() -> Iterator[None]:
    """For what processes do with each other, which fails if one of them is gone.

    Raises:
        SystemExit: if it does.
    """
    try:
        yield
    except RuntimeError as error:
        _abandon(error)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """While the block runs, the environment has these variables besides."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _is_started() -> bool:
    """Whether something has started this process together with others, as `torchrun` does."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def _wanted(otherwise: Callable[[], int]) -> int:
    """How many processes the environment asks for; if it asks for none, as many as `otherwise` says.

    Raises:
        RepairError: if it is no number of processes.
    """
    name = "WORLD_SIZE" if _is_started() else PROCESSES
    given = os.environ.get(name, "").strip()
    if not given:
        return otherwise()
    if not (given.isascii() and given.isdigit() and int(given)):
        raise RepairError(f"{name} is {given!r}: give a whole number of processes, 1 or more")
    return int(given)


def _variables(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torch.distributed reads in a process that works together with others on this machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _start(processes: int) -> dict[str, str]:
    """Start the others, with the command that this process was started with; the variables of this one, the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *sys.orig_argv[1:]]
    for rank in range(1, processes):
        said = tempfile.TemporaryFile()  # noqa: SIM115
        other = subprocess.Popen(
            command,
            # What it says is of interest if it fails; how far it gets, the first shows for all.
            env={**os.environ, **_variables(rank, processes, port), "TQDM_DISABLE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _others.append((other, said))
    return _variables(0, processes, port)


def _join(processes: int) -> _Group:
    """Wait until all are there.

    Raises:
        RepairError: if accelerate is not installed, or there are more processes here than GPUs.
    """
    try:
        from accelerate import PartialState
    except ImportError:
        raise RepairError(
            f"{processes} processes are to work together, which takes the package accelerate: install it with "
            f"`pip install 'modelrepair[processes]'`, or leave {PROCESSES} and launch.processes out"
        ) from None
    import torch

    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    devices = torch.cuda.device_count()
    if 0 < devices < here:
        raise RepairError(
            f"{here} processes are to work together on a machine with {devices} GPU{'s' if devices > 1 else ''}: start "
            "one for each, or hide them with CUDA_VISIBLE_DEVICES="
        )
    # Accelerate would choose a number of threads where none is given, and last digits depend on it.
    threads = torch.get_num_threads()
    with in_touch(), _environment({"OMP_NUM_THREADS": str(threads)}):
        state = PartialState(cpu=not devices)
    torch.set_num_threads(threads)
    return _Group(state.process_index, state.num_processes, here)


def _leave() -> None:
    """Wait until all have come here, and part."""
    import torch
    from accelerate import PartialState

    torch.distributed.barrier()
    PartialState().destroy_process_group()
    PartialState._reset_state()


def _abandon(error: RuntimeError) -> NoReturn:
    """End this process because another one is gone, and say why that one is.

    Raises:
        SystemExit: always.
    """
    end = time.monotonic() + PATIENCE
    while _others and time.monotonic() < end:
        for place, (other, said) in enumerate(_others, start=2):
            if other.poll() not in (None, 0, ABANDONED):
                raise SystemExit(_last_words(place, other.returncode, said))
        time.sleep(0.05)
    print(f"another of the processes is gone ({' '.join(str(error).split())[:200]})", file=sys.stderr)
    raise SystemExit(ABANDONED)


def _last_words(place: int, status: int, said: IO[bytes]) -> str:
    """How a process that this one has started ended, and what it said."""
    said.seek(0)
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    end = f"process {place} of {len(_others) + 1} {how}: all of them were ended; run it again to go on"
    return f"{said.read().decode(errors='replace')}{end}"


def _end_others(*, asked: bool) -> None:
    """See that no process that this one has started is left; all are on their way out, or are made to go."""
    for other, said in _others:
        if not asked:
            other.terminate()
        try:
            other.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            other.kill()
            other.wait()
        said.close()
    _others.clear()
