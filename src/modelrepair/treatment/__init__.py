"""How is the model repaired?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelrepair.configuration import choose
from modelrepair.treatment.base import Patient, Treated, Treatment
from modelrepair.treatment.deletion import Delete
from modelrepair.treatment.descent import FineTune, Retrain
from modelrepair.treatment.scrubbing import Scrub

TREATMENTS: dict[str, type[Treatment]] = {
    "delete": Delete,
    "fine-tune": FineTune,
    "retrain": Retrain,
    "scrub": Scrub,
}

__all__ = [
    "TREATMENTS",
    "Delete",
    "FineTune",
    "Patient",
    "Retrain",
    "Scrub",
    "Treated",
    "Treatment",
    "make_treatment",
]


def make_treatment(name: str, settings: Mapping[str, Any]) -> Treatment:
    """The treatment of that name with its settings.

    Raises:
        RepairError: if there is none, or it has no such setting.
    """
    return choose("treatment", TREATMENTS, name).from_settings(name, settings)
