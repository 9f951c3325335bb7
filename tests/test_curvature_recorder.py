"""Rows of gradients of networks that treat a batch as more than its examples one after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvature_cases import CLASSES, Function, Loop, Sorted, make_examples, make_model, one_thread  # noqa: F401
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.gradients import recorder as recorder_module
from modelrepair.gradients.collected import Gradients
from modelrepair.gradients.recorder import PROBE_EXAMPLES, Recorder
from modelrepair.gradients.watching import Operations
from modelrepair.models.examples import Examples

FEATURES = 4


class Dispatched(nn.Module):
    """A mixture of experts that are given their examples one after the other, by products with 0 and 1 alone."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(FEATURES, CLASSES) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        chosen = torch.stack([x[:, 0] > 0, x[:, 0] <= 0], dim=1).to(x)
        places = chosen.cumsum(0) - 1
        outputs = torch.zeros(len(x), CLASSES, dtype=x.dtype)
        for number, expert in enumerate(self.experts):
            seats = torch.arange(len(x), dtype=x.dtype) == places[:, number, None]
            sent = chosen[:, number, None] * seats.to(x)
            outputs = outputs + sent @ expert(sent.T @ x)
        return outputs


def rows_of(make: Callable[[], nn.Module], examples: Examples, minibatch: int = 1) -> tuple[Tensor, Tensor]:
    """(rows, d) gradients as the library makes them, and as a loop over the examples does."""
    model = make_model(make, batch_size=20 * minibatch)
    found = Gradients(model, examples, minibatch=minibatch).times(
        torch.eye(len(model.parameter_vector), dtype=torch.float64)
    )
    expected = torch.stack([part.sum(0) for part in Loop(model, examples).gradients.split(minibatch)])
    return found, expected


def equal(found: Tensor, expected: Tensor) -> None:
    assert float((found - expected).norm()) <= 1e-10 * float(expected.norm())


@pytest.mark.parametrize("minibatch", [1, 3])
def test_experts_that_the_probe_did_not_see_have_their_rows(minibatch: int) -> None:
    """All examples of the probe go to one expert in order; of the others, every fifth goes to another."""
    examples = make_examples((FEATURES,), 50)
    inputs = examples.inputs.copy()
    inputs[:, 0] = np.abs(inputs[:, 0]) + 0.1
    probed = np.random.default_rng(0).permutation(len(inputs))[:PROBE_EXAMPLES]
    others = np.setdiff1d(np.arange(0, len(inputs), 5), probed)
    assert len(others) > 4
    inputs[others, 0] *= -1
    equal(*rows_of(Dispatched, Examples(inputs, examples.targets), minibatch))


def in_parts(size: int) -> nn.Module:
    """A network whose layer is called as often as a batch has parts."""

    def run(x: Tensor, layer: nn.Module) -> Tensor:
        return torch.cat([layer(part) for part in x.split(size)]).tanh()

    return nn.Sequential(Function(run, nn.Linear(FEATURES, 5)), nn.Linear(5, CLASSES))


@pytest.mark.parametrize("size", [3, 8, 9, 16, 20])
@pytest.mark.parametrize("name", ["gram", "kfac", "diagonal"])
def test_a_network_that_works_through_a_batch_in_parts_is_right_or_refused(name: str, size: int) -> None:
    examples = make_examples((FEATURES,), 45)
    for batch_size in (8, 20):
        model = make_model(lambda: in_parts(size), batch_size=batch_size)
        # Batches of the probe's size are in one part, larger ones are not.
        if PROBE_EXAMPLES <= size < batch_size:
            words = r"use 0\.inner\.0\.weight in a batch of 20 otherwise than in one of 8.*batch_size of at most 8"
            with pytest.raises(RepairError, match=words):
                fit_curvature(name, model, examples)
            continue
        fitted = fit_curvature(name, model, examples)
        identity = torch.eye(len(model.parameter_vector), dtype=torch.float64)
        if name != "kfac":
            gradients = Loop(model, examples).gradients
            equal(fitted.matvec(identity).trace(), gradients.square().sum() / len(examples))


def test_examples_with_equal_outputs_are_told_apart() -> None:
    """As many sequences as positions, all alike but in their labels, in a layer that has positions first."""

    def network() -> nn.Module:
        def swapped(x: Tensor, layer: nn.Module) -> Tensor:
            return layer(x.transpose(0, 1)).transpose(0, 1).tanh()

        nearly_equal = Function(lambda x: 1 + 1e-10 * x)
        layer = Function(swapped, nn.Linear(2, 2))
        return nn.Sequential(nearly_equal, layer, Function(lambda x: x.mean(1)), nn.Linear(2, CLASSES))

    examples = make_examples((4, 2), 4)
    equal(*rows_of(network, Examples(examples.inputs, np.array([0, 1, 2, 0]))))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["gram", "diagonal", "kfac"])
def test_few_examples_that_are_in_order_by_chance_are_no_promise(name: str, count: int) -> None:
    def network() -> nn.Module:
        return nn.Sequential(Sorted(FEATURES), nn.Linear(FEATURES, CLASSES))

    for seed in range(4):
        inputs = np.random.default_rng(seed).normal(size=(count, FEATURES))
        examples = Examples(inputs, np.arange(count) % CLASSES)
        model = make_model(network)
        fitted = fit_curvature(name, model, examples).damped(1.0)
        vector = torch.ones(len(model.parameter_vector), dtype=torch.float64)
        if name == "gram":
            equal(fitted.matvec(vector), Loop(model, examples).fisher() @ vector + vector)
        equal(fitted.solve(fitted.matvec(vector)), vector)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_the_diagonal_to_its_rounding(dtype: torch.dtype) -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, CLASSES)
        )

    examples = make_examples((1, 6, 6), 20)
    half = make_model(network, dtype=dtype)
    found = fit_curvature("diagonal", half, examples).entries.double()
    expected = Loop(half.in_dtype(torch.float64), examples).gradients.square().mean(0)
    assert float((found - expected).norm()) <= 20 * torch.finfo(dtype).eps * float(expected.norm())


def test_an_order_that_products_make_is_seen_among_the_operations() -> None:
    x = torch.randn(5, FEATURES)
    for network, picks in (
        (Dispatched(), True),
        (Sorted(FEATURES), True),
        (nn.Sequential(nn.Linear(FEATURES, 3), nn.LayerNorm(3), nn.Softmax(1)), False),
        (nn.TransformerEncoderLayer(FEATURES, 2, 8), False),
    ):
        with Operations() as operations:
            network.eval()(x)
        assert operations.pick is picks


def test_exchanged_examples_change_a_comparison() -> None:
    """Also neighbours, and in batches so large that each counts for little."""
    weights = recorder_module._weights(500)
    assert weights.abs().min() >= 0.5
    assert (weights[:-1] * weights[1:] < 0).all()
    for distance in range(1, 9):
        assert (weights[distance:] - weights[:-distance]).abs().min() > 0.05


def test_a_promised_product_that_does_not_come_is_refused() -> None:
    examples = make_examples((FEATURES,), 30)
    model = make_model(lambda: nn.Sequential(Sorted(FEATURES), nn.Linear(FEATURES, CLASSES)))
    recorder = Recorder(model, examples)
    recorder.outer["0.layer.weight"] = (FEATURES, FEATURES, 1)
    batches = recorder.batches(examples, set(model.parameters))
    with pytest.raises(RepairError, match=r"layers use 0\.layer\.weight in a batch of"):
        [list(rows) for _, rows in batches]


def test_a_scalar_that_all_examples_share_is_differentiated_example_by_example() -> None:
    def network() -> nn.Module:
        def scaled(x: Tensor, heat: Tensor) -> Tensor:
            return F.softplus(x * heat)

        return nn.Sequential(
            nn.Linear(FEATURES, CLASSES),
            Function(scaled, heat=nn.Parameter(torch.tensor(0.3))),
            nn.Linear(CLASSES, CLASSES),
        )

    equal(*rows_of(network, make_examples((FEATURES,), 23)))
