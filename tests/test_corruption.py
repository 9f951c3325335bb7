"""Properties of label noise: exact counts, the confusion matrix's shares, clear errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrepair.corruptions import TrainingData, corrupt
from modelrepair.corruptions.label_noise import confusion_matrix, corrupt_labels
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import (
    CorruptData,
    CorruptionSettings,
    LabelNoiseSettings,
    NoCorruptionSettings,
)
from modelrepair.settings.data import MnistSampleSettings
from modelrepair.sources import load_source
from modelrepair.splits.dataset import split_training, training_table

DIGITS = tuple("0123456789")
SWAPS = LabelNoiseSettings(confusion_matrix={1: {7: 0.4}, 7: {1: 0.4}, 6: {9: 0.4}, 9: {6: 0.4}})
SEEDS = st.integers(0, 2**32 - 1)


def corrupted(
    of: CorruptionSettings, table: pd.DataFrame, classes: Sequence[str], seed: int = 0
) -> TrainingData:
    """With inputs that no corruption of labels looks at."""
    return corrupt(of, TrainingData.original(table, np.empty((len(table), 0)), classes), seed)


@st.composite
def confusions(draw: st.DrawFn, k: int = 4) -> np.ndarray[Any, np.dtype[np.float64]]:
    weights = np.array(draw(st.lists(st.integers(0, 9), min_size=k * k, max_size=k * k)), float).reshape(k, k)
    weights += np.eye(k) * (weights.sum(axis=1) == 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_real_digits_get_exactly_432_and_48_wrong_labels(seed: int) -> None:
    data = load_source(MnistSampleSettings(training_per_class=300), seed)
    split = split_training(data.train_labels, 0.1, generator(seed, "split"))
    table = corrupted(SWAPS, training_table(data.train_labels, split), DIGITS, seed).table
    assert list(table.columns) == ["example", "split", "label", "true_label", "is_corrupted"]
    assert table["is_corrupted"].dtype == bool
    wrong = table[table["is_corrupted"]]
    assert wrong.groupby("split").size().to_dict() == {"train": 432, "validation": 48}
    pairs = wrong[wrong["split"] == "train"].groupby(["true_label", "label"]).size()
    assert pairs.to_dict() == {(1, 7): 108, (7, 1): 108, (6, 9): 108, (9, 6): 108}
    assert (
        table.loc[~table["is_corrupted"], "label"] == table.loc[~table["is_corrupted"], "true_label"]
    ).all()


@given(
    counts=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    confusion=confusions(),
    seed=SEEDS,
    data=st.data(),
)
@settings(max_examples=80, deadline=None)
def test_every_group_gets_its_share_to_within_one(
    counts: list[int], confusion: np.ndarray[Any, np.dtype[np.float64]], seed: int, data: st.DataObject
) -> None:
    rng = generator(seed, "test")
    labels = rng.permutation(np.repeat(np.arange(4), counts))
    split = rng.choice(["train", "validation"], len(labels))
    given_labels = corrupt_labels(labels, split, confusion, generator(seed, "corrupt"))
    for name in ("train", "validation"):
        for number in range(4):
            group = (split == name) & (labels == number)
            shares = np.bincount(given_labels[group], minlength=4)
            assert shares.sum() == group.sum()
            assert np.abs(shares - confusion[number] * group.sum()).max() < 1
    np.testing.assert_array_equal(
        given_labels, corrupt_labels(labels, split, confusion, generator(seed, "corrupt"))
    )


@given(low=st.floats(0, 1), high=st.floats(0, 1), other=st.floats(0, 1), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_higher_rate_corrupts_the_same_and_more_whatever_other_classes_do(
    low: float, high: float, other: float, seed: int
) -> None:
    low, high = sorted((low, high))
    labels = np.repeat([0, 1, 2], 30)
    split = np.full(90, "train")

    def wrong(rate: float, rate_of_other: float) -> np.ndarray[Any, np.dtype[np.bool_]]:
        matrix = confusion_matrix({0: {1: rate_of_other}, 1: {2: rate}}, ("0", "1", "2"))
        return (corrupt_labels(labels, split, matrix, generator(seed, "corrupt")) != labels)[labels == 1]

    assert (wrong(low, 0) <= wrong(high, 0)).all()
    np.testing.assert_array_equal(wrong(low, 0), wrong(low, other))


def test_no_corruption_leaves_everything_as_it_is() -> None:
    table = training_table(np.array([1, 0]), np.array(["train", "validation"]))
    data = corrupted(NoCorruptionSettings(), table, ("a", "b"))
    result = data.table
    pd.testing.assert_frame_equal(result[list(table.columns)], table)
    assert list(result["true_label"]) == [1, 0]
    assert not result["is_corrupted"].any()
    assert not data.about
    assert "true_label" not in table


def test_mapping_and_rows_say_the_same() -> None:
    classes = ("cat", "dog", "bird")
    rows = [[0.6, 0.4, 0], [0, 1, 0], [0.1, 0.2, 0.7]]
    mapping = {"cat": {1: 0.4}, "2": {"cat": 0.1, "dog": 0.2, "bird": 0.7}}
    matrix = confusion_matrix(rows, classes)
    np.testing.assert_allclose(confusion_matrix(mapping, classes), matrix)


def test_it_is_about_classes_that_lose_or_receive_labels() -> None:
    table = training_table(np.repeat(np.arange(10), 10), np.full(100, "train"))
    matrices: list[tuple[Any, list[int]]] = [
        (SWAPS.confusion_matrix, [1, 6, 7, 9]),
        ({3: {8: 0.1}}, [3, 8]),
        ({}, []),
    ]
    for matrix, expected in matrices:
        noise = LabelNoiseSettings(confusion_matrix=matrix)
        assert corrupted(noise, table, DIGITS).about == set(expected)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[1, 0], [0, 1]], r"should be 3 rows of 3 rates.*not 2 rows of 2 rates"),
        ([[1, 0, 0], [0, 1], [0, 0, 1]], r"not 3 rows of 2 or 3 rates"),
        (None, "not None"),
        ("0.4", "not '0.4'"),
        ([[1, 0, 0], [0, 1, 0], [0, 0.4, 0.5]], "row of class c sums to 0.9"),
        ([[1.5, -0.5, 0], [0, 1, 0], [0, 0, 1]], "rate 1.5 in the row of class a"),
        ([[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]], "rate nan in the row of class a"),
        ({"a": {"b": 1.2}}, "rate 1.2 in the row of class a"),
        ({"a": {"b": -0.1}}, "rate -0.1 in the row of class a"),
        ({"a": {"b": "0.4"}}, "rate '0.4' in the row of class a"),
        ({"a": {"b": True}}, "rate True in the row of class a"),
        ({"a": {"b": 0.7, "c": 0.7}}, "row of class a sums to 1.4"),
        ({"a": {"a": 0.5, "b": 0.4}}, "row of class a sums to 0.9"),
        ({"a": 0.4}, "confusion_matrix of class a is 0.4"),
        ({"a": {"d": 0.4}}, "no class 'd': choose from a, b, c"),
        ({7: {"a": 0.4}}, "no class '7'"),
        ({"a": {"b": 0.1}, 0: {"b": 0.2}}, "names a class twice"),
        ({"a": {"b": 0.1, 1: 0.2}}, "names a class twice"),
    ],
)
def test_wrong_matrices(matrix: Any, message: str) -> None:
    with pytest.raises(RepairError, match=message) as caught:
        confusion_matrix(matrix, ("a", "b", "c"))
    assert "\n" not in str(caught.value)


def test_unknown_corruption_and_attributes() -> None:
    table = training_table(np.zeros((2, 3), np.float32), np.array(["train", "train"]))
    with pytest.raises(RepairError, match=r"corruption\.kind is 'salt': choose one of none, label-noise"):
        CorruptData(seed=0, corruption={"kind": "salt"})
    with pytest.raises(RepairError, match="attributes"):
        corrupted(SWAPS, table, DIGITS)
    assert not corrupted(NoCorruptionSettings(), table, DIGITS).table["is_corrupted"].any()
