"""How a network is trained, made from the settings that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelrepair.training.conditions import Conditions
from modelrepair.training.descent import Descent
from modelrepair.training.schedule import Schedule

if TYPE_CHECKING:
    from modelrepair.settings.training import OptimisationSettings


def descent_as(settings: OptimisationSettings, rounds: int, *, patience: int | None = None) -> Descent:
    """The descent that the settings describe.

    Args:
        settings: which optimiser, at which rate, and how the rate changes.
        rounds: at most this many passes, over which the rate changes.
        patience: as in `Descent`.
    """
    return Descent(
        optimiser=settings.optimiser,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        schedule=Schedule(settings.schedule, settings.warm_up, tuple(settings.drops)),
        rounds=rounds,
        patience=patience,
    )


def conditions_as(settings: OptimisationSettings) -> Conditions:
    """How examples are shown while it is trained, and in which numbers the network runs."""
    return Conditions(
        crop=settings.crop,
        flip=settings.flip,
        precision=settings.precision,
        channels_last=settings.channels_last,
    )
