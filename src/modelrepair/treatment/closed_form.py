"""Repair by one solve: the second matrix of a two-layer network is moved so that it says what is right (MEMIT)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelrepair.additions import Extended
from modelrepair.additions.sites import sites_of, widths
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.points import Points
from modelrepair.settings.treatment import ClosedFormSettings
from modelrepair.treatment.base import Patient, Treated, Treatment
from modelrepair.treatment.knowledge_editing import with_matrices


class ClosedForm(ClosedFormSettings, Treatment):
    """W + Δ for the second matrix W of a two-layer network (Meng et al. 2023, "Mass-editing memory in a transformer").

    Of each sentence that is taught, kᵢ is what W is given where the sentence is answered, and rᵢ is what would have to
    be added to W kᵢ there: the minimum of −log p(a | x, W k + r) + ν‖r‖² (Eq. 16). Then (Eq. 14 and 15)

        Δ = R Kᵀ (C + K Kᵀ)⁻¹,  C = λ E[k kᵀ],

    the mean over training sentences of other facts, so that Δ is small where these are (`Patient.elsewhere`). The paper
    spreads Δ over several layers, of which each moves what the next is given; this takes one. Where it is guarded,
    points on the way from W to W + Δ are looked at.

    As many keys as W has inputs can be told apart, so that it holds for a few dozen facts and not for hundreds.
    """

    def _treat(self, patient: Patient) -> Treated:
        taught, kept = patient.lessons(self.wordings)
        if not len(kept):
            raise RepairError(
                "no training examples remain that an edit is to leave alone: select fewer causes, or choose another "
                "treatment"
            )
        layer = _Layer(patient.model, -1 if self.layer is None else self.layer)
        keys, wanted = layer.wanted(taught, self)
        shift = closed_form_shift(keys, wanted, layer.keys(kept), self.covariance)
        oversight = patient.oversight
        seen = Points(oversight, patient.model, loss=None)
        for point in range(1, self.points + 1) if oversight.watch else [self.points]:
            moved = layer.weight + (point / self.points * shift).to(layer.weight)
            seen.look(with_matrices(patient.model, {layer.name: moved}), loss=None)
        return Treated(seen.best, seen.trace, seen.best_round)


def closed_form_shift(keys: Tensor, wanted: Tensor, others: Tensor, covariance: float) -> Tensor:
    """(d, h) Δ = R Kᵀ (λ E[k kᵀ] + K Kᵀ)⁻¹, in float64.

    Args:
        keys: (n, h) kᵢ of what is taught.
        wanted: (n, d) rᵢ.
        others: (m, h) k of what is to be left alone.
        covariance: λ.

    Raises:
        RepairError: if it is not finite.
    """
    known, residuals, held = (values.double().cpu() for values in (keys, wanted, others))
    moments = covariance / len(held) * held.T @ held + known.T @ known
    # What no sentence ever excites has no moment, and is to stay.
    moments.diagonal().add_(1e-9 * moments.diagonal().mean())
    shift: Tensor = torch.linalg.solve(moments, known.T @ residuals).T
    if not bool(shift.isfinite().all()):
        raise RepairError(
            "the closed-form edit is not finite: give it a larger covariance, or more sentences that are to stay"
        )
    return shift


class _Layer:
    """The second matrix of a two-layer network of a model, with what it is given and what is added to what it says.

    Args:
        model: whose network has room at `feed-forward`.
        layer: which of its two-layer networks.

    Raises:
        RepairError: if it has no such room.
    """

    def __init__(self, model: TrainedModel, layer: int) -> None:
        network = model.network
        own: Any = network.network if isinstance(network, Extended) else network
        [self._site] = sites_of(own, "feed-forward", [layer], "a closed-form edit")
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

    def wanted(self, taught: Examples, settings: ClosedFormSettings) -> tuple[Tensor, Tensor]:
        """(n, h) keys of what is taught, and (n, d) what is to be added to what the matrix says of each.

        Each sentence has a minimum of its own, so that nothing depends on which are sought together.
        """
        keys, shifts = [], []
        for chosen in self._batches(taught):
            some = taught.subset(chosen)
            run, read = self._ready(some)
            targets = some.batch(slice(None), device=self._model.device, dtype=self._model.dtype)[1]
            shift = self.weight.new_zeros(len(some), len(self.weight)).requires_grad_()
            optimiser = torch.optim.Adam([shift], lr=settings.learning_rate)
            with self._watched(read, shift) as given:
                for _ in range(settings.steps):
                    loss = (
                        -self._model.log_likelihood(run(), targets).sum()
                        + settings.norm * shift.square().sum()
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
