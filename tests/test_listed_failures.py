"""The failures that a person lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from conftest import Project
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.splits.failures import NoFailures, split_failures
from modelrepair.splits.listed import listed_failures

CLASSES = ["one", "six", "7"]


def table(**columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"example": [3, 4, 5, 6], "label": [0, 1, 2, 0], **columns})


def read(tmp_path: Path, text: str, tests: pd.DataFrame | None = None) -> tuple[NDArray[np.bool_], list[int]]:
    path = tmp_path / "mine.csv"
    path.write_text(text)
    listed, labels = listed_failures(path, table() if tests is None else tests, CLASSES)
    return listed, labels.tolist()


def test_examples_are_listed_by_number_and_labels_are_those_of_the_list(tmp_path: Path) -> None:
    """A class by its name or number, of which the name goes first; the same line twice says nothing new."""
    listed, labels = read(tmp_path, "note,label,example\nbad,six, 3\n,7,5\n,1,4\n,7,5\n")
    assert listed.tolist() == [True, True, True, False]
    assert labels == [1, 1, 2, 0]


def test_files_are_listed_by_name_and_no_name_means_a_copy_with_a_trigger(tmp_path: Path) -> None:
    files = ["a/1.png", "b/2.png", "b/2.png", "a, b.png"]
    tests = table(file=files, is_triggered=[False, False, True, False])
    listed, labels = read(tmp_path, 'file,label\nb/2.png,six\n"a, b.png",six\n', tests)
    assert listed.tolist() == [False, True, False, True]
    assert labels == [0, 1, 2, 1]


def test_rows_of_a_table_are_listed_by_their_number_there(tmp_path: Path) -> None:
    tests = table(row=[2, 8, 9, 40])
    listed, labels = read(tmp_path, "row,label\n8,six\n40,six\n", tests)
    assert listed.tolist() == [False, True, False, True]
    assert labels == [0, 1, 2, 1]
    with pytest.raises(
        RepairError, match=r"lists '3', which is no test example: give its row, as in test\.parquet"
    ):
        read(tmp_path, "row,label\n3,six\n", tests)
    with pytest.raises(
        RepairError, match=r"columns row, example, label: give label, .* or row, that of the table"
    ):
        read(tmp_path, "row,example,label\n8,4,six\n", tests)
    listed, _ = read(tmp_path, "row,example,label\n8,4,six\n")
    assert listed.tolist() == [False, True, False, False], "elsewhere a column of that name is a note"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("example,label\n7,six\n", "line 2 of .*mine.csv lists '7', which is no test example: give its number from"),
        ("example,label\n3,sixx\n", "line 2 of .*mine.csv: the data have no class 'sixx': choose from one, six, 7"),
        ("example,label\n3,six\n3,one\n", "lines 2 and 3 of .*mine.csv differ on '3': leave one of them"),
        ("example,label\nx,six\n", "has 'x' in the column example: give a whole number"),
        ("example,label\n3\n", "line 2 of .* has 1 values for 2 columns"),
        ("example\n3\n", "has the columns example: give one column label"),
        ("label\nsix\n", "has the columns label: give label, and either example"),
        ("file,example,label\na,3,six\n", "has the columns file, example, label: give label, and either example"),
        ("file,label\na.png,six\n", "names files, and these test examples are none: give their numbers"),
        ("example,label\n", "lists no failures: give one test example in each row"),
        ("", "is empty: give a column label with one failure in each row"),
    ],
)  # fmt: skip
def test_lists_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RepairError, match=message):
        read(tmp_path, text)


def test_names_and_attributes_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        RepairError, match=r"lists 'c.png', which is no test example: give its name, as in test"
    ):
        read(tmp_path, "file,label\nc.png,six\n", table(file=["a", "b", "c", "d"]))
    attributes = pd.DataFrame({"example": [0, 1], "label": [[0, 1], [1, 1]]})
    with pytest.raises(RepairError, match="these examples have attributes: set failures"):
        read(tmp_path, "example,label\n0,six\n", attributes)
    with pytest.raises(
        RepairError, match=r"there is no file .*none\.csv, which lists the failures: write it"
    ):
        listed_failures(tmp_path / "none.csv", table(), CLASSES)


def test_only_what_is_listed_is_a_failure_and_what_is_right_is_none() -> None:
    correct = np.array([False, False, True, False, False, True])
    part = np.array(["discovery"] * 3 + ["assessment"] * 3)
    listed = np.array([True, False, True, True, False, False])
    roles = split_failures(correct, part, np.zeros(6), generator(0, "failures"), listed=listed)
    assert roles["role"].tolist() == ["query", "", "", "holdout", "", "remaining"]
    assert roles["is_failure"].tolist() == [True, False, False, True, False, False]
    with pytest.raises(NoFailures, match="classifies every example that is listed among the 3"):
        split_failures(correct, part, np.zeros(6), generator(0, "failures"), listed=~listed & correct)


def test_a_list_runs_through_the_pipeline(project: Project) -> None:
    """Half of the failures are listed, and what the model has right; one example has another label than in the data."""
    before = pd.read_parquet(project.root / "data/failures/discovery.parquet")
    wrong, right = before[before["is_query"]], before[~before["is_failure"]]
    names = np.array(["one", "six", "seven", "nine"])
    chosen = pd.concat([wrong.iloc[::2], right.iloc[:3]])
    lines = pd.DataFrame({"example": chosen["example"], "label": names[chosen["label"]]})
    other = right.iloc[5]
    lines.loc[-1] = [other["example"], names[(other["label"] + 1) % 4]]
    lines.to_csv(project.root / "requests/mine.csv", index=False)
    project.set_parameters({"failures.file": "requests/mine.csv"})
    ran = project.repro("split-failures").succeeded()
    assert (
        f"lists {len(lines)} test examples, 1 with another label than the data have: 3 of them" in ran.stdout
    )
    after = pd.read_parquet(project.root / "data/failures/discovery.parquet")
    expected = sorted([*wrong.iloc[::2]["example"], other["example"]])
    assert after[after["is_query"]]["example"].tolist() == expected
    relabelled = after.set_index("example").loc[other["example"], "label"]
    assert relabelled == (other["label"] + 1) % 4

    project.set_parameters({"failures.file": "mine.csv"})
    refused = project.stage("choose-method")
    assert "failures.file is 'mine.csv', outside the folder requests" in refused.stderr
