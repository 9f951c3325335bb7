"""Each training example inserted into the posterior once more, by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.curvature.base import Curvature
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel


def own_effects(model: TrainedModel, examples: Examples, curvature: Curvature) -> NDArray[np.float64]:
    """(n,) gᵢᵀF̂⁻¹gᵢ/(n + 1), in nats: by how much its own insertion raises log p(zᵢ), to first order.

    The natural-gradient step of Tanno et al. 2022 (Eq. 10) with zᵢ as all of the evidence, multiplied by its gradient;
    but for its sign the self-influence of Koh & Liang 2017 (section 5.4).

    Args:
        model: at θ̂.
        examples: the n training examples.
        curvature: F̂ of both, with its damping.

    Raises:
        RepairError: if F̂ is singular to working precision.
    """
    influences = curvature.self_influences(model, examples)
    return np.asarray((influences / (len(examples) + 1)).cpu().numpy(), dtype=np.float64)
