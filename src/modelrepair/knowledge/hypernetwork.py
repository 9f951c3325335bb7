"""A network that says how another's weight matrices are to move so that one sentence is answered otherwise.

KnowledgeEditor (De Cao et al. 2021, "Editing factual knowledge in language models", section 3). Of an edit it reads the
sentence, the answer of the model and the wanted one, and for each matrix W (n, m) gives gates of rank one on the
gradient of the loss of the wanted answer:

    ΔW = s·σ(η)·(A ∘ ∇_W L(W; x, a) + B),  A = softmax(α)γᵀ,  B = softmax(β)δᵀ

with α, β (n,), γ, δ (m,) and a number η, all functions of the edit. The gradient is a constant to whoever trains it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.rnn import pack_padded_sequence

from modelrepair.data.sentences import PADDING_NUMBER
from modelrepair.errors import RepairError

Gradients = Mapping[str, Tensor]
"""By the names of matrices (n, m), (e, n, m) gradients of the losses of e edits."""


@dataclass(frozen=True)
class Gates:
    """What becomes of the gradients of e edits at one matrix (n, m).

    Attributes:
        rows, columns: softmax(α) (e, n) and γ (e, m), whose product A (e, n, m) weighs the gradient's entries.
        row_shifts, column_shifts: softmax(β) (e, n) and δ (e, m), whose product is B.
        strength: (e,) s·σ(η).
    """

    rows: Tensor
    columns: Tensor
    row_shifts: Tensor
    column_shifts: Tensor
    strength: Tensor

    @classmethod
    def read(cls, numbers: Tensor, shape: tuple[int, int], scale: float) -> Gates:
        """From (e, 2(n + m) + 1) numbers γ, α, δ, β, η of e edits.

        Args:
            numbers: as the hyper-network gives them.
            shape: (n, m) of the matrix.
            scale: s, the largest strength.
        """
        n, m = shape
        columns, rows, column_shifts, row_shifts, strength = torch.split(numbers, [m, n, m, n, 1], dim=1)
        return cls(
            rows.softmax(dim=1),
            columns,
            row_shifts.softmax(dim=1),
            column_shifts,
            scale * strength.squeeze(1).sigmoid(),
        )

    def shifts(self, gradients: Tensor) -> Tensor:
        """(e, n, m) ΔW of each edit, of gradients (e, n, m)."""
        gated = gradients * self.rows.unsqueeze(2) * self.columns.unsqueeze(1)
        return self.strength[:, None, None] * (
            gated + self.row_shifts.unsqueeze(2) * self.column_shifts.unsqueeze(1)
        )

    def total(self, gradients: Tensor) -> Tensor:
        """(n, m) Σ ΔW over the edits."""
        rows, shifted = (self.strength.unsqueeze(1) * values for values in (self.rows, self.row_shifts))
        return torch.einsum("enm,en,em->nm", gradients, rows, self.columns) + shifted.T @ self.column_shifts


class HyperNetwork(nn.Module):
    """Gates of all edited matrices, from edits.

    The sentence that it reads is "answer >> wanted || input", embedded by words of its own that begin as those of the
    edited model, through a bidirectional LSTM whose last states become a condition by a linear layer and tanh; for each
    matrix a two-layer network, with weight normalisation (Salimans & Kingma 2016), makes its gates of that. The
    multiplier and the margin of its training go along with it (`treatment.learning_to_edit`).

    Args:
        words: (v, d) the edited model's embeddings.
        shapes: (n, m) of each edited matrix by name.
        memory: numbers of the LSTM in each direction.
        condition: numbers of the condition.
        hidden: width of the networks for each matrix.
        scale: s, the largest strength of a shift.

    Raises:
        RepairError: if nothing is to be edited.
    """

    multiplier: Tensor
    margin: Tensor

    def __init__(
        self,
        words: Tensor,
        shapes: Mapping[str, tuple[int, int]],
        *,
        memory: int = 128,
        condition: int = 1024,
        hidden: int = 128,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        if not shapes:
            raise RepairError(
                "the network has no weight matrix beside its embeddings and its last layer, which editing leaves "
                "alone: choose another network"
            )
        self.shapes, self.scale = dict(shapes), scale
        self.memory, self.condition, self.hidden = memory, condition, hidden
        count, width = words.shape
        # Two further words stand between the answers and before the sentence.
        self.words = nn.Embedding(count + 2, width)
        with torch.no_grad():
            self.words.weight[:count] = words
        self.reader = nn.LSTM(width, memory, batch_first=True, bidirectional=True)
        self.summary = nn.Linear(2 * memory, condition)
        self.gates = nn.ModuleList(
            nn.Sequential(
                weight_norm(nn.Linear(condition, hidden)),
                nn.Tanh(),
                weight_norm(nn.Linear(hidden, 2 * (n + m) + 1)),
            )
            for n, m in self.shapes.values()
        )
        self.register_buffer("multiplier", torch.zeros(()))
        self.register_buffer("margin", torch.zeros(()))

    def conditions(self, inputs: Tensor, answers: Tensor, wanted: Tensor) -> Tensor:
        """(e, condition) what is read of e edits.

        Args:
            inputs: (e, length) numbers of words, padded behind their ends.
            answers, wanted: (e,) numbers of words: what the model says and what it is to say.
        """
        count = self.words.num_embeddings - 2
        between, before = (torch.full_like(answers, count + place) for place in (0, 1))
        read = torch.cat([torch.stack([answers, between, wanted, before], dim=1), inputs], dim=1)
        lengths = 4 + (inputs != PADDING_NUMBER).sum(dim=1)
        packed = pack_padded_sequence(self.words(read), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (last, _) = self.reader(packed)
        condition: Tensor = self.summary(last.transpose(0, 1).flatten(1)).tanh()
        return condition

    def forward(self, inputs: Tensor, answers: Tensor, wanted: Tensor) -> dict[str, Gates]:
        """Gates of each edited matrix by name, of e edits as in `conditions`."""
        condition = self.conditions(inputs, answers, wanted)
        return {
            name: Gates.read(gate(condition), shape, self.scale)
            for (name, shape), gate in zip(self.shapes.items(), self.gates, strict=True)
        }


def edited_matrices(network: nn.Module) -> dict[str, tuple[int, int]]:
    """By name, the shapes (n, m) of the weights of all linear layers but the last: what is edited.

    Embeddings and what else has no two sides, such as normalisation and biases, are left alone, as in the paper.
    """
    return dict(_linear(network)[:-1])


def embedded_words(network: nn.Module) -> Tensor:
    """(v, d) the weights of the first embedding, or what the network itself says embeds the numbers of its words.

    Raises:
        RepairError: if there is none.
    """
    own: Any = network
    if hasattr(own, "embedded_words"):
        embedded: Tensor = own.embedded_words()
        return embedded.detach()
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            return module.weight.detach()
    raise RepairError(
        "the knowledge editor reads sentences by the words that the network embeds, and this network embeds none: "
        "choose a network of sentences, such as factlm, or another treatment"
    )


def _linear(network: nn.Module) -> list[tuple[str, tuple[int, int]]]:
    def found() -> Iterator[tuple[str, tuple[int, int]]]:
        for path, module in network.named_modules():
            if isinstance(module, nn.Linear) and module.weight.requires_grad:
                yield f"{path}.weight".lstrip("."), (module.out_features, module.in_features)

    return list(found())
