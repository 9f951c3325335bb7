"""FGSM and PGD: the closed form on a linear model, what is never left, what no batch changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelrepair.attacks import gradient_sign
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from models import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("on_cpu")
RNG = np.random.default_rng(0)


def linear(classes: int, features: int = 6) -> TrainedModel:
    torch.manual_seed(0)
    return TrainedModel(nn.Linear(features, classes).double(), Softmax())


def lenet(batch_size: int = 500) -> TrainedModel:
    return TrainedModel(make_network("lenet5", (1, 28, 28), 10, seed=0), Softmax(), batch_size=batch_size)


def images(count: int) -> Examples:
    return Examples(RNG.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8), RNG.integers(0, 10, count))


def test_one_step_is_the_sign_of_the_gradient_in_closed_form() -> None:
    """Of softmax(Wx + b) the gradient of -log p(y | x) with respect to x is Wᵀ(p - e_y)."""
    model, inputs, labels = linear(4), RNG.uniform(-1, 0.5, (30, 6)), RNG.integers(0, 4, 30)
    weight, bias = (p.detach().numpy() for p in model.network.parameters())
    outputs = inputs @ weight.T + bias
    chances = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    expected = inputs + 0.3 * np.sign((chances - np.eye(4)[labels]) @ weight)
    moved, before, after = gradient_sign(model, Examples(inputs, labels), epsilon=0.3, low=-9.0, high=9.0)
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(before.numpy(), outputs.argmax(axis=1))
    np.testing.assert_array_equal(after.numpy(), (expected @ weight.T + bias).argmax(axis=1))
    clipped, *_ = gradient_sign(model, Examples(inputs, labels), epsilon=0.3, low=-1.0, high=0.5)
    np.testing.assert_allclose(clipped, expected.clip(-1, 0.5), rtol=0, atol=1e-12)


def test_several_steps_reach_the_worst_corner_of_two_classes() -> None:
    """Between two classes the gradient of a linear model has the same signs everywhere."""
    model, examples = linear(2), Examples(RNG.normal(size=(20, 6)), RNG.integers(0, 2, 20))
    worst, *_ = gradient_sign(model, examples, epsilon=0.4, low=-9.0, high=9.0)
    enough, *_ = gradient_sign(model, examples, epsilon=0.4, steps=5, step_size=0.1, low=-9.0, high=9.0)
    np.testing.assert_allclose(enough, worst, rtol=0, atol=1e-12)
    too_few, *_ = gradient_sign(model, examples, epsilon=0.4, steps=3, step_size=0.1, low=-9.0, high=9.0)
    np.testing.assert_allclose(
        too_few - examples.inputs, 0.75 * (worst - examples.inputs), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("how", [{}, {"steps": 7, "step_size": 0.05}, {"steps": 2, "step_size": 0.5}])
@pytest.mark.parametrize("epsilon", [0.1, 0.25, 30 / 255])
def test_bytes_stay_within_epsilon_and_what_is_predicted_is_what_is_stored(
    how: dict[str, Any], epsilon: float
) -> None:
    model, examples = lenet(), images(40)
    moved, before, after = gradient_sign(model, examples, epsilon=epsilon, **how)
    assert moved.dtype == np.uint8
    distances = np.abs(moved.astype(int) - examples.inputs.astype(int))
    assert distances.max() == int(round(255 * epsilon, 6))
    assert (distances > 0).mean() > 0.9
    stored = Examples(moved, examples.targets)
    np.testing.assert_array_equal(after, model.outputs(stored).argmax(dim=1))
    np.testing.assert_array_equal(before, model.outputs(examples).argmax(dim=1))
    assert (model.log_likelihoods(stored) < model.log_likelihoods(examples)).all()


def test_more_steps_do_more_harm() -> None:
    model, examples = lenet(), images(40)
    losses = [
        -float(model.log_likelihoods(Examples(moved, examples.targets)).mean())
        for moved in (
            gradient_sign(model, examples, epsilon=0.2)[0],
            gradient_sign(model, examples, epsilon=0.2, steps=10, step_size=0.05)[0],
        )
    ]
    assert losses[1] > losses[0]


def test_no_batch_and_no_order_changes_anything() -> None:
    examples = images(23)
    whole = gradient_sign(lenet(), examples, epsilon=0.2, steps=3, step_size=0.1)
    order = RNG.permutation(23)
    parts = gradient_sign(lenet(batch_size=4), examples.subset(order), epsilon=0.2, steps=3, step_size=0.1)
    # A sign may differ where a slope is zero to rounding.
    assert (whole[0][order] == parts[0]).mean() > 0.999
    for one, other in zip(whole[1:], parts[1:], strict=True):
        np.testing.assert_array_equal(one[order], other)


def test_what_has_no_neighbours_is_refused() -> None:
    model = TrainedModel(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)), Softmax())
    with pytest.raises(RepairError, match="the inputs are ids, which have no neighbours"):
        gradient_sign(model, Examples(np.zeros((5, 3), dtype=np.int64), np.zeros(5, dtype=int)), epsilon=0.1)
    broken = np.full((3, 6), np.nan)
    with pytest.raises(RepairError, match="with respect to its inputs is NaN or infinite: check the inputs"):
        gradient_sign(linear(2), Examples(broken, np.zeros(3, dtype=int)), epsilon=0.1)
