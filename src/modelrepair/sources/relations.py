"""What facts are: a subject, a relation with its wordings, and one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from modelrepair.errors import RepairError

LONGEST_NAME = 3
"""Words of a subject, at most: few have more, and every sentence is as long as the longest."""


@dataclass(frozen=True)
class Relation:
    """What one thing is to another, in several wordings with a place for the subject and one for the object.

    Attributes:
        name: of the relation.
        wordings: of training.
        validation: the one of the validation split; None where there are too few wordings for one.
        probes: that of discovery and reserved, and that of assessment.
    """

    name: str
    wordings: tuple[str, ...]
    validation: str | None
    probes: tuple[str, str]

    @property
    def every_wording(self) -> tuple[str, ...]:
        """Of training, validation and tests."""
        return (*self.wordings, *([] if self.validation is None else [self.validation]), *self.probes)


@dataclass(frozen=True)
class Fact:
    """That a subject has one object in a relation."""

    relation: Relation
    subject: str
    object: str


def fits(subject: str) -> bool:
    """Whether a subject is no longer than sentences are made for."""
    return len(subject.split()) <= LONGEST_NAME


def require_one_object(known: Iterable[Fact]) -> None:
    """Nothing if no subject has two objects in a relation.

    Raises:
        RepairError: if one has.
    """
    asked = Counter((fact.relation.name, fact.subject) for fact in known)
    for (relation, subject), times in asked.items():
        if times > 1:
            raise RepairError(
                f"{subject} has {times} objects in the relation {relation}, of which only one could be right: leave "
                "all but one of these facts out"
            )
