"""Estimates against measured peaks, each in a process of its own, and what is said when memory is short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from curvature_cases import make_case, make_examples, make_model, one_thread  # noqa: F401
from modelrepair.curvature import CURVATURES, estimate_fit, fit_curvature
from modelrepair.curvature import memory as memory_module
from modelrepair.errors import RepairError
from modelrepair.gradients.footprint import product_bytes
from modelrepair.gradients.products import matrix_product
from modelrepair.gradients.watching import Allocations

MEASURE = """
import ctypes
import sys
import torch
from torch import nn
sys.path.insert(0, {folder!r})
from curvature_cases import directions, make_examples, make_model
from modelrepair.curvature import CURVATURES

def network():
    return nn.Sequential(
        nn.Conv2d(2, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 48, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(768, 64), nn.ReLU(),
        nn.Linear(64, 3),
    )

def resident(field):
    return 1024 * int(open("/proc/self/status").read().split(field + ":")[1].split()[0])

torch.set_num_threads(1)
model = make_model(network, batch_size=500, dtype=torch.float32)
member, options = CURVATURES[{name!r}], {options!r}
small, large = make_examples((2, 8, 8), 20), make_examples((2, 8, 8), {count})
member.fit(model, small, **options).damped(1.0).solve(directions(model))
estimate = member.estimate(model, large, **options).memory
# What the first fit left free would hide as much of what comes.
getattr(ctypes.CDLL(None), "malloc_trim", int)(0)
open("/proc/self/clear_refs", "w").write("5")
before = resident("VmRSS")
member.fit(model, large, **options).damped(1.0).solve(directions(model))
print(estimate, resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")
@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("gram", {}, 2500),
        ("gram", {"memory": 2**25}, 2500),
        ("gram", {"scratch": ".", "memory": 2**25}, 2500),
        ("block", {}, 1600),
        ("block", {"block_size": 1000}, 1600),
        ("ekfac", {}, 2000),
        ("cg", {}, 1000),
    ],
)
def test_estimate_is_within_a_factor_of_the_peak(
    name: str, options: dict[str, int | str], count: int, tmp_path: Path
) -> None:
    script = MEASURE.format(folder=str(Path(__file__).parent), name=name, options=options, count=count)
    # What products leave of the heap differs more, from network to network and from run to run.
    most = 1.8 if name == "cg" else 1.5
    peaks: list[int] = []
    # What the first fit freed may serve the second, so that less is seen: of up to three processes the most counts.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert not done.returncode, done.stderr
        estimate, peak = map(int, done.stdout.split())
        peaks.append(peak)
        print(name, options, f"{estimate / 2**20:.0f} MiB estimated, {peak / 2**20:.0f} MiB measured")
        if estimate / max(peaks) < most:
            break
    assert 1 / 1.5 < estimate / max(peaks) < most


@pytest.mark.parametrize("name", ["gram", "block", "ekfac"])
def test_what_does_not_fit_is_refused_with_what_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, examples = make_case("convolutions", 3000, dtype=torch.float32, batch_size=200)
    needed = CURVATURES[name].estimate(model, examples).memory
    monkeypatch.setattr(memory_module, "available_memory", lambda device: needed - 1)
    with pytest.raises(RepairError, match=f"curvature '{name}' of 3000 examples takes about") as refusal:
        fit_curvature(name, model, examples)
    if name == "gram":
        for remedy in ("minibatch: 10", "block_size: 3000", "Kronecker factors", "a sample of 1500 examples"):
            assert remedy in str(refusal.value)
    monkeypatch.setattr(memory_module, "available_memory", lambda device: 1)
    with pytest.raises(RepairError, match="use fewer examples and a smaller model"):
        fit_curvature(name, model, examples)


def test_estimates_grow_as_the_work_does() -> None:
    model = make_model(lambda: nn.Linear(40, 3))
    small, large = (
        CURVATURES["gram"].estimate(model, make_examples((40,), count)) for count in (5000, 10000)
    )
    assert large.operations / small.operations == pytest.approx(8, rel=0.1)
    assert large.memory / small.memory == pytest.approx(4, rel=0.2)


def test_an_estimate_in_words_says_how_much_and_how_long() -> None:
    words = memory_module.Estimate(3 * 2**29, 1e15).in_words(torch.device("cpu"))
    found = re.fullmatch(r"about 1\.50 GiB, and (\d+\.\d) s at the speed of a matrix product", words)
    assert found
    # Between a slow core and a fast machine.
    assert 1e15 / 1e13 < float(found[1]) < 1e15 / 1e9


@pytest.mark.parametrize("name", CURVATURES)
def test_what_cannot_be_estimated_is_refused(name: str) -> None:
    model, examples = make_case("linear")
    assert estimate_fit(name, model, examples).memory > 0
    if name in ("gram", "block"):
        with pytest.raises(RepairError, match=f"curvature '{name}' has no option colour: leave it out"):
            estimate_fit(name, model, examples, colour="red")


@pytest.mark.parametrize("matrix", ["fisher", "ggn", "hessian"])
def test_what_products_hold_is_measured_on_a_few_examples(matrix: str) -> None:
    model, examples = make_case("convolutions", 200, dtype=torch.float64, batch_size=200)
    vector = torch.zeros(len(model.parameter_vector), 1, dtype=torch.float64)
    with Allocations() as allocations:
        matrix_product(matrix, model, examples, vector)
    inputs = examples.inputs.size * 8
    assert product_bytes(matrix, model, examples, 200) == pytest.approx(
        max(allocations.course) + inputs, rel=0.01
    )


def test_allocations_are_those_that_are_there_at_the_same_time() -> None:
    kept = torch.zeros(1000)
    with Allocations() as allocations:
        first = kept + 1
        second = first * 2
        view = second.view(10, 100)
        del first
        second += 1
        third = view @ view.T
    assert allocations.course == [4000, 8000, 8000, 4000, 4000, 4000 + 400]
    assert third.shape == (10, 10)


def test_available_memory_is_no_more_than_the_machine_has() -> None:
    assert 0 < memory_module.available_memory(torch.device("cpu")) < 2**50
