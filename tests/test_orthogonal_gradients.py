"""Orthogonal gradients against numpy's QR and dense computations, and what they are for: protected outputs stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, jacrev

from mean_field_cases import MortalCheckpoint
from modelrepair.curvature import fit_curvature
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import OrthogonalGradients
from modelrepair.posterior.orthogonal_gradients import orthonormal_basis
from modelrepair.posterior.output_gradients import (
    log_likelihood_slopes,
    logit_slopes,
    summed_squares,
    weighted_output_gradients,
)
from modelrepair.training.descent import Oversight
from modelrepair.training.epochs import epoch_batches
from models import (
    DenseCurvature,
    assert_equal,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    per_example_gradients,
    state_bytes,
)

MODEL, KEPT, EVIDENCE = make_model(), make_examples(count=30), make_examples(count=9, seed=4)
FREE = DenseCurvature(torch.zeros(51, 51, dtype=torch.float64))
NARROW = TrainedModel(torch.nn.Linear(2, 2, bias=False).double(), Softmax(), device="cpu")
CORNERS = Examples(np.eye(2)[[0, 1, 0, 1]], np.array([0, 0, 1, 1]))
UPDATE = OrthogonalGradients(learning_rate=0.05, rounds=4, batch_size=4, directions=12)
SIGNS = pytest.mark.parametrize("sign", [1, -1], ids=["insert", "delete"])


def logit_gradients(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, d) gradients of each given class's logit, by reverse-mode Jacobians of all outputs at once."""
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    parameters = {name: parameter.detach() for name, parameter in model.parameters.items()}
    jacobians = jacrev(lambda values: functional_call(model.network, values, (inputs,)))(parameters)
    rows = torch.arange(len(examples))
    return torch.cat([j[rows, targets].reshape(len(examples), -1) for j in jacobians.values()], dim=1)


def outside(rows: Tensor) -> NDArray[np.float64]:
    """(d, d) I − QQᵀ, with numpy's QR of all rows."""
    basis, _ = np.linalg.qr(rows.numpy().T)
    return np.eye(rows.shape[1]) - basis @ basis.T


def protected(seed: int, kept: Examples = KEPT, count: int = 12) -> Examples:
    return kept.subset(np.sort(generator(seed, "protected examples").choice(len(kept), count, replace=False)))


def edited(update: OrthogonalGradients, sign: float = 1.0, curvature: Any = FREE, **how: Any) -> Tensor:
    """(d,) θ − θ̂."""
    result = update.edit(
        MODEL, EVIDENCE, np.full(9, float(sign)), curvature=curvature, count=30, **{"kept": KEPT, **how}
    )
    return result.model.parameter_vector - MODEL.parameter_vector


# Gradients of outputs.


@pytest.mark.parametrize("network", ["mlp", "normalised", "tied", "lenet5", "frozen"])
@pytest.mark.parametrize("batch_size", [4, 500])
def test_gradients_of_logits_and_of_log_likelihoods(network: str, batch_size: int) -> None:
    model, examples = make_model(network, batch_size=batch_size), make_examples(network, count=7)
    found = weighted_output_gradients(model, examples, logit_slopes(model, examples))
    assert_equal(found, logit_gradients(model, examples), 1e-11)
    slopes = log_likelihood_slopes(model, examples)
    expected = per_example_gradients(model, examples)
    assert_equal(weighted_output_gradients(model, examples, slopes), expected, 1e-11)
    assert_equal(summed_squares(model, examples, slopes), expected.square().sum(0), 1e-11)


def test_logits_of_examples_without_a_class_are_refused() -> None:
    with pytest.raises(
        RepairError, match=r"the logit of the given class .* shape \(3,\): use the log-likelihood"
    ):
        logit_slopes(make_model("mlp", "sigmoid"), make_examples("mlp", "sigmoid"))


def test_the_basis_is_that_of_numpy_whatever_the_lengths() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 40)) * np.logspace(-12, 3, 6)[:, None])
    basis = orthonormal_basis(rows)
    assert_equal(basis.T @ basis, torch.eye(6, dtype=torch.float64), 1e-12)
    assert_equal(torch.eye(40) - basis @ basis.T, torch.from_numpy(outside(rows)), 1e-10)


def test_dependent_rows_and_rows_of_nothing_span_no_more() -> None:
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 40)))
    more = torch.cat([rows[:1], 2 * rows[:1], torch.zeros(1, 40), rows, rows.sum(0, keepdim=True)])
    basis = orthonormal_basis(more)
    assert basis.shape == (40, 3)
    assert_equal(torch.eye(40) - basis @ basis.T, torch.from_numpy(outside(rows)), 1e-10)
    assert orthonormal_basis(torch.zeros(2, 5, dtype=torch.float64)).shape == (5, 0)


# The descent.


@SIGNS
@pytest.mark.parametrize("protects", ["logit", "log-likelihood"])
@pytest.mark.parametrize("damping", [0.0, 0.1])
def test_it_is_projected_descent_computed_densely(sign: int, protects: str, damping: float) -> None:
    """Momentum 0.9 on projected gradients of (1/m)[(N/2) δᵀF̂δ − Σ wᵢ log p(zᵢ | θ)], numpy's QR for the projection."""
    fisher = DenseCurvature.fit(MODEL, KEPT).damped(damping) if damping else FREE
    update = UPDATE.model_copy(update={"protects": protects, "bounded": False})
    rows = (logit_gradients if protects == "logit" else per_example_gradients)(MODEL, protected(3))
    projection = torch.from_numpy(outside(rows))
    start = MODEL.parameter_vector
    position, velocity = start.clone(), torch.zeros_like(start)
    for number in range(1, 5):
        for batch in epoch_batches(9, 4, seed=3, purpose="evidence", epoch=number):
            point = MODEL.with_parameter_vector(position)
            pull = sign * per_example_gradients(point, EVIDENCE.subset(batch)).mean(0)
            slope = projection @ (30 / 9 * fisher.whole @ (position - start) - pull)
            velocity = 0.9 * velocity + slope
            position = position - 0.05 * velocity
    assert float((position - start).norm()) > 0.1
    assert_equal(edited(update, sign, fisher, seed=3), position - start, 1e-10)


@SIGNS
@pytest.mark.parametrize("protects", ["logit", "log-likelihood"])
def test_protected_outputs_do_not_change_to_first_order(sign: int, protects: str) -> None:
    step = edited(UPDATE.model_copy(update={"protects": protects}), sign, seed=3)
    measure = logit_gradients if protects == "logit" else per_example_gradients
    assert float(step.norm()) > 0.1
    assert float((measure(MODEL, protected(3)) @ step).abs().max()) < 1e-10
    # Others feel it.
    assert float((measure(MODEL, KEPT) @ step).abs().max()) > 1e-2


@pytest.mark.parametrize("size", [1e-2, 1e-3])
def test_what_is_left_is_of_second_order(size: float) -> None:
    step = edited(UPDATE, seed=3)
    moved = MODEL.with_parameter_vector(MODEL.parameter_vector + size * step)
    examples = protected(3)
    rows, classes = torch.arange(12), torch.from_numpy(examples.targets)
    change = (moved.outputs(examples) - MODEL.outputs(examples))[rows, classes]
    assert float(change.abs().max()) < 10 * size**2
    assert float((moved.outputs(KEPT) - MODEL.outputs(KEPT)).abs().max()) > 0.01 * size


def test_all_of_a_gram_matrix_is_protected_without_its_gradients() -> None:
    """The same as a basis of all their gradients of log p, and λF̂⁻¹ for small λ."""
    few = KEPT.subset(np.arange(20))
    gram = fit_curvature("gram", MODEL, few)
    everything = UPDATE.model_copy(update={"directions": None, "protects": "log-likelihood"})
    held = UPDATE.model_copy(update={"directions": 20, "protects": "log-likelihood"})
    step = edited(everything, curvature=gram)
    assert float(step.norm()) > 0.05
    assert float((per_example_gradients(MODEL, few) @ step).abs().max()) < 1e-10
    assert_equal(step, edited(held, kept=few), 1e-9)
    vector = torch.from_numpy(np.random.default_rng(0).normal(size=51))
    assert_equal(gram.outside_span(vector), torch.from_numpy(outside(per_example_gradients(MODEL, few))) @ vector, 1e-9)  # type: ignore[attr-defined] # fmt: skip
    assert_equal(gram.outside_span(vector), 1e-9 * gram.damped(1e-9).solve(vector), 1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("memory", [1, 2**30])
def test_the_gram_of_what_is_left_protects_what_is_left(memory: int) -> None:
    causes = np.array([2, 5, 11])
    few = KEPT.subset(np.arange(20))
    left = fit_curvature("gram", MODEL, few, memory=memory).without(causes)  # type: ignore[attr-defined]
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(51, 2)))
    felt = per_example_gradients(MODEL, few) @ left.outside_span(vectors)
    assert float(felt[np.setdiff1d(np.arange(20), causes)].abs().max()) < 1e-10
    assert float(felt[causes].abs().max()) > 1e-2


def test_a_gram_matrix_of_a_float_network_protects_to_its_rounding() -> None:
    model, examples = make_model(dtype=torch.float32), make_examples(count=20)
    vector = torch.from_numpy(np.random.default_rng(0).normal(size=51)).float()
    kept = fit_curvature("gram", model, examples).outside_span(vector)  # type: ignore[attr-defined]
    assert kept.dtype == torch.float32
    assert float(model.directional_derivatives(examples, kept).abs().max()) < 1e-5 * float(kept.norm())


@pytest.mark.parametrize("bounded", [True, False])
def test_nothing_pulls_on_what_is_no_likelier_than_a_guess(bounded: bool) -> None:
    unlikely = KEPT.subset(MODEL.log_likelihoods(KEPT).numpy() < -np.log(3))
    update = UPDATE.model_copy(update={"bounded": bounded, "directions": 3})
    moved = update.delete(MODEL, unlikely, curvature=FREE, count=30, kept=KEPT).model
    distance = float((moved.parameter_vector - MODEL.parameter_vector).norm())
    assert (distance == 0) == bounded


# Who watches, progress, and what cannot be.


def test_every_point_of_the_way_is_orthogonal() -> None:
    seen: list[Tensor] = []

    def watch(model: TrainedModel) -> float:
        seen.append(model.parameter_vector - MODEL.parameter_vector)
        return float(len(seen) < 4)

    step = edited(UPDATE.model_copy(update={"points": 5}), seed=3, oversight=Oversight(watch=watch))
    assert len(seen) == 6
    assert float((logit_gradients(MODEL, protected(3)) @ torch.stack(seen).T).abs().max()) < 1e-10
    assert torch.equal(step, torch.zeros_like(step)), "the earliest of equals"


def test_it_is_a_function_of_its_seed_and_goes_on_after_a_kill_to_the_byte(tmp_path: Path) -> None:
    def edit(checkpoint: MortalCheckpoint | None, seed: int = 3) -> dict[str, bytes]:
        oversight = Oversight(checkpoint=checkpoint)
        how: dict[str, Any] = {"curvature": FREE, "count": 30, "kept": KEPT, "seed": seed}
        return state_bytes(UPDATE.insert(MODEL, EVIDENCE, oversight=oversight, **how).model)

    before, expected = state_bytes(MODEL), edit(None)
    assert state_bytes(MODEL) == before
    with pytest.raises(SystemExit):
        edit(MortalCheckpoint(tmp_path, 2))
    rest = MortalCheckpoint(tmp_path, 2)
    assert edit(rest) == expected != edit(None, seed=4)
    assert rest.left == 0


@pytest.mark.parametrize(
    ("options", "how", "message"),
    [
        ({}, {"evidence": EVIDENCE.subset([])}, "there is no evidence to insert or delete"),
        ({}, {"weights": np.ones(2)}, "weights of shape .2,.* for 9 examples"),
        (
            {},
            {"kept": None},
            "orthogonal gradients protect training examples: give those that stay as `kept`",
        ),
        ({}, {"kept": KEPT.subset([])}, "orthogonal gradients protect training examples"),
        (
            {"directions": 4},
            {"model": NARROW, "kept": CORNERS, "evidence": CORNERS},
            "the gradients of 4 protected examples span all 4 parameters, .*: give posterior.directions below 4",
        ),
        ({"directions": None}, {}, "directions is None, .* the curvature is dense: use gram"),
    ],
)
def test_what_it_refuses(options: dict[str, Any], how: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"model": MODEL, "evidence": EVIDENCE, "kept": KEPT, **how}
    given.setdefault("weights", np.ones(len(given["evidence"])))
    with pytest.raises(RepairError, match=message):
        UPDATE.model_copy(update=options).edit(**given, curvature=FREE, count=30)
