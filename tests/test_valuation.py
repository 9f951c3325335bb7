"""Data Shapley values beside brute force, refits from scratch, games of known value and pyDVL."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.valuation import (
    LeastSquaresGame,
    OneEpochGame,
    RetrainingEstimate,
    RetrainingGame,
    SetGame,
    best_learning_rate,
    calibrated_threshold,
    knn_shapley,
    penultimate_features,
    permutation_shapley,
    plant_wrong_labels,
    query_confusion,
    retraining_shapley,
    threshold_by_planting,
)
from modelrepair.valuation.games import Game
from modelrepair.valuation.sampling import marginal_contributions
from models import one_thread  # noqa: F401

EXACT = 1e-14
REFIT = 1e-8
SIGMAS = 5
"""Within how many of its standard errors a sampled value is to lie."""

Array = NDArray[Any]


def brute_force(players: int, utility: Callable[[Sequence[int]], float], smallest: int = 0) -> Array:
    """The mean contribution over the subsets of each size from `smallest`, then over these sizes; Shapley for 0."""
    values = np.zeros(players)
    for player in range(players):
        others = [other for other in range(players) if other != player]
        for size in range(smallest, players):
            gains = [
                utility(sorted((*subset, player))) - utility(subset)
                for subset in itertools.combinations(others, size)
            ]
            values[player] += np.mean(gains) / (players - smallest)
    return values


def problem(
    examples: int = 60, features: int = 5, classes: int = 3, queries: int = 20
) -> tuple[Array, Array, Array, Array]:
    random = generator(0, "a problem")
    direction = random.normal(size=(features, classes))

    def drawn(count: int) -> tuple[Array, Array]:
        x = random.normal(size=(count, features))
        return x, (x @ direction + random.normal(size=(count, classes))).argmax(axis=1)

    return *drawn(examples), *drawn(queries)


def utilities_along(game: Game, orders: Array) -> Array:
    """(b, n) the utilities of all prefixes."""
    walk, parts, done = game.walk(orders), [], 0
    while done < game.players:
        parts.append(walk.advance())
        done += parts[-1].shape[1]
    return np.concatenate(parts, axis=1)


# Nearest neighbours


@pytest.mark.parametrize(
    ("examples", "neighbours", "smallest"),
    [
        (1, 1, 0),
        (1, 4, 0),
        (2, 1, 1),
        (6, 2, 0),
        (8, 3, 0),
        (7, 10, 0),
        (7, 3, 2),
        (7, 3, 6),
        (8, 2, 4),
        (7, 5, 1),
    ],
)
def test_values_by_neighbours_are_those_of_all_subsets(examples: int, neighbours: int, smallest: int) -> None:
    random = generator(examples, "neighbours")
    x, y = random.normal(size=(examples, 3)), random.integers(2, size=examples)
    # Equal features: the first goes first.
    x[1::3] = x[0]
    queries, right = random.normal(size=(3, 3)), random.integers(2, size=3)

    def utility(members: Sequence[int]) -> float:
        near = [sorted(members, key=lambda i: float(((x[i] - q) ** 2).sum()))[:neighbours] for q in queries]
        votes = [(y[rows] == label).sum() for rows, label in zip(near, right, strict=True)]
        return float(np.mean(votes)) / neighbours

    values = knn_shapley(x, y, queries, right, neighbours=neighbours, smallest_subset=smallest)
    expected = brute_force(examples, utility, smallest)
    np.testing.assert_allclose(values, expected, atol=EXACT, rtol=0)
    if not smallest:
        np.testing.assert_allclose(values.sum(), utility(range(examples)), atol=EXACT)


@pytest.mark.parametrize("neighbours", [1, 5, 40])
def test_values_by_neighbours_are_those_of_pydvl(neighbours: int) -> None:
    methods = pytest.importorskip("pydvl.valuation", reason="pyDVL is not installed")
    from sklearn.neighbors import KNeighborsClassifier

    x, y, queries, right = problem(30)
    theirs = methods.KNNShapleyValuation(
        # Theirs cannot ask for more neighbours than there are.
        KNeighborsClassifier(min(neighbours, 30)),
        methods.Dataset(queries, right),
        progress=False,
    ).fit(methods.Dataset(x, y))
    ours = knn_shapley(x, y, queries, right, neighbours=min(neighbours, 30))
    np.testing.assert_allclose(ours, theirs.result.values, atol=EXACT, rtol=0)


def test_chunks_of_queries_and_a_shift_of_features_change_no_value() -> None:
    x, y, queries, right = problem(200)
    whole = knn_shapley(x, y, queries, right)
    np.testing.assert_allclose(knn_shapley(x, y, queries, right, queries_together=7), whole, atol=EXACT)
    np.testing.assert_allclose(knn_shapley(x + 1e6, y, queries + 1e6, right), whole, atol=EXACT)
    tensors = [torch.from_numpy(array) for array in (x, y, queries, right)]
    np.testing.assert_array_equal(knn_shapley(*tensors), whole)


# Features


class Swapped(nn.Module):
    """Declares its layers in the other order than it applies them."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.body = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).relu_())


class OfSequences(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x.reshape(len(x), 2, 3)).mean(dim=1)


def test_features_are_what_the_last_layer_takes() -> None:
    examples = Examples(generator(0, "x").normal(size=(7, 6)), np.zeros(7, dtype=np.int64))
    model = TrainedModel(Swapped().double(), Softmax(), batch_size=3, device="cpu")
    found = penultimate_features(model, examples)
    assert found.shape == (7, 4)
    torch.testing.assert_close(model.network.head(found), model.outputs(examples), rtol=1e-14, atol=1e-14)
    assert not any(layer._forward_pre_hooks for layer in model.network.modules())


def test_features_of_lenet() -> None:
    images = generator(0, "images").integers(256, size=(5, 1, 28, 28), dtype=np.uint8)
    examples = Examples(images, np.arange(5))
    model = TrainedModel(make_network("lenet5", (1, 28, 28), 10, seed=0), Softmax(), device="cpu")
    found = penultimate_features(model, examples)
    assert found.shape == (5, 84)
    torch.testing.assert_close(model.network.fc3(found), model.outputs(examples))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Tanh(), "Tanh applies no linear layer"),
        (OfSequences(), "layer mix, .* not one vector for each"),
    ],
)
def test_networks_without_features_are_refused(network: nn.Module, words: str) -> None:
    # A parameter, so that the model has a type.
    network.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    model = TrainedModel(network, Softmax(), device="cpu")
    examples = Examples(generator(0, "x").normal(size=(3, 6)).astype(np.float32), np.zeros(3, dtype=np.int64))
    with pytest.raises(RepairError, match=words):
        penultimate_features(model, examples)
    assert not any(layer._forward_pre_hooks for layer in network.modules())
    with pytest.raises(RepairError, match="no examples"):
        penultimate_features(model, examples.subset([]))


# A last layer whose prefixes grow


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("ridge", [1e-6, 1.0])
def test_prefixes_of_least_squares_are_refits(ridge: float, block: int) -> None:
    x, y, queries, right = problem()
    orders = np.stack([generator(seed, "order").permutation(len(x)) for seed in range(3)])
    games = {
        name: LeastSquaresGame(x, y, queries, right, ridge=ridge, utility=name, block=block)
        for name in ("accuracy", "squared-error")
    }
    found = {name: utilities_along(game, orders) for name, game in games.items()}
    wanted = np.eye(3)[right]
    with_one, queries_with_one = games["accuracy"].examples.numpy(), games["accuracy"].queries.numpy()
    for row, order in enumerate(orders):
        for length in range(1, len(x) + 1):
            members = order[:length]
            fitted = Ridge(alpha=games["accuracy"].damping, fit_intercept=False, solver="cholesky")
            fitted.fit(with_one[members], np.eye(3)[y[members]])
            outputs = fitted.predict(queries_with_one)
            error = -((wanted - outputs) ** 2).sum(axis=1).mean()
            assert abs(found["squared-error"][row, length - 1] - error) < REFIT
            ranked = np.sort(outputs, axis=1)
            if (ranked[:, -1] - ranked[:, -2]).min() > REFIT:
                assert found["accuracy"][row, length - 1] == (outputs.argmax(axis=1) == right).mean()
    for name, game in games.items():
        np.testing.assert_allclose(found[name][:, -1], game.full, atol=REFIT)


def test_layers_of_least_squares_stay_exact_over_thousands_of_steps() -> None:
    x, y, queries, right = problem(3000, features=30)
    # A feature that is always 0, and one that is nearly another.
    x[:, 0], x[:, 1] = 0, x[:, 2] + 1e-3 * x[:, 1]
    game = LeastSquaresGame(x, y, queries, right)
    order = generator(0, "order").permutation(len(x))
    walk: Any = game.walk(order[None])
    done = 0
    while done < len(x):
        done += walk.advance().shape[1]
        difference = (walk.layer[0] - game.layer(order[:done])).abs().max()
        assert difference < REFIT


def test_one_epoch_is_gradient_descent_an_example_a_step() -> None:
    x, y, queries, right = problem(40)
    order = generator(0, "order").permutation(len(x))
    game = OneEpochGame(x, y, queries, right, learning_rate=0.7, block=9)
    found = utilities_along(game, np.stack([order, order[::-1]]))
    for row, positions in enumerate((order, order[::-1])):
        layer = torch.zeros(game.examples.shape[1], 3, dtype=torch.float64, requires_grad=True)
        for step, position in enumerate(positions):
            loss = F.cross_entropy((game.examples[position] @ layer)[None], torch.tensor([y[position]]))
            (slope,) = torch.autograd.grad(loss, layer)
            layer = (layer - 0.7 / game.mean_square * slope).detach().requires_grad_()
            outputs = (game.queries @ layer).detach().numpy()
            of_right = outputs[np.arange(len(right)), right]
            outputs[np.arange(len(right)), right] = -math.inf
            # Where two classes are tied, neither is right.
            assert found[row, step] == (of_right - outputs.max(axis=1) > EXACT).mean()
    assert game.full == utilities_along(game, np.arange(len(x))[None])[0, -1]


def test_the_learning_rate_is_the_best_of_one_pass() -> None:
    x, y, queries, right = problem(150)
    rate = best_learning_rate(x, y, queries, right, seed=0)
    assert rate == best_learning_rate(x, y, queries, right, seed=0)

    def after_a_pass(rate: float) -> float:
        game = OneEpochGame(x, y, queries, right, learning_rate=rate)
        orders = np.stack([generator(seed, "order").permutation(len(x)) for seed in range(20)])
        return float(utilities_along(game, orders)[:, -1].mean())

    assert after_a_pass(rate) >= max(after_a_pass(other) for other in (2.0**-10, 2.0**4))


@pytest.mark.parametrize("utility", ["accuracy", "squared-error"])
def test_all_permutations_give_the_values_of_all_subsets(utility: Any) -> None:
    x, y, queries, right = problem(6)
    game = LeastSquaresGame(x, y, queries, right, utility=utility, block=4)
    orders = np.array(list(itertools.permutations(range(6))))
    contributions, lengths = marginal_contributions(game, orders, tolerance=None, patience=5)

    def of(members: Sequence[int]) -> float:
        return game.of(game.layer(members)) if members else game.empty

    np.testing.assert_allclose(contributions.mean(axis=0), brute_force(6, of), atol=REFIT)
    assert (lengths == 6).all()


# Sampling


def additive(players: int = 9) -> tuple[SetGame, Array]:
    worth = generator(0, "worth").normal(size=players)
    return SetGame(lambda members: float(worth[members].sum()), players), worth


def gloves(left: int, right: int) -> SetGame:
    """The worth of pairs of which `left` players have a left glove each and the rest a right one."""
    return SetGame(lambda members: min((members < left).sum(), (members >= left).sum()), left + right)


AIRPORT = np.repeat(np.arange(1, 11), [8, 12, 6, 14, 8, 9, 13, 10, 10, 10])
"""What a runway for each of 100 aircraft costs (Castro et al. 2009, section 4.3)."""


def airport_values() -> Array:
    """Each step of the runway is shared by those who need it (Littlechild & Owen 1973)."""
    shares = [1 / (step <= AIRPORT).sum() for step in range(1, 11)]
    return np.cumsum(shares)[AIRPORT - 1]


def test_values_of_an_additive_game_are_exact_at_once() -> None:
    game, worth = additive()
    valuation = permutation_shapley(game, seed=0, permutations=3, tolerance=None)
    np.testing.assert_allclose(valuation.values, worth, atol=EXACT)
    np.testing.assert_allclose(valuation.standard_errors, 0, atol=1e-7)
    assert valuation.permutations == 3
    assert not valuation.converged
    one = permutation_shapley(game, seed=0, permutations=1, tolerance=None)
    assert np.isinf(one.standard_errors).all()


@pytest.mark.parametrize(
    ("game", "expected"),
    [
        (gloves(1, 2), [2 / 3, 1 / 6, 1 / 6]),
        (gloves(2, 2), [1 / 2] * 4),
        (SetGame(lambda members: float(AIRPORT[members].max()), 100), airport_values()),
    ],
    ids=["gloves 1+2", "gloves 2+2", "airport"],
)
def test_values_of_known_games_are_within_their_standard_errors(game: SetGame, expected: Any) -> None:
    valuation = permutation_shapley(game, seed=0, permutations=500, movement=0, tolerance=None)
    deviation = np.abs(valuation.values - expected)
    assert (deviation <= SIGMAS * valuation.standard_errors + EXACT).all()
    # Nor are the errors so large that anything would be.
    assert (valuation.standard_errors < 0.25 * np.max(expected)).all()
    np.testing.assert_allclose(valuation.values.sum(), game.full, rtol=EXACT)


def test_values_of_pydvl_games_are_within_their_standard_errors() -> None:
    games = pytest.importorskip("pydvl.valuation.games", reason="pyDVL is not installed")
    theirs = games.ShoesGame(left=3, right=5)
    game = gloves(3, 5)
    valuation = permutation_shapley(game, seed=0, permutations=2000, movement=0, tolerance=None)
    deviation = np.abs(valuation.values - theirs.shapley_values().values)
    assert (deviation <= SIGMAS * valuation.standard_errors).all()
    np.testing.assert_allclose(
        brute_force(8, lambda members: game.of(np.array(members, dtype=np.int64)) if members else 0.0),
        theirs.shapley_values().values,
        atol=EXACT,
    )


def test_values_of_large_subsets_alone_are_within_their_standard_errors() -> None:
    game = gloves(2, 4)
    valuation = permutation_shapley(
        game, seed=0, permutations=2000, movement=0, tolerance=None, smallest_subset=3
    )
    expected = brute_force(
        6, lambda members: game.of(np.array(members, dtype=np.int64)) if members else 0.0, smallest=3
    )
    assert (np.abs(valuation.values - expected) <= SIGMAS * valuation.standard_errors).all()
    assert (valuation.standard_errors < 0.05).all()


def test_sampled_values_do_not_depend_on_how_many_permutations_go_together() -> None:
    x, y, queries, right = problem(80)
    for game in (
        LeastSquaresGame(x, y, queries, right, block=16),
        OneEpochGame(x, y, queries, right, learning_rate=1.0, block=16),
    ):
        runs = [
            permutation_shapley(
                game, seed=3, permutations=40, minimum=10, window=10, movement=0.35, together=together
            )
            for together in (1, 7, 64)
        ]
        for run in runs[1:]:
            np.testing.assert_array_equal(run.values, runs[0].values)
            np.testing.assert_array_equal(run.standard_errors, runs[0].standard_errors)
            assert (run.permutations, run.prefixes) == (runs[0].permutations, runs[0].prefixes)
    other = permutation_shapley(game, seed=4, permutations=40)
    assert not np.array_equal(other.values, runs[0].values)


@pytest.mark.parametrize("block", [1, 3, 40])
def test_a_permutation_ends_after_prefixes_in_a_row_near_the_full_utility(block: int) -> None:
    x, y, queries, right = problem(40)
    game = LeastSquaresGame(x, y, queries, right, block=block)
    orders = np.stack([generator(seed, "order").permutation(40) for seed in range(12)])
    found, lengths = marginal_contributions(game, orders, tolerance=0.1, patience=3)
    along = utilities_along(game, orders)
    for row, order in enumerate(orders):
        before, streak, length = game.empty, 0, 0
        expected = np.zeros(40)
        for player, utility in zip(order, along[row], strict=True):
            length += 1
            expected[player], before = utility - before, utility
            streak = streak + 1 if abs(utility - game.full) <= 0.1 * game.full else 0
            if streak == 3:
                break
        np.testing.assert_array_equal(found[row], expected)
        assert lengths[row] == length
    assert len(set(lengths)) > 2


def test_sampling_stops_when_the_means_stand_still() -> None:
    game, _ = additive()
    settled = permutation_shapley(game, seed=0, permutations=500, tolerance=None)
    # The window is full of running means only before the permutation after it.
    assert settled.permutations == 101
    assert settled.converged
    assert settled.movement < 1e-12
    shoes, rules = gloves(1, 2), {"window": 10, "minimum": 1, "tolerance": None}
    restless = permutation_shapley(shoes, seed=0, permutations=30, movement=1e-6, **rules)
    assert restless.permutations == 30
    assert not restless.converged
    means = [
        permutation_shapley(shoes, seed=0, permutations=count, movement=0, **rules).values
        for count in range(1, 31)
    ]
    moved = [
        [np.abs(means[t - back] - means[t]).sum() / np.abs(means[t]).sum() for back in range(1, 11)]
        for t in range(10, 30)
    ]
    np.testing.assert_allclose(restless.movement, moved[-1][-1], rtol=1e-12)
    limit = float(np.median(np.max(moved, axis=1)))
    stopped = permutation_shapley(shoes, seed=0, permutations=30, movement=limit, **rules)
    assert stopped.permutations == 11 + int(np.argmax(np.max(moved, axis=1) < limit))
    assert stopped.converged


# The threshold


def test_the_threshold_between_two_normal_distributions_is_where_they_are_equally_likely() -> None:
    random = generator(0, "two normal distributions")
    share, apart = 0.2, 3.0
    wrong = random.random(40_000) < share
    values = random.normal(size=40_000) + np.where(wrong, 0, apart)
    threshold = calibrated_threshold(values, random.normal(size=20_000))
    # π φ(t) = (1 − π) φ(t − apart).
    assert abs(threshold.value - (apart / 2 + math.log(share / (1 - share)) / apart)) < 0.15
    assert abs(threshold.harmful_share - share) < 0.03
    called = values < threshold.value
    assert threshold.called == called.mean()
    assert abs(threshold.found - called[wrong].mean()) < 0.02
    assert abs(threshold.false_calls - (~wrong)[called].mean()) < 0.06


def test_where_nothing_is_wrong_next_to_nothing_is_called() -> None:
    random = generator(0, "nothing wrong")
    threshold = calibrated_threshold(random.normal(5, 1, size=3000), random.normal(size=300))
    assert threshold.called < 0.02
    assert calibrated_threshold([1.0, 2.0], [0.0]).value == -math.inf


def noisy_blobs(seed: int) -> tuple[Array, Array, Array, Array, Array]:
    """Three classes that overlap, of whose labels a quarter is wrong; and which those are."""
    random = generator(seed, "blobs")
    centres = random.normal(size=(3, 6))
    y, right = random.integers(3, size=900), random.integers(3, size=200)
    x, queries = (centres[labels] + random.normal(size=(len(labels), 6)) for labels in (y, right))
    given, wrong = plant_wrong_labels(y, share=0.25, seed=seed)
    is_wrong = np.zeros(len(y), dtype=bool)
    is_wrong[wrong] = True
    return x, given, queries, right, is_wrong


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("neighbours", [5, 200])
def test_the_calibrated_threshold_makes_nearly_as_few_wrong_calls_as_any(neighbours: int, seed: int) -> None:
    x, given, queries, right, truth = noisy_blobs(seed)

    def value(labels: Array) -> Array:
        return knn_shapley(x, labels, queries, right, neighbours=neighbours)

    def wrong_calls(threshold: float) -> float:
        return float(((values < threshold) != truth).mean())

    values = value(given)
    threshold = threshold_by_planting(value, given, seed=0)
    assert threshold_by_planting(value, given, seed=0, values=values) == threshold
    best = min(wrong_calls(level) for level in np.append(values, math.inf))
    assert wrong_calls(threshold.value) <= best + 0.025
    if neighbours == 200:
        # With that many, an example of a right class helps among few wherever it is: values are inflated.
        assert wrong_calls(0.0) > best + 0.08
        assert threshold.value > 0


def test_planted_labels_are_as_wrong_as_asked_for() -> None:
    labels = np.repeat(np.arange(4), 100)
    changed, positions = plant_wrong_labels(labels, share=0.1, seed=0)
    assert len(positions) == 40
    assert np.array_equal(np.flatnonzero(changed != labels), positions)
    confusion = query_confusion([0, 0, 0, 2, 1], [1, 1, 0, 3, 1], 4)
    assert confusion[0].tolist() == [1, 2, 0, 0]
    changed, positions = plant_wrong_labels(labels, share=0.1, seed=0, confusion=confusion)
    assert {(a, b) for a, b in zip(labels[positions], changed[positions], strict=True)} == {(0, 1), (2, 3)}
    # In proportion to their weights, 2 to 1.
    assert 20 <= (labels[positions] == 0).sum() <= 33


# Retraining


def retraining_game(examples: int = 6, measure: Any = "log-likelihood") -> RetrainingGame:
    x, y, queries, right = problem(examples)
    data = Examples(x, y)

    @cache
    def fit(members: tuple[int, ...]) -> TrainedModel:
        model = TrainedModel(make_network("linear", (5,), 3, seed=0).double(), Softmax(), device="cpu")
        for _ in range(3):
            step = 0.1 * model.weighted_gradient(data.subset(list(members)))
            model = model.with_parameter_vector(model.parameter_vector + step)
        return model

    untrained = TrainedModel(make_network("linear", (5,), 3, seed=0).double(), Softmax(), device="cpu")
    return RetrainingGame(
        lambda members: fit(tuple(members)),
        examples,
        Examples(queries, right),
        untrained=untrained,
        measure=measure,
    )


def test_values_by_retraining_are_those_of_all_subsets() -> None:
    game = retraining_game(4)
    valuation, estimate = retraining_shapley(
        game, seed=0, permutations=200, movement=0, tolerance=None, budget=math.inf
    )
    expected = brute_force(
        4, lambda members: game.of(np.array(members, dtype=np.int64)) if members else game.empty
    )
    assert (np.abs(valuation.values - expected) <= SIGMAS * valuation.standard_errors).all()
    assert estimate.trainings == 800
    assert estimate.seconds > 0


def test_retraining_beyond_the_budget_is_refused_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    game = retraining_game(measure="accuracy")
    estimate = RetrainingEstimate(trainings=600, longest=2.0, shortest=1.0, seconds=900.0)
    monkeypatch.setattr(game, "estimate", lambda permutations: estimate)
    words = r"600 trainings of up to 2 s take about 15.0 minutes, .* budget is 20.0 seconds: ask for 2 permutations"
    with pytest.raises(RepairError, match=words):
        retraining_shapley(game, seed=0, permutations=100, budget=20)
    with pytest.raises(RepairError, match="value fewer examples"):
        retraining_shapley(game, seed=0, permutations=100, budget=1)
    valuation, told = retraining_shapley(game, seed=0, permutations=2, budget=0, beyond_budget=True)
    assert valuation.permutations == 2
    assert told is estimate


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint64", "int8", ">i4", ">u2"])
def test_labels_of_every_whole_type_are_the_same_labels(kind: str) -> None:
    features, labels, query, right = problem(10)
    expected = knn_shapley(features, labels, query, right)
    np.testing.assert_array_equal(
        knn_shapley(features, labels.astype(kind), query, right.astype(kind)), expected
    )
    planted, where = plant_wrong_labels(labels, share=0.3, seed=0)
    again, there = plant_wrong_labels(labels.astype(kind), share=0.3, seed=0)
    np.testing.assert_array_equal(again, planted)
    np.testing.assert_array_equal(there, where)


@pytest.mark.parametrize("kind", [">f8", "longdouble"])
def test_features_of_every_real_type_are_the_same_features(kind: str) -> None:
    features, labels, query, right = problem(10)
    found = knn_shapley(features.astype(kind), labels, query.astype(kind), right)
    np.testing.assert_array_equal(found, knn_shapley(features, labels, query, right))


@pytest.mark.parametrize(("highest", "kind"), [(255, np.uint8), (127, np.int8)])
def test_labels_are_planted_also_where_the_highest_is_that_of_its_type(highest: int, kind: type) -> None:
    labels = np.array([highest, 0, 1, 2] * 5)
    planted, where = plant_wrong_labels(labels.astype(kind), share=0.2, seed=0)
    np.testing.assert_array_equal(planted, plant_wrong_labels(labels, share=0.2, seed=0)[0])
    assert (planted[where] != labels[where]).all()


class NamesItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(input=x.tanh())


def test_features_are_seen_also_where_the_layer_is_given_them_by_name() -> None:
    inputs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    model = TrainedModel(NamesItsInput(), Softmax(), batch_size=4, device="cpu")
    features = penultimate_features(model, Examples(inputs, np.zeros(6, dtype=np.int64)))
    np.testing.assert_allclose(features.numpy(), np.tanh(inputs), rtol=1e-6)


# What cannot be


ARRAYS = problem(10)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: knn_shapley(*ARRAYS, neighbours=0), "neighbours is 0"),
        (lambda: knn_shapley(*ARRAYS, neighbours=2.5), "neighbours is 2.5: give a whole number"),
        (lambda: knn_shapley(*ARRAYS, neighbours=True), "neighbours is True"),
        (lambda: knn_shapley(*ARRAYS, neighbours="3"), "neighbours is '3'"),
        (lambda: knn_shapley(*ARRAYS, neighbours=10**400), "neighbours is 10*: give a whole number"),
        (lambda: knn_shapley(*ARRAYS, smallest_subset=2.5), "smallest_subset is 2.5 with 10"),
        (
            lambda: knn_shapley(ARRAYS[0][:, :0], ARRAYS[1], ARRAYS[2][:, :0], ARRAYS[3]),
            r"features of shape \(10, 0\) .* at least one feature",
        ),
        (lambda: knn_shapley(*ARRAYS, smallest_subset=10), "smallest_subset is 10 with 10"),
        (lambda: knn_shapley(*ARRAYS, queries_together=0), "queries_together is 0"),
        (lambda: knn_shapley(ARRAYS[0], ARRAYS[1][:3], *ARRAYS[2:]), r"shape \(3,\) .* training examples"),
        (lambda: knn_shapley(*ARRAYS[:2], ARRAYS[2][:, :2], ARRAYS[3]), "5 features and query examples 2"),
        (lambda: knn_shapley(ARRAYS[0] / 0.0, *ARRAYS[1:]), "10 of 10 training examples are NaN"),
        (lambda: knn_shapley(ARRAYS[0], ARRAYS[1] * 0.5, *ARRAYS[2:]), "labels of type float64"),
        (lambda: knn_shapley(ARRAYS[0], ARRAYS[1] - 5, *ARRAYS[2:]), "give class numbers"),
        (
            lambda: knn_shapley(ARRAYS[0], ARRAYS[1].astype(str), *ARRAYS[2:]),
            "type <U.* class numbers as labels",
        ),
        (lambda: LeastSquaresGame(*ARRAYS, ridge=0), "ridge is 0"),
        (lambda: LeastSquaresGame(*ARRAYS, block=0), "block is 0"),
        (lambda: LeastSquaresGame(*ARRAYS, utility="loss"), "no utility 'loss': choose from accuracy"),
        (lambda: OneEpochGame(*ARRAYS, learning_rate=-1), "learning_rate is -1"),
        (lambda: SetGame(lambda members: math.nan, 2).full, "utility of 2 of 2 .* is nan"),
        (lambda: SetGame(len, 0), "game of 0 players"),
        (lambda: permutation_shapley(gloves(1, 1), seed=0, permutations=0), "permutations is 0"),
        (lambda: permutation_shapley(gloves(1, 1), seed=0, patience=0), "patience is 0"),
        (lambda: permutation_shapley(gloves(1, 1), seed=0, tolerance=-1), "tolerance -1"),
        (lambda: permutation_shapley(gloves(1, 1), seed=0, smallest_subset=2), "smallest_subset is 2"),
        (lambda: permutation_shapley(gloves(1, 1), seed=-1), "seed is -1"),
        (lambda: calibrated_threshold([], [1.0]), r"values of shape \(0,\)"),
        (lambda: calibrated_threshold([1.0], [math.nan]), "1 of them NaN"),
        (lambda: plant_wrong_labels([0, 1], share=1.0, seed=0), "share is 1.0"),
        (lambda: plant_wrong_labels([0.5], share=0.1, seed=0), "type float64"),
        (lambda: plant_wrong_labels([1, 1], share=0.5, seed=0), "0 examples have a class that is confused"),
        (lambda: plant_wrong_labels([0, 1], share=0.5, seed=0, confusion=[[0.0]]), r"shape \(1, 1\)"),
        (lambda: plant_wrong_labels([0, 1], share=0.5, seed=0, confusion=[[0, -1], [1, 0]]), "below 0"),
        (lambda: query_confusion([0, 1], [0], 2), r"predicted ones of shape \(1,\)"),
        (lambda: query_confusion([0, 1], [0, 2], 2), "from 0 to 2 were given for 2 classes"),
        (lambda: threshold_by_planting(len, [0, 1], seed=0, rounds=0), "rounds is 0"),
        (lambda: retraining_game(measure="loss"), "no measure 'loss'"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_cannot_be_is_refused_in_a_sentence(wrong: Callable[[], Any], words: str) -> None:
    with pytest.raises(RepairError, match=words):
        wrong()
