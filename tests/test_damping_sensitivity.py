"""The line that says how far a ranking depends on the damping."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from modelrepair.curvature import GramFisher, Identity, damping_sensitivity
from modelrepair.curvature.sensitivity import in_words
from models import make_examples, make_model, one_thread, per_example_gradients  # noqa: F401


def test_how_far_a_ranking_depends_on_the_damping() -> None:
    model, examples = make_model("mlp"), make_examples("mlp")
    gradients = per_example_gradients(model, examples)
    vector = gradients[:4].sum(0)
    matrix = gradients.T @ gradients / len(examples)

    def scores(damping: float) -> Tensor:
        damped = matrix + damping * torch.eye(len(vector), dtype=torch.float64)
        return -gradients @ torch.linalg.solve(damped, vector)

    found = damping_sensitivity(model, examples, vector, GramFisher.fit(model, examples).damped(0.02))
    expected = {
        other: spearmanr(scores(0.02).numpy(), scores(other).numpy()).statistic for other in (0.002, 0.2)
    }
    assert found == pytest.approx(expected, abs=1e-12)
    assert min(expected.values()) < 0.999
    assert "agrees 0." in in_words(0.02, found)
    stiff = damping_sensitivity(model, examples, vector, Identity.fit(model, examples).damped(1.0))
    assert stiff == pytest.approx({0.1: 1.0, 10.0: 1.0})
    nothing = damping_sensitivity(
        model, examples, torch.zeros_like(vector), Identity.fit(model, examples).damped(1.0)
    )
    assert nothing == {0.1: None, 10.0: None}
    assert "unknown with 0.1, unknown with 10 " in in_words(1.0, nothing)
