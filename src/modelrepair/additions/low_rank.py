"""Low-rank products beside linear layers: LoRA (Hu et al. 2022, arXiv:2106.09685) as Lee et al. 2022 place it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from modelrepair.additions.base import SideNetworks
from modelrepair.additions.selector import Selector
from modelrepair.additions.sites import sites_of, widths

SITES = ("query", "value", "feed-forward-in", "feed-forward-out")
"""As Lee et al. 2022: queries and values of attention, and both layers of the two-layer networks."""


class LowRank(SideNetworks):
    """W x becomes (W + s B A) x in every layer (Hu et al. 2022, section 4.1, Eq. 3).

    A is drawn from N(0, 0.02²), as by Lee et al., and B is 0, so that nothing is added before it is trained. Their
    dropout is left out: an edit is learned from few examples, each of which is to be answered surely.

    Args:
        network: with room at `SITES`.
        rank: r, rows of A.
        scale: s, α/r of the paper.
        selector: as of any addition.

    Raises:
        RepairError: if the network has no such room.
    """

    kind = "low-rank"

    def __init__(
        self, network: nn.Module, rank: int, scale: float = 4.0, selector: Selector | None = None
    ) -> None:
        sites = [site for name in SITES for site in sites_of(network, name, None, "LoRA")]
        super().__init__(sites, [_Product(*widths(network, site), rank, scale) for site in sites], selector)
        self.rank, self.scale = rank, scale

    @property
    def options(self) -> dict[str, Any]:
        return {"rank": self.rank, "scale": self.scale}


class _Product(nn.Module):
    """s B A x of x (..., width), with `down` A (rank, width) and `up` B (added, rank)."""

    def __init__(self, width: int, added: int, rank: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, added, bias=False)
        nn.init.normal_(self.down.weight, std=0.02)
        nn.init.zeros_(self.up.weight)

    def forward(self, hidden: Tensor) -> Tensor:
        result: Tensor = self.scale * self.up(self.down(hidden))
        return result
