"""Erasure from convex models, where the retrained optimum is unique: linear models, ℓ2-regularised, without bias.

    python benchmarks/convex.py

* Classes (Peste et al. 2021, section 5.2): the ten digits from the 84 penultimate features of a LeNet-5 trained on the
  sample, in place of their 50 animals from ResNet-101 features. Erased: 100, 75, 50 and 25 % of each of classes 0 to 4.
* Attributes (section 5.1): 40 binary attributes of 4,000 examples, made with a seed so that they correlate as those of
  faces do: each leans on a few common factors (being old or male, say), and is present in 2 to 50 % of the examples;
  40 features see factors and attributes through noise and a rectifier. Fisher and Hessian are block-diagonal by
  attribute. Erased: 100 and 50 % of the examples that have one of ten rare attributes (at most 20 %).

All models are trained by SGD with momentum from the same start, first on mini-batches and at the end on all of the
data, so that they reach the optimum and the measures do not see the noise of training. Damping is the ℓ2 strength, as
in the paper. ε is 1 for the updates with the Hessian, and chosen on one proxy for the others: digit 9, or another rare
attribute, erased in the same fraction. `best` stands for the ε that is best on the requests themselves.

Writes `benchmarks/results/convex.csv`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from measures import Rows, measures, over_seeds, report
from modelrepair import (
    NaturalGradient,
    Proxy,
    Sigmoid,
    Softmax,
    TrainedModel,
    along,
    choose_epsilon,
    make_network,
    train,
)
from modelrepair.curvature import BlockFisher, Hessian, Identity
from modelrepair.data.randomness import generator
from modelrepair.models.examples import Examples
from modelrepair.settings.data import MnistSampleSettings
from modelrepair.sources import load_source
from modelrepair.splits.dataset import split_training
from modelrepair.training.descent import Descent
from results_table import RESULTS

STEPS = np.geomspace(0.05, 20, 53)
ASCENT = np.geomspace(1, 3000, 53)
ATTRIBUTES, FACTORS, FEATURES = 40, 10, 40


@dataclass(frozen=True)
class Problem:
    """Data, and what is erased from them.

    Attributes:
        name, model: for the table.
        train, test: examples.
        decay: strength of the ℓ2 penalty.
        learning_rate: at which mini-batches and then all of the data are descended.
        measured: classes or attributes that are erased.
        proxy: the one that ε is chosen on.
        fractions: of them.
        block_size: of Fisher and Hessian; None for the whole matrix.
    """

    name: str
    model: str
    train: Examples
    test: Examples
    decay: float
    learning_rate: float
    measured: tuple[int, ...]
    proxy: int
    fractions: tuple[float, ...]
    block_size: int | None

    def trained(self, examples: Examples, seed: int) -> TrainedModel:
        attributes = examples.targets.ndim == 2
        outputs = examples.targets.shape[1] if attributes else 10
        network = make_network("linear", examples.inputs.shape[1:], outputs, seed=seed)
        model = TrainedModel(network, Sigmoid() if attributes else Softmax())
        for batch_size, rounds in ((256, 20), (len(examples), 500)):
            descent = Descent(
                optimiser="sgd", learning_rate=self.learning_rate, rounds=rounds, weight_decay=self.decay
            )
            train(model, examples, descent, batch_size=batch_size, seed=seed)
        return model

    def having(self, examples: Examples, label: int) -> NDArray[np.bool_]:
        targets = examples.targets
        return targets[:, label] > 0 if targets.ndim == 2 else targets == label


@dataclass(frozen=True)
class Request:
    """A class or attribute to erase, or a part of it, and the model retrained without it."""

    problem: Problem
    label: int
    fraction: float
    erased: NDArray[np.int64]
    retrained: TrainedModel

    @property
    def kept(self) -> NDArray[np.int64]:
        return np.setdiff1d(np.arange(len(self.problem.train)), self.erased)

    @property
    def splits(self) -> dict[str, Examples]:
        problem = self.problem
        alike = problem.having(problem.test, self.label)
        return {
            "retained_train": problem.train.subset(self.kept),
            "erased_train": problem.train.subset(self.erased),
            "retained_test": problem.test.subset(~alike),
            "erased_test": problem.test.subset(alike),
        }

    def proxy(self, updated: Callable[[float], TrainedModel]) -> Proxy:
        train = self.problem.train
        return Proxy(updated, self.retrained, train.subset(self.erased), train.subset(self.kept))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2, help="how many seeds run at a time")
    parser.add_argument("--output", type=Path, default=RESULTS / "convex.csv")
    options = parser.parse_args()
    report(over_seeds(rows_of_seed, options.seeds, options.processes), options.output)


def rows_of_seed(seed: int) -> Rows:
    problems = (attributes_problem(seed), classes_problem(seed))
    return [row for problem in problems for row in rows_of_problem(problem, seed)]


def classes_problem(seed: int) -> Problem:
    source = load_source(MnistSampleSettings(training_per_class=300), 0)
    split = split_training(source.train_labels, 0.1, generator(0, "training and validation"))
    chosen = np.flatnonzero(split == "train")
    train_images = Examples(source.train_inputs, source.train_labels[chosen], chosen)
    test_images = Examples(source.test_inputs, source.test_labels)
    lenet = TrainedModel(make_network("lenet5", (1, 28, 28), 10, seed=seed), Softmax())
    train(lenet, train_images, Descent(learning_rate=1e-3, rounds=15), batch_size=64, seed=seed)
    lenet.network.fc3 = nn.Identity()
    features = [
        lenet.network(images.batch(slice(None))[0]).detach().relu() for images in (train_images, test_images)
    ]
    scale = features[0].std()
    inputs = [(values / scale).numpy() for values in features]
    return Problem(
        name="mnist-sample features",
        model="linear, 10 classes",
        train=Examples(inputs[0], train_images.targets),
        test=Examples(inputs[1], test_images.targets),
        decay=1e-3,
        learning_rate=0.05,
        measured=(0, 1, 2, 3, 4),
        proxy=9,
        fractions=(1.0, 0.75, 0.5, 0.25),
        block_size=None,
    )


def attributes_problem(seed: int, count: int = 4000, unseen: int = 2000) -> Problem:
    draw = generator(seed, "faces")
    leaning = draw.normal(size=(FACTORS, ATTRIBUTES)) * (draw.random((FACTORS, ATTRIBUTES)) < 0.35)
    factors = draw.normal(size=(count + unseen, FACTORS))
    own = draw.normal(size=(count + unseen, ATTRIBUTES))
    tendency = factors @ leaning + 0.7 * own
    frequencies = np.concatenate([np.linspace(0.02, 0.2, 20), np.linspace(0.22, 0.5, 20)])
    thresholds = [np.quantile(tendency[:, i], 1 - rate) for i, rate in enumerate(frequencies)]
    present = (tendency > thresholds).astype(np.float32)
    mixing = draw.normal(size=(FACTORS + ATTRIBUTES, FEATURES)) * np.sqrt(2 / (FACTORS + ATTRIBUTES))
    seen = np.column_stack([factors, own]) @ mixing + 0.35 * draw.normal(size=(count + unseen, FEATURES))
    # The constant takes the place of the bias that the paper's models do without.
    inputs = np.column_stack([np.maximum(seen, 0), np.ones(count + unseen)]).astype(np.float32)
    return Problem(
        name="synthetic attributes",
        model="linear, 40 attributes",
        train=Examples(inputs[:count], present[:count]),
        test=Examples(inputs[count:], present[count:]),
        decay=1e-3,
        learning_rate=0.2,
        measured=tuple(range(0, 20, 2)),
        proxy=9,
        fractions=(1.0, 0.5),
        block_size=FEATURES + 1,
    )


def rows_of_problem(problem: Problem, seed: int) -> Rows:
    original = problem.trained(problem.train, seed)
    slope = original.weighted_gradient(problem.train) / len(problem.train)
    rest = float((slope - problem.decay * original.parameter_vector).norm())
    print(f"{problem.name}: accuracy on unseen examples {100 * original.accuracy(problem.test):.1f} %, "
          f"gradient of the regularised loss {rest:.1e}", flush=True)  # fmt: skip
    requests = {}
    for label in (*problem.measured, problem.proxy):
        members = np.flatnonzero(problem.having(problem.train, label))
        drawn = generator(seed, f"of class {label}").permutation(members)
        for fraction in problem.fractions:
            erased = np.sort(drawn[: round(fraction * len(members))])
            kept = problem.train.subset(np.setdiff1d(np.arange(len(problem.train)), erased))
            requests[label, fraction] = Request(problem, label, fraction, erased, problem.trained(kept, seed))
    rows = []
    for method, (step, grid) in methods(problem, original).items():
        for fraction in problem.fractions:
            asked = {label: r for (label, f), r in requests.items() if f == fraction}
            updated = {label: along(original, step(request)) for label, request in asked.items()}
            ways = {"": [problem.proxy], ", best": problem.measured} if grid is not None else {"": []}
            for way, labels in ways.items():
                proxies = [asked[label].proxy(updated[label]) for label in labels]
                epsilon = (
                    1.0 if grid is None else choose_epsilon(original, proxies, epsilons=list(grid)).epsilon
                )
                for label in problem.measured:
                    models = {
                        "original": original,
                        "updated": updated[label](epsilon),
                        "retrained": asked[label].retrained,
                    }
                    values = measures(models, asked[label].splits)
                    rows += labelled(f"{method}{way}", asked[label], epsilon, values, seed)
        print(f"{problem.name}: {method} is done", flush=True)
    for label in problem.measured:
        for fraction in problem.fractions:
            request = requests[label, fraction]
            for name, model in (("original", original), ("retrained", request.retrained)):
                models = {"original": original, "updated": model, "retrained": request.retrained}
                rows += labelled(name, request, 0.0, measures(models, request.splits), seed)
    return rows


def methods(
    problem: Problem, original: TrainedModel
) -> dict[str, tuple[Callable[[Request], Tensor], NDArray[np.float64] | None]]:
    """Each method's step at an epsilon of 1, and its grid of epsilons; no grid for those that need no choice."""
    hessian = Hessian.fit(original, problem.train, block_size=problem.block_size).damped(problem.decay)
    fisher = BlockFisher.fit(
        original, problem.train, block_size=problem.block_size or len(original.parameter_vector)
    )
    fisher = fisher.damped(problem.decay)
    plain = Identity.fit(original, problem.train).damped(1.0)

    def removal(curvature: Any, *, without: bool = False, **options: Any) -> Callable[[Request], Tensor]:
        def step(request: Request) -> Tensor:
            return NaturalGradient(**options).step(
                original,
                problem.train.subset(request.erased),
                -np.ones(len(request.erased)),
                curvature=curvature.without(request.erased) if without else curvature,
                count=len(problem.train),
                kept=problem.train.subset(request.kept),
            )

        return step

    decay = {"weight_decay": problem.decay}
    return {
        "Hessian": (removal(hessian, **decay), None),
        "Hessian of the kept": (removal(hessian, without=True, **decay), None),
        "ssse": (removal(fisher, **decay), STEPS),
        "ssse kept gradient": (removal(fisher, gradient="kept", **decay), STEPS),
        "ssse without the penalty": (removal(fisher), STEPS),
        "gradient ascent": (removal(plain), ASCENT),
    }


def labelled(method: str, request: Request, epsilon: float, values: dict[str, float], seed: int) -> Rows:
    problem = request.problem
    erased = (
        f"one of {len(problem.measured)} {'attributes' if problem.train.targets.ndim == 2 else 'classes'}"
    )
    common = {"dataset": problem.name, "model": problem.model, "method": method, "erased": erased}
    common |= {"fraction": request.fraction, "epsilon": epsilon, "seed": seed}
    return [{**common, "metric": metric, "value": value} for metric, value in values.items()]


if __name__ == "__main__":
    main()
