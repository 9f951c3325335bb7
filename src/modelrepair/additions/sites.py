"""Where a network has room for additions.

A network that has some says so by a method `sites`, and by two more where an addition looks at its hidden states:

* `sites()`: by name, for each layer of which there is one, `(reads, adds_to, outputs)`, see `Site`;
  that of `answer` is `(given, makes, None)`: the module that is given the last hidden state (n, d), and the linear
  layer of d inputs that makes outputs of it;
* `states(inputs, last=None)`: for layer ℓ = 0, 1, … (n, positions, d) what enters it, up to and with layer `last`;
* `visible(inputs)`: (n, positions) which positions are there, and are not padding;
* `read(inputs, states)`: (n, 1, d) of states those at the position that is answered from.

One that can be run in two parts has `begin(inputs)`, whose result `finish` makes outputs of, and `late`, the modules
that run in `finish`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from modelrepair.errors import RepairError
from modelrepair.settings import listed


class Site(NamedTuple):
    """Room for a side network.

    Attributes:
        reads: the module whose input it is given.
        adds_to: the linear layer to whose output what it says is added; it may be the same.
        outputs: from where up to which of these outputs, if not all.
    """

    reads: str
    adds_to: str
    outputs: tuple[int, int] | None = None


def sites_of(network: Any, name: str, layers: Sequence[int] | None, what: str) -> list[Site]:
    """The sites of that name.

    Args:
        network: that has them.
        name: of the sites.
        layers: of which layers; all by default. Those below 0 are counted from the last, -1.
        what: wants them, for messages.

    Raises:
        RepairError: if the network has no such sites, or not in these layers.
    """
    there = network.sites() if hasattr(network, "sites") else {}
    if name not in there:
        raise RepairError(
            f"{what} needs room at {name!r}, and the network {type(network).__name__} has "
            f"{f'room at {listed(there)}' if there else 'none for additions'}: choose another network, such as factlm, "
            "or another treatment"
        )
    found = [Site(*site) for site in there[name]]
    for layer in layers or ():
        if not -len(found) <= layer < len(found):
            raise RepairError(
                f"{what} is to sit in layer {layer}, and the network {type(network).__name__} has {len(found)} layers "
                f"with room at {name!r}: give a number from 0 to {len(found) - 1}"
            )
    return found if layers is None else [found[layer] for layer in layers]


def widths(network: nn.Module, site: Site) -> tuple[int, int]:
    """How many numbers of a position a site reads, and how many it adds.

    Raises:
        RepairError: if its modules are not there, or no linear layers.
    """
    modules = dict(network.named_modules())
    reads, adds_to = modules.get(site.reads), modules.get(site.adds_to)
    if not isinstance(reads, nn.Linear) or not isinstance(adds_to, nn.Linear):
        raise RepairError(
            f"the network {type(network).__name__} says that there is room between {site.reads} and {site.adds_to}, "
            "which are not both linear layers of it: name such layers in its `sites`"
        )
    start, stop = site.outputs or (0, adds_to.out_features)
    return reads.in_features, stop - start


def state_layer(network: nn.Module, layer: int | None, what: str) -> int:
    """The number of a layer whose states are looked at; the middle one by default.

    Raises:
        RepairError: if the network shows no states, or has no such layer.
    """
    count = len(sites_of(network, "states", None, what))
    number = count // 2 if layer is None else layer
    if not 0 <= number < count:
        raise RepairError(
            f"{what} is to look at what enters layer {number}, and the network {type(network).__name__} has {count} "
            f"layers: give a number from 0 to {count - 1}"
        )
    return number


def states(network: Any, inputs: Any, last: int | None = None) -> Any:
    """What a network's `states` says."""
    return network.states(inputs, last)
