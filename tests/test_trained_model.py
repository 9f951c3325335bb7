"""A trained model against gradients computed one example at a time, in float64 to 1e-12."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline import processes
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


# Networks that are not what they seem.


def model_of(network: nn.Module) -> TrainedModel:
    return TrainedModel(network.double(), Softmax(), device="cpu", batch_size=5)


def single_gradients(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, d) by one backward pass an example, of the network as it is."""
    rows = []
    for position in range(len(examples)):
        inputs, targets = examples.batch([position], dtype=model.dtype)
        value = -F.cross_entropy(model.network(inputs), targets)
        slopes = torch.autograd.grad(value, list(model.parameters.values()), materialize_grads=True)
        rows.append(torch.cat([slope.flatten() for slope in slopes]))
    return torch.stack(rows)


class SharedTwice(nn.Module):
    """One module under two names, with a parameter under two more."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Linear(4, 4)
        self.again = self.core
        self.weight = self.core.weight
        self.twin = self.weight
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(torch.tanh(self.again(torch.tanh(self.core(inputs))) @ self.twin) @ self.weight)


def under_two_names() -> nn.Module:
    twice = nn.Linear(4, 4)
    return nn.Sequential(twice, nn.Tanh(), twice, nn.Linear(4, 3))


@pytest.mark.parametrize("make", [under_two_names, SharedTwice])
def test_reading_leaves_a_network_whole_whose_modules_have_two_names(make: Any) -> None:
    model, examples = model_of(make()), make_examples()
    before = state_bytes(model)
    direction = torch.from_numpy(weights(35))
    derivatives = model.directional_derivatives(examples, direction)
    assert len(model.parameter_vector) == 35
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.network.parameters())
    assert state_bytes(model) == before == state_bytes(model.copy())
    assert_equal(derivatives, single_gradients(model, examples) @ direction)
    moved = model.with_parameter_vector(model.parameter_vector + 1)
    there = model.outputs_at(
        model.split(model.parameter_vector + 1), examples.batch(slice(None), dtype=model.dtype)[0]
    )
    assert_equal(there, moved.outputs(examples))
    assert state_bytes(model) == before


def test_a_network_that_changes_its_inputs_is_read_as_any_other() -> None:
    class Shifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(inputs.sub_(1))

    model, examples = model_of(Shifting()), make_examples()
    plain = TrainedModel(model.network.last, Softmax(), device="cpu")
    shifted = Examples(examples.inputs - 1, examples.targets)
    direction = torch.from_numpy(weights(15))
    for measure in ("outputs", "log_likelihoods", "weighted_gradient"):
        assert_equal(getattr(model, measure)(examples), getattr(plain, measure)(shifted))
    assert_equal(
        model.directional_derivatives(examples, direction), plain.directional_derivatives(shifted, direction)
    )


class Coupled(nn.Module):
    """Each output lacks a share of what the batch has on average."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.share = share

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.last(inputs)
        return outputs - self.share * outputs.mean(0)


class Pairs(nn.Module):
    """Only neighbours in a batch influence each other."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs = self.last(inputs)
        partner = [
            position ^ 1 if position ^ 1 < len(inputs) else position for position in range(len(inputs))
        ]
        return outputs + outputs[partner]


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(F.dropout(inputs))


class Counting(nn.Module):
    """What it says depends on how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        return self.last(inputs) * (1 + 1e-12 * self.calls)


class Stubborn(nn.Module):
    """A network that computes in float32 whatever it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(inputs.float())


def tokens(**options: Any) -> nn.Module:
    return nn.Sequential(nn.Embedding(7, 4, **options), nn.Flatten(), nn.Linear(12, 3))


def token_examples() -> Examples:
    draw = np.random.default_rng(0)
    return Examples(draw.integers(0, 7, (23, 3)), draw.integers(0, 3, 23))


MEASURES = (
    "outputs",
    "log_likelihoods",
    "margins",
    "correct",
    "weighted_gradient",
    "directional_derivatives",
)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Coupled(1.0), "differ when others run with them, so examples influence each other"),
        (Coupled(1e-4), "differ when others run with them, so examples influence each other"),
        (Pairs(), "differ when others run with them, so examples influence each other"),
        (
            nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)),
            "layer 0 normalises by the statistics of the batch, so examples influence each other",
        ),
        (Dropping(), "says something else when it runs again, so results would depend on when"),
        (Counting(), "parameters or buffers of the network change as it runs"),
        (Stubborn(), "the network cannot run inputs of shape .* float64"),
        (tokens(max_norm=1.0), "layer 0 shortens its own weights"),
        (tokens(scale_grad_by_freq=True), "layer 0 divides gradients by how often the batch holds a token"),
        (nn.Sequential(nn.Linear(4, 3), nn.Flatten(0)), r"outputs for 4 examples are \(12,\): wrap it"),
        (nn.Linear(5, 3), "the network cannot run inputs of shape"),
    ],
    ids=[
        "coupled",
        "coupled a little",
        "pairs",
        "batch statistics",
        "dropping",
        "counting",
        "stubborn",
        "max norm",
        "by frequency",
        "flat",
        "too few features",
    ],
)
def test_networks_that_do_not_treat_examples_one_by_one_are_refused(
    network: nn.Module, words: str, measure: str
) -> None:
    model = model_of(copy.deepcopy(network))
    takes_tokens = any(isinstance(module, nn.Embedding) for module in network.modules())
    examples = token_examples() if takes_tokens else make_examples()
    extra = (model.parameter_vector,) if measure == "directional_derivatives" else ()
    with pytest.raises(RepairError, match=words):
        getattr(model, measure)(examples, *extra)


def test_rearranging_a_batch_harms_no_example() -> None:
    layers = [
        nn.Unflatten(1, (2, 2)),
        nn.Flatten(0, 1),
        nn.Unflatten(0, (-1, 2)),
        nn.Flatten(),
        nn.Linear(4, 3),
    ]
    model, examples = model_of(nn.Sequential(*layers)), make_examples()
    assert_equal(model.outputs(examples), model_of(layers[-1]).outputs(examples))


def test_a_network_is_probed_once_and_as_soon_as_it_shows_what_it_does() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = Coupled(1.0), nn.Linear(3, 3)
            self.sizes: list[int] = []

        def forward(self, inputs: Tensor) -> Tensor:
            self.sizes.append(len(inputs))
            return self.last(self.first(inputs))

    network = Watched()
    for parameter in network.last.parameters():
        nn.init.zeros_(parameter)
    model, examples = model_of(network), make_examples()
    # All outputs are alike yet, so nothing is known.
    model.outputs(examples)
    moved = model.with_parameter_vector(torch.ones_like(model.parameter_vector) / 3)
    nn.init.normal_(moved.network.last.weight)
    with pytest.raises(RepairError, match="examples influence each other"):
        moved.outputs(examples)
    moved.network.first.share = 0.0
    moved.network.sizes.clear()
    moved.outputs(examples)
    assert moved.network.sizes == [4, 3, 1, 5, 5, 5, 5, 3]
    again = moved.copy()
    again.network.sizes.clear()
    again.log_likelihoods(examples)
    assert again.network.sizes == [5, 5, 5, 5, 3]


def test_outputs_of_a_wrong_shape_are_refused() -> None:
    """As many positions as examples would make each position's weight another example's."""
    sequence = nn.Sequential(nn.Unflatten(1, (4, 1)), nn.Conv1d(4, 3, 1), nn.Upsample(23))
    draw = np.random.default_rng(0)
    examples = Examples(draw.normal(size=(23, 4)), draw.integers(0, 3, (23, 23)))
    model = model_of(sequence)
    for refused in (
        lambda: model.log_likelihoods(examples),
        lambda: model.weighted_gradient(examples, weights(23)),
        lambda: model.directional_derivatives(examples, model.parameter_vector),
    ):
        with pytest.raises(
            RepairError, match=r"outputs of shape \(5, 3, 23\) met targets of shape \(5, 23\)"
        ):
            refused()

    class EachOutput(Softmax):
        name = "each output"

        def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
            return outputs

    other = TrainedModel(nn.Linear(4, 23).double(), EachOutput(), device="cpu")
    for refused in (
        lambda: other.log_likelihoods(make_examples()),
        lambda: other.weighted_gradient(make_examples(), weights(23)),
        lambda: other.directional_derivatives(make_examples(), other.parameter_vector),
    ):
        with pytest.raises(RepairError, match=r"each output makes numbers of shape \(23, 23\): give"):
            refused()


# What is given.


@pytest.mark.parametrize("wrong", [np.ones(1), np.ones(24), np.ones((23, 1)), np.full(23, np.nan), 1.0])
def test_weights_that_are_not_one_for_each_example_are_refused(wrong: Any) -> None:
    with pytest.raises(RepairError, match="were given for 23 examples: give one finite number for each"):
        make_model().weighted_gradient(make_examples(), wrong)


@pytest.mark.parametrize("shape", [(50,), (52,), (1,), (51, 1)])
def test_vectors_of_another_length_are_refused(shape: tuple[int, ...]) -> None:
    model, vector = make_model(), torch.ones(shape, dtype=torch.float64)
    for refused in (
        lambda: model.split(vector),
        lambda: model.with_parameter_vector(vector),
        lambda: model.directional_derivatives(make_examples(), vector),
    ):
        with pytest.raises(RepairError, match="for the 51 trainable parameters of this model"):
            refused()


class Cramped(nn.Module):
    """A network on a device with no memory for more than so many examples."""

    def __init__(self, network: nn.Module, room: int) -> None:
        super().__init__()
        self.network, self.room = network, room

    def forward(self, inputs: Tensor) -> Tensor:
        if len(inputs) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        outputs: Tensor = self.network(inputs)
        return outputs


MEASURES: dict[str, Callable[[TrainedModel, Examples], Tensor]] = {
    "outputs": TrainedModel.outputs,
    "log-likelihoods": TrainedModel.log_likelihoods,
    "gradient": TrainedModel.weighted_gradient,
    "derivatives": lambda model, examples: model.directional_derivatives(
        examples, torch.linspace(-1, 1, len(model.parameter_vector), dtype=model.dtype)
    ),
}


@pytest.mark.parametrize("name", MEASURES)
def test_batches_are_halved_until_there_is_memory_for_them(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole, examples = make_model("mlp"), make_examples("mlp")
    assert len(examples) == 23
    model = TrainedModel(Cramped(make_model("mlp").network, 6), Softmax(), device="cpu", batch_size=23)
    assert_equal(MEASURES[name](model, examples), MEASURES[name](whole, examples))
    assert model.batch_size == 6
    assert caplog.messages == [
        f"cpu has no memory for {before} examples at a time: going on with {after}"
        for before, after in ((23, 12), (12, 6))
    ]


def test_no_memory_for_one_example_or_for_each_of_several_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = TrainedModel(Cramped(make_model("mlp").network, 0), Softmax(), device="cpu", batch_size=4)
    with pytest.raises(RepairError, match=r"cpu has no memory for a single example \(CUDA out of memory"):
        model.log_likelihoods(make_examples("mlp"))
    model.batch_size = 4
    monkeypatch.setattr(processes, "_group", processes._Group(number=0, count=2, here=2))
    with pytest.raises(RepairError, match=r"no memory for 4 examples at a time of each process .* fewer"):
        model.log_likelihoods(make_examples("mlp"))


@pytest.mark.parametrize("batch_size", [0, -5, 2.0, True])
def test_batch_sizes_that_are_none_are_refused(batch_size: Any) -> None:
    with pytest.raises(RepairError, match="batch_size is"):
        TrainedModel(nn.Linear(4, 3), Softmax(), batch_size=batch_size, device="cpu")


def test_parameters_of_several_types_are_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4).half(), nn.Linear(4, 3))
    with pytest.raises(RepairError, match="parameters are of types float16, float32: convert it to one"):
        TrainedModel(network, Softmax(), device="cpu")


def test_no_examples_have_no_numbers() -> None:
    model, nobody = make_model(), make_examples().subset([])
    for measure in ("log_likelihoods", "margins", "correct"):
        assert_equal(getattr(model, measure)(nobody), torch.zeros(0, dtype=torch.float64))
    assert_equal(model.weighted_gradient(nobody), torch.zeros(51, dtype=torch.float64))
    assert model.directional_derivatives(nobody, model.parameter_vector).shape == (0,)
    assert math.isnan(model.mean_log_likelihood(nobody))
    with pytest.raises(RepairError, match="outputs were asked for of no examples"):
        model.outputs(nobody)


def test_in_another_type_a_model_is_the_same() -> None:
    model = make_model("normalised", dtype=torch.float32)
    double = model.in_dtype(torch.float64)
    assert model.in_dtype(torch.float32) is model
    assert double.dtype == torch.float64
    assert model.dtype == torch.float32
    for name, tensor in double.network.state_dict().items():
        assert torch.equal(tensor, model.network.state_dict()[name].to(tensor.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ids_reach_a_network_whole_whatever_its_type(dtype: torch.dtype) -> None:
    """Half precision has no 2,049, and bytes that are no images are no shares of 255."""
    network = nn.Embedding(3000, 3).to(dtype)
    for kind in (np.int64, np.int32, np.uint16):
        examples = Examples(np.array([0, 1, 2047, 2049, 2999], dtype=kind), np.array([0, 1, 2, 0, 1]))
        found = TrainedModel(network, Softmax(), device="cpu").outputs(examples)
        assert torch.equal(found, network.weight[[0, 1, 2047, 2049, 2999]])
    bytes_ = Examples(np.array([0, 1, 200, 255], dtype=np.uint8), np.zeros(4, dtype=np.int64))
    assert torch.equal(
        TrainedModel(network, Softmax(), device="cpu").outputs(bytes_), network.weight[[0, 1, 200, 255]]
    )
