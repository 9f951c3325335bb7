"""Choosing how far an erasure goes, on retrained models, for all requests that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.erasure import normalised_confusion_distance, similarity_ratio
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel

EPSILONS = tuple(float(value) for value in np.geomspace(0.01, 100, 41))


@dataclass(frozen=True)
class Proxy:
    """A set S of the user's choosing and what retraining without it leads to.

    Attributes:
        updated: ε to the model from which S was erased at that ε; `along` for any single step.
        retrained: θ*₋S, trained on D \\ S.
        erased: S.
        kept: examples that must not suffer, such as some of D \\ S; without them only S is looked at.
    """

    updated: Callable[[float], TrainedModel]
    retrained: TrainedModel
    erased: Examples
    kept: Examples | None = None


@dataclass(frozen=True)
class Choice:
    """A chosen ε and why.

    Attributes:
        epsilon: the choice.
        measure: "normalised_confusion_distance" (lower is better) or "similarity_ratio" (higher is better).
        value: of the measure at the choice.
        curve: (ε, value) of every ε that was tried, ascending; NaN where it was passed over for a proxy.
    """

    epsilon: float
    measure: str
    value: float
    curve: list[tuple[float, float]]


def along(model: TrainedModel, step: Tensor) -> Callable[[float], TrainedModel]:
    """ε to the model at θ̂ + ε·step, for a step (d,) that was computed once."""
    start = model.parameter_vector
    return lambda epsilon: model.with_parameter_vector(start + epsilon * step)


def choose_epsilon(
    original: TrainedModel,
    proxies: Sequence[Proxy],
    *,
    epsilons: Sequence[float] = EPSILONS,
    tolerance: float = 0.01,
    allowed_loss: float = 0.02,
) -> Choice:
    """The ε at which an erasure treats what it erases most as retraining does (Peste et al. 2021, section 4).

    ε corrects the scale of a curvature that stands in for the Hessian, so it belongs to the model more than to the
    request: chosen on one set S, for which a model is retrained as a proxy, it is reused for other requests; the mean
    over several sets is steadier. Where examples have one class each, it minimises the normalised confusion distance
    δ_S (Eq. 12); where they have attributes, it maximises the similarity ratio γ_S (Eq. 10).

    Both look at S alone, and when all of a class goes, δ_S falls to a plateau along which larger ε only harm the rest.
    So the smallest ε within `tolerance` of the best is chosen ("close to the start of the plateau", section 5.2.1),
    and, beyond the paper, an ε is passed over at which accuracy on `kept` falls below the retrained model's.

        step = NaturalGradient().step(original, erased, -np.ones(len(erased)), curvature=curvature, count=n)
        choice = choose_epsilon(original, [Proxy(along(original, step), retrained, erased, kept)])
        NaturalGradient(epsilon=choice.epsilon).delete(original, next_request, curvature=curvature, count=n)

    Args:
        original: θ*, trained on D.
        proxies: one or more.
        epsilons: the grid, positive.
        tolerance: see above, in units of the measure.
        allowed_loss: how far accuracy on `kept` may fall below the retrained model's, as a fraction.

    Raises:
        RepairError: if there is no proxy, an S or the grid is empty, an ε is not positive, or all are passed over.
    """
    if not proxies or not len(epsilons) or any(not len(proxy.erased) for proxy in proxies):
        raise RepairError(
            "choosing epsilon needs a grid and a proxy with erased examples: give one of each at least"
        )
    if not all(0 < epsilon < float("inf") for epsilon in epsilons):
        raise RepairError(
            f"the grid of epsilons is {list(epsilons)}: give positive numbers, such as 0.1, 0.3, 1"
        )
    grid = sorted(map(float, epsilons))
    values = np.mean([_curve(proxy, original, grid, allowed_loss) for proxy in proxies], axis=0)
    if np.isnan(values).all():
        raise RepairError(
            f"every epsilon from {grid[0]:g} to {grid[-1]:g} breaks what is to be kept: try smaller ones"
        )
    attributes = proxies[0].erased.targets.ndim == 2
    goodness = values if attributes else -values
    chosen = int(np.flatnonzero(goodness >= np.nanmax(goodness) - tolerance)[0])
    name = "similarity_ratio" if attributes else "normalised_confusion_distance"
    curve = [(epsilon, float(value)) for epsilon, value in zip(grid, values, strict=True)]
    return Choice(grid[chosen], name, float(values[chosen]), curve)


def _curve(proxy: Proxy, original: TrainedModel, grid: Sequence[float], allowed_loss: float) -> list[float]:
    """γ_S or δ_S of a proxy at each ε; NaN where the model is broken."""
    targets, kept = proxy.erased.targets, proxy.kept
    before, reference = (model.outputs(proxy.erased).cpu().numpy() for model in (original, proxy.retrained))
    needed = -float("inf") if kept is None else proxy.retrained.accuracy(kept) - allowed_loss
    values = []
    for epsilon in grid:
        try:
            model = proxy.updated(epsilon)
        except RepairError:  # its parameters are not finite
            values.append(float("nan"))
            continue
        after = model.outputs(proxy.erased).cpu().numpy()
        if kept is not None and model.accuracy(kept) < needed:
            values.append(float("nan"))
        elif targets.ndim == 2:
            values.append(similarity_ratio(after, before, reference, targets))
        else:
            predicted, old, new = (outputs.argmax(axis=1) for outputs in (after, before, reference))
            values.append(normalised_confusion_distance(predicted, old, new, targets, after.shape[1]))
    return values
