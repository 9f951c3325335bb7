"""How much? One file a measurement: its formulas, and `measure`, which takes them to the evidence.

`measure(evidence)` gives the numbers by name, or None where the evidence lacks what it needs. A further one is a file
with such a function and its line below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures import (
    clusters,
    correction,
    erasure,
    facts,
    identification,
    knowledge,
    reference,
    repair,
)

Measure = Callable[[Evidence], dict[str, Any] | None]

# By name, in the order in which they stand in metrics/repair.json.
MEASURES: dict[str, Measure] = {
    "identification": identification.measure,
    "repair": repair.measure,
    "clusters": clusters.measure,
    "reference": reference.measure,
    "correction": correction.measure,
    "erasure": erasure.measure,
    "facts": facts.measure,
    "knowledge": knowledge.measure,
}


def measure_all(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """The numbers of every measurement for which the evidence is there, by its name."""
    measured = {name: measure(evidence) for name, measure in MEASURES.items()}
    return {name: numbers for name, numbers in measured.items() if numbers is not None}
