"""Erasure by noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from modelrepair.errors import RepairError
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.treatment import Patient, Scrub, make_treatment
from models import assert_equal, blobs, make_model, one_thread, per_example_gradients, with_prior_mode  # noqa: F401

DATA, _ = blobs(40)
MODEL = with_prior_mode(
    TrainedModel(make_network("linear", (2,), 2, seed=0).double(), make_model().likelihood, device="cpu"),
    DATA,
    1.0,
)
CAUSES = np.flatnonzero(DATA.targets == 1)


def patient(**options: Any) -> Patient:
    def no_curvature(name: str, damping: float) -> Any:
        raise AssertionError("scrubbing measures its own")

    return Patient(
        model=MODEL,
        examples=DATA,
        causes=CAUSES,
        discovery=blobs(30, seed=1)[0],
        failures=DATA.subset([]),
        curvature=no_curvature,
        fresh=lambda: MODEL,
        **options,
    )


def test_its_variance_is_the_inverse_fisher_of_what_is_kept() -> None:
    kept = DATA.subset(np.setdiff1d(np.arange(40), CAUSES))
    fisher = per_example_gradients(MODEL, kept).square().mean(dim=0)
    cap = float(1 / fisher.mean())
    draws = torch.stack([Scrub(alpha=0.01, cap=cap).noise(MODEL, kept, seed) for seed in range(4000)])
    expected = 0.01 * (1 / (fisher + 1e-8)).clamp_max(cap)
    assert 0 < int((expected < 0.01 * cap).sum()) < len(expected), (
        "the cap comes into play, and not everywhere"
    )
    assert_equal(draws.var(dim=0) / expected, torch.ones_like(expected), 0.1)
    assert float((draws.mean(dim=0) / expected.sqrt()).abs().max()) < 0.1


def test_alpha_scales_one_draw() -> None:
    large, small = (Scrub(alpha=alpha).noise(MODEL, DATA, 3) for alpha in (0.04, 0.01))
    assert_equal(large, 2 * small)
    assert not torch.equal(small, Scrub(alpha=0.01).noise(MODEL, DATA, 4))


def test_unguarded_it_adds_all_of_the_noise() -> None:
    kept = DATA.subset(np.setdiff1d(np.arange(40), CAUSES))
    before = MODEL.parameter_vector
    treated = Scrub(alpha=0.01).treat(patient(guarded=False, seed=5))
    noise = Scrub(alpha=0.01).noise(MODEL, kept, 5)
    assert_equal(treated.model.parameter_vector, before + noise)
    assert_equal(MODEL.parameter_vector, before)
    assert [row["noise"] for row in treated.trace] == [0, 0.1]


def test_guarded_it_never_does_harm() -> None:
    treated = Scrub(alpha=1.0, points=5).treat(patient())
    assert len(treated.trace) == 6
    assert treated.model.accuracy(patient().discovery) >= MODEL.accuracy(patient().discovery)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"cap": float("inf")}, "cap"),
        ({"points": 0}, "points"),
        ({"beta": 1}, "no setting beta"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RepairError, match=sentence):
        make_treatment("scrub", **options)


def test_nothing_kept_is_refused() -> None:
    with pytest.raises(RepairError, match="select fewer causes"):
        Scrub().noise(MODEL, DATA.subset([]), 0)
