"""Batches in parts: the step of whole ones where no layer looks at the batch, and what each part makes of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.base_training.train import train
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.training import TrainingSettings
from modelrepair.training.descent import Descent
from modelrepair.training.epochs import epoch_batches, mean_losses
from modelrepair.training.parts import cut
from models import blobs, one_thread  # noqa: F401

EXAMPLES: Examples = blobs(50, flipped=0.1, seed=0)[0]
BATCH = 14
"""Not a multiple of the parts, and 50 none of it."""


def model_of(*layers: nn.Module) -> TrainedModel:
    torch.manual_seed(0)
    features, classes = EXAMPLES.inputs.shape[1], int(EXAMPLES.targets.max()) + 1
    network = nn.Sequential(nn.Linear(features, 6), *layers, nn.Tanh(), nn.Linear(6, classes))
    return TrainedModel(network.double(), Softmax(), device="cpu")


def gradients_of(model: TrainedModel, parts: int) -> list[tuple[float, list[Tensor]]]:
    """The loss and the gradients of every step of an epoch, in training mode."""
    model.network.train()
    found = []
    for loss in mean_losses(model, EXAMPLES, BATCH, seed=1, purpose="test", parts=parts)(1):
        model.network.zero_grad()
        loss.backward()
        found.append((loss.item(), [p.grad.clone() for p in model.parameters.values() if p.grad is not None]))
    return found


@pytest.mark.parametrize("parts", [2, 3, 5, 14])
def test_a_step_in_parts_is_the_whole_step(parts: int) -> None:
    whole, cut_up = (gradients_of(model_of(nn.LayerNorm(6)), count) for count in (1, parts))
    assert len(whole) == 4
    for (loss, gradients), (same_loss, same) in zip(whole, cut_up, strict=True):
        assert same_loss == pytest.approx(loss, rel=1e-13)
        for one, other in zip(gradients, same, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-13)


def test_normalisation_is_that_of_each_part_and_remembers_their_mean() -> None:
    """Against plain torch, part by part, each from the statistics before the step."""
    parts = 3
    model = model_of(nn.BatchNorm1d(6, momentum=0.3))
    plain = copy.deepcopy(model.network).train()
    found = gradients_of(model, parts)
    for (loss, gradients), positions in zip(
        found, epoch_batches(len(EXAMPLES), BATCH, seed=1, purpose="test", epoch=1), strict=True
    ):
        inputs, targets = EXAMPLES.batch(positions, dtype=torch.float64)
        plain.zero_grad()
        total, states = 0.0, []
        for part in cut(len(positions), parts, BATCH):
            alone = copy.deepcopy(plain)
            share = (
                nn.functional.cross_entropy(alone(inputs[part]), targets[part]) * len(part) / len(positions)
            )
            share.backward()
            total += share.item()
            states.append(alone.state_dict())
            for parameter, own in zip(plain.parameters(), alone.parameters(), strict=True):
                own_gradient = own.grad
                assert own_gradient is not None
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad += own_gradient
        assert loss == pytest.approx(total, rel=1e-13)
        for expected, gradient in zip(plain.parameters(), gradients, strict=True):
            assert expected.grad is not None
            assert torch.allclose(expected.grad, gradient, rtol=0, atol=1e-13)
        for name, buffer in plain.named_buffers():
            buffer.copy_(torch.stack([state[name].double() for state in states]).mean(0))
    assert int(plain[1].num_batches_tracked) == len(found)
    for (name, buffer), ours in zip(plain.named_buffers(), model.network.buffers(), strict=True):
        assert torch.allclose(buffer, ours, rtol=1e-13, atol=0), name


def test_a_training_in_parts_ends_where_a_whole_one_does() -> None:
    ends, margins = [], []
    for parts in (1, 4):
        model = model_of()
        descent = Descent(learning_rate=0.05, rounds=3, optimiser="sgd")
        course = train(
            model, EXAMPLES, descent, batch_size=BATCH, seed=2, margins="during", parts=parts, checkpoints=2
        )
        ends.append(model.parameter_vector)
        margins.append(course.tensors["margins"])
    assert torch.allclose(*ends, rtol=0, atol=1e-11)
    assert torch.allclose(*margins, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("count", "number"), [(24, 4), (23, 3), (12, 2), (11, 1), (5, 1), (1, 1)])
def test_parts_are_all_there_is_in_order_and_none_is_small(count: int, number: int) -> None:
    found = cut(count, 4, 24)
    assert np.concatenate(found).tolist() == list(range(count))
    assert len(found) == number
    assert min(map(len, found)) >= min(count, 6)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_more_parts_than_a_batch_has_examples_are_refused() -> None:
    with pytest.raises(
        RepairError, match="parts is 9, and a step's batch has 8 examples: give at most as many"
    ):
        TrainingSettings(batch_size=8, parts=9)
