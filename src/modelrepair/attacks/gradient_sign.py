"""Attacks along the signs of the gradient with respect to the inputs: FGSM and PGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel


def gradient_sign(
    model: TrainedModel,
    examples: Examples,
    *,
    epsilon: float,
    steps: int = 1,
    step_size: float | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> tuple[NDArray[Any], Tensor, Tensor]:
    """Inputs that the model finds less likely to be what they are, no value of them changed by more than ε.

    x₀ = x and x_{t+1} = Π(x_t + α·sign(-∇ₓ log p(y | x_t, θ̂))), where Π clips to the box |x' - x| ≤ ε and to the range
    of values. One step with α = ε is the fast gradient sign method (Goodfellow et al. 2015, section 4); several are
    projected gradient descent (Madry et al. 2018, Eq. 4), here from x itself, so that nothing is drawn.

    A byte image is rounded towards the original, so that it is no farther away than ε as bytes either. The predictions
    are of what is returned.

    Args:
        model: the victim.
        examples: m of them with their right classes; bytes or floats.
        epsilon: ε, the most by which a value is changed, in the unit of what the network sees: of bytes, 1 is 255.
        steps: how many.
        step_size: α in the same unit; by default ε.
        low, high: the range of values, in that unit.

    Returns:
        (m, ...) the changed inputs, of the type of the given ones; (m,) the predictions for the given inputs and (m,)
        those for the changed ones.

    Raises:
        RepairError: if the inputs are ids, or a gradient is NaN or infinite.
    """
    length = epsilon if step_size is None else step_size
    originals = examples.inputs
    changed, before, after = [], [], []
    for positions, given, targets in model.batches(examples):
        if not given.is_floating_point():
            raise RepairError(
                "the inputs are ids, which have no neighbours to move to: attack images or features instead"
            )
        floor, ceiling = (given - epsilon).clamp(min=low), (given + epsilon).clamp(max=high)
        place = given
        for _ in range(steps):
            place = place.detach().clone().requires_grad_()
            # The network may overwrite what it is given.
            loss = -model.log_likelihood(model.run(place.clone()), targets).sum()
            slope = torch.autograd.grad(loss, place)[0]
            if not bool(torch.isfinite(slope).all()):
                raise RepairError(
                    "the gradient of the victim's loss with respect to its inputs is NaN or infinite: check the "
                    "inputs for NaN, or train the victim with a smaller learning rate"
                )
            place = torch.minimum(torch.maximum(place.detach() + length * slope.sign(), floor), ceiling)
        stored = _as_given(originals[positions], given, place)
        moved = Examples(stored, examples.targets[positions])
        changed.append(stored)
        with torch.no_grad():
            seen = moved.batch(slice(None), device=model.device, dtype=model.dtype)[0]
            before.append(model.likelihood.predictions(model.network(given.clone())))
            after.append(model.likelihood.predictions(model.network(seen)))
    return np.concatenate(changed), torch.cat(before), torch.cat(after)


def _as_given(originals: NDArray[Any], given: Tensor, moved: Tensor) -> NDArray[Any]:
    """The moved inputs in the type of the originals."""
    if originals.dtype != np.uint8:
        return moved.cpu().numpy().astype(originals.dtype)
    # Half a thousandth of a byte, so that a whole number stays one whatever the last binary digit.
    steps = (moved - given).double().mul(255)
    whole = (steps.abs() + 5e-4).floor() * steps.sign()
    return np.asarray(originals + whole.cpu().numpy(), dtype=np.uint8)
