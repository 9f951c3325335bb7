"""The benchmark of how well scores foresee training on halves: it runs and goes on where it was."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import datamodelling
from models import one_thread  # noqa: F401

SCORES = {"trajectory", "linear, gram", "linear, ekfac", "linear, cg", "loss-change, ewc", "loss"}


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[], list[str]]:
    """Runs it; what it says it has measured."""
    sizes = ("--seeds", "1", "--subsets", "8", "--examples", "64", "--epochs", "1")
    places = ("--results", str(tmp_path / "results"), "--scratch", str(tmp_path / "scratch"))
    monkeypatch.setattr(sys, "argv", ["datamodelling.py", *sizes, *places])

    def once() -> list[str]:
        capsys.readouterr()
        datamodelling.main()
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]

    return once


def test_it_runs_and_goes_on_where_it_was(run: Callable[[], list[str]], tmp_path: Path) -> None:
    assert len(run()) == 3
    file, kept = tmp_path / "results/datamodelling.csv", tmp_path / "scratch/datamodelling.csv"
    first, rows = file.read_bytes(), pd.read_csv(kept)
    table = pd.read_csv(file)
    assert set(table["score"]) == SCORES
    assert len(table) == 3 * len(SCORES)
    # Two steps of a smooth network are all but linear in what they are made of.
    assert table.loc[table["score"] == "trajectory", "mean"].median() > 0.95

    rows[rows["optimiser"] != "momentum"].to_csv(kept, index=False)
    [again] = run()
    assert "'momentum'" in again
    assert pd.read_csv(file).set_index(["optimiser", "score"])["mean"].to_dict() == pytest.approx(
        table.set_index(["optimiser", "score"])["mean"].to_dict()
    )
    assert not run()
    assert sorted(file.read_bytes().splitlines()) == sorted(first.splitlines())
