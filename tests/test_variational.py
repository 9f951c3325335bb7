"""The variational update against exact posteriors and closed forms, and expectations over what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

import modelrepair.posterior.variational
from mean_field_cases import BASE, CURVATURE, DATA, FAILURES, PRIOR, MortalCheckpoint, N, exact
from modelrepair.curvature import fit_curvature
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import ElasticWeightConsolidation, Variational
from modelrepair.training.descent import Course, Oversight
from modelrepair.uncertainty.mean_field import (
    MeanField,
    expected_log_likelihood_change,
    gaussian_divergence,
    load_precisions,
    save_precisions,
)
from models import (
    assert_equal,
    linear_gaussian,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    prior_curvature,
    state_bytes,
    union,
    with_prior_mode,
)

FIT = Variational(learning_rate=0.01, rounds=400, bounded=False)
START = MeanField(BASE, N * CURVATURE.whole.diagonal())


def normal(mean: Tensor, deviation: Tensor) -> Independent:
    return Independent(Normal(mean, deviation), 1)


# The objective.


def test_the_divergence_is_that_of_torch() -> None:
    draw = np.random.default_rng(0)
    mean, prior_mean, log_deviation = (torch.from_numpy(draw.normal(size=7)) for _ in range(3))
    precision = torch.from_numpy(draw.uniform(0.1, 10, 7))
    found = gaussian_divergence(mean, log_deviation, prior_mean, precision)
    expected = kl_divergence(normal(mean, log_deviation.exp()), normal(prior_mean, precision.rsqrt()))
    assert_equal(found, expected, 1e-13)
    nothing = gaussian_divergence(mean, log_deviation, mean, (-2 * log_deviation).exp())
    assert abs(float(nothing)) < 1e-14


@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_it_climbs_its_objective_and_no_other(
    monkeypatch: pytest.MonkeyPatch, bounded: bool, temperature: float
) -> None:
    """Value and slope of (1/m)[Σ wᵢ mean over ±ε of log p(zᵢ | μ ± σε) − T·KL] away from p₀, by plain autograd."""
    model, examples = make_model(), make_examples(count=30)
    evidence, weights = examples.subset(np.arange(12)), np.where(np.arange(12) < 7, -1.0, 0.5)
    draw = np.random.default_rng(1)
    d = len(model.parameter_vector)
    held = MeanField(model, torch.from_numpy(draw.uniform(1, 20, d)))
    mean = (model.parameter_vector + torch.from_numpy(0.3 * draw.normal(size=d))).requires_grad_()
    log_deviation = (held.deviation.log() + 0.2).requires_grad_()
    found: list[Any] = []

    def catch(family: TrainedModel, losses: Any, descent: Any, **options: Any) -> Course:
        values = {f"network.{name}": piece.detach() for name, piece in model.split(mean.detach()).items()} | {
            "log_deviation": log_deviation.detach()
        }
        with torch.no_grad():
            for name, parameter in family.parameters.items():
                parameter.copy_(values[name])
        (loss,) = losses(3)
        slopes = dict(
            zip(family.parameters, torch.autograd.grad(loss, list(family.parameters.values())), strict=True)
        )
        own = slopes.pop("log_deviation")
        found.extend([loss.detach(), torch.cat([slope.flatten() for slope in slopes.values()]), own])
        return Course([], 0, {})

    monkeypatch.setattr(modelrepair.posterior.variational, "minimise", catch)
    update = Variational(samples=2, batch_size=100, bounded=bounded, temperature=temperature)
    update.carry_on(held, evidence, weights, seed=5)

    noises = torch.from_numpy(generator(5, "variational noise, round 3").standard_normal((2, d)))
    inputs, targets = evidence.batch(slice(None), dtype=torch.float64)
    values, forgotten = [], 0
    for noise in (*noises, *-noises):
        outputs = model.outputs_at(model.split(mean + log_deviation.exp() * noise), inputs)
        value = outputs.log_softmax(1)[torch.arange(12), targets]
        low = (value < -np.log(3)) & (torch.from_numpy(weights) < 0)
        forgotten += int(low.sum())
        values.append(torch.where(low & bounded, -np.log(3), value))
    q, p = normal(mean, log_deviation.exp()), normal(model.parameter_vector, held.deviation)
    expected = temperature * kl_divergence(q, p) - torch.from_numpy(weights) @ torch.stack(values).mean(0)
    expected = expected / 12
    assert 0 < forgotten < 4 * 7, "the bound must make a difference"
    assert_equal(found[0], expected.detach(), 1e-12)
    for slope, wanted in zip(found[1:], torch.autograd.grad(expected, [mean, log_deviation]), strict=True):
        assert_equal(slope, wanted, 1e-12)


# Exact posteriors.


@pytest.mark.parametrize("sign", [1, -1], ids=["insert", "delete"])
def test_on_a_linear_gaussian_model_the_mean_is_that_of_bayes_rule(sign: int) -> None:
    """Pairs of noises leave the gradient by μ of a quadratic without noise, so it is exact; σ is to a few percent."""
    causes = np.array([3, 8, 21, 22, 39])
    evidence = FAILURES if sign > 0 else DATA.subset(causes)
    everything = union(DATA, FAILURES) if sign > 0 else DATA.subset(np.setdiff1d(np.arange(N), causes))
    mode, precision = exact(everything)
    update = FIT.model_copy(update={"samples": 10})
    edited = update.edit(
        BASE, evidence, np.full(len(evidence), float(sign)), curvature=CURVATURE, count=N, seed=1
    )
    assert edited.gaussians is not None
    before, after = edited.gaussians
    assert_equal(before.precision, exact(DATA)[1])
    assert_equal(edited.model.parameter_vector, mode, 1e-6)
    assert float((before.deviation / after.deviation).log().abs().max()) > 0.1
    assert_equal(after.deviation, precision.rsqrt(), 0.05)


def test_where_parameters_depend_on_each_other_it_is_the_mean_field_posterior() -> None:
    """The best N(μ, diag σ²) has the exact mean, and 1/σⱼ² = Λⱼⱼ of the full precision (Bishop 2006, Eq. 10.12)."""
    near = linear_gaussian(6, seed=1)[1]
    # What the first two features say is nearly the same.
    evidence = Examples(
        np.hstack([2 * near.inputs[:, :1], 2 * near.inputs[:, :1] + 0.1, near.inputs[:, 2:]]), near.targets
    )
    inputs, targets = (torch.from_numpy(array) for array in (evidence.inputs, evidence.targets[:, 0]))
    full = START.precision.diag() + inputs.T @ inputs
    mode = torch.linalg.solve(full, START.precision * BASE.parameter_vector + inputs.T @ targets)
    held = FIT.model_copy(update={"samples": 10}).carry_on(START, evidence, np.ones(6))
    assert_equal(held.model.parameter_vector, mode, 1e-6)
    assert_equal(held.precision, full.diagonal(), 0.1)
    assert float((1 / torch.linalg.inv(full).diagonal() / full.diagonal() - 1).abs().max()) > 0.15


@pytest.mark.parametrize("by_hand", [True, False])
def test_a_chain_of_repairs_is_one_repair(by_hand: bool) -> None:
    if by_hand:
        held = FIT.carry_on(START, FAILURES.subset([0, 1, 2]), np.ones(3))
        held = FIT.carry_on(held, FAILURES.subset([3, 4, 5]), np.ones(3))
    else:
        held = FIT.model_copy(update={"batches": 2}).carry_on(START, FAILURES, np.ones(6))
    mode, precision = exact(union(DATA, FAILURES))
    # The noise of the first σ is in the second μ.
    assert_equal(held.model.parameter_vector, mode, 0.02)
    assert_equal(held.precision, precision, 0.2)


def test_a_cold_posterior_is_elastic_weight_consolidation() -> None:
    model, examples = make_model(), make_examples(count=30)
    curvature = fit_curvature("diagonal", model, examples).damped(0.1)
    how: dict[str, Any] = {"curvature": curvature, "count": 30, "seed": 2}
    options: dict[str, Any] = {"learning_rate": 0.01, "rounds": 20, "batch_size": 5}
    evidence = examples.subset(np.arange(10))
    climbed = ElasticWeightConsolidation(**options).delete(model, evidence, **how).model.parameter_vector
    moved = climbed - model.parameter_vector
    errors = []
    for temperature in (1.0, 1e-4, 1e-12):
        cold = Variational(**options, temperature=temperature).delete(model, evidence, **how)
        errors.append(float((cold.model.parameter_vector - climbed).norm() / moved.norm()))
    assert errors[0] > 0.2
    assert errors[2] < 1e-4 < errors[1] < 0.2 * errors[0]


# Progress, and what cannot be.


@pytest.mark.parametrize(("batches", "saves"), [(1, 2), (2, 1), (2, 5), (2, 7)])
def test_it_is_a_function_of_its_seed_and_goes_on_after_a_kill_to_the_byte(
    tmp_path: Path, batches: int, saves: int
) -> None:
    update = Variational(learning_rate=0.01, rounds=5, batch_size=2, batches=batches)

    def edit(checkpoint: MortalCheckpoint | None, seed: int = 3) -> tuple[dict[str, bytes], bytes]:
        oversight = Oversight(checkpoint=checkpoint)
        edited = update.insert(BASE, FAILURES, curvature=CURVATURE, count=N, seed=seed, oversight=oversight)
        assert edited.gaussians is not None
        return state_bytes(edited.model), edited.gaussians[1].precision.numpy().tobytes()

    before = state_bytes(BASE)
    expected = edit(None)
    assert state_bytes(BASE) == before
    with pytest.raises(SystemExit):
        edit(MortalCheckpoint(tmp_path, saves))
    rest = MortalCheckpoint(tmp_path, 5 * batches - saves)
    assert edit(rest) == expected
    assert rest.left == 0
    assert edit(None, seed=4)[0] != expected[0]


@pytest.mark.parametrize("network", ["normalised", "tied", "frozen", "channels-last"])
def test_networks_of_all_kinds(network: str) -> None:
    model, examples = make_model(network), make_examples(network)
    curvature = fit_curvature("diagonal", model, examples).damped(0.1)
    edited = Variational(rounds=2).insert(model, examples, curvature=curvature, count=23)
    assert edited.gaussians is not None
    assert float((edited.model.parameter_vector - model.parameter_vector).abs().max()) > 1e-4
    assert float((edited.gaussians[1].precision / edited.gaussians[0].precision - 1).abs().max()) > 1e-4


def test_a_watched_edit_walks_in_a_straight_line_to_the_mean() -> None:
    update = Variational(rounds=3, points=4)
    how: dict[str, Any] = {"curvature": CURVATURE, "count": N}
    whole = update.insert(BASE, FAILURES, **how).model.parameter_vector - BASE.parameter_vector
    values = iter([0.0, 1.0, 5.0, 2.0, 1.0])
    watched = update.insert(BASE, FAILURES, oversight=Oversight(watch=lambda model: next(values)), **how)
    assert watched.best_round == 2
    assert_equal(watched.model.parameter_vector, BASE.parameter_vector + 0.5 * whole, 1e-12)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"evidence": DATA.subset([]), "weights": np.ones(0)}, "there is no evidence to insert or delete"),
        ({"weights": np.ones(2)}, "weights of shape .2,.* for 6 examples"),
        (
            {"curvature": prior_curvature(BASE, linear_gaussian()[1], PRIOR)},
            "the curvature dense is more than its diagonal, which .*: use the curvature diagonal or identity",
        ),
    ],
)
def test_what_it_refuses(how: dict[str, Any], message: str) -> None:
    given = {"evidence": FAILURES, "weights": np.ones(6), "curvature": CURVATURE, **how}
    with pytest.raises(RepairError, match=message):
        FIT.edit(BASE, **given, count=N)


# Expectations.


def pair(size: float = 0.1) -> tuple[MeanField, MeanField]:
    """Two Gaussians over a linear-Gaussian model."""
    draw = np.random.default_rng(3)
    other = BASE.with_parameter_vector(BASE.parameter_vector + torch.from_numpy(size * draw.normal(size=4)))
    return START, MeanField(other, 2 * START.precision)


def test_the_expected_change_is_the_closed_form_within_its_standard_error() -> None:
    """E_q log p = log p(μ) − ½ Σ xⱼ²σⱼ² for unit noise; half of 40 errors are within 0.67 of theirs."""
    before, after = pair()
    found, errors = expected_log_likelihood_change(before, after, linear_gaussian()[1], samples=100, seed=0)
    examples = linear_gaussian()[1]
    squares = torch.from_numpy(examples.inputs).square()
    exact_change = before.model.log_likelihoods(examples) - after.model.log_likelihoods(examples)
    exact_change = exact_change - 0.5 * squares @ (1 / before.precision - 1 / after.precision)
    standardised = np.abs(found - exact_change.numpy()) / errors
    assert np.median(standardised) < 1.5
    assert standardised.max() < 5
    assert errors.mean() < 0.15 * np.abs(exact_change.numpy()).mean()
    _, more = expected_log_likelihood_change(before, after, examples, samples=400, seed=0)
    assert more.mean() == pytest.approx(errors.mean() / 2, rel=0.15)


def test_the_same_noise_for_both_cancels() -> None:
    """Of a Gaussian and itself nothing changes, whatever is drawn; and what differs little is known well."""
    examples = linear_gaussian()[1]
    found, errors = expected_log_likelihood_change(START, START, examples, samples=3, seed=0)
    np.testing.assert_array_equal([found, errors], 0)


def test_the_standard_error_is_that_of_a_mean_over_pairs() -> None:
    before, after = pair()
    examples = linear_gaussian()[1]
    noises = generator(7, "expectations over the posterior").standard_normal((5, 4))
    rows = []
    for noise in noises:
        changes = [
            before.at(torch.from_numpy(s * noise)).log_likelihoods(examples)
            - after.at(torch.from_numpy(s * noise)).log_likelihoods(examples)
            for s in (1, -1)
        ]
        rows.append(((changes[0] + changes[1]) / 2).numpy())
    found, errors = expected_log_likelihood_change(before, after, examples, samples=5, seed=7)
    np.testing.assert_allclose(found, np.mean(rows, axis=0), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(errors, np.std(rows, axis=0, ddof=1) / np.sqrt(5), rtol=1e-10)


def test_the_score_is_the_expected_change_and_says_how_sure_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    before, after = pair()
    examples = linear_gaussian()[1]
    investigation = Investigation(before.model, after.model, examples, gaussians=(before, after), seed=2)
    found = influence_scores(investigation, "expected-loss-change", samples=6)
    expected, errors = expected_log_likelihood_change(before, after, examples, samples=6, seed=2)
    np.testing.assert_array_equal(found, expected)
    said = capsys.readouterr().out
    assert f"from 6 pairs of draws: mean standard error {errors.mean():.2g} nats" in said
    decayed = influence_scores(investigation, "expected-loss-change", samples=6, weight_decay=0.3)
    draws = normal(after.model.parameter_vector, after.deviation).sample((100_000,)).square().sum(1)
    draws -= normal(before.model.parameter_vector, before.deviation).sample((100_000,)).square().sum(1)
    assert float((decayed - expected).mean()) == pytest.approx(0.15 * float(draws.mean()), abs=0.01)
    with pytest.raises(RepairError, match="averages over a posterior, and the posterior update gave a mode"):
        influence_scores(Investigation(before.model, after.model, examples), "expected-loss-change")


def test_the_score_of_narrow_gaussians_is_the_loss_change() -> None:
    model, examples = make_model(), make_examples()
    other = model.with_parameter_vector(model.parameter_vector + 0.1)
    sure = torch.full_like(model.parameter_vector, 1e16)
    gaussians = MeanField(model, sure), MeanField(other, sure)
    investigation = Investigation(model, other, examples, gaussians=gaussians)
    found = influence_scores(investigation, "expected-loss-change", samples=2)
    np.testing.assert_allclose(found, influence_scores(investigation, "loss-change"), rtol=0, atol=1e-6)


def test_precisions_come_back_from_a_folder(tmp_path: Path) -> None:
    before, after = pair()
    assert load_precisions(tmp_path, before.model, after.model) is None
    save_precisions(tmp_path, before, after)
    found = load_precisions(tmp_path, before.model, after.model)
    assert found is not None
    for saved, given in zip(found, (before, after), strict=True):
        assert torch.equal(saved.precision, given.precision)
        assert saved.model is given.model
    with pytest.raises(RepairError, match=r"a vector of shape \(4,\) was given for the 51 trainable"):
        load_precisions(tmp_path, make_model(), make_model())


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_precision_that_cannot_be(bad: float) -> None:
    precision = START.precision.clone()
    precision[1] = bad
    with pytest.raises(RepairError, match="negative or not finite for 1 of 4 parameters"):
        MeanField(BASE, precision)


def test_the_base_of_these_tests_is_exact() -> None:
    mode, precision = exact(DATA)
    assert_equal(with_prior_mode(BASE, DATA, PRIOR).parameter_vector, mode, 1e-12)
    assert_equal(N * CURVATURE.whole, precision.diag(), 1e-12)
