"""Repair by edits: what answers a failing fact is moved by a network that has learned to edit others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.knowledge.editing import HyperNetworkEditor, moved
from modelrepair.knowledge.editor import Values, with_matrices
from modelrepair.knowledge.hypernetwork import HyperNetwork, edited_matrices, embedded_words
from modelrepair.posterior.points import Points
from modelrepair.settings.treatment import KnowledgeEditorSettings
from modelrepair.training.descent import Oversight
from modelrepair.training.epochs import torch_seeded
from modelrepair.treatment.base import Patient, Treated, Treatment
from modelrepair.treatment.learning_to_edit import Statements, Training

TOGETHER = 64
"""Edits whose gradients are held in memory side by side; the sum of their shifts does not depend on it."""


class KnowledgeEditor(KnowledgeEditorSettings, Treatment):
    """θ = θ̂ + Σ g(x, y, a) over the failures (De Cao et al. 2021, "Editing factual knowledge in language models").

    The hyper-network g learns from edits of facts that look right, with another object of their relation as what is
    wanted; neither the failures nor what was taken for causes is ever among them. Then it is given the failures with
    their right objects. The paper measures single edits, each from θ̂: here they make one model, all in one sum, or one
    after another. What g has learned of single edits holds for neither: it leads where g has never been, and a few
    edits break what was there. So g learns sums of several edits, unless it is told to learn single ones.
    """

    def _treat(self, patient: Patient) -> Treated:
        patient.expect_no_corrections("the knowledge editor")
        if patient.stated is None:
            raise RepairError(
                "the knowledge editor edits facts, and these examples state none: use the source facts, or another "
                "treatment"
            )
        if not len(patient.failures):
            raise RepairError("there are no failures to edit: choose another treatment, such as deletion")
        editor = self.trained(patient, patient.stated.failing)
        return self._edited(patient, editor)

    def trained(self, patient: Patient, failing: np.ndarray) -> HyperNetworkEditor:
        """The hyper-network that has learned to edit the patient's model.

        Args:
            patient: whose training sentences state facts.
            failing: (f,) numbers of the facts that fail.

        Raises:
            RepairError: if there is nothing to edit or to learn from.
        """
        model, stated, settings = patient.model, patient.stated, self.training
        assert stated is not None
        suspected = np.union1d(stated.facts[patient.causes], failing)
        statements = Statements(
            patient.examples, stated.facts, stated.relations, ~np.isin(stated.facts, suspected)
        )
        seed = int(generator(patient.seed, "hyper-network").integers(2**63))
        with torch_seeded(seed, model.device):
            network = HyperNetwork(
                embedded_words(model.network),
                edited_matrices(model.network),
                memory=settings.memory,
                condition=settings.condition,
                hidden=settings.hidden,
                scale=settings.scale,
            )
        editor = HyperNetworkEditor(model, network)
        Training(editor, statements, settings, patient.seed).run(Oversight(checkpoint=patient.checkpoint))
        network.requires_grad_(False)
        return editor

    def _edited(self, patient: Patient, editor: HyperNetworkEditor) -> Treated:
        """The best point by the patient's oversight on the way of the edits, or the last."""
        oversight = patient.oversight
        seen = Points(oversight, patient.model, loss=None, edits=0)
        values: Values = editor.given
        inputs, wanted = patient.failures.batch(slice(None), device=patient.model.device)
        for _ in range(1 if self.edits == "sequential" else self.loops):
            accepted = False
            for point, taken in self._way(editor, values, inputs, wanted, patient.seed, oversight):
                if seen.look(with_matrices(patient.model, point), loss=None, edits=taken):
                    values, accepted = point, True
            # The next loop goes on from the best point; where there was none, it would find the same ones.
            if not accepted:
                break
        return Treated(seen.best, seen.trace, seen.best_round, editor)

    def _way(
        self,
        editor: HyperNetworkEditor,
        values: Values,
        inputs: torch.Tensor,
        wanted: torch.Tensor,
        seed: int,
        oversight: Oversight,
    ) -> Iterator[tuple[Values, int]]:
        """Points on the way of the edits that have not taken, and how many edits are made at each."""
        answers = editor.answers(values, inputs)
        pending = torch.nonzero(answers != wanted).squeeze(1)
        points = self.points if oversight.watch else 1
        if not len(pending):
            return
        if self.edits == "together":
            shift = {name: torch.zeros_like(value) for name, value in values.items()}
            with torch.no_grad():
                for some in torch.split(pending, TOGETHER):
                    part = editor.shift(values, inputs[some], answers[some], wanted[some])
                    shift = moved(shift, part)
            for point in range(1, points + 1):
                share = point / points
                yield {name: value + share * shift[name] for name, value in values.items()}, len(pending)
            return
        order = generator(seed, "order of edits").permutation(len(pending))
        ends = {round(len(order) * point / points) for point in range(1, points + 1)}
        for number, place in enumerate(order, 1):
            one = pending[place : place + 1]
            values = editor.edited(values, inputs[one], wanted[one], self.loops)
            if number in ends:
                yield values, number
