"""Which class and which side, training or test, a file's folder puts it in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings.base import listed, named
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
    is passed over. Everything in a class's folder, and in folders below that, counts as an image of the class; beside
    those folders only files that are no images may lie.

    Raises:
        RepairError: if images lie elsewhere, a class has no files on a side, or there are fewer than two classes.
    """
    paths = {name: PurePosixPath(name).parts for name in files.names}
    images = [parts for name, parts in paths.items() if PurePosixPath(name).suffix.lower() in SUFFIXES]
    if not images:
        raise RepairError(f"{files.path} holds no images: give folders of images, one for each class")
    outer = _shared_folders(images)
    inner = {name: parts[outer:] for name, parts in paths.items() if parts[:outer] == images[0][:outer]}
    tops = {parts[outer] for parts in images}
    depth = 1 if tops & set(SIDES) else 0
    if depth and tops != set(SIDES):
        raise RepairError(
            f"{files.path} holds {listed(sorted(tops))}: give the two folders {listed(SIDES)} and no other images, or "
            "the classes' folders alone"
        )
    found: dict[str, dict[str, list[str]]] = {side: {} for side in (SIDES if depth else ("all",))}
    for name, parts in inner.items():
        if len(parts) > depth + 1 and (not depth or parts[0] in SIDES):
            side = parts[0] if depth else "all"
            found[side].setdefault(parts[depth], []).append(name)
        elif PurePosixPath(name).suffix.lower() in SUFFIXES:
            raise RepairError(
                f"in {files.path}, the image {file_name(name)} lies beside the classes' folders: put it into "
                "the folder of its class"
            )
    classes = sorted(set().union(*found.values()) | _empty_classes(files, images[0][:outer], depth))
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


def _shared_folders(images: Sequence[tuple[str, ...]]) -> int:
    """How many folders there are around the classes' or the sides' folders."""
    count = 0
    while (
        len({parts[count] for parts in images}) == 1
        and images[0][count] not in SIDES
        and all(len(parts) >= count + 3 for parts in images)
    ):
        count += 1
    return count


def _empty_classes(files: Files, outer: tuple[str, ...], depth: int) -> set[str]:
    """The names of folders that lie where those of classes do."""
    names: Iterable[tuple[str, ...]] = (PurePosixPath(folder).parts for folder in files.folders)
    inner = [parts[len(outer) :] for parts in names if parts[: len(outer)] == outer]
    return {parts[depth] for parts in inner if len(parts) == depth + 1 and (not depth or parts[0] in SIDES)}


def _listing(members: dict[str, list[str]], classes: Sequence[str]) -> Listing:
    names = [sorted(members[name]) for name in classes]
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), [len(of_class) for of_class in names])
    return Listing(tuple(name for of_class in names for name in of_class), labels)
