"""What only data that state facts have for evaluate to measure, made of the pipeline's artefacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelrepair.data.randomness import generator
from modelrepair.evaluation.edits_in_a_row import edits_in_a_row
from modelrepair.evaluation.evidence import EditsInARow, SingleEdits
from modelrepair.evaluation.gathering import Assessment
from modelrepair.evaluation.single_edits import single_edits
from modelrepair.knowledge.contrast import adversaries, contrasts_of
from modelrepair.knowledge.files import load_editor
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import language_of
from modelrepair.settings.evaluation import Description


def make_assessment(
    root: Path, settings: Description, tests: pd.DataFrame, training: pd.DataFrame, described: dict[str, Any]
) -> Assessment | None:
    """What the probes of assessment stand against, and no others; None where facts are not assessed.

    Args:
        root: of the pipeline.
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
        language_of(root),
        described["input_shape"][0],
        relations=settings.cka.relations,
        rng=generator(settings.seed, "contradicting relations"),
        contradictions=described.get("contradictions", {}),
    )
    others = adversaries(tests, training, generator(settings.seed, "adversaries"))
    return Assessment(settings.cka, contrasts.at(asked), others)


def read_edits(
    root: Path, settings: Description, base: TrainedModel, unseen: Examples, tests: pd.DataFrame
) -> tuple[SingleEdits | None, EditsInARow | None]:
    """What edits of some failures do, each by itself and one after another, by the editor that the treatment left.

    None of what nobody wants to know.

    Args:
        root: of the pipeline.
        settings: of the stage.
        base: the model that fails.
        unseen: the test examples.
        tests: a row for each.

    Raises:
        RepairError: if the editor is missing or damaged.
    """
    wanted = settings.measured
    if not (wanted.single_edits or wanted.edits_in_a_row):
        return None, None
    editor, loops = load_editor(root / "models/repaired/editor.safetensors", base)
    given = {
        "edits": np.flatnonzero(tests["role"] == "query"),
        "probes": np.flatnonzero(tests["part"] == "assessment"),
    }
    facts, seed = tests["fact"].to_numpy(), settings.seed
    apart = in_a_row = None
    if most := wanted.single_edits:
        apart = single_edits(
            editor, unseen, facts, **given, most=most, loops=loops, rng=generator(seed, "single edits")
        )
    if most := wanted.edits_in_a_row:
        in_a_row = edits_in_a_row(
            editor, unseen, facts, **given, most=most, loops=loops, rng=generator(seed, "edits in a row")
        )
    return apart, in_a_row
