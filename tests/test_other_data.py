"""The benchmark of other data: what is wrong in a problem is what it says, and every method is measured on the same."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score

import other_data
from models import one_thread  # noqa: F401


@pytest.mark.parametrize(("labels", "rate"), [("any", 0.3), ("two classes", 0.5)])
def test_a_problem_has_so_many_wrong_labels_and_right_ones_outside(labels: str, rate: float) -> None:
    problem = other_data.make_problem("digits", "linear", labels, rate, seed=3)
    rows, right = load_digits(return_X_y=True)
    truth = {row.tobytes(): label for row, label in zip((rows / 16).astype(np.float32), right, strict=True)}
    of_training = np.array([truth[row.tobytes()] for row in problem.rows])
    of_others = np.array([truth[row.tobytes()] for row in problem.outside[0]])
    assert len(of_training) + len(of_others) == len(right)
    assert (of_others == problem.outside[1]).all()
    assert ((of_training != problem.given) == problem.wrong).all()
    if labels == "any":
        assert abs(problem.wrong.mean() - rate) < 0.05
        assert set(problem.given[problem.wrong]) == set(range(10))
    else:
        pair = set(of_training[problem.wrong])
        assert len(pair) == 2
        assert set(problem.given[problem.wrong]) == pair
        assert abs(problem.wrong[np.isin(of_training, [*pair])].mean() - rate) < 0.12
    again = other_data.make_problem("digits", "linear", labels, rate, seed=3)
    assert all(
        (one == other).all()
        for one, other in zip(problem.network.parameters(), again.network.parameters(), strict=True)
    )


def test_every_method_is_measured_on_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ["--seeds", "1", "--data", "digits", "--networks", "narrow", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["other_data.py", *sizes])
    other_data.main()
    table = pd.read_csv(tmp_path / "other_data.csv").set_index(other_data.KEYS)
    assert set(table.index.get_level_values("labels")) == {"any, 15 %", "two classes, 30 %"}
    assert set(table["seeds"]) == {1}
    for labels in ("any, 15 %", "two classes, 30 %"):
        of_labels = table.xs(("digits", "narrow", labels))["mean"]
        accuracies = of_labels.xs("all", level="metric")
        assert set(accuracies.index) == {"before", *other_data.METHODS}
        assert accuracies["true causes, mend"] > accuracies["before"] + 1, "the labels cost accuracy"
        gains = of_labels.xs("gain", level="metric")
        assert set(gains.index) == {*other_data.FROM_FEW}
        assert gains.abs().max() < 10
        assert of_labels["mend", "auroc"] > 0.95
        taken, wrong = of_labels["mend", "causes"], of_labels["before", "wrong"]
        found = of_labels["mend", "precision"] * taken
        assert found == pytest.approx(of_labels["mend", "recall"] * wrong, rel=1e-3)
        assert found == pytest.approx(round(found), abs=0.06), "of whole examples"


def test_a_wide_network_knows_wrong_labels_by_heart() -> None:
    problem = other_data.make_problem("five made classes", "wide", "any", 0.2, seed=100)
    said = problem.network(torch.from_numpy(problem.rows)).argmax(1).numpy()
    assert accuracy_score(problem.given[problem.wrong], said[problem.wrong]) > 0.95
