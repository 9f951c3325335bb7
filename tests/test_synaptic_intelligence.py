"""Synaptic intelligence against a training written out by hand, and its scale, by a problem that has a Hessian."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modelrepair.base_training.train import train
from modelrepair.curvature import DiagonalFisher, SynapticIntelligence, fit_curvature, load_curvature
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.posterior import ElasticWeightConsolidation
from modelrepair.training.descent import Descent
from modelrepair.training.epochs import epoch_batches
from modelrepair.training.trajectory import Trajectory
from models import (
    Gaussian,
    assert_equal,
    make_examples,
    make_model,
    negative_hessian,
    one_thread,  # noqa: F401
    per_example_gradients,
)

OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimiser": "sgd", "momentum": 0.0, "learning_rate": 0.02},
    "momentum": {"optimiser": "sgd", "momentum": 0.9, "learning_rate": 0.3},
    "adam": {"optimiser": "adam", "learning_rate": 0.02},
}


def trained(
    model: TrainedModel, examples: Examples, descent: Descent, *, batch_size: int = 7, **options: Any
) -> Trajectory:
    """The way of a model, which is then at its end."""
    course = train(model, examples, descent, batch_size=batch_size, seed=3, checkpoints=0, **options)
    assert course.trajectory is not None
    return course.trajectory


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_it_is_a_training_written_out_by_hand(optimiser: str, decay: float) -> None:
    model, examples, xi = make_model("tied"), make_examples("tied"), 0.01
    descent = Descent(rounds=3, weight_decay=decay, **OPTIMISERS[optimiser])
    fitted = fit_curvature(
        "synaptic-intelligence", model, examples, trajectory=trained(model, examples, descent), xi=xi
    )

    way = make_model("tied")
    start = position = way.parameter_vector
    rate = OPTIMISERS[optimiser]["learning_rate"]
    gains = first = second = torch.zeros_like(start)
    number = 0
    for epoch in (1, 2, 3):
        for batch in epoch_batches(23, 7, seed=3, purpose="training", epoch=epoch):
            number += 1
            here = way.with_parameter_vector(position)
            slope = -per_example_gradients(here, examples.subset(batch)).mean(dim=0)
            pulled = slope + decay * position
            if optimiser == "adam":
                first, second = 0.9 * first + 0.1 * pulled, 0.999 * second + 0.001 * pulled**2
                step = first / (1 - 0.9**number) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
            else:
                step = first = OPTIMISERS[optimiser]["momentum"] * first + pulled
            gains, position = gains + slope * rate * step, position - rate * step
    assert_equal(position, model.parameter_vector, 1e-11)
    assert bool((gains > 0).any())
    # What overshoots, or is pulled to 0, raises the loss.
    assert bool((gains < 0).any()) or (optimiser, decay) != ("momentum", 0.1)
    expected = 2 * gains.clamp(min=0) / ((position - start) ** 2 + xi)
    assert_equal(
        fitted.damped(0.3).matvec(torch.eye(len(expected)).double()), torch.diag(expected + 0.3), 1e-11
    )


@pytest.mark.parametrize("copies", [1, 3])
def test_on_a_quadratic_loss_it_is_the_hessian_of_the_mean_loss(copies: int) -> None:
    """So neither half nor twice of it, nor a multiple by n: steps of η make it h/(1 − ηh/2) of a curvature h."""
    inputs = np.repeat(np.diag([1.0, 2.0, 3.0]), copies, axis=0)
    examples = Examples(inputs, np.repeat([[4.0], [-3.0], [5.0]], copies, axis=0))
    model = TrainedModel(make_network("linear", (3,), 1, seed=0).double(), Gaussian(), device="cpu")
    rate = 0.05
    descent = Descent(rate, 1500, optimiser="sgd", momentum=0.0)
    way = trained(model, examples, descent, batch_size=len(examples))
    fitted = SynapticIntelligence.fit(model, examples, trajectory=way, xi=1e-12)
    stiffness = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64) / 3
    assert_equal(negative_hessian(model, examples) / len(examples), torch.diag(stiffness))
    assert_equal(fitted.entries, stiffness / (1 - rate * stiffness / 2), 1e-9)


def test_the_gains_are_what_the_loss_fell_by() -> None:
    """Over a training in small steps on all examples at once, all parameters' together."""
    model, examples = make_model(), make_examples()
    before = model.mean_log_likelihood(examples)
    descent = Descent(1e-3, 300, optimiser="sgd", momentum=0.0)
    way = trained(model, examples, descent, batch_size=23)
    fell = model.mean_log_likelihood(examples) - before
    assert fell > 0.01
    assert float(way.gains.sum()) == pytest.approx(fell, rel=2e-3)
    assert_equal(way.displacement, model.parameter_vector - make_model().parameter_vector)


def test_it_consolidates_as_every_diagonal_does(tmp_path: Path) -> None:
    """The update sees its entries and nothing else, and files bring them back."""
    model, examples, failures = make_model(), make_examples(), make_examples(count=4, seed=7)
    way = trained(model, examples, Descent(0.02, 3))
    fitted = SynapticIntelligence.fit(model, examples, trajectory=way)
    assert_equal(fitted.entries, 2 * way.gains.clamp(min=0) / (way.displacement.square() + 0.1))
    fitted.save(tmp_path)
    loaded = load_curvature("synaptic-intelligence", tmp_path, model, examples, 0.1)
    same = DiagonalFisher(model, examples, fitted.entries).damped(0.1)

    def inserted(curvature: Any) -> Tensor:
        update = ElasticWeightConsolidation(rounds=5)
        return update.insert(model, failures, curvature=curvature, count=23).model.parameter_vector

    assert torch.equal(inserted(loaded), inserted(same))
    assert not torch.equal(inserted(loaded), inserted(same.damped(1.0)))
    v = model.parameter_vector
    assert_equal(loaded.matvec(loaded.solve(v)), v)
    with pytest.raises(RepairError, match="fitted to another model or to other examples"):
        load_curvature("synaptic-intelligence", tmp_path, make_model(), examples, 0.1)


def test_without_the_way_of_its_training_there_is_none() -> None:
    model, examples = make_model(), make_examples()
    with pytest.raises(RepairError, match="synaptic-intelligence follows the base training, which was not"):
        fit_curvature("synaptic-intelligence", model, examples)
    way = trained(model, examples, Descent(0.02, 1))
    for other_model, other_examples in ((make_model("tied"), examples), (model, examples.subset([0, 1]))):
        with pytest.raises(
            RepairError, match=r"the training that was recorded was of 51 parameters on 23 examples"
        ):
            fit_curvature("synaptic-intelligence", other_model, other_examples, trajectory=way)
    with pytest.raises(RepairError, match="xi is 0: give a number above 0"):
        fit_curvature("synaptic-intelligence", model, examples, trajectory=way, xi=0)
    bad = replace(way, gains=way.gains * float("nan"))
    with pytest.raises(RepairError, match="holds NaN or infinity"):
        fit_curvature("synaptic-intelligence", model, examples, trajectory=bad)
