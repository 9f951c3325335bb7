"""Repair by deleting the causes' evidence from the posterior, with any posterior update."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from pydantic import ValidatorFunctionWrapHandler, field_validator

from modelrepair.curvature.base import Curvature
from modelrepair.posterior import PosteriorUpdate, make_update
from modelrepair.settings.treatment import DeleteSettings
from modelrepair.treatment.base import Patient, Treated, Treatment


class Delete(DeleteSettings, Treatment):
    """p(θ | D \\ C) from p(θ | D), without D (Tanno et al. 2022, Eqs. 15-17; Peste et al. 2021, Eq. 8).

    Causes that a person gives another class are deleted as they were and inserted as they should be.

    `posterior` may be settings of a posterior update, or any posterior update itself.
    """

    @field_validator("posterior", mode="wrap")
    @classmethod
    def _an_update(cls, value: Any, checked: ValidatorFunctionWrapHandler) -> PosteriorUpdate:
        if isinstance(value, PosteriorUpdate):
            return value
        settings = checked(value)
        return make_update(settings.chosen, **settings.options)

    def _treat(self, patient: Patient) -> Treated:
        kept = patient.remaining_sample() if self.remaining == "equal" else np.empty(0, np.int64)
        corrected = patient.corrected
        edited = cast(PosteriorUpdate, self.posterior).edit(
            patient.model,
            patient.examples.subset(np.concatenate([patient.causes, kept])).followed_by(corrected),
            np.concatenate([-np.ones(len(patient.causes)), np.ones(len(kept) + len(corrected))]),
            curvature=self._curvature(patient),
            count=len(patient.examples),
            kept=patient.examples.subset(patient.remaining),
            seed=patient.seed,
            oversight=patient.oversight,
        )
        return Treated(edited.model, edited.trace, edited.best_round)

    def _curvature(self, patient: Patient) -> Curvature:
        fitted = patient.curvature(self.curvature, self.damping)
        if not self.curvature_without_causes:
            return fitted
        without: Curvature = fitted.without(patient.causes)  # type: ignore[attr-defined]
        return without
