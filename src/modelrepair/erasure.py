"""Choosing how far an erasure goes, on one retrained model, for all requests that follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.evaluation.erasure import normalised_confusion_distance, similarity_ratio
from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel

EPSILONS = tuple(float(value) for value in np.geomspace(0.01, 100, 41))


@dataclass(frozen=True)
class Choice:
    """A chosen ε and why.

    Attributes:
        epsilon: the choice.
        measure: "normalised_confusion_distance" (lower is better) or "similarity_ratio" (higher is better).
        value: of the measure at the choice.
        curve: (ε, value) of every ε that was tried, ascending; NaN where the model was not finite.
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
    updated: Callable[[float], TrainedModel],
    original: TrainedModel,
    retrained: TrainedModel,
    erased: Examples,
    *,
    epsilons: Sequence[float] = EPSILONS,
    tolerance: float = 0.01,
) -> Choice:
    """The ε at which an erasure treats what it erases most as retraining does (Peste et al. 2021, section 4).

    ε corrects the scale of a curvature that stands in for the Hessian, so it belongs to the model and hardly to the
    request: chosen on one set S of the user's choosing, for which a model is retrained as a proxy, it is reused for
    other requests. Where examples have one class each, it minimises the normalised confusion distance δ_S (Eq. 12);
    where they have attributes, it maximises the similarity ratio γ_S (Eq. 10). Both look at S alone.

    When all of a class goes, δ_S falls to a plateau, along which larger ε only do more harm to the rest: the
    smallest ε within `tolerance` of the best is chosen ("close to the start of the plateau", section 5.2.1).

        step = NaturalGradient().step(original, erased, -np.ones(len(erased)), curvature=curvature, count=n)
        choice = choose_epsilon(along(original, step), original, retrained, erased)
        NaturalGradient(epsilon=choice.epsilon).delete(original, next_request, curvature=curvature, count=n)

    Args:
        updated: ε to the model from which S was erased at that ε; `along` for any single step.
        original: θ*, trained on D.
        retrained: θ*₋S, trained on D \\ S.
        erased: S.
        epsilons: the grid, positive.
        tolerance: see above, in units of the measure.

    Raises:
        RepairError: if S or the grid is empty, an ε is not positive, or no model on the grid is finite.
    """
    if not len(erased) or not len(epsilons):
        raise RepairError("choosing epsilon needs erased examples and a grid: give at least one of each")
    if not all(0 < epsilon < float("inf") for epsilon in epsilons):
        raise RepairError(
            f"the grid of epsilons is {list(epsilons)}: give positive numbers, such as 0.1, 0.3, 1"
        )
    attributes = erased.targets.ndim == 2
    measure = _similarity if attributes else _confusion
    curve = []
    for epsilon in sorted(map(float, epsilons)):
        try:
            model = updated(epsilon)
        except RepairError:  # parameters that are no longer finite
            curve.append((epsilon, float("nan")))
        else:
            curve.append((epsilon, measure((model, original, retrained), erased)))
    values = np.array([value for _, value in curve])
    if np.isnan(values).all():
        raise RepairError(
            f"no epsilon from {curve[0][0]:g} to {curve[-1][0]:g} gives finite parameters: try smaller ones"
        )
    goodness = values if attributes else -values
    chosen = int(np.flatnonzero(goodness >= np.nanmax(goodness) - tolerance)[0])
    name = "similarity_ratio" if attributes else "normalised_confusion_distance"
    return Choice(curve[chosen][0], name, float(values[chosen]), curve)


def _confusion(models: Sequence[TrainedModel], erased: Examples) -> float:
    outputs = [model.outputs(erased) for model in models]
    after, before, reference = (values.argmax(dim=1).cpu().numpy() for values in outputs)
    return normalised_confusion_distance(after, before, reference, erased.targets, outputs[0].shape[1])


def _similarity(models: Sequence[TrainedModel], erased: Examples) -> float:
    after, before, reference = (model.outputs(erased).cpu().numpy() for model in models)
    return similarity_ratio(after, before, reference, erased.targets)
