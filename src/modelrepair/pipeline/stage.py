"""How a pipeline stage runs: its settings, its errors, its checkpoint.

A stage is a module `stages/NAME.py` whose `main(stage)` reads settings and artefacts, makes one library call and
writes artefacts. This module imports no torch, so that stages without tensors start at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from modelrepair.errors import RepairError
from modelrepair.pipeline import processes
from modelrepair.pipeline.allocation import keep_freed_memory
from modelrepair.pipeline.artifacts import read_json
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings import Settings

# Sums are split over threads, so their number decides the last digits of every result: it is fixed here
# rather than taken from the machine.
THREADS = 2

Kind = TypeVar("Kind", bound=Settings)


class Stage:
    """One stage of the pipeline in `root`.

    Args:
        name: its name in `dvc.yaml`.
        root: the folder of `dvc.yaml` and `params.yaml`.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        self._checkpoint: Checkpoint | None = None
        self._contents: dict[str, Any] = {}

    def processes(self) -> int:
        """How many processes are to run this stage together, as `launch.processes` of `params.yaml` says, or 1.

        It is the only setting that a stage takes from there: it decides nothing of a result, so that DVC need not see
        the stage depend on it. choose-method, which checks it with all others, hands it to nobody.

        Raises:
            RepairError: if it is no number of processes.
        """
        content = self._content("params.yaml")
        launch = content.get("launch", {}) if isinstance(content, dict) else None
        given = launch.get("processes", 1) if isinstance(launch, dict) else None
        if type(given) is not int or given < 1:
            raise RepairError(f"launch.processes is {given!r}: give a whole number of processes, 1 or more")
        return given

    def settings(self, kind: type[Kind]) -> Kind:
        """This stage's settings, as choose-method wrote them: `data/method/NAME.json`, which `dvc.yaml` declares.

        No stage but choose-method reads them in `params.yaml`: what it depends on is what DVC sees it depend on.

        Raises:
            RepairError: if the file is missing, damaged, or of other settings than these.
        """
        path = self.root / "data" / "method" / f"{self.name}.json"
        content = read_json(path)
        try:
            return kind(**content)
        except (RepairError, TypeError) as error:
            raise RepairError(
                f"{path} is not as choose-method writes it ({error}): run `dvc repro`"
            ) from None

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While the block runs, no other process may run this stage here.

        Where DVC alone is killed, its child goes on; a second run would then write the same output at the same time.
        The lock goes with the process, however that ends. Of processes that work together the first has it.

        Raises:
            RepairError: if another process is running the stage, or the lock cannot be written.
        """
        if processes.is_further():
            yield
            return
        path = self.root / ".scratch" / f"{self.name}.lock"
        try:
            path.parent.mkdir(exist_ok=True)
            lock = path.open("a+")
        except OSError as error:
            raise RepairError(
                f"{path} cannot be written ({error.strerror}): see that {path.parent} is a folder in which this user "
                "may write"
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RepairError(
                    f"process {lock.read().strip()} is still running {self.name} here, left over from a run that was "
                    "ended or started elsewhere: wait for it or end it, then try again"
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def checkpoint(self) -> Checkpoint:
        """Where this stage keeps its progress, so that it can go on after a kill.

        The place is named by the fingerprint. Anything else finds another place, so it is never resumed. Nor is what
        was finished and recorded: who runs that again, as with `dvc repro --force`, wants it computed.

        Raises:
            RepairError: if it cannot be written to.
        """
        checkpoint = Checkpoint(self.root / ".scratch" / self.name, self.fingerprint())
        if checkpoint.finished and self.is_recorded():
            checkpoint.clear()
        self._checkpoint = checkpoint
        return checkpoint

    def finish(self) -> None:
        """Note down, beside its progress, that the stage has come to its end and its artefacts are in place."""
        if self._checkpoint:
            self._checkpoint.finish()

    def is_recorded(self) -> bool:
        """Whether `dvc.lock` says that this stage has been run with the command and inputs that it has now.

        Before a stage's end that says little, because the file may have come with a clone.
        """
        definition = self._definition()
        try:
            locked = self._read("dvc.lock", f"stages.{self.name}")
            hashes = {entry["path"]: entry["md5"] for entry in locked["deps"]}
            return bool(locked["cmd"] == definition["cmd"]) and hashes == {
                self._filled_in(name): self._dvc_hash(name) for name in definition.get("deps", [])
            }
        except (RepairError, KeyError, TypeError):
            return False

    def fingerprint(self) -> str:
        """A hash of all that decides the result: the stage's command, settings, code, inputs, the version of torch."""
        definition = self._definition()
        identity = (definition["cmd"], importlib.metadata.version("torch"), THREADS)
        digest = hashlib.blake2b(repr(identity).encode(), digest_size=16)
        for dependency in sorted(definition.get("deps", [])):
            for name, file in self._files(dependency).items():
                digest.update(f"{dependency} {name}".encode())
                with file.open("rb") as content:
                    digest.update(hashlib.file_digest(content, "blake2b").digest())
        return digest.hexdigest()

    def costs_before(self) -> list[dict[str, Any]]:
        """What the stages took whose artefacts are here, as MODELREPAIR_COSTS has noted it, in the order that they ran.

        Nothing of a stage that ran with other inputs or code, or when nothing was noted; nothing at all where the
        variable names no file.

        Raises:
            RepairError: if the file was written by something else.
        """
        file = Path(os.environ.get("MODELREPAIR_COSTS", ""))
        if not file.is_file():
            return []
        try:
            noted = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            last = {costs["stage"]: costs for costs in noted}
        except (ValueError, KeyError, TypeError) as error:
            raise RepairError(
                f"{file}, which MODELREPAIR_COSTS names, is no file of costs ({error}): remove it, or name another"
            ) from None
        there = self._read("dvc.yaml", "stages")
        return [
            {name: costs[name] for name in ("stage", "seconds", "peak_mib")}
            for stage, costs in last.items()
            if stage in there and costs["fingerprint"] == Stage(stage, self.root).fingerprint()
        ]

    def _dvc_hash(self, dependency: str) -> str | None:
        """The MD5 by which DVC knows a dependency: of a file's content, or of the list of a folder's files."""
        hashes = {}
        for name, file in self._files(dependency).items():
            with file.open("rb") as content:
                hashes[name] = hashlib.file_digest(content, _md5).hexdigest()
        if not (self.root / self._filled_in(dependency)).is_dir():
            return hashes.get(".")
        listing = [{"md5": value, "relpath": name} for name, value in sorted(hashes.items())]
        return f"{_md5(json.dumps(listing).encode()).hexdigest()}.dir"

    def _files(self, dependency: str) -> dict[str, Path]:
        """The files of a dependency by their names in its folder, in order; a single one is called '.'."""
        path = self.root / self._filled_in(dependency)
        return {
            file.relative_to(path).as_posix(): file
            for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
            if file.is_file() and "__pycache__" not in file.parts
        }

    def _definition(self) -> dict[str, Any]:
        definition: dict[str, Any] = self._read("dvc.yaml", f"stages.{self.name}")
        return definition

    def _filled_in(self, dependency: str) -> str:
        """A dependency of dvc.yaml with values of params.yaml in place of their names, as DVC fills them in."""
        return re.sub(r"\$\{([^}]*)\}", lambda name: str(self._read("params.yaml", name[1])), dependency)

    def _read(self, file: str, name: str) -> Any:
        """What a file says under a dotted name."""
        content = self._content(file)
        try:
            for part in name.split("."):
                content = content[part]
        except (KeyError, TypeError) as error:
            raise self._unreadable(file, f"what {name} is", error) from None
        return content

    def _content(self, file: str) -> Any:
        """All that it says; it is read once."""
        if file not in self._contents:
            try:
                text = (self.root / file).read_text(encoding="utf-8")
                self._contents[file] = YAML(typ="safe", pure=True).load(text)
            except (OSError, YAMLError) as error:
                raise self._unreadable(file, "how a stage is to run", error) from None
        return self._contents[file]

    def _unreadable(self, file: str, what: str, error: Exception) -> RepairError:
        return RepairError(
            f"{self.root / file} does not say {what} ({' '.join(str(error).split())[:200]}): run stages from the "
            "project's folder, with `dvc repro`"
        )


def run_stage(main: Callable[[Stage], None], *, shared: bool = False) -> None:
    """Run a stage's `main`: one sentence and status 1 for what a user can mend.

    The stage's name is that of its module, its root the current folder: there DVC runs it. DVC_ROOT is another one
    where an experiment runs in a copy of the workspace, as those in a queue do.

    A stage that is `shared` passes over examples, and several processes may do so together: as many as
    MODELREPAIR_PROCESSES says or, where it says nothing, `launch.processes` of params.yaml; or those that `torchrun` or
    `accelerate launch` has started. In other stages all but the first of those do nothing.

    If MODELREPAIR_COSTS names a file, what a finished stage took is appended to it, and the page shows it.
    """
    name = Path(sys.argv[0]).stem.replace("_", "-")
    if processes.is_further():
        if not shared:
            return
        # All say the same.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    keep_freed_memory()
    # cuBLAS is deterministic only with this set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    stage, start = Stage(name, Path.cwd()), time.perf_counter()
    try:
        with stage.alone(), processes.together(stage.processes) if shared else contextlib.nullcontext():
            main(stage)
            stage.finish()
        if processes.is_further():
            return
        if file := os.environ.get("MODELREPAIR_COSTS"):
            _note_costs(stage, time.perf_counter() - start, Path(file))
    except RepairError as error:
        sys.exit(f"{name}: {error}")
    except RuntimeError as error:
        # That of torch, which stages without tensors do not import.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        sys.exit(
            f"{name}: the GPU has no memory left ({' '.join(str(error).split())[:200]}): set a smaller batch_size or, "
            "of the training, more parts; or hide the GPU with CUDA_VISIBLE_DEVICES="
        )
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; run it again to go on from the last checkpoint")


def _note_costs(stage: Stage, seconds: float, file: Path) -> None:
    """Append a line of JSON: stage, its fingerprint, seconds without the start of Python, peak MiB of the process."""
    # In bytes on a Mac, in KiB elsewhere.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    costs = {"stage": stage.name, "fingerprint": stage.fingerprint(), "seconds": seconds, "peak_mib": peak}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(costs) + "\n")


def _md5(content: bytes = b"") -> hashlib._Hash:
    """MD5, which systems that forbid it for secrets allow for this."""
    return hashlib.md5(content, usedforsecurity=False)


def use_deterministic_torch() -> None:
    """Fix what decides the last digits: the thread count and the choice of algorithms."""
    import torch
    from torch.utils import deterministic

    torch.set_num_threads(THREADS)
    # The same as use_deterministic_algorithms(True, warn_only=True), without importing torch's compiler (2 s).
    torch.set_deterministic_debug_mode("warn")
    # It would also fill all new memory with NaN, which takes a tenth of a training's time and changes no result.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
