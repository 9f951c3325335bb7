"""Which step comes when?

A module a stage, of the stage's name, run by `python -m modelrepair.stages.NAME` in the folder of a pipeline. Imports
everything else. What stands here runs before a stage: it may count on nothing that is not Python's own.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import TracebackType

# Threads that spin while they wait make a stage ten times slower as soon as another process wants the cores.
# OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Of processes that work together all get equally far. Progress bars read this when they are imported.
if os.environ.get("RANK", "0") != "0":
    os.environ.setdefault("TQDM_DISABLE", "1")

# What a stage prints may have letters that a terminal's encoding lacks.
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _in_one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For an interrupt while modules are imported, before a stage can answer it."""
    if issubclass(kind, KeyboardInterrupt):
        print(f"{Path(sys.argv[0]).stem.replace('_', '-')}: interrupted; run it again", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _in_one_line

if any(
    importlib.util.find_spec(name) is None
    for name in ("pandas", "pydantic", "ruamel", "safetensors", "torch")
):
    sys.exit(
        f"the packages that modelrepair needs are not installed in this Python ({sys.executable}): "
        "activate the environment that has them, as with `. .venv/bin/activate`; in a clone of modelrepair "
        "`make repro` makes it"
    )
