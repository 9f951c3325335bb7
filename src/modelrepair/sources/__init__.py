"""Where do the data come from?

One module a source, all giving the same arrays. Imports `data`, `pipeline`, `settings` and `vision`, and no torch
before a source needs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelrepair.settings import choose
from modelrepair.settings.data import SourceSettings
from modelrepair.sources.base import Dataset, input_file
from modelrepair.sources.cifar10 import cifar10
from modelrepair.sources.facts import facts
from modelrepair.sources.image_folder import image_folder
from modelrepair.sources.image_table import image_table
from modelrepair.sources.labels import further_labels
from modelrepair.sources.mnist import fashion_mnist, mnist
from modelrepair.sources.mnist_sample import mnist_sample
from modelrepair.sources.npz import npz
from modelrepair.sources.pararel import pararel
from modelrepair.sources.table import table

SOURCES: dict[str, Callable[[Any, int, Path | None], Dataset]] = {
    "cifar10": cifar10,
    "facts": facts,
    "fashion-mnist": fashion_mnist,
    "image-folder": image_folder,
    "image-table": image_table,
    "mnist": mnist,
    "mnist-sample": mnist_sample,
    "npz": npz,
    "pararel": pararel,
    "table": table,
}

__all__ = ["SOURCES", "Dataset", "input_file", "load_source"]


def load_source(settings: SourceSettings, seed: int, folder: Path | None = None) -> Dataset:
    """The data that the settings describe.

    Args:
        settings: of one of `SOURCES`.
        seed: draws the training examples where a source holds more than are asked for.
        folder: into which inputs that have to be decoded are written as they come, each side's `input_file`, and then
            memory-mapped; None to hold them in memory.

    Raises:
        RepairError: if the data are missing, damaged or too few.
    """
    data = choose("dataset source", SOURCES, settings.chosen)(settings, seed, folder)
    if settings.labels is None:
        return data
    return replace(data, further_labels=further_labels(settings.labels, data))
