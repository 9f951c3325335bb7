"""A checkpoint is whole or absent, and goes when another computation of its kind begins."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from modelrepair.errors import RepairError
from modelrepair.pipeline.checkpoint import Checkpoint

TENSORS = {"network.weight": torch.arange(12.0).view(3, 4).T, "optimiser.step": torch.tensor(3.0)}
STATE = {"trace": [{"round": 0, "loss": None}, {"round": 1, "loss": 0.1 + 0.2}], "best_value": -1e-300}


def holder(folder: Path, then: str) -> subprocess.Popen[str]:
    """A process that holds a checkpoint with fingerprint "a" and says so before it goes on."""
    code = f"""
import time, torch
from pathlib import Path
from modelrepair.pipeline.checkpoint import Checkpoint
checkpoint = Checkpoint(Path({str(folder)!r}), "a")
print("holding", flush=True)
{then}
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_what_was_saved_last_comes_back_exactly(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "treat", "a")
    assert checkpoint.load() is None
    checkpoint.save({"network.weight": torch.zeros(2)}, {})
    checkpoint.save(TENSORS, STATE)
    loaded = checkpoint.load()
    assert loaded is not None
    tensors, state = loaded
    assert state == STATE
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_another_fingerprint_finds_nothing(tmp_path: Path) -> None:
    Checkpoint(tmp_path / "treat", "a").save(TENSORS, STATE)
    assert Checkpoint(tmp_path / "treat", "b").load() is None
    assert Checkpoint(tmp_path / "train-base", "a").load() is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"\xff" * len(content),
        lambda content: content.replace(b'"state"', b'"other"'),
        lambda content: content.replace(b"trace", b'tr"ce'),
    ],
    ids=["empty", "5 bytes", "half", "all but a byte", "overwritten", "no state", "state is no JSON"],
)
def test_a_damaged_checkpoint_is_as_good_as_none(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = Checkpoint(tmp_path / "treat", "a")
    checkpoint.save(TENSORS, STATE)
    [file] = (tmp_path / "treat").glob("*.safetensors")
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert checkpoint.load() is None
    assert "cannot be read" in caplog.text
    assert "starting afresh" in caplog.text
    checkpoint.save(TENSORS, STATE)
    assert checkpoint.load() is not None


def test_a_failed_save_keeps_the_previous_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path / "treat", "a")
    checkpoint.save(TENSORS, STATE)

    def die(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save({"network.weight": torch.zeros(2)}, {"trace": []})
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded[1] == STATE


def test_what_a_killed_process_kept_is_there_for_the_next(tmp_path: Path) -> None:
    save = "checkpoint.save({'x': torch.ones(2)}, {'round': 4}); print('saved', flush=True); time.sleep(600)"
    with holder(tmp_path / "treat", save) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    loaded = Checkpoint(tmp_path / "treat", "a").load()
    assert loaded is not None
    assert loaded[1] == {"round": 4}


def test_progress_stays_until_another_computation_of_its_kind_begins(tmp_path: Path) -> None:
    """A kill may come when the result is written and not yet recorded."""
    Checkpoint(tmp_path / "train-base", "a").save(TENSORS, STATE)
    for fingerprint in ("a", "b"):
        checkpoint = Checkpoint(tmp_path / "treat", fingerprint)
        checkpoint.save(TENSORS, STATE)
        assert Checkpoint(tmp_path / "treat", fingerprint).load() is not None
    assert {path.name for path in (tmp_path / "treat").iterdir()} == {"b.safetensors"}
    assert Checkpoint(tmp_path / "train-base", "a").load() is not None


def test_that_it_came_to_its_end_is_noted_until_it_is_cleared(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "treat", "a")
    checkpoint.save(TENSORS, STATE)
    assert not checkpoint.finished
    checkpoint.finish()
    again = Checkpoint(tmp_path / "treat", "a")
    assert again.finished
    assert again.load() is not None
    again.clear()
    assert not again.finished
    assert again.load() is None
    checkpoint.finish()
    assert not Checkpoint(tmp_path / "treat", "b").finished
    assert list((tmp_path / "treat").iterdir()) == []


def test_a_disk_that_fills_is_met_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(tmp_path / "treat", "a")
    checkpoint.save(TENSORS, STATE)
    (tmp_path / "treat" / "a.partial").mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            checkpoint.save({"network.weight": torch.zeros(2)}, {"trace": []})
    assert len([record for record in caplog.records if "a kill would lose it" in record.message]) == 1
    loaded = checkpoint.load()
    assert loaded is not None
    assert loaded[1] == STATE


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RepairError, match=r"progress cannot be kept in .*file/treat \(Not a directory\)"):
        Checkpoint(tmp_path / "file" / "treat", "a")
