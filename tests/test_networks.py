"""Networks: their size, what they take, and that they are a function of their seed alone."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelrepair.curvature import DiagonalFisher
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.files import begin_from, fresh_model, save_model
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.artifacts import write_tensors
from modelrepair.settings.networks import CLASSIFIERS, TorchvisionSettings
from modelrepair.vision import torchvision
from models import assert_equal, one_thread  # noqa: F401


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def weights(network: nn.Module) -> bytes:
    return b"".join(tensor.cpu().numpy().tobytes() for tensor in network.state_dict().values())


def test_lenet5_has_the_size_that_the_papers_give() -> None:
    network = make_network("lenet5", (1, 28, 28), 10, seed=0)
    assert count(network) == 61_706
    assert {name: count(module) for name, module in network.named_children()} == {
        "conv1": 156,
        "conv2": 2_416,
        "pool": 0,
        "fc1": 48_120,
        "fc2": 10_164,
        "fc3": 850,
    }
    assert network(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


def test_lenet5_is_two_convolutions_and_three_layers() -> None:
    network = make_network("lenet5", (1, 28, 28), 10, seed=0).double()
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(4, 1, 28, 28)))
    weight = network.state_dict()

    def pooled(values: Tensor) -> Tensor:
        rows, channels, height, width = values.shape
        return values.reshape(rows, channels, height // 2, 2, width // 2, 2).amax(dim=(3, 5))

    hidden = torch.conv2d(
        nn.functional.pad(images, (2, 2, 2, 2)), weight["conv1.weight"], weight["conv1.bias"]
    )
    hidden = torch.conv2d(pooled(hidden.clamp_min(0)), weight["conv2.weight"], weight["conv2.bias"])
    hidden = pooled(hidden.clamp_min(0)).reshape(4, -1)
    for layer in ("fc1", "fc2"):
        hidden = (hidden @ weight[f"{layer}.weight"].T + weight[f"{layer}.bias"]).clamp_min(0)
    expected = hidden @ weight["fc3.weight"].T + weight["fc3.bias"]
    assert_equal(network(images).detach(), expected)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (1, 13, 30), (2, 64, 12)])
def test_lenet5_takes_images_of_any_sufficient_size(shape: tuple[int, ...]) -> None:
    network = make_network("lenet5", shape, 4, seed=0)
    assert network(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 11, 28), (1, 28, 8), (1, 1, 28, 28)])
def test_lenet5_says_what_it_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        RepairError, match=r"lenet5 takes images .* of at least 12×12 pixels, not inputs of shape"
    ):
        make_network("lenet5", shape, 10, seed=0)


def test_conv4_has_the_size_that_the_papers_give() -> None:
    network = make_network("conv4", (1, 28, 28), 10, seed=0)
    assert count(network) == 65_642
    sizes = {name: count(module) for name, module in network.named_children()}
    assert sizes == {"conv1": 320, "conv2": 9_248, "conv3": 18_496, "conv4": 36_928, "fc": 650}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 7, 4)])
def test_conv4_is_four_convolutions_and_the_mean_over_the_image(shape: tuple[int, ...]) -> None:
    network = make_network("conv4", shape, 5, seed=0).double()
    hidden = torch.from_numpy(np.random.default_rng(0).normal(size=(2, *shape)))
    images, weight = hidden, network.state_dict()
    for place in (1, 2, 3, 4):
        patches = nn.functional.unfold(hidden, 3, padding=1)
        kernel, bias = weight[f"conv{place}.weight"].flatten(1), weight[f"conv{place}.bias"]
        hidden = (kernel @ patches + bias[:, None]).clamp_min(0).unflatten(2, hidden.shape[2:])
        if place == 2:
            rows, columns = (size // 2 for size in hidden.shape[2:])
            hidden = (
                hidden[:, :, : 2 * rows, : 2 * columns].unflatten(3, (columns, 2)).unflatten(2, (rows, 2))
            )
            hidden = hidden.amax(dim=(3, 5))
    expected = hidden.mean((2, 3)) @ weight["fc.weight"].T + weight["fc.bias"]
    assert_equal(network(images).detach(), expected)


@pytest.mark.parametrize("shape", [(784,), (28, 28), (1, 1, 28), (1, 1, 28, 28)])
def test_conv4_says_what_it_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        RepairError, match=r"conv4 takes images .* of at least 2×2 pixels, not inputs of shape"
    ):
        make_network("conv4", shape, 10, seed=0)


@pytest.mark.parametrize(("shape", "features"), [((7,), 7), ((1, 3, 4), 12)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_linear(shape: tuple[int, ...], features: int, bias: bool) -> None:
    network = make_network("linear", shape, 5, seed=0, bias=bias)
    assert count(network) == 5 * (features + bias)
    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *shape))).float()
    state = list(network.state_dict().values())
    expected = inputs.reshape(3, features) @ state[0].T + (state[1] if bias else 0)
    assert_equal(network(inputs).detach(), expected, 1e-6)


@pytest.mark.parametrize("name", ["conv4", "lenet5", "linear", "resnet18"])
def test_weights_follow_the_seed_and_leave_torch_alone(name: str) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = weights(make_network(name, (1, 12, 12), 3, seed=0))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    assert weights(make_network(name, (1, 12, 12), 3, seed=0)) == first
    assert weights(make_network(name, (1, 12, 12), 3, seed=1)) != first


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "lenet",
            {},
            "there is no network 'lenet': choose one of conv4, factlm, lenet5, linear, own, resnet18",
        ),
        ("lenet5", {"depth": 3}, "network 'lenet5' cannot be made with options {'depth': 3}"),
        ("linear", {"width": 3}, "network 'linear' cannot be made with options {'width': 3}"),
    ],
)
def test_networks_that_cannot_be(name: str, options: dict[str, Any], message: str) -> None:
    torch.manual_seed(11)
    state = torch.get_rng_state()
    with pytest.raises(RepairError, match=message):
        make_network(name, (1, 28, 28), 10, seed=0, **options)
    assert torch.equal(torch.get_rng_state(), state)


# The larger ones.


def random_images(count: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((count, *shape))).float()


def test_resnet18_is_torchvisions_with_a_small_stem() -> None:
    network = make_network("resnet18", (3, 32, 32), 10, seed=0)
    assert count(network) == 11_173_962
    other = torchvision.models.resnet18(num_classes=10)
    other.conv1, other.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    # Both name their tensors in the order in which images pass them, but for the shortcuts, which both have last.
    assert [tensor.shape for tensor in network.state_dict().values()] == [
        tensor.shape for tensor in other.state_dict().values()
    ]
    draw = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.02 + torch.rand(tensor.shape, generator=draw) / max(1, tensor[0].numel()))
    other.load_state_dict(dict(zip(other.state_dict(), network.state_dict().values(), strict=True)))
    for mode in (True, False):
        images = random_images(3, 3, 32, 32)
        assert_equal(network.train(mode)(images).detach(), other.train(mode)(images).detach(), 1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (2, 9, 13)])
def test_resnet18_takes_images_of_any_sufficient_size(shape: tuple[int, ...]) -> None:
    assert make_network("resnet18", shape, 4, seed=0).eval()(torch.zeros(1, *shape)).shape == (1, 4)
    with pytest.raises(RepairError, match=r"resnet18 takes images .* of at least 8×8 pixels"):
        make_network("resnet18", (*shape[:2], 7), 4, seed=0)


@pytest.mark.parametrize(
    ("shape", "size", "standardised"),
    [((3, 32, 32), None, False), ((1, 20, 28), 48, True), ((3, 64, 64), 40, True), ((3, 40, 40), 40, False)],
)
def test_classifiers_of_torchvision_are_torchvisions(
    shape: tuple[int, ...], size: int | None, standardised: bool
) -> None:
    options = {"classifier": "resnet18", "size": size, "standardised": standardised}
    network = make_network("torchvision", shape, 5, seed=3, **options).eval()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        plain = torchvision.models.resnet18(num_classes=5).eval()
    assert weights(network) == weights(plain)
    assert [*network.state_dict()] == [*plain.state_dict()]
    images = random_images(3, *shape)
    shown = images.repeat(1, 3 // shape[0], 1, 1)
    if size is not None:
        resize = torchvision.transforms.Resize((size, size), antialias=True)
        shown = resize(shown)
    if standardised:
        shown = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))(shown)
    assert_equal(network(images).detach(), plain(shown).detach(), 1e-5)


def test_every_classifier_of_torchvision_has_settings() -> None:
    assert set(CLASSIFIERS) == set(torchvision.models.list_models(module=torchvision.models))
    for name in ("squeezenet1_1", "mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_y_400mf", "mnasnet0_5"):
        network = make_network("torchvision", (3, 64, 64), 3, seed=0, classifier=name)
        batchwise = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
        assert TorchvisionSettings(classifier=name).batchwise == batchwise, name
    assert not TorchvisionSettings(classifier="vgg11").batchwise
    assert TorchvisionSettings(classifier="vgg11_bn").batchwise


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 32, 32), {}, "cannot be made with options {}"),
        ((3, 32, 32), {"classifier": "resnet9"}, "this version of torchvision has no classifier 'resnet9'"),
        (
            (3, 16, 16),
            {"classifier": "squeezenet1_1"},
            "cannot run images of 16×16 pixels brought to size None",
        ),
        ((2, 32, 32), {"classifier": "resnet18"}, r"with 1 or 3 channels, not inputs of shape \(2, 32, 32\)"),
        ((10,), {"classifier": "resnet18"}, r"not inputs of shape \(10,\)"),
    ],
)
def test_classifiers_of_torchvision_that_cannot_be(
    shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RepairError, match=message):
        make_network("torchvision", shape, 10, seed=0, **options)


def test_single_gradients_of_a_classifier_of_torchvision() -> None:
    """Layers that overwrite what they are given, and a network that changes its inputs first."""
    options = {"classifier": "resnet18", "size": 20, "standardised": True}
    network = make_network("torchvision", (1, 24, 24), 3, seed=0, **options).double()
    model = TrainedModel(network, Softmax(), device="cpu")
    examples = Examples(random_images(3, 1, 24, 24).double().numpy(), np.arange(3))
    squares = torch.zeros_like(model.parameter_vector)
    for position in range(3):
        squares += model.weighted_gradient(examples.subset([position])).square() / 3
    assert_equal(DiagonalFisher.fit(model, examples).entries, squares, 1e-10)


# Weights to begin from.


def description(network: str, outputs: int, **options: Any) -> dict[str, Any]:
    return {
        "network": network,
        "options": options,
        "input_shape": (3, 64, 64),
        "outputs": outputs,
        "likelihood": "softmax",
    }


def test_training_begins_from_weights_of_a_file(tmp_path: Path) -> None:
    what = description("resnet20", 10)
    trained, fresh = fresh_model(what, seed=0), fresh_model(what, seed=1)
    save_model(tmp_path, trained, what)
    begin_from(fresh, what, "weights.safetensors", tmp_path)
    assert weights(fresh.network) == weights(trained.network)


def test_a_last_layer_of_other_classes_stays_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained, what = fresh_model(description("resnet20", 10), seed=0), description("resnet20", 4)
    fresh, other = fresh_model(what, seed=1), fresh_model(what, seed=1)
    save_model(tmp_path, trained, what)
    begin_from(fresh, what, "weights.safetensors", tmp_path)
    expected = {
        **trained.network.state_dict(),
        "fc.weight": other.network.fc.weight,
        "fc.bias": other.network.fc.bias,
    }
    assert all(torch.equal(tensor, expected[name]) for name, tensor in fresh.network.state_dict().items())
    assert "layer fc begins with random weights" in capsys.readouterr().out


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    what = description("resnet20", 10)
    state = fresh_model(what, seed=0).network.state_dict()
    wrong = {
        "lacks conv.weight": {name: tensor for name, tensor in state.items() if name != "conv.weight"},
        "has more, which the network has not": {**state, "more": torch.zeros(1)},
        r"has conv.weight of shape \(16, 1, 3, 3\) in place of \(16, 3, 3, 3\)": {
            **state,
            "conv.weight": torch.zeros(16, 1, 3, 3),
        },
        "has NaN or infinite numbers in fc.bias": {**state, "fc.bias": torch.full((10,), torch.nan)},
    }
    for number, (message, tensors) in enumerate(wrong.items()):
        write_tensors(tmp_path / f"{number}.safetensors", tensors)
        with pytest.raises(
            RepairError, match=f"{number}.safetensors {message}: give weights of the network resnet20"
        ):
            begin_from(fresh_model(what, seed=1), what, f"{number}.safetensors", tmp_path)
    with pytest.raises(
        RepairError, match="the network resnet20 has no published weights, of which 'DEFAULT'"
    ):
        begin_from(fresh_model(what, seed=1), what, "DEFAULT", tmp_path)


def test_torchvisions_weights_come_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from the download: in the cache of torch.hub, under the name of the file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    what = description("torchvision", 4, classifier="squeezenet1_1")
    trained = make_network("torchvision", (3, 64, 64), 1000, seed=0, classifier="squeezenet1_1")
    url = torchvision.models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url

    def unreachable(*arguments: Any, **options: Any) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(
        RepairError,
        match=r"weights IMAGENET1K_V1 of squeezenet1_1 cannot be had from https.*no route.*: put that",
    ):
        begin_from(fresh_model(what, seed=1), what, "IMAGENET1K_V1", tmp_path)
    cache = tmp_path / "hub/checkpoints"
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(trained.state_dict(), cache / url.rpartition("/")[2])
    fresh = fresh_model(what, seed=1)
    begin_from(fresh, what, "IMAGENET1K_V1", tmp_path)
    own, given = fresh.network.state_dict(), trained.state_dict()
    assert all(
        torch.equal(own[name].cpu(), given[name]) == (not name.startswith("classifier")) for name in own
    )
    with pytest.raises(
        RepairError, match="torchvision has no weights 'V9' for squeezenet1_1: choose one of IMAGENET1K"
    ):
        begin_from(fresh, what, "V9", tmp_path)
