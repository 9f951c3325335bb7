"""Which networks are there?

One module a network, of the network's name; its `Network` is the class. A module is imported when a network of its
name is made, so one that is not in use is no part of what a run depends on. Modules import `errors` and `vision`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import torch
from torch import nn

from modelrepair.errors import RepairError
from modelrepair.settings.base import choose


def make_network(
    name: str, input_shape: tuple[int, ...], outputs: int, *, seed: int, **options: Any
) -> nn.Module:
    """A freshly initialised network.

    Args:
        name: of a module of this room.
        input_shape: shape of one input, for images (channels, height, width).
        outputs: number of classes or attributes.
        seed: of the initial weights; the caller's random state is left as it was.
        options: of the network.

    Raises:
        RepairError: for an unknown name, options that the network does not have, or inputs it cannot take.
    """
    there = {module.name: module.name for module in pkgutil.iter_modules(__path__)}
    network = importlib.import_module(f"{__name__}.{choose('network', there, name)}").Network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made: nn.Module = network(input_shape, outputs, **options)
        except TypeError as error:
            raise RepairError(f"network {name!r} cannot be made with options {options}: {error}") from error
    return made
