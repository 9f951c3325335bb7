"""How is the model repaired?

Imports `knowledge`, `posterior`, `curvature`, `training`, `models`, `additions`, `data` and `settings`.
"""

from __future__ import annotations

from modelrepair.settings import choose
from modelrepair.treatment.alignment import Align, Insert
from modelrepair.treatment.base import Patient, Stated, Treated, Treatment
from modelrepair.treatment.closed_form import ClosedForm
from modelrepair.treatment.contrast import Distil, NegativeGradient
from modelrepair.treatment.dampening import Dampen
from modelrepair.treatment.deletion import Delete
from modelrepair.treatment.descent import FineTune, Retrain
from modelrepair.treatment.editing import LowRankEditor, SlotEditor, StateAdapterEditor
from modelrepair.treatment.knowledge_editing import KnowledgeEditor
from modelrepair.treatment.mending import Mend
from modelrepair.treatment.obvious import highest_losses
from modelrepair.treatment.relabelling import ComplementaryLabels, RandomLabels
from modelrepair.treatment.scrubbing import Scrub
from modelrepair.treatment.workspace import read_patient

TREATMENTS: dict[str, type[Treatment]] = {
    "align": Align,
    "closed-form": ClosedForm,
    "complementary-labels": ComplementaryLabels,
    "dampen": Dampen,
    "delete": Delete,
    "distil": Distil,
    "fine-tune": FineTune,
    "insert": Insert,
    "knowledge-editor": KnowledgeEditor,
    "low-rank": LowRankEditor,
    "memory-slots": SlotEditor,
    "mend": Mend,
    "negative-gradient": NegativeGradient,
    "random-labels": RandomLabels,
    "retrain": Retrain,
    "scrub": Scrub,
    "state-adapters": StateAdapterEditor,
}

__all__ = [
    "TREATMENTS",
    "Align",
    "ClosedForm",
    "ComplementaryLabels",
    "Dampen",
    "Delete",
    "Distil",
    "FineTune",
    "Insert",
    "KnowledgeEditor",
    "LowRankEditor",
    "Mend",
    "NegativeGradient",
    "Patient",
    "RandomLabels",
    "Retrain",
    "Scrub",
    "SlotEditor",
    "StateAdapterEditor",
    "Stated",
    "Treated",
    "Treatment",
    "highest_losses",
    "make_treatment",
    "read_patient",
]


def make_treatment(name: str, **options: object) -> Treatment:
    """The treatment of that name.

    Raises:
        RepairError: if there is none, or it has no such option.
    """
    return choose("treatment", TREATMENTS, name)(**options)
