"""How far a ranking of the training examples depends on the damping, on which it depends more than on anything else."""

from __future__ import annotations

import warnings

import pandas as pd
from torch import Tensor

from modelrepair.curvature.base import Curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel

FACTOR = 10.0
"""Between neighbouring dampings."""


def damping_sensitivity(
    model: TrainedModel, examples: Examples, gradient: Tensor, curvature: Curvature, factor: float = FACTOR
) -> dict[float, float | None]:
    """Spearman's rank correlation between the first-order scores with this damping and with its neighbours.

    The scores are −Gx with x = F̂⁻¹v, those of linear influence (Koh & Liang 2017, Eq. 2). They tell of every score that
    sees the curvature how steady it is, to first order.

    Args:
        model: at θ̂.
        examples: n of them, whose gradients are the rows of G.
        gradient: v (d,), of the log-likelihood of what is inserted.
        curvature: F̂ with its damping λ.
        factor: between λ and its neighbours.

    Returns:
        The correlation by damping, λ/factor and factor·λ. None where there are no such scores: F̂ is too near singular
        for an exact solution, a layer has no derivative in forward mode, or all scores are equal. Nothing for a
        damping of 0, which has no neighbours.
    """
    if curvature.damping == 0:
        return {}

    def ranks(damping: float) -> pd.Series[float] | None:
        try:
            with warnings.catch_warnings():
                # A solution that is not exact says so.
                warnings.simplefilter("error", RuntimeWarning)
                step = curvature.damped(damping).solve(gradient)
                scores = -model.directional_derivatives(examples, step).double().cpu()
        except (RepairError, RuntimeWarning):
            return None
        return pd.Series(scores.numpy()).rank() if scores.max() > scores.min() else None

    here = ranks(curvature.damping)
    found: dict[float, float | None] = {}
    for damping in (curvature.damping / factor, curvature.damping * factor):
        there = None if here is None else ranks(damping)
        # The correlation of ranks, ties at their mean, is Spearman's.
        found[damping] = None if here is None or there is None else float(here.corr(there))
    return found


def in_words(damping: float, correlations: dict[float, float | None]) -> str:
    """One line on what `damping_sensitivity` found."""
    if not correlations:
        return "damping 0: how far the ranking depends on the damping cannot be told from a factor of it"
    parts = [
        f"{'unknown' if value is None else f'{value:.2f}'} with {other:.2g}"
        for other, value in correlations.items()
    ]
    return (
        f"damping {damping:.2g}: the ranking by first-order scores agrees {', '.join(parts)} "
        "(Spearman; far below 1, choose the damping with care)"
    )
