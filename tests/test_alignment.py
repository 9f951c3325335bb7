"""Correcting causes: the energy and its gradient, the labels, and the training on them, by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior import insert_evidence
from modelrepair.posterior.layers import layer_groups
from modelrepair.settings.posterior import (
    InsertionSettings,
    LayerSelectiveSettings,
    NaturalGradientSettings,
)
from modelrepair.training.epochs import epoch_batches
from modelrepair.treatment import Align, Insert, Patient
from modelrepair.treatment.alignment import align
from models import (
    DenseCurvature,
    assert_equal,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    state_bytes,
)

JUDGE, EXAMPLES = make_model("mlp"), make_examples("mlp", count=12)
FAILURES, RESERVED = make_examples("mlp", count=8, seed=1), make_examples("mlp", count=20, seed=2)
LEARNING = LayerSelectiveSettings(learning_rate=0.02, rounds=3, batch_size=7)
BY_RESERVED = InsertionSettings(posterior=LEARNING, evidence="reserved", balance_classes=False)
BY_FAILURES = InsertionSettings(posterior=NaturalGradientSettings(epsilon=0.5), curvature="gram", damping=0.5)
BIR = Align(judge=BY_RESERVED, step=0.3, learning_rate=0.02, epochs=4, batch_size=5, remaining="equal")


def patient(**changes: Any) -> Patient:
    settings: dict[str, Any] = {
        "model": JUDGE.copy(),
        "examples": EXAMPLES,
        "causes": np.array([7, 2, 4]),
        "discovery": make_examples("mlp", count=30, seed=3),
        "failures": FAILURES,
        "reserved": lambda: RESERVED,
        "curvature": lambda name, damping: DenseCurvature.fit(JUDGE, EXAMPLES).damped(damping),
        "seed": 3,
    }
    return Patient(**(settings | changes))


def judge_of(settings: InsertionSettings, evidence: Examples) -> Any:
    curvature = DenseCurvature.fit(JUDGE, EXAMPLES).damped(0.5)
    return insert_evidence(
        settings,
        JUDGE,
        evidence,
        EXAMPLES,
        curvature=lambda name, damping: curvature,
        seed=3,
        kept=EXAMPLES.subset(np.setdiff1d(np.arange(12), [7, 2, 4])),
    )


def test_the_energy_sums_over_all_targets() -> None:
    outputs = torch.tensor([[0.3, -2.0, 40.0], [1.0, 1.0, -800.0]], dtype=torch.float64)
    assert_equal(Softmax().energy(outputs[:1]), -torch.log(torch.exp(outputs[:1]).sum(1)))
    assert float(Softmax().energy(outputs)[1]) == pytest.approx(-1 - np.log(2), abs=1e-12)
    vectors = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], dtype=torch.float64)
    every = torch.exp(outputs[:1] @ vectors.T).sum(1)
    assert_equal(Sigmoid().energy(outputs[:1]), -torch.log(every), 1e-10)


@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
def test_an_input_goes_down_the_energy(kind: Any) -> None:
    judge = TrainedModel(JUDGE.copy().network, kind(), device="cpu")
    x, _ = EXAMPLES.batch(slice(None), dtype=torch.float64)
    targets = EXAMPLES.targets if kind is Softmax else np.zeros((len(x), 3))
    moved, labels = align(judge, Examples(EXAMPLES.inputs, targets), 0.3)
    slope = torch.empty_like(x)
    for place in range(x.shape[1]):
        nudge = torch.zeros_like(x)
        nudge[:, place] = 1e-5
        with torch.no_grad():
            ends = [judge.likelihood.energy(judge.network(x + sign * nudge)) for sign in (1, -1)]
        slope[:, place] = (ends[0] - ends[1]) / 2e-5
    assert_equal(moved, x - 0.3 * slope, 1e-8)
    with torch.no_grad():
        expected = judge.likelihood.probabilities(judge.network(moved))
    assert_equal(labels, expected)
    if kind is Softmax:
        assert_equal(labels.sum(1), torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("batch_size", [1, 5, 500])
def test_batches_change_nothing(batch_size: int) -> None:
    other = TrainedModel(JUDGE.copy().network, Softmax(), batch_size=batch_size, device="cpu")
    for found, expected in zip(align(other, EXAMPLES, 0.3), align(JUDGE, EXAMPLES, 0.3), strict=True):
        assert_equal(found, expected)


def test_with_step_0_labels_alone_are_corrected() -> None:
    inputs, labels = align(JUDGE, EXAMPLES, 0.0)
    assert torch.equal(inputs, torch.from_numpy(EXAMPLES.inputs))
    assert_equal(labels, JUDGE.outputs(EXAMPLES).softmax(1))


def test_it_is_the_computation_by_hand() -> None:
    one = patient()
    before = state_bytes(one.model)
    judge = judge_of(BY_RESERVED, RESERVED)
    inputs, labels = align(judge.model, EXAMPLES.subset([7, 2, 4]), 0.3)
    kept = one.remaining_sample()
    rest, given = EXAMPLES.subset(kept).batch(slice(None), dtype=torch.float64)
    x, y = torch.cat([inputs, rest]), torch.cat([labels, nn.functional.one_hot(given, 3).double()])
    edited = JUDGE.copy()
    assert judge.changed
    optimiser = torch.optim.Adam(
        [p for name, p in edited.parameters.items() if name in judge.changed], lr=0.02
    )
    for epoch in range(1, 5):
        for batch in epoch_batches(6, 5, seed=3, purpose="training on corrected causes", epoch=epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(edited.network(x[batch]), y[batch]).backward()
            optimiser.step()
    treated = BIR.treat(dataclasses.replace(one, guarded=False))
    assert_equal(treated.model.parameter_vector, edited.parameter_vector, 1e-12)
    assert treated.best_round == 4
    changed = {n for n, p in treated.model.parameters.items() if not torch.equal(p, JUDGE.parameters[n])}
    assert changed == set(judge.changed)
    assert set(judge.changed) <= set(layer_groups(JUDGE.network) and list(JUDGE.parameters))
    assert state_bytes(one.model) == before


def test_all_of_what_remains_may_be_trained_on() -> None:
    treated = Align(**{**dict(BIR), "remaining": "all"}).treat(patient(guarded=False))
    equal = BIR.treat(patient(guarded=False))
    assert float((treated.model.parameter_vector - equal.model.parameter_vector).norm()) > 1e-6


def test_failures_may_judge_and_then_all_layers_change() -> None:
    treatment = Align(judge=BY_FAILURES, step=0.0, learning_rate=0.02, epochs=2)
    treated = treatment.treat(patient(guarded=False, reserved=None))
    assert not any(torch.equal(p, JUDGE.parameters[n]) for n, p in treated.model.parameters.items())


@pytest.mark.parametrize(("settings", "evidence"), [(BY_RESERVED, RESERVED), (BY_FAILURES, FAILURES)])
def test_the_judge_itself_is_a_treatment(settings: InsertionSettings, evidence: Examples) -> None:
    treated = Insert(judge=settings).treat(patient(guarded=False))
    assert_equal(treated.model.parameter_vector, judge_of(settings, evidence).model.parameter_vector, 1e-12)


@pytest.mark.parametrize("treatment", [BIR, Insert(judge=BY_RESERVED), Insert(judge=BY_FAILURES)])
def test_a_guarded_one_is_never_worse_by_its_rule(treatment: Any) -> None:
    one = patient()
    treated = treatment.treat(one)
    assert one.watch(treated.model) >= one.watch(one.model)
    assert len(treated.trace) > 1


def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    class Fragile(Checkpoint):
        saved = 0

        def save(self, *content: object) -> None:  # type: ignore[override]
            super().save(*content)  # type: ignore[arg-type]
            self.saved += 1
            if self.saved == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BIR.treat(patient(checkpoint=Fragile(tmp_path / "scratch", "key")))
    resumed = BIR.treat(patient(checkpoint=Checkpoint(tmp_path / "scratch", "key")))
    straight = BIR.treat(patient())
    assert state_bytes(resumed.model) == state_bytes(straight.model)
    assert resumed.trace == straight.trace


def test_it_says_what_it_cannot_do() -> None:
    with pytest.raises(RepairError, match="has learned reserved examples, and there are none"):
        BIR.treat(patient(reserved=None))
    with pytest.raises(RepairError, match="has learned failures examples, and there are none"):
        Insert(judge=BY_FAILURES).treat(patient(failures=FAILURES.subset([])))
    ids = Examples(np.zeros((4, 3), dtype=np.int64), np.zeros(4, dtype=np.int64))
    network = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    reader = TrainedModel(network, Softmax(), device="cpu")
    with pytest.raises(RepairError, match=r"the inputs are ids.*give the step 0"):
        align(reader, ids, 1.0)
    assert align(reader, ids, 0.0)[1].shape == (4, 2)
    with pytest.raises(RepairError, match="corrected examples are NaN or infinite: use a smaller step"):
        align(JUDGE, Examples(np.where(np.eye(12, 4) > 0, np.nan, EXAMPLES.inputs), EXAMPLES.targets), 0.3)
    with pytest.raises(RepairError, match="inserts nothing that is right: choose another"):
        Align(judge={"posterior": {"update": "none"}})
