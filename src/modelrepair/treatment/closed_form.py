"""Repair by one solve: the second matrix of a two-layer network is moved so that it says what is right (MEMIT)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.knowledge.closed_form import ClosedFormEditor, Search, SecondMatrix, moments_of
from modelrepair.knowledge.editor import Values, with_matrices
from modelrepair.posterior.points import Points
from modelrepair.settings.treatment import ClosedFormSettings
from modelrepair.treatment.base import Patient, Treated, Treatment


class ClosedForm(ClosedFormSettings, Treatment):
    """W + Δ for the second matrix W of a two-layer network (Meng et al. 2023, "Mass-editing memory in a transformer").

    What Δ is says `ClosedFormEditor`; what is to stay are training sentences of other facts (`Patient.elsewhere`). The
    paper spreads Δ over several layers, of which each moves what the next is given; this takes one. All failures are
    taught by one solve, or fact after fact, each from where the last has led. Where it is guarded, points on the way
    from W to W + Δ are looked at, or some of those after each fact.

    As many keys as W has inputs can be told apart, so that it holds for some dozens of facts and not for hundreds.
    """

    def _treat(self, patient: Patient) -> Treated:
        _, kept = patient.lessons(self.wordings)
        if not len(kept):
            raise RepairError(
                "no training examples remain that an edit is to leave alone: select fewer causes, or choose another "
                "treatment"
            )
        keys = SecondMatrix(patient.model, self.layer).keys(kept)
        search = Search(self.norm, self.steps, self.learning_rate)
        editor = ClosedFormEditor(patient.model, self.layer, search, moments_of(keys, self.covariance))
        oversight = patient.oversight
        seen = Points(oversight, patient.model, loss=None)
        for values in self._way(editor, patient, self.points if oversight.watch else 1):
            seen.look(with_matrices(patient.model, values), loss=None)
        return Treated(seen.best, seen.trace, seen.best_round, editor)

    def _way(self, editor: ClosedFormEditor, patient: Patient, points: int) -> Iterator[Values]:
        """So many points on the way, the last after all edits."""
        if self.edits == "together":
            taught, _ = patient.lessons(self.wordings)
            after = editor.taught(editor.given, taught)
            for point in range(1, points + 1):
                share = point / points
                yield {
                    name: editor.given[name] + share * (after[name] - editor.given[name])
                    for name in editor.matrices
                }
            return
        asked = np.arange(len(patient.failures)) if patient.stated is None else patient.stated.failing
        facts = generator(patient.seed, "order of edits").permutation(np.unique(asked))
        ends = {round(len(facts) * point / points) for point in range(1, points + 1)}
        values: Values = editor.given
        for number, fact in enumerate(facts, 1):
            one = patient.with_failures(asked == fact, corrected=number == 1)
            taught, _ = one.lessons(self.wordings)
            values = editor.taught(values, taught)
            if number in ends:
                yield values
