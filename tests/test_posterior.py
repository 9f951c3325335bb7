"""Posterior updates against closed forms: on a linear-Gaussian model Bayes' rule is exact, and so must they be.

With θ̂ the mode of a posterior of N examples under the prior (α/2)‖θ‖² and F̂ the Hessian of its negative logarithm
divided by N, inserting or deleting evidence gives exactly what training with or without it gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import modelrepair.posterior.ewc
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior import (
    ElasticWeightConsolidation,
    NaturalGradient,
    PosteriorUpdate,
    class_balanced_weights,
    make_update,
)
from modelrepair.training.descent import Course, Oversight
from models import (
    DenseCurvature,
    assert_equal,
    linear_gaussian,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    per_example_gradients,
    prior_curvature,
    state_bytes,
    union,
    with_prior_mode,
)

PRIOR = 2.0
N = 40
UNTRAINED, DATA = linear_gaussian(N, seed=0)
FAILURES = linear_gaussian(6, seed=1)[1]
CAUSES = np.array([3, 8, 21, 22, 39])
REST = np.setdiff1d(np.arange(N), CAUSES)
BASE = with_prior_mode(UNTRAINED, DATA, PRIOR)
CURVATURE = prior_curvature(BASE, DATA, PRIOR)
# Adam converges until its memory of past slopes fades, at about 450 rounds, and its steps grow again.
CLIMB = ElasticWeightConsolidation(learning_rate=0.01, rounds=400, bounded=False)
Update = ElasticWeightConsolidation | NaturalGradient
UPDATES = pytest.mark.parametrize("update", [CLIMB, NaturalGradient()], ids=["ewc", "natural gradient"])
EDITS = pytest.mark.parametrize("sign", [1, -1], ids=["insert", "delete"])


class MortalCurvature(DenseCurvature):
    """That of these tests, and the end of the process when it is used once too often."""

    def __init__(self, products: int) -> None:
        super().__init__(CURVATURE.matrix, CURVATURE.damping)
        self.products_left = products

    def matvec(self, vector: Tensor) -> Tensor:
        if not self.products_left:
            raise SystemExit
        self.products_left -= 1
        return super().matvec(vector)


def displacement(model: TrainedModel, base: TrainedModel = BASE) -> Tensor:
    return model.parameter_vector - base.parameter_vector


def retrained(examples: Examples, prior: float = PRIOR) -> Tensor:
    """θ of ridge regression on these examples, by the normal equations."""
    inputs, targets = examples.inputs, examples.targets
    theta = np.linalg.solve(inputs.T @ inputs + prior * np.eye(inputs.shape[1]), inputs.T @ targets)
    return torch.from_numpy(theta[:, 0])


def captured_losses(
    monkeypatch: pytest.MonkeyPatch, update: PosteriorUpdate, model: TrainedModel, *arguments: Any, **how: Any
) -> tuple[TrainedModel, Callable[[int], Iterator[Tensor]]]:
    """The network that the update would move, and the losses down which it would."""
    caught: list[Any] = []

    def catch(model: TrainedModel, losses: Any, descent: Any, **options: Any) -> Course:
        caught.extend([model, losses])
        return Course([], 0, {})

    monkeypatch.setattr(modelrepair.posterior.ewc, "minimise", catch)
    update.edit(model, *arguments, **how)
    return caught[0], caught[1]


def move(model: TrainedModel, vector: Tensor) -> None:
    """Put the model's own network at this θ."""
    with torch.no_grad():
        for parameter, piece in zip(model.parameters.values(), model.split(vector).values(), strict=True):
            parameter.copy_(piece)


def slope_of(model: TrainedModel, loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(model.parameters.values()))
    return torch.cat([gradient.flatten() for gradient in gradients])


def shortened(update: Update, points: int = 20) -> Update:
    """The update where only its way matters, not its end."""
    if isinstance(update, ElasticWeightConsolidation):
        return update.model_copy(update={"rounds": 3, "points": points})
    return update.model_copy(update={"points": points})


# Exactness where theory is exact.


def test_the_base_of_these_tests_is_ridge_regression() -> None:
    assert_equal(BASE.parameter_vector, retrained(DATA), 1e-12)
    inputs = torch.from_numpy(DATA.inputs)
    expected = (inputs.T @ inputs + PRIOR * torch.eye(4, dtype=torch.float64)) / N
    assert_equal(CURVATURE.whole, expected, 1e-13)


@EDITS
def test_ewc_on_a_quadratic_likelihood_is_training_with_or_without_the_evidence(sign: int) -> None:
    evidence = FAILURES if sign > 0 else DATA.subset(CAUSES)
    edit = CLIMB.insert if sign > 0 else CLIMB.delete
    edited = edit(BASE, evidence, curvature=CURVATURE, count=N)
    expected = retrained(union(DATA, FAILURES) if sign > 0 else DATA.subset(REST))
    assert float(displacement(BASE.with_parameter_vector(expected)).abs().max()) > 0.02
    assert_equal(edited.model.parameter_vector, expected, 1e-8)


@EDITS
@pytest.mark.parametrize("damping", [0.05, 1.0])
def test_ewc_ends_at_the_closed_form_for_any_curvature(sign: int, damping: float) -> None:
    evidence = FAILURES if sign > 0 else DATA.subset(CAUSES)
    fisher = fit_curvature("gram", BASE, DATA).damped(damping)
    edited = CLIMB.edit(BASE, evidence, np.full(len(evidence), float(sign)), curvature=fisher, count=N)
    inputs, targets = (torch.from_numpy(a) for a in (evidence.inputs, evidence.targets))
    gradients = per_example_gradients(BASE, DATA)
    stiffness = (
        gradients.T @ gradients + N * damping * torch.eye(4, dtype=torch.float64) + sign * inputs.T @ inputs
    )
    assert float(torch.linalg.eigvalsh(stiffness).min()) > 1, "the objective has a maximum"
    residuals = targets[:, 0] - inputs @ BASE.parameter_vector
    expected = torch.linalg.solve(stiffness, sign * inputs.T @ residuals)
    assert_equal(displacement(edited.model), expected, 1e-8)


@EDITS
@pytest.mark.parametrize("likelihood", ["gaussian", "softmax"])
def test_ewc_ends_at_the_fixed_point(sign: int, likelihood: str) -> None:
    """δ = ±N⁻¹F̂⁻¹∇log p(F | θ̂ + δ), Tanno et al. 2022, Eq. 14."""
    model, examples = make_model("mlp", likelihood), make_examples("mlp", likelihood, count=30)
    evidence = (
        examples.subset([0, 4, 9, 17]) if sign < 0 else make_examples("mlp", likelihood, count=5, seed=9)
    )
    fisher = fit_curvature("gram", model, examples).damped(0.5)
    edited = CLIMB.edit(model, evidence, np.full(len(evidence), float(sign)), curvature=fisher, count=30)
    delta = displacement(edited.model, model)
    assert float(delta.abs().max()) > 0.02
    implied = sign * fisher.solve(edited.model.weighted_gradient(evidence)) / 30
    assert_equal(delta, implied, 1e-9)


@pytest.mark.parametrize("causes", [CAUSES[:1], CAUSES, np.arange(0, N, 2)], ids=["one", "five", "half"])
def test_ssse_with_the_true_hessian_of_the_rest_is_retraining(causes: np.ndarray[Any, Any]) -> None:
    """Peste et al. 2021, Eq. 4: exact for a quadratic loss, with ε = 1."""
    rest = DATA.subset(np.setdiff1d(np.arange(N), causes))
    hessian = prior_curvature(BASE, rest, PRIOR)
    edited = NaturalGradient(epsilon=1.0).delete(BASE, DATA.subset(causes), curvature=hessian, count=N)
    assert_equal(edited.model.parameter_vector, retrained(rest), 1e-10)


def test_a_newton_insertion_with_the_true_hessian_of_all_is_retraining() -> None:
    everything = union(DATA, FAILURES)
    hessian = prior_curvature(BASE, everything, PRIOR)
    edited = NaturalGradient().insert(BASE, FAILURES, curvature=hessian, count=N)
    assert_equal(edited.model.parameter_vector, retrained(everything), 1e-10)


def test_weight_decay_is_retraining_where_every_example_carries_its_share_of_the_penalty() -> None:
    """Both gradients of Peste et al. 2021, section 5.3, for a mean loss with the penalty α/2·‖θ‖²."""
    decay = 0.3
    trained = with_prior_mode(UNTRAINED, DATA, decay * N)
    rest, causes = DATA.subset(REST), DATA.subset(CAUSES)
    hessian = prior_curvature(trained, rest, decay * len(rest))
    expected = retrained(rest, decay * len(rest))
    how: dict[str, Any] = {"curvature": hessian, "count": N, "kept": rest}
    for gradient in ("removed", "kept"):
        update = NaturalGradient(gradient=gradient, weight_decay=decay)
        assert_equal(update.delete(trained, causes, **how).model.parameter_vector, expected, 1e-10)
    # What stays also makes up for training that was not finished, in one step if the loss is quadratic.
    unfinished = trained.with_parameter_vector(trained.parameter_vector + 1)
    update = NaturalGradient(gradient="kept", weight_decay=decay)
    assert_equal(update.delete(unfinished, causes, **how).model.parameter_vector, expected, 1e-10)
    with pytest.raises(RepairError, match="gradient: kept needs the training examples that are kept"):
        update.delete(trained, causes, curvature=hessian, count=N)


@pytest.mark.parametrize("epsilon", [1.0, 0.3])
@EDITS
def test_natural_gradient_is_equation_8_computed_densely(sign: int, epsilon: float) -> None:
    model, examples = make_model(), make_examples(count=30)
    evidence = examples.subset([0, 4, 9, 17])
    fisher = fit_curvature("gram", model, examples).damped(0.01)
    edit = NaturalGradient(epsilon=epsilon).insert if sign > 0 else NaturalGradient(epsilon=epsilon).delete
    edited = edit(model, evidence, curvature=fisher, count=30)

    gradients = per_example_gradients(model, examples)
    dense = gradients.T @ gradients / 30 + 0.01 * torch.eye(gradients.shape[1], dtype=torch.float64)
    loss_gradient = -per_example_gradients(model, evidence).sum(dim=0)
    step = -sign * epsilon / (30 + sign * 4) * torch.linalg.solve(dense, loss_gradient)
    assert_equal(displacement(edited.model, model), step, 1e-11)


# The weight of the evidence.


@pytest.mark.parametrize("times", [2, 5])
def test_evidence_seen_several_times_counts_several_times(times: int) -> None:
    """Maximising the mean over F needs the penalty N/(2|F|): without |F|, copies of F would change nothing."""
    copies = FAILURES.subset(np.tile(np.arange(len(FAILURES)), times))
    inserted = CLIMB.insert(BASE, copies, curvature=CURVATURE, count=N).model.parameter_vector
    data = DATA
    for _ in range(times):
        data = union(data, FAILURES)
    assert_equal(inserted, retrained(data), 1e-8)
    once = retrained(union(DATA, FAILURES))
    assert float((inserted - once).norm()) > 0.3 * float((once - BASE.parameter_vector).norm())


@UPDATES
def test_a_weight_of_two_is_an_example_seen_twice(update: PosteriorUpdate) -> None:
    weights = np.array([2.0, 1, 1, 2, 1, 1])
    doubled = FAILURES.subset([0, 0, 1, 2, 3, 3, 4, 5])
    weighted = update.insert(BASE, FAILURES, weights, curvature=CURVATURE, count=N)
    repeated = update.insert(BASE, doubled, curvature=CURVATURE, count=N)
    assert_equal(weighted.model.parameter_vector, repeated.model.parameter_vector, 1e-8)


def test_inserting_and_deleting_at_once_is_training_on_what_is_left() -> None:
    evidence = union(DATA.subset(CAUSES), FAILURES)
    weights = np.concatenate([-np.ones(len(CAUSES)), np.ones(len(FAILURES))])
    expected = retrained(union(DATA.subset(REST), FAILURES))
    edited = CLIMB.edit(BASE, evidence, weights, curvature=CURVATURE, count=N)
    assert_equal(edited.model.parameter_vector, expected, 1e-8)
    hessian = prior_curvature(BASE, union(DATA.subset(REST), FAILURES), PRIOR)
    stepped = NaturalGradient().edit(BASE, evidence, weights, curvature=hessian, count=N)
    assert_equal(stepped.model.parameter_vector, expected, 1e-10)


def test_class_balanced_weights() -> None:
    examples = Examples(np.zeros((6, 1)), np.array([3, 3, 3, 3, 8, 8]))
    np.testing.assert_allclose(class_balanced_weights(examples), [0.75] * 4 + [1.5] * 2, rtol=1e-15)
    attributes = Examples(np.zeros((3, 1)), np.ones((3, 2)))
    np.testing.assert_array_equal(class_balanced_weights(attributes), np.ones(3))


# Insertion and deletion are one operation.


@UPDATES
def test_deleting_is_inserting_with_the_sign_turned(update: PosteriorUpdate) -> None:
    evidence = DATA.subset(CAUSES)
    how: dict[str, Any] = {"curvature": CURVATURE, "count": N, "seed": 3}
    ones = np.ones(len(evidence))
    weights = np.linspace(0.5, 1.5, len(evidence))
    update = shortened(update)
    for done, edited in (
        (update.delete(BASE, evidence, **how), update.edit(BASE, evidence, -ones, **how)),
        (update.insert(BASE, evidence, **how), update.edit(BASE, evidence, ones, **how)),
        (update.delete(BASE, evidence, weights, **how), update.edit(BASE, evidence, -weights, **how)),
        (update.insert(BASE, evidence, weights, **how), update.edit(BASE, evidence, weights, **how)),
    ):
        assert state_bytes(done.model) == state_bytes(edited.model)
        assert (done.trace, done.best_round) == (edited.trace, edited.best_round)


def test_what_is_inserted_by_ewc_can_be_deleted_again() -> None:
    inserted = CLIMB.insert(BASE, FAILURES, curvature=CURVATURE, count=N).model
    assert float(displacement(inserted).abs().max()) > 0.05
    both = prior_curvature(inserted, union(DATA, FAILURES), PRIOR)
    deleted = CLIMB.delete(inserted, FAILURES, curvature=both, count=N + len(FAILURES)).model
    assert_equal(deleted.parameter_vector, BASE.parameter_vector, 1e-8)


def test_what_is_inserted_by_a_newton_step_can_be_deleted_again() -> None:
    both = prior_curvature(BASE, union(DATA, FAILURES), PRIOR)
    inserted = NaturalGradient().insert(BASE, FAILURES, curvature=both, count=N).model
    assert float(displacement(inserted).abs().max()) > 0.05
    deleted = NaturalGradient().delete(inserted, FAILURES, curvature=CURVATURE, count=N + len(FAILURES)).model
    assert_equal(deleted.parameter_vector, BASE.parameter_vector, 1e-10)


# Eq. 17 as printed, and bounded.


@pytest.mark.parametrize("bounded", [True, False])
def test_ewc_climbs_its_objective_and_no_other(monkeypatch: pytest.MonkeyPatch, bounded: bool) -> None:
    """Value and slope of (1/m)[Σ wᵢ log p(zᵢ | θ) − (N/2) δᵀF̂δ] at points away from θ̂, computed densely."""
    model, examples = make_model(), make_examples(count=30)
    evidence, weights = examples.subset(np.arange(12)), np.where(np.arange(12) < 7, -1.0, 0.5)
    curvature = DenseCurvature.fit(model, examples).damped(0.1)
    update = ElasticWeightConsolidation(batch_size=100, bounded=bounded)
    moving, losses = captured_losses(
        monkeypatch, update, model, evidence, weights, curvature=curvature, count=30
    )
    draw = np.random.default_rng(0)
    counted_all = []
    for size in (0.0, 0.1, 1.0):
        delta = torch.from_numpy(size * draw.normal(size=len(model.parameter_vector)))
        point = model.with_parameter_vector(model.parameter_vector + delta)
        move(moving, point.parameter_vector)
        (loss,) = losses(1)
        values = point.log_likelihoods(evidence)
        forgotten = (values < -math.log(3)) & (torch.from_numpy(weights) < 0) & bounded
        counted_all.append(not forgotten.any())
        counted = torch.where(forgotten, -math.log(3), values)
        penalty = 15 * delta @ curvature.whole @ delta
        expected = (penalty - torch.from_numpy(weights) @ counted) / 12
        assert_equal(loss.detach(), expected, 1e-12)
        pull = torch.from_numpy(weights * ~forgotten.numpy()) @ per_example_gradients(point, evidence)
        assert_equal(slope_of(moving, loss), (30 * curvature.whole @ delta - pull) / 12, 1e-12)
    assert all(counted_all) != bounded, "the bound must come into play where it is asked for"


@pytest.mark.parametrize("bounded", [True, False])
def test_nothing_pulls_on_what_is_less_likely_than_a_guess(
    monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    model, examples = make_model(), make_examples(count=60)
    unlikely = examples.subset(model.log_likelihoods(examples).numpy() < -math.log(3))
    curvature = DenseCurvature.fit(model, examples)
    update = ElasticWeightConsolidation(batch_size=100, bounded=bounded)
    for sign in (-1, 1):
        moving, losses = captured_losses(
            monkeypatch, update, model, unlikely, np.full(len(unlikely), sign), curvature=curvature, count=60
        )
        pull = sign * per_example_gradients(model, unlikely).mean(dim=0)
        slope = slope_of(moving, next(losses(1)))
        assert float(pull.abs().max()) > 0.01
        assert_equal(slope, torch.zeros_like(pull) if bounded and sign < 0 else -pull)


def test_a_bounded_deletion_stops_at_a_guess_and_an_unbounded_one_does_not() -> None:
    examples = make_examples(count=30)
    model = with_prior_mode(make_model("contraction"), examples, 0.5)
    likeliest = examples.subset(np.argsort(-model.log_likelihoods(examples).numpy())[:3])
    curvature = DenseCurvature.fit(model, examples).damped(1e-3)

    def after_deletion(bounded: bool) -> Tensor:
        update = ElasticWeightConsolidation(learning_rate=0.01, rounds=200, bounded=bounded)
        return update.delete(model, likeliest, curvature=curvature, count=30).model.log_likelihoods(likeliest)

    chance = -math.log(3)
    assert float(model.log_likelihoods(likeliest).min()) > -0.3
    forgotten = after_deletion(bounded=True)
    assert float(forgotten.max()) < chance + 0.1
    # One example's climb carries another a little below.
    assert float(forgotten.min()) > 1.4 * chance
    assert float(after_deletion(bounded=False).max()) < 5 * chance


# Who watches.


@UPDATES
@settings(deadline=None, max_examples=20)
@given(values=st.lists(st.integers(0, 3), min_size=2, max_size=5))
def test_the_best_point_seen_wins_and_ties_go_to_the_earlier(
    update: PosteriorUpdate, values: list[int]
) -> None:
    seen: list[Tensor] = []
    script = iter(values)

    def watch(model: TrainedModel) -> float:
        seen.append(model.parameter_vector)
        return float(next(script))

    edited = shortened(update, points=len(values) - 1).delete(
        BASE, DATA.subset(CAUSES), curvature=CURVATURE, count=N, oversight=Oversight(watch=watch)
    )
    assert edited.best_round == values.index(max(values))
    assert torch.equal(edited.model.parameter_vector, seen[edited.best_round])
    assert torch.equal(seen[0], BASE.parameter_vector)
    assert [row["watched"] for row in edited.trace] == values
    assert [row["round"] for row in edited.trace] == list(range(len(values)))


@pytest.mark.parametrize(
    ("update", "column", "length"),
    [
        (NaturalGradient(epsilon=0.6, points=3), "epsilon", 0.6),
        (ElasticWeightConsolidation(rounds=3, points=3), "fraction", 1.0),
    ],
    ids=["natural gradient", "ewc"],
)
def test_points_lie_on_the_straight_way_to_the_mode(update: Update, column: str, length: float) -> None:
    seen: list[Tensor] = []

    def watch(model: TrainedModel) -> float:
        seen.append(displacement(model))
        return float(len(seen))

    how: dict[str, Any] = {"curvature": CURVATURE, "count": N}
    watched = update.delete(BASE, DATA.subset(CAUSES), oversight=Oversight(watch=watch), **how)
    whole = displacement(update.delete(BASE, DATA.subset(CAUSES), **how).model)
    assert float(whole.abs().max()) > 0.001
    assert_equal(torch.stack(seen), torch.arange(4)[:, None].double() / 3 * whole, 1e-14)
    assert [row[column] for row in watched.trace] == pytest.approx([0, length / 3, 2 * length / 3, length])


@UPDATES
def test_without_a_watcher_the_last_point_is_the_result(update: PosteriorUpdate) -> None:
    edited = shortened(update).insert(
        BASE,
        FAILURES,
        curvature=CURVATURE,
        count=N,
        oversight=Oversight(observe=lambda model: {"moved": float(displacement(model).norm())}),
    )
    assert edited.best_round == edited.trace[-1]["round"] == len(edited.trace) - 1
    assert (edited.trace[0]["watched"], edited.trace[0]["moved"]) == (None, 0.0)
    assert edited.trace[-1]["moved"] == float(displacement(edited.model).norm()) > 0.01


@pytest.mark.parametrize(
    "update",
    [
        ElasticWeightConsolidation(learning_rate=3.0, rounds=20, bounded=False),
        ElasticWeightConsolidation(learning_rate=0.05, rounds=20),
        NaturalGradient(epsilon=1e4),
        NaturalGradient(epsilon=1.0),
    ],
    ids=["reckless ewc", "ewc", "reckless step", "step"],
)
def test_never_worse_than_the_given_model(update: PosteriorUpdate) -> None:
    examples = make_examples(count=40)
    model = with_prior_mode(make_model("contraction"), examples, 0.5)
    curvature = DenseCurvature.fit(model, examples).damped(0.01)
    edited = update.delete(
        model,
        examples.subset(np.arange(8)),
        curvature=curvature,
        count=40,
        oversight=Oversight(watch=lambda model: model.accuracy(examples)),
    )
    watched = [row["watched"] for row in edited.trace]
    assert edited.model.accuracy(examples) == max(watched) >= model.accuracy(examples) == watched[0]
    assert min(watched) < watched[0], "the edit is one that can do harm"


@UPDATES
@EDITS
def test_the_given_model_is_left_as_it_is(update: PosteriorUpdate, sign: int) -> None:
    model = make_model("normalised")
    examples = make_examples("normalised")
    before = state_bytes(model)
    edited = shortened(update).edit(
        model,
        examples.subset([0, 1, 2]),
        np.full(3, float(sign)),
        curvature=fit_curvature("diagonal", model, examples).damped(0.1),
        count=23,
    )
    after = state_bytes(edited.model)
    assert state_bytes(model) == before
    assert after != before
    statistics = [name for name in before if "running" in name or "batches" in name]
    assert {name: after[name] for name in statistics} == {name: before[name] for name in statistics}


def test_ewc_is_a_function_of_its_seed_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    update = ElasticWeightConsolidation(learning_rate=0.01, rounds=4, batch_size=2)

    def edit(
        seed: int, curvature: DenseCurvature = CURVATURE, checkpoint: Checkpoint | None = None
    ) -> dict[str, bytes]:
        oversight = Oversight(checkpoint=checkpoint)
        edited = update.insert(BASE, FAILURES, curvature=curvature, count=N, seed=seed, oversight=oversight)
        return state_bytes(edited.model)

    expected = edit(0)
    assert edit(0) == expected != edit(1)
    with pytest.raises(SystemExit):
        edit(0, MortalCurvature(7), Checkpoint(tmp_path / "posterior", "fingerprint"))
    # Two of four rounds of three steps were finished.
    rest = MortalCurvature(6)
    assert edit(0, rest, Checkpoint(tmp_path / "posterior", "fingerprint")) == expected
    assert rest.products_left == 0


# What cannot be.


@UPDATES
def test_no_evidence_is_refused(update: PosteriorUpdate) -> None:
    with pytest.raises(RepairError, match="there is no evidence to insert or delete"):
        update.delete(BASE, DATA.subset([]), curvature=CURVATURE, count=N)


def test_deleting_everything_is_refused() -> None:
    with pytest.raises(RepairError, match="deleting 40 of 40 training examples would leave none"):
        NaturalGradient().delete(BASE, DATA, curvature=CURVATURE, count=N)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0: give a number above 0"),
        ({"epsilon": math.nan}, "epsilon is nan"),
        ({"epsilon": math.inf}, "epsilon is inf"),
        ({"points": 0}, "points is 0: give a whole number of 1 or more"),
        ({"gradient": "both"}, "gradient is 'both': choose one of removed, kept"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0: give a number of 0 or more"),
    ],
)
def test_steps_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        NaturalGradient(**options)


@UPDATES
@pytest.mark.parametrize(
    "weights",
    [np.ones(1), np.ones(len(FAILURES) + 2), np.ones((len(FAILURES), 1)), np.full(len(FAILURES), np.nan)],
    ids=["one", "too many", "a column", "no numbers"],
)
@pytest.mark.parametrize("direction", ["insert", "delete"])
def test_weights_that_are_not_one_for_each_example_are_refused(
    update: PosteriorUpdate, weights: Any, direction: str
) -> None:
    with pytest.raises(
        RepairError, match=f"were given for {len(FAILURES)} examples of evidence: give one finite"
    ):
        getattr(update, direction)(BASE, FAILURES, weights, curvature=CURVATURE, count=N)


def test_a_step_to_nowhere_is_refused() -> None:
    endless = DenseCurvature(torch.full((4, 4), torch.nan, dtype=torch.float64))
    with pytest.raises(RepairError, match="4 of 4 parameters of the updated model are NaN or infinite"):
        NaturalGradient().insert(BASE, FAILURES, curvature=endless, count=N)


def test_updates_are_made_by_name() -> None:
    assert make_update("natural-gradient", epsilon=0.5) == NaturalGradient(epsilon=0.5)
    assert make_update("ewc", rounds=7) == ElasticWeightConsolidation(rounds=7)
    with pytest.raises(
        RepairError,
        match="no posterior update 'laplace': choose one of ewc, layer-selective, natural-gradient",
    ):
        make_update("laplace")
    with pytest.raises(
        RepairError, match="there is no setting epsilon: there may be update, learning_rate, rounds"
    ):
        make_update("ewc", epsilon=0.5)
