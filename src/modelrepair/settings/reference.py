"""Settings of the reference: a model beside the repaired one, that says what the method is worth."""

from __future__ import annotations

from collections.abc import Mapping

from modelrepair.errors import RepairError
from modelrepair.settings import Flag, Seed, Share, alternatives, named, shown
from modelrepair.settings.curvature import FitFisher
from modelrepair.settings.selection import FractionSettings, Selection
from modelrepair.settings.treatment import FineTuneSettings, RetrainSettings, Treatment

OBVIOUS = "obvious"
NONE = "none"
OBVIOUS_TREATMENTS = {
    "failures": "finetune",
    "guard": "finetune",
    "reserved": "finetune-reserved",
    "discovery": "finetune-discovery",
    # The gold standard of an erasure is retraining, which costs more than what it would judge.
    "request": NONE,
}
"""What anybody would do who is given the same as the method, by what that is (`Description.uses`)."""
DROPPED = "fraction"
"""The selection that says how many of the highest losses anybody would drop."""
TAUGHT = {
    "discovery": "discovery",
    "failures": "the failures",
    "reserved": "the reserved examples",
    "restated": "causes with what is right",
}
"""What treatments may be taught, in words."""


class TrainReference(FitFisher):
    """What the stage train-reference is given. Its curvatures are those that the reference asks for."""

    seed: Seed
    treatment: Treatment | None
    """How the reference is made; null for none."""
    dropped: Share | None
    """Share of the training examples, those of the highest loss under the base model, that it takes for causes. null:
    the method's own causes, or the known ones."""
    known: Flag = False
    """Whether it takes the causes that are known beforehand, and no others."""

    @property
    def same_causes(self) -> bool:
        """Whether it treats what the method found or was asked for, and so depends on the method."""
        return self.treatment is not None and self.dropped is None and not self.known

    @property
    def is_gold_standard(self) -> bool:
        """Whether it is the model retrained without the causes."""
        return self.same_causes and isinstance(self.treatment, RetrainSettings)


def reference_treatment(reference: str, uses: str, treatments: Mapping[str, Treatment]) -> str:
    """The name of the treatment that the reference is made by, or "none".

    Args:
        reference: "obvious", "none", or one of the treatments.
        uses: what the method is given, as in `Description`.
        treatments: by name.

    Raises:
        RepairError: if there is no such treatment.
    """
    name = OBVIOUS_TREATMENTS[uses] if reference == OBVIOUS else reference
    if name == NONE or name in treatments:
        return name
    if reference == OBVIOUS:
        raise RepairError(
            f"reference is obvious, which for a method that is given {uses!r} is the treatment {name!r}, and "
            "treatments has no such entry: add it, or set reference to none or to another treatment"
        )
    raise RepairError(
        f"there is no reference {shown(name)}: choose obvious, none, or one of the treatments "
        f"{alternatives(name, treatments)}"
    )


def dropped_share(selections: Mapping[str, Selection]) -> float:
    """How many of the highest losses the obvious reference does without: the share that `selections.fraction` takes.

    Raises:
        RepairError: if there is no such entry, or it leaves nothing to train on.
    """
    selection = selections.get(DROPPED)
    if not isinstance(selection, FractionSettings) or selection.fraction == 1:
        raise RepairError(
            f"reference is obvious, which drops the share of the highest losses that selections.{DROPPED} names, "
            f"and there is no such entry of the rule fraction, below 1: add it, or set reference to {NONE} or to one "
            "of treatments"
        )
    return selection.fraction


def in_words(name: str, treatment: Treatment, dropped: float | None, known: bool = False) -> str:
    """What the reference is, for people.

    Args:
        name: of the treatment.
        treatment: its settings.
        dropped, known: as in `TrainReference`.
    """
    if dropped is None and not known:
        return f"{named(name)}, with the same causes"
    trains = isinstance(treatment, FineTuneSettings)
    words = ["fine-tuned" if trains else named(name)]
    if treatment.taught:
        words.append(f"on {' and '.join(TAUGHT[part] for part in treatment.taught)}")
    if not isinstance(treatment, FineTuneSettings) or "remaining" in treatment.trains_on:
        causes = "known causes" if dropped is None else f"{100 * dropped:g} % highest losses"
        words.append(f"without the {causes}")
    return " ".join(words)
