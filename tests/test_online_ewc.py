"""Online EWC against Bayes' rule where it is exact, and its penalty and its Fisher against dense computations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import modelrepair.posterior.ewc
from mean_field_cases import BASE, CURVATURE, DATA, FAILURES, PRIOR, MortalCheckpoint, N, exact
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import ElasticWeightConsolidation, OnlineElasticWeightConsolidation
from modelrepair.posterior.output_gradients import curvature_roots
from modelrepair.training.descent import Course, Oversight
from modelrepair.uncertainty.mean_field import MeanField
from models import (
    DenseCurvature,
    assert_equal,
    make_examples,
    make_model,
    negative_hessian,
    one_thread,  # noqa: F401
    per_example_gradients,
    state_bytes,
    union,
)

CLIMB = OnlineElasticWeightConsolidation(
    learning_rate=0.01, rounds=400, batches=2, bounded=False, fisher="expected"
)
ONCE = ElasticWeightConsolidation(learning_rate=0.01, rounds=400, bounded=False)
CAUSES = np.array([3, 8, 21, 22, 39])
START = MeanField(BASE, N * CURVATURE.whole.diagonal(), PRIOR)


# Bayes' rule.


@pytest.mark.parametrize("batches", [1, 2, 6, 100])
@pytest.mark.parametrize("sign", [1, -1], ids=["insert", "delete"])
def test_evidence_in_pieces_is_evidence_at_once(sign: int, batches: int) -> None:
    evidence = FAILURES if sign > 0 else DATA.subset(CAUSES)
    online = CLIMB.model_copy(update={"batches": batches})
    how: dict[str, Any] = {"curvature": CURVATURE, "count": N}
    edited = online.edit(BASE, evidence, np.full(len(evidence), float(sign)), **how)
    at_once = ONCE.edit(BASE, evidence, np.full(len(evidence), float(sign)), **how).model.parameter_vector
    everything = union(DATA, FAILURES) if sign > 0 else DATA.subset(np.setdiff1d(np.arange(N), CAUSES))
    mode, precision = exact(everything)
    assert float((mode - BASE.parameter_vector).abs().max()) > 0.02
    assert_equal(edited.model.parameter_vector, at_once, 1e-8)
    assert_equal(edited.model.parameter_vector, mode, 1e-8)
    assert edited.gaussians is not None
    before, after = edited.gaussians
    assert_equal(before.precision, exact(DATA)[1])
    assert_equal(after.precision, precision)
    assert before.model is BASE
    assert torch.equal(after.model.parameter_vector, edited.model.parameter_vector)


def test_a_chain_of_repairs_is_one_repair() -> None:
    """Failures inserted, causes deleted, more failures with weights: each from the last model and posterior."""
    later, weights = FAILURES.subset([0, 3]), np.array([0.5, 2.0])
    causes = DATA.subset(CAUSES)
    held = CLIMB.carry_on(START, FAILURES, np.ones(6))
    held = CLIMB.carry_on(held, causes, -np.ones(5))
    held = CLIMB.carry_on(held, later, weights)
    everything = union(union(union(DATA, FAILURES), causes), later)
    counts = np.concatenate([np.ones(N + 6), -np.ones(5), weights])
    mode, precision = exact(everything, counts)
    assert_equal(held.model.parameter_vector, mode, 1e-8)
    assert_equal(held.precision, precision, 1e-12)
    # One edit with all of it.
    at_once = ONCE.edit(
        BASE,
        union(union(FAILURES, causes), later),
        counts[N:],
        curvature=CURVATURE,
        count=N,
    )
    assert_equal(held.model.parameter_vector, at_once.model.parameter_vector, 1e-8)


def test_every_piece_has_its_share_of_what_is_inserted_and_of_what_is_deleted() -> None:
    """So three requests with examples that stay beside them are three repairs, here by an update that forgets, as which
    of them comes when makes no difference to one that does not."""
    forgetful = CLIMB.model_copy(update={"batches": 1, "gamma": 0.5})
    causes, stay = DATA.subset([3, 7, 1, 9, 4]), FAILURES.subset([0, 2, 4, 5])
    evidence, weights = union(causes, stay), np.array([-1.0] * 5 + [1.0] * 4)
    held = forgetful.model_copy(update={"batches": 3}).carry_on(START, evidence, weights, seed=2)
    step, others = START, START
    for deleted, inserted in (([3, 7], [0, 2]), ([1, 9], [4]), ([4], [5])):
        piece = union(DATA.subset(deleted), FAILURES.subset(inserted))
        share = np.array([-1.0] * len(deleted) + [1.0] * len(inserted))
        step = forgetful.carry_on(step, piece, share, seed=2)
    assert_equal(held.model.parameter_vector, step.model.parameter_vector, 1e-8)
    assert_equal(held.precision, step.precision, 1e-12)
    for positions in np.array_split(np.arange(9), 3):
        others = forgetful.carry_on(others, evidence.subset(positions), weights[positions], seed=2)
    assert float((held.model.parameter_vector - others.model.parameter_vector).abs().max()) > 1e-3


def test_without_the_precision_of_the_first_piece_the_second_would_count_for_more() -> None:
    """What plain EWC at the last mode with the first stiffness gives is another answer: the test above can fail."""
    first, second = FAILURES.subset([0, 1, 2]), FAILURES.subset([3, 4, 5])
    how: dict[str, Any] = {"curvature": CURVATURE, "count": N}
    forgetful = ONCE.insert(ONCE.insert(BASE, first, **how).model, second, **how).model.parameter_vector
    assert float((forgetful - exact(union(DATA, FAILURES))[0]).abs().max()) > 1e-4


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_forgetting_is_a_smaller_weight_of_all_that_came_before(gamma: float) -> None:
    """With γ the precision halves before each piece: Λ₂ = γ(γΛ + F₁) + F₂, and the mode follows."""
    held = CLIMB.model_copy(update={"gamma": gamma}).carry_on(START, FAILURES, np.ones(6))
    mode, precision = BASE.parameter_vector, START.precision
    for piece in (FAILURES.subset([0, 1, 2]), FAILURES.subset([3, 4, 5])):
        inputs, targets = (torch.from_numpy(array) for array in (piece.inputs, piece.targets[:, 0]))
        prior, own = gamma * precision, inputs.square().sum(0)
        mode = (prior * mode + inputs.T @ targets) / (prior + own)
        precision = prior + own
    assert_equal(held.model.parameter_vector, mode, 1e-8)
    assert_equal(held.precision, precision)


# The penalty and the Fisher.


@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_the_penalty_is_half_the_weighted_sum(monkeypatch: pytest.MonkeyPatch, gamma: float) -> None:
    """(1/m)[½ Σⱼ γΛⱼδⱼ² − Σᵢ wᵢ log p(zᵢ | θ)] at a point away from θ̂, and γΛ + F after."""
    model, examples = make_model(), make_examples(count=30)
    evidence, weights = examples.subset(np.arange(5)), np.array([1.0, 2.0, -1.0, 0.5, -0.5])
    precision = torch.from_numpy(np.random.default_rng(1).uniform(10, 20, len(model.parameter_vector)))
    delta = 0.1 * torch.from_numpy(np.random.default_rng(2).normal(size=len(precision)))
    found: list[Tensor] = []

    def catch(moving: TrainedModel, losses: Any, descent: Any, **options: Any) -> Course:
        with torch.no_grad():
            for parameter, piece in zip(moving.parameters.values(), model.split(delta).values(), strict=True):
                parameter.add_(piece)
        steps: Iterator[Tensor] = losses(1)
        found.extend(steps)
        return Course([], 0, {})

    monkeypatch.setattr(modelrepair.posterior.ewc, "minimise", catch)
    update = OnlineElasticWeightConsolidation(batches=1, gamma=gamma, bounded=False)
    held = update.carry_on(MeanField(model, precision), evidence, weights)
    point = model.with_parameter_vector(model.parameter_vector + delta)
    pull = torch.from_numpy(weights) @ point.log_likelihoods(evidence)
    expected = (0.5 * gamma * (precision * delta.square()).sum() - pull) / 5
    assert_equal(found[0].detach(), expected, 1e-12)
    # What is inserted is measured where it led, what is deleted where it was.
    rise = torch.from_numpy(weights.clip(0)) @ per_example_gradients(point, evidence).square()
    fall = torch.from_numpy((-weights).clip(0)) @ per_example_gradients(model, evidence).square()
    assert_equal(held.precision, gamma * precision + rise - fall, 1e-12)


@pytest.mark.parametrize("batch_size", [1, 4, 500])
@pytest.mark.parametrize("network", ["mlp", "normalised", "tied"])
def test_the_expected_fisher_is_the_mean_over_the_targets_that_the_model_expects(
    network: str, batch_size: int
) -> None:
    model, examples = make_model(network, batch_size=batch_size), make_examples(network, count=9)
    weights = np.linspace(0.5, 2, 9)
    found = CLIMB._fisher(model, examples, weights)
    inputs = examples.batch(slice(None), dtype=torch.float64)[0]
    chances = torch.from_numpy(weights).unsqueeze(1) * model.network(inputs).softmax(1).detach()
    expected = sum(
        chances[:, label] @ per_example_gradients(model, examples.with_targets(np.full(9, label))).square()
        for label in range(3)
    )
    assert_equal(found, expected, 1e-11)


@pytest.mark.parametrize("likelihood", ["gaussian", "sigmoid", "softmax"])
def test_roots_of_the_curvature_by_the_outputs(likelihood: str) -> None:
    model, examples = make_model("mlp", likelihood), make_examples("mlp", likelihood, count=4)
    roots = curvature_roots(model, examples)
    # A network that is nothing but its bias has its outputs as parameters.
    for position, outputs in enumerate(model.outputs(examples)):
        bias = torch.nn.Linear(1, 3).double()
        with torch.no_grad():
            bias.weight.zero_()
            bias.bias.copy_(outputs)
        alone = TrainedModel(bias, model.likelihood, device="cpu")
        curved = negative_hessian(
            alone, Examples(np.zeros((1, 1)), examples.targets[position : position + 1])
        )
        assert_equal(roots[position] @ roots[position].T, curved[3:, 3:], 1e-11)


def test_what_was_never_measured_cannot_be_taken() -> None:
    """Examples that were not among those that the precision is of would make it negative."""
    model, examples = make_model(), make_examples(count=30)
    curvature = fit_curvature("diagonal", model, examples.subset(np.arange(3))).damped(0.01)
    update = OnlineElasticWeightConsolidation(rounds=2)
    edited = update.delete(model, examples, curvature=curvature, count=3)
    assert edited.gaussians is not None
    before, after = edited.gaussians
    # The damping times N; and nothing at all could stay where nothing is the prior's.
    assert float(after.precision.min()) == after.prior == 3 * 0.01
    taken = per_example_gradients(model, examples).square().sum(0)
    assert bool((before.precision - taken < 0).any())
    with pytest.raises(RepairError, match="delete no more than has been inserted"):
        update.carry_on(MeanField(model, before.precision), examples, -np.ones(30))


def test_deleting_at_once_takes_away_just_what_was_measured() -> None:
    model, examples = make_model(), make_examples(count=30)
    curvature = fit_curvature("diagonal", model, examples).damped(0.01)
    update = OnlineElasticWeightConsolidation(rounds=2, batches=1)
    edited = update.delete(model, examples.subset(np.arange(10)), curvature=curvature, count=30)
    rest = fit_curvature("diagonal", model, examples.subset(np.arange(10, 30))).entries  # type: ignore[attr-defined]
    assert edited.gaussians is not None
    assert_equal(edited.gaussians[1].precision, 20 * rest + 0.3, 1e-11)


# Progress, and what cannot be.


@pytest.mark.parametrize("saves", [1, 4, 5, 11])
def test_it_goes_on_after_a_kill_to_the_byte(tmp_path: Path, saves: int) -> None:
    """Three pieces of four rounds."""
    update = OnlineElasticWeightConsolidation(learning_rate=0.01, rounds=4, batches=3, batch_size=1)

    def edit(checkpoint: MortalCheckpoint | None) -> tuple[dict[str, bytes], bytes]:
        oversight = Oversight(checkpoint=checkpoint)
        edited = update.insert(BASE, FAILURES, curvature=CURVATURE, count=N, seed=3, oversight=oversight)
        assert edited.gaussians is not None
        return state_bytes(edited.model), edited.gaussians[1].precision.numpy().tobytes()

    expected = edit(None)
    with pytest.raises(SystemExit):
        edit(MortalCheckpoint(tmp_path, saves))
    rest = MortalCheckpoint(tmp_path, 12 - saves)
    assert edit(rest) == expected
    assert rest.left == 0, "nothing is done twice"
    other = update.insert(BASE, FAILURES, curvature=CURVATURE, count=N, seed=4).model
    assert state_bytes(other) != expected[0]


def test_passes_through_the_model_change_nothing() -> None:
    model, examples = make_model("normalised"), make_examples("normalised")
    curvature = fit_curvature("diagonal", model, examples).damped(0.1)
    update = OnlineElasticWeightConsolidation(rounds=2, batch_size=4)

    def edit(batch_size: int) -> Tensor:
        other = TrainedModel(model.copy().network, Softmax(), batch_size=batch_size, device="cpu")
        edited = update.insert(other, examples, curvature=curvature, count=23)
        assert edited.gaussians is not None
        return torch.cat([edited.model.parameter_vector, edited.gaussians[1].precision])

    assert_equal(edit(3), edit(500), 1e-11)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"evidence": DATA.subset([])}, "there is no evidence to insert or delete"),
        ({"weights": np.ones(2)}, "weights of shape .2,.* for 6 examples"),
        (
            {"curvature": DenseCurvature(torch.ones(4, 4, dtype=torch.float64), 1.0)},
            "the curvature dense is more than its diagonal",
        ),
        (
            {"curvature": DenseCurvature(torch.zeros(4, 4, dtype=torch.float64))},
            "precision is 0, negative or not finite for 4 of 4 parameters: use .* damping above 0",
        ),
    ],
)
def test_what_it_refuses(how: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"evidence": FAILURES, "weights": np.ones(6), "curvature": CURVATURE, **how}
    if not len(given["evidence"]):
        given["weights"] = np.ones(0)
    with pytest.raises(RepairError, match=message):
        CLIMB.edit(BASE, **given, count=N)
