"""Watches a pipeline stage from inside, without changing its code, through Python's audit events.

Every Python process imports this module at its start when its folder is on PYTHONPATH; it does nothing unless the
process is a pipeline stage (DVC_STAGE is set) and one of these is set:

* OBSERVE_READS: a folder; the files that the stage opens for reading are appended to STAGE in it.
* OBSERVE_MOMENT: JSON with `stage`, `event`, `path`, `count`, `signal`, `group`. At the count-th event of that name
  whose first argument matches the path pattern, and before it takes effect, the signal is sent to the process, or
  to its whole group.
"""

import fnmatch
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR


def reads_recorder(file: Path) -> Callable[[str, tuple[Any, ...]], None]:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def record(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, _, flags = arguments
            if not (flags or 0) & WRITING:
                os.write(descriptor, os.fsencode(Path(os.fsdecode(path)).absolute()) + b"\n")

    return record


def moment_watcher(moment: dict[str, Any]) -> Callable[[str, tuple[Any, ...]], None]:
    pattern = re.compile(fnmatch.translate(moment["path"]))
    seen = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event != moment["event"] or not pattern.match(str(arguments[0])):
            return
        seen += 1
        if seen == moment["count"]:
            if moment["group"]:
                os.killpg(0, moment["signal"])
            else:
                os.kill(os.getpid(), moment["signal"])

    return watch


if stage := os.environ.get("DVC_STAGE"):
    if folder := os.environ.get("OBSERVE_READS"):
        sys.addaudithook(reads_recorder(Path(folder, stage)))
    moment = json.loads(os.environ.get("OBSERVE_MOMENT", "null"))
    if moment and moment["stage"] == stage:
        sys.addaudithook(moment_watcher(moment))
