"""What only data that state facts have for evaluate to measure, made of the pipeline's artefacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelrepair.data.randomness import generator
from modelrepair.evaluation.edits_in_a_row import edits_in_a_row
from modelrepair.evaluation.evidence import Assessment, EditsInARow, SingleEdits
from modelrepair.evaluation.single_edits import single_edits
from modelrepair.knowledge.contrast import adversaries, contrasts_of
from modelrepair.knowledge.files import load_editor
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.evaluation import Description


def make_assessment(
    settings: Description, tests: pd.DataFrame, training: pd.DataFrame, described: dict[str, Any]
) -> Assessment | None:
    """What the probes of assessment stand against, and no others; None where facts are not assessed.

    Args:
        settings: of the stage.
        tests, training: a row for each example.
        described: the data set, see `models.workspace.dataset_description`.
    """
    if settings.cka is None:
        return None
    asked = np.flatnonzero(tests["part"] == "assessment")
    contrasts = contrasts_of(
        tests.iloc[asked],
        training,
        described["classes"],
        described["input_shape"][0],
        relations=settings.cka.relations,
        rng=generator(settings.seed, "contradicting relations"),
    )
    others = adversaries(tests, training, generator(settings.seed, "adversaries"))
    return Assessment(settings.cka, contrasts.at(asked), others)


def read_single_edits(
    root: Path, settings: Description, base: TrainedModel, unseen: Examples, tests: pd.DataFrame
) -> SingleEdits | None:
    """What single edits of some failures do, by the editor that the treatment left; None if nobody wants to know.

    Args:
        root: of the pipeline.
        settings: of the stage.
        base: the model that fails.
        unseen: the test examples.
        tests: a row for each.

    Raises:
        RepairError: if the editor is missing or damaged.
    """
    if not settings.measured.single_edits:
        return None
    editor, loops = load_editor(root / "models/repaired/editor.safetensors", base)
    return single_edits(
        editor,
        unseen,
        tests["fact"].to_numpy(),
        edits=np.flatnonzero(tests["role"] == "query"),
        probes=np.flatnonzero(tests["part"] == "assessment"),
        most=settings.measured.single_edits,
        loops=loops,
        rng=generator(settings.seed, "single edits"),
    )


def read_edits_in_a_row(
    root: Path, settings: Description, base: TrainedModel, unseen: Examples, tests: pd.DataFrame
) -> EditsInARow | None:
    """What edits of some failures do one after another, likewise."""
    if not settings.measured.edits_in_a_row:
        return None
    editor, loops = load_editor(root / "models/repaired/editor.safetensors", base)
    return edits_in_a_row(
        editor,
        unseen,
        tests["fact"].to_numpy(),
        edits=np.flatnonzero(tests["role"] == "query"),
        probes=np.flatnonzero(tests["part"] == "assessment"),
        most=settings.measured.edits_in_a_row,
        loops=loops,
        rng=generator(settings.seed, "edits in a row"),
    )
