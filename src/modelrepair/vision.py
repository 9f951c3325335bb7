"""The one door to torchvision: `from modelrepair.vision import torchvision`.

The PyPI build of torchvision cannot load its compiled operators beside a CPU-only torch, and then fails on
import, because it describes the operators `nms` and `qnms` without asking whether they are there. Declaring
the two lets everything but box operators work: datasets, transforms, models.
"""

from __future__ import annotations

from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch
from torch.library import Library


def _declare_missing_operators() -> Library | None:
    """Declare `nms` and `qnms` if torchvision's compiled operators cannot be loaded, else do nothing."""
    package = find_spec("torchvision")
    compiled = package and PathFinder.find_spec("_C", package.submodule_search_locations)
    try:
        if compiled and compiled.origin:
            torch.ops.load_library(compiled.origin)  # type: ignore[no-untyped-call]
    except OSError:
        # The reason does not matter: what counts is whether the operators are there now.
        pass
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    return library


# Held for the life of the process: the declarations go when the Library object is collected.
_library = _declare_missing_operators()

import torchvision  # noqa: E402

__all__ = ["torchvision"]
