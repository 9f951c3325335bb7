"""The line that says how far a ranking depends on the damping."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from modelrepair.curvature import GramFisher, Identity, damping_sensitivity
from modelrepair.curvature.sensitivity import in_words
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
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


def test_where_there_are_no_such_scores_it_says_so_and_stops_nothing() -> None:
    model, examples = make_model("mlp"), make_examples("mlp")
    vector = per_example_gradients(model, examples).sum(0)
    # λ/10 rounds to nothing beside M, whose rank is below d.
    singular = damping_sensitivity(model, examples, vector, GramFisher.fit(model, examples).damped(1e-19))
    assert set(singular.values()) == {None}

    class NoForward(torch.autograd.Function):
        """A function that knows its gradient and no derivative in forward mode."""

        @staticmethod
        def forward(context: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(context: Any, slope: Tensor) -> Tensor:
            return 2 * slope

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return NoForward.apply(x)

    backward_only = TrainedModel(nn.Sequential(model.network, Layer()), Softmax(), device="cpu")
    identity = Identity.fit(backward_only, examples).damped(1.0)
    assert damping_sensitivity(backward_only, examples, vector, identity) == {0.1: None, 10.0: None}


def test_a_damping_of_0_has_no_neighbours() -> None:
    model, examples = make_model("mlp"), make_examples("mlp")
    vector = per_example_gradients(model, examples).sum(0)
    found = damping_sensitivity(model, examples, vector, GramFisher.fit(model, examples))
    assert found == {}
    assert "cannot be told" in in_words(0.0, found)
