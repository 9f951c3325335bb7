"""Causes to which a person gives another label: every treatment that can learn it does, the others refuse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from conftest import ROOT
from modelrepair.base_training.train import train
from modelrepair.errors import RepairError
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.artifacts import read_table, write_json, write_table
from modelrepair.posterior import ElasticWeightConsolidation
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.posterior import InsertionSettings, SecondLookSettings
from modelrepair.settings.selection import SelectCauses
from modelrepair.settings.stages import stage_settings
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import mean_losses
from modelrepair.treatment import (
    TREATMENTS,
    Align,
    ComplementaryLabels,
    Dampen,
    Delete,
    Distil,
    FineTune,
    Insert,
    KnowledgeEditor,
    Mend,
    NegativeGradient,
    Patient,
    RandomLabels,
    Retrain,
    Scrub,
    Treatment,
)
from models import DenseCurvature, assert_equal, blobs, one_thread  # noqa: F401

COUNT = 60
CLEAN, _ = blobs(COUNT, seed=0)
CAUSES = np.flatnonzero((CLEAN.targets == 1) & (np.arange(COUNT) % 4 == 1))
GIVEN = CLEAN.targets.copy()
GIVEN[CAUSES] = 0
DATA = CLEAN.with_targets(GIVEN)
DISCOVERY, _ = blobs(100, seed=1)
RIGHT = np.ones(len(CAUSES), dtype=np.int64)
SOME = np.where(np.arange(len(CAUSES)) % 2, RIGHT, -1)
LEARNING: dict[str, Any] = {"learning_rate": 0.05, "epochs": 4, "batch_size": 16}
EWC = ElasticWeightConsolidation(learning_rate=0.05, rounds=6, batch_size=8)
LOOKS = SecondLookSettings(learning_rate=0.05, looks=4, batch_size=16)
JUDGE = InsertionSettings(posterior=LOOKS, evidence="nothing", balance_classes=False)
ABLE: dict[str, Treatment] = {
    "delete": Delete(posterior=EWC, curvature="gram", damping=0.05),
    "fine-tune": FineTune(**LEARNING),
    "mend": Mend(posterior=LOOKS),
    "retrain": Retrain(**LEARNING),
    "complementary labels": ComplementaryLabels(**LEARNING),
    "random labels": RandomLabels(**LEARNING),
    "align": Align(**LEARNING, judge=JUDGE, step=0.5),
}
UNABLE: dict[str, Treatment] = {
    "dampen": Dampen(),
    "distil": Distil(**LEARNING),
    "insert": Insert(judge=JUDGE),
    "knowledge editor": KnowledgeEditor(),
    "negative gradient": NegativeGradient(**LEARNING),
    "scrub": Scrub(),
}


def fresh() -> TrainedModel:
    return TrainedModel(make_network("linear", (2,), 2, seed=5, bias=True).double(), Softmax(), device="cpu")


BASE = fresh()
train(BASE, DATA, Descent(learning_rate=0.05, rounds=10), batch_size=16, seed=0)


def patient(corrections: NDArray[np.int64] | None, **changes: Any) -> Patient:
    settings: dict[str, Any] = {
        "model": BASE.copy(),
        "examples": DATA,
        "causes": CAUSES,
        "discovery": DISCOVERY,
        "failures": DISCOVERY.subset(BASE.correct(DISCOVERY).numpy() == 0),
        "curvature": lambda name, damping: DenseCurvature.fit(BASE, DATA).damped(damping),
        "fresh": fresh,
        "seed": 3,
        "guarded": False,
        "corrections": corrections,
    }
    return Patient(**(settings | changes))


@pytest.mark.parametrize("treatment", ABLE.values(), ids=ABLE)
def test_what_is_told_is_learned_and_nothing_told_changes_nothing(treatment: Treatment) -> None:
    plain, silent, told = (
        treatment.treat(patient(corrections)).model for corrections in (None, np.full_like(RIGHT, -1), SOME)
    )
    assert_equal(plain.parameter_vector, silent.parameter_vector)
    corrected = patient(SOME).corrected
    assert corrected.targets.tolist() == [1] * int((SOME >= 0).sum())
    assert told.mean_log_likelihood(corrected) > BASE.mean_log_likelihood(corrected)
    # Of two classes there is one other label, which is believed anyway.
    if not isinstance(treatment, ComplementaryLabels | RandomLabels):
        assert not np.array_equal(told.parameter_vector, plain.parameter_vector)


def trained(examples: Any, purpose: str, *, mode: bool) -> TrainedModel:
    model = BASE.copy()
    minimise(
        model,
        mean_losses(model, examples, 16, seed=3, purpose=purpose),
        Descent(learning_rate=0.05, rounds=4),
        training_mode=mode,
    )
    return model


def test_fine_tuning_is_training_on_what_remains_and_what_is_told() -> None:
    corrected = DATA.subset(CAUSES[SOME >= 0]).with_targets(RIGHT[SOME >= 0])
    examples = DATA.subset(np.setdiff1d(np.arange(COUNT), CAUSES)).followed_by(corrected)
    found = ABLE["fine-tune"].treat(patient(SOME)).model.parameter_vector
    assert_equal(found, trained(examples, "fine-tuning", mode=True).parameter_vector)


def test_a_label_that_is_told_takes_the_place_of_any_other_belief() -> None:
    """With all causes told, each relabelling is plain training on the corrected data."""
    remaining = DATA.subset(np.setdiff1d(np.arange(COUNT), CAUSES))
    examples = DATA.subset(CAUSES).with_targets(RIGHT).followed_by(remaining)
    for name, purpose in (
        ("complementary labels", "training on complementary labels"),
        ("align", "training on corrected causes"),
    ):
        found = ABLE[name].treat(patient(RIGHT)).model.parameter_vector
        expected = trained(examples, purpose, mode=False).parameter_vector
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-9)


def test_deletion_deletes_what_was_given_and_inserts_what_is_told() -> None:
    corrected = DATA.subset(CAUSES[SOME >= 0]).with_targets(RIGHT[SOME >= 0])
    given = patient(SOME)
    edited = EWC.edit(
        BASE,
        DATA.subset(CAUSES).followed_by(corrected),
        np.concatenate([-np.ones(len(CAUSES)), np.ones(len(corrected))]),
        curvature=given.curvature("gram", 0.05),
        count=COUNT,
        kept=given.kept,
        seed=3,
        oversight=given.oversight,
    )
    assert_equal(ABLE["delete"].treat(given).model.parameter_vector, edited.model.parameter_vector)


@pytest.mark.parametrize("treatment", UNABLE.values(), ids=UNABLE)
def test_what_can_only_remove_refuses(treatment: Treatment) -> None:
    with pytest.raises(RepairError, match=r"causes are to get another label, and .* can only remove causes"):
        treatment.treat(patient(SOME))


def test_settings_know_which_treatments_can() -> None:
    unable = {type(treatment) for treatment in UNABLE.values()}
    assert {kind for kind in TREATMENTS.values() if not kind.relabels} == unable  # type: ignore[attr-defined]


def test_one_correction_for_each_cause() -> None:
    with pytest.raises(RepairError, match="there are 1 corrections and"):
        patient(RIGHT[:1])


@pytest.mark.parametrize(
    ("changes", "only_removes"),
    [
        ({}, None),
        ({"treatment": "ssd"}, "ssd"),
        ({"treatment": "relabel", "reference": "distil"}, "distil"),
        ({"treatment": "scrub", "reference": "retrain"}, "scrub"),
    ],
)
def test_select_causes_is_told_what_can_only_remove(
    changes: dict[str, str], only_removes: str | None
) -> None:
    parameters = read_parameters(ROOT / "params.yaml").model_copy(update={"selection": "reviewed", **changes})
    settings = stage_settings(parameters)["select-causes"]
    assert isinstance(settings, SelectCauses)
    assert settings.only_removes == only_removes


@pytest.mark.parametrize("only_removes", [None, "ssd"])
def test_from_a_file_of_marks_to_the_causes(only_removes: str | None, tmp_path: Path) -> None:
    """The stages know-causes and select-causes: marks reach the treatment, also those of causes known beforehand."""
    for folder in ("data/original", "data/corrupted", "data/scores", "data/method", "requests"):
        (tmp_path / folder).mkdir(parents=True)
    write_json(tmp_path / "data/original/dataset.json", {"classes": ["a", "b, c", "d"]})
    table = pd.DataFrame({"example": np.arange(10, 22), "split": "train", "label": np.arange(12) % 3})
    table.loc[0, "split"] = "validation"
    write_table(tmp_path / "data/corrupted/train.parquet", table)
    write_table(tmp_path / "data/scores/scores.parquet", table[["example"]][1:].assign(score=np.arange(11.0)))
    write_json(tmp_path / "data/scores/scores.json", {"score": "loss", "unit": "nats", "sound": None})
    (tmp_path / "requests/marks.csv").write_text(
        'example,action,label,given\n13,relabel,"b, c",a\n15,remove,,d\n16,keep,,\n'
    )
    (tmp_path / "requests/known.csv").write_text("example,action,label\n20,relabel,d\n")
    settings = {
        "know-causes": {"known": {"rule": "listed", "file": "requests/known.csv"}},
        "select-causes": {
            "selection": {"rule": "listed", "file": "requests/marks.csv"},
            "for_reference": True,
            "only_removes": only_removes,
        },
    }
    for stage, given in settings.items():
        write_json(tmp_path / f"data/method/{stage}.json", given)
        done = subprocess.run(
            [sys.executable, ROOT / f"src/modelrepair/stages/{stage.replace('-', '_')}.py"],
            cwd=tmp_path,
            env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            capture_output=True,
            text=True,
        )
        if stage == "select-causes" and only_removes:
            assert done.returncode == 1
            assert (
                "gives 2 causes another label, and the treatment 'ssd' can only remove causes" in done.stderr
            )
            assert not (tmp_path / "data/causes").exists()
            return
        assert done.returncode == 0, done.stderr
    causes = read_table(tmp_path / "data/causes/causes.parquet")
    assert causes["example"].tolist() == [20, 13, 15]
    assert causes["new_label"].tolist() == [2, 1, -1]
    shared = read_table(tmp_path / "data/reference/causes.parquet")
    assert shared.to_dict("list") == {"position": [9, 2, 4], "new_label": [2, 1, -1]}
