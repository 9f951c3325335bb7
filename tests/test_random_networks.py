"""Random networks of the layers that PyTorch has: every operator against a loop over the examples, in float64.

A draw ends in one of two ways: all results are equal to those of the loop to 1e-8, or a layer for which PyTorch has
no derivative of the needed kind is refused by name. Gradients of single examples must always be had.

    python tests/test_random_networks.py --draws 2000 [--first 0]

tries many more networks than the suite does and names those that fail.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from curvature_cases import (
    CLASSES,
    AttentionPool,
    Function,
    GatedMixture,
    Loop,
    LowRankAdapted,
    Mixture,
    Sorted,
    one_thread,  # noqa: F401
)
from modelrepair.base_training.train import train
from modelrepair.curvature import (
    BlockFisher,
    ConjugateGradient,
    DiagonalFisher,
    EigenvalueCorrectedFisher,
    GramFisher,
    Hessian,
    KroneckerFisher,
)
from modelrepair.errors import RepairError
from modelrepair.gradients.products import matrix_product
from modelrepair.models.differentiable import IN_PLACE
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Likelihood, Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.training.descent import Descent

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated"),
]

DRAWS = 24
TELLING = (1022, 1064, 3096, 6842, 100304)
"""Further draws, each of which once showed a fault."""
FURTHER = 1_000_000
"""Draws from here on have signals and volumes, and further layers, among those of the others."""
TOLERANCE = 1e-8
TOKENS = 7
NO_FORWARD_MODE = ("embedding_bag", "weight_norm", "WeightNorm", "cdist")
"""What PyTorch cannot differentiate in forward mode: it may be refused where that is needed."""
MOST_PARAMETERS = 400

Shape = tuple[int, ...]
Random = np.random.Generator


def pick(random: Random, *choices: Any) -> Any:
    return choices[random.integers(len(choices))]


def vector_layer(random: Random, shape: Shape) -> tuple[nn.Module, Shape]:
    """(n, F) to (n, F')."""
    (features,) = shape
    out = int(random.integers(2, 6))
    linear = nn.Linear(features, out, bias=pick(random, True, True, False))
    square = nn.Linear(features, features)
    tied = nn.Linear(features, features, bias=pick(random, True, False))
    tied.weight = square.weight
    changes: list[Callable[[], nn.Module]] = [
        lambda: linear,
        lambda: LowRankAdapted(features, out),
        lambda: nn.utils.parametrizations.weight_norm(linear, dim=pick(random, 0, None)),
        lambda: nn.utils.weight_norm(linear),
        lambda: nn.utils.parametrizations.spectral_norm(linear),
        lambda: Function(lambda x, layer: layer(x, x.tanh()), nn.Bilinear(features, features, out)),
        lambda: Function(lambda x, cell: cell(x)[0], nn.LSTMCell(features, out)),
        lambda: nn.GRUCell(features, out),
        lambda: Function(lambda x, layer: layer(x.reshape(-1)[: x.numel()].view(len(x), -1)), linear),
        lambda: Function(lambda x, layer: layer(x.unsqueeze(0)).squeeze(0), linear),
    ]
    keeps: list[Callable[[], nn.Module]] = [
        lambda: nn.PReLU(pick(random, 1, features)),
        lambda: nn.BatchNorm1d(features),
        lambda: nn.LayerNorm(features),
        lambda: nn.RMSNorm(features, eps=1e-5),
        # Of one number there is nothing to normalise.
        lambda: nn.GroupNorm(1, features) if features > 1 else nn.Identity(),
        lambda: pick(random, nn.Tanh(), nn.ReLU(inplace=True), nn.GELU(), nn.Dropout(), nn.Softplus()),
        lambda: Function(lambda x, layer: x + layer(x).tanh(), square),
        lambda: Function(lambda x, gate: gate * x, gate=nn.Parameter(torch.tensor(0.7))),
        lambda: Function(lambda x, heat: x / heat.exp(), heat=nn.Parameter(torch.tensor(0.3))),
        lambda: Function(lambda x, layer: layer(layer(x).tanh()), square),
        lambda: Function(lambda x, first, second: second(first(x).tanh()), square, tied),
        lambda: Function(lambda x, layer: F.linear(layer(x).tanh(), layer.weight.T), square),
        lambda: Function(lambda x, layer: (layer(x), x)[1], square),
        lambda: Mixture(features, int(random.integers(2, 5))),
        lambda: GatedMixture(features, int(random.integers(2, 5))),
        lambda: Sorted(features),
    ]
    if random.random() < 0.5:
        return pick(random, *changes)(), (out,)
    return pick(random, *keeps)(), shape


def image_layer(random: Random, shape: Shape) -> tuple[nn.Module, Shape]:
    """(n, C, H, W) to the same with other channels and sizes."""
    channels = shape[0]
    groups = pick(random, 1, 1, channels)
    out = groups * int(random.integers(1, 3))
    mode = pick(random, "zeros", "zeros", "circular", "reflect", "replicate")
    kernel = pick(random, 1, 2, 3, (3, 1))
    stride, padding, dilation = pick(random, 1, 1, 2), pick(random, 0, 1), pick(random, 1, 1, 2)
    convolution = nn.Conv2d(
        channels,
        out,
        kernel,
        stride=stride,
        padding=padding,
        # Three times a dilation of 2 reach over 5 pixels.
        dilation=dilation if min(shape[1:]) >= 5 else 1,
        groups=groups,
        padding_mode=mode,
        bias=pick(random, True, True, False),
    )
    same = nn.Conv2d(channels, channels, pick(random, 2, 3), padding="same", padding_mode=mode, groups=groups)
    transposed = nn.ConvTranspose2d(channels, out, kernel, stride=pick(random, 1, 2), groups=groups)
    instance = nn.InstanceNorm2d(
        channels, affine=pick(random, True, False), track_running_stats=pick(random, True, False)
    )
    made = pick(
        random,
        convolution,
        convolution,
        same,
        transposed,
        nn.utils.parametrizations.weight_norm(convolution),
        nn.BatchNorm2d(channels),
        nn.GroupNorm(pick(random, 1, channels), channels),
        instance,
        nn.Sequential(same, instance),
        nn.LayerNorm(shape),
        nn.PReLU(channels),
        pick(random, nn.ReLU(inplace=True), nn.Tanh(), nn.SiLU()),
        pick(random, nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2)),
        nn.LocalResponseNorm(2),
        Function(lambda x, layer: x + layer(x).tanh(), same),
        Function(lambda x, layer: layer(x.flatten(0, 1).unsqueeze(1)).view_as(x), nn.Conv2d(1, 1, 1)),
    )
    return made, probed(made, shape)


def sequence_layer(random: Random, shape: Shape) -> tuple[nn.Module, Shape]:
    """(n, L, F) to the same with other lengths and features."""
    features = shape[1]
    out = int(random.integers(2, 5))
    first = pick(random, True, False)
    mode = pick(random, "zeros", "circular")
    heads = pick(random, 1, features)

    def swapped(x: Tensor) -> Tensor:
        return x if first else x.transpose(0, 1)

    kind = pick(random, nn.LSTM, nn.GRU, nn.RNN)
    recurrent = kind(
        features, out, pick(random, 1, 2), batch_first=first, bidirectional=pick(random, True, False)
    )
    encoder = nn.TransformerEncoderLayer(
        features, heads, 4, batch_first=first, norm_first=pick(random, True, False), activation="gelu"
    )
    decoder = nn.TransformerDecoderLayer(features, heads, 4, batch_first=first)
    attention = nn.MultiheadAttention(features, heads, batch_first=first, bias=pick(random, True, False))
    weights = pick(random, True, False)
    made = pick(
        random,
        Function(lambda x, layer: swapped(layer(swapped(x))[0]), recurrent),
        Function(lambda x, layer: swapped(layer(swapped(x))), encoder),
        Function(lambda x, layer: swapped(layer(swapped(x), swapped(x.tanh()))), decoder),
        Function(
            lambda x, a: swapped(a(swapped(x), swapped(x), swapped(x), need_weights=weights)[0]), attention
        ),
        nn.Linear(features, out),
        nn.LayerNorm(pick(random, features, shape)),
        nn.RMSNorm(features, eps=1e-5),
        Function(lambda x, at: x + at, at=nn.Parameter(torch.randn(shape))),
        Function(
            lambda x, layer: layer(x.mT).mT,
            nn.Conv1d(features, out, pick(random, 1, 2), padding="same", padding_mode=mode),
        ),
        Function(lambda x, layer: layer(x.mT).mT, nn.ConvTranspose1d(features, out, 2)),
        Function(lambda x, layer: layer(x.mT).mT, nn.BatchNorm1d(features)),
        Function(
            lambda x, layer: layer(x.reshape(-1, features)).view(*x.shape[:2], -1), nn.Linear(features, out)
        ),
        Function(lambda x, layer: layer(x.transpose(0, 1)).transpose(0, 1), nn.Linear(features, out)),
    )
    return made, probed(made, shape)


def further_vector_layer(random: Random, shape: Shape) -> tuple[nn.Module, Shape]:
    """(n, F) to (n, F'), of what `vector_layer` does not draw."""
    (features,) = shape
    square, other = nn.Linear(features, features), nn.Linear(features, 2)
    low = nn.LSTMCell(features, 2)
    made = pick(
        random,
        nn.Sequential(nn.Linear(features, 2 * features), nn.GLU()),
        Function(lambda x, a, b: F.silu(a(x)) * b(x), square, nn.Linear(features, features, bias=False)),
        nn.utils.parametrizations.orthogonal(nn.Linear(features, features)),
        nn.utils.spectral_norm(nn.Linear(features, features)),
        # One layer under two names.
        nn.Sequential(other, nn.Tanh(), nn.Linear(2, features), nn.Sequential(other, nn.Tanh())),
        nn.Sequential(square, nn.Sequential(square, nn.ELU())),
        Function(lambda x, cell: cell(x)[0] + cell(x.tanh())[1], low),
        nn.RNNCell(features, 3, nonlinearity=pick(random, "tanh", "relu")),
        pick(random, nn.ELU(), nn.Mish(), nn.LogSigmoid(), nn.Hardswish(), nn.Softshrink(), nn.RReLU()),
        pick(random, nn.Softmax(1), nn.LogSoftmax(1), nn.Softmin(1), nn.CELU(), nn.SELU(), nn.Hardtanh()),
        nn.AlphaDropout(),
        Function(lambda x, at: x.softmax(1) @ at, at=nn.Parameter(torch.randn(features, 3))),
        Function(lambda x, at: torch.cdist(x, at), at=nn.Parameter(torch.randn(3, features))),
        Function(lambda x, at: torch.einsum("nf,fg->ng", x, at), at=nn.Parameter(torch.randn(features, 2))),
        Function(lambda x, layer: torch.stack([layer(row) for row in x]), square),
        Function(lambda x, layer: torch.cat([layer(half) for half in x.split(2)]), square),
        Function(lambda x, layer: torch.vmap(layer)(x), square),
        Function(lambda x, layer: F.normalize(layer(x), dim=1), square),
        Function(lambda x, layer: torch.where(x > 0, layer(x), x), square),
    )
    return made, probed(made, shape)


def further_spatial_layer(random: Random, shape: Shape) -> tuple[nn.Module, Shape]:
    """(n, C, ...) of one to three further axes to the same, of what `image_layer` does not draw."""
    channels, axes = shape[0], len(shape) - 1

    def of(name: str) -> Any:
        return getattr(nn, f"{name}{axes}d")

    groups = pick(random, 1, 1, channels)
    out, mode = groups * int(random.integers(1, 3)), pick(random, "zeros", "zeros", "circular", "replicate")
    kernel, stride, padding = pick(random, 1, 2, 3), pick(random, 1, 2), pick(random, 0, 1)
    plain = of("Conv")(
        channels,
        out,
        kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        padding_mode=mode,
        bias=pick(random, True, True, False),
    )
    back = of("ConvTranspose")(
        channels,
        out,
        2,
        stride=2,
        groups=groups,
        output_padding=pick(random, 0, 1),
        padding=pick(random, 0, 1),
    )
    instance = of("InstanceNorm")(
        channels, affine=pick(random, True, False), track_running_stats=pick(random, True, False)
    )
    choices: list[nn.Module] = [
        plain,
        plain,
        back,
        instance,
        # Of one position there is nothing to normalise.
        nn.Sequential(of("ConvTranspose")(channels, 2, 2), nn.Tanh(), of("InstanceNorm")(2, affine=True)),
        of("BatchNorm")(channels),
        nn.GroupNorm(pick(random, 1, channels), channels),
        nn.LayerNorm(shape[pick(random, 0, axes) :]),
        nn.PReLU(channels),
        of(pick(random, "MaxPool", "AvgPool"))(2, ceil_mode=pick(random, True, False)),
        of("LPPool")(2, 2),
        of(pick(random, "AdaptiveAvgPool", "AdaptiveMaxPool"))(pick(random, 1, 2)),
        of(pick(random, "ZeroPad", "ReplicationPad", "ReflectionPad", "CircularPad"))(1),
        nn.Upsample(scale_factor=2),
        nn.Flatten(),
        Function(lambda x, scale: x * scale, scale=nn.Parameter(torch.randn(channels, *[1] * axes))),
        Function(lambda x, layer: layer(x.movedim(1, -1)).movedim(-1, 1), nn.Linear(channels, 2)),
    ]
    if axes == 2:
        unfolded = nn.Sequential(nn.Unfold(2), nn.Conv1d(4 * channels, 3, 1))
        choices += [
            unfolded,
            nn.Sequential(nn.Unfold(2), nn.Fold(shape[1:], 2)),
            nn.Sequential(nn.Conv2d(channels, 4 * channels, 1), nn.PixelShuffle(2)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Softmax2d(),
            Function(
                lambda x: F.fractional_max_pool2d(
                    x, 2, output_ratio=(0.6, 0.6), _random_samples=x.new_full((len(x), channels, 2), 0.3)
                ),
            ),
        ]
    made = pick(random, *choices)
    return made, probed(made, shape)


def to_vector(random: Random, shape: Shape) -> nn.Module:
    """Images or sequences to vectors."""
    if len(shape) == 3:
        return pick(
            random,
            nn.Flatten(),
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            Function(lambda x: x.amax((2, 3))),
        )
    return pick(
        random,
        nn.Flatten(),
        Function(lambda x: x.mean(1)),
        Function(lambda x: x[:, -1]),
        AttentionPool(shape[1]),
    )


def tokens_layer(random: Random, length: int) -> tuple[nn.Module, Shape]:
    """(n, L) numbers of words to sequences or vectors."""
    features = int(random.integers(2, 5))
    padding = pick(random, None, 2)
    mode = pick(random, "mean", "sum", "max")
    embedding = nn.Embedding(TOKENS, features, padding_idx=padding)
    return pick(
        random,
        (Function(lambda x, layer: layer(x.long()), embedding), (length, features)),
        (
            Function(
                lambda x, layer: F.linear(layer(x.long()).tanh(), layer.weight[:4]),
                nn.Embedding(TOKENS, features),
            ),
            (length, 4),
        ),
        (
            Function(
                lambda x, layer: layer(x.long()),
                nn.EmbeddingBag(TOKENS, features, mode=mode, padding_idx=padding),
            ),
            (features,),
        ),
    )


def probed(module: nn.Module, shape: Shape) -> Shape:
    """The shape of one example after a module."""
    with torch.no_grad():
        return tuple(module.eval()(torch.randn(2, *shape)).shape[1:])


def draw_network(random: Random, further: bool = False) -> tuple[nn.Module, Shape, bool]:
    """A network with 3 outputs, the shape of its inputs, and whether they are words."""
    kinds = ["vector", "vector", "image", "image", "sequence", "sequence", "words"]
    if further:
        kinds = ["vector", "signal", "image", "volume"]
    kind = pick(random, *kinds)
    starts: dict[str, Shape] = {"vector": (4,), "image": (2, 5, 5), "sequence": (4, 2), "words": (4,)}
    start = (starts | {"signal": (2, 7), "volume": (2, 3, 4, 3)})[kind]
    layers: list[nn.Module] = []
    shape = start
    if kind == "words":
        layer, shape = tokens_layer(random, 4)
        layers.append(layer)
    while further and len(shape) > 1:
        layer, shape = further_spatial_layer(random, shape)
        layers.append(layer)
        if len(shape) > 1 and (min(shape[1:]) < 3 or random.random() < 0.3):
            layers.append(nn.Flatten())
            shape = probed(layers[-1], shape)
    while len(shape) > 1:
        for _ in range(random.integers(1, 4)):
            if len(shape) == 3 and min(shape[1:]) < 3:
                break
            layer, shape = (image_layer if len(shape) == 3 else sequence_layer)(random, shape)
            layers.append(layer)
        layers.append(to_vector(random, shape))
        shape = probed(layers[-1], shape)
    for _ in range(random.integers(0, 4)):
        layer, shape = (further_vector_layer if further else vector_layer)(random, shape)
        layers.append(layer)
    head = nn.Linear(*shape, CLASSES)
    network = nn.Sequential(*layers, head)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    if random.random() < 0.3:
        for parameter in network.parameters():
            parameter.requires_grad_(bool(random.random() < 0.6))
        head.weight.requires_grad_(True)
    if kind == "image" and random.random() < 0.3:
        network = network.to(memory_format=torch.channels_last)
    return network.double(), start, kind == "words"


def draw(seed: int) -> tuple[TrainedModel, Examples, int]:
    """A model, examples, and how many of them go into a row."""
    random = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        further = seed >= FURTHER
        network, shape, words = draw_network(random, further)
        while sum(p.numel() for p in network.parameters() if p.requires_grad) > MOST_PARAMETERS:
            network, shape, words = draw_network(random, further)
    count = int(random.integers(1, 14))
    inputs = (
        random.integers(TOKENS, size=(count, *shape)).astype(np.float64)
        if words
        else random.normal(size=(count, *shape))
    )
    if random.random() < 0.5:
        inputs = inputs[np.argsort(inputs.reshape(count, -1)[:, 0])]
    likelihood: Likelihood = Softmax()
    targets: Any = random.integers(CLASSES, size=count)
    match random.integers(4):
        case 0:
            targets = random.dirichlet(np.ones(CLASSES), size=count)
        case 1:
            likelihood, targets = Sigmoid(), random.integers(2, size=(count, CLASSES)).astype(np.float64)
        case 2:
            likelihood, targets = Sigmoid(), random.integers(2, size=(count, CLASSES))
    model = TrainedModel(network, likelihood, batch_size=int(random.integers(2, 12)), device="cpu")
    return model, Examples(inputs, targets), int(random.integers(1, 5))


def within(matrix: Tensor, bounds: list[int]) -> Tensor:
    return torch.block_diag(*(matrix[a:b, a:b] for a, b in itertools.pairwise(bounds)))


def refused_in_place(model: TrainedModel, examples: Examples, error: RuntimeError) -> str:
    """How a network is refused of which PyTorch itself has no gradients."""
    assert IN_PLACE.search(str(error)), error
    everything: list[Callable[[], Any]] = [
        lambda: model.weighted_gradient(examples),
        lambda: GramFisher.fit(model, examples, minibatch=2),
        lambda: DiagonalFisher.fit(model, examples),
        lambda: train(model, examples, Descent(learning_rate=0.1, rounds=1), batch_size=4, seed=0),
    ]
    for run in everything:
        with pytest.raises(
            RepairError, match="a layer that works in place changes what another needs"
        ) as found:
            run()
    return str(found.value)


def check(seed: int) -> list[str]:
    """Compare all operators of a drawn network; what was refused, in words."""
    model, examples, minibatch = draw(seed)
    dimension = len(model.parameter_vector)
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(dimension, 2, generator=generator, dtype=torch.float64)
    refused: list[str] = []
    try:
        loop = Loop(model, examples, v)
    except RuntimeError as error:
        return [refused_in_place(model, examples, error)]
    gradients, identity = loop.gradients, torch.eye(dimension, dtype=torch.float64)
    # An error in a solution is one in the matrix times the condition, which is at most 3.
    damping = 0.5 * float(torch.linalg.matrix_norm(gradients, 2) ** 2) / len(examples) * minibatch + 1e-3

    def equal(what: str, found: Tensor, expected: Tensor, scale: float = 0.0) -> None:
        error = float(torch.linalg.vector_norm(found - expected))
        length = max(float(torch.linalg.vector_norm(expected)), scale, 1e-100)
        assert found.shape == expected.shape, f"{what}: {tuple(found.shape)}, not {tuple(expected.shape)}"
        assert error <= TOLERANCE * length, f"{what} is off by {error / length:.1e}"

    def or_refused(what: str, run: Callable[[], None]) -> None:
        try:
            run()
        except RepairError as refusal:
            words = f"{what}: {refusal}"
        else:
            return
        assert re.search(r": layer \S+ \(\w+\) cannot give .* \(PyTorch: .*\): use", words), words
        assert any(kernel in words for kernel in NO_FORWARD_MODE), words
        refused.append(words)

    def solves(what: str, fitted: Any, matrix: Tensor, *, shapes: int = 2) -> None:
        damped, whole = fitted.damped(damping), matrix + damping * identity
        for vectors in (v, v[:, 0])[:shapes]:
            equal(f"{what} matvec", damped.matvec(vectors), whole @ vectors)
            equal(f"{what} solve", damped.solve(vectors), torch.linalg.solve(whole, vectors))

    # What cancels in a sum over examples is compared with its terms.
    weights = torch.randn(len(examples), generator=generator, dtype=torch.float64)
    terms = float(torch.linalg.vector_norm(weights[:, None] * gradients))
    equal("weighted_gradient", model.weighted_gradient(examples, weights), gradients.T @ weights, terms)
    solves("diagonal", DiagonalFisher.fit(model, examples), gradients.square().mean(0).diag())
    solves("gram", GramFisher.fit(model, examples), loop.fisher())
    solves("gram of rows", GramFisher.fit(model, examples, minibatch=minibatch), loop.fisher(minibatch))
    layers = itertools.groupby(model.parameters.items(), key=lambda item: item[0].rpartition(".")[0])
    bounds = [0, *itertools.accumulate(sum(p.numel() for _, p in members) for _, members in layers)]
    solves("block", BlockFisher.fit(model, examples), within(loop.fisher(), bounds))
    size = int(torch.randint(1, dimension + 1, (), generator=generator))
    blocks = BlockFisher.fit(model, examples, block_size=size, minibatch=minibatch)
    solves("blocks of rows", blocks, within(loop.fisher(minibatch), [*range(0, dimension, size), dimension]))
    for kind in (KroneckerFisher, EigenvalueCorrectedFisher):
        kronecker = kind.fit(model, examples).damped(damping)
        equal(f"{kind.name} inverse", kronecker.solve(kronecker.matvec(v)), v)
    trace = kronecker.damped(0).matvec(identity).trace()
    equal("trace of ekfac", trace, gradients.square().sum() / len(examples))

    def forward() -> None:
        lengths = float(torch.linalg.matrix_norm(gradients) * torch.linalg.vector_norm(v[:, 0]))
        derivatives = model.directional_derivatives(examples, v[:, 0])
        equal("directional_derivatives", derivatives, gradients @ v[:, 0], lengths)

    def products() -> None:
        equal("fisher product", matrix_product("fisher", model, examples, v), loop.fisher() @ v)
        equal("ggn product", matrix_product("ggn", model, examples, v), loop.ggn)
        equal("ggn product of one", matrix_product("ggn", model, examples, v[:, :1]), loop.ggn[:, :1])

    def hessian() -> None:
        product = matrix_product("hessian", model, examples, v)
        assert loop.hessian is not None, "there was a Hessian where none was expected"
        equal("hessian product", product, loop.hessian, float(torch.linalg.vector_norm(loop.ggn)))
        if dimension < 60:
            matrix = Hessian.fit(model, examples).damped(damping)
            equal("hessian", matrix.matvec(v), product + damping * v)

    def conjugate_gradients() -> None:
        fitted = ConjugateGradient.fit(model, examples, tolerance=1e-10).damped(damping)
        solves("cg", fitted, loop.fisher(), shapes=1)

    def recomputed() -> None:
        fitted = GramFisher.fit(model, examples, minibatch=minibatch, memory=1)
        solves("gram by passes", fitted, loop.fisher(minibatch), shapes=1)

    for name, run in (
        ("directional_derivatives", forward),
        ("products", products),
        ("hessian", hessian),
        ("cg", conjugate_gradients),
        ("gram by passes", recomputed),
    ):
        or_refused(name, run)
    return refused


@pytest.mark.parametrize("seed", [*range(DRAWS), *range(FURTHER, FURTHER + DRAWS), *TELLING])
def test_every_operator_equals_a_loop_over_the_examples(seed: int) -> None:
    check(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    failed = refused = 0
    for seed in range(options.first, options.first + options.draws):
        try:
            found = check(seed)
            refused += bool(found)
        except Exception as error:
            failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(
                f"seed {seed}: {type(error).__name__} {error} ({where.name}, {where.filename}:{where.lineno})"
            )
            print(draw(seed)[0].network if options.draws == 1 else "", flush=True)
    print(f"{options.draws} networks: {failed} failed, {refused} with a layer refused by name")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
