"""Imported first by every stage: the code beside it is the code that runs, and what it needs is there."""

import importlib.util
import os
import sys
from pathlib import Path

# Experiments run in copies of the project; an installed modelrepair would be that of another copy.
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

# Threads that spin while they wait make a stage ten times slower as soon as another process wants the cores.
# OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if any(importlib.util.find_spec(name) is None for name in ("yaml", "pandas", "safetensors", "torch")):
    sys.exit(
        f"the packages that modelrepair needs are not installed in this Python ({sys.executable}): "
        "activate its environment with `. .venv/bin/activate`, or run `make repro`, which makes it"
    )
