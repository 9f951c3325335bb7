"""Arrays that a device holds as a whole, with the CPU in the GPU's place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modelrepair.models import resident
from modelrepair.models.examples import Examples

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
ARRAYS: dict[str, NDArray[Any]] = {
    "byte images": RNG.integers(0, 256, (20, 3, 4, 4), dtype=np.uint8),
    "floats": RNG.normal(size=(20, 5)),
    "ids": RNG.integers(0, 300, (20, 6), dtype=np.int32),
    "bits": RNG.integers(0, 2, (20, 7)).astype(bool),
    "ids of a type that no device picks rows of": RNG.integers(0, 300, (20, 6), dtype=np.uint16),
}


@pytest.fixture(autouse=True)
def _held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "worth_holding", lambda device: True)
    monkeypatch.setattr(resident, "room", lambda device: 2**20)
    monkeypatch.setattr(resident, "SENT_AT_A_TIME", 100)


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("positions", [slice(1, 4), [3, 0, 3], np.array([True, False, True, True, False])])
def test_a_batch_is_the_same_wherever_it_is_picked_out(name: str, positions: Any) -> None:
    """Of chosen rows, and of two arrays one behind the other, in any order."""
    rows, targets = [4, 19, 0, 4, 7], np.arange(5)
    own, held = (Examples(array, targets, rows) for array in (ARRAYS[name], frozen(ARRAYS[name])))
    further = Examples(frozen(ARRAYS[name][:3] + ARRAYS[name][0]), targets[:3])
    order = [6, 1, 7, 0, 5, 2]
    pairs = [
        (own.batch(positions), held.batch(positions)),
        (own.followed_by(further).batch(order), held.followed_by(further).batch(order)),
    ]
    for expected, found in pairs:
        for one, other in zip(expected, found, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_an_array_is_sent_once_and_forgotten_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = resident._sent
    monkeypatch.setattr(
        resident, "_sent", lambda array, device: sent.append(len(array)) or send(array, device)
    )
    before = len(resident._held)
    array = frozen(ARRAYS["floats"])
    examples = Examples(array, np.arange(20))
    for size in (3, 7):
        for positions, inputs, _ in examples.batches(size):
            assert torch.equal(inputs, torch.from_numpy(array[positions].copy()).float())
    examples.subset([5]).with_targets(np.zeros(1)).batch([0])
    assert sent == [20]
    assert len(resident._held) == before + 1
    del examples, array
    assert len(resident._held) == before


def test_what_may_be_written_to_is_read_each_time() -> None:
    array = ARRAYS["floats"].copy()
    examples = Examples(array, np.arange(20))
    examples.batch([0])
    array[0] = 7
    assert examples.batch([0])[0].tolist() == [[7] * 5]


def test_what_there_is_no_room_for_is_sent_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "room", lambda device: 10)
    array = frozen(ARRAYS["floats"])
    assert resident.rows_held(array, np.array([1]), CPU) is None
    assert torch.equal(Examples(array, np.arange(20)).batch([1])[0], torch.from_numpy(array[[1]]).float())
    # Once it is known, nothing is asked again.
    monkeypatch.setattr(resident, "room", lambda device: 2**20)
    assert resident.rows_held(array, np.array([1]), CPU) is None


def test_memory_that_runs_out_after_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*size: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(torch, "empty", full)
    assert resident.rows_held(frozen(ARRAYS["floats"]), np.array([1]), CPU) is None
