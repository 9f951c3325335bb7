"""Erasing a class, or half of it, from LeNet-5 on MNIST in one step, beside retraining without it.

    python benchmarks/erasure.py

trains on the clean sample as Peste et al. 2021 (section 5.3) do on CIFAR-10: SGD with momentum 0.9, weight decay 5e-4,
no augmentation, and a learning rate that falls once (0.05 for 20 epochs, 0.005 for 10); retraining starts from the same
weights. Requests: all and half of each of the classes 0 to 4. How far each method goes (its epsilon; for scrubbing the
noise's standard deviation) is chosen by the same function for all, separately for whole and half classes as the paper
finds it must be, and in three ways that stand behind the method's name:

* `one proxy`: on class 9, retrained without it once;
* `five proxies`: on the mean over classes 5 to 9, none of which is measured;
* `best`: on the requests themselves, as the paper's figures show it: a bound, not a method.

Writes `benchmarks/results/erasure.csv`: mean and standard deviation over classes and seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from measures import Rows, measures, over_seeds, report
from modelrepair import (
    NaturalGradient,
    Proxy,
    Softmax,
    TrainedModel,
    along,
    choose_epsilon,
    make_network,
    train,
)
from modelrepair.curvature import BlockFisher, Curvature, GramFisher, Identity
from modelrepair.data.randomness import generator
from modelrepair.models.examples import Examples
from modelrepair.settings.data import MnistSampleSettings
from modelrepair.sources import load_source
from modelrepair.splits.dataset import split_training
from modelrepair.training.descent import Descent
from modelrepair.treatment import Scrub
from results_table import RESULTS

MEASURED, PROXIES = range(5), range(9, 4, -1)
FRACTIONS = (1.0, 0.5)
DECAY = 5e-4
DAMPING = 1e-3
PAPER_DAMPING = 1e-4
KEPT_SAMPLE = 300
Step = Callable[["Request"], Tensor]


@dataclass(frozen=True)
class Data:
    """The clean sample."""

    train: Examples
    test: Examples


@dataclass(frozen=True)
class Request:
    """A class to erase, or a part of it, and the model retrained without it."""

    label: int
    fraction: float
    erased: NDArray[np.int64]
    data: Data
    retrained: TrainedModel

    @property
    def kept(self) -> NDArray[np.int64]:
        return np.setdiff1d(np.arange(len(self.data.train)), self.erased)

    @property
    def splits(self) -> dict[str, Examples]:
        alike = self.data.test.targets == self.label
        return {
            "retained_train": self.data.train.subset(self.kept),
            "erased_train": self.data.train.subset(self.erased),
            "retained_test": self.data.test.subset(~alike),
            "erased_test": self.data.test.subset(alike),
        }

    def proxy(self, updated: Callable[[float], TrainedModel]) -> Proxy:
        sample = np.random.default_rng(0).choice(self.kept, KEPT_SAMPLE, replace=False)
        train = self.data.train
        return Proxy(updated, self.retrained, train.subset(self.erased), train.subset(sample))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="how many seeds run at a time")
    parser.add_argument("--output", type=Path, default=RESULTS / "erasure.csv")
    options = parser.parse_args()
    report(over_seeds(rows_of_seed, options.seeds, options.processes), options.output)


def rows_of_seed(seed: int) -> Rows:
    data = prepared()
    original = trained(data.train, seed)
    requests = {}
    for label in (*MEASURED, *PROXIES):
        for fraction in FRACTIONS:
            erased = part_of_class(data.train, label, fraction)
            kept = np.setdiff1d(np.arange(len(data.train)), erased)
            retrained = trained(data.train.subset(kept), seed)
            requests[label, fraction] = Request(label, fraction, erased, data, retrained)
    rows = references(original, requests, seed)
    for method, (step, grid) in methods(original, data.train, seed).items():
        rows += rows_of_method(method, step, grid, original, requests, seed)
        print(f"seed {seed}: {method} is done", flush=True)
    return rows


def prepared() -> Data:
    """The sample as the pipeline prepares it, without corruption: 2,700 images to train on, and its test images."""
    source = load_source(MnistSampleSettings(training_per_class=300), 0)
    split = split_training(source.train_labels, 0.1, generator(0, "training and validation"))
    rows = np.flatnonzero(split == "train")
    return Data(
        Examples(source.train_inputs, source.train_labels[rows], rows),
        Examples(source.test_inputs, source.test_labels),
    )


def part_of_class(examples: Examples, label: int, fraction: float) -> NDArray[np.int64]:
    members = np.flatnonzero(examples.targets == label)
    drawn = generator(0, f"of class {label}").permutation(members)
    return np.sort(drawn[: round(fraction * len(members))])


def trained(examples: Examples, seed: int) -> TrainedModel:
    model = TrainedModel(make_network("lenet5", (1, 28, 28), 10, seed=seed), Softmax())
    for phase, (learning_rate, rounds) in enumerate(((0.05, 20), (0.005, 10))):
        descent = Descent(optimiser="sgd", learning_rate=learning_rate, rounds=rounds, weight_decay=DECAY)
        train(model, examples, descent, batch_size=64, seed=seed, description=f"training, phase {phase}")
    return model


def methods(
    original: TrainedModel, examples: Examples, seed: int
) -> dict[str, tuple[Step, NDArray[np.float64]]]:
    """Each method's step at an epsilon of 1, and its grid of epsilons."""
    gram = GramFisher.fit(original, examples)
    block = BlockFisher.fit(original, examples)
    batches = GramFisher.fit(original, examples, minibatch=10)

    def removal(curvature: Curvature, *, without: bool = False, **options: Any) -> Step:
        def step(request: Request) -> Tensor:
            used = curvature.without(request.erased) if without else curvature  # type: ignore[attr-defined]
            return NaturalGradient(**options).step(
                original,
                examples.subset(request.erased),
                -np.ones(len(request.erased)),
                curvature=used,
                count=len(examples),
                kept=examples.subset(request.kept),
            )

        return step

    def scrubbing(request: Request) -> Tensor:
        return Scrub(alpha=1.0).noise(original, examples.subset(request.kept), seed)

    steps = np.geomspace(0.05, 20, 27)
    ssse = {
        "ssse": removal(gram.damped(DAMPING)),
        "ssse damping 1e-4": removal(gram.damped(PAPER_DAMPING)),
        "ssse kept gradient": removal(gram.damped(DAMPING), gradient="kept"),
        "ssse kept Fisher": removal(gram.damped(DAMPING), without=True),
        "ssse kept gradient and Fisher": removal(gram.damped(DAMPING), without=True, gradient="kept"),
        "ssse block": removal(block.damped(DAMPING)),
        "ssse mini-batches of 10": removal(batches.damped(DAMPING)),
    }
    return {
        **{name: (step, steps) for name, step in ssse.items()},
        "gradient ascent": (
            removal(Identity.fit(original, examples).damped(1.0)),
            np.geomspace(20, 5000, 25),
        ),
        "scrubbing": (scrubbing, np.geomspace(1e-5, 0.03, 36)),
    }


def rows_of_method(
    method: str,
    step: Step,
    grid: NDArray[np.float64],
    original: TrainedModel,
    requests: dict[tuple[int, float], Request],
    seed: int,
) -> Rows:
    rows = []
    ways = {"one proxy": PROXIES[:1], "five proxies": PROXIES, "best": MEASURED}
    for fraction in FRACTIONS:
        updated = {
            label: along(original, step(request)) for (label, f), request in requests.items() if f == fraction
        }
        for way, labels in ways.items():
            proxies = [requests[label, fraction].proxy(updated[label]) for label in labels]
            epsilon = choose_epsilon(original, proxies, epsilons=list(grid)).epsilon
            for label in MEASURED:
                request = requests[label, fraction]
                models = {
                    "original": original,
                    "updated": updated[label](epsilon),
                    "retrained": request.retrained,
                }
                rows += labelled(f"{method}, {way}", request, epsilon, measures(models, request.splits), seed)
    return rows


def references(original: TrainedModel, requests: dict[tuple[int, float], Request], seed: int) -> Rows:
    """The original and the retrained model, measured as if they were updates."""
    rows = []
    for (label, _), request in requests.items():
        if label in MEASURED:
            for name, model in (("original", original), ("retrained", request.retrained)):
                models = {"original": original, "updated": model, "retrained": request.retrained}
                rows += labelled(name, request, 0.0, measures(models, request.splits), seed)
    return rows


def labelled(method: str, request: Request, epsilon: float, values: dict[str, float], seed: int) -> Rows:
    common = {"dataset": "mnist-sample", "model": "lenet5", "method": method, "erased": "one class of 0-4"}
    common |= {"fraction": request.fraction, "epsilon": epsilon, "seed": seed}
    return [{**common, "metric": metric, "value": value} for metric, value in values.items()]


if __name__ == "__main__":
    main()
