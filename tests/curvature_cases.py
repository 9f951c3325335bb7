"""Small float64 networks of every kind of layer, and their gradients written out by torch.func alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

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


class Function(nn.Module):
    """A function of the inputs, with modules that it uses."""

    def __init__(
        self, function: Callable[..., Tensor], *modules: nn.Module, **parameters: nn.Parameter
    ) -> None:
        super().__init__()
        self.function = function
        self.inner = nn.ModuleList(modules)
        for name, parameter in parameters.items():
            self.register_parameter(name, parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.inner, **dict(self.named_parameters(recurse=False)))


class LowRankAdapted(nn.Linear):
    """A linear layer with an addition of low rank to its weight."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__(features, out)
        self.down = nn.Parameter(torch.randn(1, features))
        self.up = nn.Parameter(torch.randn(out, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.up @ self.down, self.bias)


class Mixture(nn.Module):
    """Each example goes through the expert of its largest score; experts that get none do not run."""

    def __init__(self, features: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(features, experts)
        self.experts = nn.ModuleList(nn.Linear(features, features) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x).softmax(1)
        chosen = scores.argmax(1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            reached = chosen == number
            if reached.any():
                out[reached] = scores[reached, number, None] * expert(x[reached]).tanh()
        return out


class GatedMixture(Mixture):
    """The same with all experts run, and all but one multiplied by 0."""

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x).softmax(1)
        open_gates = F.one_hot(scores.argmax(1), len(self.experts)) * scores
        each = torch.stack([expert(x).tanh() for expert in self.experts], dim=1)
        return (open_gates.unsqueeze(2) * each).sum(1)


class Sorted(nn.Module):
    """A layer that sees the examples in the order of their values."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort()
        return self.layer(x[order])[order.argsort()]


class AttentionPool(nn.Module):
    """(n, L, F) to (n, F) by a learned query."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(features))
        self.key = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return ((self.key(x) @ self.query).softmax(1).unsqueeze(2) * x).sum(1)


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


class Loop:
    """What the library computes, one example after the other and with dense matrices.

    Attributes:
        gradients: (n, d) G.
        hessian: (d, k) −(1/n) Σ ∇² log p(yᵢ | xᵢ) times vectors; None where PyTorch has no second derivative.
        ggn: (d, k) the same of the Gauss-Newton matrix.
    """

    def __init__(self, model: TrainedModel, examples: Examples, vectors: Tensor | None = None) -> None:
        vectors = torch.zeros(len(model.parameter_vector), 0) if vectors is None else vectors
        vectors = vectors.to(model.dtype)
        parameters = list(model.parameters.values())

        def flat(found: tuple[Tensor, ...]) -> Tensor:
            return torch.cat([gradient.reshape(-1) for gradient in found])

        def gradient(value: Tensor, again: bool = False) -> Tensor:
            return flat(
                torch.autograd.grad(
                    value, parameters, create_graph=again, retain_graph=True, materialize_grads=True
                )
            )

        rows = []
        self.ggn = torch.zeros_like(vectors)
        hessian: Tensor | None = torch.zeros_like(vectors)
        for i in range(len(examples)):
            inputs, targets = examples.batch(slice(i, i + 1), dtype=torch.float64)
            with sdpa_kernel(SDPBackend.MATH):
                # Of two alike: PyTorch has wrong gradients of an instance normalisation for one alone.
                outputs = model.network(torch.cat([inputs, inputs]))[:1]
            if model.likelihood.name == "softmax":
                classes = targets if targets.ndim == 2 else F.one_hot(targets, CLASSES)
                value = (classes * outputs.log_softmax(1)).sum()
                chances = outputs.detach().softmax(1)[0]
                curved = chances.diag() - torch.outer(chances, chances)
            else:
                value = (targets * F.logsigmoid(outputs) + (1 - targets) * F.logsigmoid(-outputs)).sum()
                chances = outputs.detach().sigmoid()[0]
                curved = (chances * (1 - chances)).diag()
            rows.append(gradient(value))
            if not vectors.numel():
                continue
            jacobian = torch.stack([gradient(output) for output in outputs[0]])
            self.ggn += jacobian.T @ curved @ jacobian @ vectors / len(examples)
            try:
                slopes = gradient(value, again=True)
                seconds = [
                    gradient(slopes @ v) if slopes.requires_grad else torch.zeros_like(v) for v in vectors.T
                ]
            except RuntimeError:
                hessian = None
            if hessian is not None:
                hessian -= torch.stack(seconds, dim=1) / len(examples)
        self.gradients = torch.stack(rows)
        self.hessian = hessian

    def fisher(self, minibatch: int = 1) -> Tensor:
        """(d, d) (1/n) Σ s sᵀ over sums s of `minibatch` consecutive rows."""
        sums = torch.stack([part.sum(0) for part in self.gradients.split(minibatch)])
        return sums.T @ sums / len(self.gradients)


def directions(model: TrainedModel, count: int | None = None) -> Tensor:
    """(d,) or (d, count) fixed random numbers."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(model.parameter_vector),) if count is None else (len(model.parameter_vector), count)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(model.dtype)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.vector_norm(found - expected) / torch.linalg.vector_norm(expected))
