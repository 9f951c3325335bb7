"""Edits of facts by one solve: the second matrix of a two-layer network says what is right (MEMIT)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelrepair.additions import Extended
from modelrepair.additions.sites import sites_of, widths
from modelrepair.errors import RepairError
from modelrepair.knowledge.editor import Editor, Values, with_matrices
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel

MOMENTS = "moments"
"""Among the values that a `ClosedFormEditor` carries on, of no matrix of the network."""


@dataclass(frozen=True)
class Search:
    """How it is found what would have to be added to what a matrix says of a sentence.

    Attributes:
        norm: ν, what a large residual costs.
        steps: of Adam.
        learning_rate: of Adam.
    """

    norm: float
    steps: int
    learning_rate: float


class ClosedFormEditor(Editor):
    """W + Δ for the second matrix W of a two-layer network, edit after edit (Meng et al. 2023).

    Of each sentence that is taught, kᵢ is what W is given where the sentence is answered, and rᵢ is what would have to
    be added to W kᵢ there: the minimum of −log p(a | x, W k + r) + ν‖r‖² (Eq. 16). Then (Eq. 14 and 15)

        Δ = R Kᵀ (M + K Kᵀ)⁻¹,  at first M = C = λ E[k kᵀ],

    the mean over sentences that are to stay as they are, so that Δ is small where these are. M grows by K Kᵀ with each
    edit: those before are then among what is to stay, and the edits of a row are those of recursive least squares. An
    edit is made once, however many `loops` it may have, since rᵢ has been sought in many steps.

    Args:
        model: left as it is.
        layer: which of its two-layer networks; None for the last.
        search: for rᵢ.
        moments: (h, h) C, in double precision (`moments_of`).

    Raises:
        RepairError: if the network has no room there, or C is of another width.
    """

    def __init__(self, model: TrainedModel, layer: int | None, search: Search, moments: Tensor) -> None:
        matrix = SecondMatrix(model, layer)
        width = matrix.weight.shape[1]
        if moments.shape != (width, width):
            raise RepairError(
                f"the editor was made for a matrix with {len(moments)} inputs, and {matrix.name} has {width}: give "
                "the network that it was made for"
            )
        super().__init__(model, {matrix.name: matrix.weight, MOMENTS: moments})
        self.layer, self.search, self._name = layer, search, matrix.name

    def taught(self, values: Values, lessons: Examples) -> dict[str, Tensor]:
        """The values after one edit with these sentences and their right answers.

        Raises:
            RepairError: if it is not finite.
        """
        keys, residuals = self._at(values).wanted(lessons, self.search)
        shift = closed_form_shift(keys, residuals, values[MOMENTS])
        known = keys.double().cpu()
        weight = values[self._name]
        return {self._name: weight + shift.to(weight), MOMENTS: values[MOMENTS] + known.T @ known}

    def edited(self, values: Values, sentence: Tensor, wanted: Tensor, loops: int) -> Values:
        taken = bool(self.answers(values, sentence) == wanted)
        return values if taken else self.taught(values, _examples(sentence, wanted))

    def edited_apart(self, inputs: Tensor, wanted: Tensor, loops: int) -> dict[str, Tensor]:
        weight, moments = self.given[self._name], self.given[MOMENTS]
        edited = weight.expand(len(inputs), *weight.shape).clone()
        pending = torch.nonzero(self.answers(self.given, inputs) != wanted).squeeze(1)
        if len(pending):
            keys, residuals = self._at(self.given).wanted(
                _examples(inputs[pending], wanted[pending]), self.search
            )
            known, shifts = keys.double().cpu(), residuals.double().cpu()
            # (M + k kᵀ)⁻¹ k = M⁻¹k / (1 + kᵀM⁻¹k), by Sherman and Morrison.
            solved = torch.linalg.solve(moments, known.T).T
            solved = solved / (1 + (solved * known).sum(dim=1, keepdim=True))
            edited[pending] += torch.einsum("ed,eh->edh", shifts, solved).to(weight)
        return {self._name: edited}

    def _at(self, values: Values) -> SecondMatrix:
        return SecondMatrix(with_matrices(self.model, {self._name: values[self._name]}), self.layer)


def moments_of(keys: Tensor, covariance: float) -> Tensor:
    """(h, h) C = λ E[k kᵀ] of (m, h) keys of what is to be left alone, in double precision, with covariance λ."""
    held = keys.double().cpu()
    moments = covariance / len(held) * held.T @ held
    # What no sentence ever excites has no moment, and is to stay.
    moments.diagonal().add_(1e-9 * moments.diagonal().mean())
    return moments


def closed_form_shift(keys: Tensor, wanted: Tensor, moments: Tensor) -> Tensor:
    """(d, h) Δ = R Kᵀ (M + K Kᵀ)⁻¹, in double precision.

    Args:
        keys: (n, h) kᵢ of what is taught.
        wanted: (n, d) rᵢ.
        moments: (h, h) M, of what is to be left alone.

    Raises:
        RepairError: if it is not finite.
    """
    known, residuals = (values.double().cpu() for values in (keys, wanted))
    shift: Tensor = torch.linalg.solve(moments + known.T @ known, known.T @ residuals).T
    if not bool(shift.isfinite().all()):
        raise RepairError(
            "the closed-form edit is not finite: give it a larger covariance, or more sentences that are to stay"
        )
    return shift


class SecondMatrix:
    """The second matrix of a two-layer network of a model, with what it is given and what is added to what it says.

    Args:
        model: whose network has room at `feed-forward`.
        layer: which of its two-layer networks; None for the last.

    Raises:
        RepairError: if it has no such room.
    """

    def __init__(self, model: TrainedModel, layer: int | None) -> None:
        network = model.network
        own: Any = network.network if isinstance(network, Extended) else network
        [self._site] = sites_of(own, "feed-forward", [-1 if layer is None else layer], "a closed-form edit")
        widths(own, self._site)
        self._model, self._own, self._extended = model, own, isinstance(network, Extended)
        self._module: Any = own.get_submodule(self._site.adds_to)
        self.name = f"{'network.' if self._extended else ''}{self._site.adds_to}.weight"
        self.weight: Tensor = self._module.weight.detach()

    @torch.no_grad()
    def keys(self, examples: Examples) -> Tensor:
        """(n, h) what the matrix is given of each where it is answered."""
        found = []
        for chosen in self._batches(examples):
            run, read = self._ready(examples.subset(chosen))
            with self._watched(read, None) as given:
                run()
            found += given
        return torch.cat(found)

    def wanted(self, taught: Examples, search: Search) -> tuple[Tensor, Tensor]:
        """(n, h) keys of what is taught, and (n, d) what is to be added to what the matrix says of each.

        Each sentence has a minimum of its own, so that nothing depends on which are sought together.
        """
        keys, shifts = [], []
        for chosen in self._batches(taught):
            some = taught.subset(chosen)
            run, read = self._ready(some)
            targets = some.batch(slice(None), device=self._model.device, dtype=self._model.dtype)[1]
            shift = self.weight.new_zeros(len(some), len(self.weight)).requires_grad_()
            optimiser = torch.optim.Adam([shift], lr=search.learning_rate)
            with self._watched(read, shift) as given:
                for _ in range(search.steps):
                    loss = (
                        -self._model.log_likelihood(run(), targets).sum() + search.norm * shift.square().sum()
                    )
                    (shift.grad,) = torch.autograd.grad(loss, [shift])
                    optimiser.step()
            keys.append(given[0].detach())
            shifts.append(shift.detach())
        return torch.cat(keys), torch.cat(shifts)

    def _batches(self, examples: Examples) -> list[np.ndarray]:
        return np.array_split(np.arange(len(examples)), -(-len(examples) // self._model.batch_size))

    def _ready(self, examples: Examples) -> tuple[Callable[[], Tensor], Callable[[Tensor], Tensor]]:
        """What makes outputs of examples, and (n, 1, positions) which position each is answered from, of states.

        What the network makes of them below the layer is computed once, where it can be run in two parts.
        """
        inputs = examples.batch(slice(None), device=self._model.device, dtype=self._model.dtype)[0]
        own: Any = self._own
        late = getattr(own, "late", ())
        if not self._extended and self._site.reads in late and self._site.adds_to in late:
            with torch.no_grad():
                begun = own.begin(inputs)
            return lambda: own.finish(begun), lambda states: self._where(inputs, states)
        return lambda: self._model.run(inputs), lambda states: self._where(inputs, states)

    def _where(self, inputs: Tensor, states: Tensor) -> Tensor:
        """(n, 1, positions) 1 at the position that is answered from, of states (n, positions, ...)."""
        positions = states.shape[1]
        one = torch.eye(positions, dtype=states.dtype, device=states.device)
        if positions == 1:
            return one.expand(len(inputs), 1, 1)
        own: Any = self._own
        where: Tensor = own.read(inputs, one.expand(len(inputs), positions, positions))
        return where

    @contextlib.contextmanager
    def _watched(self, where: Callable[[Tensor], Tensor], shift: Tensor | None) -> Iterator[list[Tensor]]:
        """While the block runs, what the matrix is given is written down, and the shift added to what it says."""
        given: list[Tensor] = []

        def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            places = where(inputs[0])
            if not given or shift is None:
                given.append((places @ inputs[0]).squeeze(1))
            return output if shift is None else output + places.transpose(1, 2) @ shift.unsqueeze(1)

        handle = self._module.register_forward_hook(look)
        try:
            yield given
        finally:
            handle.remove()


def _examples(inputs: Tensor, wanted: Tensor) -> Examples:
    return Examples(inputs.cpu().numpy(), wanted.cpu().numpy())
