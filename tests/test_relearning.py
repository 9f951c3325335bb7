"""How soon deleted examples are learned again, by a plain loop of torch."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evidence_cases import CLASSES
from modelrepair.data.randomness import generator
from modelrepair.evaluation.measures import erasure
from modelrepair.evaluation.relearning import relearning_steps
from models import make_examples, make_model, state_bytes

DELETED = make_examples()


def accuracies(steps: int) -> list[float]:
    """Of a copy of the model, after each of so many steps of Adam with batches of 16."""
    network = make_model().copy().network
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    inputs, targets = torch.as_tensor(DELETED.inputs), torch.as_tensor(DELETED.targets)
    count = len(DELETED)
    an_epoch = math.ceil(count / 16)
    found = [float((network(inputs).argmax(1) == targets).double().mean())]
    for step in range(steps):
        order = generator(3, f"relearning, epoch {step // an_epoch}").permutation(count)
        batch = order[step % an_epoch * 16 :][:16]
        optimiser.zero_grad()
        F.cross_entropy(network(inputs[batch]), targets[batch]).backward()
        optimiser.step()
        found.append(float((network(inputs).argmax(1) == targets).double().mean()))
    return found


def test_steps_are_those_of_a_plain_loop() -> None:
    model = make_model()
    before, expected = state_bytes(model), accuracies(30)
    assert expected[0] < expected[-1]
    for level in (expected[0], (expected[0] + expected[-1]) / 2, expected[-1], 1.01):
        wanted = next((step for step, accuracy in enumerate(expected) if accuracy >= level), None)
        found = relearning_steps(model, DELETED, level, most=30, learning_rate=0.01, batch_size=16, seed=3)
        assert found == wanted, level
    assert relearning_steps(model, DELETED, expected[0], most=30) == 0
    assert relearning_steps(model, DELETED, 1.01, most=3) is None
    assert state_bytes(model) == before


@pytest.mark.parametrize(("steps", "shown"), [(7, 7), (math.inf, None)])
def test_they_stand_beside_what_is_still_known(steps: float, shown: int | None) -> None:
    measured = erasure.measure(replace(CLASSES, after=replace(CLASSES.after, relearning_steps=steps)))
    assert measured["after"]["relearning_steps"] == shown
    assert "relearning_steps" not in measured["before"]
    assert "relearning_steps" not in erasure.measure(CLASSES)["after"]
    assert np.isfinite(measured["after"]["erased"])
