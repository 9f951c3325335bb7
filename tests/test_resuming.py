"""A repair in one call that is ended in the middle goes on where it was, to the same bytes."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import modelrepair
from modelrepair.errors import RepairError
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.pipeline.stage import Stage

SHORT = {
    "identifications.second-look.posterior.looks": 5,
    "treatments.mend.posterior.looks": 5,
    "treatments.finetune.epochs": 5,
}


class Ended(BaseException):
    """As a kill: nothing catches it."""


class Watch:
    """Counts how often progress is saved, and ends the repair after every so many times."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.saved = 0
        self.every: int | None = None
        save = Checkpoint.save

        def counted(checkpoint: Checkpoint, *content: Any) -> None:
            save(checkpoint, *content)
            self.saved += 1
            if self.every and self.saved % self.every == 0:
                raise Ended

        patch.setattr(Checkpoint, "save", counted)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    """A network with dropout, which draws in every step, and what it has wrong."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 240)
    rows = (draw.normal(size=(240, 3)) + 1.2 * labels[:, None]).astype(np.float32)
    given = np.where(draw.random(240) < 0.2, 0, labels)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 2))
    return {"model": network, "train": (rows[:120], given[:120]), "test": (rows[120:], labels[120:])}


def repaired(case: dict[str, Any], **options: Any) -> modelrepair.Repair:
    settings = {**SHORT, **options.pop("settings", {})}
    return modelrepair.repair(case["model"], case["train"], None, case["test"], settings=settings, **options)


def expect_same(result: modelrepair.Repair, other: modelrepair.Repair) -> None:
    np.testing.assert_array_equal(result.scores, other.scores)
    np.testing.assert_array_equal(result.causes, other.causes)
    assert result.measured == other.measured
    state = other.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in result.model.state_dict().items())


def until_done(watch: Watch, every: int, case: dict[str, Any], **options: Any) -> modelrepair.Repair:
    watch.every, watch.saved = every, 0
    for _ in range(20):
        try:
            return repaired(case, **options)
        except Ended:
            continue
    raise AssertionError("it comes to no end")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "ewc", "settings": {f"{kind}s.ewc.posterior.rounds": 6 for kind in ("identification", "treatment")}},
        {"identification": "tmc-shapley", "settings": {"identifications.tmc-shapley.influence.permutations": 3}},
    ],
    ids=["mend", "ewc", "shapley"],
)  # fmt: skip
def test_it_goes_on_where_it_was_ended(
    case: dict[str, Any], watch: Watch, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole = repaired(case, checkpoints=tmp_path / "whole", **copy.deepcopy(options))
    needed = watch.saved
    assert needed > 8
    ended = until_done(watch, 3, case, checkpoints=tmp_path / "ended", **copy.deepcopy(options))
    assert watch.saved == needed, "nothing is computed twice"
    expect_same(ended, whole)
    watch.every, watch.saved = None, 0
    expect_same(repaired(case, checkpoints=tmp_path / "ended", **copy.deepcopy(options)), whole)
    assert watch.saved == 0, "what is there is not computed again"


def test_keeping_progress_changes_nothing(case: dict[str, Any], tmp_path: Path) -> None:
    expect_same(repaired(case, checkpoints=tmp_path), repaired(case))


def test_anything_else_begins_afresh(case: dict[str, Any], watch: Watch, tmp_path: Path) -> None:
    rows, given = case["train"]
    relabelled = given.copy()
    relabelled[0] = 1 - relabelled[0]
    other = copy.deepcopy(case["model"])
    with torch.no_grad():
        other[0].bias[0] += 1e-3
    rectified = copy.deepcopy(case["model"])
    rectified[1] = nn.ReLU()
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"seed": 1}),
        ({}, {"settings": {"treatments.mend.posterior.looks": 4}}),
        ({}, {"causes": [0, 1, 2]}),
        ({"train": (rows, relabelled)}, {}),
        ({"test": tuple(part[:-1] for part in case["test"])}, {}),
        ({"model": other}, {}),
        ({"model": rectified}, {}),
    ]
    watch.every = 8
    with pytest.raises(Ended):
        repaired(case, checkpoints=tmp_path / "begun", reference="none")
    watch.every = None
    for number, (data, options) in enumerate([({}, {}), *changes]):
        folder = shutil.copytree(tmp_path / "begun", tmp_path / str(number))
        watch.saved = 0
        repaired({**case, **data}, checkpoints=folder, reference="none", **copy.deepcopy(options))
        # Five looks to find causes, the scores, and five looks to treat them.
        everything = 10 if "settings" in options else 11
        assert watch.saved == (everything if number else 11 - 8), (number, options)


def test_two_repairs_do_not_share_a_folder(case: dict[str, Any], tmp_path: Path) -> None:
    with Stage("repair", tmp_path).alone(), pytest.raises(RepairError, match="is still running repair here"):
        repaired(case, checkpoints=tmp_path)


def test_a_file_is_no_folder(case: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RepairError, match=r"progress cannot be kept in .*: name a folder"):
        repaired(case, checkpoints=tmp_path / "file")


def test_it_says_what_it_does(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    repaired(case)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("repair: ")]
    assert [line.split()[1] for line in said] == ["scoring", "treating", "making", "measuring"]
    assert "by second-look" in said[0]
    assert "by mend" in said[1]
