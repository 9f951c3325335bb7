"""A small encoder that says which word is missing in a sentence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.data.sentences import BLANK_NUMBER, PADDING_NUMBER
from modelrepair.errors import RepairError


class FactLM(nn.Module):
    """Logits of every word of the vocabulary for the blank of a sentence.

    A transformer that looks both ways (Vaswani et al. 2017), with normalisation before each part (Xiong et al. 2020),
    of which only what stands at the blank is read, as in the masked language models of Devlin et al. 2019. Padding is
    attended to by none. The last layer is linear, with weights of its own, so that what looks at last layers can.

    Args:
        input_shape: (length,) of a sentence with its padding.
        outputs: words in the vocabulary, which inputs are numbers of.
        width: numbers of a position, d.
        layers: how many.
        heads: of attention, of d/heads numbers each.
        hidden: width of the two-layer network in each layer.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        hidden: int = 512,
    ) -> None:
        super().__init__()
        if len(input_shape) != 1:
            raise RepairError(
                f"factlm takes sentences of numbers of words (length,), not inputs of shape {tuple(input_shape)}: "
                "choose another network"
            )
        self.words = nn.Embedding(outputs, width)
        self.places = nn.Parameter(0.02 * torch.randn(input_shape[0], width))
        nn.init.normal_(self.words.weight, std=0.02)
        self.layers = nn.ModuleList([Layer(width, heads, hidden) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, outputs)

    def forward(self, sentences: Tensor) -> Tensor:
        """Logits (n, outputs) of sentences (n, length), each with one blank."""
        return self.finish(self.begin(sentences))

    # What a network shows where additions are put onto it; see `modelrepair.additions.sites`.

    def sites(self) -> dict[str, list[tuple[str, str, tuple[int, int] | None]]]:
        """Where there is room for additions, by name, for each layer; of `answer` once."""
        paths, width = [f"layers.{number}" for number in range(len(self.layers))], self.output.in_features
        return {
            "states": [(path, path, None) for path in paths],
            "feed-forward": [(f"{path}.network_in", f"{path}.network_out", None) for path in paths],
            "feed-forward-in": [(f"{path}.network_in", f"{path}.network_in", None) for path in paths],
            "feed-forward-out": [(f"{path}.network_out", f"{path}.network_out", None) for path in paths],
            "query": [(f"{path}.asks", f"{path}.asks", None) for path in paths],
            # Behind the keys.
            "value": [(f"{path}.answers", f"{path}.answers", (width, 2 * width)) for path in paths],
            "answer": [("norm", "output", None)],
        }

    @property
    def late(self) -> tuple[str, ...]:
        """The modules that run in `finish`."""
        last = f"layers.{len(self.layers) - 1}"
        return (f"{last}.network_norm", f"{last}.network_in", f"{last}.network_out", "norm", "output")

    def begin(self, sentences: Tensor) -> Tensor:
        """(n, 1, width) what stands at the blank before the two-layer network of the last layer."""
        *_, stream = self.states(sentences)
        last: Layer = self.layers[-1]  # type: ignore[assignment]
        return last.attend(self.read(sentences, stream), stream, self._attended(sentences))

    def finish(self, begun: Tensor) -> Tensor:
        """Logits (n, outputs) of what `begin` made of sentences."""
        last: Layer = self.layers[-1]  # type: ignore[assignment]
        logits: Tensor = self.output(self.norm(last.think(begun).squeeze(1)))
        return logits

    def states(self, sentences: Tensor, last: int | None = None) -> list[Tensor]:
        """For each layer, up to and with layer `last`, (n, length, width) what enters it."""
        entering = [self.words(sentences) + self.places]
        for layer in self.layers[: len(self.layers) - 1 if last is None else last]:
            entering.append(layer(entering[-1], entering[-1], self._attended(sentences)))
        return entering

    def visible(self, sentences: Tensor) -> Tensor:
        """(n, length) which positions are attended to: all but padding."""
        return (sentences != PADDING_NUMBER) | (sentences == BLANK_NUMBER)

    def read(self, sentences: Tensor, states: Tensor) -> Tensor:
        """(n, 1, width) of states (n, length, width) those at the blank: of the last layer nothing else is read."""
        # Without a branch or an index that depends on values, so that the network can be mapped over examples.
        return (sentences == BLANK_NUMBER).unsqueeze(1).to(states.dtype) @ states

    def _attended(self, sentences: Tensor) -> Tensor:
        """(n, 1, 1, length) the same as `visible`, for each head and asking position."""
        return self.visible(sentences)[:, None, None]


class Layer(nn.Module):
    """Attention, then a two-layer network at every position, each added to what it was given.

    Args:
        width: numbers of a position.
        heads: of attention.
        hidden: of the two-layer network.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.asks = nn.Linear(width, width)
        self.answers = nn.Linear(width, 2 * width)
        self.attention_out = nn.Linear(width, width)
        self.network_norm = nn.LayerNorm(width)
        self.network_in = nn.Linear(width, hidden)
        self.network_out = nn.Linear(hidden, width)

    def forward(self, asking: Tensor, stream: Tensor, visible: Tensor) -> Tensor:
        """What becomes of some positions, of the shape of `asking`.

        Args:
            asking: (n, positions, width) those that are changed.
            stream: (n, length, width) those that are attended to.
            visible: (n, 1, 1, length) whether one may be.
        """
        return self.think(self.attend(asking, stream, visible))

    def attend(self, asking: Tensor, stream: Tensor, visible: Tensor) -> Tensor:
        """The first part alone."""
        query = self._by_head(self.asks(self.attention_norm(asking)))
        key, value = map(self._by_head, self.answers(self.attention_norm(stream)).chunk(2, dim=2))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        attended: Tensor = asking + self.attention_out(seen.transpose(1, 2).flatten(2))
        return attended

    def think(self, attended: Tensor) -> Tensor:
        """The second part, of what `attend` says."""
        result: Tensor = attended + self.network_out(F.gelu(self.network_in(self.network_norm(attended))))
        return result

    def _by_head(self, values: Tensor) -> Tensor:
        """(n, heads, positions, width/heads) of (n, positions, width)."""
        return values.view(*values.shape[:2], self.heads, -1).transpose(1, 2)


Network = FactLM
