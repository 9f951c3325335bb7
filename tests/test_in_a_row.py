"""The benchmark of updates in a row: its rows are those of the updates, and one piece is everything at once."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import in_a_row
from modelrepair.base_training.train import train
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.training.descent import Descent
from models import (
    blobs,
    one_thread,  # noqa: F401
)


def small(seed: int, count: int, epochs: int) -> in_a_row.Problem:
    clean, _ = blobs(count, seed=seed)
    wrong = (clean.targets == 1) & (np.arange(count) % 4 == 1)
    training = Examples(clean.inputs, np.where(wrong, 0, clean.targets))
    model = TrainedModel(make_network("linear", (2,), 2, seed=seed).double(), Softmax(), device="cpu")
    train(model, training, Descent(learning_rate=0.05, rounds=epochs), batch_size=16, seed=seed)
    tests, _ = blobs(80, seed=seed + 1)
    failing = np.flatnonzero(model.correct(tests).numpy() == 0)
    right = tests.subset(np.setdiff1d(np.arange(80), failing))
    half = len(failing) // 2
    return in_a_row.Problem(
        model, training, wrong, tests.subset(failing[:half]), tests.subset(failing[half:]), right, seed
    )


def test_what_is_measured_of_pieces_and_of_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_a_row, "spoiled", small)
    sizes = ["--seeds", "1", "--examples", "40", "--epochs", "15", "--pieces", "1", "3"]
    monkeypatch.setattr(sys, "argv", ["in_a_row.py", *sizes, "--results", str(tmp_path)])
    in_a_row.main()
    table = pd.read_csv(tmp_path / "in_a_row.csv").set_index(in_a_row.KEYS)
    assert set(table["seeds"]) == {1}
    assert len(table) == 5 * (2 + 3)
    for operation, metrics in (("insert", ["auroc"]), ("delete", ["holdout", "remaining"])):
        for update in (in_a_row.ONCE, *in_a_row.IN_A_ROW):
            assert table.loc[(update, operation, 1, "distance"), "mean"] == 0
        # One piece of online EWC is EWC with all of it.
        for metric in metrics:
            once, piece = (table.loc[(name, operation, 1, metric), "mean"] for name in ("ewc", "online-ewc"))
            assert piece == pytest.approx(once, rel=1e-3)
        for update in in_a_row.IN_A_ROW:
            assert table.loc[(update, operation, 3, "distance"), "mean"] > 0
    assert table.loc[("ewc", "insert", 1, "auroc"), "mean"] > 0.6, "what is ranked are the wrong labels"
