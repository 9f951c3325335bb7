"""Passes of training that a GPU repeats: to the bit on a GPU, and who may repeat them with a recorder in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.training import repeated_passes
from modelrepair.training.conditions import PLAIN, Conditions
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import mean_losses
from modelrepair.training.repeated_passes import TOLD_FIRST, Repeated, forward_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
RNG = np.random.default_rng(0)


def examples(count: int) -> Examples:
    return Examples(RNG.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), RNG.integers(0, 10, count))


def descended(data: Examples, conditions: Conditions, network: str = "resnet20") -> TrainedModel:
    model = TrainedModel(make_network(network, (3, 32, 32), 10, seed=0), Softmax())
    losses = mean_losses(model, data, 32, seed=0, purpose="test", conditions=conditions)
    with conditions.laid_out(model.network):
        minimise(model, losses, Descent(0.01, rounds=3, optimiser="sgd"))
    return model


@needs_gpu
@pytest.mark.parametrize(
    "conditions", [PLAIN, Conditions(crop=4, flip=True, precision="bfloat16", channels_last=True)]
)
def test_repeated_passes_are_those_that_were_told(
    conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three epochs of 13 steps, the last of each smaller: parameters and statistics to the bit."""
    data = examples(400)
    made: list[Any] = []
    record = torch.cuda.make_graphed_callables
    monkeypatch.setattr(
        torch.cuda, "make_graphed_callables", lambda *a, **k: made.append(record(*a, **k)) or made[-1]
    )
    deterministic = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        repeated = descended(data, conditions)
        monkeypatch.setattr(repeated_passes, "TOLD_FIRST", 10**9)
        told = descended(data, conditions)
    finally:
        torch.set_deterministic_debug_mode(deterministic)
    assert len(made) == 1
    for name, value in told.network.state_dict().items():
        assert torch.equal(value, repeated.network.state_dict()[name]), name


class Own(nn.Module):
    """A user's own network, of which nobody knows what it does the next time."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of batches that were recorded; what is recorded runs as ever."""
    sizes: list[int] = []

    def record(passes: nn.Module, arguments: tuple[Tensor], **options: Any) -> None:
        # As CUDA's does, which moves statistics.
        for _ in range(3):
            passes(*arguments)
        sizes.append(len(arguments[0]))

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(1))
    return sizes


def repeated(network: nn.Module) -> tuple[Repeated, TrainedModel]:
    model = TrainedModel(network, Softmax(), device="cpu")
    model.network.train()
    return Repeated(model, PLAIN, model.run), model


def told_and_repeated_alike(forward: Repeated, twin: TrainedModel) -> None:
    """As many batches of a shape as it takes and a few more, each compared with the same network beside it."""
    for _ in range(TOLD_FIRST + 3):
        inputs = torch.randn(5, 4)
        assert torch.equal(forward(inputs), twin.run(inputs))


def in_training(model: TrainedModel) -> TrainedModel:
    twin = model.copy()
    twin.network.train()
    return twin


def test_a_cpu_needs_no_repeating() -> None:
    _, model = repeated(normalised())
    assert not isinstance(forward_of(model, PLAIN), Repeated)


def test_batches_of_a_shape_are_recorded_once_they_came_often(recorded: list[int]) -> None:
    forward, model = repeated(normalised())
    twin = in_training(model)
    told_and_repeated_alike(forward, twin)
    assert recorded == [5]
    # The last batch of an epoch, and passes without gradients.
    for inputs in (torch.randn(2, 4), torch.randn(5, 4)):
        with torch.set_grad_enabled(len(inputs) == 2):
            assert torch.equal(forward(inputs), twin.run(inputs))
    assert recorded == [5]
    for name, value in twin.network.state_dict().items():
        assert torch.equal(value, model.network.state_dict()[name]), name


@pytest.mark.parametrize(
    "make", [Own, lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))]
)
def test_networks_that_may_do_something_else_next_time(
    make: Callable[[], nn.Module], recorded: list[int]
) -> None:
    forward, _ = repeated(make())
    for _ in range(TOLD_FIRST + 3):
        forward(torch.randn(5, 4))
    assert recorded == []


def test_parameters_that_went_elsewhere_are_told_again(recorded: list[int]) -> None:
    forward, model = repeated(normalised())
    inputs = torch.randn(5, 4)
    for _ in range(TOLD_FIRST + 1):
        forward(inputs)
    linear: Any = model.network[0]  # type: ignore[index]
    linear.weight.data = linear.weight.data.clone() * 2
    assert forward._recorded is not None
    forward._recorded = lambda inputs: pytest.fail("what is no longer there was used")
    assert torch.equal(forward(inputs), model.run(inputs))


def test_what_cannot_be_recorded_is_told(monkeypatch: pytest.MonkeyPatch, recorded: list[int]) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        recorded.append(0)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    forward, model = repeated(normalised())
    told_and_repeated_alike(forward, in_training(model))
    assert recorded == [0]
