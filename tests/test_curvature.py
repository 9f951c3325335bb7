"""The exact full-matrix and diagonal empirical Fisher against dense float64 computations."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from curvature_cases import (
    CASES,
    AttentionPool,
    Coupled,
    Function,
    GatedMixture,
    Loop,
    LowRankAdapted,
    Mixture,
    Sorted,
    dense_fisher,
    dense_gradients,
    directions,
    make_case,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    relative_error,
)
from modelrepair.curvature import CURVATURES, DiagonalFisher, GramFisher, fit_curvature, load_curvature
from modelrepair.errors import RepairError
from modelrepair.gradients.collected import Dense, Factored, Gradients
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

DAMPING = 0.01
TOLERANCE = 1e-10
LITTLE_MEMORY = {"memory": 1}


@pytest.mark.parametrize(
    "options", [{}, LITTLE_MEMORY, {"scratch": "tmp"}], ids=["held", "passes", "scratch"]
)
@pytest.mark.parametrize("minibatch", [1, 4])
@pytest.mark.parametrize("case", CASES)
def test_gram_equals_dense(case: str, minibatch: int, options: dict[str, Any], tmp_path: Path) -> None:
    model, examples = make_case(case)
    if "scratch" in options:
        options = {"scratch": tmp_path, "memory": 500}
    expected = dense_fisher(dense_gradients(model, examples), DAMPING, minibatch)
    fisher = GramFisher.fit(model, examples, minibatch=minibatch, **options).damped(DAMPING)
    for v in (directions(model), directions(model, 3)):
        assert relative_error(fisher.matvec(v), expected @ v) < TOLERANCE
        assert relative_error(fisher.solve(v), torch.linalg.solve(expected, v)) < TOLERANCE
        assert relative_error(fisher.quadratic(v), (v * (expected @ v)).sum(0)) < TOLERANCE
        assert fisher.solve(v).shape == fisher.matvec(v).shape == v.shape
    assert fisher.residual < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_diagonal_equals_dense(case: str) -> None:
    model, examples = make_case(case)
    expected = dense_gradients(model, examples).square().mean(0)
    fisher = DiagonalFisher.fit(model, examples)
    assert relative_error(fisher.entries, expected) < TOLERANCE
    fisher = fisher.damped(DAMPING)
    for v in (directions(model), directions(model, 3)):
        column = (expected + DAMPING).view(-1, *[1] * (v.ndim - 1))
        assert relative_error(fisher.matvec(v), column * v) < TOLERANCE
        assert relative_error(fisher.solve(v), v / column) < TOLERANCE
        assert relative_error(fisher.quadratic(v), (column * v * v).sum(0)) < TOLERANCE


def test_rows_are_factored_where_that_is_cheaper() -> None:
    kinds = {}
    for case in ("linear", "few-positions", "convolutions", "shared", "sequence"):
        model, examples = make_case(case)
        pieces = Gradients(model, examples).pieces
        assert pieces is not None
        kinds[case] = [type(piece) for piece in pieces]
    assert kinds == {
        "linear": [Factored, Factored],
        "few-positions": [Factored, Factored],
        "convolutions": [Dense, Factored],
        "shared": [Dense, Factored],
        "sequence": [Dense, Factored],
    }


@pytest.mark.parametrize("name", CURVATURES)
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_batch_size_does_not_matter(name: str, batch_size: int) -> None:
    results = []
    for size in (7, batch_size):
        model, examples = make_case("convolutions", batch_size=size)
        results.append(fit_curvature(name, model, examples).damped(5.0).solve(directions(model, 2)))
    assert relative_error(*results) < TOLERANCE


@pytest.mark.parametrize("name", CURVATURES)
def test_order_of_examples_does_not_matter(name: str) -> None:
    model, examples = make_case("convolutions")
    v = directions(model)
    shuffled = examples.subset(np.random.default_rng(3).permutation(len(examples)))
    results = [fit_curvature(name, model, e).damped(5.0).solve(v) for e in (examples, shuffled)]
    assert relative_error(*results) < TOLERANCE


@pytest.mark.parametrize("name", CURVATURES)
def test_same_inputs_give_same_bytes_and_survive_saving(name: str, tmp_path: Path) -> None:
    model, examples = make_case("normalised", 9)
    v = directions(model, 2)
    written = []
    for attempt in ("first", "second"):
        (tmp_path / attempt).mkdir()
        fitted = fit_curvature(name, model, examples)
        fitted.save(tmp_path / attempt)
        written.append([(p.name, p.read_bytes()) for p in sorted((tmp_path / attempt).iterdir())])
    assert written[0] == written[1]
    loaded = load_curvature(name, tmp_path / "first", model, examples, 5.0)
    assert torch.equal(loaded.solve(v), fitted.damped(5.0).solve(v))
    assert torch.equal(loaded.matvec(v), fitted.damped(5.0).matvec(v))


@pytest.mark.parametrize("name", CURVATURES)
def test_artefact_of_another_model_or_data_is_refused(name: str, tmp_path: Path) -> None:
    model, examples = make_case("linear")
    fit_curvature(name, model, examples).save(tmp_path)
    moved = model.with_parameter_vector(model.parameter_vector + 1e-9)
    relabelled = Examples(examples.inputs, (examples.targets + 1) % 3)
    for other_model, other_examples in (
        (moved, examples),
        (model, relabelled),
        (model, examples.subset([0, 1])),
    ):
        with pytest.raises(RepairError, match="fitted to another model or to other examples"):
            load_curvature(name, tmp_path, other_model, other_examples, 0.1)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RepairError, match="truncated or damaged"):
        load_curvature(name, tmp_path, model, examples, 0.1)
    path.unlink()
    with pytest.raises(RepairError, match="missing"):
        load_curvature(name, tmp_path, model, examples, 0.1)


@pytest.mark.parametrize("minibatch", [1, 4])
def test_downdated_fisher_equals_refit(minibatch: int, tmp_path: Path) -> None:
    model, examples = make_case("convolutions")
    removed = [0, 1, 2, 3, 8, 9, 10, 11, 20, 21, 22]
    v = directions(model, 2)
    fisher = GramFisher.fit(model, examples, minibatch=minibatch).damped(DAMPING)
    left = examples.subset(np.delete(np.arange(len(examples)), removed))
    refit = GramFisher.fit(model, left, minibatch=minibatch).damped(DAMPING)
    for downdated in (fisher.without(removed), fisher.without(removed[:4]).without(removed[4:])):
        assert relative_error(downdated.solve(v), refit.solve(v)) < TOLERANCE
        assert relative_error(downdated.matvec(v), refit.matvec(v)) < TOLERANCE
    fisher.save(tmp_path)
    loaded = GramFisher.load(tmp_path, model, examples).damped(DAMPING).without(removed)
    assert relative_error(loaded.solve(v), refit.solve(v)) < TOLERANCE


def test_downdate_refuses_what_it_cannot_do() -> None:
    model, examples = make_case("linear")
    fisher = GramFisher.fit(model, examples, minibatch=4)
    with pytest.raises(RepairError, match="only some were to be removed"):
        fisher.without([0, 1])
    with pytest.raises(RepairError, match="none left"):
        fisher.without(range(len(examples)))
    with pytest.raises(RepairError, match="give positions from 0 to 22"):
        fisher.without([23])


def test_recurrence_gram_and_direct_solve_agree() -> None:
    """Peste et al. 2021, Eq. 7: F̂⁻¹ grows by one rank-one update an example from λ⁻¹I."""
    model, examples = make_case("convolutions")
    rows = dense_gradients(model, examples)
    inverse = torch.eye(rows.shape[1], dtype=torch.float64) / DAMPING
    for row in rows:
        image = inverse @ row
        inverse -= torch.outer(image, image) / (len(rows) + row @ image)
    v = directions(model)
    direct = torch.linalg.solve(dense_fisher(rows, DAMPING), v)
    assert relative_error(inverse @ v, direct) < TOLERANCE
    assert relative_error(GramFisher.fit(model, examples).damped(DAMPING).solve(v), direct) < TOLERANCE


def test_minibatch_gradients_undo_the_shrinkage() -> None:
    """Sums of m independent gradients of mean zero have m times their second moment, not 1/m."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make_model(lambda: nn.Linear(4, 3), batch_size=500)
        inputs = torch.randn(6000, 4, dtype=torch.float64)
        targets = torch.distributions.Categorical(logits=model.network(inputs)).sample()
    examples = Examples(inputs.numpy(), targets.numpy())
    v = directions(model)
    single, grouped = (GramFisher.fit(model, examples, minibatch=m, memory=1).quadratic(v) for m in (1, 10))
    assert float(grouped / single) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("case", ["linear", "convolutions"])
def test_equal_to_nngeometry(case: str) -> None:
    pytest.importorskip("nngeometry")
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object.pspace import PMatDense, PMatDiag, PMatLowRank
    from nngeometry.object.vector import PVector

    model, examples = make_case(case)
    if case == "convolutions":
        model = make_model(
            lambda: nn.Sequential(
                nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
            )
        )
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=6)
    layers = LayerCollection.from_model(model.network)
    generator = TorchHooksJacobianBackend(
        model=model.network,
        layer_collection=layers,
        function=lambda x, y: F.cross_entropy(model.network(x), y, reduction="none").unsqueeze(1),
    )
    # A power of 2: theirs adds λ in float32. In the span of the gradients: their low-rank solve drops the rest.
    damping, v = 2**-7, model.weighted_gradient(examples, np.arange(len(examples)))
    ours = {"gram": GramFisher.fit(model, examples), "diagonal": DiagonalFisher.fit(model, examples)}
    for theirs, name in ((PMatDense, "gram"), (PMatLowRank, "gram"), (PMatDiag, "diagonal")):
        matrix = theirs(generator=generator, examples=loader)
        solved = matrix.solvePVec(PVector(layers, vector_repr=v), regul=damping).to_torch()
        # Their diagonal of a convolution is computed in float32.
        tolerance = 1e-7 if (case, name) == ("convolutions", "diagonal") else TOLERANCE
        assert relative_error(ours[name].damped(damping).solve(v), solved) < tolerance


def test_float32_reaches_a_small_residual_at_any_useful_damping() -> None:
    model, examples = make_case("convolutions", 200, dtype=torch.float32)
    v = model.weighted_gradient(examples)
    fisher = GramFisher.fit(model, examples)
    for damping in (1.0, 1e-3, 1e-6, 1e-9):
        damped = fisher.damped(damping)
        solution = damped.solve(v)
        assert solution.dtype == torch.float32
        assert damped.residual < 1e-4
    by_passes = GramFisher.fit(model, examples, memory=1).damped(1e-3)
    by_passes.solve(v)
    assert by_passes.residual < 1e-4


@pytest.mark.parametrize("options", [{}, LITTLE_MEMORY], ids=["held", "passes"])
@pytest.mark.parametrize("refinements", [0, 1, 10])
def test_the_residual_is_the_true_one(
    monkeypatch: pytest.MonkeyPatch, refinements: int, options: dict[str, int]
) -> None:
    """Of what comes of a Gram matrix that is 2 % off, and of mending it."""
    model, examples = make_case("convolutions")
    v = directions(model, 3)
    monkeypatch.setattr("modelrepair.curvature.operators.REFINEMENTS", refinements)
    monkeypatch.setattr("modelrepair.curvature.operators.UNSOLVED", 100)
    fisher = GramFisher.fit(model, examples, **options).damped(DAMPING)
    fisher._operator.gram = 1.02 * fisher.gram
    with warnings.catch_warnings():
        warnings.simplefilter("error" if refinements == 10 else "ignore", RuntimeWarning)
        x = fisher.solve(v)
    image = dense_fisher(dense_gradients(model, examples), DAMPING) @ x
    truth = (torch.linalg.vector_norm(image - v, dim=0) / torch.linalg.vector_norm(v, dim=0)).max()
    assert fisher.residual == pytest.approx(float(truth), rel=0.03)
    assert (truth > 1e-4) == (refinements < 10)


def test_precise_products_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many solves need them."""
    model, examples = make_case("convolutions", 200, dtype=torch.float32)
    damped, asked = GramFisher.fit(model, examples).damped(1e-3), []
    precise = damped._operator.precise_gram
    monkeypatch.setattr(damped._operator, "precise_gram", lambda: asked.append(1) or precise())
    damped._operator.gram = 1.5 * damped.gram
    monkeypatch.setattr("modelrepair.curvature.operators.REFINEMENTS", 0)
    for _ in range(3):
        damped.solve(model.weighted_gradient(examples))
    assert len(asked) == 1


def test_damping_that_is_too_small_is_named() -> None:
    model, examples = make_case("linear")
    fisher = GramFisher.fit(model, examples)
    with pytest.raises(RepairError, match=r"singular to working precision.*use a damping of") as refusal:
        fisher.solve(directions(model))
    with pytest.raises(RepairError, match=r"singular to working precision.*use a damping of"):
        fisher.damped(1e-30).solve(directions(model))
    enough = float(str(refusal.value).split("use a damping of ")[1].split()[0])
    fisher.damped(enough).solve(directions(model))


@pytest.mark.parametrize("name", CURVATURES)
def test_impossible_damping_is_refused(name: str) -> None:
    model, examples = make_case("linear")
    fitted = fit_curvature(name, model, examples)
    for damping in (-0.1, float("nan"), float("inf")):
        with pytest.raises(RepairError, match="give a finite number, 0 or more"):
            fitted.damped(damping)


def test_damping_returns_what_it_can_share() -> None:
    model, examples = make_case("linear")
    fisher = GramFisher.fit(model, examples).damped(0.1)
    assert fisher.damped(0.1) is fisher
    assert fisher.damping == 0.1
    assert fisher.damped(0.2).damping == 0.2


def test_dead_units_are_floored_with_a_warning() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    nn.init.constant_(network[0].bias, -100)
    model = make_model(lambda: network)
    fisher = DiagonalFisher.fit(model, make_examples((3,), 11))
    assert int((fisher.entries == 0).sum()) == 3 * 4 + 4 + 4 * 3
    with pytest.warns(RuntimeWarning, match="28 of 31 parameters is below 1e-06 of the largest entry"):
        solution = fisher.solve(torch.ones(31, dtype=torch.float64))
    assert float(solution.max()) == pytest.approx(1e6 / float(fisher.entries.max()))
    assert bool(torch.isfinite(fisher.damped(1e-12).solve(torch.ones(31, dtype=torch.float64))).all())


def test_model_without_gradients_has_no_diagonal_to_floor() -> None:
    model = make_model(lambda: nn.Linear(3, 3, bias=False))
    fisher = DiagonalFisher.fit(model, Examples(np.zeros((4, 3)), np.zeros(4, dtype=np.int64)))
    with pytest.raises(RepairError, match="all entries of the curvature diagonal are 0"):
        fisher.solve(directions(model))


@pytest.mark.parametrize("name", ["gram", "diagonal", "block"])
def test_examples_that_influence_each_other_are_refused(name: str) -> None:
    for make, shape in (
        (Coupled, (5,)),
        (lambda: nn.Sequential(nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 3)), (5,)),
    ):
        with pytest.raises(RepairError, match="examples influence each other"):
            fit_curvature(name, make_model(make), make_examples(shape, 9))


def test_a_branch_that_depends_on_the_batch_is_refused() -> None:
    class Opaque(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(5))
            self.last = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scaled = x * self.factor
            return self.last(scaled if (scaled.sum() > 0).item() else 2 * scaled)

    with pytest.raises(RepairError, match="examples influence each other"):
        GramFisher.fit(make_model(Opaque), make_examples((5,), 9))


# Networks whose layers see something else than all examples one after the other, or compute something of their own.


def sorted_by(column: int, count: int = 23, features: int = 4) -> Examples:
    examples = make_examples((features,), count)
    return examples.subset(np.argsort(examples.inputs[:, column]))


@pytest.mark.parametrize("minibatch", [1, 3])
@pytest.mark.parametrize("kind", [Mixture, GatedMixture])
def test_experts_that_only_some_examples_reach(kind: type[nn.Module], minibatch: int) -> None:
    """With examples in an order in which the first ones all reach the same expert, and batches miss some."""
    network = nn.Sequential(kind(4, 4), nn.Linear(4, 3))
    with torch.no_grad():
        network[0].gate.weight.copy_(torch.tensor([[-9.0], [-3.0], [3.0], [9.0]]) * torch.eye(4)[:1])
    model, examples = make_model(lambda: network), sorted_by(0)
    chosen = network[0].gate(torch.from_numpy(examples.inputs)).argmax(1).tolist()
    assert len(set(chosen[:8])) == 1 < len(set(chosen)), "the examples are no such"
    rows, v = Loop(model, examples).gradients, directions(model, 2)
    diagonal = DiagonalFisher.fit(model, examples)
    assert relative_error(diagonal.entries, rows.square().mean(0)) < TOLERANCE
    for memory in (2**30, 1):
        fisher = GramFisher.fit(model, examples, minibatch=minibatch, memory=memory).damped(DAMPING)
        expected = dense_fisher(rows, DAMPING, minibatch)
        assert relative_error(fisher.matvec(v), expected @ v) < TOLERANCE
        assert relative_error(fisher.solve(v), torch.linalg.solve(expected, v)) < TOLERANCE
    block = fit_curvature("block", model, examples, block_size=10**6, minibatch=minibatch).damped(DAMPING)
    assert relative_error(block.solve(v), torch.linalg.solve(expected, v)) < TOLERANCE
    trace = fit_curvature("ekfac", model, examples).matvec(torch.eye(len(v), dtype=v.dtype)).trace()
    assert float(trace) == pytest.approx(float(rows.square().sum() / len(rows)), rel=TOLERANCE)


@pytest.mark.parametrize("name", ["gram", "block", "diagonal"])
def test_what_the_probe_missed_is_noticed_in_the_batch_that_shows_it(name: str) -> None:
    """Examples that a layer sees in the order of their values, of which the few that are probed are all alike."""
    model = make_model(lambda: nn.Sequential(Sorted(4), nn.Linear(4, 3)))
    inputs = make_examples((4,), 23).inputs.copy()
    probed = np.random.default_rng(0).permutation(23)[:8]
    inputs[probed, 0] = 0.0
    examples = Examples(inputs, np.arange(23) % 3)
    squares = Loop(model, examples).gradients.square().mean(0)
    identity = torch.eye(len(squares), dtype=squares.dtype)
    assert relative_error(fit_curvature(name, model, examples).matvec(identity).diag(), squares) < TOLERANCE


class Attended(nn.Module):
    """Self-attention, or a whole encoder layer, and a pool; for sequences first or examples first."""

    def __init__(self, kind: str, first: bool = True) -> None:
        super().__init__()
        make = {"attention": nn.MultiheadAttention, "encoder": nn.TransformerEncoderLayer}[kind]
        sizes = {"attention": (4, 2), "encoder": (4, 2, 6)}[kind]
        self.kind, self.first = kind, first
        self.layer = make(*sizes, batch_first=first)
        self.pool = AttentionPool(4)
        self.last = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.first else x.transpose(0, 1)
        x = self.layer(x, x, x, need_weights=False)[0] if self.kind == "attention" else self.layer(x)
        return self.last(self.pool(x if self.first else x.transpose(0, 1)))


def _flattened(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    return layer(x.reshape(-1, 4)).view(len(x), -1)


def _words(x: torch.Tensor, bag: nn.Module) -> torch.Tensor:
    return bag((3 * x).long().abs() % 7)


SPECIAL: dict[str, tuple[Any, tuple[int, ...]]] = {
    "flattened positions": (lambda: Function(_flattened, nn.Linear(4, 3)), (5, 4)),
    "sequence first": (
        lambda: Function(
            lambda x, layer: layer(x.transpose(0, 1)).transpose(0, 1).flatten(1), nn.Linear(4, 3)
        ),
        (5, 4),
    ),
    "discarded output": (lambda: Function(lambda x, layer: (layer(x), x)[1], nn.Linear(4, 4)), (4,)),
    "scalar gate": (lambda: Function(lambda x, gate: gate * x, gate=nn.Parameter(torch.tensor(0.7))), (4,)),
    "low-rank adapter": (lambda: LowRankAdapted(4, 5), (4,)),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), (4,)),
    "weight norm by hooks": (lambda: nn.utils.weight_norm(nn.Linear(4, 5)), (4,)),
    "embedding bag": (lambda: Function(_words, nn.EmbeddingBag(7, 4, mode="sum")), (5,)),
    "recurrent": (
        lambda: Function(lambda x, layer: layer(x)[0][:, -1], nn.LSTM(4, 3, batch_first=True)),
        (5, 4),
    ),
    "channels last": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 2, groups=1), nn.Flatten()).to(
            memory_format=torch.channels_last
        ),
        (2, 6, 6),
    ),
    "bias before instance norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh(), nn.Flatten()),
        (2, 6, 6),
    ),
    "attention": (lambda: Attended("attention"), (5, 4)),
    "attention, sequence first": (lambda: Attended("attention", first=False), (5, 4)),
    "encoder": (lambda: Attended("encoder"), (5, 4)),
    "encoder, sequence first": (lambda: Attended("encoder", first=False), (5, 4)),
}


def special(name: str) -> tuple[TrainedModel, Examples]:
    make, shape = SPECIAL[name]

    def network() -> nn.Module:
        layer = make()
        features = layer.double().eval()(torch.zeros(2, *shape, dtype=torch.float64)).shape[1]
        return nn.Sequential(layer, nn.Linear(features, 3))

    return make_model(network), make_examples(shape, 13)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("minibatch", [1, 3])
@pytest.mark.parametrize("name", SPECIAL)
def test_layers_with_ways_of_their_own_are_exact(name: str, minibatch: int) -> None:
    model, examples = special(name)
    rows, v = Loop(model, examples).gradients, directions(model, 2)
    expected = dense_fisher(rows, DAMPING, minibatch)
    fisher = GramFisher.fit(model, examples, minibatch=minibatch).damped(DAMPING)
    assert relative_error(fisher.matvec(v), expected @ v) < TOLERANCE
    assert relative_error(fisher.solve(v), torch.linalg.solve(expected, v)) < TOLERANCE
    diagonal = DiagonalFisher.fit(model, examples)
    assert relative_error(diagonal.entries, rows.square().mean(0)) < TOLERANCE


@pytest.mark.parametrize("name", ["attention", "encoder", "encoder, sequence first", "recurrent"])
def test_fused_layers_are_differentiated_twice_and_forward(name: str) -> None:
    model, examples = special(name)
    v = directions(model, 2)
    loop = Loop(model, examples, v)
    rows = loop.gradients
    assert loop.hessian is not None
    assert relative_error(model.directional_derivatives(examples, v[:, 0]), rows @ v[:, 0]) < TOLERANCE
    fisher = GramFisher.fit(model, examples, memory=1).damped(DAMPING)
    assert relative_error(fisher.matvec(v), dense_fisher(rows, DAMPING) @ v) < TOLERANCE
    for matrix, expected in (
        ("hessian", loop.hessian),
        ("ggn", loop.ggn),
        ("fisher", dense_fisher(rows, 0.0) @ v),
    ):
        product = fit_curvature("cg", model, examples, matrix=matrix).matvec(v)
        assert relative_error(product, expected) < TOLERANCE
    assert torch.backends.mha.get_fastpath_enabled(), "what was switched off for this is on again"
    assert torch.backends.mkldnn.enabled


@pytest.mark.parametrize("name", ["embedding bag", "weight norm"])
def test_layers_without_a_forward_derivative_are_named(name: str) -> None:
    model, examples = special(name)
    v = directions(model)
    kind = {"embedding bag": "EmbeddingBag", "weight norm": "_WeightNorm"}[name]
    with pytest.raises(RepairError, match=rf"layer 0\.\S+ \({kind}\) cannot give directional derivatives"):
        model.directional_derivatives(examples, v)
    with pytest.raises(RepairError, match=rf"layer 0\.\S+ \({kind}\) cannot give products"):
        fit_curvature("cg", model, examples).damped(1.0).solve(v)


def test_gradients_that_are_not_finite_are_said_to_be() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + (self.layer.weight[0, 0] * 0 * x[:, :1]).abs().sqrt()

    with pytest.raises(RepairError, match=r"by layer\.weight holds NaN or infinity"):
        DiagonalFisher.fit(make_model(Rooted), make_examples((4,), 9))


def test_sparse_gradients_are_refused_by_name() -> None:
    model = make_model(
        lambda: nn.Sequential(Function(_words, nn.EmbeddingBag(7, 4, sparse=True)), nn.Linear(4, 3))
    )
    with pytest.raises(RepairError, match=r"layer 0\.inner\.0 \(EmbeddingBag\) has sparse gradients"):
        GramFisher.fit(model, make_examples((5,), 9))


def test_whole_numbers_as_attributes() -> None:
    model, examples = make_case("linear")
    model = TrainedModel(model.network, Sigmoid(), device="cpu")
    numbers = np.arange(69).reshape(23, 3) % 2
    v = directions(model)
    found, expected = (
        GramFisher.fit(model, Examples(examples.inputs, targets)).damped(0.1).solve(v)
        for targets in (numbers, numbers.astype(np.float64))
    )
    assert relative_error(found, expected) < TOLERANCE


def test_clear_errors_for_wrong_requests(tmp_path: Path) -> None:
    model, examples = make_case("linear")
    with pytest.raises(RepairError, match="there is no curvature 'fisher': choose one of block"):
        fit_curvature("fisher", model, examples)
    with pytest.raises(RepairError, match="curvature 'gram' has no option rank"):
        fit_curvature("gram", model, examples, rank=3)
    with pytest.raises(RepairError, match="of no examples"):
        fit_curvature("gram", model, examples.subset([]))
    with pytest.raises(RepairError, match="minibatch is 0"):
        fit_curvature("gram", model, examples, minibatch=0)
    with pytest.raises(RepairError, match="which is no folder"):
        fit_curvature("gram", model, examples, scratch=tmp_path / "absent", memory=1)


def test_what_a_fit_leaves_behind(tmp_path: Path) -> None:
    """No hooks, no changed gradients, no files in the scratch folder, no changed training mode."""
    model, examples = make_case("normalised")
    before = [bool(module._forward_hooks) for module in model.network.modules()]
    with torch.no_grad():
        GramFisher.fit(model, examples, scratch=tmp_path, memory=1).damped(1.0).solve(directions(model))
        assert not torch.is_grad_enabled()
    assert [bool(module._forward_hooks) for module in model.network.modules()] == before
    assert all(parameter.grad is None for parameter in model.network.parameters())
    assert not list(tmp_path.iterdir())
    assert not model.network.training


def test_one_example_and_multi_label_targets() -> None:
    model = make_model(lambda: nn.Linear(4, 3))
    model = TrainedModel(model.network, Sigmoid(), device="cpu")
    examples = Examples(np.ones((1, 4)), np.array([[1.0, 0.0, 1.0]]))
    row = model.weighted_gradient(examples)
    v = directions(model)
    expected = torch.linalg.solve(torch.outer(row, row) + 0.1 * torch.eye(15, dtype=torch.float64), v)
    assert relative_error(GramFisher.fit(model, examples).damped(0.1).solve(v), expected) < TOLERANCE


def test_resnet20_by_stored_gradients_and_by_passes() -> None:
    network = make_network("resnet20", (3, 32, 32), 10, seed=0)
    random = np.random.default_rng(0)
    examples = Examples(
        random.integers(256, size=(10, 3, 32, 32), dtype=np.uint8), random.integers(10, size=10)
    )
    model = TrainedModel(network, Softmax(), batch_size=5, device="cpu")
    v = model.weighted_gradient(examples)
    assert len(v) == 269_722
    held, passes = (GramFisher.fit(model, examples, minibatch=2, memory=m).damped(1.0) for m in (2**30, 1))
    assert relative_error(held.solve(v), passes.solve(v)) < 1e-4
    assert held.residual < 1e-4
    with pytest.raises(RepairError, match="at least 4×4 pixels"):
        make_network("resnet20", (3, 2, 2), 10, seed=0)
