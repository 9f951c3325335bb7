"""The benchmark of how well scores foresee training on halves: it runs and goes on where it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from conftest import ROOT

SCORES = {"trajectory", "linear, gram", "linear, ekfac", "linear, cg", "loss-change, ewc", "loss"}


def run(folder: Path) -> list[str]:
    """What it says it has measured."""
    sizes = ("--seeds", "1", "--subsets", "8", "--examples", "64", "--epochs", "1")
    places = ("--results", str(folder / "results"), "--scratch", str(folder / "scratch"))
    done = subprocess.run(
        [sys.executable, "benchmarks/datamodelling.py", *sizes, *places],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("{")]


def test_it_runs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    assert len(run(tmp_path)) == 3
    file, kept = tmp_path / "results/datamodelling.csv", tmp_path / "scratch/datamodelling.csv"
    first, rows = file.read_bytes(), pd.read_csv(kept)
    table = pd.read_csv(file)
    assert set(table["score"]) == SCORES
    assert len(table) == 3 * len(SCORES)
    # Two steps of a smooth network are all but linear in what they are made of.
    assert table.loc[table["score"] == "trajectory", "mean"].median() > 0.95

    rows[rows["optimiser"] != "momentum"].to_csv(kept, index=False)
    [again] = run(tmp_path)
    assert "'momentum'" in again
    assert pd.read_csv(file).set_index(["optimiser", "score"])["mean"].to_dict() == pytest.approx(
        table.set_index(["optimiser", "score"])["mean"].to_dict()
    )
    assert not run(tmp_path)
    assert sorted(file.read_bytes().splitlines()) == sorted(first.splitlines())
