"""For which inputs an addition answers: those like some that it was taught."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.additions.sites import states


class Selector(nn.Module):
    """A memory of inputs, as the network itself sees them (Lee et al. 2022, "Plug-and-play adaptation
    for continuously-updated QA").

    q(x) is the mean hidden state of x in the frozen network (`query_embeddings`), of length 1, and M are those of the
    inputs that the addition was taught. It is on for x if max_{m ∈ M} ⟨m, q(x)⟩ ≥ δ.

    Args:
        layer: the states that enter it are looked at.
        threshold: δ, below 1, so that what was taught is on.
        memory: (rows, width) of the memory, which `remember` fills.
    """

    memory: Tensor

    def __init__(self, layer: int, threshold: float, memory: tuple[int, int] = (0, 0)) -> None:
        super().__init__()
        self.layer, self.threshold = layer, threshold
        self.register_buffer("memory", torch.zeros(*memory))

    @property
    def options(self) -> dict[str, Any]:
        """What it is made with."""
        return {"layer": self.layer, "threshold": self.threshold, "memory": list(self.memory.shape)}

    def remember(self, embeddings: Tensor) -> None:
        """Take these embeddings (m, d) for the memory."""
        self.memory = embeddings.detach().clone()

    def similarity(self, network: nn.Module, inputs: Tensor) -> Tensor:
        """(n,) the cosine of inputs with what is most like them in the memory.

        Args:
            network: the frozen one.
            inputs: (n, ...).
        """
        return (query_embeddings(network, inputs, self.layer) @ self.memory.T).amax(dim=1)


def query_embeddings(network: nn.Module, inputs: Tensor, layer: int) -> Tensor:
    """(n, d) the mean over the positions that are there of the states that enter a layer, each of length 1."""
    *_, entering = states(network, inputs, layer)
    there: Tensor = network.visible(inputs).unsqueeze(2)  # type: ignore[operator]
    mean = torch.where(there, entering, 0).sum(dim=1) / there.sum(dim=1)
    return F.normalize(mean, dim=1)
