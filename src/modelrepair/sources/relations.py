"""What facts are: a subject, a relation with its wordings, and one object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
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
        contradictions: wordings that say the opposite, for models that know such.
    """

    name: str
    wordings: tuple[str, ...]
    validation: str | None
    probes: tuple[str, str]
    contradictions: tuple[str, ...] = ()

    @property
    def every_wording(self) -> tuple[str, ...]:
        """Of training, validation and tests."""
        return (*self.wordings, *([] if self.validation is None else [self.validation]), *self.probes)

    def asked_in(self, takes: Callable[[str], bool]) -> Relation | None:
        """The relation in those of its wordings that a model takes; None if fewer than three are left.

        Those that ask are filled up by the wording of the validation split, and then by those of training, from the
        last on.

        Args:
            takes: whether a model can be asked in a wording.
        """
        if all(map(takes, (*self.every_wording, *self.contradictions))):
            return self
        training = [text for text in self.wordings if takes(text)]
        asking = [text for text in self.probes if takes(text)]
        validation = self.validation if self.validation is not None and takes(self.validation) else None
        if len(asking) < 2 and validation is not None:
            asking, validation = [*asking, validation], None
        while len(asking) < 2 and training:
            asking.append(training.pop())
        if len(asking) < 2 or not training:
            return None
        contradictions = tuple(text for text in self.contradictions if takes(text))
        return Relation(self.name, tuple(training), validation, (asking[0], asking[1]), contradictions)


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
