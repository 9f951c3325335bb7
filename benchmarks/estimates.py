"""What `estimate_fit` says that a fit will take, beside the peak of memory that was measured.

    python benchmarks/estimates.py [--networks lenet5 ...] [--curvatures gram ...]

fits and solves each curvature for each network on random examples in a process of its own, after a fit to a few
examples that loads all code, and writes what it measured into `benchmarks/results/estimates.csv`, where other rows stay
as they are. The peak is by how much the resident set grew above what it was before the fit; it is read from Linux's
/proc.

An estimate is judged where it or the peak is at least `JUDGED` MiB, which is what glibc may keep of freed memory. Below
that, a ratio says more of what ran before than of the fit.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from modelrepair.curvature import estimate_fit, fit_curvature
from modelrepair.curvature.memory import KEPT_BYTES
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network

RESULTS = Path(__file__).parent / "results"
CLASSES = 10
WORDS = 2000
WARM_UP = 20
MIB = 2**20
DAMPING = 1.0
JUDGED = KEPT_BYTES // MIB
CURVATURES: dict[str, tuple[str, dict[str, Any]]] = {
    "diagonal": ("diagonal", {}),
    "gram": ("gram", {}),
    "gram, 64 MiB": ("gram", {"memory": 64 * MIB}),
    "gram, rows of 4": ("gram", {"minibatch": 4}),
    "block": ("block", {}),
    "block of 300": ("block", {"block_size": 300}),
    "kfac": ("kfac", {}),
    "ekfac": ("ekfac", {}),
    "cg": ("cg", {}),
}
"""Names in the table, and what they stand for."""


class Recurrent(nn.Module):
    """The last state of a recurrent layer, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(16, 64, batch_first=True)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


class Words(nn.Module):
    """Embedded words, something that mixes them, their mean, and a linear layer."""

    def __init__(self, features: int, mixer: nn.Module) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, features)
        self.mixer = mixer
        self.head = nn.Linear(features, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mixer(self.embedding(x.long())).mean(1))


def mlp(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    return Words(32, nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1),
        nn.GroupNorm(4, 24),
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, padding=1, stride=2),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(768, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 64, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def waves() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 16, 9, stride=2),
        nn.ReLU(),
        nn.Conv1d(16, 32, 9, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(8),
        nn.Flatten(),
        nn.Linear(256, CLASSES),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "linear": (lambda: nn.Linear(3072, CLASSES), (3072,), 4000),
    "mlp": (lambda: mlp(784, 100, CLASSES), (784,), 3000),
    "deep-mlp": (lambda: mlp(100, 200, 200, 200, 200, CLASSES), (100,), 2000),
    "wide-mlp": (lambda: mlp(784, 1000, 1000, CLASSES), (784,), 1000),
    "lenet5": (lambda: make_network("lenet5", (1, 28, 28), CLASSES, seed=0), (1, 28, 28), 2000),
    "resnet20": (lambda: make_network("resnet20", (3, 32, 32), CLASSES, seed=0), (3, 32, 32), 200),
    "normalised": (normalised, (3, 16, 16), 1000),
    "depthwise": (depthwise, (3, 32, 32), 1500),
    "waves": (waves, (2, 400), 1500),
    "recurrent": (Recurrent, (20, 16), 1000),
    "embedding": (lambda: Words(32, nn.Identity()), (20,), 500),
    "transformer": (transformer, (20,), 500),
}
"""How to make each network, the shape of an example, and how many examples."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--curvatures", nargs="+", choices=CURVATURES, default=list(CURVATURES))
    options = parser.parse_args()
    pairs = list(itertools.product(options.networks, options.curvatures))
    for network, curvature in pairs:
        row = {"network": network, "curvature": curvature, **measured(network, curvature)}
        table = written(row)
        print(*row.values(), flush=True)
    chosen = table[[pair in pairs for pair in zip(table["network"], table["curvature"], strict=True)]]
    print(chosen.to_string(index=False, float_format="%.4g"))
    judged = chosen[chosen[["estimate_mib", "peak_mib"]].max(axis=1) >= JUDGED]["ratio"]
    print(
        f"{len(judged)} of at least {JUDGED} MiB: estimate/peak from {judged.min():.2f} to {judged.max():.2f}, "
        f"median {judged.median():.2f}"
    )


def written(row: dict[str, Any]) -> pd.DataFrame:
    """The table of results with this row in its place, which is also what the file now holds."""
    file = RESULTS / "estimates.csv"
    RESULTS.mkdir(exist_ok=True)
    key, order = ["network", "curvature"], list(itertools.product(NETWORKS, CURVATURES))
    rows = [pd.DataFrame([row])]
    if file.exists():
        rows.insert(0, pd.read_csv(file))
    table = pd.concat(rows, ignore_index=True).drop_duplicates(key, keep="last")
    table["place"] = [order.index(pair) for pair in zip(table["network"], table["curvature"], strict=True)]
    table = table.sort_values("place").drop(columns="place")
    table.to_csv(file, index=False, float_format="%.4g")
    return table


def measured(network: str, curvature: str) -> dict[str, Any]:
    """`measure` in a process of its own; why not in words, if it was refused."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["modelrepair.curvature"])
    answers = context.SimpleQueue()
    process = context.Process(target=answer, args=(network, curvature, answers))
    process.start()
    found: dict[str, Any] = answers.get()
    process.join()
    return found


def answer(network: str, curvature: str, answers: Any) -> None:
    """Put what was measured, or why it was refused, into a queue; whatever else happens, too."""
    try:
        answers.put(measure(network, curvature))
    except RepairError as refusal:
        answers.put({"refused": str(refusal)})
    except BaseException as error:
        answers.put({"refused": f"{type(error).__name__}: {error}"})
        raise


def measure(network: str, curvature: str) -> dict[str, Any]:
    """The estimate and the peak of a fit and a solve, in MiB, and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    make, shape, count = NETWORKS[network]
    name, options = CURVATURES[curvature]
    model = TrainedModel(make(), Softmax(), device="cpu")
    few, many = examples(network, shape, WARM_UP), examples(network, shape, count)
    vector = torch.randn(len(model.parameter_vector))
    fit_curvature(name, model, few, **options).damped(DAMPING).solve(vector)
    estimate = estimate_fit(name, model, many, **options).memory
    # What the fit to a few examples left free would hide as much of what comes.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    fit_curvature(name, model, many, **options).damped(DAMPING).solve(vector)
    peak = resident("VmHWM") - before
    return {
        "n": count,
        "d": len(vector),
        "estimate_mib": estimate / MIB,
        "peak_mib": peak / MIB,
        "ratio": estimate / peak,
    }


def examples(network: str, shape: tuple[int, ...], count: int) -> Examples:
    random = np.random.default_rng(0)
    if network in ("embedding", "transformer"):
        inputs = random.integers(WORDS, size=(count, *shape))
    else:
        inputs = random.normal(size=(count, *shape)).astype(np.float32)
    return Examples(inputs, random.integers(CLASSES, size=count))


def resident(field: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the worst moment since it was last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
