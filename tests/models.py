"""What the tests of several families share: small networks and problems in float64, a Gaussian likelihood, and
dense computations of what the library computes without a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, vmap

from modelrepair.curvature import Curvature
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Likelihood, Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """For every test of a module that imports this: problems so small only lose by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Gaussian:
    """Real outputs with unit noise: a likelihood that the library does not have, and must not need to know."""

    name = "gaussian"

    def log_likelihood(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return -0.5 * ((outputs - targets).square() + math.log(2 * math.pi)).sum(dim=1)

    def chance(self, outputs: Tensor) -> float:
        return -math.inf

    def even_odds(self, outputs: Tensor) -> float:
        return -math.inf

    def probabilities(self, outputs: Tensor) -> Tensor:
        return outputs

    def predictions(self, outputs: Tensor) -> Tensor:
        return outputs

    def correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets).abs() < 1).to(outputs.dtype).mean(dim=1)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (1 - (outputs - targets).abs()).amin(dim=1)


class DenseCurvature(Curvature):
    """λI + M with any matrix M (d, d)."""

    name = "dense"

    def __init__(self, matrix: Tensor, damping: float = 0.0) -> None:
        self.matrix = matrix
        self.damping = damping

    @classmethod
    def fit(cls, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        """The empirical Fisher, from gradients computed one by one."""
        gradients = per_example_gradients(model, examples)
        return cls(gradients.T @ gradients / len(examples))

    def damped(self, damping: float) -> Self:
        return type(self)(self.matrix, damping)

    @property
    def whole(self) -> Tensor:
        """(d, d) F̂."""
        return self.matrix + self.damping * torch.eye(len(self.matrix), dtype=self.matrix.dtype)

    def matvec(self, vector: Tensor) -> Tensor:
        return self.whole @ vector

    def solve(self, vector: Tensor) -> Tensor:
        return torch.linalg.solve(self.whole, vector)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, model: TrainedModel, examples: Examples, **options: Any) -> Self:
        raise NotImplementedError


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.last = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(self.second(self.first(inputs).tanh()).tanh())


class Contraction(nn.Module):
    """A layer of nobody's kind, whose gradient is laid out in memory in another order than its parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.core = nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.einsum("ni,oij->no", inputs, self.core)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def frozen() -> nn.Sequential:
    """A network whose first weight and last bias are not trained."""
    network = mlp()
    network[0].weight.requires_grad_(False)
    network[2].bias.requires_grad_(False)
    return network


def normalised() -> nn.Sequential:
    """A network with batch normalisation whose statistics are not those of a fresh one."""
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 3)
    )
    for _ in range(5):
        network(2 * torch.randn(16, 2, 6, 6) + 1)
    return network


def dropping() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


def channels_last() -> nn.Module:
    return normalised().to(memory_format=torch.channels_last)


def lenet5() -> nn.Module:
    return make_network("lenet5", (1, 12, 12), 3, seed=0)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "channels-last": (channels_last, (2, 6, 6)),
    "contraction": (Contraction, (4,)),
    "dropping": (dropping, (4,)),
    "frozen": (frozen, (4,)),
    "lenet5": (lenet5, (1, 12, 12)),
    "mlp": (mlp, (4,)),
    "normalised": (normalised, (2, 6, 6)),
    "tied": (Tied, (4,)),
}
"""Networks with 3 outputs, and the shape of their inputs."""

LIKELIHOODS: dict[str, Callable[[], Likelihood]] = {
    "gaussian": Gaussian,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
}


def make_model(
    network: str = "mlp",
    likelihood: str = "softmax",
    *,
    seed: int = 0,
    batch_size: int = 500,
    dtype: torch.dtype = torch.float64,
) -> TrainedModel:
    """One of `NETWORKS`, with random parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = NETWORKS[network][0]().to(dtype)
    return TrainedModel(made, LIKELIHOODS[likelihood](), batch_size=batch_size, device="cpu")


def make_examples(
    network: str = "mlp", likelihood: str = "softmax", *, count: int = 23, seed: int = 0
) -> Examples:
    """Random inputs with random targets that such a network can have."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(count, *NETWORKS[network][1]))
    targets = {
        "gaussian": draw.normal(size=(count, 3)),
        "sigmoid": draw.integers(0, 2, (count, 3)).astype(np.float64),
        "softmax": draw.integers(0, 3, count),
    }
    return Examples(inputs, targets[likelihood])


def log_likelihoods(model: TrainedModel, examples: Examples) -> Callable[[dict[str, Tensor]], Tensor]:
    """(n,) log p(y | x, θ) as a function of the named parameters."""
    inputs, targets = examples.batch(slice(None), dtype=model.dtype)

    def function(parameters: dict[str, Tensor]) -> Tensor:
        return model.likelihood.log_likelihood(functional_call(model.network, parameters, (inputs,)), targets)

    return function


def per_example_gradients(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, d) ∇ log p(y | x, θ̂), one example at a time."""
    parameters = {name: parameter.detach() for name, parameter in model.parameters.items()}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model.network, values, (x.unsqueeze(0),))
        return model.likelihood.log_likelihood(outputs, y.unsqueeze(0)).squeeze(0)

    gradients = vmap(grad(one), in_dims=(None, 0, 0))(
        parameters, *examples.batch(slice(None), dtype=model.dtype)
    )
    return torch.cat([gradients[name].reshape(len(examples), -1) for name in parameters], dim=1)


def negative_hessian(model: TrainedModel, examples: Examples, weights: Tensor | None = None) -> Tensor:
    """(d, d) −∇² Σ wᵢ log p(yᵢ | xᵢ, θ̂); all weights are 1 by default."""
    function = log_likelihoods(model, examples)
    counts = torch.ones(len(examples), dtype=model.dtype) if weights is None else weights
    return -hessian(lambda vector: counts @ function(model.split(vector)))(model.parameter_vector)


def with_prior_mode(
    model: TrainedModel, examples: Examples, prior: float, weights: Tensor | None = None
) -> TrainedModel:
    """The model at the maximum of Σ wᵢ log p(yᵢ | xᵢ, θ) − (prior/2)‖θ‖², which must be concave, by Newton's method."""
    identity = torch.eye(len(model.parameter_vector), dtype=model.dtype)
    counts = torch.ones(len(examples), dtype=model.dtype) if weights is None else weights
    model = model.with_parameter_vector(torch.zeros_like(model.parameter_vector))
    for _ in range(50):
        vector = model.parameter_vector
        slope = counts @ per_example_gradients(model, examples) - prior * vector
        if float(slope.abs().max()) < 1e-11:
            return model
        step = torch.linalg.solve(negative_hessian(model, examples, counts) + prior * identity, slope)
        model = model.with_parameter_vector(vector + step)
    raise AssertionError(f"no maximum was found: the slope is still {float(slope.abs().max()):.1e}")


def linear_gaussian(count: int = 40, features: int = 4, *, seed: int = 0) -> tuple[TrainedModel, Examples]:
    """An untrained linear-Gaussian model with one output, and noisy examples for it."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(count, features))
    targets = inputs @ np.linspace(-1, 2, features)[:, None] + draw.normal(size=(count, 1))
    network = make_network("linear", (features,), 1, seed=seed).double()
    return TrainedModel(network, Gaussian(), device="cpu"), Examples(inputs, targets)


def union(first: Examples, second: Examples) -> Examples:
    return Examples(
        np.concatenate([first.inputs, second.inputs]), np.concatenate([first.targets, second.targets])
    )


def prior_curvature(model: TrainedModel, examples: Examples, prior: float) -> DenseCurvature:
    """The Hessian of the mean of −log p over these examples plus the prior's share of (prior/2)‖θ‖²."""
    return DenseCurvature(negative_hessian(model, examples) / len(examples), prior / len(examples))


def blobs(count: int, *, flipped: float = 0.0, seed: int = 0) -> tuple[Examples, NDArray[np.int64]]:
    """Two overlapping clouds in the plane with class numbers, and the positions of those that were swapped."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    inputs = draw.normal(size=(count, 2)) + np.where(labels == 1, 1.2, -1.2)[:, None]
    swapped = np.sort(draw.choice(count, round(flipped * count), replace=False))
    labels[swapped] = 1 - labels[swapped]
    return Examples(inputs, labels), swapped


def state_bytes(model: TrainedModel) -> dict[str, bytes]:
    """Every parameter and buffer, to the byte."""
    return {name: tensor.cpu().numpy().tobytes() for name, tensor in model.network.state_dict().items()}


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Equal shapes and dtypes, and entries to this relative and absolute tolerance."""
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
