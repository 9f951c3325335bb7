"""Whether the effects of a corruption are gone where it had them, and nothing else with them (Goel et al. 2024).

All numbers are fractions in [0, 1]; a group without examples has None. Labels are the right ones throughout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.repair import is_right, share_of

Rates = dict[str, float | None]


def measure(evidence: Evidence) -> dict[str, Rates] | None:
    """`correction` before and after the repair and the change, on the examples that no method has seen.

    None where the corruption has no domain of its own.
    """
    if evidence.in_domain is None:
        return None
    seen = evidence.assessed
    before, after = (
        correction(
            answers.test_predictions[seen],
            evidence.test_labels[seen],
            evidence.in_domain[seen],
            evidence.attacker_class,
        )
        for answers in (evidence.before, evidence.after)
    )
    change = {
        name: None if was is None or (now := after[name]) is None else now - was
        for name, was in before.items()
    }
    return {"before": before, "after": after, "change": change}


def correction(
    predictions: ArrayLike, labels: ArrayLike, in_domain: ArrayLike, attacker_class: int | None = None
) -> Rates:
    """How right one model is on the domain of a corruption and off it.

    Args:
        predictions, labels: (n,) class numbers.
        in_domain: (n,) whether the corruption is about an example: it is of a class that was confused with another, or
            carries the trigger.
        attacker_class: the class that the trigger is to lead to.

    Returns:
        corrected_accuracy: Acc_corr, the accuracy on the domain. Of a trigger that works it is the share of the
        attacker's class there, whose examples count as the others do.
        retained_accuracy: Acc_retain, the accuracy on all others.
        trigger_success: the share of the examples with the trigger and of other classes that are taken for the
        attacker's; None without a trigger.

    Raises:
        RepairError: if lengths differ.
    """
    predicted, truth, domain = np.asarray(predictions), np.asarray(labels), np.asarray(in_domain, dtype=bool)
    if not len(predicted) == len(truth) == len(domain):
        raise RepairError(
            f"there are {len(predicted)} predictions, {len(truth)} labels and {len(domain)} marks of the domain: give "
            "one of each for every example"
        )
    right = is_right(predicted, truth)
    attacked = domain & (truth != attacker_class)
    return {
        "corrected_accuracy": share_of(right[domain]),
        "retained_accuracy": share_of(right[~domain]),
        "trigger_success": None
        if attacker_class is None
        else share_of(predicted[attacked] == attacker_class),
    }
