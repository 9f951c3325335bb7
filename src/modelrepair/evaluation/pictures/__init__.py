"""How does it look? One file a picture, with `draw`: a PNG of the same bytes for the same evidence.

`draw(path, evidence)` writes nothing where the evidence lacks what it shows. A further one is a file with such a
function and its line below.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.pictures import (
    attributes,
    changes,
    confusion,
    erasure,
    examples,
    facts,
    identification,
    summary,
    treatment,
)

Draw = Callable[[Path, Evidence], None]

# By file name. Of those that share one, at most one has something to draw.
PICTURES: tuple[tuple[str, Draw], ...] = (
    ("summary.png", summary.draw),
    ("summary.png", erasure.draw),
    ("examples.png", examples.draw),
    ("facts.png", facts.draw),
    ("identification.png", identification.draw),
    ("confusion.png", confusion.draw),
    ("attributes.png", attributes.draw),
    ("changes.png", changes.draw),
    ("treatment.png", treatment.draw),
)


def draw_all(folder: Path, evidence: Evidence) -> None:
    """Every picture for which the evidence is there, into an existing folder."""
    for name, draw in PICTURES:
        draw(folder / name, evidence)
