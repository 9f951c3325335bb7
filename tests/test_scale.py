"""How time and memory grow with the number of examples: the benchmark, what it measured, and what the README says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch import nn

import results_table
import scale
from conftest import ROOT
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from models import one_thread  # noqa: F401

COMMITTED = results_table.read(ROOT / "benchmarks/results/scale.csv", scale.NAMES)


def table(exponent: float, each: float) -> pd.DataFrame:
    """Of one work that grows like this."""
    counts = np.array([1000, 10_000, 100_000])
    return pd.DataFrame(
        {
            **dict(zip(scale.NAMES, ("core", "linear", "scoring"), strict=True)),
            "examples": counts,
            "seconds": 0.002 * counts**exponent,
            "floor_seconds": 0.001 * counts**exponent,
            "ratio": 0.5,
            "memory_mib": 200 + counts * each / 2**20,
            "inputs_mib": counts * 784 / 2**20,
        }
    )


def test_growth_is_that_of_a_power_and_of_a_line() -> None:
    found = scale.growth(table(1.02, 24)).iloc[0]
    assert found["exponent"] == pytest.approx(1.02)
    assert found["bytes_an_example"] == pytest.approx(24)
    assert found["billion_hours"] == pytest.approx(0.002 * 1e9**1.02 / 3600)
    assert found["billion_gib"] == pytest.approx(24e9 / 2**30)
    assert found["ratio"] == 0.5


def test_nothing_is_promised_to_grow_slower_than_the_examples() -> None:
    found = scale.growth(table(0.5, 24)).iloc[0]
    assert found["billion_hours"] == pytest.approx(0.002 * 100_000**0.5 * 1e4 / 3600)


def test_a_row_replaces_that_of_the_same_work_on_as_many_examples(tmp_path: Path) -> None:
    path, rows = tmp_path / "scale.csv", table(1.0, 24)
    for _, row in rows.iterrows():
        results_table.write(scale.with_row(dict(row), path), path)
    again = {**rows.iloc[1].to_dict(), "seconds": 7.0}
    written = scale.with_row(again, path)
    assert written["seconds"].tolist() == [2.0, 7.0, 200.0]


def test_fewer_images_are_the_first_of_more_and_are_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "PIECE", 8)
    few, many = tmp_path / "few.npy", tmp_path / "many.npy"
    scale.make_images(few, 16)
    scale.make_images(many, 29)
    images = np.load(many, mmap_mode="r")
    assert images.shape == (29, *scale.SHAPE)
    assert images.dtype == np.uint8
    assert np.array_equal(images[:16], np.load(few))
    before = many.stat().st_mtime_ns
    scale.make_images(many, 20)
    assert many.stat().st_mtime_ns == before


@pytest.mark.parametrize("work", scale.FORWARD_PASSES)
def test_every_work_is_measured(tmp_path: Path, work: str) -> None:
    scale.make_images(tmp_path / "images.npy", 300)
    found = scale.child(work, "linear", 300, tmp_path)
    assert found["seconds"] > 0
    assert (found["ratio"] > 0) == (found["floor_seconds"] > 0) == bool(scale.FORWARD_PASSES[work])


def test_memory_is_that_of_the_process_alone(tmp_path: Path) -> None:
    """What a work holds is seen: so much more for more examples, but not their inputs."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not say how much memory a process has of its own")
    scale.make_images(tmp_path / "images.npy", 40_000)
    small, large = (
        scale.measured("scoring", "linear", count, tmp_path)["memory_mib"] for count in (2_000, 40_000)
    )
    assert 50 < small < 1000
    assert large - small < 0.5 * 38_000 * 784 / 2**20, "the images are not held"


def test_what_a_million_examples_cannot_have_names_what_they_can() -> None:
    count = 1_000_000
    inputs = np.broadcast_to(np.zeros((1, 40), dtype=np.float32), (count, 40))
    model = TrainedModel(nn.Linear(40, 3), Softmax(), device="cpu")
    with pytest.raises(RepairError, match="curvature 'gram' of 1000000 examples takes about") as refusal:
        fit_curvature("gram", model, Examples(inputs, np.zeros(count, dtype=np.int64)))
    for remedy in ("mini-batch gradients (gram, minibatch: ", "(ekfac)", "the diagonal (diagonal)"):
        assert remedy in str(refusal.value)


def test_the_committed_figures_are_what_they_should_be() -> None:
    found = scale.growth(COMMITTED)
    assert set(found["work"]) == set(scale.FORWARD_PASSES)
    assert found["largest"].max() == max(scale.COUNTS)
    passes = found[found["work"] != "selection"]
    assert (passes["exponent"] <= scale.WANTED).all()
    # A tenth of what an image takes: a row, a label and a few numbers.
    assert (found["bytes_an_example"] < 784 / 2).all()


def test_the_readme_says_what_was_measured() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    found = scale.growth(COMMITTED).set_index(["network", "work"])
    steepest = found["exponent"].max()
    of_lenet = (COMMITTED["network"] == "lenet5") & (COMMITTED["work"] == "scoring")
    slowest = COMMITTED.loc[of_lenet, "ratio"].min()
    linear, lenet = found.loc[("linear", "scoring")], found.loc[("lenet5", "scoring")]
    squares = found.loc[("lenet5", "squared gradients")]
    assert linear["largest"] == 1_000_000
    for said in (
        f"up to {linear['largest']:,} images of 28×28",
        f"time grows with the number of examples to the power of {steepest:.2f} or less",
        f"by {found['bytes_an_example'].max():.0f} bytes an example or less",
        f"Up to {lenet['largest']:,} images, LeNet-5 scored them at {100 * slowest:.0f} % of the rate of bare forward",
        f"A billion would take {lenet['billion_hours']:.0f} hours of one core to score, "
        f"{squares['billion_hours']:.0f} for the diagonal Fisher",
        f"and {found['billion_gib'].max():.0f} GiB for rows, labels and scores",
    ):
        assert said in text, said
