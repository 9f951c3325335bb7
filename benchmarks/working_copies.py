"""Runs of the pipeline, several at a time: working copies of the project that share one DVC cache.

The cache, with DVC's run cache in it, outlives them: whatever has been computed from the same code, settings and inputs
is taken from it, in whichever copy, however the earlier run ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ruamel.yaml import YAML

from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import read_json
from modelrepair.pipeline.stage import Stage
from warm_python import warm_python

KEPT = ".scratch"
"""Where stages keep what they need to go on after a kill."""
CONFIG = (
    "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    dir = {cache}\n"
)


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        metrics: the content of metrics/repair.json.
        costs: `seconds` and `peak_mib` by stage, of whichever run computed it, where they were noted.
        computed: the stages that were not in the cache.
        seconds: that the run took.
    """

    metrics: dict[str, Any]
    costs: dict[str, dict[str, float]]
    computed: list[str]
    seconds: float


class WorkingCopies:
    """The working copies below a folder, while the block lasts.

    Args:
        project: the folder with `dvc.yaml`.
        folder: where the copies and the cache are.
        count: how many copies.
        note_costs: whether what is computed notes its seconds and its memory.
    """

    def __init__(self, project: Path, folder: Path, count: int, *, note_costs: bool) -> None:
        self._project, self._folder, self._count = project, folder.resolve(), count
        self._costs = self._folder / "costs.jsonl"
        # DVC is not to take the settings of a pipeline around this one, and a copy runs its own code alone.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "PYTHONPATH"))
        }
        self._environment = inherited | {
            # `python3` in dvc.yaml is the Python that runs this.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            # Threads that spin while they wait are slow where another copy's want the cores.
            "OMP_WAIT_POLICY": "PASSIVE",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self._folder / "site"),
        }
        if note_costs:
            self._environment["MODELREPAIR_COSTS"] = str(self._costs)
        # What a stage costs is measured in a Python of its own.
        self._warm = not note_costs
        self._open = contextlib.ExitStack()
        self._free: queue.Queue[Path] = queue.Queue()
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()
        self._ended = False

    def __enter__(self) -> WorkingCopies:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another benchmark in {self._folder}, or what a killed one left", flush=True)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        for number in range(self._count):
            self._free.put(self._fresh(self._folder / f"copy-{number}"))
        if self._warm:
            # In a folder of the system's: names of sockets are short.
            place = self._open.enter_context(tempfile.TemporaryDirectory())
            python = self._open.enter_context(warm_python(Path(place)))
            self._environment["PATH"] = f"{python}{os.pathsep}{self._environment['PATH']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._open.close()
        self._lock.close()

    def end(self) -> None:
        """End what is running, at once: stages leave nothing half-written, and their finished work is in the cache."""
        with self._guard:
            self._ended = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def one(self) -> Iterator[Path]:
        """A copy that nobody else uses while the block lasts."""
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)

    def run(self, copy: Path, parameters: Mapping[str, Any]) -> Outcome:
        """Run the whole pipeline in a copy.

        Raises:
            RepairError: if a stage fails; says what it said.
        """
        start = time.perf_counter()
        stdout = self.reach(copy, parameters)
        return Outcome(
            read_json(copy / "metrics/repair.json"),
            self._costs_of(copy),
            re.findall(r"^Running stage '(?:dvc\.yaml:)?([^']+)'", stdout, re.MULTILINE),
            time.perf_counter() - start,
        )

    def reach(self, copy: Path, parameters: Mapping[str, Any], *stages: str) -> str:
        """Run the pipeline in a copy up to these stages, to its end by default; what DVC says of it.

        Raises:
            RepairError: if a stage fails; says what it said.
        """
        self._link_own_data(copy, parameters["own_data"])
        # JSON is YAML.
        (copy / "params.yaml").write_text(json.dumps(parameters), encoding="utf-8")
        return self._reproduce(copy, *stages)

    def _fresh(self, copy: Path) -> Path:
        """The project as it is now; nothing of an earlier run, whose kill may have left DVC's files half-written."""
        for path in copy.iterdir() if copy.is_dir() else ():
            if path.is_dir() and path.name != KEPT:
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink()
        (copy / ".dvc").mkdir(parents=True)
        (copy / ".dvc/config").write_text(CONFIG.format(cache=self._folder / "cache"), encoding="utf-8")
        for name in (".dvcignore", "dvc.yaml", *self._inputs()):
            source = self._project / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy2(source, copy / name)
        return copy

    def _inputs(self) -> list[str]:
        """The folders on which stages depend, but for those that stages write and the user's own data."""
        needed, made = set[str](), set[str]()
        for stage in _definitions(self._project).values():
            needed |= {_top(name) for name in stage["deps"]}
            for kind in ("outs", "metrics", "plots"):
                made |= {
                    _top(next(iter(out)) if isinstance(out, dict) else out) for out in stage.get(kind, [])
                }
        return sorted(name for name in needed - made if not name.startswith("$"))

    def _link_own_data(self, copy: Path, name: str) -> None:
        """Have links in a copy to the user's own data files, which may be large."""
        (copy / name).mkdir(parents=True, exist_ok=True)
        for file in (self._project / name).glob("*"):
            link = copy / name / file.name
            if not os.path.lexists(link):
                link.symlink_to(file.resolve())

    def _reproduce(self, copy: Path, *stages: str) -> str:
        """What `dvc repro` writes to stdout."""
        with self._guard:
            if self._ended:
                raise RepairError("the benchmark was ended")
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", "repro", *stages],
                cwd=copy,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # A group of its own, to be ended with all its children. It holds the lock if this process is killed.
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )
            self._running.add(process)
        stdout, stderr = process.communicate()
        with self._guard:
            self._running.discard(process)
        if process.returncode:
            raise RepairError(_said(stdout, stderr, set(_definitions(copy))))
        return stdout

    def _costs_of(self, copy: Path) -> dict[str, dict[str, float]]:
        """Of each stage but the first, which takes nothing: those noted under its fingerprint."""
        noted = {}
        if self._costs.is_file():
            for line in self._costs.read_text(encoding="utf-8").splitlines():
                # A full disk may have cut a line short.
                with contextlib.suppress(ValueError):
                    content = json.loads(line)
                    noted[content["fingerprint"]] = {name: content[name] for name in ("seconds", "peak_mib")}
        if not noted:
            return {}
        prints = {
            name: Stage(name, copy).fingerprint() for name in _definitions(copy) if name != "choose-method"
        }
        return {name: noted[mark] for name, mark in prints.items() if mark in noted}


def _definitions(project: Path) -> dict[str, dict[str, Any]]:
    """What `dvc.yaml` says of each stage."""
    content = YAML(typ="safe", pure=True).load((project / "dvc.yaml").read_text(encoding="utf-8"))
    stages: dict[str, dict[str, Any]] = content["stages"]
    return stages


def _top(name: str) -> str:
    return Path(name).parts[0]


def _said(stdout: str, stderr: str, names: set[str]) -> str:
    """What a failed run said last: a stage's own sentence, or else DVC's."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", f"{stdout}\n{stderr}") if line.strip()]
    stages = "|".join(sorted(names))
    for start in (rf"({stages}): ", "ERROR: "):
        if found := [line for line in lines if re.match(start, line)]:
            return found[-1]
    return lines[-1] if lines else "`dvc repro` failed without a word"
