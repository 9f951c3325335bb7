"""Labels beside a data set, such as those that people gave."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from modelrepair.corruptions import TrainingData, corrupt
from modelrepair.data.classes import further_label_column
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import CorruptData
from modelrepair.settings.data import PrepareData
from modelrepair.sources import Dataset, load_source
from modelrepair.splits.dataset import training_table, with_further_labels

CLASSES = ("ape", "bee", "cow")
COUNT = 12
INPUTS = np.zeros((COUNT, 2))


def load(folder: Path, labels: dict[str, Any], **settings: Any) -> Dataset:
    dataset = {"file": str(folder / "own.npz"), "source": "npz", **settings, "labels": labels}
    dataset = {name: value for name, value in dataset.items() if value is not None}
    return load_source(PrepareData(seed=0, dataset=dataset).dataset, 0)


def write_arrays(folder: Path, **changes: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "train_inputs": rng.normal(size=(COUNT, 3)),
        "train_labels": np.arange(COUNT) % 3,
        "test_inputs": rng.normal(size=(6, 3)),
        "test_labels": np.arange(6) % 3,
        "classes": np.array(CLASSES),
    }
    np.savez(folder / "own.npz", **(arrays | changes))


def write_images(folder: Path) -> None:
    for side, count in (("train", COUNT // 3), ("test", 2)):
        for name in CLASSES:
            for number in range(count):
                path = folder / "images" / side / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (number, 0, 0)).save(path)


def write_labels(folder: Path, columns: dict[str, Any]) -> dict[str, Any]:
    """A file of these columns, and the settings of all but `file`."""
    pd.DataFrame(columns).to_csv(folder / "labels.csv", index=False)
    return {"file": str(folder / "labels.csv"), "columns": [name for name in columns if name != "file"]}


def test_rows_are_in_the_order_of_the_source(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    given = np.random.default_rng(1).integers(0, 3, COUNT)
    names = np.array(CLASSES)[given]
    labels = write_labels(tmp_path, {"numbers": given, "names": names})
    data = load(tmp_path, labels)
    for column in ("numbers", "names"):
        np.testing.assert_array_equal(data.further_labels[column], given)
        assert data.further_labels[column].dtype == np.int64
    drawn = load(tmp_path, labels, training_per_class=2)
    assert drawn.drawn.sum() == 6
    np.testing.assert_array_equal(drawn.further_labels["names"], given[drawn.drawn])


def test_rows_are_found_by_the_names_of_files(tmp_path: Path) -> None:
    write_images(tmp_path)
    files = [f"train/{name}/{number}.png" for name in CLASSES for number in range(COUNT // 3)]
    given = dict(zip(files, np.random.default_rng(1).integers(0, 3, COUNT), strict=True))
    shuffled = list(np.random.default_rng(2).permutation(files))
    content = {"file": [*shuffled, "test/ape/0.png"], "people": [*(given[file] for file in shuffled), 0]}
    labels = write_labels(tmp_path, content)
    source = {"source": "image-folder", "path": str(tmp_path / "images"), "file": None}
    (tmp_path / "images/train/bee/1.png").write_bytes(b"no")
    for settings in ({}, {"training_per_class": 3}):
        data = load(tmp_path, labels, unusable="skip", **source, **settings)
        assert data.train_files is not None
        assert data.further_labels["people"].tolist() == [given[file] for file in data.train_files]
    by_order = write_labels(tmp_path, {"people": list(given.values())})
    data = load(tmp_path, by_order, unusable="skip", **source)
    assert data.train_files is not None
    assert data.further_labels["people"].tolist() == [given[file] for file in data.train_files]

    labels = write_labels(tmp_path, {name: values[1:] for name, values in content.items()})
    with pytest.raises(RepairError, match=rf"no row for 1 of 11 training images, such as {shuffled[0]}"):
        load(tmp_path, labels, unusable="skip", **source)
    labels = write_labels(tmp_path, {name: [*values, values[0]] for name, values in content.items()})
    with pytest.raises(RepairError, match=f"names {shuffled[0]} twice"):
        load(tmp_path, labels, unusable="skip", **source)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (range(COUNT - 1), "has 11 rows and the data have 12 training examples: give a row for each"),
        ([0] * (COUNT + 1), "has 13 rows and the data have 12"),
        (
            [0, 1, 3] * 4,
            r"row 3 of .* has '3' in its column people: the data have no class '3': choose from ape",
        ),
        ([0, 1, -1] * 4, "row 3 of .* has '-1' in its column people"),
        ([0, 1, 0.5] * 4, r"row 1 of .* has '0\.0' in its column people"),
        (["ape", "bee", "dog"] * 4, "row 3 of .* has 'dog' in its column people"),
        (["ape", None, "cow"] * 4, "row 2 of .* has '' in its column people"),
    ],
)
def test_wrong_labels(tmp_path: Path, values: Any, message: str) -> None:
    write_arrays(tmp_path)
    labels = write_labels(tmp_path, {"people": list(values)})
    with pytest.raises(RepairError, match=message):
        load(tmp_path, labels)


def test_wrong_files(tmp_path: Path) -> None:
    write_arrays(tmp_path)
    labels = write_labels(tmp_path, {"people": np.arange(COUNT) % 3})
    with pytest.raises(RepairError, match="has no column experts: it has people, which labels"):
        load(tmp_path, {**labels, "columns": ["experts"]})
    with pytest.raises(
        RepairError, match=r"gone\.csv cannot be read as a CSV table of labels \(.*No such file"
    ):
        load(tmp_path, {**labels, "file": str(tmp_path / "gone.csv")})
    packed = tmp_path / "labels.csv.gz"
    content = gzip.compress((tmp_path / "labels.csv").read_bytes())
    packed.write_bytes(content)
    labels["file"] = str(packed)
    np.testing.assert_array_equal(load(tmp_path, labels).further_labels["people"], np.arange(COUNT) % 3)
    for damaged in (b"", content[:20], b"\0\1\2\xff\xfe"):
        packed.write_bytes(damaged)
        with pytest.raises(RepairError, match=r"labels\.csv\.gz cannot be read as a CSV table"):
            load(tmp_path, labels)
    write_arrays(tmp_path, train_labels=np.ones((COUNT, 3), int), test_labels=np.ones((6, 3), int))
    with pytest.raises(RepairError, match="these data have attributes: leave labels out"):
        load(tmp_path, labels)


def test_what_people_got_wrong_is_corrupted() -> None:
    true, people = np.arange(COUNT) % 3, np.r_[np.arange(COUNT - 2) % 3, 1, 1]
    split = np.array(["train", "validation"] * (COUNT // 2))
    plain = training_table(true, split)
    table = with_further_labels(plain, {"people": people, "experts": true})
    settings = CorruptData(seed=0, corruption={"kind": "annotation-noise", "column": "people"}).corruption
    data = corrupt(settings, TrainingData.original(table, INPUTS, CLASSES), 0)
    result = data.table
    assert list(result) == ["example", "split", "label", "true_label", "is_corrupted"]
    np.testing.assert_array_equal(result["label"], people)
    np.testing.assert_array_equal(result["true_label"], true)
    np.testing.assert_array_equal(result["is_corrupted"], people != true)
    assert data.about == {1, 2}
    assert further_label_column("people") in table, "the table given is left as it is"
    with pytest.raises(RepairError, match="takes the labels 'people', which the data set does not have"):
        corrupt(settings, TrainingData.original(plain, INPUTS, CLASSES), 0)


def test_other_corruptions_leave_them_out() -> None:
    true = np.arange(COUNT) % 3
    table = with_further_labels(training_table(true, np.full(COUNT, "train")), {"people": true})
    settings = CorruptData(seed=0, corruption={"kind": "none"}).corruption
    assert list(corrupt(settings, TrainingData.original(table, INPUTS, CLASSES), 0).table) == [
        *("example", "split", "label", "true_label", "is_corrupted")
    ]
