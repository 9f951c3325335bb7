"""Scores of harm: against dense computations, an independent library, retraining, and values by hand.

One sign everywhere: positive means that removing the example should lower the failure loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cleanlab.rank
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair.base_training.train import train
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.influence import ConfidentLearning, Influence, Investigation, influence_scores
from modelrepair.influence.confident_learning import balanced_folds
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.posterior import ElasticWeightConsolidation, NaturalGradient, PosteriorUpdate, own_effects
from modelrepair.training.descent import Descent
from models import (
    DenseCurvature,
    assert_equal,
    blobs,
    linear_gaussian,
    make_examples,
    make_model,
    negative_hessian,
    one_thread,  # noqa: F401
    per_example_gradients,
    prior_curvature,
    with_prior_mode,
)

# A power of 2, because nngeometry adds it in float32.
DAMPING = 2**-4
PRIOR = 1.0


def scores(base: TrainedModel, updated: TrainedModel, examples: Examples, name: str) -> Tensor:
    return torch.from_numpy(influence_scores(Investigation(base, updated, examples), name))


# Against direct computation.


@pytest.mark.parametrize("likelihood", ["gaussian", "sigmoid", "softmax"])
def test_scores_of_any_update_are_what_they_say(likelihood: str) -> None:
    base, examples = make_model("mlp", likelihood, batch_size=5), make_examples("mlp", likelihood)
    shift = 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=len(base.parameter_vector)))
    updated = base.with_parameter_vector(base.parameter_vector + shift)
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    before, after = (
        base.likelihood.log_likelihood(model.network(inputs), targets).detach() for model in (base, updated)
    )
    assert_equal(scores(base, updated, examples, "loss-change"), before - after)
    assert_equal(scores(base, updated, examples, "linear"), -per_example_gradients(base, examples) @ shift)
    assert_equal(scores(base, updated, examples, "loss"), -before)


@pytest.mark.parametrize("name", ["linear", "loss", "loss-change"])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_scores_depend_on_neither_batch_size_nor_order(name: str, batch_size: int) -> None:
    examples, order = make_examples("normalised"), np.random.default_rng(0).permutation(23)
    base, batched = make_model("normalised"), make_model("normalised", batch_size=batch_size)
    updated = batched.with_parameter_vector(batched.parameter_vector + 0.01)
    expected = scores(base, updated, examples, name)
    assert_equal(scores(batched, updated, examples, name), expected)
    assert_equal(scores(batched, updated, examples.subset(order), name), expected[order])


def test_linear_is_the_first_order_of_the_loss_change() -> None:
    base, examples = make_model(), make_examples()
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=len(base.parameter_vector)))
    errors = []
    for size in (1e-3, 1e-4):
        updated = base.with_parameter_vector(base.parameter_vector + size * direction)
        difference = scores(base, updated, examples, "loss-change") - scores(
            base, updated, examples, "linear"
        )
        errors.append(difference / size**2)
    assert float(errors[0].abs().max()) > 0.01
    torch.testing.assert_close(errors[0], errors[1], rtol=0.1, atol=0.01)


# Linear influence, Tanno et al. 2022, Eq. 11.


def newton_scores(base: TrainedModel, examples: Examples, failures: Examples) -> Tensor:
    fisher = fit_curvature("gram", base, examples).damped(DAMPING)
    inserted = NaturalGradient().insert(base, failures, curvature=fisher, count=len(examples))
    return scores(base, inserted.model, examples, "linear")


@pytest.mark.parametrize("likelihood", ["gaussian", "sigmoid", "softmax"])
def test_linear_influence_is_equation_11_computed_densely(likelihood: str) -> None:
    """−γ ∇log p(F)ᵀ F̂⁻¹ ∇log p(z) with γ = 1/(N + |F|)."""
    base, examples = make_model("mlp", likelihood), make_examples("mlp", likelihood)
    failures = make_examples("mlp", likelihood, count=4, seed=7)
    gradients = per_example_gradients(base, examples)
    fisher = gradients.T @ gradients / 23 + DAMPING * torch.eye(gradients.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(fisher, per_example_gradients(base, failures).sum(dim=0))
    assert_equal(newton_scores(base, examples, failures), -gradients @ solved / 27, 1e-11)


def test_linear_influence_is_that_of_nngeometry() -> None:
    pytest.importorskip("nngeometry")
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object.pspace import PMatDense
    from nngeometry.object.vector import PVector

    base, examples = make_model(), make_examples()
    failures = make_examples(count=4, seed=7)
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=10)
    layers = LayerCollection.from_model(base.network)
    generator = TorchHooksJacobianBackend(
        model=base.network,
        layer_collection=layers,
        function=lambda x, y: nn.functional.cross_entropy(base.network(x), y, reduction="none").unsqueeze(1),
    )
    loss_slope = PVector(layers, vector_repr=-per_example_gradients(base, failures).sum(dim=0))
    solved = PMatDense(generator=generator, examples=loader).solvePVec(loss_slope, regul=DAMPING).to_torch()
    expected = per_example_gradients(base, examples) @ solved / 27
    assert_equal(newton_scores(base, examples, failures), expected, 1e-11)


# EWC-influence and linear influence on a linear-Gaussian model.


@dataclass(frozen=True)
class LinearGaussian:
    base: TrainedModel
    data: Examples
    curvature: DenseCurvature

    def inserted(self, update: PosteriorUpdate, failures: Examples, count: int) -> TrainedModel:
        return update.insert(self.base, failures, curvature=self.curvature, count=count).model

    def scores(self, updated: TrainedModel, name: str) -> Tensor:
        return scores(self.base, updated, self.data, name)


@pytest.fixture(scope="module", params=["Hessian", "empirical Fisher"])
def problem(request: pytest.FixtureRequest) -> LinearGaussian:
    untrained, data = linear_gaussian(30)
    base = with_prior_mode(untrained, data, PRIOR)
    if request.param == "Hessian":
        return LinearGaussian(base, data, prior_curvature(base, data, PRIOR))
    return LinearGaussian(base, data, DenseCurvature.fit(base, data).damped(0.5))


CLIMB = ElasticWeightConsolidation(learning_rate=0.01, rounds=400)


def test_with_one_failure_ewc_and_linear_influence_are_proportional(problem: LinearGaussian) -> None:
    """(N F̂ + xxᵀ)⁻¹x is F̂⁻¹x / (N + xᵀF̂⁻¹x): both go the same way, and rank alike whatever N is."""
    failure = linear_gaussian(1, seed=5)[1]
    x = torch.from_numpy(failure.inputs[0])
    leverage = float(x @ torch.linalg.solve(problem.curvature.whole, x))
    for count in (30, 300):
        climbed = problem.scores(problem.inserted(CLIMB, failure, count), "linear")
        stepped = problem.scores(problem.inserted(NaturalGradient(), failure, count), "linear")
        assert_equal(climbed, stepped * (count + 1) / (count + leverage), 1e-8)
        assert torch.equal(climbed.argsort(), stepped.argsort())
        assert float(climbed.abs().max()) > 0.001


def test_ewc_influence_is_its_first_order_plus_half_the_squared_change(problem: LinearGaussian) -> None:
    """log p(z | θ̂) − log p(z | θ̂ + δ) = −⟨∇log p(z), δ⟩ + (xᵀδ)²/2 for unit noise, exactly."""
    short = ElasticWeightConsolidation(learning_rate=0.01, rounds=30)
    updated = problem.inserted(short, linear_gaussian(5, seed=5)[1], 30)
    delta = updated.parameter_vector - problem.base.parameter_vector
    curved = (torch.from_numpy(problem.data.inputs) @ delta).square() / 2
    assert float(curved.max()) > 1e-3
    assert_equal(problem.scores(updated, "loss-change"), problem.scores(updated, "linear") + curved, 1e-12)


def test_ewc_influence_tends_to_linear_influence_as_data_grow(problem: LinearGaussian) -> None:
    """With N examples behind the posterior the two differ by O(1/N), and rank alike when that is small."""
    failures = linear_gaussian(5, seed=5)[1]
    errors = []
    for count in (3_000, 30_000):
        climb = ElasticWeightConsolidation(learning_rate=3 / count, rounds=400)
        climbed = problem.scores(problem.inserted(climb, failures, count), "loss-change")
        stepped = problem.scores(problem.inserted(NaturalGradient(), failures, count), "linear")
        errors.append((climbed - stepped) * count**2)
    assert torch.equal(climbed.argsort(), stepped.argsort())
    assert float(errors[0].abs().max()) > 0.1
    torch.testing.assert_close(errors[0], errors[1], rtol=0.05, atol=0.05 * float(errors[0].abs().max()))


# The sign, by retraining.


@dataclass(frozen=True)
class Spoiled:
    """A converged convex model trained on some wrong labels, its failures, and their loss without each example."""

    base: TrainedModel
    data: Examples
    flipped: NDArray[np.int64]
    failures: Examples
    gains: Tensor

    def predicted(self, curvature: DenseCurvature, update: PosteriorUpdate, name: str) -> Tensor:
        inserted = update.insert(self.base, self.failures, curvature=curvature, count=len(self.data))
        return scores(self.base, inserted.model, self.data, name)


@pytest.fixture(scope="module")
def spoiled() -> Spoiled:
    data, flipped = blobs(40, flipped=0.2, seed=3)
    network = make_network("linear", (2,), 2, seed=0, bias=True).double()
    base = with_prior_mode(TrainedModel(network, Softmax(), device="cpu"), data, PRIOR)
    clean, _ = blobs(300, seed=4)
    failures = clean.subset(base.correct(clean).numpy() == 0)
    without = [
        with_prior_mode(base, data.subset(np.delete(np.arange(40), position)), PRIOR)
        for position in range(40)
    ]
    loss = torch.tensor([-model.log_likelihoods(failures).sum() for model in (base, *without)])
    return Spoiled(base, data, flipped, failures, loss[0] - loss[1:])


@pytest.mark.parametrize("name", ["linear", "loss-change"])
@pytest.mark.parametrize(
    "update",
    [NaturalGradient(), ElasticWeightConsolidation(learning_rate=0.01, rounds=150)],
    ids=["natural gradient", "ewc"],
)
@pytest.mark.parametrize("kind", ["Hessian", "empirical Fisher"])
def test_a_positive_score_means_that_removal_lowers_the_failure_loss(
    spoiled: Spoiled, kind: str, update: PosteriorUpdate, name: str
) -> None:
    if kind == "Hessian":
        curvature = prior_curvature(spoiled.base, spoiled.data, PRIOR)
    else:
        curvature = DenseCurvature.fit(spoiled.base, spoiled.data).damped(PRIOR / 40)
    predicted = spoiled.predicted(curvature, update, name)
    strongest = predicted.abs().argsort(descending=True)[:10]
    assert torch.equal(predicted[strongest] > 0, spoiled.gains[strongest] > 0)
    assert bool((predicted[strongest] > 0).any() and (predicted[strongest] < 0).any())
    assert float(spoiled.gains[int(predicted.argmax())]) > 0.01
    assert int(predicted.argmax()) in spoiled.flipped


def test_linear_influence_with_the_true_hessian_is_the_derivative_of_retraining(spoiled: Spoiled) -> None:
    """The failure loss falls by ε·s(z)·(N + |F|)/N when a share ε of z is taken away."""
    curvature = prior_curvature(spoiled.base, spoiled.data, PRIOR)
    predicted = spoiled.predicted(curvature, NaturalGradient(), "linear") * (40 + len(spoiled.failures)) / 40
    for position in [*predicted.abs().argsort(descending=True)[:3].tolist(), 5]:
        share = torch.zeros(40, dtype=torch.float64)
        share[position] = 1e-4
        less, more = (
            with_prior_mode(spoiled.base, spoiled.data, PRIOR, 1 + sign * share) for sign in (-1, 1)
        )
        gain = less.log_likelihoods(spoiled.failures).sum() - more.log_likelihoods(spoiled.failures).sum()
        assert_equal(gain / 2e-4, predicted[position], 1e-6)


# Weight decay.


@dataclass(frozen=True)
class Decayed:
    """A converged convex model trained with weight decay on some wrong labels, and its failures.

    `gains` is by how much their loss is lower where the model is trained again, with the same decay of the mean loss,
    without each of the first examples, and `shares` the slopes of that by a share of an example.
    """

    base: TrainedModel
    updated: TrainedModel
    data: Examples
    failures: Examples
    gains: Tensor
    shares: dict[int, Tensor]

    def predicted(self, name: str, **options: float) -> Tensor:
        """In units of the loss that falls when all of an example goes."""
        investigation = Investigation(self.base, self.updated, self.data)
        harm = torch.from_numpy(influence_scores(investigation, name, **options))
        return harm * (len(self.data) + len(self.failures)) / len(self.data)


COUNT, LEFT_OUT, DECAY = 240, 60, 3.0


@pytest.fixture(scope="module")
def decayed() -> Decayed:
    data, _ = blobs(COUNT, flipped=0.05, seed=3)
    network = make_network("linear", (2,), 2, seed=0, bias=True).double()

    def trained(weights: Tensor) -> TrainedModel:
        """At the minimum of Σ w (−log p + α/2·‖θ‖²)."""
        model = TrainedModel(network, Softmax(), device="cpu")
        return with_prior_mode(model, data, DECAY * float(weights.sum()), weights)

    everything = torch.ones(COUNT, dtype=torch.float64)
    base = trained(everything)
    clean, _ = blobs(300, seed=4)
    failures = clean.subset(base.correct(clean).numpy() == 0)

    def loss(weights: Tensor) -> Tensor:
        return -trained(weights).log_likelihoods(failures).sum()

    units = torch.eye(COUNT, dtype=torch.float64)
    gains = torch.stack([loss(everything) - loss(everything - unit) for unit in units[:LEFT_OUT]])
    shares = {
        position: (loss(everything + 1e-4 * units[position]) - loss(everything - 1e-4 * units[position]))
        / 2e-4
        for position in (0, 7, 31, 58)
    }
    curvature = DenseCurvature(negative_hessian(base, data) / COUNT, DECAY)
    inserted = NaturalGradient().insert(base, failures, curvature=curvature, count=COUNT)
    return Decayed(base, inserted.model, data, failures, gains, shares)


def test_linear_influence_with_weight_decay_is_the_derivative_of_retraining(decayed: Decayed) -> None:
    predicted = decayed.predicted("linear", weight_decay=DECAY)
    for position, slope in decayed.shares.items():
        assert_equal(predicted[position], slope, 1e-6)
    # The slope of the objective is 0 at its minimum, whatever the failures are.
    assert abs(float(predicted.sum())) < 1e-9


def test_with_weight_decay_the_sign_of_a_score_is_that_of_leaving_the_example_out(decayed: Decayed) -> None:
    predicted, gains = decayed.predicted("linear", weight_decay=DECAY)[:LEFT_OUT], decayed.gains
    # What is left of the second order.
    assert float((predicted - gains).abs().max()) < 10 / COUNT * float(gains.abs().max())
    telling = gains.abs() > 0.05 * gains.abs().max()
    assert int(telling.sum()) > 30
    assert torch.equal(predicted[telling] > 0, gains[telling] > 0)
    # Without its share of the penalty all are off by the same, and many have the other sign.
    ignorant = decayed.predicted("linear")[:LEFT_OUT]
    off = ignorant - predicted
    assert_equal(off, off[0].expand(LEFT_OUT), 1e-9)
    assert float(off[0].abs()) > 0.5 * float(gains.std())
    assert int(((ignorant > 0) != (gains > 0))[telling].sum()) > 5


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_linear_is_the_first_order_of_the_loss_change_with_weight_decay(decay: float) -> None:
    base, examples = make_model(), make_examples()
    direction = torch.from_numpy(np.random.default_rng(0).normal(size=len(base.parameter_vector)))
    for size in (1e-4, 1e-5):
        updated = base.with_parameter_vector(base.parameter_vector + size * direction)
        investigation = Investigation(base, updated, examples)
        change, linear = (
            influence_scores(investigation, name, weight_decay=decay) for name in ("loss-change", "linear")
        )
        np.testing.assert_allclose(change / size, linear / size, rtol=0, atol=50 * size)


# Signals of training alone.


def test_loss_by_hand() -> None:
    network = nn.Linear(2, 2, bias=False).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    examples = Examples(np.array([[math.log(3), 0.0], [0.0, 0.0]]), np.array([1, 0]))
    model = TrainedModel(network, Softmax(), device="cpu")
    assert scores(model, model, examples, "loss").tolist() == pytest.approx([math.log(4), math.log(2)])
    attributes = Examples(examples.inputs, np.array([[0.0, 1.0], [1.0, 1.0]]))
    model = TrainedModel(network, Sigmoid(), device="cpu")
    assert scores(model, model, attributes, "loss").tolist() == pytest.approx([math.log(8), math.log(4)])


def test_margin_is_minus_the_mean_over_the_epochs_of_training() -> None:
    # The untrained network's row says nothing about the examples and does not count.
    margins = np.array([[100, 100, 100], [1, -1, 0.5], [3, -4, 0.5]], dtype=np.float32)
    model, examples = make_model(), make_examples(count=3)
    harm = influence_scores(Investigation(model, model, examples, margins), "margin")
    np.testing.assert_allclose(harm, [-2, 2.5, -0.5], rtol=1e-15)
    assert harm.dtype == np.float64


def test_margins_that_were_not_recorded_are_missed() -> None:
    model, examples = make_model(), make_examples()
    with pytest.raises(RepairError, match="the margin score needs the margins of every training epoch"):
        influence_scores(Investigation(model, model, examples), "margin")


def test_no_score_is_nought() -> None:
    model, examples = make_model(), make_examples()
    assert scores(model, model, examples, "none").tolist() == [0] * 23


def test_random_scores_know_nothing_and_are_a_function_of_the_seed() -> None:
    model, examples = make_model(), make_examples(count=40)
    first, again, other = (
        influence_scores(Investigation(model, model, examples, seed=seed), "random") for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= -0.5
    assert first.max() < 0.5


@pytest.mark.parametrize("name", ["gram", "diagonal", "block", "kfac", "ekfac", "hessian", "identity"])
@pytest.mark.parametrize("batch_size", [4, 500])
def test_self_influence_is_that_of_dense_matrices(name: str, batch_size: int) -> None:
    model, examples = make_model(batch_size=batch_size), make_examples(count=20)
    curvature = fit_curvature(name, model, examples).damped(0.5)
    rows = per_example_gradients(model, examples)
    expected = (rows * curvature.solve(rows.T).T).sum(1)
    assert_equal(curvature.self_influences(model, examples), expected, 1e-9)
    effects = own_effects(model, examples, curvature)
    assert_equal(torch.from_numpy(effects), expected / 21, 1e-9)
    found = influence_scores(Investigation(model, model, examples, own_effects=effects), "self-influence")
    assert np.array_equal(found, effects)


@pytest.mark.parametrize("damping", [0.5, 1e-16])
@pytest.mark.parametrize("network", ["normalised", "lenet5"])
def test_self_influence_in_an_eigenbasis_is_that_of_solutions(network: str, damping: float) -> None:
    """Of convolutions and of what has a diagonal alone; with little damping, where the bases' rounding shows, too."""
    model, examples = make_model(network), make_examples(network, count=6)
    curvature = fit_curvature("ekfac", model, examples).damped(damping)
    if damping < 1e-3:
        with pytest.raises(RepairError, match="singular to working precision"):
            curvature.self_influences(model, examples)
        return
    rows = per_example_gradients(model, examples)
    expected = (rows * curvature.solve(rows.T).T).sum(1)
    assert_equal(curvature.self_influences(model, examples), expected, 1e-9)


def test_self_influence_of_the_full_matrix_is_the_closed_form() -> None:
    model, examples = make_model(), make_examples(count=20)
    rows = per_example_gradients(model, examples)
    matrix = 0.01 * torch.eye(rows.shape[1], dtype=torch.float64) + rows.T @ rows / 20
    expected = (rows * torch.linalg.solve(matrix, rows.T).T).sum(1)
    fitted = fit_curvature("gram", model, examples)
    assert_equal(fitted.damped(0.01).self_influences(model, examples), expected, 1e-8)
    pairs = fit_curvature("gram", model, examples, minibatch=2).damped(0.01)
    summed = rows.view(10, 2, -1).sum(1)
    matrix = 0.01 * torch.eye(rows.shape[1], dtype=torch.float64) + summed.T @ summed / 20
    expected = (rows * torch.linalg.solve(matrix, rows.T).T).sum(1)
    assert_equal(pairs.self_influences(model, examples), expected, 1e-8)


def test_own_effects_that_were_not_computed_are_missed() -> None:
    with pytest.raises(RepairError, match="needs each training example's own effect"):
        influence_scores(Investigation(make_model(), make_model(), make_examples()), "self-influence")


def test_folds_are_even_in_every_class() -> None:
    labels = np.random.default_rng(0).integers(4, size=83)
    folds = balanced_folds(labels, 5, seed=1)
    sizes = np.array([[(folds[labels == c] == fold).sum() for fold in range(5)] for c in range(4)])
    assert (np.ptp(sizes, axis=1) <= 1).all()
    assert np.ptp(sizes.sum(0)) <= 1
    assert not np.array_equal(folds, balanced_folds(labels, 5, seed=2))


def test_confident_learning_passes_cleanlabs_numbers_through() -> None:
    examples, wrong = blobs(60, flipped=0.2, seed=3)

    def fresh() -> TrainedModel:
        return TrainedModel(
            make_network("linear", (2,), 2, seed=5, bias=True).double(), Softmax(), device="cpu"
        )

    model = fresh()
    investigation = Investigation(model, model, examples, fresh=fresh, seed=1)
    options = {"folds": 3, "learning_rate": 0.1, "epochs": 5}
    found = influence_scores(investigation, "confident-learning", **options)
    chances = ConfidentLearning(**options).out_of_fold(investigation)
    folds = balanced_folds(examples.targets, 3, seed=1)
    for fold in range(3):
        again = fresh()
        train(
            again,
            examples.subset(folds != fold),
            Descent(learning_rate=0.1, rounds=5),
            batch_size=64,
            seed=1,
            description=f"training without fold {fold + 1} of 3",
        )
        held_out = again.outputs(examples.subset(folds == fold)).softmax(1)
        assert_equal(torch.from_numpy(chances[folds == fold]), held_out, 1e-12)
    quality = cleanlab.rank.get_label_quality_scores(examples.targets, chances, method="normalized_margin")
    assert np.array_equal(found, 0.5 - quality)
    given = chances[np.arange(60), examples.targets]
    assert np.array_equal(found > 0, given < 0.5), "positive where the other class is likelier"
    assert found[wrong].mean() > found.mean()


def test_confident_learning_says_what_it_cannot_do() -> None:
    model, examples = make_model(), make_examples()
    with pytest.raises(RepairError, match="there is no way to make one: give the investigation a function"):
        influence_scores(Investigation(model, model, examples), "confident-learning")
    investigation = Investigation(model, model, examples.subset([0, 1]), fresh=model.copy)
    with pytest.raises(RepairError, match="2 training examples cannot be cut into 5 folds: use fewer folds"):
        influence_scores(investigation, "confident-learning")
    several = Investigation(model, model, make_examples("mlp", "sigmoid"), fresh=model.copy)
    with pytest.raises(RepairError, match="needs examples with one class each"):
        influence_scores(several, "confident-learning")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["linear", "loss", "loss-change", "margin"])
def test_scores_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    model, good = make_model("contraction"), make_examples()
    inputs = good.inputs.copy()
    inputs[[4, 9], 0] = bad
    margins = np.ones((3, 23), dtype=np.float32)
    margins[1, [4, 9]] = bad
    investigation = Investigation(
        model,
        model.with_parameter_vector(model.parameter_vector + 1),
        good if name == "margin" else Examples(inputs, good.targets),
        margins,
    )
    with pytest.raises(RepairError, match=f"2 of 23 {name} scores are NaN .* for training example 4: check"):
        influence_scores(investigation, name)


def test_names_and_options_that_are_not_there() -> None:
    model, examples = make_model(), make_examples()
    investigation = Investigation(model, model, examples)
    with pytest.raises(
        RepairError,
        match=r"no influence score 'shapley': choose one of .*knn-shapley.* or the [0-9]+ others",
    ):
        influence_scores(investigation, "shapley")
    with pytest.raises(RepairError, match="there is no setting damping: there may be score"):
        influence_scores(investigation, "loss", damping=1.0)


def test_every_score_is_an_influence() -> None:
    from modelrepair.influence import INFLUENCES

    assert all(issubclass(member, Influence) for member in INFLUENCES.values())


def test_the_nearest_neighbours_score_is_minus_the_value() -> None:
    model, examples = make_model("mlp"), make_examples("mlp", count=12)
    queries = make_examples("mlp", count=5, seed=3)
    investigation = Investigation(model, model, examples, discovery=queries, failures=queries.subset([1, 4]))
    features = model.network[:-1](examples.batch(slice(None), dtype=torch.float64)[0]).detach().numpy()
    asked = model.network[:-1](queries.batch(slice(None), dtype=torch.float64)[0]).detach().numpy()
    for name, chosen in (("discovery", np.arange(5)), ("failures", np.array([1, 4]))):
        values = np.zeros(12)
        for i in chosen:
            order = np.argsort(((features - asked[i]) ** 2).sum(1), kind="stable")
            same = (examples.targets[order] == queries.targets[i]).astype(float)
            value = same[-1] * min(3, 12) / (3 * 12)
            values[order[-1]] += value
            for place in range(10, -1, -1):
                value += (same[place] - same[place + 1]) / 3 * min(3, place + 1) / (place + 1)
                values[order[place]] += value
        found = influence_scores(investigation, "knn-shapley", neighbours=3, queries=name)
        assert found == pytest.approx(-values / len(chosen), abs=1e-12)
    with pytest.raises(RepairError, match="asks what helps to answer the failures, and there are none"):
        influence_scores(Investigation(model, model, examples), "knn-shapley")
    attributes = make_examples("mlp", "sigmoid")
    several = Investigation(make_model("mlp", "sigmoid"), model, attributes, failures=attributes)
    with pytest.raises(RepairError, match="needs examples with one class each"):
        influence_scores(several, "knn-shapley")
