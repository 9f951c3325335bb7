"""A table as a source of data: which rows and features it gives, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelrepair.errors import RepairError
from modelrepair.settings.data import TableSettings
from modelrepair.sources import load_source

COUNT = 40


def content(**columns: Any) -> pd.DataFrame:
    """Customers who stay or leave."""
    draw = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": draw.integers(18, 90, COUNT),
            "plan": np.array(["basic", "gold", "trial"])[draw.integers(0, 3, COUNT)],
            "paid": draw.normal(20, 5, COUNT),
            "active": draw.random(COUNT) < 0.5,
            "label": np.array(["leaves", "stays"])[np.arange(COUNT) % 2],
        }
    ).assign(**columns)


def written(folder: Path, table: pd.DataFrame, name: str = "table.csv") -> str:
    path = folder / name
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz", "table.parquet"])
def test_rows_columns_and_classes(tmp_path: Path, name: str) -> None:
    table = content()
    data = load_source(TableSettings(file=written(tmp_path, table, name)), 0)
    assert data.classes == ("leaves", "stays")
    rows = {side: np.array(getattr(data, f"{side}_columns")["row"]) - 1 for side in ("train", "test")}
    assert sorted([*rows["train"], *rows["test"]]) == list(range(COUNT))
    assert len(rows["test"]) == 8
    inputs = {"train": data.train_inputs, "test": data.test_inputs}
    labels = {"train": data.train_labels, "test": data.test_labels}
    training = table.iloc[rows["train"]]
    for side in ("train", "test"):
        some = table.iloc[rows[side]]
        age, paid, active = (
            (some[name].astype(float) - training[name].mean()) / training[name].astype(float).std(ddof=0)
            for name in ("age", "paid", "active")
        )
        words = [(some["plan"] == word).astype(float) for word in ("basic", "gold", "trial")]
        expected = np.stack([age, *words, paid, active], 1)
        np.testing.assert_allclose(inputs[side], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(labels[side], (some["label"] == "stays").astype(int))


def test_what_is_said_of_the_columns(tmp_path: Path) -> None:
    table = content(part=np.where(np.arange(COUNT) < 30, "train", "test"), kind=7 + np.arange(COUNT) % 2 * 3)
    settings = TableSettings(
        file=written(tmp_path, table), label="kind", columns=["paid"], split="part", standardised=False
    )
    data = load_source(settings, 0)
    assert data.classes == ("7", "10"), "in the order of numbers"
    np.testing.assert_allclose(data.train_inputs[:, 0], table["paid"][:30], rtol=1e-6)
    assert data.test_columns["row"] == list(range(31, 41))


def test_nothing_is_learned_from_test_rows(tmp_path: Path) -> None:
    part = np.where(np.arange(COUNT) < 30, "train", "test")
    table = content(part=part)
    other = table.copy()
    other.loc[30:, ["paid", "plan"]] = [1e6, "unheard-of"]
    first, second = (
        load_source(TableSettings(file=written(tmp_path, one), split="part"), 0) for one in (table, other)
    )
    np.testing.assert_array_equal(first.train_inputs, second.train_inputs)
    assert (second.test_inputs[:, 1:4] == 0).all(), "a word that no training row has is none of the words"


def test_so_many_of_each_class(tmp_path: Path) -> None:
    data = load_source(TableSettings(file=written(tmp_path, content()), training_per_class=5), 0)
    assert np.bincount(data.train_labels).tolist() == [5, 5]
    assert data.drawn.sum() == 10
    assert len(data.drawn) == 32


def holed(column: str) -> pd.DataFrame:
    table = content().astype({"age": float})
    table.loc[4, column] = None
    return table


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (content(), {"label": "churn"}, "has no column churn, only age, plan, paid, active, label: name one"),
        (content(), {"columns": ["agee"]}, "has no column agee, only"),
        (content(), {"columns": ["age", "label"]}, "are age, label, and the column label is the class"),
        (content()[["label"]], {}, "are nothing, and the column label is the class: name in columns at least one"),
        (content(label=np.linspace(0, 1, COUNT)), {}, r"holds 0\.025\d+: give classes, which are words or whole numb"),
        (content(label="stays"), {}, "holds 1 classes in 40 rows: name as label a column with two"),
        (content(label=[f"name {i}" for i in range(COUNT)]), {}, "holds 40 classes in 40 rows"),
        (holed("label"), {}, r"row 5 of .* has nothing in its column label: give each row a class"),
        (holed("age"), {}, r"row 5 of .* has nothing in its column age: fill it"),
        (content(paid=[np.inf, *range(COUNT - 1)]), {}, r"row 1 of .* has inf in its column paid: give a number"),
        (content(), {"split": "plan"}, r"row 1 of .* in its column plan: give train or test"),
        (content(part=["train", "test"] * (COUNT // 2)), {"split": "part"}, "has no train row of the class stays"),
        (content(), {"test_fraction": 0.01}, "takes 0 of the 20 rows of the class leaves of"),
    ],
)  # fmt: skip
def test_what_cannot_be(tmp_path: Path, table: pd.DataFrame, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        load_source(TableSettings(file=written(tmp_path, table), **settings), 0)


def test_a_text_is_no_feature(tmp_path: Path) -> None:
    table = pd.concat([content()] * 5).assign(name=[f"customer {number}" for number in range(5 * COUNT)])
    with pytest.raises(RepairError, match=r"column name of .* holds 160 different words, such as 'customer"):
        load_source(TableSettings(file=written(tmp_path, table)), 0)


@pytest.mark.parametrize(
    ("name", "written_so", "message"),
    [
        ("a.csv", b"", r"a\.csv cannot be read as a table"),
        ("a.csv", b"age;label\n1;x\n2;y\n", "has no column label, only age;label: .*columns are separated by commas"),
        ("a.csv.gz", b"no gzip", r"a\.csv\.gz cannot be read as a table"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read as a table"),
        ("gone/a.csv", None, r"a\.csv cannot be read as a table"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(tmp_path: Path, name: str, written_so: bytes | None, message: str) -> None:
    if written_so is not None:
        (tmp_path / name).write_bytes(written_so)
    with pytest.raises(RepairError, match=message):
        load_source(TableSettings(file=str(tmp_path / name)), 0)
