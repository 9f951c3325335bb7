"""Synaptic intelligence: how much each parameter did for the loss, over how far it went."""

from __future__ import annotations

from typing import Any, Self

from modelrepair.curvature.base import dimension, require_finite
from modelrepair.curvature.diagonal import DiagonalCurvature
from modelrepair.curvature.memory import Estimate
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.curvature import SynapticIntelligenceSettings
from modelrepair.training.trajectory import Trajectory, require_trajectory


class SynapticIntelligence(DiagonalCurvature):
    """M = diag(2Ω) with Ωⱼ = max(ωⱼ, 0)/((θ̂ − θ₀)ⱼ² + ξ) along the base training (Zenke et al. 2017, Eqs. 4 and 5).

    ωⱼ is by how much parameter j lowered the mean loss of the batches (`Trajectory.gains`), in nats. The 2 is because
    their penalty is Ωδ² and ours ½Mδ²: where the mean loss is ½Σ hⱼδⱼ², descent in small steps from afar to its minimum
    has ωⱼ = ½hⱼ(θ̂ − θ₀)ⱼ², so M tends to the Hessian of the *mean* loss as ξ → 0, as every curvature here does. Being
    of the mean it does not depend on n; what it is used for multiplies it with that. Parameters that raised the loss
    have 0 rather than a negative stiffness.

    Its fit runs nothing: the base training has recorded all of it.
    """

    name = "synaptic-intelligence"

    @classmethod
    def fit(
        cls, model: TrainedModel, examples: Examples, *, trajectory: Trajectory | None = None, **options: Any
    ) -> Self:
        """Read M off the way of the training.

        Args:
            model: the trained one.
            examples: that it was trained on.
            trajectory: of that training.
            options: `xi`, ξ > 0, in squares of parameters.

        Raises:
            RepairError: if there is no trajectory, it is of another model or examples, or an option is none.
        """
        settings = SynapticIntelligenceSettings(**options)
        way = require_trajectory(trajectory, f"the curvature {cls.name}")
        if (way.count, len(way.gains)) != (len(examples), dimension(model)):
            raise RepairError(
                f"the training that was recorded was of {len(way.gains)} parameters on {way.count} examples, and a "
                f"model of {dimension(model)} and {len(examples)} examples were given: give those of that training"
            )
        entries = 2 * way.gains.clamp_min(0) / (way.displacement.square() + settings.xi)
        require_finite(cls.name, [entries])
        return cls(model, examples, entries.to(model.device))

    @classmethod
    def estimate(cls, model: TrainedModel, examples: Examples, **options: Any) -> Estimate:
        options.pop("trajectory", None)
        SynapticIntelligenceSettings(**options)
        # The entries, what they are made of, and what a solve makes of them.
        return Estimate(6 * dimension(model) * model.parameter_vector.element_size(), 4.0 * dimension(model))
