"""What curvatures must not get wrong without a word: false residuals, numbers that are no numbers, other models' files,
and networks that are not what they seem. Against float64 computations that use none of the library's own derivatives.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from curvature_cases import (
    CLASSES,
    Coupled,
    dense_fisher,
    directions,
    make_case,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    relative_error,
)
from modelrepair.curvature import (
    CURVATURES,
    BlockFisher,
    ConjugateGradient,
    Curvature,
    DiagonalFisher,
    GramFisher,
    Hessian,
    Lissa,
    fit_curvature,
    load_curvature,
)
from modelrepair.errors import RepairError
from modelrepair.gradients.recorder import Recorder
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

TOLERANCE = 1e-10
MATRICES = ("fisher", "ggn", "hessian")


def single_gradients(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, d) by one backward pass an example, of the network as it is."""
    rows = []
    for position in range(len(examples)):
        inputs, targets = examples.batch([position], dtype=model.dtype)
        value = -F.cross_entropy(model.network(inputs), targets)
        slopes = torch.autograd.grad(value, list(model.parameters.values()), materialize_grads=True)
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    return torch.stack(rows)


def backward_hessian(model: TrainedModel, examples: Examples) -> Tensor:
    """(d, d) −∇² of the mean log-likelihood by two backward passes, which know of constants what PyTorch knows."""
    inputs, targets = examples.batch(slice(None), dtype=model.dtype)
    parameters = list(model.parameters.values())
    loss = F.cross_entropy(model.network(inputs), targets)
    slope = torch.cat([s.flatten() for s in torch.autograd.grad(loss, parameters, create_graph=True)])
    rows = [
        torch.autograd.grad(entry, parameters, retain_graph=True, materialize_grads=True) for entry in slope
    ]
    return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])


def backward_ggn(model: TrainedModel, examples: Examples) -> Tensor:
    """(d, d) (1/n) Σ JᵀHJ with J by backward passes and H = diag(p) − ppᵀ."""
    total = torch.zeros(len(model.parameter_vector), len(model.parameter_vector), dtype=model.dtype)
    for position in range(len(examples)):
        inputs, _ = examples.batch([position], dtype=model.dtype)
        outputs = model.network(inputs)[0]
        rows = [
            torch.autograd.grad(
                output, list(model.parameters.values()), retain_graph=True, materialize_grads=True
            )
            for output in outputs
        ]
        jacobian = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
        p = outputs.softmax(0).detach()
        total += jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(examples)


def backward_matrix(matrix: str, model: TrainedModel, examples: Examples) -> Tensor:
    if matrix == "fisher":
        return dense_fisher(single_gradients(model, examples), 0.0)
    return (backward_ggn if matrix == "ggn" else backward_hessian)(model, examples)


# Residuals.


@pytest.fixture(scope="module")
def digits() -> tuple[TrainedModel, Examples]:
    """A float32 network that has learned digits, so that the gradients of most are small and some are large."""
    data = load_digits()
    inputs, targets = (data.images[:150, None] / 16).astype(np.float32), data.target[:150]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 10)
        )
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        F.cross_entropy(network(torch.from_numpy(inputs)), torch.from_numpy(targets)).backward()
        optimiser.step()
    return TrainedModel(network, Softmax(), batch_size=40, device="cpu"), Examples(inputs, targets)


def in_double(model: TrainedModel) -> TrainedModel:
    return TrainedModel(copy.deepcopy(model.network).double(), Softmax(), device="cpu")


def true_residual(matrix: Tensor, x: Tensor, v: Tensor) -> float:
    return relative_error(matrix @ x, v)


@pytest.mark.parametrize("damping", [1e-2, 1e-4, 1e-5, 1e-6])
def test_the_residual_of_a_float32_network_whose_gradients_are_recomputed_is_the_true_one(
    digits: tuple[TrainedModel, Examples], damping: float
) -> None:
    model, examples = digits
    matrix = dense_fisher(single_gradients(in_double(model), examples), damping)
    fisher = GramFisher.fit(model, examples, memory=1).damped(damping)
    gradient = model.weighted_gradient(examples.subset(range(10)))
    for v in (gradient, directions(in_double(model))):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            x = fisher.solve(v.double())
        truth = true_residual(matrix, x, v.double())
        assert truth < 1e-4
        assert fisher.residual == pytest.approx(truth, rel=0.05, abs=1e-9)
        assert relative_error(x, torch.linalg.solve(matrix, v.double())) < 1e-4
        # In float32 the answer is the same one, rounded.
        assert relative_error(fisher.solve(v.float()).double(), torch.linalg.solve(matrix, v.double())) < 1e-4
    removed = np.arange(20, 40)
    left = examples.subset(np.delete(np.arange(150), removed))
    smaller = dense_fisher(single_gradients(in_double(model), left), damping)
    x = fisher.without(removed).solve(gradient.double())
    assert relative_error(x, torch.linalg.solve(smaller, gradient.double())) < 1e-4


def test_recomputed_products_have_the_precision_of_their_vectors(
    digits: tuple[TrainedModel, Examples],
) -> None:
    model, examples = digits
    matrix = dense_fisher(single_gradients(in_double(model), examples), 0.1)
    fisher = GramFisher.fit(model, examples, memory=1).damped(0.1)
    v = directions(in_double(model), 2)
    assert relative_error(fisher.matvec(v), matrix @ v) < TOLERANCE
    assert relative_error(fisher.quadratic(v), (v * (matrix @ v)).sum(0)) < TOLERANCE
    assert fisher.matvec(v.float()).dtype == torch.float32
    assert relative_error(fisher.matvec(v.float()).double(), matrix @ v) < 1e-5


def test_a_residual_that_cannot_be_small_is_told(digits: tuple[TrainedModel, Examples]) -> None:
    model, examples = digits
    matrix = dense_fisher(single_gradients(in_double(model), examples), 1e-15)
    fisher = GramFisher.fit(model, examples, memory=1).damped(1e-15)
    v = directions(in_double(model))
    with pytest.warns(RuntimeWarning, match="was solved to a residual of"):
        x = fisher.solve(v)
    assert 1e-4 < true_residual(matrix, x, v) < fisher.residual < 0.1


@pytest.mark.parametrize("matrix", ["fisher", "ggn"])
def test_conjugate_gradients_in_float32_reach_the_tolerance_they_claim(
    digits: tuple[TrainedModel, Examples], matrix: str
) -> None:
    """The recurrence alone believes in 1e-6 where products in float32 leave 1e-5 and more."""
    model, examples = digits
    model, examples = TrainedModel(model.network, Softmax(), device="cpu"), examples.subset(range(30))
    dense = backward_matrix(matrix, in_double(model), examples)
    dense += 1e-2 * torch.eye(len(dense), dtype=torch.float64)
    v = model.weighted_gradient(examples.subset(range(5))).double()
    cg = ConjugateGradient.fit(model, examples, matrix=matrix, tolerance=1e-7).damped(1e-2)
    x = cg.solve(v)
    assert cg.residual < 1e-7
    assert cg.residual == pytest.approx(true_residual(dense, x, v), rel=1e-3)


def test_lissa_in_float32_claims_its_true_residual(digits: tuple[TrainedModel, Examples]) -> None:
    model, examples = digits
    matrix = dense_fisher(single_gradients(in_double(model), examples), 1.0)
    lissa = Lissa.fit(model, examples, tolerance=1e-9, iterations=80).damped(1.0)
    v = model.weighted_gradient(examples.subset(range(5))).double()
    with pytest.warns(RuntimeWarning, match="LiSSA reached a residual of"):
        x = lissa.solve(v)
    assert lissa.residual == pytest.approx(true_residual(matrix, x, v), rel=1e-3)


def test_small_blocks_of_a_float32_network_are_not_rounded_to_it(
    digits: tuple[TrainedModel, Examples],
) -> None:
    """Beside a λ of 1e-8, what a product or a matrix in float32 rounds off is ten times the error that is left."""
    model, examples = digits
    double = in_double(model)
    gradients = single_gradients(double, examples)
    v = model.weighted_gradient(examples.subset(range(10))).double()
    fisher = BlockFisher.fit(model, examples, block_size=60).damped(1e-8)
    expected = torch.cat(
        [
            torch.linalg.solve(dense_fisher(columns, 1e-8), part)
            for columns, part in zip(gradients.split(60, dim=1), v.split(60), strict=True)
        ]
    )
    assert relative_error(fisher.solve(v), expected) < 1e-4


@pytest.mark.parametrize("name", ["kfac", "ekfac"])
def test_kronecker_factors_in_float32_are_solved_as_they_are_multiplied(
    digits: tuple[TrainedModel, Examples], name: str
) -> None:
    """Their eigenvectors are orthogonal to 1e-7 only."""
    model, examples = digits
    fitted = fit_curvature(name, model, examples).damped(1e-4)
    for v in (model.weighted_gradient(examples).double(), directions(in_double(model), 2)):
        x = fitted.solve(v)
        missed = torch.linalg.vector_norm(fitted.matvec(x) - v, dim=0) / torch.linalg.vector_norm(v, dim=0)
        assert fitted.residual == pytest.approx(float(missed.max()), rel=1e-6)
        assert fitted.residual <= 1e-4


def test_the_hessian_of_a_float32_network_is_not_rounded_to_it() -> None:
    model, examples = make_case("linear", dtype=torch.float32)
    expected = backward_hessian(in_double(model), examples)
    v = torch.eye(len(expected), dtype=torch.float64)
    assert relative_error(Hessian.fit(model, examples).matvec(v), expected) < TOLERANCE


# Numbers that are none.


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", CURVATURES)
def test_right_hand_sides_that_are_not_finite_are_refused(name: str, bad: float) -> None:
    model, examples = make_case("linear")
    fitted = fit_curvature(name, model, examples).damped(5.0)
    v = directions(model, 3)
    v[4, 1] = bad
    with pytest.raises(RepairError, match="1 of 3 right-hand sides hold NaN or infinity, in 1 places: check"):
        fitted.solve(v)
    with pytest.raises(RepairError, match="1 of 1 right-hand sides hold NaN or infinity"):
        fitted.solve(v[:, 1])


@pytest.mark.parametrize("name", CURVATURES)
def test_vectors_of_another_length_or_type_are_refused(name: str) -> None:
    model, examples = make_case("linear")
    fitted = fit_curvature(name, model, examples).damped(5.0)
    d = len(model.parameter_vector)
    for wrong in (
        torch.ones(d + 1, dtype=torch.float64),
        torch.ones(1, dtype=torch.float64),
        torch.ones(2, d, dtype=torch.float64),
        torch.ones(d, 0, dtype=torch.float64),
        torch.ones(d, dtype=torch.int64),
    ):
        for act in (fitted.solve, fitted.matvec):
            with pytest.raises(
                RepairError, match=f"a curvature of {d} parameters was given vectors of shape"
            ):
                act(wrong)


@pytest.mark.parametrize("name", CURVATURES)
def test_several_right_hand_sides_are_solved_as_one_by_one(name: str) -> None:
    """Of very different lengths, one of them 0."""
    model, examples = make_case("linear")
    fitted = fit_curvature(name, model, examples).damped(5.0)
    v = directions(model, 4) * torch.tensor([1e-9, 1.0, 0.0, 1e9], dtype=torch.float64)
    together = fitted.solve(v)
    for column in range(4):
        alone = fitted.solve(v[:, column])
        assert float((together[:, column] - alone).norm()) <= 1e-3 * float(alone.norm())
    assert not together[:, 2].any()


@pytest.mark.parametrize("name", sorted(set(CURVATURES) - {"identity"}))
def test_examples_that_make_no_numbers_are_refused(name: str) -> None:
    model, examples = make_case("linear")
    inputs = examples.inputs.copy()
    inputs[7, 1] = np.nan
    with pytest.raises(RepairError, match="holds NaN or infinity"):
        fit_curvature(name, model, Examples(inputs, examples.targets)).damped(5.0).solve(directions(model))


# Networks that are not what they seem.


def under_two_names() -> nn.Module:
    """One layer, registered twice."""
    twice = nn.Linear(4, 4)
    return nn.Sequential(twice, nn.Tanh(), twice, nn.Linear(4, 3))


@pytest.mark.parametrize("name", CURVATURES)
def test_a_module_under_two_names_is_right_and_stays_whole(name: str) -> None:
    model, examples = make_model(under_two_names), make_examples((4,), 11)
    before = {key: tensor.clone() for key, tensor in model.network.state_dict().items()}
    v = directions(model)
    expected = dense_fisher(single_gradients(model, examples), 5.0)
    for matrix in MATRICES if name in ("cg", "lissa") else ("fisher",):
        options = {"matrix": matrix, "tolerance": 1e-9} if name in ("cg", "lissa") else {}
        fitted = fit_curvature(name, model, examples, **options).damped(5.0)
        x = fitted.solve(v)
        if name == "hessian":
            expected = backward_hessian(model, examples) + 5 * torch.eye(35, dtype=torch.float64)
        elif options:
            expected = backward_matrix(matrix, model, examples) + 5 * torch.eye(35, dtype=torch.float64)
        if name in ("cg", "lissa", "gram", "hessian"):
            assert relative_error(x, torch.linalg.solve(expected, v)) < 1e-8
    assert len(model.parameter_vector) == 35
    assert len(model.copy().parameter_vector) == 35
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.network.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.network.state_dict().items())


class Padded(nn.Module):
    """Tokens of which number 0 is padding, and the last layer tied to their embedding."""

    def __init__(self, *, tied: bool, functional: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4, padding_idx=0)
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 5, bias=False)
        self.functional = functional
        if tied:
            self.last.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        if self.functional:
            found = F.embedding(tokens.long(), self.embedding.weight, -5)
        else:
            found = self.embedding(tokens.long())
        return self.last(torch.tanh(self.first(found)).sum(1))


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_padding_of_an_embedding_is_a_constant(tied: bool, functional: bool) -> None:
    model = make_model(lambda: Padded(tied=tied, functional=functional), batch_size=4)
    with torch.no_grad():
        model.network.embedding.weight[0] = torch.tensor([0.3, -0.2, 0.5, 0.1])
    random = np.random.default_rng(0)
    examples = Examples(random.integers(0, 5, (9, 3)), random.integers(0, 5, 9))
    d = len(model.parameter_vector)
    v, units = directions(model), torch.eye(d, dtype=torch.float64)
    gradients = single_gradients(model, examples)
    assert bool(gradients[:, :4].any()) == tied
    assert relative_error(model.directional_derivatives(examples, v), gradients @ v) < TOLERANCE
    for matrix in MATRICES:
        expected = backward_matrix(matrix, model, examples)
        product = ConjugateGradient.fit(model, examples, matrix=matrix).matvec(units)
        assert relative_error(product, expected) < TOLERANCE
        assert relative_error(product, product.T) < TOLERANCE
    x = Hessian.fit(model, examples).damped(50.0).solve(gradients.sum(0))
    wanted = backward_hessian(model, examples) + 50 * units
    assert relative_error(x, torch.linalg.solve(wanted, gradients.sum(0))) < TOLERANCE
    assert bool(x[:4].any()) == tied, "the padding row moves only where it is also something else"
    for name in ("gram", "block", "diagonal"):
        fitted = fit_curvature(name, model, examples).damped(0.1)
        if name == "gram":
            assert relative_error(fitted.matvec(v), dense_fisher(gradients, 0.1) @ v) < TOLERANCE


@pytest.mark.parametrize("tracked", [False, True])
def test_one_example_alone_has_the_gradient_that_it_has_among_others(tracked: bool) -> None:
    model = make_model(
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 1),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=tracked),
            nn.Conv2d(4, 3, 3, stride=2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(27, 3),
        ).to(memory_format=torch.channels_last),
        batch_size=9,
    )
    if tracked:
        model.network[1].running_var.uniform_(0.5, 2)
    examples = make_examples((2, 7, 7), 9)
    together = model.weighted_gradient(examples)
    fisher = DiagonalFisher.fit(model, examples).entries
    model.batch_size = 4
    assert relative_error(model.weighted_gradient(examples), together) < TOLERANCE
    assert relative_error(DiagonalFisher.fit(model, examples).entries, fisher) < TOLERANCE
    v = directions(model)
    alone = [model.weighted_gradient(examples.subset([i])) for i in range(9)]
    assert relative_error(sum(alone), together) < TOLERANCE
    for i, gradient in enumerate(alone):
        assert relative_error(gradient @ v, model.directional_derivatives(examples, v)[i]) < TOLERANCE


class Constant(nn.Module):
    """Layers whose outputs cancel but for rounding, in a network that PyTorch cannot map over examples."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        hidden = hidden - (hidden / 3).mul(3)
        order = x[:, 0].argsort()
        return self.last(hidden[order] + 1)[order.argsort()]


def test_gradients_that_are_rounding_alone_are_no_influence_of_other_examples() -> None:
    model = make_model(Constant, batch_size=4)
    examples = make_examples((5,), 9)
    recorder = Recorder(model, examples)
    for name in model.parameters:
        rows = [dict(gradients)[name] for _, gradients in recorder.batches(examples, {name})]
        assert len(rows) == 3


class FunctionalDropout(nn.Module):
    """Dropout that eval mode does not turn off."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(F.dropout(inputs, 0.5))


def batch_statistics() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3))


@pytest.mark.parametrize("name", sorted(set(CURVATURES) - {"identity"}))
@pytest.mark.parametrize("make", [Coupled, batch_statistics])
def test_examples_that_influence_each_other_are_refused_by_every_curvature(
    name: str, make: Callable[[], nn.Module]
) -> None:
    model = make_model(make)
    with pytest.raises(RepairError, match="examples influence each other"):
        fit_curvature(name, model, make_examples((5,), 9)).damped(5.0).solve(directions(model))


@pytest.mark.parametrize("name", ["cg", "hessian", "lissa"])
def test_random_networks_are_refused(name: str) -> None:
    model = make_model(FunctionalDropout)
    with pytest.raises(RepairError, match="says something else when it runs again"):
        fit_curvature(name, model, make_examples((5,), 9)).damped(5.0).solve(directions(model))


# Files.


class Constants(nn.Module):
    """A frozen backbone, a buffer, and one that no file of the network holds."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(4, 5).requires_grad_(False)
        self.register_buffer("offset", torch.ones(5))
        self.register_buffer("factor", torch.ones(5), persistent=False)
        self.norm = nn.BatchNorm1d(5)
        self.activation: nn.Module = nn.Tanh()
        self.last = nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.backbone(inputs) + self.offset) * self.factor
        return self.last(self.activation(hidden))


def change(network: nn.Module, what: str) -> None:
    with torch.no_grad():
        if what == "backbone":
            network.backbone.weight[0, 0] += 1e-9
        elif what == "statistics":
            network.norm.running_var[2] *= 3
        elif what in ("offset", "factor"):
            getattr(network, what)[1] += 1
        else:
            network.activation = nn.ReLU()


@pytest.mark.parametrize("name", CURVATURES)
def test_files_of_a_model_that_differs_in_what_is_not_trained_are_refused(name: str, tmp_path: Path) -> None:
    model, examples = make_model(Constants), make_examples((4,), 9)
    fit_curvature(name, model, examples).save(tmp_path)
    load_curvature(name, tmp_path, model.copy(), examples, 5.0).solve(directions(model))
    for what in ("backbone", "statistics", "offset", "factor", "activation"):
        other = model.copy()
        change(other.network, what)
        assert torch.equal(other.parameter_vector, model.parameter_vector)
        with pytest.raises(RepairError, match="fitted to another model or to other examples"):
            load_curvature(name, tmp_path, other, examples, 5.0)


def test_files_of_examples_that_differ_in_one_input_are_refused(tmp_path: Path) -> None:
    model, examples = make_case("linear", 1500)
    fit_curvature("diagonal", model, examples).save(tmp_path)
    for position in (1, 1023, 1024, 1499):
        inputs = examples.inputs.copy()
        inputs[position, 0] += 1e-9
        with pytest.raises(RepairError, match="fitted to another model or to other examples"):
            load_curvature("diagonal", tmp_path, model, Examples(inputs, examples.targets), 5.0)


def test_half_precision_models_have_a_fingerprint(tmp_path: Path) -> None:
    model, examples = make_case("linear", dtype=torch.bfloat16)
    fit_curvature("identity", model, examples).save(tmp_path)
    assert load_curvature("identity", tmp_path, model, examples, 1.0).damping == 1.0
    other = model.with_parameter_vector(model.parameter_vector + 1)
    with pytest.raises(RepairError, match="fitted to another model or to other examples"):
        load_curvature("identity", tmp_path, other, examples, 1.0)


# Leaving examples out.

FORGETTING = sorted(name for name, kind in CURVATURES.items() if hasattr(kind, "without"))


@pytest.mark.parametrize("name", FORGETTING)
def test_examples_may_be_left_out_by_a_mask(name: str) -> None:
    model, examples = make_case("linear")
    fitted, v = fit_curvature(name, model, examples).damped(5.0), directions(model)
    positions = np.array([3, 8, 9, 22])
    mask = np.isin(np.arange(23), positions)
    refit = fit_curvature(name, model, examples.subset(~mask)).damped(5.0).solve(v)
    for given in (positions, mask, mask.tolist(), torch.from_numpy(mask), positions[::-1], [*positions, 3]):
        assert relative_error(without(fitted, given).solve(v), refit) < TOLERANCE
    for nobody in ([], np.zeros(23, dtype=bool)):
        assert relative_error(without(fitted, nobody).solve(v), fitted.solve(v)) < TOLERANCE


def without(fitted: Curvature, given: object) -> Curvature:
    left: Curvature = fitted.without(given)  # type: ignore[attr-defined]
    return left


@pytest.mark.parametrize("name", FORGETTING)
def test_what_cannot_be_left_out_is_refused(name: str) -> None:
    model, examples = make_case("linear")
    fitted = fit_curvature(name, model, examples).damped(5.0)
    for wrong, words in (
        (np.ones(22, dtype=bool), "a mask of shape"),
        ([23], "give positions from 0 to 22"),
        ([-1], "give positions from 0 to 22"),
        ([0.5], "give positions from 0 to 22, or a boolean mask"),
        (np.ones(23, dtype=bool), "none left"),
        (range(23), "none left"),
    ):
        with pytest.raises(RepairError, match=words):
            without(fitted, wrong)


@pytest.mark.parametrize("name", FORGETTING)
def test_what_is_left_is_saved_as_what_is_left(name: str, tmp_path: Path) -> None:
    model, examples = make_case("linear")
    v = directions(model)
    left = without(without(fit_curvature(name, model, examples), []), [3, 8, 9])
    left.save(tmp_path)
    loaded = load_curvature(name, tmp_path, model, examples, 5.0)
    assert relative_error(loaded.solve(v), left.damped(5.0).solve(v)) < TOLERANCE
    refit = fit_curvature(name, model, examples.subset(np.delete(np.arange(23), [3, 8, 9]))).damped(5.0)
    assert relative_error(loaded.solve(v), refit.solve(v)) < TOLERANCE
    if name == "hessian":
        with pytest.raises(RepairError, match="has lost examples before"):
            without(loaded, [1])
    else:
        again = fit_curvature(name, model, examples.subset(np.delete(np.arange(23), [1, 3, 8, 9])))
        assert relative_error(without(loaded, [1]).solve(v), again.damped(5.0).solve(v)) < TOLERANCE
