"""The networks of the papers, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from modelrepair.configuration import choose
from modelrepair.errors import RepairError
from modelrepair.networks.lenet5 import LeNet5
from modelrepair.networks.linear import Linear
from modelrepair.networks.resnet20 import ResNet20

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "lenet5": LeNet5,
    "linear": Linear,
    "resnet20": ResNet20,
}


def make_network(
    name: str, input_shape: tuple[int, ...], outputs: int, *, seed: int, **options: Any
) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: one of `NETWORKS`.
        input_shape: shape of one input, for images (channels, height, width).
        outputs: number of classes or attributes.
        seed: of the initial weights; the caller's random state is left as it was.
        options: passed to the network.

    Raises:
        RepairError: for an unknown name, options that the network does not have, or inputs it cannot take.
    """
    network = choose("model", NETWORKS, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return network(input_shape, outputs, **options)
        except TypeError as error:
            raise RepairError(f"model {name!r} cannot be made with options {options}: {error}") from error
