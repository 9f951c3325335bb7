"""Several updates in a row, each from the last model and posterior, beside one with everything.

    python benchmarks/in_a_row.py [--seeds 2]

LeNet-5 on the MNIST sample with 40 % of 2↔3 and 7↔9 swapped, a development case. Failures arrive in pieces, and each is
inserted into the posterior that the one before has left; or requests come in pieces, and the wrong examples of each,
with as many others beside them, are deleted from it. Measured is how well the scores after the last piece rank the
wrong labels; accuracy after the last deletion, on failures held out and on what was right; and how far both end from
where one update with all of it ends, as a share of how far that one goes.

Nobody watches: what is measured is where the updates end, not a point on the way there. The settings are those of
`params.yaml`. Writes `benchmarks/results/in_a_row.csv`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Threads that spin while they wait are slow where other processes want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch

from modelrepair.base_training.train import train
from modelrepair.corruptions.label_noise import confusion_matrix, corrupt_labels
from modelrepair.curvature import fit_curvature
from modelrepair.data.randomness import generator
from modelrepair.evaluation.measures.identification import area_under_roc
from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.posterior import class_balanced_weights, make_update
from modelrepair.settings.data import MnistSampleSettings
from modelrepair.settings.parameters import Identification, Parameters, read_parameters
from modelrepair.settings.treatment import DeleteSettings
from modelrepair.sources import load_source
from modelrepair.training.descent import Descent
from results_table import RESULTS, over_seeds, show, summarise, write

PROJECT = Path(__file__).parents[1]
SWAPPED = {2: {3: 0.4}, 3: {2: 0.4}, 7: {9: 0.4}, 9: {7: 0.4}}
ONCE = "ewc"
IN_A_ROW = ("online-ewc", "variational")
KEYS = ["update", "operation", "pieces", "metric"]


@dataclass(frozen=True)
class Problem:
    """A model with some wrong labels learned.

    Attributes:
        model: that fails.
        training: what it was trained on.
        wrong: (n,) bool, which of the labels are wrong.
        failures: that methods are shown.
        held_out: further failures.
        right: further examples that it has right.
        seed: of all of it.
    """

    model: TrainedModel
    training: Examples
    wrong: np.ndarray[Any, np.dtype[np.bool_]]
    failures: Examples
    held_out: Examples
    right: Examples
    seed: int


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    parameters = read_parameters(PROJECT / "params.yaml")
    rows = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        problem = spoiled(seed, options.examples, options.epochs)
        print(
            f"seed {seed}: {len(problem.failures)} failures, {problem.wrong.sum()} wrong labels", flush=True
        )
        for row in measured(problem, parameters, options.pieces):
            rows.append(row)
            print({name: value for name, value in row.items() if name != "seed"}, flush=True)
    table = summarise(pd.DataFrame(rows), KEYS)
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    write(table, folder / "in_a_row.csv")
    show(table, over_seeds(table))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--examples", type=int, default=300, help="of each class to train on")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument(
        "--pieces", type=int, nargs="+", default=[1, 2, 5, 20], help="of the evidence, 1 first"
    )
    parser.add_argument("--results", default=RESULTS, help="folder of the table")
    return parser.parse_args()


def spoiled(seed: int, count: int, epochs: int) -> Problem:
    data = load_source(MnistSampleSettings(training_per_class=count), seed, None)
    truth = np.asarray(data.train_labels, dtype=np.int64)
    swapped = confusion_matrix(SWAPPED, [str(number) for number in range(10)])
    given = corrupt_labels(truth, np.full(len(truth), "train"), swapped, generator(seed, "wrong labels"))
    wrong = given != truth
    training, tests = Examples(data.train_inputs, given), Examples(data.test_inputs, data.test_labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make_network("lenet5", (1, 28, 28), 10, seed=seed)
    model = TrainedModel(network, Softmax(), device="cpu")
    train(model, training, Descent(learning_rate=1e-3, rounds=epochs), batch_size=64, seed=seed)
    half = generator(seed, "halves").permutation(len(tests)) < len(tests) // 2
    right = model.correct(tests).numpy() == 1
    parts = (tests.subset(np.flatnonzero(part)) for part in (half & ~right, ~half & ~right, ~half & right))
    failures, held_out, others = parts
    return Problem(model, training, wrong, failures, held_out, others, seed)


def measured(problem: Problem, parameters: Parameters, pieces: list[int]) -> Iterator[dict[str, Any]]:
    """A row for each number of each update, operation and number of pieces."""
    diagonal = fit_curvature("diagonal", problem.model, problem.training)
    start = problem.model.parameter_vector
    causes = np.flatnonzero(problem.wrong)
    others = generator(problem.seed, "others").choice(
        np.flatnonzero(~problem.wrong), len(causes), replace=False
    )
    operations = {
        "insert": (problem.failures, class_balanced_weights(problem.failures), parameters.identifications),
        "delete": (
            problem.training.subset(np.concatenate([causes, others])),
            np.repeat([-1.0, 1.0], len(causes)),
            parameters.treatments,
        ),
    }
    for operation, (evidence, weights, members) in operations.items():
        ends: dict[str, Any] = {}
        for name in (ONCE, *IN_A_ROW):
            settings = members[name]
            assert isinstance(settings, Identification | DeleteSettings)
            for count in [1] if name == ONCE else pieces:
                changed = {} if name == ONCE else {"batches": count}
                update = make_update(settings.posterior.chosen, **{**settings.posterior.options, **changed})
                edited = update.edit(
                    problem.model,
                    evidence,
                    weights,
                    curvature=diagonal.damped(settings.damping or 0.0),
                    count=len(problem.training),
                    kept=problem.training.subset(np.flatnonzero(~problem.wrong)),
                    seed=problem.seed,
                )
                end = edited.model.parameter_vector
                once = ends.setdefault(name, end)
                found = {"distance": float((end - once).norm() / (once - start).norm())}
                if operation == "insert":
                    scores = influence_scores(
                        Investigation(problem.model, edited.model, problem.training), "loss-change"
                    )
                    found["auroc"] = area_under_roc(scores, problem.wrong) or 0.0
                else:
                    found["holdout"] = 100 * edited.model.accuracy(problem.held_out)
                    found["remaining"] = 100 * edited.model.accuracy(problem.right)
                for metric, value in found.items():
                    named = {"update": name, "operation": operation, "pieces": count}
                    yield {**named, "metric": metric, "value": value, "seed": problem.seed}


if __name__ == "__main__":
    main()
