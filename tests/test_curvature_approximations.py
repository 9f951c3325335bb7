"""Block-diagonal, Kronecker-factored and product-only curvatures against dense float64 computations."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from curvature_cases import (
    CASES,
    dense_fisher,
    dense_gradients,
    directions,
    make_case,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    relative_error,
)
from modelrepair.curvature import (
    BlockFisher,
    ConjugateGradient,
    EigenvalueCorrectedFisher,
    GramFisher,
    KroneckerFisher,
    Lissa,
    fit_curvature,
)
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

DAMPING = 0.01
TOLERANCE = 1e-10


def layer_bounds(model: TrainedModel) -> list[int]:
    """Where the parameters of each module end in θ."""
    ends: dict[str, int] = {}
    stop = 0
    for name, parameter in model.parameters.items():
        stop += parameter.numel()
        ends[name.rpartition(".")[0]] = stop
    return [0, *sorted(ends.values())]


def block_diagonal(matrix: Tensor, bounds: list[int]) -> Tensor:
    blocks = [matrix[a:b, a:b] for a, b in itertools.pairwise(bounds)]
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("options", [{}, {"scratch": "tmp"}], ids=["held", "scratch"])
@pytest.mark.parametrize("minibatch", [1, 4])
@pytest.mark.parametrize("block_size", [None, 1, 17, 50, 10**6])
@pytest.mark.parametrize("case", ["linear", "convolutions", "normalised", "unowned"])
def test_blocks_equal_dense(
    case: str, block_size: int | None, minibatch: int, options: dict[str, Any], tmp_path: Path
) -> None:
    model, examples = make_case(case)
    if options:
        options = {"scratch": tmp_path, "memory": 500}
    dimension = len(model.parameter_vector)
    bounds = layer_bounds(model)
    if block_size is not None:
        bounds = [*range(0, dimension, block_size), dimension]
    expected = block_diagonal(dense_fisher(dense_gradients(model, examples), DAMPING, minibatch), bounds)
    fisher = BlockFisher.fit(model, examples, block_size=block_size, minibatch=minibatch, **options)
    fisher = fisher.damped(DAMPING)
    for v in (directions(model), directions(model, 3)):
        assert relative_error(fisher.matvec(v), expected @ v) < TOLERANCE
        assert relative_error(fisher.solve(v), torch.linalg.solve(expected, v)) < TOLERANCE
        assert relative_error(fisher.quadratic(v), (v * (expected @ v)).sum(0)) < TOLERANCE
    assert fisher.residual < TOLERANCE


def test_one_block_is_the_full_fisher() -> None:
    model, examples = make_case("convolutions")
    v = directions(model)
    block = BlockFisher.fit(model, examples, block_size=10**6).damped(DAMPING)
    assert (
        relative_error(block.solve(v), GramFisher.fit(model, examples).damped(DAMPING).solve(v)) < TOLERANCE
    )


def test_blocks_need_damping_only_where_they_are_singular() -> None:
    model, examples = make_case("linear", 400)
    v = directions(model)
    with pytest.raises(RepairError, match="singular to working precision"):
        BlockFisher.fit(model, examples).solve(v)
    # The gradients by the logits sum to 0, which makes the last layer's block singular, but not a part of it.
    fisher = BlockFisher.fit(model, examples, block_size=7)
    bounds = [*range(0, 51, 7), 51]
    expected = block_diagonal(dense_fisher(dense_gradients(model, examples), 0.0), bounds)
    assert relative_error(fisher.solve(v), torch.linalg.solve(expected, v)) < TOLERANCE


def test_blocks_that_do_not_fit_are_refused() -> None:
    model, examples = make_case("convolutions")
    with pytest.raises(RepairError, match=r"take 0\.0 GiB, more than the option memory allows: raise it"):
        BlockFisher.fit(model, examples, memory=100)
    with pytest.raises(RepairError, match="block_size is 0"):
        BlockFisher.fit(model, examples, block_size=0)


def test_kronecker_is_exact_for_one_example_and_one_position() -> None:
    """The Fisher of one example is a Kronecker product, layer by layer."""
    model, examples = make_case("linear", 1)
    v = directions(model, 2)
    exact = BlockFisher.fit(model, examples).damped(DAMPING)
    for kind in (KroneckerFisher, EigenvalueCorrectedFisher):
        fisher = kind.fit(model, examples).damped(DAMPING)
        assert relative_error(fisher.matvec(v), exact.matvec(v)) < TOLERANCE
        assert relative_error(fisher.solve(v), exact.solve(v)) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_kronecker_solves_what_it_multiplies(case: str) -> None:
    model, examples = make_case(case)
    v = directions(model, 2)
    for kind in (KroneckerFisher, EigenvalueCorrectedFisher):
        fisher = kind.fit(model, examples).damped(DAMPING)
        assert relative_error(fisher.solve(fisher.matvec(v)), v) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_ekfac_has_the_trace_of_the_exact_fisher(case: str) -> None:
    model, examples = make_case(case)
    fisher = EigenvalueCorrectedFisher.fit(model, examples)
    identity = torch.eye(len(model.parameter_vector), dtype=torch.float64)
    trace = dense_gradients(model, examples).square().sum() / len(examples)
    assert float(fisher.matvec(identity).trace()) == pytest.approx(float(trace), rel=TOLERANCE)


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


@pytest.mark.parametrize("case", ["linear", "convolutional"])
def test_kronecker_equals_nngeometry(case: str) -> None:
    pytest.importorskip("nngeometry")
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object.pspace import PMatEKFAC, PMatKFAC
    from nngeometry.object.vector import PVector

    model, examples = make_case("linear")
    if case == "convolutional":
        model, examples = make_model(convolutional), make_examples((2, 8, 8), 23)
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=6)
    layers = LayerCollection.from_model(model.network)
    generator = TorchHooksJacobianBackend(
        model=model.network,
        layer_collection=layers,
        function=lambda x, y: F.cross_entropy(model.network(x), y, reduction="none").unsqueeze(1),
    )
    v = directions(model)
    theirs = PVector(layers, vector_repr=v)
    kfac = PMatKFAC(generator=generator, examples=loader)
    assert relative_error(KroneckerFisher.fit(model, examples).matvec(v), kfac.mv(theirs).to_torch()) < 1e-8
    ekfac = PMatEKFAC(generator=generator, examples=loader)
    ekfac.update_diag(loader)
    solved = ekfac.solvePVec(theirs, regul=DAMPING).to_torch()
    ours = EigenvalueCorrectedFisher.fit(model, examples).damped(DAMPING).solve(v)
    assert relative_error(ours, solved) < 1e-8


def test_kronecker_with_no_damping_names_one() -> None:
    model, examples = make_case("linear")
    with pytest.raises(RepairError, match="singular to working precision"):
        KroneckerFisher.fit(model, examples).solve(directions(model))


def dense_matrix(matrix: str, model: TrainedModel, examples: Examples) -> Tensor:
    """(d, d) M by nested differentiation of the mean loss."""
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    if matrix == "fisher":
        return dense_fisher(dense_gradients(model, examples), 0.0)

    def run(vector: Tensor) -> Tensor:
        return functional_call(model.network, model.split(vector), (inputs,))

    def loss(outputs: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    vector = model.parameter_vector
    if matrix == "hessian":
        return torch.func.hessian(lambda values: loss(run(values)))(vector)
    jacobian = torch.func.jacrev(run)(vector).flatten(0, 1)
    outputs = run(vector)
    curved = torch.func.hessian(loss)(outputs).reshape(outputs.numel(), outputs.numel())
    return jacobian.T @ curved @ jacobian


@pytest.mark.parametrize("matrix", ["fisher", "ggn", "hessian"])
@pytest.mark.parametrize("case", ["linear", "convolutions", "normalised"])
def test_products_equal_dense(case: str, matrix: str) -> None:
    model, examples = make_case(case, 9, batch_size=5)
    expected = dense_matrix(matrix, model, examples)
    damping = 2.0 + max(0.0, -float(torch.linalg.eigvalsh(expected)[0]))
    expected = expected + damping * torch.eye(len(expected), dtype=torch.float64)
    v = directions(model, 3)
    solution = torch.linalg.solve(expected, v)
    for name in ("cg", "lissa"):
        curvature = fit_curvature(name, model, examples, matrix=matrix, tolerance=1e-9).damped(damping)
        assert relative_error(curvature.matvec(v), expected @ v) < TOLERANCE
        assert relative_error(curvature.matvec(v[:, 0]), expected @ v[:, 0]) < TOLERANCE
        assert relative_error(curvature.quadratic(v), (v * (expected @ v)).sum(0)) < TOLERANCE
        assert relative_error(curvature.solve(v), solution) < 1e-7
        assert curvature.residual <= 1e-9


def test_products_equal_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops")
    model, examples = make_model(convolutional), make_examples((2, 8, 8), 23)
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    batches = [(inputs[:11], targets[:11]), (inputs[11:], targets[11:])]
    v = directions(model, 2)
    operators = {
        "fisher": curvlinops.EFLinearOperator,
        "ggn": curvlinops.GGNLinearOperator,
        "hessian": curvlinops.HessianLinearOperator,
    }
    for matrix, operator in operators.items():
        theirs = operator(
            model.network,
            nn.CrossEntropyLoss(reduction="mean"),
            list(model.network.parameters()),
            batches,
        )
        ours = ConjugateGradient.fit(model, examples, matrix=matrix)
        assert relative_error(ours.matvec(v), theirs @ v) < TOLERANCE


def test_conjugate_gradients_need_a_positive_operator() -> None:
    model, examples = make_case("linear")
    smallest = float(torch.linalg.eigvalsh(dense_matrix("hessian", model, examples))[0])
    assert smallest < 0
    curvature = ConjugateGradient.fit(model, examples, matrix="hessian")
    with pytest.raises(RepairError, match=r"need it positive in all: use a damping above .* or matrix: ggn"):
        curvature.damped(-smallest / 10).solve(directions(model))
    curvature.damped(-2 * smallest).solve(directions(model))


def test_conjugate_gradients_say_when_they_run_out() -> None:
    model, examples = make_case("convolutions")
    curvature = ConjugateGradient.fit(model, examples, iterations=2, tolerance=1e-8).damped(1e-6)
    with pytest.raises(RepairError, match="after 2 products and were to reach 1e-08"):
        curvature.solve(directions(model))


def test_lissa_says_which_scale_or_damping_would_converge() -> None:
    model, examples = make_case("linear", batch_size=100)
    v = directions(model)
    largest = float(torch.linalg.eigvalsh(dense_matrix("fisher", model, examples))[-1]) + 0.1
    diverging = Lissa.fit(model, examples, scale=0.4 * largest).damped(0.1)
    with pytest.raises(RepairError, match=r"half of the largest eigenvalue .* use a scale of") as refusal:
        diverging.solve(v)
    enough = float(str(refusal.value).split("use a scale of ")[1].split()[0])
    assert 0.5 * largest < enough < 1.5 * largest
    expected = GramFisher.fit(model, examples).damped(0.1).solve(v)
    assert relative_error(Lissa.fit(model, examples, scale=enough).damped(0.1).solve(v), expected) < 1e-3

    smallest = float(torch.linalg.eigvalsh(dense_matrix("hessian", model, examples))[0])
    negative = Lissa.fit(model, examples, matrix="hessian", iterations=10**5).damped(-smallest / 10)
    with pytest.raises(RepairError, match=r"use a damping above .* or matrix: ggn") as refusal:
        negative.solve(v)
    enough = float(str(refusal.value).split("use a damping above ")[1].split()[0])
    assert enough > -smallest
    negative.damped(enough).solve(v)


def test_lissa_on_drawn_examples_is_reproducible_and_approximate() -> None:
    model, examples = make_case("linear", 60, batch_size=100)
    v = directions(model)
    expected = GramFisher.fit(model, examples).damped(2.0).solve(v)
    fitted = Lissa.fit(model, examples, sample=20, repeats=3, iterations=30, tolerance=1e-9).damped(2.0)
    with pytest.warns(RuntimeWarning, match="LiSSA reached a residual of"):
        first = fitted.solve(v)
    with pytest.warns(RuntimeWarning, match="LiSSA reached a residual of"):
        assert torch.equal(first, fitted.solve(v))
    assert relative_error(first, expected) < 0.2
    assert 1e-9 < fitted.residual < 0.2


def test_iterative_options_are_checked() -> None:
    model, examples = make_case("linear")
    for options, message in (
        ({"matrix": "jacobian"}, "matrix is 'jacobian': choose one of fisher, ggn, hessian"),
        ({"tolerance": 0.0}, "tolerance is 0.0: give a number above 0"),
        ({"scale": -1.0}, "scale is -1.0: give a number above 0"),
        ({"sample": 0}, "sample is 0: give a whole number of 1 or more"),
        ({"depth": 3}, "there is no setting depth: there may be matrix, tolerance, iterations"),
    ):
        with pytest.raises(RepairError, match=message):
            Lissa.fit(model, examples, **options)


def test_a_network_whose_batch_is_one_example(tmp_path: Path) -> None:
    model, _ = make_case("linear")
    examples = Examples(np.ones((1, 4)), np.array([2]))
    for name in ("block", "kfac", "ekfac", "cg"):
        solution = fit_curvature(name, model, examples).damped(1.0).solve(directions(model))
        assert bool(torch.isfinite(solution).all())
