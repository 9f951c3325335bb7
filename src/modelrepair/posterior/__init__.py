"""What are the parameters with the failures inserted, with the causes deleted?

Imports `curvature`, `training`, `models` and `settings`.
"""

from __future__ import annotations

from modelrepair.posterior.base import Edited, PosteriorUpdate, class_balanced_weights, walk
from modelrepair.posterior.ewc import ElasticWeightConsolidation
from modelrepair.posterior.natural_gradient import NaturalGradient
from modelrepair.posterior.second_look import SecondLook
from modelrepair.settings.base import choose

UPDATES: dict[str, type[PosteriorUpdate]] = {
    "ewc": ElasticWeightConsolidation,
    "natural-gradient": NaturalGradient,
    "second-look": SecondLook,
}

__all__ = [
    "UPDATES",
    "Edited",
    "ElasticWeightConsolidation",
    "NaturalGradient",
    "PosteriorUpdate",
    "SecondLook",
    "class_balanced_weights",
    "make_update",
    "walk",
]


def make_update(name: str, **options: object) -> PosteriorUpdate:
    """The posterior update of that name.

    Raises:
        RepairError: if there is none, or it has no such option.
    """
    return choose("posterior update", UPDATES, name)(**options)
