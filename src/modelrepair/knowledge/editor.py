"""What edits the facts of a model one by one: it moves some matrices, and all else stays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import vmap

from modelrepair.models.differentiable import differentiable
from modelrepair.models.trained_model import TrainedModel, flatten

Values = Mapping[str, Tensor]
"""The edited matrices by name, (n, m), or (e, n, m) where each edit has its own; and what else an editor carries from
edit to edit."""
APART = 16
"""So many edits are gone through side by side, each with matrices of its own."""


class Editor(ABC):
    """A model at θ̂ and what edits it.

    Args:
        model: left as it is.
        given: the matrices that are edited, as they are in the model, and what else is carried from edit to edit.
    """

    def __init__(self, model: TrainedModel, given: Values) -> None:
        parameters = model.parameters
        self.model = model
        self.given: dict[str, Tensor] = dict(given)
        self.matrices = [name for name in given if name in parameters]
        self._others = {name: value.detach() for name, value in parameters.items() if name not in given}

    @abstractmethod
    def edited(self, values: Values, sentence: Tensor, wanted: Tensor, loops: int) -> Values:
        """These values with one more edit; the values themselves where the sentence is answered as wanted.

        Args:
            values: of the model that is edited.
            sentence: (1, length).
            wanted: (1,) the number of a word.
            loops: how often at most an edit that has not taken is made again, from where the model then is.
        """

    @abstractmethod
    def edited_apart(self, inputs: Tensor, wanted: Tensor, loops: int) -> dict[str, Tensor]:
        """(e, n, m) by matrix, those of e models, each with one edit alone, from θ̂.

        Args:
            inputs: (e, length) sentences.
            wanted: (e,) numbers of words.
            loops: how often at most an edit that has not taken is made again, from where the model then is.
        """

    def outputs(self, values: Values, inputs: Tensor) -> Tensor:
        """(n, v) logits with these matrices; all other parameters are constants."""
        return self.model.outputs_at(
            {**self._others, **{name: values[name] for name in self.matrices}}, inputs
        )

    @torch.no_grad()
    def answers(self, values: Values, inputs: Tensor) -> Tensor:
        """(n,) the most likely word for each sentence, with these matrices."""
        pieces = [
            self.model.likelihood.predictions(self.outputs(values, piece))
            for piece in torch.split(inputs, self.model.batch_size)
        ]
        return torch.cat(pieces)

    @torch.no_grad()
    def answers_apart(self, values: Values, inputs: Tensor) -> Tensor:
        """(e,) the most likely word for each sentence, each with (e, n, m) matrices of its own."""
        with differentiable(
            self.model.network, "answers of single edits", "choose another network or treatment"
        ):
            outputs = vmap(lambda own, sentence: self.outputs(own, sentence.unsqueeze(0)).squeeze(0))(
                {name: values[name] for name in self.matrices}, inputs
            )
        return self.model.likelihood.predictions(outputs)


def with_matrices(model: TrainedModel, values: Values) -> TrainedModel:
    """The model with these matrices, by their names, in place of its own.

    Raises:
        RepairError: if one is NaN or infinite.
    """
    parameters = {name: parameter.detach() for name, parameter in model.parameters.items()}
    return model.with_parameter_vector(
        flatten(values.get(name, parameter) for name, parameter in parameters.items())
    )
