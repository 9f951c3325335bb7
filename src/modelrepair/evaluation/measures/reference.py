"""What the reference fixed and broke: the measures of `repair`, of the model that the repaired one stands beside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures import repair


def measure(evidence: Evidence) -> dict[str, Any] | None:
    """`repair_metrics` of the test examples with the reference in the repaired model's place.

    Returns:
        what: the reference in words; after: its accuracies; fixed, broken: of the base model's answers. None where
        there is no reference.
    """
    if evidence.reference is None:
        return None
    measured = repair.measure(replace(evidence, after=evidence.reference))
    return {
        "what": evidence.reference_in_words,
        **{name: measured[name] for name in ("after", "fixed", "broken")},
    }
