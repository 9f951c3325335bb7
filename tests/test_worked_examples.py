"""The worked examples run, and do what they are there to show."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from conftest import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    threads = torch.get_num_threads()
    try:
        return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))
    finally:
        torch.set_num_threads(threads)


def test_each_is_short_and_tried_here() -> None:
    assert [path.stem for path in EXAMPLES] == [
        "erase_person",
        "image_folder",
        "linear_model",
        "own_network",
        "step_by_step",
        "text_classifier",
    ]
    assert max(len(path.read_text().splitlines()) for path in EXAMPLES) < 60


def test_a_network_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("own_network", tmp_path, monkeypatch)
    assert done["swapped"][done["result"].causes].mean() > 0.6
    assert done["after"]["all"] > done["before"]["all"] + 0.02
    assert done["after"]["holdout"] > 0.5
    again = done["Net"]()
    again.load_state_dict(load_file(tmp_path / "repaired.safetensors"))


def test_a_linear_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("linear_model", tmp_path, monkeypatch)
    result = done["result"]
    assert done["mistaken"][result.causes].mean() > 2 * done["mistaken"].mean()
    assert done["after"] > done["before"] + 0.03
    # What is measured in the library is what scikit-learn measures of what comes back.
    rows = np.stack([result.evidence.test_inputs[row] for row in range(len(result.evidence.parts))])
    said = np.searchsorted(result.model.classes_, result.model.predict(rows))
    np.testing.assert_array_equal(said, result.evidence.after.test_predictions)


def test_erasing_one_persons_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("erase_person", tmp_path, monkeypatch)
    assert done["distance"]["after"] < 0.5 * done["distance"]["before"]
    assert done["result"].measured["repair"]["after"]["all"] > 0.95


def test_a_folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("image_folder", tmp_path, monkeypatch)
    assert done["hits"] > 0.6 * len(done["found"])
    assert done["hits"] > 0.6 * len(done["moved"])
    assert all((tmp_path / path).is_file() for path in done["found"])
    assert done["numbers"]["after"]["all"] > done["numbers"]["before"]["all"] + 0.01


def test_each_step_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("step_by_step", tmp_path, monkeypatch)
    assert len(done["causes"]) == 20
    assert done["repaired"].accuracy(done["test"]) >= done["model"].accuracy(done["test"])


def test_a_classifier_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("text_classifier", tmp_path, monkeypatch)
    assert done["misfiled"][done["result"].causes].mean() > 3 * done["misfiled"].mean()
    assert done["numbers"]["after"]["all"] > done["numbers"]["before"]["all"] + 0.02
    assert done["numbers"]["broken"] < done["numbers"]["fixed"] / 2
