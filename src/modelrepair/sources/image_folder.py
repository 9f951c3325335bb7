"""A user's own image files, in folders or in a zip of them."""

from __future__ import annotations

from pathlib import Path

from modelrepair.errors import RepairError
from modelrepair.settings.data import ImageFolderSettings
from modelrepair.sources.base import Dataset, drawn_for_testing
from modelrepair.sources.class_folders import SIDES, Listing, arrange
from modelrepair.sources.files import open_files
from modelrepair.sources.images import images_of


def image_folder(settings: ImageFolderSettings, seed: int, folder: Path | None) -> Dataset:
    """The images of `path`, by the folders that they lie in; those that are used are decoded once.

    What is taken for training and for testing is decided by names alone, before anything is decoded, so the zip of a
    folder gives what the folder gives.
    """
    with open_files(Path(settings.path)) as files:
        classes, sides = arrange(files)
        training, test = _training_and_test(settings, sides, classes, seed, files.path)
        return images_of(files, classes, training, test, settings, seed, folder)


def _training_and_test(
    settings: ImageFolderSettings, sides: dict[str, Listing], classes: tuple[str, ...], seed: int, path: Path
) -> tuple[Listing, Listing]:
    """As the folders say, or the fraction of every class, rounded, at random."""
    fraction = settings.test_fraction
    if set(sides) == set(SIDES):
        if fraction is not None:
            raise RepairError(f"{path} has the folders train and test: leave test_fraction out")
        return sides["train"], sides["test"]
    if fraction is None:
        raise RepairError(
            f"{path} has no folders train and test: set test_fraction to 0.2, for example, to test on a fifth of it"
        )
    everything = sides["all"]
    is_test = drawn_for_testing(everything.labels, fraction, classes, seed, "images", str(path))
    return everything.subset(~is_test), everything.subset(is_test)
