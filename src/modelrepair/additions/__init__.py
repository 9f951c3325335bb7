"""Which parts may be put onto a network that is left as it is?

An addition is a small module beside others: slots beside a two-layer network, low-rank products beside linear layers,
adapters beside the whole. A network says where there is room for some, in plain terms, so that a class of a user's own
can too (`sites`), and `Extended` is the two together. Imports `settings` and `errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from modelrepair.additions.base import Addition
from modelrepair.additions.extended import Extended, extend
from modelrepair.additions.low_rank import LowRank
from modelrepair.additions.selector import Selector, query_embeddings
from modelrepair.additions.slots import Slots
from modelrepair.additions.state_adapters import StateAdapters
from modelrepair.settings import choose

ADDITIONS: dict[str, Callable[..., Addition]] = {
    "low-rank": LowRank,
    "slots": Slots,
    "state-adapters": StateAdapters,
}

__all__ = [
    "ADDITIONS",
    "Addition",
    "Extended",
    "LowRank",
    "Selector",
    "Slots",
    "StateAdapters",
    "extend",
    "make_addition",
    "query_embeddings",
]


def make_addition(network: nn.Module, description: Mapping[str, Any], *, seed: int) -> Addition:
    """An addition for a network, which is left without it.

    Args:
        network: that it is for, with no additions.
        description: what `Addition.description` says of one: `kind`, its options, and `selector`.
        seed: of its initial weights; the caller's random state is left as it was.

    Raises:
        RepairError: if there is no such addition, or the network has no room for it.
    """
    options = dict(description)
    kind, selector = choose("addition", ADDITIONS, options.pop("kind")), options.pop("selector")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(network, **options, selector=None if selector is None else Selector(**selector))
