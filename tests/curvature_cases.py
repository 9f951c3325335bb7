"""Small float64 networks of every kind of layer, and their gradients written out by torch.func alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel

CLASSES = 3


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Several threads only get in each other's way on networks as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Shared(nn.Module):
    """One layer called twice, and one weight tied to two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(5, 5)
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.last = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(torch.tanh(self.twice(x)))
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Unowned(nn.Module):
    """Parameters that no layer owns, a weight used outside its layer, a frozen and an unused one."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 5))
        self.inner = nn.Linear(5, 4)
        self.frozen = nn.Linear(5, 5).requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(self.scale * self.frozen(x)))
        return self.last(F.linear(hidden, self.inner.weight.T))


class Sequence(nn.Module):
    """Embedding, layer normalisation and a linear layer applied at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.each = nn.Linear(4, 6)
        self.last = nn.Linear(6, CLASSES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.each(self.norm(self.embedding(x.long())))).mean(1))


class Coupled(nn.Module):
    """Every example's output depends on the others'."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 4)
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(torch.tanh(hidden - hidden.mean(0)))


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, (3, 2), groups=2, dilation=(1, 2), padding="same", padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(6, 5, 2, bias=False),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5, CLASSES),
    )


def _normalised() -> nn.Module:
    return nn.Sequential(
        nn.InstanceNorm2d(2, affine=True),
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.GroupNorm(2, 4),
        nn.Conv2d(4, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.BatchNorm1d(4, affine=True),
        nn.Linear(4, CLASSES),
    )


def _wide_ends() -> nn.Module:
    """A convolution whose few positions make its factors cheaper than its gradients."""
    return nn.Sequential(nn.Conv2d(2, 25, 5), nn.Tanh(), nn.Flatten(), nn.Linear(100, CLASSES))


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, CLASSES)), (4,)),
    "convolutions": (_convolutions, (2, 8, 8)),
    "few-positions": (_wide_ends, (2, 6, 6)),
    "one-dimensional": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, padding=1, stride=2), nn.Flatten(), nn.Linear(12, CLASSES)),
        (2, 8),
    ),
    "three-dimensional": (
        lambda: nn.Sequential(nn.Conv3d(1, 2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(16, CLASSES)),
        (1, 3, 3, 3),
    ),
    "normalised": (_normalised, (2, 6, 6)),
    "shared": (Shared, (5,)),
    "unowned": (Unowned, (5,)),
    "sequence": (Sequence, (6,)),
}


def make_case(
    name: str, count: int = 23, *, batch_size: int = 7, dtype: torch.dtype = torch.float64
) -> tuple[TrainedModel, Examples]:
    """A network of that name at random parameters and statistics, and random examples."""
    make, shape = CASES[name]
    return make_model(make, batch_size=batch_size, dtype=dtype), make_examples(
        shape, count, name == "sequence"
    )


def make_model(
    make: Callable[[], nn.Module], *, batch_size: int = 7, dtype: torch.dtype = torch.float64
) -> TrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().to(dtype)
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm | nn.LayerNorm):
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return TrainedModel(network, Softmax(), batch_size=batch_size, device="cpu")


def make_examples(shape: tuple[int, ...], count: int, tokens: bool = False) -> Examples:
    random = np.random.default_rng(0)
    inputs = random.integers(7, size=(count, *shape)) if tokens else random.normal(size=(count, *shape))
    return Examples(inputs.astype(np.float64), random.integers(CLASSES, size=count))


def dense_gradients(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, d) ∇ log p(yᵢ | xᵢ, θ̂), one example at a time."""
    inputs, targets = examples.batch(slice(None), dtype=model.dtype)
    values = {name: p.detach() for name, p in model.parameters.items()}

    def log_likelihood(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model.network, values, (x.unsqueeze(0),))
        return -F.cross_entropy(outputs, y.unsqueeze(0))

    rows = vmap(grad(log_likelihood), in_dims=(None, 0, 0))(values, inputs, targets)
    return torch.cat([rows[name].flatten(1) for name in values], dim=1)


def dense_fisher(gradients: Tensor, damping: float, minibatch: int = 1) -> Tensor:
    """(d, d) λI + (1/n) Σ s sᵀ over sums s of `minibatch` consecutive rows."""
    sums = torch.stack([part.sum(0) for part in gradients.split(minibatch)])
    return damping * torch.eye(gradients.shape[1], dtype=gradients.dtype) + sums.T @ sums / len(gradients)


def directions(model: TrainedModel, count: int | None = None) -> Tensor:
    """(d,) or (d, count) fixed random numbers."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(model.parameter_vector),) if count is None else (len(model.parameter_vector), count)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))
