"""What are the parameters with the failures inserted, with the causes deleted?"""

from __future__ import annotations

from modelrepair.configuration import build
from modelrepair.posterior.base import Edited, PosteriorUpdate, class_balanced_weights, walk
from modelrepair.posterior.ewc import ElasticWeightConsolidation
from modelrepair.posterior.natural_gradient import NaturalGradient

UPDATES: dict[str, type[PosteriorUpdate]] = {
    "ewc": ElasticWeightConsolidation,
    "natural-gradient": NaturalGradient,
}

__all__ = [
    "UPDATES",
    "Edited",
    "ElasticWeightConsolidation",
    "NaturalGradient",
    "PosteriorUpdate",
    "class_balanced_weights",
    "make_update",
    "walk",
]


def make_update(name: str, **options: object) -> PosteriorUpdate:
    """The posterior update of that name.

    Raises:
        RepairError: if there is none, or it has no such option.
    """
    return build("posterior update", UPDATES, name, options)
