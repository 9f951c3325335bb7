"""What are the parameters with the failures inserted, with the causes deleted?

Imports `curvature`, `gradients`, `training`, `uncertainty`, `models` and `settings`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelrepair.curvature.base import Curvature
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior.alone import own_effects
from modelrepair.posterior.base import Edited, PosteriorUpdate, class_balanced_weights, walk
from modelrepair.posterior.ewc import ElasticWeightConsolidation
from modelrepair.posterior.layer_selective import LayerSelective
from modelrepair.posterior.natural_gradient import NaturalGradient
from modelrepair.posterior.online_ewc import OnlineElasticWeightConsolidation
from modelrepair.posterior.orthogonal_gradients import OrthogonalGradients
from modelrepair.posterior.second_look import SecondLook
from modelrepair.posterior.variational import Variational
from modelrepair.settings import choose
from modelrepair.settings.posterior import InsertionSettings
from modelrepair.training.descent import UNATTENDED, Oversight

UPDATES: dict[str, type[PosteriorUpdate]] = {
    "ewc": ElasticWeightConsolidation,
    "layer-selective": LayerSelective,
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
    "LayerSelective",
    "NaturalGradient",
    "OnlineElasticWeightConsolidation",
    "OrthogonalGradients",
    "PosteriorUpdate",
    "SecondLook",
    "Variational",
    "class_balanced_weights",
    "evidence_of",
    "insert_evidence",
    "make_update",
    "own_effects",
    "walk",
]


def make_update(name: str, **options: object) -> PosteriorUpdate:
    """The posterior update of that name.

    Raises:
        RepairError: if there is none, or it has no such option.
    """
    return choose("posterior update", UPDATES, name)(**options)


def evidence_of(
    settings: InsertionSettings, failures: Examples, reserved: Callable[[], Examples] | None
) -> Examples:
    """What the settings name as evidence; none where they name nothing, or where there is none.

    Args:
        settings: of the insertion.
        failures: with right labels.
        reserved: fetches clean examples outside discovery.
    """
    if settings.evidence == "failures":
        return failures
    return reserved() if settings.evidence == "reserved" and reserved else failures.subset([])


def insert_evidence(
    settings: InsertionSettings,
    model: TrainedModel,
    evidence: Examples,
    training: Examples,
    *,
    curvature: Callable[[str, float], Curvature],
    seed: int,
    kept: Examples | None = None,
    discovery: Examples | None = None,
    oversight: Oversight = UNATTENDED,
) -> Edited:
    """p(θ | D, E), as the settings say: which update, which curvature, and how the evidence is weighted.

    Args:
        settings: of the insertion.
        model: at θ̂.
        evidence: E, with right labels.
        training: D.
        curvature: fetches a fitted curvature by name and damping.
        seed: of what is random in it.
        kept: those of D that an update may look at; all by default.
        discovery: labelled examples outside training, right and wrong ones, for an update that judges those of D.
        oversight: who judges the points, where progress is kept.

    Raises:
        RepairError: if there is no evidence, or a number becomes NaN or infinite.
    """
    how: dict[str, Any] = {"curvature": curvature(*settings.insertion)} if settings.insertion else {}
    if settings.posterior.judges:
        how["sound"] = discovery
    return make_update(settings.posterior.chosen, **settings.posterior.options).insert(
        model,
        evidence,
        class_balanced_weights(evidence) if settings.balance_classes else None,
        count=len(training),
        kept=training if kept is None else kept,
        seed=seed,
        oversight=oversight,
        **how,
    )
