"""Data Shapley values: seconds, memory and what they find, beside pyDVL and the floor of their operations.

    python benchmarks/valuation.py [--permutations 1000] [--threads 2] [--pydvl PYTHON]

trains LeNet-5 on 3,000 real MNIST images of which 40 % of the labels of 1↔7 and 6↔9 are swapped, values them on its
penultimate features for a query of test images with right labels, each method in a process of its own, one after the
other, and writes `benchmarks/results/valuation.csv`. pyDVL is measured in the same run where it is installed, or by the
interpreter of another environment that has it and modelrepair; without it its columns are empty.

Seconds are of the values alone, after a warm-up on a part of the examples; peaks are by how much the process's resident
set grew above what it was before. The floor is the time of the operations that cannot be avoided, at the speed of a
product of float64 matrices on the same threads in the same process. pyDVL's truncated Monte Carlo refits the same
least-squares classifier for every prefix; it is timed on `PYDVL_PERMUTATIONS` permutations and scaled.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Threads that spin while they wait are slow where other processes want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from modelrepair.base_training.train import train
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.settings.data import MnistSampleSettings
from modelrepair.sources import load_source
from modelrepair.training.descent import Descent
from modelrepair.valuation import (
    LeastSquaresGame,
    OneEpochGame,
    best_learning_rate,
    knn_shapley,
    penultimate_features,
    permutation_shapley,
    plant_wrong_labels,
    query_confusion,
    threshold_by_planting,
)
from results_table import RESULTS, show, write

NEIGHBOURS = 5
QUERIES = {"knn": 500, "knn, 512 features": 500}
QUERIES_OF_OTHERS = 300
PYDVL_PERMUTATIONS = 1
PLANTING = {"knn": 4, "tmc, squared error": 1}
"""Rounds of planting wrong labels, of those whose threshold is calibrated; each values everything again."""
MIB = 2**20
METHODS = (
    "knn",
    "knn, 512 features",
    "tmc, accuracy",
    "tmc, accuracy, not truncated",
    "tmc, squared error",
    "tmc, squared error, not truncated",
    "g-shapley",
)
IN_PYDVL = ("knn", "knn, 512 features", "tmc, accuracy")
COLUMNS = [
    "method",
    "examples",
    "features",
    "queries",
    "permutations",
    "prefixes",
    "seconds",
    "peak_mib",
    "floor_seconds",
    "ratio_to_floor",
    "pydvl_seconds",
    "pydvl_to_ours",
    "pydvl_difference",
    "auroc",
    "found_below_zero",
    "right_below_zero",
    "found_below_threshold",
    "right_below_threshold",
]


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if options.task:
        name, folder, who = options.task
        task = measure_pydvl if who == "pydvl" else measure
        print(json.dumps(task(name, Path(folder), options.permutations)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for name in METHODS:
            row = run(sys.executable, name, folder, "ours", options)
            if name in IN_PYDVL:
                theirs = run(options.pydvl, name, folder, "pydvl", options)
                row |= theirs | {"pydvl_to_ours": theirs["pydvl_seconds"] / row["seconds"]} if theirs else {}
            rows.append({"method": name, **row})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    RESULTS.mkdir(exist_ok=True)
    write(table, RESULTS / "valuation.csv")
    show(table.drop(columns=[name for name in COLUMNS if name.startswith(("found", "right"))]), "valuation")
    show(table[["method", *COLUMNS[-5:]]], "what is found")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--permutations", type=int, default=1000, help="of the sampled methods")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--pydvl", default=sys.executable, help="an interpreter that has pyDVL and modelrepair"
    )
    parser.add_argument("--task", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(python: str, name: str, folder: str, who: str, options: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own measured; nothing if pyDVL is not there."""
    command = [python, __file__, "--task", name, folder, who]
    command += ["--permutations", str(options.permutations), "--threads", str(options.threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def prepare(folder: Path) -> None:
    """Features and labels of the training and test examples, and where the model takes what for what."""
    data = load_source(MnistSampleSettings(), seed=0)
    pairs = np.zeros((10, 10))
    for a, b in ((1, 7), (6, 9)):
        pairs[a, b] = pairs[b, a] = 1
    given, wrong = plant_wrong_labels(data.train_labels, share=0.16, seed=0, confusion=pairs)
    training, test = Examples(data.train_inputs, given), Examples(data.test_inputs, data.test_labels)
    model = TrainedModel(make_network("lenet5", (1, 28, 28), 10, seed=0), Softmax(), device="cpu")
    train(model, training, Descent(learning_rate=1e-3, rounds=12), batch_size=64, seed=0)
    print(f"LeNet-5 has {100 * model.accuracy(test):.1f} % of the test images right", flush=True)
    chosen = np.random.default_rng(0).permutation(len(test))[: max(QUERIES.values())]
    predicted = model.outputs(test).argmax(dim=1).numpy()
    np.savez(
        folder / "problem.npz",
        x=penultimate_features(model, training).numpy(),
        y=given,
        wrong=np.isin(np.arange(len(given)), wrong),
        queries=penultimate_features(model, test.subset(chosen)).numpy(),
        right=data.test_labels[chosen],
        confusion=query_confusion(data.test_labels[chosen], predicted[chosen], 10),
    )


def problem(name: str, folder: Path) -> dict[str, NDArray[Any]]:
    with np.load(folder / "problem.npz") as content:
        arrays = dict(content)
    count = QUERIES.get(name, QUERIES_OF_OTHERS)
    arrays["queries"], arrays["right"] = arrays["queries"][:count], arrays["right"][:count]
    if "512" in name:
        # As many as a wider network would have; what is found then means nothing.
        random = np.random.default_rng(0)
        for key in ("x", "queries"):
            arrays[key] = random.normal(size=(len(arrays[key]), 512))
    return arrays


def measure(name: str, folder: Path, permutations: int) -> dict[str, Any]:
    """Seconds, peak, floor and what is found, of one of our methods."""
    arrays = problem(name, folder)
    n, q, k = len(arrays["x"]), len(arrays["right"]), 10
    f = arrays["x"].shape[1] + 1
    found: dict[str, Any] = {"examples": n, "features": f - 1, "queries": q}
    value, operations = method(name, arrays, permutations, f, q, k, n)
    few = np.arange(0, n, 10)
    method(name, {**arrays, "x": arrays["x"][few], "y": arrays["y"][few]}, 2, f, q, k, n)[0](arrays["y"][few])
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    start = time.perf_counter()
    values, sampled = value(arrays["y"])
    found["seconds"] = time.perf_counter() - start
    found["peak_mib"] = (resident("VmHWM") - before) / MIB
    found |= sampled
    steps = permutations * sampled["prefixes"] if sampled else 1.0
    found["floor_seconds"] = operations * steps / double_rate()
    found["ratio_to_floor"] = found["seconds"] / found["floor_seconds"]
    if "512" in name:
        return found
    wrong = arrays["wrong"]
    found["auroc"] = roc_auc_score(wrong, -values)
    levels = {"zero": 0.0}
    if name in PLANTING:
        levels["threshold"] = threshold_by_planting(
            lambda labels: value(labels)[0],
            arrays["y"],
            seed=0,
            rounds=PLANTING[name],
            confusion=arrays["confusion"],
            values=values,
        ).value
    for words, level in levels.items():
        called = values < level
        found[f"found_below_{words}"] = float(called[wrong].mean())
        found[f"right_below_{words}"] = float(wrong[called].mean()) if called.any() else float("nan")
    return found


Value = Callable[[NDArray[Any]], tuple[NDArray[np.float64], dict[str, Any]]]


def method(
    name: str, arrays: dict[str, NDArray[Any]], permutations: int, f: int, q: int, k: int, n: int
) -> tuple[Value, float]:
    """How to value the training examples with some labels, and the operations of it, or of each prefix."""
    x, queries, right = arrays["x"], arrays["queries"], arrays["right"]

    def knn(labels: NDArray[Any]) -> tuple[NDArray[np.float64], dict[str, Any]]:
        return knn_shapley(x, labels, queries, right, neighbours=NEIGHBOURS), {}

    if name.startswith("knn"):
        return knn, 2.0 * n * q * f

    def sampled(labels: NDArray[Any]) -> tuple[NDArray[np.float64], dict[str, Any]]:
        if name == "g-shapley":
            rate = best_learning_rate(x, labels, queries, right, seed=0)
            game: Any = OneEpochGame(x, labels, queries, right, learning_rate=rate)
        else:
            utility: Any = "accuracy" if "accuracy" in name else "squared-error"
            game = LeastSquaresGame(x, labels, queries, right, utility=utility)
        whole = name == "g-shapley" or "not truncated" in name
        valuation = permutation_shapley(
            game, seed=0, permutations=permutations, movement=0, tolerance=None if whole else 0.01
        )
        return valuation.values, {"permutations": valuation.permutations, "prefixes": valuation.prefixes}

    layer = 4.0 * f * k
    judged = 2.0 * q * f + 2 * q * k if "squared" not in name else 2.0 * f * f + 2 * f * k
    inverse = 0.0 if name == "g-shapley" else 4.0 * f * f
    return sampled, layer + judged + inverse


def measure_pydvl(name: str, folder: Path, permutations: int) -> dict[str, Any]:
    """pyDVL's seconds, scaled to as many permutations, and how far its exact values are from ours."""
    try:
        from pydvl.valuation import (
            Dataset,
            KNNShapleyValuation,
            MaxUpdates,
            ModelUtility,
            PermutationSampler,
            RelativeTruncation,
            ShapleyValuation,
            SupervisedScorer,
        )
    except ImportError:
        return {}
    from joblib import parallel_config
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier

    warnings.simplefilter("ignore")
    arrays = problem(name, folder)
    x, y, queries, right = (arrays[key] for key in ("x", "y", "queries", "right"))
    training, test = Dataset(x, y), Dataset(queries, right)
    if name.startswith("knn"):
        start = time.perf_counter()
        with parallel_config(n_jobs=torch.get_num_threads()):
            valuation = KNNShapleyValuation(KNeighborsClassifier(NEIGHBOURS), test, progress=False)
            theirs = valuation.fit(training).result.values
        seconds = time.perf_counter() - start
        ours = knn_shapley(x, y, queries, right, neighbours=NEIGHBOURS)
        return {"pydvl_seconds": seconds, "pydvl_difference": float(np.abs(ours - theirs).max())}
    game = LeastSquaresGame(x, y, queries, right)
    utility = ModelUtility(
        RidgeClassifier(alpha=game.damping), SupervisedScorer("accuracy", test, default=0.1)
    )
    sampler = PermutationSampler(RelativeTruncation(rtol=0.01), seed=0)
    start = time.perf_counter()
    ShapleyValuation(utility, sampler, is_done=MaxUpdates(PYDVL_PERMUTATIONS), progress=False).fit(training)
    return {"pydvl_seconds": (time.perf_counter() - start) * permutations / PYDVL_PERMUTATIONS}


def double_rate(size: int = 1000) -> float:
    """Floating-point operations a second of a float64 matrix product, the best of five."""
    matrix = torch.ones(size, size, dtype=torch.float64)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def resident(field: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at the worst moment since it was last reset."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return 1024 * int(status.read_text().split(f"{field}:")[1].split()[0])


if __name__ == "__main__":
    main()
