"""Repair by teaching the failures to an addition, beside a network that is left as it is."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair.additions import Extended, extend, make_addition, query_embeddings
from modelrepair.additions.sites import state_layer
from modelrepair.additions.updates import update_of
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.treatment import (
    EditorSettings,
    LowRankSettings,
    SlotsSettings,
    StateAdaptersSettings,
)
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import epoch_batches
from modelrepair.training.schedule import Schedule
from modelrepair.treatment.base import Patient, Treated, Treatment
from modelrepair.treatment.contrast import divergences


class Editor(EditorSettings, Treatment):
    """Descend from θ̂ with an addition φ that adds nothing, in φ alone, on

        −(1/b) Σ log p(aᵢ | xᵢ, θ̂, φ) + λ (1/b) Σ KL(p(·|xⱼ, θ̂) ‖ p(·|xⱼ, θ̂, φ)),

    x with the right answers a being what is taught (`EditorSettings.wordings`), and xⱼ as many training examples that
    have nothing to do with it (`Patient.elsewhere`); λ is `retention`, which none of the published editors has. Where
    there is a selector its memory are the inputs that are taught, and the descent has the addition on for all: what it
    says of others then matters where the selector takes them for taught ones.

    Told to make several `updates` it teaches the failures part by part (Lee et al. 2022, section 3.1), each from the
    model with all additions before, which are left as they are. Where it is guarded, each part ends where accuracy on
    discovery is best.
    """

    @abstractmethod
    def added(self) -> dict[str, Any]:
        """What `make_addition` makes the addition of, but for the selector."""

    def _treat(self, patient: Patient) -> Treated:
        asked = np.arange(len(patient.failures)) if patient.stated is None else patient.stated.failing
        part_of = update_of(asked, self.updates) if self.updates > 1 else np.zeros(len(asked), dtype=np.int64)
        treated, trace = Treated(patient.model, [], 0), list[dict[str, Any]]()
        for number in range(self.updates):
            checkpoint = patient.checkpoint
            if checkpoint is not None and self.updates > 1:
                checkpoint = checkpoint.part(f"update-{number}")
            taught, _ = patient.with_failures(part_of == number, corrected=number == 0).lessons(self.wordings)
            kept = patient.examples.subset(patient.with_failures(part_of <= number).elsewhere)
            seen = dataclasses.replace(patient, model=treated.model, checkpoint=checkpoint)
            treated = self._teach(seen, taught, kept)
            best = len(trace) + treated.best_round
            trace += [{**row, "round": len(trace) + place} for place, row in enumerate(treated.trace)]
        return Treated(treated.model, trace, best)

    def _teach(self, patient: Patient, taught: Examples, kept: Examples) -> Treated:
        """The patient's model with one addition more, which has been taught."""
        if self.retention and not len(kept):
            raise RepairError(
                "no training examples remain on which the model is to stay as it is: set retention to 0, or select "
                "fewer causes"
            )
        if not self.retention:
            kept = kept.subset([])
        given = patient.model
        network = self._extended(given, taught, patient.seed)
        model = TrainedModel(network, given.likelihood, batch_size=given.batch_size, device=given.device)
        trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
        network.requires_grad_(False)
        network.additions[-1].requires_grad_(True)
        run, before = _answering(model, given, network, taught.followed_by(kept))
        steps = self.steps // self.looks

        def losses(look: int) -> Iterator[Tensor]:
            begin = (look - 1) * steps
            lessons = _endless(len(taught), self.batch_size, begin, seed=patient.seed, purpose="editing")
            rest = _endless(len(kept), self.batch_size, begin, seed=patient.seed, purpose="retaining")
            for _ in range(steps):
                learned = next(lessons)
                others = next(rest) if self.retention else np.empty(0, dtype=np.int64)
                targets = taught.batch(learned, device=model.device, dtype=model.dtype)[1]
                outputs = run(np.concatenate([learned, len(taught) + others]))
                loss = -model.log_likelihood(outputs[: len(learned)], targets).mean()
                if self.retention:
                    said = before(len(taught) + others)
                    loss = loss + self.retention * divergences(model, said, outputs[len(learned) :]).mean()
                yield loss

        course = minimise(
            model,
            losses,
            Descent(learning_rate=self.learning_rate, rounds=self.looks, schedule=Schedule("cosine")),
            oversight=patient.oversight,
            # What was said before and what is said now are compared, so the network says it in one way.
            training_mode=False,
            description="editing",
            steps_a_round=steps,
        )
        for parameter in trainable:
            parameter.requires_grad_(True)
        return Treated(model, course.trace, course.best_round)

    def _extended(self, given: TrainedModel, taught: Examples, seed: int) -> Extended:
        """The network with the addition, which has its selector's memory, if it has one."""
        network = copy.deepcopy(given.network)
        own = network.network if isinstance(network, Extended) else network
        selector = None
        if self.selector is not None:
            layer = state_layer(own, self.selector.layer, "the selector")
            selector = {"layer": layer, "threshold": self.selector.threshold}
        draw = int(generator(seed, "weights of an addition").integers(2**63))
        addition = make_addition(own, {**self.added(), "selector": selector}, seed=draw)
        if addition.selector is not None:
            addition.selector.remember(_memory(own, given, taught, addition.selector.layer))
        return extend(network, [addition])


class SlotEditor(SlotsSettings, Editor):
    """Slots beside a two-layer network (CALINET, Dong et al. 2022; see `Slots`)."""

    def added(self) -> dict[str, Any]:
        return {"kind": "slots", "slots": self.slots, "layer": -1 if self.layer is None else self.layer}


class LowRankEditor(LowRankSettings, Editor):
    """LoRA, with a selector (Lee et al. 2022; see `LowRank` and `Selector`), or without."""

    def added(self) -> dict[str, Any]:
        return {"kind": "low-rank", "rank": self.rank, "scale": self.scale}


class StateAdapterEditor(StateAdaptersSettings, Editor):
    """K-adapter, with a selector (Lee et al. 2022; see `StateAdapters` and `Selector`), or without."""

    def added(self) -> dict[str, Any]:
        return {"kind": "state-adapters", "heads": self.heads}


@torch.no_grad()
def _memory(network: nn.Module, model: TrainedModel, taught: Examples, layer: int) -> Tensor:
    """(m, d) the embeddings of what is taught, equal inputs once, where the paper has a row for each question."""
    _, first = np.unique(taught.inputs, axis=0, return_index=True)
    batches = model.batches(taught.subset(np.sort(first)))
    return torch.cat([query_embeddings(network, inputs, layer) for _, inputs, _ in batches])


def _answering(
    model: TrainedModel, given: TrainedModel, network: Extended, examples: Examples
) -> tuple[Callable[[NDArray[np.int64]], Tensor], Callable[[NDArray[np.int64]], Tensor]]:
    """Outputs with the additions, which can be differentiated, and those before, of examples at some positions.

    Where nothing below the addition changes, what the network makes there of every example is computed once.
    """
    if network.sits_late and not isinstance(given.network, Extended):
        own: Any = network.network
        with torch.no_grad():
            begun = torch.cat([own.begin(inputs) for _, inputs, _ in given.batches(examples)])

        @torch.no_grad()
        def finished(chosen: NDArray[np.int64]) -> Tensor:
            outputs: Tensor = own.finish(begun[chosen])
            return outputs

        return lambda chosen: network.finish(begun[chosen]), finished

    def inputs_of(chosen: NDArray[np.int64]) -> Tensor:
        return examples.batch(chosen, device=model.device, dtype=model.dtype)[0]

    @torch.no_grad()
    def said(chosen: NDArray[np.int64]) -> Tensor:
        return given.run(inputs_of(chosen))

    return lambda chosen: network.answer(inputs_of(chosen)), said


def _endless(count: int, size: int, begin: int, *, seed: int, purpose: str) -> Iterator[NDArray[np.int64]]:
    """Batches of epoch after epoch from step `begin` on: a function of these arguments alone."""
    first, skipped = divmod(begin, max(-(-count // size), 1))
    for epoch in itertools.count(first):
        batches = epoch_batches(count, size, seed=seed, purpose=purpose, epoch=epoch)
        yield from batches[skipped if epoch == first else 0 :]
