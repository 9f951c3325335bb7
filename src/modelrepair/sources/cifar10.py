"""CIFAR-10 as it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from modelrepair.errors import RepairError
from modelrepair.settings.data import Cifar10Settings
from modelrepair.sources.base import Dataset, drawn_per_class


def cifar10(settings: Cifar10Settings, seed: int, _: Path | None) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009) by torchvision, which downloads it into `folder` unless it is there.

    torchvision reads no file before it has compared its MD5 with that of the original.
    """
    from modelrepair.vision import torchvision

    try:
        training, test = (
            torchvision.datasets.CIFAR10(settings.folder, train=train, download=train)
            for train in (True, False)
        )
    except (RuntimeError, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise RepairError(
            f"CIFAR-10 could not be downloaded into {settings.folder} ({reason}): unpack cifar-10-python.tar.gz there "
            "yourself, or use the dataset source image-folder for images that you have"
        ) from error
    labels = np.array(training.targets, dtype=np.int64)
    drawn = drawn_per_class(labels, settings.training_per_class, seed, "CIFAR-10")
    return Dataset(
        np.ascontiguousarray(training.data.transpose(0, 3, 1, 2)[drawn]),
        labels[drawn],
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        np.array(test.targets, dtype=np.int64),
        tuple(training.classes),
        f"CIFAR-10: {drawn.sum():,} of {len(drawn):,} training images and the official test set of "
        f"{len(test.targets):,}",
        drawn,
    )
