"""Other data and other networks: what comes of a repair in one call, beside what anybody would do.

    python benchmarks/other_data.py                       # problems to report: results/other_data.csv
    python benchmarks/other_data.py --kind development    # problems for choosing settings, printed alone

Data come with scikit-learn or are made by it, so that nothing is downloaded, and networks are of three kinds: linear,
narrow, and wide and trained for long, which has learned most of its labels by heart, the wrong ones too. Every
method is `modelrepair.repair` with the settings of params.yaml, given the same failures and the same discovery; a half
of the examples outside training, which no step sees, measures. What comes of ten failures alone is measured too, as a
gain over the model that is given. Development and report share no seeds, no rates and of the data only the digits.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Threads that spin while they wait are slow where other processes want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.metrics import roc_auc_score
from torch import nn

import modelrepair
from other_problems import DATA, EPOCHS, KEYS, MADE, RATES, SEEDS
from results_table import RESULTS, show, summarise, write

METHODS: dict[str, dict[str, Any]] = {
    "mend": {},
    "loss, on with the failures": {"identification": "loss", "treatment": "finetune-remaining-failures"},
    "mend-discovery": {"treatment": "mend-discovery"},
    "loss, on with discovery": {"identification": "loss", "treatment": "finetune-remaining-discovery"},
    "true causes, mend": {"treatment": "mend"},
    "true causes, retrain": {"treatment": "retrain"},
}
FEW = 10
FROM_FEW: dict[str, dict[str, Any]] = {
    f"{name}, of ten": METHODS[name] for name in ("mend", "loss, on with the failures")
}
"""Methods that are given ten failures, and of what the model has right as many as belong to them."""


@dataclass(frozen=True)
class Problem:
    """Data with some wrong labels, and a network that was trained on them.

    Attributes:
        rows, given: of training, with the labels that were given.
        wrong: (n,) which of these are wrong.
        outside: rows and right labels outside training.
        network: trained.
    """

    rows: NDArray[np.float32]
    given: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    outside: tuple[NDArray[np.float32], NDArray[np.int64]]
    network: nn.Module


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=[*SEEDS], default="report")
    parser.add_argument("--seeds", type=int, help="of those that there are, the first so many")
    parser.add_argument("--data", nargs="*", help="the kinds of data; all by default")
    parser.add_argument("--networks", nargs="*", choices=[*EPOCHS], default=[*EPOCHS])
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = [
        *itertools.product(
            options.data or DATA[options.kind],
            options.networks,
            RATES[options.kind].items(),
            SEEDS[options.kind][: options.seeds],
        )
    ]
    rows: list[dict[str, Any]] = []
    start = time.perf_counter()
    for done, (data, network, (labels, rate), seed) in enumerate(wanted, 1):
        problem = make_problem(data, network, labels, rate, seed)
        what = {"data": data, "network": network, "labels": f"{labels}, {100 * rate:.0f} %", "seed": seed}
        rows += [{**what, **row} for row in measured(problem, seed)]
        minutes = (time.perf_counter() - start) / done * (len(wanted) - done) / 60
        print(
            f"{done} of {len(wanted)} problems, about {minutes:.0f} min remain", file=sys.stderr, flush=True
        )
    table = summarise(pd.DataFrame(rows), KEYS)
    if options.kind == "report":
        options.results.mkdir(exist_ok=True)
        write(table, options.results / "other_data.csv")
    shown = table[table["metric"] == "all"].pivot_table(
        index=KEYS[:3], columns="method", values="mean", sort=False
    )
    show(shown.reset_index(), "accuracy on what no step has seen, percent")
    show(shown.mean().to_frame("mean").reset_index(), "over all problems")
    gains = table[table["metric"] == "gain"].groupby("method")["mean"].agg(["mean", "min"])
    show(gains.reset_index(), "points gained by ten failures, in the mean over all problems and at least")


def make_problem(data: str, network: str, labels: str, rate: float, seed: int) -> Problem:
    """The data of that name, half of them for training with that share of wrong labels, and the network trained."""
    draw = np.random.default_rng(seed)
    if data == "digits":
        rows, right = load_digits(return_X_y=True)
        rows = rows / 16
    elif data == "cell nuclei":
        rows, right = load_breast_cancer(return_X_y=True)
        rows = (rows - rows.mean(0)) / rows.std(0)
    else:
        rows, right = make_classification(3000, random_state=seed, **MADE[data])
    order = draw.permutation(len(rows))
    rows, right = rows[order].astype(np.float32), right[order].astype(np.int64)
    half, classes = len(rows) // 2, int(right.max()) + 1
    given = right[:half].copy()
    hit = draw.random(half) < rate
    if labels == "any":
        given[hit] = (given[hit] + draw.integers(1, classes, int(hit.sum()))) % classes
    else:
        pair = draw.choice(classes, 2, replace=False)
        swapped = hit & np.isin(given, pair)
        given[swapped] = pair.sum() - given[swapped]
    torch.manual_seed(seed)
    trained = make_network(network, rows.shape[1], classes)
    train(trained, torch.from_numpy(rows[:half]), torch.from_numpy(given), EPOCHS[network])
    return Problem(rows[:half], given, given != right[:half], (rows[half:], right[half:]), trained)


def make_network(name: str, width: int, classes: int) -> nn.Module:
    if name == "linear":
        return nn.Linear(width, classes)
    if name == "narrow":
        return nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, classes))
    return nn.Sequential(
        nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, classes)
    )


def train(network: nn.Module, rows: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows)).split(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(rows[batch]), labels[batch]).backward()
            optimiser.step()
    network.eval()


def measured(problem: Problem, seed: int) -> Iterator[dict[str, Any]]:
    """What every method makes of it: accuracies in percent, and what is found."""
    shown = problem.rows, problem.given
    for name, how in METHODS.items():
        causes = problem.wrong if name.startswith("true") else None
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            result = modelrepair.repair(
                problem.network,
                shown,
                None,
                problem.outside,
                reference="none",
                causes=causes,
                seed=seed,
                **how,
            )
        before, after = (result.measured["repair"][when] for when in ("before", "after"))
        if name == "mend":
            yield {"method": "before", "metric": "all", "value": 100 * before["all"]}
            known = (said(problem.network, problem.rows) == problem.given)[problem.wrong]
            yield {"method": "before", "metric": "known_by_heart", "value": 100 * known.mean()}
            yield {"method": "before", "metric": "wrong", "value": float(problem.wrong.sum())}
        yield {"method": name, "metric": "all", "value": 100 * after["all"]}
        yield {"method": name, "metric": "holdout", "value": 100 * after["holdout"]}
        if causes is None and result.scores is not None:
            found = problem.wrong[result.causes]
            yield {"method": name, "metric": "auroc", "value": roc_auc_score(problem.wrong, result.scores)}
            yield {"method": name, "metric": "causes", "value": float(len(found))}
            yield {"method": name, "metric": "precision", "value": found.mean()}
            yield {"method": name, "metric": "recall", "value": found.sum() / problem.wrong.sum()}
    yield from measured_of_few(problem, seed)


def measured_of_few(problem: Problem, seed: int) -> Iterator[dict[str, Any]]:
    """The points that methods gain by ten failures, on a half of the examples outside from which these do not come."""
    rows, right = problem.outside
    half = len(rows) // 2
    wrong = said(problem.network, rows[:half]) != right[:half]
    draw = np.random.default_rng(seed)
    failures = draw.permutation(np.flatnonzero(wrong))[:FEW]
    others = draw.permutation(np.flatnonzero(~wrong))
    given = np.concatenate([failures, others[: round(len(others) * len(failures) / wrong.sum())]])

    def accuracy(network: nn.Module) -> float:
        return 100 * float((said(network, rows[half:]) == right[half:]).mean())

    for name, how in FROM_FEW.items():
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            after = modelrepair.repair(
                problem.network,
                (problem.rows, problem.given),
                (rows[failures], right[failures]),
                (rows[given], right[given]),
                reference="none",
                seed=seed,
                **how,
            ).model
        yield {"method": name, "metric": "gain", "value": accuracy(after) - accuracy(problem.network)}


@torch.no_grad()
def said(network: nn.Module, rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n,) the classes that a network names."""
    return np.asarray(network(torch.from_numpy(rows)).argmax(1).numpy(), dtype=np.int64)


if __name__ == "__main__":
    main()
