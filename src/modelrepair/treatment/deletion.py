"""Repair by deleting the causes' evidence from the posterior, with any posterior update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.posterior import PosteriorUpdate, make_update
from modelrepair.treatment.base import Patient, Treated, Treatment


@dataclass(frozen=True)
class Delete(Treatment):
    """p(θ | D \\ C) from p(θ | D), without D (Tanno et al. 2022, Eqs. 15-17; Peste et al. 2021, Eq. 8).

    Attributes:
        update: how the edited posterior's mode is found.
        curvature: name of the curvature.
        damping: λ of the curvature.
        remaining: "none", or "equal" to insert as many random remaining examples as there are causes, so
            that the update also sees what it should keep (Huang et al. 2023, A.3).
        curvature_without_causes: measure F̂ on D \\ C, from what was measured on D (Peste et al. 2021, section 3.2,
            Figure 1). Not every curvature can.
    """

    update: PosteriorUpdate
    curvature: str
    damping: float
    remaining: str = "none"
    curvature_without_causes: bool = False

    def __post_init__(self) -> None:
        if self.remaining not in ("none", "equal"):
            raise RepairError(f"remaining is {self.remaining!r} in a deletion: give none or equal")

    @classmethod
    def from_settings(cls, name: str, settings: Mapping[str, Any]) -> Treatment:
        """Settings that are not this treatment's own are the posterior update's."""
        missing = sorted({"update", "curvature", "damping"} - set(settings))
        if missing:
            raise RepairError(f"treatment {name!r} lacks {', '.join(missing)}: add it in params.yaml")
        names = ("curvature", "damping", "remaining", "curvature_without_causes")
        own = {name: settings[name] for name in names if name in settings}
        options = {key: value for key, value in settings.items() if key not in own and key != "update"}
        return cls(update=make_update(settings["update"], **options), **own)

    def treat(self, patient: Patient) -> Treated:
        kept = patient.remaining_sample() if self.remaining == "equal" else np.empty(0, np.int64)
        edited = self.update.edit(
            patient.model,
            patient.examples.subset(np.concatenate([patient.causes, kept])),
            np.concatenate([-np.ones(len(patient.causes)), np.ones(len(kept))]),
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
        without = getattr(fitted, "without", None)
        if without is None:
            raise RepairError(
                f"the curvature {self.curvature!r} cannot leave out the causes afterwards: choose gram, or set "
                "curvature_without_causes to false"
            )
        left: Curvature = without(patient.causes)
        return left
