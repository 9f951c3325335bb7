"""Which training example drives which failure, to first order and as far as the last layer sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.valuation.features import last_layer_gradients

MOST_SUSPECTS, MOST_FAILURES = 10_000, 500


@dataclass(frozen=True, eq=False)
class Links:
    """The suspects, the failures that they are looked at for, and what ties them.

    Attributes:
        suspects: (s,) positions among the training examples, most harmful first; where nothing was scored, the causes.
        failures: (f,) positions among the test examples of the failures that the method was shown, the highest loss
            under the base model first.
        pull: (s, f) see `pull`; None where the model has no last layer to look at.
        reason: why not, in words.
    """

    suspects: NDArray[np.int64]
    failures: NDArray[np.int64]
    pull: NDArray[np.float32] | None
    reason: str | None = None


def connect(base: TrainedModel, training: Examples, tests: Examples, evidence: Evidence) -> Links:
    """The links between the 10,000 most harmful training examples and the 500 worst failures.

    Failures that were held out from the method are left out: who decides by them what to remove could no longer
    measure a repair on them.

    Args:
        base: the model that fails.
        training, tests: as `gather` was given them.
        evidence: of the run.
    """
    if evidence.scores is None:
        suspects = np.asarray(evidence.causes, dtype=np.int64)[:MOST_SUSPECTS]
    else:
        suspects = np.argsort(-evidence.scores, kind="stable")[:MOST_SUSPECTS]
    shown = np.flatnonzero(evidence.roles == "query")
    worst = np.argsort(evidence.before.test_log_likelihoods[shown], kind="stable")
    failures = shown[worst][:MOST_FAILURES]
    if not (len(suspects) and len(failures)):
        return Links(suspects, failures, None, "the method was shown no failures")
    try:
        found = pull(base, training.subset(suspects), tests.subset(failures))
    except RepairError as error:
        return Links(suspects, failures, None, str(error))
    return Links(suspects, failures, found)


def pull(model: TrainedModel, suspects: Examples, failures: Examples) -> NDArray[np.float32]:
    """(s, f) −⟨∇ log p(zᵢ | θ̂), ∇ log p(zⱼ | θ̂)⟩ over the weights W of the last linear layer.

    With φ the input of that layer and e = ∂ log p / ∂ outputs, ∇_W log p = e φᵀ, so the product is
    −⟨eᵢ, eⱼ⟩⟨φᵢ, φⱼ⟩. To first order it is what a step of length 1 along −∇ log p(zᵢ), which unlearns suspect i, adds
    to the log-likelihood of failure j: positive where the suspect drives the failure. It is TracIn at the last of its
    checkpoints and in the last layer (Pruthi et al. 2020, "Estimating training data influence by tracing gradient
    descent", section 4), with the sign turned so that positive means harmful, as in the scores.

    Args:
        model: at θ̂, with a network whose outputs are those of its last linear layer.
        suspects: s training examples with their given labels.
        failures: f examples with their right labels.

    Raises:
        RepairError: if the network ends in no linear layer, or that is not applied to one vector an example.
    """
    (features, slopes), (others, their_slopes) = (
        last_layer_gradients(model, side) for side in (suspects, failures)
    )
    products: NDArray[np.float32] = (-(slopes @ their_slopes.T) * (features @ others.T)).float().cpu().numpy()
    return products
