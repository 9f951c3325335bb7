"""Examples: rows of arrays that are read when they are used, and not before."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples


class Watched:
    """An array that notes which of its rows are read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.dtype, self.shape, self.flags = values.dtype, values.shape, values.flags
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        self.read += np.arange(len(self.values))[rows].tolist()
        return self.values[rows]


def numbered(count: int) -> Examples:
    """Examples whose input and target say which they are."""
    return Examples(np.arange(count, dtype=np.float64)[:, None], np.arange(count))


def test_nothing_is_read_before_it_is_used() -> None:
    inputs = Watched(np.arange(20.0).reshape(10, 2))
    examples = Examples(inputs, np.arange(4), rows=[9, 2, 2, 5])  # type: ignore[arg-type]
    chosen = examples.subset([3, 0])
    assert (len(examples), len(chosen)) == (4, 2)
    assert inputs.read == []
    batch, targets = chosen.batch(slice(1, 2))
    assert inputs.read == [9]
    assert (batch.tolist(), targets.tolist()) == ([[18.0, 19.0]], [0])


def test_memory_mapped_inputs_are_read_without_warnings_and_never_written(tmp_path: Path) -> None:
    np.save(tmp_path / "inputs.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    mapped = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    examples = Examples(mapped, np.load(tmp_path / "inputs.npy", mmap_mode="r")[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for positions in (slice(0, 3), [0, 1, 2]):
            inputs, targets = examples.batch(positions)
            inputs += 1
            targets += 1
    np.testing.assert_array_equal(mapped, np.arange(6).reshape(3, 2))
    np.testing.assert_array_equal(examples.targets, [0, 2, 4])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_byte_images_become_fractions_and_floats_keep_their_values(dtype: torch.dtype) -> None:
    pixels = np.array([[[[0, 51]]], [[[102, 255]]]], dtype=np.uint8)
    inputs, _ = Examples(pixels, np.array([0, 1])).batch([1, 0], dtype=dtype)
    assert inputs.dtype == dtype
    expected = torch.tensor([[[[0.4, 1.0]]], [[[0.0, 0.2]]]], dtype=torch.float64).to(dtype)
    torch.testing.assert_close(inputs, expected, rtol=0, atol=1e-7 if dtype == torch.float32 else 1e-16)
    features, _ = Examples(pixels.astype(np.float64), np.array([0, 1])).batch([0, 1], dtype=dtype)
    assert features.flatten().tolist() == [0, 51, 102, 255]


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_class_numbers_become_int64(kind: type[np.generic]) -> None:
    targets = Examples(np.zeros((3, 1)), np.array([2, 0, 1], dtype=kind)).batch(slice(None))[1]
    assert targets.dtype == torch.int64
    assert targets.tolist() == [2, 0, 1]


def test_other_targets_take_the_dtype_of_the_model() -> None:
    attributes = np.array([[1.0, 0.0], [0.25, 0.75]], dtype=np.float32)
    targets = Examples(np.zeros((2, 1)), attributes).batch(slice(None), dtype=torch.float64)[1]
    assert targets.dtype == torch.float64
    np.testing.assert_array_equal(targets.numpy(), attributes)


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([4, 1], [4, 1]),
        ([2, 2, 0], [2, 2, 0]),
        (np.array([False, True, False, False, True]), [1, 4]),
        ([], []),
        (np.zeros(5, dtype=bool), []),
        (range(5), [0, 1, 2, 3, 4]),
    ],
    ids=["order", "repeated", "mask", "none", "empty mask", "all"],
)
def test_subset(positions: Any, expected: list[int]) -> None:
    chosen = numbered(5).subset(positions)
    assert len(chosen) == len(expected)
    assert chosen.inputs[:, 0].tolist() == expected
    assert chosen.targets.tolist() == expected


def test_subset_of_a_subset_counts_within_it() -> None:
    chosen = numbered(10).subset([9, 7, 5, 3]).subset([2, 0])
    assert chosen.inputs[:, 0].tolist() == chosen.targets.tolist() == [5, 9]
    assert chosen.rows.tolist() == [5, 9]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 40))
def test_batches_walk_through_the_set_once_in_order(count: int, size: int) -> None:
    seen = list(numbered(count).batches(size, dtype=torch.float64))
    assert [p for positions, _, _ in seen for p in range(positions.start, positions.stop)] == list(
        range(count)
    )
    assert [value for _, inputs, _ in seen for value in inputs[:, 0].tolist()] == list(range(count))
    assert [value for _, _, targets in seen for value in targets.tolist()] == list(range(count))
    assert all(len(inputs) == size for _, inputs, _ in seen[:-1])


def test_inputs_and_targets_of_different_length_are_refused() -> None:
    with pytest.raises(RepairError, match="there are 3 inputs and 2 targets"):
        Examples(np.zeros((3, 1)), np.zeros(2, dtype=int))
    with pytest.raises(RepairError, match="there are 1 inputs and 3 targets"):
        Examples(np.zeros((3, 1)), np.zeros(3, dtype=int), rows=[0])


@pytest.mark.parametrize(("rows", "named"), [([0, 3], "3"), ([-1, 1], "-1"), ([-2, 9], "-2")])
def test_rows_that_are_not_there_are_named(rows: list[int], named: str) -> None:
    with pytest.raises(RepairError, match=f"name input {named} and there are 3"):
        Examples(np.zeros((3, 1)), np.zeros(2, dtype=int), rows=rows)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_integers_that_are_no_images_stay_what_they_are(
    kind: type[np.generic], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    values = np.full(shape, np.iinfo(kind).max, dtype=kind)  # type: ignore[type-var]
    inputs, _ = Examples(values, np.arange(3)).batch(slice(None), dtype=dtype)
    assert inputs.dtype == torch.int64
    assert inputs.shape == shape
    assert set(inputs.flatten().tolist()) == {int(np.iinfo(kind).max)}  # type: ignore[type-var]


def test_only_bytes_are_images() -> None:
    inputs, _ = Examples(np.full((2, 1, 2, 2), 255, dtype=np.int64), np.arange(2)).batch([0])
    assert inputs.dtype == torch.int64
    truths, _ = Examples(np.ones((2, 3), dtype=bool), np.arange(2)).batch([0])
    assert truths.dtype == torch.float32


@pytest.mark.parametrize("values", [np.ones((3, 2), dtype=complex), np.array([["a"], ["b"], ["c"]])])
def test_inputs_that_are_no_real_numbers_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(
        RepairError, match=r"the inputs are of type .*: give floats, byte images, or integers"
    ):
        Examples(values, np.arange(3)).batch(slice(None))


@pytest.mark.parametrize("choose", [Examples.subset, Examples.batch], ids=["subset", "batch"])
@pytest.mark.parametrize(
    ("positions", "words"),
    [
        ([5], "example 5 of 5 was asked for: give positions from 0 to 4"),
        ([0, -1], "example -1 of 5 was asked for"),
        ([True, False], r"a mask of shape \(2,\) was given to choose among 5 examples"),
        ([0.0, 1.0], "type float64 was given to choose among 5 examples"),
        ([[0], [1]], r"an array of shape \(2, 1\)"),
        (3, r"an array of shape \(\)"),
    ],
)
def test_positions_that_are_none_are_refused(choose: Any, positions: Any, words: str) -> None:
    with pytest.raises(RepairError, match=words):
        choose(numbered(5), positions)


def test_examples_behind_examples() -> None:
    draw = np.random.default_rng(0)
    first = Examples(draw.integers(0, 256, (6, 1, 2, 2), dtype=np.uint8), np.arange(4), [5, 0, 2, 2])
    second = Examples(draw.integers(0, 256, (3, 1, 2, 2), dtype=np.uint8), np.arange(2), [2, 1])
    both = first.followed_by(second)
    assert np.array_equal(both.inputs, np.concatenate([first.inputs, second.inputs]))
    assert both.targets.tolist() == [0, 1, 2, 3, 0, 1]
    mixed = both.subset([5, 0, 4])
    assert np.array_equal(mixed.inputs, both.inputs[[5, 0, 4]])
    assert torch.equal(both.batch([4, 1])[0], torch.from_numpy(both.inputs[[4, 1]]) / 255)
    thrice = both.followed_by(first)
    assert np.array_equal(thrice.inputs, np.concatenate([both.inputs, first.inputs]))
    assert first.followed_by(second.subset([])) is first
    same = first.subset([0, 1]).followed_by(first.subset([2]))
    assert same.rows.tolist() == [5, 0, 2]
    with pytest.raises(RepairError, match="cannot be one set: give both in the same form"):
        first.followed_by(Examples(np.zeros((3, 4)), np.arange(3)))
