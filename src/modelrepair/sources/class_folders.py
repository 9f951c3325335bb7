"""Which class and which side, training or test, a file's folder puts it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings import listed, named
from modelrepair.sources.files import Files, file_name

SIDES = ("train", "test")
SUFFIXES = {
    f".{end}"
    for end in ("jpg", "jpeg", "jpe", "jfif", "png", "gif", "bmp", "tif", "tiff", "webp", "ppm", "pgm")
}


@dataclass(frozen=True)
class Listing:
    """Files and their classes.

    Attributes:
        files: n names.
        labels: (n,) class numbers.
    """

    files: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    def subset(self, chosen: NDArray[np.bool_]) -> Listing:
        """Those at which a mask (n,) is true."""
        names = tuple(name for name, is_chosen in zip(self.files, chosen, strict=True) if is_chosen)
        return Listing(names, self.labels[chosen])


def arrange(files: Files) -> tuple[tuple[str, ...], dict[str, Listing]]:
    """The classes, which are the names of folders in their order, and each side's files, by class and name.

    `train/CLASS/…` and `test/CLASS/…` are two sides; `CLASS/…` is one, called "all". A folder that all of it lies in
    is entered. Everything in a class's folder, and in folders below that, counts as an image of the class; beside those
    folders only files that are no images may lie.

    Raises:
        RepairError: if images lie elsewhere, a class has no files on a side, or there are fewer than two classes.
    """
    while (folder := _shared_folder(files)) is not None:
        files.enter(folder)
    paths = [(name, name.split("/")) for name in files.names]
    tops = {parts[0] for name, parts in paths if _is_image(name)}
    depth = 1 if tops & set(SIDES) else 0
    if depth and tops != set(SIDES):
        raise RepairError(
            f"{files.path} holds {listed(sorted(tops))}: give the two folders {listed(SIDES)} and no other images, or "
            "the classes' folders alone"
        )
    found: dict[str, dict[str, list[str]]] = {side: {} for side in (SIDES if depth else ("all",))}
    for name, parts in paths:
        if len(parts) > depth + 1 and (not depth or parts[0] in SIDES):
            side = parts[0] if depth else "all"
            found[side].setdefault(parts[depth], []).append(name)
        elif _is_image(name):
            raise RepairError(
                f"in {files.path}, the image {file_name(name)} lies beside the classes' folders: put it into "
                "the folder of its class"
            )
    classes = sorted(set().union(*found.values()) | _class_folders(files, depth))
    for side, members in found.items():
        if lacking := [name for name in classes if name not in members]:
            where = f"the folder {side} of {files.path}" if depth else str(files.path)
            raise RepairError(
                f"{where} holds no files of the class {named(lacking[0])}: add some, or remove the class"
            )
    if len(classes) < 2:
        raise RepairError(
            f"{files.path} holds images of a single class, {named(classes[0])}: a classifier needs two at least"
        )
    return tuple(classes), {side: _listing(members, classes) for side, members in found.items()}


def _shared_folder(files: Files) -> str | None:
    """The folder around the classes' or the sides' folders, if there is one.

    Raises:
        RepairError: if there are no images.
    """
    images = [name.split("/") for name in files.names if _is_image(name)]
    if not images:
        raise RepairError(f"{files.path} holds no images: give folders of images, one for each class")
    first = images[0][0]
    shared = first not in SIDES and all(parts[0] == first and len(parts) > 2 for parts in images)
    return first if shared else None


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _class_folders(files: Files, depth: int) -> set[str]:
    """The names of folders, empty or not, that lie where those of classes do."""
    folders = [folder.split("/") for folder in files.folders]
    return {parts[depth] for parts in folders if len(parts) == depth + 1 and (not depth or parts[0] in SIDES)}


def _listing(members: dict[str, list[str]], classes: Sequence[str]) -> Listing:
    names = [sorted(members[name]) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(of_class) for of_class in names])
    return Listing(tuple(name for of_class in names for name in of_class), labels)
