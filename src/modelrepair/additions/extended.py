"""A network with additions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelrepair.additions.base import Addition

Switches = list[Tensor | None]
"""For each addition (n,) truth values, for which inputs it is on; None for all."""


class Extended(nn.Module):
    """A network and what was added to it, in order. The network's own modules and weights stay what they are.

    Without selectors all additions are on. Of those that have one, the additions up to and with the one whose memory an
    input is most like are on if it is like enough (Lee et al. 2022): later ones were trained
    while those before them were on.

    Args:
        network: without additions.
        additions: made for it.
    """

    def __init__(self, network: nn.Module, additions: Sequence[Addition]) -> None:
        super().__init__()
        # First, so that the last layer is still the network's.
        self.additions = nn.ModuleList(additions)
        self.network = network

    @property
    def descriptions_of_additions(self) -> list[dict[str, Any]]:
        """What makes the like of each, but for the weights; by this name a model's file tells that there are some."""
        return [addition.description for addition in self._added()]

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, ...) outputs, with each addition on where its selector says so."""
        return self.answer(inputs, self.switches(inputs))

    def answer(self, inputs: Tensor, switches: Switches | None = None) -> Tensor:
        """(n, ...) outputs with these additions on; all by default."""
        with self._attached(inputs, switches):
            outputs: Tensor = self.network(inputs)
        return outputs

    def finish(self, begun: Tensor) -> Tensor:
        """(n, ...) outputs with all additions on, of what the network's `begin` made of inputs; see `sits_late`."""
        with self._attached(None, None):
            outputs: Tensor = self.network.finish(begun)  # type: ignore[operator]
        return outputs

    @property
    def sits_late(self) -> bool:
        """Whether no addition touches what the network's `begin` runs, so that its result can be kept."""
        late: Sequence[str] = getattr(self.network, "late", ())
        return not any(addition.needs_inputs for addition in self._added()) and all(
            any(path == there or path.startswith(f"{there}.") for there in late)
            for addition in self._added()
            for path in addition.modules_beside
        )

    @property
    def is_selective(self) -> bool:
        """Whether an addition has a selector."""
        return any(addition.selector is not None for addition in self._added())

    @torch.no_grad()
    def switches(self, inputs: Tensor) -> Switches:
        """For which of inputs (n, ...) each addition is on."""
        selective = [number for number, addition in enumerate(self._added()) if addition.selector is not None]
        result: Switches = [None] * len(self.additions)
        if not selective:
            return result
        selectors = [selector for addition in self._added() if (selector := addition.selector) is not None]
        # A network may overwrite what it is given.
        likeness = torch.stack([each.similarity(self.network, inputs.clone()) for each in selectors], dim=1)
        most, which = likeness.max(dim=1)
        thresholds = torch.tensor(
            [each.threshold for each in selectors], dtype=most.dtype, device=most.device
        )
        like_enough = most >= thresholds[which]
        for place, number in enumerate(selective):
            result[number] = like_enough & (which >= place)
        return result

    def _added(self) -> Iterator[Addition]:
        return iter(self.additions)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def _attached(self, inputs: Tensor | None, switches: Switches | None) -> Iterator[None]:
        """While the block runs, additions add to what the network's modules say."""
        on = switches if switches is not None else [None] * len(self.additions)
        # Those that look at states of the network first, before anything is added to these.
        pairs = sorted(zip(self._added(), on, strict=True), key=lambda pair: not pair[0].needs_inputs)
        with contextlib.ExitStack() as stack:
            for addition, where in pairs:
                for handle in addition.attach(self.network, inputs, where):
                    stack.callback(handle.remove)
            yield


def extend(network: nn.Module, additions: Sequence[Addition]) -> Extended:
    """A network with further additions, on its device and in its type; the network itself is part of it.

    Args:
        network: with or without additions.
        additions: made for the network without any.
    """
    like = next(network.parameters())
    before = list(network.additions) if isinstance(network, Extended) else []
    own = network.network if isinstance(network, Extended) else network
    return Extended(own, [*before, *(addition.to(like.device, like.dtype) for addition in additions)])  # type: ignore[list-item]
