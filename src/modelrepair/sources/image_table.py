"""A user's own image files, listed in a table with their classes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pandas as pd

from modelrepair.errors import RepairError
from modelrepair.settings import named, shown
from modelrepair.settings.data import ImageTableSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.class_folders import Listing
from modelrepair.sources.files import Files, open_files
from modelrepair.sources.images import images_of
from modelrepair.sources.rows import classes_of, expect_columns, is_for_testing, read_rows


def image_table(settings: ImageTableSettings, seed: int, folder: Path | None) -> Dataset:
    """The images that the rows of `file` name; others that lie beside them are passed over."""
    with open_files(Path(settings.images)) as files:
        classes, training, test = listed_images(settings, seed, files)
        return images_of(files, classes, training, test, settings, seed, folder)


def listed_images(
    settings: ImageTableSettings, seed: int, files: Files
) -> tuple[tuple[str, ...], Listing, Listing]:
    """Names of the classes, and which images are for training and for testing, in the order of the table.

    Args:
        settings: name the table and its columns.
        seed: draws what is for testing, where no column says it.
        files: among which the images are.

    Raises:
        RepairError: if the table cannot be read or lacks a column, or a row names no image, or one that another names.
    """
    path = Path(settings.file)
    content = read_rows(path)
    wanted = [settings.label, settings.files, *([settings.split] if settings.split is not None else [])]
    expect_columns(content, wanted, path, "label, files or split")
    classes, labels = classes_of(content, settings.label, path)
    everything = Listing(_names(content, settings.files, files, path), labels)
    is_test = is_for_testing(settings, content, labels, classes, seed, path)
    return classes, everything.subset(~is_test), everything.subset(is_test)


def _names(content: pd.DataFrame, column: str, files: Files, path: Path) -> tuple[str, ...]:
    """For each row the name of its image, as the files have it."""
    there, first = set(files.names), dict[str, int]()
    for row, given in enumerate(content[column], 1):
        name = "" if pd.isna(given) else str(PurePosixPath(str(given).strip().replace("\\", "/")))
        if name not in there:
            raise RepairError(
                f"row {row} of {path} has {shown(str(given))} in its column {named(column)}, and {files.path} holds no "
                "such file: give names relative to that, with the endings that the files have"
            )
        if (other := first.setdefault(name, row)) != row:
            raise RepairError(
                f"rows {other} and {row} of {path} name the same image, {named(name)}: leave one of them"
            )
    return tuple(first)
