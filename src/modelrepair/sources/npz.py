"""A user's own arrays."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings.data import NpzSettings
from modelrepair.sources.base import Dataset, drawn_per_class

SIDES = ("train", "test")
FEATURES, TOKENS = "inputs", "tokens"


def npz(settings: NpzSettings, seed: int, _: Path | None) -> Dataset:
    """The user's own arrays in `file`, written with `numpy.savez`, or a folder of such, each written with `numpy.save`.

    `train_inputs` and `test_inputs` are images (n, channels, height, width) as bytes or feature vectors
    (n, features); in place of them `train_tokens` and `test_tokens` are numbers of words or their like (n, length),
    which stay whole numbers, and an array `words` of their names is optional. `train_labels` and `test_labels` are
    class numbers (n,) or attributes (n, k) of 0 and 1. An array `classes` of k names is optional.
    """
    path = Path(settings.file)
    arrays = _read(path)
    given = TOKENS if any(f"{side}_{TOKENS}" in arrays for side in SIDES) else FEATURES
    missing = [
        f"{side}_{what}" for side in SIDES for what in (given, "labels") if f"{side}_{what}" not in arrays
    ]
    if missing:
        raise RepairError(
            f"{path} lacks {', '.join(missing)}: add them with numpy.save{'' if path.is_dir() else 'z'}"
        )
    words = _checked_words(arrays["words"], path) if "words" in arrays and given == TOKENS else None

    inputs, labels = {}, {}
    for side in SIDES:
        values, name = arrays[f"{side}_{given}"], f"{side}_{given} of {path}"
        inputs[side] = (
            _checked_tokens(values, name, words) if given == TOKENS else _checked_inputs(values, name)
        )
        labels[side] = _checked_labels(arrays[f"{side}_labels"], f"{side}_labels of {path}")
        if not 0 < len(inputs[side]) == len(labels[side]):
            raise RepairError(
                f"{path} has {len(inputs[side])} {side}_{given} and {len(labels[side])} {side}_labels: give one "
                "label for each input, and at least one"
            )
    for kind, pair in ((given, inputs), ("labels", labels)):
        if pair["train"].shape[1:] != pair["test"].shape[1:] or pair["train"].dtype != pair["test"].dtype:
            raise RepairError(
                f"{path} has train_{kind} of shape {pair['train'].shape} and type {pair['train'].dtype} but "
                f"test_{kind} of {pair['test'].shape} and {pair['test'].dtype}: make them alike"
            )

    single = labels["train"].ndim == 1
    needed = 1 + int(max(labels["train"].max(), labels["test"].max())) if single else labels["train"].shape[1]
    if "classes" in arrays and arrays["classes"].ndim != 1:
        raise RepairError(
            f"classes of {path} has shape {arrays['classes'].shape}: give an array of names (k,)"
        )
    if "classes" not in arrays and single and needed > max(1000, len(labels["train"])):
        raise RepairError(
            f"{path} has class numbers up to {needed - 1:,} for {len(labels['train']):,} training examples: number the "
            "classes from 0 without gaps, or give their names as an array classes"
        )
    classes = tuple(map(str, arrays["classes"] if "classes" in arrays else range(needed)))
    if len(classes) == needed == 1 and single:
        raise RepairError(
            f"{path} has labels of a single class, {classes[0]}: a classifier needs two at least"
        )
    if len(set(classes)) < len(classes) or (len(classes) < needed if single else len(classes) != needed):
        raise RepairError(
            f"{path} has {len(classes)} classes for {needed} in its labels: give each its own name"
        )
    drawn = drawn_per_class(labels["train"], settings.training_per_class, seed, str(path))
    return Dataset(
        inputs["train"][drawn],
        labels["train"][drawn],
        inputs["test"],
        labels["test"],
        classes,
        f"{drawn.sum():,} training and {len(labels['test']):,} test examples from {path.name}",
        drawn,
        vocabulary=words,
    )


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays that have a meaning here, by their names; those of a folder are mapped into the memory."""
    of_sides = (f"{side}_{what}" for side in SIDES for what in (FEATURES, TOKENS, "labels"))
    names = (*of_sides, "classes", "words")
    try:
        if path.is_dir():
            files = {name: path / f"{name}.npy" for name in names}
            return {
                name: np.load(file, mmap_mode="r", allow_pickle=False)
                for name, file in files.items()
                if file.is_file()
            }
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in names if name in content}
    except (
        OSError,
        ValueError,
        EOFError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        how = "numpy.save, each array as NAME.npy" if path.is_dir() else "numpy.savez"
        raise RepairError(
            f"{path} cannot be read as .np{'y' if path.is_dir() else 'z'} arrays ({error}): write it with {how}"
        ) from error


def _checked_words(values: NDArray[Any], path: Path) -> tuple[str, ...]:
    if values.ndim != 1:
        raise RepairError(f"words of {path} has shape {values.shape}: give an array of names (k,)")
    return tuple(map(str, values))


def _checked_tokens(values: NDArray[Any], name: str, words: tuple[str, ...] | None) -> NDArray[np.int64]:
    if values.ndim != 2 or values.dtype.kind not in "iu" or (values < 0).any():
        raise RepairError(
            f"{name} has shape {values.shape} and type {values.dtype}: give whole numbers of 0 or more (n, length), "
            "short ones filled up with a number of its own"
        )
    if words is not None and values.size and values.max() >= len(words):
        raise RepairError(
            f"{name} has numbers up to {values.max()}, and there are {len(words)} words: give a word for each number"
        )
    return values.astype(np.int64)


def _checked_inputs(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Byte images as they are, 16-bit images in [0, 1], anything else as finite float32."""
    if values.dtype == np.uint8 and values.ndim == 4:
        return values
    if values.ndim == 4 and values.dtype == np.uint16:
        return (values / np.float32(65535)).astype(np.float32)
    if values.ndim == 4 and values.dtype.kind in "iu":
        raise RepairError(
            f"{name} are images of type {values.dtype}, whose white is not known: give bytes (uint8), uint16, or "
            "floats in [0, 1]"
        )
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
