"""Imported first by every stage: one sentence instead of a traceback where the package is not installed."""

import importlib.util
import sys

if importlib.util.find_spec("modelrepair") is None:
    sys.exit(
        f"modelrepair is not installed in this Python ({sys.executable}): "
        "activate its environment with `. .venv/bin/activate`, or run `make repro`, which makes it"
    )
