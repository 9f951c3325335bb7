"""Which training examples caused the failures?"""

from __future__ import annotations

from os import PathLike

import numpy as np

from modelrepair.evaluation.drawing.canvas import BLUE, ORANGE
from modelrepair.evaluation.drawing.gallery import TrainingTiles, draw_blocks
from modelrepair.evaluation.drawing.names import readable
from modelrepair.evaluation.evidence import Evidence

SIGN = "The higher its score, the more an example is held to be harmful: without it the failures' loss should fall."


def draw(path: str | PathLike[str], evidence: Evidence, count: int = 16) -> None:
    """The most harmful training examples above the most helpful ones. Nothing where nothing was scored.

    Args:
        path: the PNG to write.
        evidence: of the run.
        count: examples in each half; the halves never share one, so few examples give fewer.
    """
    if evidence.scores is None:
        return
    values = evidence.scores
    order = np.argsort(-values, kind="stable")
    half = (len(order) + 1) // 2
    harmful, helpful = order[: min(count, half)], order[half:][::-1][:count]
    tiles = TrainingTiles(
        evidence.training_shown,
        values,
        evidence.given_labels,
        evidence.true_labels,
        readable(evidence.class_names),
        evidence.is_corrupted,
    )
    # Scores such as the plain loss are all positive, and then nothing is helpful, only less harmful.
    first = "Most harmful" if np.any(values[harmful] > 0) else "Least helpful"
    last = "Most helpful" if np.any(values[helpful] < 0) else "Least harmful"
    blocks = [
        (first, ORANGE, tiles.summary(harmful), tiles.of(harmful)),
        (last, BLUE, tiles.summary(helpful), tiles.of(helpful)),
    ]
    notes = [SIGN]
    if tiles.corrupted is not None:
        notes.append("Orange frame: this training example was corrupted. Number below: its score.")
    if evidence.training_inputs.ndim not in (3, 4) and evidence.vocabulary is None:
        notes.append("Each profile shows the features of one example, all on the same scale.")
    draw_blocks(path, "Which training examples caused the failures?", notes, blocks, tiles.lines)
