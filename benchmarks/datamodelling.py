"""How well scores foresee what training on half of the data does to the failure loss (Park et al. 2023, section 3).

    python benchmarks/datamodelling.py [--seeds 3] [--subsets 50]

A network of 64-32-10 units with tanh is trained on 600 of scikit-learn's digits of which 20 % carry a wrong label; its
failures are the other digits that it gets wrong. For random halves of the training examples it is trained again, from
the same start, in the same batches, divided by the same numbers, with the others dropped, and the loss of those
failures is measured. A score foresees that dropping zᵢ lowers it by score(zᵢ), so that of a half it foresees
−Σ score(zᵢ) over the dropped: Spearman's correlation of that with the measured losses over the halves is the linear
datamodelling score of the failures.

Writes `benchmarks/results/datamodelling.csv`. What was measured is kept in `.scratch/datamodelling.csv`, a seed and
optimiser at a time: a benchmark that was ended goes on where it was. Remove that file after a change of the code.
That there are three epochs was chosen on seeds 100 and 101: the more there are, the less linear is dropping a half.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Threads that spin while they wait are slow where other processes want the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import Tensor, nn

from modelrepair.base_training.train import train
from modelrepair.curvature import fit_curvature
from modelrepair.data.randomness import generator
from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import ElasticWeightConsolidation, NaturalGradient
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import epoch_batches
from results_table import RESULTS, merge, read, show, summarise, write

OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimiser": "sgd", "momentum": 0.0, "learning_rate": 0.1},
    "momentum": {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.01},
    "adam": {"optimiser": "adam", "learning_rate": 0.001},
}
BATCH, WRONG = 32, 0.2
KEYS = ["optimiser", "score"]
DAMPINGS = {"linear, gram": 0.1, "linear, ekfac": 0.1, "linear, cg": 0.1, "loss-change, ewc": 0.001}
"""Of each curvature. The first ones tried, on seed 100."""


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    kept = Path(options.scratch) / "datamodelling.csv"
    kept.parent.mkdir(parents=True, exist_ok=True)
    sizes = f"{options.examples} examples, {options.epochs} epochs, {options.subsets} halves"
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for optimiser in OPTIMISERS:
            name = {"optimiser": optimiser, "seed": str(seed), "sizes": sizes}
            if is_measured(kept, name):
                continue
            found = measured(optimiser, seed, options.examples, options.epochs, options.subsets)
            rows = [{**name, "score": score, "value": value} for score, value in found.items()]
            print(name, {score: round(value, 3) for score, value in found.items()}, flush=True)
            write(
                merge(
                    pd.DataFrame(rows),
                    kept,
                    names=[*KEYS, "seed", "sizes"],
                    by=["optimiser", "seed", "sizes"],
                ),
                kept,
            )
    rows = read(kept, [*KEYS, "seed", "sizes"])
    wanted = [str(seed) for seed in range(options.first_seed, options.first_seed + options.seeds)]
    rows = rows[(rows["sizes"] == sizes) & rows["seed"].isin(wanted)]
    table = summarise(rows, KEYS)
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    write(table, folder / "datamodelling.csv")
    show(table.pivot(index="score", columns="optimiser", values="mean").reset_index(), sizes)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--subsets", type=int, default=50, help="random halves to train on")
    parser.add_argument("--examples", type=int, default=600, help="to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--results", default=RESULTS, help="folder of the table")
    parser.add_argument("--scratch", default=".scratch", help="folder of what was measured")
    return parser.parse_args()


def is_measured(kept: Path, name: dict[str, str]) -> bool:
    """Whether the file has rows of this optimiser, seed and sizes."""
    if not kept.is_file():
        return False
    rows = read(kept, [*KEYS, "seed", "sizes"])
    return bool((rows[list(name)] == pd.Series(name)).all(axis=1).any())


def measured(optimiser: str, seed: int, examples: int, epochs: int, subsets: int) -> dict[str, float]:
    """The linear datamodelling score of every score, by its name."""
    training, tests = digits(seed, examples)
    descent = Descent(rounds=epochs, **OPTIMISERS[optimiser])
    base = fresh(seed)
    course = train(base, training, descent, batch_size=BATCH, seed=seed, checkpoints=16)
    failures = tests.subset(base.correct(tests).numpy() == 0)
    draw = generator(seed, "halves")
    kept = np.stack([draw.permutation(examples) < examples // 2 for _ in range(subsets)])
    losses = [-trained_on(half, seed, training, descent).mean_log_likelihood(failures) for half in kept]
    dropped = ~kept
    return {
        name: float(spearmanr(-(dropped @ scores), losses).statistic)
        for name, scores in all_scores(base, training, failures, course.trajectory, seed)
    }


def digits(seed: int, count: int) -> tuple[Examples, Examples]:
    """Some digits to train on, of which some carry another label, and the others to test on."""
    data = load_digits()
    draw = generator(seed, "digits")
    order = draw.permutation(len(data.target))
    inputs, labels = (data.data / 16)[order], data.target[order].astype(np.int64)
    given = labels.copy()
    wrong = draw.permutation(count)[: round(WRONG * count)]
    given[wrong] = (given[wrong] + draw.integers(1, 10, len(wrong))) % 10
    return Examples(inputs[:count], given[:count]), Examples(inputs[count:], labels[count:])


def fresh(seed: int) -> TrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()
    return TrainedModel(network, Softmax(), device="cpu")


def trained_on(half: NDArray[np.bool_], seed: int, training: Examples, descent: Descent) -> TrainedModel:
    """The model trained in the same batches as the base, in which only a half counts."""
    model = fresh(seed)
    counts = torch.from_numpy(half).double()

    def losses(epoch: int) -> Iterator[Tensor]:
        for batch in epoch_batches(len(training), BATCH, seed=seed, purpose="training", epoch=epoch):
            inputs, targets = training.batch(batch, dtype=torch.float64)
            yield -(counts[batch] * model.log_likelihood(model.network(inputs), targets)).mean()

    minimise(model, losses, descent)
    return model


def all_scores(
    base: TrainedModel, training: Examples, failures: Examples, trajectory: Any, seed: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Every score of the training examples, with its name."""
    alone = Investigation(base, base, training, failures=failures, trajectory=trajectory)
    yield "trajectory", influence_scores(alone, "trajectory")
    for name in ("gram", "ekfac", "cg"):
        curvature = fit_curvature(name, base, training).damped(DAMPINGS[f"linear, {name}"])
        inserted = NaturalGradient().insert(base, failures, curvature=curvature, count=len(training))
        yield f"linear, {name}", influence_scores(Investigation(base, inserted.model, training), "linear")
    curvature = fit_curvature("diagonal", base, training).damped(DAMPINGS["loss-change, ewc"])
    update = ElasticWeightConsolidation(rounds=40, batch_size=32)
    inserted = update.insert(base, failures, curvature=curvature, count=len(training), seed=seed)
    yield "loss-change, ewc", influence_scores(Investigation(base, inserted.model, training), "loss-change")
    yield "loss", influence_scores(alone, "loss")


if __name__ == "__main__":
    main()
