"""The patient as the pipeline's artefacts describe it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.curvature.base import Curvature
from modelrepair.models.examples import Examples
from modelrepair.models.files import fresh_model, load_model
from modelrepair.models.trained_model import TrainedModel
from modelrepair.models.workspace import (
    discovery_examples,
    failures,
    reserved_examples,
    training_examples,
)
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings.treatment import TreatmentSettings
from modelrepair.treatment.base import Patient, Stated


def read_patient(
    root: Path,
    treatment: TreatmentSettings,
    causes: Callable[[TrainedModel, Examples], NDArray[np.int64]],
    curvature: Callable[[TrainedModel, Examples, str, float], Curvature],
    *,
    seed: int,
    checkpoint: Checkpoint,
    corrections: ArrayLike | None = None,
) -> tuple[Patient, dict[str, Any]]:
    """The base model with its failures, in the pipeline's folder; and the description with which to save its like.

    Args:
        root: of the pipeline.
        treatment: how its points are judged.
        causes: positions of the causes, most harmful first, of the base model and its training examples.
        curvature: that of the base model on its training examples, by name and damping.
        seed: of what is random in the treatment.
        checkpoint: where to keep progress.
        corrections: as in `Patient`.

    Raises:
        RepairError: if an artefact is missing or damaged.
    """
    model, description = load_model(root / "models/base")
    training, table = training_examples(root)
    discovery, failing = discovery_examples(root)
    patient = Patient(
        model=model,
        examples=training,
        causes=causes(model, training),
        discovery=discovery,
        failures=failing,
        curvature=lambda name, damping: curvature(model, training, name, damping),
        reserved=lambda: reserved_examples(root),
        fresh=lambda: fresh_model(description, seed),
        guarded=bool(treatment.guarded),
        tolerance=treatment.tolerance,
        judged_by=treatment.judged_by,
        seed=seed,
        checkpoint=checkpoint,
        corrections=None if corrections is None else np.asarray(corrections, dtype=np.int64),
        stated=_stated(table, failures(root, "discovery")),
    )
    return patient, description


def _stated(training: pd.DataFrame, discovery: pd.DataFrame) -> Stated | None:
    """Which facts the sentences are about, if they are such."""
    if not {"fact", "relation"} <= {*training.columns}:
        return None
    relations = np.unique(training["relation"].astype(str), return_inverse=True)[1]
    return Stated(
        facts=training["fact"].to_numpy(dtype=np.int64),
        relations=relations.astype(np.int64),
        failing=discovery.loc[discovery["is_query"], "fact"].to_numpy(dtype=np.int64),
    )
