"""Image files of classes as a data set, however they are listed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import write_array_of_pieces
from modelrepair.settings import named
from modelrepair.settings.data import ImageSettings
from modelrepair.sources.base import Dataset, drawn_per_class, input_file
from modelrepair.sources.class_folders import Listing
from modelrepair.sources.decoding import Form, decoded, usual_size
from modelrepair.sources.files import Files, file_name

NAMED = 10
"""So many files a message names."""


def images_of(
    files: Files,
    classes: tuple[str, ...],
    training: Listing,
    test: Listing,
    settings: ImageSettings,
    seed: int,
    folder: Path | None,
) -> Dataset:
    """The images, of which those that are used are decoded once.

    Args:
        files: that hold them.
        classes: their names.
        training, test: which files are for what, and of which class.
        settings: of the form of images, of how many are used, and of what to do with those that cannot be.
        seed, folder: as `load_source` takes them.

    Raises:
        RepairError: if images cannot be used, none of a class can, or the disk has no room for them.
    """
    drawn = drawn_per_class(training.labels, settings.training_per_class, seed, str(files.path))
    wanted = {"train": training.subset(drawn), "test": test}
    form = _form(settings, files, wanted["train"])
    if folder is not None:
        _check_space(folder, form, sum(map(len, wanted.values())))
    inputs: dict[str, NDArray[Any]] = {}
    unusable: dict[str, str] = {}
    for side, listing in wanted.items():
        inputs[side], reasons = _decode(files, listing, form, folder, side)
        unusable |= reasons
    total = sum(map(len, wanted.values()))
    if unusable and settings.unusable == "stop":
        raise RepairError(
            f"{len(unusable):,} of {total:,} images of {files.path} cannot be used: {_in_words(unusable)}; repair or "
            "remove them, or set unusable to skip to go on without them"
        )
    usable = {
        side: listing.subset(np.array([name not in unusable for name in listing.files]))
        for side, listing in wanted.items()
    }
    for side, listing in usable.items():
        if emptied := set(range(len(classes))) - set(listing.labels.tolist()):
            raise RepairError(
                f"no {side} image of the class {named(classes[min(emptied)])} of {files.path} can be used, as in "
                f"{_in_words(unusable)}: repair them"
            )
    description = (
        f"{len(usable['train']):,} training and {len(usable['test']):,} test images from {files.path.name}"
    )
    if unusable:
        description += f", without {len(unusable):,} that cannot be used: {_in_words(unusable)}"
    drawn[np.flatnonzero(drawn)] = [name not in unusable for name in wanted["train"].files]
    return Dataset(
        inputs["train"],
        usable["train"].labels,
        inputs["test"],
        usable["test"].labels,
        classes,
        description,
        drawn,
        usable["train"].files,
        usable["test"].files,
    )


def _form(settings: ImageSettings, files: Files, listing: Listing) -> Form:
    size = settings.size or usual_size(files, listing.files)
    if size is None:
        raise RepairError(
            f"none of the images of {files.path} that were looked at can be read, such as "
            f"{file_name(listing.files[0])}: give images as JPEG, PNG, GIF, BMP, TIFF, WebP or PPM"
        )
    height, width = size
    return Form(settings.colours == "grey", height, width, scaled=settings.size is not None)


def _check_space(folder: Path, form: Form, count: int) -> None:
    needed, free = count * math.prod(form.shape), shutil.disk_usage(folder).free
    if needed > free:
        raise RepairError(
            f"{count:,} images of {form.height} × {form.width} pixels need {needed / 2**20:,.0f} MiB on the disk, and "
            f"{free / 2**20:,.0f} MiB are free in {folder.parent}: make room, or set training_per_class or a "
            "smaller size"
        )


def _decode(
    files: Files, listing: Listing, form: Form, folder: Path | None, side: str
) -> tuple[NDArray[Any], dict[str, str]]:
    """The usable images of a side, and why the others are not."""
    unusable: dict[str, str] = {}
    pieces: Iterator[NDArray[np.uint8]] = decoded(
        files, listing.files, form, unusable, f"{side} images of {files.path.name}"
    )
    if folder is None:
        return np.concatenate(list(pieces)), unusable
    write_array_of_pieces(input_file(folder, side), form.shape, np.uint8, pieces)
    # What was written a moment ago need not be read through for its checksum.
    return np.load(input_file(folder, side), mmap_mode="r"), unusable


def _in_words(unusable: dict[str, str]) -> str:
    shown = [f"{file_name(name)} {reason}" for name, reason in list(unusable.items())[:NAMED]]
    more = len(unusable) - len(shown)
    return ", ".join(shown) + (f", and {more:,} more" if more else "")
