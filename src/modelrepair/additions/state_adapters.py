"""Adapters beside a whole network: K-adapter (Wang et al. 2021, arXiv:2002.01808) as Lee et al. 2022 use it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from modelrepair.additions.base import Addition, added
from modelrepair.additions.selector import Selector
from modelrepair.additions.sites import sites_of, states
from modelrepair.errors import RepairError


class StateAdapters(Addition):
    """Three small transformers that are fed by hidden states of several depths, each with what the one before said.

    With the states H₀, …, H_{L−1} that enter the layers of the frozen network and its last hidden state h:
    U₁ = T₁(H₀), U₂ = T₂(H_{⌊L/2⌋} + U₁), U₃ = T₃(H_{L−1} + U₂), and h becomes h + D [h; u], u being U₃ at the position
    that is answered from (Lee et al. 2022; theirs see the first, the middle and the last layer). Each T
    has two layers of PyTorch's transformer, which looks at all positions that are there. D is 0 at first, so that
    nothing is added before it is trained.

    Args:
        network: with room at `answer`, that shows its states.
        heads: of attention in the adapters.
        selector: as of any addition.

    Raises:
        RepairError: if the network has no such room, or its width is no multiple of `heads`.
    """

    kind = "state-adapters"

    def __init__(self, network: nn.Module, heads: int = 4, selector: Selector | None = None) -> None:
        super().__init__(selector)
        depth = len(sites_of(network, "states", None, "K-adapter"))
        [site] = sites_of(network, "answer", None, "K-adapter")
        self.site, self.heads = site, heads
        self.depths = (0, depth // 2, depth - 1)
        width = int(network.get_submodule(site.adds_to).in_features)  # type: ignore[arg-type]
        if width % heads:
            raise RepairError(
                f"the adapters have {heads} heads, and the network {type(network).__name__} has {width} numbers of a "
                "position: give a number of heads that divides them"
            )
        self.adapters = nn.ModuleList([_transformer(width, heads) for _ in self.depths])
        self.join = nn.Linear(2 * width, width)
        nn.init.zeros_(self.join.weight)
        nn.init.zeros_(self.join.bias)

    @property
    def options(self) -> dict[str, Any]:
        return {"heads": self.heads}

    @property
    def modules_beside(self) -> set[str]:
        return {self.site.reads, self.site.adds_to}

    @property
    def needs_inputs(self) -> bool:
        return True

    def attach(self, network: nn.Module, inputs: Tensor | None, on: Tensor | None) -> list[RemovableHandle]:
        assert inputs is not None, "they look at inputs"
        said = self.said(network, inputs)

        def add(module: nn.Module, given: tuple[Tensor, ...]) -> Tensor:
            [hidden] = given
            return added(hidden, self.join(torch.cat([hidden, said], dim=1)), on)

        return [network.get_submodule(self.site.reads).register_forward_pre_hook(add)]

    def said(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """(n, width) u, what the last adapter says at the position that is answered from."""
        with torch.no_grad():
            entering = states(network, inputs)
        hidden = ~network.visible(inputs)  # type: ignore[operator]
        output = torch.zeros_like(entering[0])
        for depth, adapter in zip(self.depths, self.adapters, strict=True):
            output = entering[depth] + output
            for layer in adapter:  # type: ignore[attr-defined]
                output = layer(output, src_key_padding_mask=hidden)
        read: Tensor = network.read(inputs, output)  # type: ignore[operator]
        return read.squeeze(1)


def _transformer(width: int, heads: int) -> nn.ModuleList:
    return nn.ModuleList(
        [
            nn.TransformerEncoderLayer(
                width,
                heads,
                dim_feedforward=4 * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(2)
        ]
    )
