"""Where do the data come from?

One module a source, all giving the same arrays. Imports `data`, `settings` and `vision`, and no torch before a source
needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelrepair.settings.base import choose
from modelrepair.settings.data import SourceSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.mnist import mnist
from modelrepair.sources.mnist_sample import mnist_sample
from modelrepair.sources.npz import npz

SOURCES: dict[str, Callable[[Any, int], Dataset]] = {
    "mnist": mnist,
    "mnist-sample": mnist_sample,
    "npz": npz,
}

__all__ = ["SOURCES", "Dataset", "load_source"]


def load_source(settings: SourceSettings, seed: int) -> Dataset:
    """The data that the settings describe.

    Args:
        settings: of one of `SOURCES`.
        seed: draws the training examples where a source holds more than are asked for.

    Raises:
        RepairError: if the data are missing, damaged or too few.
    """
    return choose("dataset source", SOURCES, settings.chosen)(settings, seed)
