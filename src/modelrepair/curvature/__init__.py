"""How stiff is the posterior in each direction?

Imports `gradients`, `training`, `models`, `pipeline` and `settings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelrepair.curvature.base import Curvature
from modelrepair.curvature.block import BlockFisher
from modelrepair.curvature.diagonal import DiagonalFisher
from modelrepair.curvature.gram import GramFisher
from modelrepair.curvature.hessian import Hessian
from modelrepair.curvature.identity import Identity
from modelrepair.curvature.iterative import ConjugateGradient, Lissa
from modelrepair.curvature.kronecker import EigenvalueCorrectedFisher, KroneckerFisher
from modelrepair.curvature.memory import Estimate
from modelrepair.curvature.sensitivity import damping_sensitivity
from modelrepair.curvature.synaptic_intelligence import SynapticIntelligence
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings import choose

CURVATURES: dict[str, type[Curvature]] = {
    "block": BlockFisher,
    "cg": ConjugateGradient,
    "diagonal": DiagonalFisher,
    "ekfac": EigenvalueCorrectedFisher,
    "gram": GramFisher,
    "hessian": Hessian,
    "identity": Identity,
    "kfac": KroneckerFisher,
    "lissa": Lissa,
}
PATH_CURVATURES: dict[str, type[Curvature]] = {"synaptic-intelligence": SynapticIntelligence}
"""Those read off the way of the base training, which `fit` is given as `trajectory`."""

__all__ = [
    "CURVATURES",
    "PATH_CURVATURES",
    "BlockFisher",
    "ConjugateGradient",
    "Curvature",
    "DiagonalFisher",
    "EigenvalueCorrectedFisher",
    "GramFisher",
    "Hessian",
    "Identity",
    "KroneckerFisher",
    "Lissa",
    "SynapticIntelligence",
    "damping_sensitivity",
    "estimate_fit",
    "fit_curvature",
    "load_curvature",
]


def fit_curvature(name: str, model: TrainedModel, examples: Examples, **options: Any) -> Curvature:
    """Fit the curvature of that name at the model's θ̂ to these examples; its damping is 0.

    Raises:
        RepairError: if there is none of that name, or it has no such option or cannot be fitted.
    """
    return _member(name).fit(model, examples, **options)


def estimate_fit(name: str, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
    """What `fit_curvature` of the same would take.

    Raises:
        RepairError: if there is none of that name, or it has no such option.
    """
    return _member(name).estimate(model, examples, **options)


def load_curvature(
    name: str, folder: Path, model: TrainedModel, examples: Examples, damping: float, **options: Any
) -> Curvature:
    """Read a fitted curvature from a folder, with this damping.

    Args:
        name: one of `CURVATURES` or `PATH_CURVATURES`.
        folder: where its `save` wrote it.
        model: the one that it was fitted to.
        examples: those that it was fitted to.
        damping: λ.
        options: how to work, such as `memory`; not what was measured.

    Raises:
        RepairError: if there is none of that name, or the folder holds none of this model and these examples.
    """
    return _member(name).load(folder, model, examples, **options).damped(damping)


def _member(name: str) -> type[Curvature]:
    return choose("curvature", CURVATURES | PATH_CURVATURES, name)
