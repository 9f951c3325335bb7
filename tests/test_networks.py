"""Networks: their size, what they take, and that they are a function of their seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.errors import RepairError
from modelrepair.networks import make_network
from models import assert_equal


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def weights(network: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in network.state_dict().values())


def test_lenet5_has_the_size_that_the_papers_give() -> None:
    network = make_network("lenet5", (1, 28, 28), 10, seed=0)
    assert count(network) == 61_706
    assert {name: count(module) for name, module in network.named_children()} == {
        "conv1": 156,
        "conv2": 2_416,
        "pool": 0,
        "fc1": 48_120,
        "fc2": 10_164,
        "fc3": 850,
    }
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_lenet5_is_two_convolutions_and_three_layers() -> None:
    network = make_network("lenet5", (1, 28, 28), 10, seed=0).double()
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 1, 28, 28)))
    weight = network.state_dict()

    def pooled(values: Tensor) -> Tensor:
        rows, channels, height, width = values.shape
        return values.reshape(rows, channels, height // 2, 2, width // 2, 2).amax(dim=(3, 5))

    hidden = torch.conv2d(
        nn.functional.pad(images, (2, 2, 2, 2)), weight["conv1.weight"], weight["conv1.bias"]
    )
    hidden = torch.conv2d(pooled(hidden.clamp_min(0)), weight["conv2.weight"], weight["conv2.bias"])
    hidden = pooled(hidden.clamp_min(0)).reshape(4, -1)
    for layer in ("fc1", "fc2"):
        hidden = (hidden @ weight[f"{layer}.weight"].T + weight[f"{layer}.bias"]).clamp_min(0)
    expected = hidden @ weight["fc3.weight"].T + weight["fc3.bias"]
    assert_equal(network(images).detach(), expected)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (1, 13, 30), (2, 64, 12)])
def test_lenet5_takes_images_of_any_sufficient_size(shape: tuple[int, ...]) -> None:
    network = make_network("lenet5", shape, 4, seed=0)
    assert network(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 11, 28), (1, 28, 8), (1, 1, 28, 28)])
def test_lenet5_says_what_it_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        RepairError, match=r"lenet5 takes images .* of at least 12×12 pixels, not inputs of shape"
    ):
        make_network("lenet5", shape, 10, seed=0)


def test_conv4_has_the_size_that_the_papers_give() -> None:
    network = make_network("conv4", (1, 28, 28), 10, seed=0)
    assert count(network) == 65_642
    sizes = {name: count(module) for name, module in network.named_children()}
    assert sizes == {"conv1": 320, "conv2": 9_248, "conv3": 18_496, "conv4": 36_928, "fc": 650}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 4)])
def test_conv4_is_four_convolutions_and_the_mean_over_the_image(shape: tuple[int, ...]) -> None:
    network = make_network("conv4", shape, 5, seed=0).double()
    hidden = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *shape)))
    images, weight = hidden, network.state_dict()
    for place in (1, 2, 3, 4):
        patches = nn.functional.unfold(hidden, 3, padding=1)
        kernel, bias = weight[f"conv{place}.weight"].flatten(1), weight[f"conv{place}.bias"]
        hidden = (kernel @ patches + bias[:, None]).clamp_min(0).unflatten(2, hidden.shape[2:])
        if place == 2:
            rows, columns = (size // 2 for size in hidden.shape[2:])
            hidden = (
                hidden[:, :, : 2 * rows, : 2 * columns].unflatten(3, (columns, 2)).unflatten(2, (rows, 2))
            )
            hidden = hidden.amax(dim=(3, 5))
    expected = hidden.mean((2, 3)) @ weight["fc.weight"].T + weight["fc.bias"]
    assert_equal(network(images).detach(), expected)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 1, 28), (1, 1, 28, 28)])
def test_conv4_says_what_it_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        RepairError, match=r"conv4 takes images .* of at least 2×2 pixels, not inputs of shape"
    ):
        make_network("conv4", shape, 10, seed=0)


@pytest.mark.parametrize(("shape", "features"), [((7,), 7), ((1, 3, 4), 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_linear(shape: tuple[int, ...], features: int, bias: bool) -> None:
    network = make_network("linear", shape, 5, seed=0, bias=bias)
    assert count(network) == 5 * (features + bias)
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *shape))).float()
    state = list(network.state_dict().values())
    expected = inputs.reshape(3, features) @ state[0].T + (state[1] if bias else 0)
    assert_equal(network(inputs).detach(), expected, 1e-6)


@pytest.mark.parametrize("name", ["conv4", "lenet5", "linear"])
def test_weights_follow_the_seed_and_leave_torch_alone(name: str) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = weights(make_network(name, (1, 12, 12), 3, seed=0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert weights(make_network(name, (1, 12, 12), 3, seed=0)) == first
    assert weights(make_network(name, (1, 12, 12), 3, seed=1)) != first


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lenet", {}, "there is no network 'lenet': choose one of conv4, lenet5, linear"),
        ("lenet5", {"depth": 3}, "network 'lenet5' cannot be made with options {'depth': 3}"),
        ("linear", {"width": 3}, "network 'linear' cannot be made with options {'width': 3}"),
    ],
)
def test_networks_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    with pytest.raises(RepairError, match=message):
        make_network(name, (1, 28, 28), 10, seed=0, **options)
    assert torch.equal(torch.get_rng_state(), state)
