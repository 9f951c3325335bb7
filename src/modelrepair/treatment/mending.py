"""Repair by training on what is right and what is still believed."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from modelrepair.posterior import SecondLook
from modelrepair.settings.treatment import MendSettings
from modelrepair.treatment.base import Patient, Treated, Treatment


class Mend(MendSettings, Treatment):
    """Second looks from θ̂ at D \\ C, with the labelled examples that it is told to train on inserted.

    A deletion removes what the causes taught and has nothing to put in their place. This learns what is right in their
    place, from the examples that were answered wrongly or any others outside training, and goes on searching: what was
    taken for sound and proves wrong is left out from then on (`SecondLook`). Where it is guarded, the last point comes
    out that is no more than one standard error of the accuracy below the best: later points have seen more, and on few
    examples the best is the luckiest.
    """

    def _treat(self, patient: Patient) -> Treated:
        seen, taught = patient.taught_with(self.trains_on)
        remaining = patient.remaining if "remaining" in self.trains_on else np.empty(0, dtype=np.int64)
        accuracy = seen.model.accuracy(seen.discovery)
        slack = math.sqrt(max(accuracy * (1 - accuracy), 0.0) / len(seen.discovery))
        edited = SecondLook(**self.posterior.options).insert(
            patient.model,
            taught.followed_by(patient.corrected),
            kept=patient.examples.subset(remaining),
            seed=patient.seed,
            oversight=dataclasses.replace(seen.oversight, slack=slack),
            # Of nobody who gives no accuracy to judge by.
            sound=seen.discovery if seen.guarded else None,
            sifted=True,
        )
        return Treated(edited.model, edited.trace, edited.best_round)
