"""Products are exact wherever a network is run: TensorFloat-32 is off there, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.base_training.replay import Replay
from modelrepair.base_training.train import train
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.training.descent import Descent

SEEN: list[tuple[bool, str]] = []


class Watching(nn.Module):
    """Notes how products are computed when it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        SEEN.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
        return self.linear(inputs)


@pytest.fixture(autouse=True)
def _coarse() -> Iterator[None]:
    SEEN.clear()
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")
    yield
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == (True, "high")
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])


def examples() -> Examples:
    draw = np.random.default_rng(0)
    return Examples(draw.normal(size=(12, 4)).astype(np.float32), draw.integers(0, 3, 12))


def test_measures_and_gradients_are_of_exact_products() -> None:
    model = TrainedModel(Watching(), Softmax(), device="cpu")
    model.log_likelihoods(examples())
    model.outputs(examples())
    model.weighted_gradient(examples())
    model.directional_derivatives(examples(), torch.ones_like(model.parameter_vector))
    assert len(SEEN) >= 4
    assert {*SEEN} == {(False, "highest")}


def test_a_training_and_its_replay_are_of_exact_products() -> None:
    model = TrainedModel(Watching(), Softmax(), device="cpu")
    descent = Descent(0.1, rounds=2, optimiser="sgd")
    trajectory = train(model, examples(), descent, batch_size=4, seed=0, checkpoints=2).trajectory
    assert trajectory is not None
    assert {*SEEN} == {(False, "highest")}
    SEEN.clear()
    replay = Replay(trajectory, model, examples())
    replay.state_after(0)
    for step, moment in replay.backwards(0):
        replay.products(step, moment, torch.ones_like(model.parameter_vector))
    assert len(SEEN) > 6
    assert {*SEEN} == {(False, "highest")}
