"""Image files in folders or in a zip: what they become, and what is refused."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from conftest import Project
from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import read_array, read_table
from modelrepair.settings.data import PrepareData
from modelrepair.sources import Dataset, decoding, files, load_source

SHARED_CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg.zip"
CLASSES = ("ape", "bee", "cow")
HEIGHT, WIDTH = 6, 8


def load(path: Path, folder: Path | None = None, seed: int = 0, **settings: Any) -> Dataset:
    """As the stage prepare-data does."""
    dataset = {"source": "image-folder", "path": str(path), **settings}
    return load_source(PrepareData(seed=seed, dataset=dataset).dataset, seed, folder)


def pixels(seed: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, image: NDArray[Any] | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def write_sides(folder: Path, training: int = 4, test: int = 2) -> dict[str, NDArray[np.uint8]]:
    """PNG files, which lose nothing, of every class on both sides; their pixels by name."""
    written = {}
    for side, count in (("train", training), ("test", test)):
        for name in CLASSES:
            for number in range(count):
                file = f"{side}/{name}/{number}.png"
                written[file] = pixels(len(written))
                save(folder / file, written[file])
    return written


def write_classes(folder: Path, count: int = 10) -> None:
    for position, name in enumerate(CLASSES):
        for number in range(count):
            save(folder / name / f"{number}.png", pixels(100 * position + number))


def zipped(folder: Path, path: Path, below: str = "", packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, below + file.relative_to(folder).as_posix())
    return path


def assert_same(one: Dataset, other: Dataset) -> None:
    for name in ("train_inputs", "train_labels", "test_inputs", "test_labels", "drawn"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.classes, one.train_files, one.test_files) == (
        other.classes,
        other.train_files,
        other.test_files,
    )


# What comes out.


def test_files_become_arrays_as_torchvision_reads_them(tmp_path: Path) -> None:
    from modelrepair.vision import torchvision

    written = write_sides(tmp_path)
    data = load(tmp_path)
    assert data.classes == CLASSES
    assert data.train_inputs.dtype == np.uint8
    assert data.train_inputs.shape == (12, 3, HEIGHT, WIDTH)
    assert data.train_files is not None
    for image, name in zip(data.train_inputs, data.train_files, strict=True):
        np.testing.assert_array_equal(image.transpose(1, 2, 0), written[name])
    for side, inputs, labels in (
        ("train", data.train_inputs, data.train_labels),
        ("test", data.test_inputs, data.test_labels),
    ):
        expected = torchvision.datasets.ImageFolder(tmp_path / side)
        np.testing.assert_array_equal(labels, expected.targets)
        for image, (other, _) in zip(inputs, expected, strict=True):
            np.testing.assert_array_equal(image.transpose(1, 2, 0), np.asarray(other))


@pytest.mark.parametrize("below", ["", "outer/", "outer/inner/"])
@pytest.mark.parametrize("sides", [True, False])
def test_a_zip_gives_what_the_folder_gives(tmp_path: Path, below: str, sides: bool) -> None:
    folder = tmp_path / "images" / below
    if sides:
        write_sides(folder)
    else:
        write_classes(folder)
    (folder / "README.txt").write_text("About these images.")
    (folder / ".DS_Store").write_bytes(b"?")
    (folder / "__MACOSX" / "train").mkdir(parents=True)
    (folder / "__MACOSX" / "train" / "._0.png").write_bytes(b"?")
    settings: dict[str, Any] = {"training_per_class": 3} | ({} if sides else {"test_fraction": 0.3})
    one = load(tmp_path / "images", **settings)
    assert len(one.train_inputs) == 9
    assert_same(one, load(zipped(tmp_path / "images", tmp_path / "images.zip"), **settings))
    assert one.train_files is not None
    assert one.train_files[0].split("/")[-2] == "ape"
    assert len(one.train_files[0].split("/")) == (3 if sides else 2), (
        "a folder around all has no part in names"
    )


def test_in_pieces_on_the_disk_as_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sides(tmp_path / "images")
    (tmp_path / "out").mkdir()
    expected = load(tmp_path / "images")
    for size in (1, 5, 12, 100):
        monkeypatch.setattr(decoding, "PIECE_IMAGES", size)
        data = load(tmp_path / "images", tmp_path / "out")
        assert isinstance(data.train_inputs, np.memmap)
        assert_same(data, expected)
        np.testing.assert_array_equal(read_array(tmp_path / "out" / "test_inputs.npy"), expected.test_inputs)


def test_memory_is_that_of_a_few_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sides(tmp_path / "images", training=200, test=1)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(decoding, "PIECE_IMAGES", 4)
    load(tmp_path / "images", tmp_path / "out", size=[8, 8])
    tracemalloc.start()
    try:
        data = load(tmp_path / "images", tmp_path / "out", size=[64, 64])
        assert data.train_inputs.nbytes == 600 * 3 * 64 * 64
        assert tracemalloc.get_traced_memory()[1] < data.train_inputs.nbytes / 2
    finally:
        tracemalloc.stop()


def test_a_fraction_of_every_class_is_for_testing(tmp_path: Path) -> None:
    write_classes(tmp_path, 10)
    data = load(tmp_path, test_fraction=0.3)
    np.testing.assert_array_equal(np.bincount(data.train_labels), [7, 7, 7])
    np.testing.assert_array_equal(np.bincount(data.test_labels), [3, 3, 3])
    assert data.train_files is not None
    assert data.test_files is not None
    assert len({*data.train_files, *data.test_files}) == 30
    assert load(tmp_path, test_fraction=0.3).test_files == data.test_files
    assert load(tmp_path, test_fraction=0.3, seed=1).test_files != data.test_files


def test_training_images_are_drawn_and_the_others_are_not_even_read(tmp_path: Path) -> None:
    write_sides(tmp_path, training=6)
    drawn = load(tmp_path, training_per_class=2)
    assert drawn.train_files is not None
    np.testing.assert_array_equal(np.bincount(drawn.train_labels), [2, 2, 2])
    for file in (tmp_path / "train").rglob("*.png"):
        if file.relative_to(tmp_path).as_posix() not in drawn.train_files:
            file.write_bytes(b"")
    assert_same(load(tmp_path, training_per_class=2), drawn)
    with pytest.raises(RepairError, match="12 of 24 images of"):
        load(tmp_path)


def test_files_below_a_class_and_links_to_files_belong_to_it(tmp_path: Path) -> None:
    write_sides(tmp_path / "images")
    elsewhere = save(tmp_path / "elsewhere.png", pixels(7))
    save(tmp_path / "images/train/ape/more/deep.png", pixels(8))
    (tmp_path / "images/train/ape/linked.png").symlink_to(elsewhere)
    data = load(tmp_path / "images")
    assert data.train_files is not None
    assert {"train/ape/linked.png", "train/ape/more/deep.png"} <= set(data.train_files[:6])
    np.testing.assert_array_equal(np.bincount(data.train_labels), [6, 4, 4])


# One image.


FORM = decoding.Form(grey=False, height=HEIGHT, width=WIDTH, scaled=False)


def encoded(image: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(content, kind, **options)
    return content.getvalue()


def test_grey_among_colour_and_colour_among_grey() -> None:
    grey = pixels(0)[:, :, 0]
    np.testing.assert_array_equal(decoding.decode(encoded(grey), FORM), [grey] * 3)
    form = decoding.Form(grey=True, height=HEIGHT, width=WIDTH, scaled=False)
    assert form.shape == (1, HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoding.decode(encoded(grey), form), [grey])
    luma = pixels(1) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(decoding.decode(encoded(pixels(1)), form)[0], luma, atol=0.51)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_rounded_to_eight(kind: str) -> None:
    deep = np.linspace(0, 65535, HEIGHT * WIDTH).astype(np.uint16).reshape(HEIGHT, WIDTH)
    expected = np.round(deep.astype(np.float64) * 255 / 65535)
    np.testing.assert_array_equal(decoding.decode(encoded(deep, kind), FORM), [expected] * 3)


def test_palettes_transparency_and_four_inks() -> None:
    image = Image.fromarray(pixels(0)).quantize(8)
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(decoding.decode(encoded(image, kind), FORM), expected)
    clear = np.concatenate([pixels(0), np.zeros((HEIGHT, WIDTH, 1), np.uint8)], axis=2)
    np.testing.assert_array_equal(decoding.decode(encoded(clear), FORM), pixels(0).transpose(2, 0, 1))
    inks = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    inks[:, :, 0] = 255
    cyan = decoding.decode(encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=95), FORM)
    np.testing.assert_allclose(cyan.mean(axis=(1, 2)), [0, 255, 255], atol=3)


TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""What EXIF says of the camera: how the stored image is turned to be upright."""


@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_as_their_camera_says(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = pixels(0) if orientation < 5 else pixels(0, WIDTH, HEIGHT)
    upright = decoding.decode(encoded(stored, exif=exif), FORM)
    np.testing.assert_array_equal(upright.transpose(1, 2, 0), TURNS[orientation](stored))


def test_scaled_images_are_averages_around_the_middle() -> None:
    form = decoding.Form(grey=False, height=4, width=4, scaled=True)
    image = pixels(0, 16, 24)
    whole = torch.from_numpy(image).permute(2, 0, 1).double()[None]
    expected = torch.nn.functional.interpolate(whole, size=(4, 6), mode="bilinear", antialias=True)
    # Pillow rounds after either direction.
    np.testing.assert_allclose(decoding.decode(encoded(image), form), expected[0, :, :, 1:5], atol=1.01)


def animation() -> bytes:
    frames = [Image.fromarray(pixels(seed)) for seed in range(3)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    return content.getvalue()


def jpeg_cut_short() -> bytes:
    return encoded(pixels(0, 64, 64), "JPEG")[:-200]


def endless_png() -> bytes:
    """That says it has 65,536 × 65,536 pixels."""
    content = bytearray(encoded(pixels(0)))
    content[16:24] = struct.pack(">II", 65536, 65536)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


UNUSABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no image": (lambda: b"hello, this is no image at all", "is no image"),
    "empty": (lambda: b"", "is empty"),
    "cut short": (jpeg_cut_short, r"is damaged \(.*truncated"),
    "another size": (
        lambda: encoded(pixels(0, 9, 5)),
        f"is of 9 × 5 pixels instead of {HEIGHT} × {WIDTH}",
    ),
    "animated": (animation, "holds 3 pictures"),
    "floats": (
        lambda: encoded(np.zeros((HEIGHT, WIDTH), np.float32), "TIFF"),
        "has pixels of 32 bits, whose white is not known",
    ),
    "endless": (endless_png, "has more pixels than can be taken for a photo"),
    "a program": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\nshowpage\n", "is no image"),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.filterwarnings("ignore")
def test_whatever_is_damaged_is_an_image_or_unusable(kind: str) -> None:
    """Cut short anywhere, or with bytes changed: no other error, and never an image of another shape."""
    rng = np.random.default_rng(0)
    content = encoded(pixels(0), kind)
    assert decoding.decode(content, FORM).shape == FORM.shape
    damaged = [content[:length] for length in rng.integers(0, len(content), 40)]
    for _ in range(160):
        changed = np.frombuffer(content, np.uint8).copy()
        changed[rng.integers(0, len(changed), rng.integers(1, 4))] = rng.integers(0, 256)
        damaged.append(changed.tobytes())
    refused = 0
    for attempt in damaged:
        try:
            assert decoding.decode(attempt, FORM).shape == FORM.shape
        except decoding.UnusableError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.parametrize("in_zip", [False, True])
def test_unusable_images_are_named_and_left_out_on_demand(tmp_path: Path, name: str, in_zip: bool) -> None:
    make, reason = UNUSABLE[name]
    written = write_sides(tmp_path / "images")
    for file in ("train/bee/1.png", "test/cow/0.png"):
        (tmp_path / "images" / file).write_bytes(make())
        del written[file]
    path = tmp_path / "images"
    if in_zip:
        path = zipped(path, tmp_path / "images.zip")
    with pytest.raises(
        RepairError, match=rf"2 of 18 images of .*: train/bee/1\.png ({reason}).*, test/cow/0\.png ({reason})"
    ):
        load(path)
    data = load(path, unusable="skip")
    assert data.train_files is not None
    assert data.test_files is not None
    assert [*data.train_files, *data.test_files] == list(written)
    for images, names in ((data.train_inputs, data.train_files), (data.test_inputs, data.test_files)):
        for image, file in zip(images, names, strict=True):
            np.testing.assert_array_equal(image.transpose(1, 2, 0), written[file])
    np.testing.assert_array_equal(data.train_labels, np.repeat([0, 1, 2], [4, 3, 4]))
    np.testing.assert_array_equal(np.flatnonzero(~data.drawn), [5])
    assert "without 2 that cannot be used: train/bee/1.png" in data.description


def test_the_usual_size_is_the_size(tmp_path: Path) -> None:
    """Not that of the first."""
    write_sides(tmp_path)
    save(tmp_path / "train/ape/0.png", pixels(0, 10, 10))
    data = load(tmp_path, unusable="skip")
    assert data.train_inputs.shape == (11, 3, HEIGHT, WIDTH)
    assert load(tmp_path, size=[5, 5]).train_inputs.shape == (12, 3, 5, 5)


def test_many_unusable_images_are_counted(tmp_path: Path) -> None:
    write_sides(tmp_path, training=20)
    for file in sorted((tmp_path / "train").rglob("1*.png")):
        file.write_bytes(b"no")
    with pytest.raises(RepairError, match=r"33 of 66 images .*, and 23 more; repair or remove them"):
        load(tmp_path)


def test_a_class_without_usable_images(tmp_path: Path) -> None:
    write_sides(tmp_path)
    for file in (tmp_path / "test/bee").iterdir():
        file.write_bytes(b"no")
    with pytest.raises(RepairError, match=r"no test image of the class bee .* can be used, as in test/bee/0"):
        load(tmp_path, unusable="skip")
    for file in tmp_path.rglob("*.png"):
        file.write_bytes(b"no")
    with pytest.raises(RepairError, match=r"none of the images .* can be read, such as train/ape/0"):
        load(tmp_path)


# Folders.


def remove_class(folder: Path) -> None:
    shutil.rmtree(folder / "test/bee")


def empty_class(folder: Path) -> None:
    (folder / "train/dog").mkdir()


def one_class(folder: Path) -> None:
    for name in ("bee", "cow"):
        shutil.rmtree(folder / "train" / name)
        shutil.rmtree(folder / "test" / name)


def image_outside(folder: Path) -> None:
    save(folder / "train/stray.png", pixels(0))


def only_training(folder: Path) -> None:
    shutil.rmtree(folder / "test")


def third_side(folder: Path) -> None:
    save(folder / "val/ape/0.png", pixels(0))


def nothing(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    shutil.rmtree(folder / "test")


WRONG_FOLDERS: dict[str, tuple[Callable[[Path], None], dict[str, Any], str]] = {
    "a class of one side": (remove_class, {}, "the folder test of .* holds no files of the class bee"),
    "an empty class": (empty_class, {}, "the folder train of .* holds no files of the class dog"),
    "one class": (one_class, {}, "images of a single class, ape: a classifier needs two"),
    "an image beside classes": (image_outside, {}, r"the image train/stray\.png lies beside the classes'"),
    "no test": (only_training, {}, "holds train: give the two folders train, test"),
    "three sides": (third_side, {}, "holds test, train, val: give the two folders train, test and no other"),
    "no images": (nothing, {}, "holds no images: give folders of images"),
    "a fraction of sides": (lambda _: None, {"test_fraction": 0.2}, "leave test_fraction out"),
}


@pytest.mark.parametrize("name", WRONG_FOLDERS)
@pytest.mark.parametrize("in_zip", [False, True])
def test_folders_that_are_no_classes(tmp_path: Path, name: str, in_zip: bool) -> None:
    change, settings, message = WRONG_FOLDERS[name]
    path = tmp_path / "images"
    write_sides(path)
    change(path)
    if in_zip:
        path = zipped(path, tmp_path / "images.zip")
    with pytest.raises(RepairError, match=message):
        load(path, **settings)


def test_fractions_that_leave_nothing(tmp_path: Path) -> None:
    write_classes(tmp_path, 4)
    with pytest.raises(RepairError, match="no folders train and test: set test_fraction"):
        load(tmp_path)
    with pytest.raises(RepairError, match=r"test_fraction of 0\.1 takes 0 of the 4 images of the class ape"):
        load(tmp_path, test_fraction=0.1)
    with pytest.raises(RepairError, match=r"test_fraction of 0\.9 takes 4 of the 4"):
        load(tmp_path, test_fraction=0.9)
    with pytest.raises(RepairError, match="class 0 has only 3 examples"):
        load(tmp_path, test_fraction=0.25, training_per_class=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"test_fraction": 1.0},
            r"dataset\.test_fraction is 1\.0: give a number above 0 and below 1, or null",
        ),
        ({"size": [32]}, r"dataset\.size is \[32\]: give a height and a width in pixels"),
        ({"size": 32}, r"dataset\.size is 32: give a height and a width in pixels"),
        ({"colours": "cmyk"}, "choose one of rgb, grey"),
        ({"unusable": "ignore"}, "choose one of stop, skip"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        load(tmp_path, **settings)


def test_what_is_no_file_of_this_folder(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_sides(images)
    (tmp_path / "elsewhere").mkdir()
    link = images / "train/dog"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(
        RepairError, match="train/dog is a link to a folder, in which DVC would see no change"
    ):
        load(images)
    link.unlink()
    link = images / "train/ape/gone.png"
    link.symlink_to(tmp_path / "gone")
    with pytest.raises(RepairError, match=r"gone\.png is a link to a file that is not there"):
        load(images)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(RepairError, match=r"gone\.png is no plain file"):
        load(images)
    link.unlink()
    with (images / os.fsdecode(b"train/ape/\xff.png")).open("wb"):
        pass
    with pytest.raises(RepairError, match="whose name is not UTF-8: rename it"):
        load(images)


def test_a_full_disk_is_seen_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sides(tmp_path / "images")
    usage = shutil.disk_usage(tmp_path)._replace(free=18 * 3 * HEIGHT * WIDTH - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(RepairError, match=r"18 images of 6 × 8 pixels need 0 MiB .*: make room"):
        load(tmp_path / "images", tmp_path)
    assert not list(tmp_path.glob("*.npy"))


# Zips.


def patched(path: Path, member: int, offset: int, kind: str, value: int) -> None:
    """Change a number in the central directory, which zipfile would write truly.

    Args:
        path: of the zip.
        member: which entry.
        offset: in bytes from the entry's start.
        kind: of the number, as `struct` has it.
        value: to put there.
    """
    content = bytearray(path.read_bytes())
    places = [place for place in range(len(content)) if content[place : place + 4] == b"PK\x01\x02"]
    struct.pack_into(f"<{kind}", content, places[member] + offset, value)
    path.write_bytes(content)


def add(path: Path, name: str, **attributes: Any) -> None:
    member = zipfile.ZipInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, encoded(pixels(0)))


def again(path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        add(path, "train/ape/0.png")


FLAGS, SIZE, NAME_LENGTH, PLACE = 8, 24, 28, 42
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "absolute": (lambda path: add(path, "/etc/ape.png"), r"/etc/ape\.png has a path that leads out of it"),
    "upwards": (lambda path: add(path, "train/../../ape.png"), "has a path that leads out of it"),
    "with backslashes": (lambda path: add(path, "..\\..\\ape.png"), "has a path that leads out of it"),
    "a drive": (lambda path: add(path, "C:\\ape.png"), "has a path that leads out of it"),
    "a link": (
        lambda path: add(path, "train/ape/link.png", external_attr=0o120777 << 16),
        r"train/ape/link\.png is a link",
    ),
    "encrypted": (lambda path: patched(path, 3, FLAGS, "H", 1), "is encrypted"),
    "endless": (lambda path: patched(path, 3, SIZE, "I", 2**31), "would unpack to 2,048 MiB, more than any"),
    "a name cut open": (
        lambda path: patched(path, 3, NAME_LENGTH, "H", 5000),
        r"\.{3} has a name with a zero",
    ),
    "overlapping": (lambda path: patched(path, 7, PLACE, "I", 0), "lies in the same bytes as"),
    "twice": (again, r"holds train/ape/0\.png twice"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_zips_are_refused_whole(tmp_path: Path, name: str) -> None:
    make, message = HOSTILE[name]
    write_sides(tmp_path / "images")
    path = zipped(tmp_path / "images", tmp_path / "images.zip")
    make(path)
    with pytest.raises(RepairError, match=message):
        load(path, unusable="skip")


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked_whole(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/ape/0.png", bytes(2**26))
    patched(path, 0, SIZE, "I", 100)
    with files.open_files(path) as content:
        tracemalloc.start()
        try:
            with pytest.raises((ValueError, zipfile.BadZipFile)):
                content.read("train/ape/0.png")
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_are_named(tmp_path: Path, packing: int) -> None:
    write_sides(tmp_path / "images")
    path = zipped(tmp_path / "images", tmp_path / "images.zip", packing=packing)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("train/bee/1.png").header_offset + 60
    content = bytearray(path.read_bytes())
    content[place : place + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(RepairError, match=r"1 of 18 images of .*: train/bee/1\.png cannot be read"):
        load(path)
    assert len(load(path, unusable="skip").train_labels) == 11


def test_what_is_no_zip(tmp_path: Path) -> None:
    write_sides(tmp_path / "images")
    path = zipped(tmp_path / "images", tmp_path / "images.zip")
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(RepairError, match=r"images\.zip (is neither a folder nor a zip|cannot be read)"):
            load(path)
    with pytest.raises(
        RepairError, match=r"gone is not there: give the folder of the images, or a whole zip"
    ):
        load(tmp_path / "gone")


def test_a_compression_that_python_does_not_know(tmp_path: Path) -> None:
    write_sides(tmp_path / "images")
    path = zipped(tmp_path / "images", tmp_path / "images.zip")
    with zipfile.ZipFile(path) as archive:
        position = archive.namelist().index("train/bee/1.png")
    patched(path, position, 10, "H", 9)
    with pytest.raises(RepairError, match=r"1 of 18 images .*: train/bee/1\.png cannot be read"):
        load(path)


# Listed in a table.


def listed(folder: Path, table: pd.DataFrame, **settings: Any) -> Dataset:
    table.to_csv(folder / "list.csv", index=False)
    given = {"source": "image-table", "file": str(folder / "list.csv"), "images": str(folder / "images")}
    return load_source(PrepareData(seed=0, dataset={**given, **settings}).dataset, 0)


def rows_of(names: Sequence[str]) -> pd.DataFrame:
    parts = [name.split("/") for name in names]
    side, kind = ([part[place] for part in parts] for place in (0, 1))
    return pd.DataFrame({"note": 3, "file": names, "label": kind, "side": side})


def test_a_table_gives_what_folders_give(tmp_path: Path) -> None:
    """Whatever the rows' order is, from a zip too; images that it does not name are passed over."""
    names = sorted(write_sides(tmp_path / "images"))
    expected = load(tmp_path / "images")
    table = rows_of(names)
    assert_same(expected, listed(tmp_path, table, split="side"))
    save(tmp_path / "images/unnamed.png", pixels(0))
    zipped(tmp_path / "images", tmp_path / "images.zip")
    shuffled = table.sample(frac=1, random_state=0)
    shuffled["file"] = "./" + shuffled["file"]
    data = listed(tmp_path, shuffled, split="side", images=str(tmp_path / "images.zip"))
    assert data.train_files == tuple(
        name for name in (n[2:] for n in shuffled["file"]) if name[:5] == "train"
    )
    place = [expected.train_files.index(name) for name in data.train_files]  # type: ignore[union-attr]
    np.testing.assert_array_equal(data.train_inputs, expected.train_inputs[place])
    np.testing.assert_array_equal(data.train_labels, expected.train_labels[place])
    drawn = listed(tmp_path, table, test_fraction=0.5)
    np.testing.assert_array_equal(np.bincount(drawn.test_labels), [3, 3, 3])


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"file": "train/ape/9.png"}, {}, r"row 2 of .*list\.csv has 'train/ape/9.png' in its column file, and"),
        ({"file": "../list.csv"}, {}, "row 2 of .* holds no such file: give names relative to that"),
        ({"file": None}, {}, "row 2 of .* has 'nan' in its column file"),
        ({"file": "test/ape/0.png"}, {}, "rows 1 and 2 of .* name the same image, test/ape/0.png: leave one"),
        ({"label": None}, {}, "row 2 of .* has nothing in its column label"),
        ({"side": "dev"}, {"split": "side"}, "row 2 of .* has 'dev' in its column side: give train or test"),
        ({}, {"files": "path"}, "has no column path, only note, file, label, side: name one that it has in label"),
    ],
)  # fmt: skip
def test_lists_of_images_that_cannot_be(
    tmp_path: Path, change: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    table = rows_of(sorted(write_sides(tmp_path / "images", training=1, test=1)))
    for name, value in change.items():
        table.loc[1, name] = value
    with pytest.raises(RepairError, match=message):
        listed(tmp_path, table, **{"test_fraction": 0.5, **settings})


# The pipeline.


def test_the_stages_know_the_files(bare: Project, tmp_path: Path) -> None:
    """From a zip to corrupted labels, with the names of the files at hand to the end."""
    project = bare.copy(tmp_path / "project")
    write_sides(tmp_path / "images", training=10, test=6)
    zipped(tmp_path / "images", project.root / "data/own/images.zip")
    (project.root / "data/own/labels.csv").write_text(
        "file,people\n"
        + "".join(
            f"train/{name}/{number}.png,{'cow' if number == 3 else name}\n"
            for name in CLASSES
            for number in range(10)
        )
    )
    project.set_parameters(
        {
            "dataset": "zip",
            "datasets.zip": {
                "source": "image-folder",
                "path": "data/own/images.zip",
                "labels": {"file": "data/own/labels.csv", "columns": ["people"]},
                "training_per_class": 8,
                "assessment": 9,
            },
            "corruption": "people",
            "corruptions.people": {"kind": "annotation-noise", "column": "people"},
        }
    )
    for stage in ("choose-method", "prepare-data", "corrupt-data"):
        outcome = project.stage(stage).succeeded()
    original, corrupted = (project.root / "data" / name for name in ("original", "corrupted"))
    assert read_array(original / "train_inputs.npy").shape == (24, 3, HEIGHT, WIDTH)
    table = read_table(corrupted / "train.parquet")
    assert list(table) == ["example", "split", "label", "file", "true_label", "is_corrupted"]
    wrong = table["file"].str.endswith("/3.png") & (table["true_label"] != 2)
    np.testing.assert_array_equal(table["is_corrupted"], wrong)
    np.testing.assert_array_equal(table["label"], np.where(wrong, 2, table["true_label"]))
    assert f"{(wrong & (table['split'] == 'train')).sum()} of" in outcome.stdout
    assert read_table(original / "test.parquet")["file"].iloc[0] == "test/ape/0.png"


def test_cifar10_as_jpeg_files() -> None:
    if not SHARED_CIFAR.is_file():
        pytest.skip("the zip of CIFAR-10 is not beside this checkout (../shared/data/cifar10-jpeg.zip)")
    labels = SHARED_CIFAR.with_name("cifar10n_labels.csv.gz")
    columns = ["clean", "aggregate", "worst", "random2"]
    with files.open_files(SHARED_CIFAR) as content:
        assert len(content.names) == 60000
    data = load(SHARED_CIFAR, training_per_class=200, labels={"file": str(labels), "columns": columns})
    assert data.train_inputs.shape == (2000, 3, 32, 32)
    assert data.test_inputs.shape == (10000, 3, 32, 32)
    assert data.drawn.shape == (50000,)
    rates = {name: (given != data.train_labels).mean() for name, given in data.further_labels.items()}
    # Published: 0.0901, 0.4021 and 0.1812 of 50,000; five standard errors of 2,000.
    assert rates == {
        "clean": 0,
        "aggregate": pytest.approx(0.0901, abs=0.032),
        "worst": pytest.approx(0.4021, abs=0.055),
        "random2": pytest.approx(0.1812, abs=0.044),
    }
