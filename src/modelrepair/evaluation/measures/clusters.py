"""What a repair did for each cluster of failures: a rare kind that stays is not seen in an accuracy over all."""

from __future__ import annotations

from typing import Any

import numpy as np

from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.repair import is_right


def measure(evidence: Evidence) -> dict[str, Any] | None:
    """Of each cluster, by its numbered name.

    Returns:
        query, holdout: how many failures of it the method was shown, and how many that it was not are nearest to it;
        fixed and remaining of the latter, how many the repaired model has right and wrong; causes, how many of the
        training examples that were taken as causes drive it most, None where nothing was scored by cluster. None where
        failures are not divided.
    """
    if evidence.failure_clusters is None:
        return None
    right = is_right(evidence.after.test_predictions, evidence.test_labels)
    measured: dict[str, Any] = {}
    for number, name in enumerate(evidence.cluster_names):
        of_it = evidence.failure_clusters == number
        held_out = of_it & (evidence.roles == "holdout")
        causes = evidence.driven_clusters
        measured[name] = {
            "query": int((of_it & (evidence.roles == "query")).sum()),
            "holdout": int(held_out.sum()),
            "fixed": int((held_out & right).sum()),
            "remaining": int((held_out & ~right).sum()),
            "causes": None if causes is None else int(np.sum(causes[evidence.causes] == number)),
        }
    return measured
