"""Slots beside a two-layer network: CALINET (Dong et al. 2022, "Calibrating factual knowledge in pretrained language
models")."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.additions.base import SideNetworks
from modelrepair.additions.selector import Selector
from modelrepair.additions.sites import sites_of, widths


class Slots(SideNetworks):
    """ΔFFN(H) = GELU(H K̃ᵀ) Ṽ, added to FFN(H) = GELU(H Kᵀ) V.

    K̃ is drawn as of any linear layer, Ṽ is 0, so that nothing is added before it is trained.

    Args:
        network: with room at `feed-forward`.
        slots: d_c, rows of K̃ and Ṽ.
        layer: beside whose network they sit; the last, -1, as published.
        selector: as of any addition; there is none as published.

    Raises:
        RepairError: if the network has no such room.
    """

    kind = "slots"

    def __init__(
        self, network: nn.Module, slots: int, layer: int = -1, selector: Selector | None = None
    ) -> None:
        [site] = sites_of(network, "feed-forward", [layer], "CALINET")
        super().__init__([site], [_Memory(*widths(network, site), slots)], selector)
        self.slots, self.layer = slots, layer

    @property
    def options(self) -> dict[str, Any]:
        return {"slots": self.slots, "layer": self.layer}


class _Memory(nn.Module):
    """GELU(H K̃ᵀ) Ṽ of H (..., width), with `keys` K̃ (slots, width) and `values` Ṽᵀ (added, slots)."""

    def __init__(self, width: int, added: int, slots: int) -> None:
        super().__init__()
        self.keys = nn.Linear(width, slots, bias=False)
        self.values = nn.Linear(slots, added, bias=False)
        nn.init.zeros_(self.values.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.values(F.gelu(self.keys(hidden)))
        return result
