"""The stage evaluate and the script that shows its results, on artefacts written here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from modelrepair.data.classes import label_column
from modelrepair.models.files import fresh_model, save_model
from modelrepair.pipeline.artifacts import write_array, write_json, write_table

COUNT = 60
PARTS = ("discovery", "reserved", "assessment")


def write_workspace(
    root: Path, *, attributes: bool, corrupted: bool, scored: bool, reference: str | None = None
) -> None:
    """What the stages before evaluate leave, of linear models of points in four dimensions."""
    generator = np.random.default_rng(0)
    folders = ("original", "corrupted", "failures", "scores", "causes", "method")
    for name in (*(f"data/{folder}" for folder in folders), "models/base", "models/repaired", "metrics"):
        (root / name).mkdir(parents=True)
    labels = generator.integers(0, 2, (COUNT, 3)).astype(np.float32) if attributes else np.arange(COUNT) % 3
    given = labels.copy()
    if corrupted:
        given[:5] = (labels[:5] + 1) % 3
    for side in ("train", "test"):
        write_array(
            root / f"data/original/{side}_inputs.npy", generator.normal(size=(COUNT, 4)).astype(np.float32)
        )
    likelihood = "sigmoid" if attributes else "softmax"
    write_json(
        root / "data/original/dataset.json",
        {"classes": ["a$", "b_{", "犬"], "input_shape": [4], "likelihood": likelihood, "description": ""},
    )
    table = pd.DataFrame({"example": np.arange(COUNT), "split": "train", "label": label_column(given)})
    table = table.assign(true_label=label_column(labels), is_corrupted=np.arange(COUNT) < 5 * corrupted)
    write_table(root / "data/corrupted/train.parquet", table)
    write_json(root / "data/corrupted/corruption.json", {"noisy_classes": [0, 1] if corrupted else []})
    tests = pd.DataFrame({"example": np.arange(COUNT), "label": label_column(labels)})
    tests = tests.assign(part=[PARTS[row // 3 % 3] for row in range(COUNT)], role="remaining")
    for part in PARTS:
        chosen = tests[tests["part"] == part].reset_index(drop=True)
        write_table(root / f"data/failures/{part}.parquet", chosen)
    if scored:
        write_table(
            root / "data/scores/scores.parquet", pd.DataFrame({"score": generator.normal(size=COUNT)})
        )
        meaning = {"score": "loss-change", "unit": "nats", "meaning": "score > 0: harmful"}
        write_json(root / "data/scores/scores.json", meaning)
    write_table(root / "data/causes/causes.parquet", pd.DataFrame({"position": np.arange(8)}))
    if corrupted:
        write_json(root / "data/causes/expected.json", {"count": 7.4, "error": 1.6})
    write_json(
        root / "data/method/evaluate.json",
        {
            "method": "ewc" if scored else "erase",
            "identification": "ewc" if scored else "none",
            "treatment": "newton",
            "selection": "fraction" if scored else "class",
            "uses": "guard" if scored else "request",
            "scored": scored,
            "reference": reference,
            "retrained": reference == "retrain",
        },
    )
    description = {
        "network": "linear",
        "options": {},
        "input_shape": [4],
        "outputs": 3,
        "likelihood": likelihood,
    }
    (root / "models/reference").mkdir()
    for seed, name in enumerate(("base", "repaired", *(["reference"] if reference else []))):
        save_model(root / "models" / name, fresh_model(description, seed), description)
    course = pd.DataFrame({"round": [0, 1, 2], "discovery_accuracy": [0.5, 0.5, 0.6]})
    course = course.assign(
        kept_accuracy=[1, 0.9, 0.95], query_accuracy=[0, 0.5, 0.25], returned=course.index == 2
    )
    course.to_csv(root / "metrics/treatment_course.csv", index=False)
    (root / "dvc.yaml").write_text("stages: {evaluate: {cmd: python3 evaluate.py}}\n")
    (root / "params.yaml").write_text("{}\n")


@pytest.fixture(autouse=True)
def path(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python that has its imports done runs what is run here."""
    folders = [str(python), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))


def run(root: Path, *module: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["python3", "-m", *module], cwd=root, env={**os.environ}, capture_output=True, text=True
    )


def evaluate(root: Path) -> subprocess.CompletedProcess[str]:
    return run(root, "modelrepair.stages.evaluate")


def show(root: Path) -> subprocess.CompletedProcess[str]:
    return run(root, "modelrepair", "show")


CASES: dict[str, dict[str, bool]] = {
    "failures, causes known": {"attributes": False, "corrupted": True, "scored": True},
    "request": {"attributes": False, "corrupted": False, "scored": False},
    "failures in attributes": {"attributes": True, "corrupted": False, "scored": True},
    "request for attributes": {"attributes": True, "corrupted": False, "scored": False},
}


@pytest.mark.parametrize("case", CASES)
def test_from_artefacts_to_results(case: str, tmp_path: Path) -> None:
    kind = CASES[case]
    write_workspace(tmp_path, **kind)
    done = evaluate(tmp_path)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((tmp_path / "metrics/repair.json").read_text())
    assert list(metrics) == ["used", "identification", "repair", "erasure"]
    assert set(metrics["used"]) == {"method", "identification", "treatment", "selection", "uses"}
    assert ("auroc" in metrics["identification"]) == kind["corrupted"]
    intervals = json.loads((tmp_path / "metrics/intervals.json").read_text())
    for when, ends in intervals.items():
        for name, pair in ends.items():
            value = metrics["repair"][when][name]
            assert pair is None or pair[0] <= value <= pair[1], (when, name)
    pictures = {path.name for path in (tmp_path / "metrics/pictures").iterdir()}
    expected = {"summary.png", "changes.png", "treatment.png"}
    expected |= {"attributes.png"} if kind["attributes"] else {"confusion.png"}
    expected |= {"examples.png"} if kind["scored"] else set()
    expected |= {"identification.png"} if kind["corrupted"] else set()
    assert pictures == expected
    text = (tmp_path / "metrics/page.html").read_text()
    assert "Given label" in text
    assert ("in nats; score" in text) == kind["scored"]
    shown = show(tmp_path)
    assert shown.returncode == 0, shown.stderr
    what = "Method ewc: took as causes 8" if kind["scored"] else "Method erase: erased 8"
    assert f"{what} training examples" in shown.stdout
    assert ("AUROC" in shown.stdout) == ("noisy classes" in shown.stdout) == kind["corrupted"]
    # How many causes were expected, beside how many there are; and what the choice of the point gives up.
    assert (metrics["identification"].get("expected_causes") == 7.4) == kind["corrupted"]
    assert ("; 7 ± 2 were expected, and 5 are corrupted" in text) == kind["corrupted"]
    assert ("7 ± 2 were expected to be wrong; 5 are" in shown.stdout) == kind["corrupted"]
    given_up = (
        "point 1 has 50.0 % of the failures shown right in place of 25.0 %, and breaks 10.0 % of what was"
    )
    assert (given_up in text) == kind["scored"]
    low, high = intervals["after"]["all"]
    assert f"{100 * low:.1f} to {100 * high:.1f}" in shown.stdout
    assert "metrics/pictures/" in shown.stdout


@pytest.mark.parametrize("reference", ["fine-tuned without the 15 % highest losses", "retrain"])
@pytest.mark.parametrize("case", CASES)
def test_the_reference_is_measured_and_shown(case: str, reference: str, tmp_path: Path) -> None:
    kind = CASES[case]
    for name, beside in (("without", None), ("with", reference)):
        write_workspace(tmp_path / name, **kind, reference=beside)
        done = evaluate(tmp_path / name)
        assert done.returncode == 0, done.stderr
    metrics: dict[str, Any] = json.loads((tmp_path / "with/metrics/repair.json").read_text())
    plain = json.loads((tmp_path / "without/metrics/repair.json").read_text())
    found = metrics.pop("reference")
    assert list(found) == ["what", "after", "fixed", "broken"]
    assert found["what"] == reference
    assert found["after"].keys() == metrics["repair"]["after"].keys()
    assert ("beside_retrained" in metrics["erasure"]) == (reference == "retrain")
    assert set(metrics["erasure"].pop("reference")) == {"erased", "kept", "membership_auc"}
    metrics["erasure"].pop("beside_retrained", None)
    assert metrics == plain, "all else is as without one"
    summaries = {
        (tmp_path / name / "metrics/pictures/summary.png").read_bytes() for name in ("with", "without")
    }
    assert len(summaries) == 2
    shown = show(tmp_path / "with")
    assert shown.returncode == 0, shown.stderr
    said = (
        f"beside it, {reference}: {100 * found['after']['all']:.1f} % of all right, {found['fixed']} fixed, "
    )
    assert said in shown.stdout
    assert "beside it" not in show(tmp_path / "without").stdout


@pytest.mark.parametrize("broken", ["a picture", "a measurement", "the settings", "the course"])
def test_whatever_fails_leaves_the_earlier_results(broken: str, tmp_path: Path) -> None:
    write_workspace(tmp_path, attributes=False, corrupted=True, scored=True)
    evaluate(tmp_path).check_returncode()
    earlier = {path: path.read_bytes() for path in sorted((tmp_path / "metrics").rglob("*.[hjp]*"))}
    assert len(earlier) == 9
    if broken == "a picture":
        (tmp_path / "metrics/treatment_course.csv").write_text("step\n0\n")
        sentence = "needs a column round"
    elif broken == "a measurement":
        write_table(tmp_path / "data/causes/causes.parquet", pd.DataFrame({"position": [1, 1]}))
        sentence = "1 of the selected causes are repeated"
    elif broken == "the course":
        (tmp_path / "metrics/treatment_course.csv").unlink()
        sentence = "treatment_course.csv is missing: run `dvc checkout`"
    else:
        (tmp_path / "data/method/evaluate.json").write_text("{}")
        sentence = "evaluate.json"
    done = evaluate(tmp_path)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in sorted((tmp_path / "metrics").rglob("*.[hjp]*"))} == earlier


def test_a_fresh_clone_is_told_what_works_there(tmp_path: Path) -> None:
    shown = show(tmp_path)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert "no results to show yet: run `dvc repro`" in shown.stderr
    assert "checkout" not in shown.stderr


@pytest.mark.parametrize("content", ["{", '{"repair": {}}', "[]"])
def test_results_that_cannot_be_shown(content: str, tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics/repair.json").write_text(content)
    shown = show(tmp_path)
    assert shown.returncode == 1
    assert "run `dvc repro`, which writes it anew" in shown.stderr
    assert "Traceback" not in shown.stderr
