"""Which networks are there?

One module a network, of the network's name; its `Network` is the class. A module is imported when a network of its
name is made, so one that is not in use is no part of what a run depends on. Modules import `errors`, `vision`,
`data` and `language`.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from modelrepair.errors import RepairError
from modelrepair.settings import choose


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
    network = _module(name).Network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made: nn.Module = network(input_shape, outputs, **options)
        except TypeError as error:
            raise RepairError(f"network {name!r} cannot be made with options {options}: {error}") from error
    return made


def settled_options(name: str, **options: Any) -> dict[str, Any]:
    """The options of a network with what it reads from files beside them, so that it can be made again without these.

    Args:
        name: of a module of this room.
        options: of the network.

    Raises:
        RepairError: if the files cannot be read.
    """
    module = _module(name)
    found: dict[str, Any] = module.settled(**options) if hasattr(module, "settled") else options
    return found


def published_weights(name: str, weights: str, **options: Any) -> dict[str, Tensor]:
    """Weights that others have trained for a network, by tensor; those of its last layer may be of other classes.

    Args:
        name: of a module of this room.
        weights: their name.
        options: of the network.

    Raises:
        RepairError: if there are none of that name, or they cannot be had.
    """
    module = _module(name)
    if not hasattr(module, "published_weights"):
        raise RepairError(
            f"the network {name} has no published weights, of which {weights!r} was asked for: give a safetensors file"
        )
    found: dict[str, Tensor] = module.published_weights(weights, **options)
    return found


def _module(name: str) -> ModuleType:
    """The module of a network.

    Raises:
        RepairError: if there is none.
    """
    there = {module.name: module.name for module in pkgutil.iter_modules(__path__)}
    return importlib.import_module(f"{__name__}.{choose('network', there, name)}")
