"""What follows for whatever trains on or anew from how the base model was trained."""

from __future__ import annotations

from typing import Any, TypeVar

from modelrepair.settings import Member
from modelrepair.settings.posterior import InsertionSettings, SecondLookSettings
from modelrepair.settings.training import OptimisationSettings, TrainingSettings
from modelrepair.settings.treatment import RetrainSettings

Chosen = TypeVar("Chosen", bound=Member)
Insertion = TypeVar("Insertion", bound=InsertionSettings)

OF_SCHEDULE = frozenset({"warm_up", "drops"})
OF_OPTIMISER = frozenset({"learning_rate", "momentum", "nesterov", "schedule"}) | OF_SCHEDULE
"""What goes with a schedule or an optimiser, and not with another."""
HIGHEST = 3
"""How many times as long as a steady rate's the steps are taken to be where a rate that changes is highest."""


def as_trained(member: Chosen, training: TrainingSettings) -> Chosen:
    """The member's settings with those of the base training that it shares, where it has them and none is set.

    All that optimise share the weight decay; those that say how they train share all of it, and their rate goes through
    its course in as many passes as they have, for a second look with steps `pace` times as long. With an optimiser or a
    schedule of its own, a member shares nothing that goes with that of the base training.

    Raises:
        RepairError: if what is set does not go with what is shared.
    """
    own = {name: getattr(member, name) for name in member.model_fields_set}
    shared: dict[str, Any] = {"weight_decay": training.weight_decay}
    if isinstance(member, OptimisationSettings):
        if isinstance(member, RetrainSettings) and training.patience is None:
            own = {"epochs": training.epochs, **own}
        shared = training.over(own.get(member.passes, getattr(member, member.passes)))
        apart = OF_OPTIMISER if "optimiser" in own else OF_SCHEDULE if "schedule" in own else frozenset()
        shared = {name: value for name, value in shared.items() if name not in apart}
        if isinstance(member, SecondLookSettings) and "learning_rate" in shared:
            shared["learning_rate"] *= member.pace / (1 if training.schedule == "constant" else HIGHEST)
    return type(member)(**{name: shared[name] for name in shared if name in type(member).model_fields} | own)


def inserting(insertion: Insertion, training: TrainingSettings) -> Insertion:
    """What trains on the training data solves the base model's problem; failures alone are judged without a penalty."""
    if insertion.posterior.stiff:
        return insertion
    return insertion.model_copy(update={"posterior": as_trained(insertion.posterior, training)})
