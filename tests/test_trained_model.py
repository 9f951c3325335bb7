"""A trained model against gradients computed one example at a time, in float64 to 1e-12."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from models import (
    LIKELIHOODS,
    NETWORKS,
    assert_equal,
    make_examples,
    make_model,
    normalised,
    one_thread,  # noqa: F401
    per_example_gradients,
    state_bytes,
)

CASES = [(network, "softmax") for network in sorted(NETWORKS)] + [
    ("mlp", likelihood) for likelihood in sorted(LIKELIHOODS) if likelihood != "softmax"
]
EVERY_CASE = pytest.mark.parametrize(("network", "likelihood"), CASES)
BATCH_SIZES = pytest.mark.parametrize("batch_size", [1, 7, 22, 23, 500])


def weights(count: int, seed: int = 1) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=count)


@EVERY_CASE
def test_weighted_gradient_is_the_weighted_sum_of_single_gradients(network: str, likelihood: str) -> None:
    model, examples = make_model(network, likelihood), make_examples(network, likelihood)
    gradients = per_example_gradients(model, examples)
    assert gradients.shape == (len(examples), sum(p.numel() for p in model.parameters.values()))
    assert float(gradients.abs().max()) > 0.01
    assert_equal(model.weighted_gradient(examples), gradients.sum(dim=0))
    assert_equal(model.weighted_gradient(examples, weights(23)), torch.from_numpy(weights(23)) @ gradients)


@EVERY_CASE
def test_directional_derivatives_are_products_with_single_gradients(network: str, likelihood: str) -> None:
    model, examples = make_model(network, likelihood), make_examples(network, likelihood)
    gradients = per_example_gradients(model, examples)
    direction = torch.from_numpy(weights(gradients.shape[1]))
    assert_equal(model.directional_derivatives(examples, direction), gradients @ direction)


@pytest.mark.parametrize("kind", ["list", "numpy", "int", "tensor", "float32"])
def test_weights_may_be_of_any_kind(kind: str) -> None:
    model, examples = make_model(), make_examples()
    values = [float(value % 3 - 1) for value in range(23)]
    given: Any = {
        "list": values,
        "numpy": np.array(values),
        "int": np.array(values, dtype=np.int64),
        "tensor": torch.tensor(values, dtype=torch.float64),
        "float32": torch.tensor(values, dtype=torch.float32),
    }[kind]
    expected = torch.tensor(values, dtype=torch.float64) @ per_example_gradients(model, examples)
    assert_equal(model.weighted_gradient(examples, given), expected)


@BATCH_SIZES
@pytest.mark.parametrize("network", ["mlp", "normalised"])
def test_batch_size_never_matters(network: str, batch_size: int) -> None:
    examples = make_examples(network)
    whole, batched = make_model(network), make_model(network, batch_size=batch_size)
    direction = torch.from_numpy(weights(len(whole.parameter_vector)))
    assert_equal(
        batched.weighted_gradient(examples, weights(23)), whole.weighted_gradient(examples, weights(23))
    )
    assert_equal(
        batched.directional_derivatives(examples, direction),
        whole.directional_derivatives(examples, direction),
    )
    for measure in ("outputs", "log_likelihoods", "margins", "correct"):
        assert_equal(getattr(batched, measure)(examples), getattr(whole, measure)(examples))


def test_order_never_matters() -> None:
    model, examples = make_model("normalised", batch_size=5), make_examples("normalised")
    order = np.random.default_rng(2).permutation(23)
    shuffled = examples.subset(order)
    direction = torch.from_numpy(weights(len(model.parameter_vector)))
    assert_equal(
        model.weighted_gradient(shuffled, weights(23)[order]), model.weighted_gradient(examples, weights(23))
    )
    assert_equal(
        model.directional_derivatives(shuffled, direction),
        model.directional_derivatives(examples, direction)[order],
    )
    assert_equal(model.log_likelihoods(shuffled), model.log_likelihoods(examples)[order])


def test_an_example_is_judged_alone_with_the_statistics_of_training() -> None:
    network = normalised().double().train()
    model = TrainedModel(network, Softmax(), device="cpu")
    before, examples = state_bytes(model), make_examples("normalised")
    together = model.log_likelihoods(examples)
    alone = torch.cat([model.log_likelihoods(examples.subset([position])) for position in range(23)])
    model.weighted_gradient(examples)
    model.directional_derivatives(examples, torch.ones_like(model.parameter_vector))
    assert_equal(together, alone)
    assert not network.training
    assert state_bytes(model) == before, "the running statistics moved"


def test_dropout_is_off() -> None:
    model, examples = make_model("dropping"), make_examples("dropping")
    assert torch.equal(model.outputs(examples), model.outputs(examples))


def test_frozen_parameters_are_no_part_of_the_vector() -> None:
    model, examples = make_model("frozen"), make_examples("frozen")
    trained = {"0.bias", "2.weight"}
    assert set(model.parameters) == trained
    moved = model.with_parameter_vector(model.parameter_vector + 1)
    for name, tensor in moved.network.state_dict().items():
        assert torch.equal(tensor, model.network.state_dict()[name]) == (name not in trained)
    model.weighted_gradient(examples)
    assert all(parameter.grad is None for parameter in model.network.parameters())


def test_tied_parameters_count_once_and_stay_tied() -> None:
    model = make_model("tied")
    assert list(model.parameters) == ["first.weight", "second.bias", "last.weight", "last.bias"]
    assert len(model.parameter_vector) == 16 + 4 + 12 + 3
    moved = model.with_parameter_vector(model.parameter_vector + 1)
    assert moved.network.second.weight is moved.network.first.weight
    assert_equal(moved.network.second.weight.detach(), model.network.first.weight.detach() + 1)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_parameter_vector_round_trip(network: str) -> None:
    model, examples = make_model(network), make_examples(network)
    before = state_bytes(model)
    vector = torch.from_numpy(weights(len(model.parameter_vector)))
    moved = model.with_parameter_vector(vector)
    assert torch.equal(moved.parameter_vector, vector)
    assert state_bytes(model) == before
    back = moved.with_parameter_vector(model.parameter_vector)
    assert state_bytes(back) == before
    assert torch.equal(back.outputs(examples), model.outputs(examples))


def test_split_follows_the_order_of_the_vector() -> None:
    model = make_model()
    pieces = model.split(model.parameter_vector)
    assert list(pieces) == [name for name, _ in model.network.named_parameters()]
    for name, parameter in model.network.named_parameters():
        assert torch.equal(pieces[name], parameter)


def test_models_and_vectors_share_no_memory() -> None:
    model = make_model()
    vector = model.parameter_vector
    moved, copied = model.with_parameter_vector(vector), model.copy()
    before = state_bytes(model)
    vector += 1
    assert state_bytes(moved) == state_bytes(copied) == state_bytes(model) == before
    with torch.no_grad():
        for parameter in moved.network.parameters():
            parameter += 1
    assert state_bytes(model) == state_bytes(copied) == before


def test_a_column_of_a_matrix_is_a_vector_too() -> None:
    model, examples = make_model(), make_examples()
    columns = torch.from_numpy(weights(2 * len(model.parameter_vector))).reshape(-1, 2)
    vector = columns[:, 1]
    assert not vector.is_contiguous()
    assert torch.equal(model.with_parameter_vector(vector).parameter_vector, vector)
    assert_equal(
        model.directional_derivatives(examples, vector), per_example_gradients(model, examples) @ vector
    )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_parameters_that_are_not_finite_are_refused(bad: float) -> None:
    model = make_model()
    vector = model.parameter_vector
    vector[[3, 8]] = bad
    with pytest.raises(RepairError, match=r"2 of 51 parameters .* NaN or infinite: use a smaller step"):
        model.with_parameter_vector(vector)


def test_parameters_that_overflow_are_refused() -> None:
    model = make_model(dtype=torch.float32)
    vector = model.parameter_vector.double()
    vector[0] = 1e300
    with pytest.raises(RepairError, match="1 of 51 parameters"):
        model.with_parameter_vector(vector)


def test_measures_are_those_of_the_likelihood() -> None:
    model, examples = make_model(batch_size=5), make_examples()
    inputs, targets = examples.batch(slice(None), dtype=torch.float64)
    outputs = model.network(inputs).detach()
    assert_equal(model.outputs(examples), outputs)
    assert_equal(model.log_likelihoods(examples), Softmax().log_likelihood(outputs, targets))
    assert_equal(model.margins(examples), Softmax().margin(outputs, targets))
    assert model.correct(examples).tolist() == (outputs.argmax(dim=1) == targets).double().tolist()
    assert model.accuracy(examples) == pytest.approx(
        float((outputs.argmax(dim=1) == targets).double().mean()), rel=1e-15
    )
    assert model.mean_log_likelihood(examples) == pytest.approx(
        float(Softmax().log_likelihood(outputs, targets).mean()), rel=1e-14
    )
    assert math.isnan(model.accuracy(examples.subset([])))


def test_float32_models_take_float64_inputs() -> None:
    model, precise = make_model(dtype=torch.float32), make_model()
    examples: Examples = make_examples()
    assert model.weighted_gradient(examples, weights(23)).dtype == torch.float32
    assert_equal(
        model.weighted_gradient(examples, weights(23)).double(),
        precise.weighted_gradient(examples, weights(23)),
        1e-5,
    )
