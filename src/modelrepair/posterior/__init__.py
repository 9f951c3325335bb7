"""What are the parameters with the failures inserted, with the causes deleted?

Imports `curvature`, `gradients`, `training`, `uncertainty`, `models` and `settings`.
"""

from __future__ import annotations

from modelrepair.posterior.base import Edited, PosteriorUpdate, class_balanced_weights, walk
from modelrepair.posterior.ewc import ElasticWeightConsolidation
from modelrepair.posterior.natural_gradient import NaturalGradient
from modelrepair.posterior.online_ewc import OnlineElasticWeightConsolidation
from modelrepair.posterior.orthogonal_gradients import OrthogonalGradients
from modelrepair.posterior.second_look import SecondLook
from modelrepair.posterior.variational import Variational
from modelrepair.settings.base import choose

UPDATES: dict[str, type[PosteriorUpdate]] = {
    "ewc": ElasticWeightConsolidation,
    "natural-gradient": NaturalGradient,
    "online-ewc": OnlineElasticWeightConsolidation,
    "orthogonal-gradients": OrthogonalGradients,
    "second-look": SecondLook,
    "variational": Variational,
}

__all__ = [
    "UPDATES",
    "Edited",
    "ElasticWeightConsolidation",
    "NaturalGradient",
    "OnlineElasticWeightConsolidation",
    "OrthogonalGradients",
    "PosteriorUpdate",
    "SecondLook",
    "Variational",
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
