"""The benchmark of images a second: what stands beside what, and that it measures what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import results_table
import throughput
from conftest import ROOT
from models import one_thread  # noqa: F401


def test_ratios_are_of_the_loops_of_the_same_turn() -> None:
    seconds = {name: [1.0, 2.0, 4.0] for name in ("forward-backward", "forward-backward, bfloat16")}
    seconds |= {"forward": [0.3, 0.6, 0.9], "scoring": [0.4, 0.6, 1.0], "backward": [0.7, 1.4, 3.1]}
    seconds |= {name: [2.0, 2.0, 2.0] for name in throughput.BESIDE if name not in seconds}
    seconds["forward-backward, small"] = [1.0, 1.0, 5.0]
    rows = pd.DataFrame(throughput.rows_of("lenet5", torch.device("cpu"), 120, seconds))
    found = rows.set_index(["work", "numbers"])
    scoring = found.loc[("scoring", "float32")]
    assert (scoring["images_per_second"], scoring["beside_per_second"]) == (200, 200)
    assert scoring["ratio"] == pytest.approx(0.9), "of 0.75, 1 and 0.9"
    assert (scoring["beside"], scoring["wanted"]) == ("forward", 0.9)
    assert found.loc[("training", "bfloat16, channels last"), "ratio"] == 1
    assert found.loc[("treatment", "float32"), "ratio"] == 0.5
    assert found.loc[("squared gradients", "float32"), "beside"] == "backward"


def test_a_network_is_measured_and_rows_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "RESULTS", tmp_path)
    for network in ("lenet5", "conv4"):
        monkeypatch.setattr(
            sys, "argv", ["throughput.py", "--networks", network, "--images", "18", "--repeats", "1"]
        )
        throughput.main()
    table = results_table.read(tmp_path / "throughput.csv", throughput.NAMES)
    assert set(table["network"]) == {"conv4", "lenet5"}
    assert len(table) == 2 * len(throughput.BESIDE)
    assert (table["images_per_second"] > 0).all()
    assert table["ratio"].notna().all()


def test_the_committed_rates_are_of_every_work() -> None:
    table = results_table.read(ROOT / "benchmarks/results/throughput.csv", throughput.NAMES)
    for _, rows in table.groupby(["device", "network"]):
        assert sorted(rows["work"]) == sorted(work.removesuffix(", bfloat16") for work in throughput.BESIDE)
