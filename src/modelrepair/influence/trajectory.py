"""SGD-influence: the score that follows the base training back from where it ended to where it began."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from modelrepair.base_training.adjoint import BACKWARD, Adjoint
from modelrepair.base_training.replay import Replay
from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import TrajectorySettings
from modelrepair.training.descent import Descent
from modelrepair.training.trajectory import require_trajectory

DESCRIPTION = "following the training back"


class SgdInfluence(TrajectorySettings, Influence):
    """By how much the mean failure loss would be lower, to first order, had z counted in no step, in nats.

    The steps stay as they were otherwise: the same batches, divided by the same numbers, the same draws, the same
    penalty. With u = ∇(−log p(F | θ_T))/|F| at the kept parameters θ_T, for t = T−1, …, 0 (Hara et al. 2019, Eq. 5 and
    Algorithm 2, with the sign turned)

        score(zᵢ) −= (η/|Sₜ|) ⟨u, ∇ℓᵢ(θₜ)⟩ for i in Sₜ,  u ← u − η ∇²L_Sₜ(θₜ) u

    for plain stochastic gradients. With momentum or Adam the recursion runs over all that the optimiser remembers
    (`base_training.adjoint`), exactly: −ηu is there ĝ, the adjoint of the step's gradient. Weight decay is part of it.

    One step takes a step of the training, a pass in forward mode and one backwards through that, all for a whole batch.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        trajectory = require_trajectory(investigation.trajectory, "the score trajectory")
        failures, base = investigation.failures, investigation.base
        if failures is None or not len(failures):
            raise RepairError(
                "the score trajectory asks what raised the loss of the failures, and there are none: give some, or "
                "choose another score"
            )
        descent = trajectory.descent
        if self.legacy and not is_plain(descent):
            raise RepairError(
                "the score trajectory with legacy is of plain stochastic gradients, and the base model was trained "
                f"with {descent.optimiser}: leave legacy out, or train with optimiser sgd and momentum 0"
            )
        replay = Replay(trajectory, base, investigation.examples, self.memory)
        slope = -base.weighted_gradient(failures) / len(failures)
        adjoint = Adjoint(slope, torch.zeros_like(slope), torch.zeros_like(slope))
        scores = torch.zeros(trajectory.count, dtype=torch.float64, device=base.device)
        left, total = len(replay.segments), len(replay.steps)
        checkpoint = investigation.checkpoint
        if saved := checkpoint.load() if checkpoint else None:
            tensors, state = saved
            left, scores = state["left"], tensors.pop("scores").to(base.device)
            adjoint = Adjoint(**{name: tensor.to(base.device) for name, tensor in tensors.items()})
            print(f"{DESCRIPTION}: resuming with {left} parts of the training left", flush=True)
        done = total - (replay.segments[left - 1].stop if left else 0)
        with tqdm(total=total, initial=done, desc=DESCRIPTION, unit="step", mininterval=1) as bar:
            while left:
                left -= 1
                adjoint = self._before(replay, left, adjoint, scores, bar.update)
                if checkpoint:
                    checkpoint.save({"scores": scores, **vars(adjoint)}, {"left": left})
        return scores.cpu().numpy()

    def _before(
        self, replay: Replay, segment: int, adjoint: Adjoint, scores: Tensor, tell: Callable[[], object]
    ) -> Adjoint:
        """The adjoint before a segment, from the one behind it; what its steps owe to each example goes to `scores`."""
        descent, options = replay.trajectory.descent, replay.optimiser.defaults
        backward = BACKWARD[descent.optimiser]
        for step, moment in replay.backwards(segment):
            rate = replay.rate(moment.number)
            adjoint, change = backward(adjoint, moment, {**options, "lr": rate})
            slopes, curved = replay.products(step, moment, change)
            size = len(step.positions)
            scores[torch.as_tensor(step.positions, device=scores.device)] += slopes.double() / size
            if self.legacy:
                curved = curved / size
            adjoint = replace(adjoint, parameters=adjoint.parameters + curved + descent.weight_decay * change)
            tell()
        return adjoint


def is_plain(descent: Descent) -> bool:
    """Whether steps are −ηg: those of Hara et al. 2019."""
    return descent.optimiser == "sgd" and descent.momentum == 0
