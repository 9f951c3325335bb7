"""Edits of facts by a hyper-network (De Cao et al. 2021, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, vmap

from modelrepair.errors import RepairError
from modelrepair.knowledge.editor import APART, Editor, Values
from modelrepair.knowledge.hypernetwork import HyperNetwork
from modelrepair.models.differentiable import differentiable
from modelrepair.models.trained_model import TrainedModel


class HyperNetworkEditor(Editor):
    """A model at θ̂ and the hyper-network that edits it.

    Args:
        model: left as it is.
        network: made for its matrices.
    """

    def __init__(self, model: TrainedModel, network: HyperNetwork) -> None:
        self.network = network.to(model.device, model.dtype)
        parameters = model.parameters
        if missing := [name for name in network.shapes if name not in parameters]:
            raise RepairError(
                f"the editor was made for a network with the matrix {missing[0]}, which this one lacks: give the one "
                "that it was made for"
            )
        super().__init__(model, {name: parameters[name].detach() for name in network.shapes})

    def gradients(self, values: Values, inputs: Tensor, wanted: Tensor, *, apart: bool = False) -> Values:
        """(e, n, m) by matrix, ∇ −log p(a | x, θ) of each edit; constants.

        Args:
            values: θ's edited matrices.
            inputs: (e, length) sentences.
            wanted: (e,) numbers of words.
            apart: whether each edit has matrices of its own.
        """

        def loss(values: dict[str, Tensor], sentence: Tensor, word: Tensor) -> Tensor:
            outputs = self.outputs(values, sentence.unsqueeze(0))
            return -self.model.log_likelihood(outputs, word.unsqueeze(0)).sum()

        with (
            torch.no_grad(),
            differentiable(
                self.model.network, "gradients of single edits", "choose another network or treatment"
            ),
        ):
            found: Values = vmap(grad(loss), in_dims=(0 if apart else None, 0, 0))(
                dict(values), inputs, wanted
            )
        return found

    def shift(self, values: Values, inputs: Tensor, answers: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        """(n, m) by matrix, Σ ΔW of all edits, each from these values. What is differentiated is the hyper-network.

        Args:
            values: (n, m) θ's edited matrices.
            inputs: (e, length) sentences.
            answers: (e,) what the model says.
            wanted: (e,) what it is to say.
        """
        gates = self.network(inputs, answers, wanted)
        steep = self.gradients(values, inputs, wanted)
        return {name: gate.total(steep[name]) for name, gate in gates.items()}

    @torch.no_grad()
    def edited(self, values: Values, sentence: Tensor, wanted: Tensor, loops: int) -> Values:
        for _ in range(loops):
            said = self.answers(values, sentence)
            if bool(said == wanted):
                break
            values = moved(values, self.shift(values, sentence, said, wanted))
        return values

    @torch.no_grad()
    def edited_apart(self, inputs: Tensor, wanted: Tensor, loops: int) -> dict[str, Tensor]:
        values = {name: value.expand(len(inputs), *value.shape).clone() for name, value in self.given.items()}
        for _ in range(loops):
            answers = self.answers_apart(values, inputs)
            open_edits = torch.nonzero(answers != wanted).squeeze(1)
            if not len(open_edits):
                break
            own = {name: value[open_edits] for name, value in values.items()}
            steep = self.gradients(own, inputs[open_edits], wanted[open_edits], apart=True)
            gates = self.network(inputs[open_edits], answers[open_edits], wanted[open_edits])
            for name, gate in gates.items():
                values[name][open_edits] += gate.shifts(steep[name])
        return values

    @torch.no_grad()
    def success(self, inputs: Tensor, wanted: Tensor, at_once: int) -> float:
        """Share of edits that take when so many at once are made from θ̂, in one step."""
        right = []
        for sentences, words in zip(
            torch.split(inputs, APART if at_once == 1 else at_once),
            torch.split(wanted, APART if at_once == 1 else at_once),
            strict=True,
        ):
            if at_once == 1:
                said = self.answers_apart(self.edited_apart(sentences, words, 1), sentences)
            else:
                shift = self.shift(self.given, sentences, self.answers(self.given, sentences), words)
                said = self.answers(moved(self.given, shift), sentences)
            right.append(said == words)
        return float(torch.cat(right).double().mean())


def moved(values: Values, shift: Values) -> dict[str, Tensor]:
    """θ + Δ, by matrix."""
    return {name: value + shift[name] for name, value in values.items()}
