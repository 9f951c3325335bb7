"""A network of the user's own, with weights that somebody else has trained."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from conftest import Project, clone
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.files import begin_from, fresh_model, load_model, read_weights
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel, expect_outputs
from modelrepair.networks import make_network
from modelrepair.settings.networks import check_network
from modelrepair.settings.training import ModelSettings
from models import one_thread  # noqa: F401

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, hidden=5, returned="tensor"):
        super().__init__()
        self.returned = returned
        self.norm = nn.BatchNorm2d(1)
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(196, hidden), nn.Tanh(), nn.Linear(hidden, 4))

    def forward(self, images):
        logits = self.body(self.norm(images))
        if self.returned == "dict":
            return {"loss": logits.sum(), "logits": logits}
        if self.returned == "tuple":
            return logits.sum(), logits
        if self.returned == "noise":
            return logits + torch.randn_like(logits)
        if self.returned == "batch":
            return logits - logits.mean(0)
        return logits


def number():
    return 3
"""
CLASSES = ["one", "six", "seven", "nine"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's folder with the code of a network, in which programs are run."""
    (tmp_path / "networks/nets").mkdir(parents=True)
    (tmp_path / "networks/nets/small.py").write_text(CODE)
    (tmp_path / "networks/broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "networks/json.py").write_text("class Net: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("nets", "broken"):
            del sys.modules[name]


def network(code: str = "nets.small:Net", seed: int = 0, **options: Any) -> nn.Module:
    return make_network("own", (1, 14, 14), 4, seed=seed, code=code, **options)


def digits(count: int = 6) -> Examples:
    draw = np.random.default_rng(0)
    return Examples(draw.integers(0, 256, (count, 1, 14, 14), dtype=np.uint8), draw.integers(0, 4, count))


def checked(**options: Any) -> TrainedModel:
    model = TrainedModel(network(**options), Softmax())
    expect_outputs(model, digits(), CLASSES)
    return model


def test_a_class_of_ones_own_is_made_with_its_arguments(folder: Path) -> None:
    made = network(arguments={"hidden": 7})
    assert type(made).__name__ == "Net"
    assert made.body[1].weight.shape == (7, 196)
    assert torch.equal(network(seed=3).body[1].weight, network(seed=3).body[1].weight)
    assert not torch.equal(network(seed=3).body[1].weight, network(seed=4).body[1].weight)


@pytest.mark.parametrize(("returned", "output"), [("tensor", None), ("dict", "logits"), ("tuple", 1)])
def test_outputs_are_taken_from_what_a_network_returns(
    folder: Path, returned: str, output: str | int | None
) -> None:
    model = checked(arguments={"returned": returned}, output=output)
    plain = checked()
    assert torch.equal(model.outputs(digits()), plain.outputs(digits()))
    # And where values stand in place of the parameters, in a copy.
    moved = model.with_parameter_vector(model.parameter_vector * 2)
    images, _ = digits().batch(slice(None), device=model.device)
    at = model.outputs_at({name: p.detach() * 2 for name, p in model.parameters.items()}, images)
    assert torch.allclose(moved.outputs(digits()), at)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "absent:Net"}, "there is no networks/absent.py for model.options.code 'absent:Net'"),
        ({"code": "broken:Net"}, "networks/broken cannot be imported .ModuleNotFoundError: No module named 'nothing"),
        ({"code": "json:Net"}, "the name 'json' is already that of .*json.*give the module in the folder networks"),
        ({"code": "nets.small:Nett"}, "networks/nets/small has no class Nett"),
        ({"code": "nets.small:number"}, "nets.small:number makes a network of type int"),
        ({"arguments": {"depth": 3}}, r"cannot be made with the arguments {'depth': 3} \(TypeError: .*'depth'"),
        ({"arguments": {"returned": "dict"}}, "outputs for 4 examples are a dict with loss, logits: wrap it in"),
        ({"arguments": {"returned": "tuple"}}, "outputs for 4 examples are a tuple of 2: wrap it in a module"),
        ({"arguments": {"returned": "dict"}, "output": "scores"}, "of type dict without 'scores': set"),
        ({"arguments": {"returned": "noise"}}, "the network says something else when it runs again"),
        ({"arguments": {"returned": "batch"}}, "differ when others run with them"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_repaired_are_refused(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RepairError, match=message):
        checked(**options)


def test_outputs_are_one_for_each_class(folder: Path) -> None:
    model = checked()
    with pytest.raises(
        RepairError, match=r"of shape \(4, 4\), and the data have 5 classes .*, more\): give a network"
    ):
        expect_outputs(model, digits(), [*CLASSES, "more"])


def what(**arguments: Any) -> dict[str, Any]:
    return {
        "network": "own",
        "options": {"code": "nets.small:Net", "arguments": arguments},
        "input_shape": (1, 14, 14),
        "outputs": 4,
        "likelihood": "softmax",
    }


def test_weights_of_other_programs_are_read(folder: Path) -> None:
    trained, fresh = fresh_model(what(), seed=0), fresh_model(what(), seed=1)
    state = trained.network.state_dict()
    save_file(state, folder / "trained.safetensors")
    begin_from(fresh, what(), "trained.safetensors", folder, whole=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in fresh.network.state_dict().items())


def test_all_missing_and_further_weights_are_named(folder: Path) -> None:
    state = fresh_model(what(), seed=0).network.state_dict()
    renamed = {f"module.{name}" if "body" in name else name: tensor for name, tensor in state.items()}
    save_file(renamed, folder / "a.safetensors")
    names = [name for name in state if "body" in name]
    others = ", ".join(sorted(f"module.{name}" for name in names))
    message = f"a.safetensors lacks {', '.join(names)}; it has {others}, which the network"
    with pytest.raises(RepairError, match=message):
        begin_from(fresh_model(what(), seed=1), what(), "a.safetensors", folder)


def test_nothing_of_a_trained_model_stays_random(folder: Path) -> None:
    state = fresh_model(what(), seed=0).network.state_dict()
    wider = {**state, "body.3.weight": torch.zeros(9, 5), "body.3.bias": torch.zeros(9)}
    save_file(wider, folder / "a.safetensors")
    begin_from(fresh_model(what(), seed=1), what(), "a.safetensors", folder)
    with pytest.raises(RepairError, match=r"has body.3.weight of shape \(9, 5\) in place of \(4, 5\)"):
        begin_from(fresh_model(what(), seed=1), what(), "a.safetensors", folder, whole=True)


class Harmful:
    """An object that would run code as it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harm"),))


def test_a_file_that_could_run_code_is_not_opened(folder: Path) -> None:
    """Whatever it is named; and the command of the message makes one that is read of one that is sound."""
    torch.save(Harmful(), folder / "harmful.pt")
    (folder / "harmful.pt").rename(folder / "harmful.safetensors")
    with pytest.raises(RepairError, match=r"harmful\.safetensors cannot be read as safetensors"):
        read_weights(folder / "harmful.safetensors")
    assert not (folder / "harm").exists()

    state = fresh_model(what(), seed=0).network.state_dict()
    for name in ("mine.pt", "mine.pth", "pytorch_model.bin"):
        torch.save(state, folder / name)
        with pytest.raises(
            RepairError, match="could run code as it is read: give its weights as saf"
        ) as refused:
            ModelSettings(network="own", pretrained=str(folder / name))
        command = re.search(r'-c "(.*)" writes', str(refused.value))
        assert command is not None
        subprocess.run([sys.executable, "-c", command[1]], check=True)
        read = read_weights((folder / name).with_suffix(".safetensors"))
        assert all(torch.equal(tensor, state[key].cpu()) for key, tensor in read.items())
        assert read.keys() == state.keys()


def test_a_file_that_holds_no_weights(folder: Path) -> None:
    (folder / "cut.safetensors").write_bytes(b"12345678")
    with pytest.raises(RepairError, match=r"cut\.safetensors cannot be read as safetensors"):
        read_weights(folder / "cut.safetensors")
    save_file({}, folder / "empty.safetensors")
    with pytest.raises(RepairError, match=r"empty\.safetensors holds no tensors: write it anew with"):
        read_weights(folder / "empty.safetensors")
    with pytest.raises(RepairError, match=r"there is no file .*none\.safetensors: put the weights there"):
        read_weights(folder / "none.safetensors")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"network": "own"}, "lacking is code: add it"),
        ({"network": "own", "options": {"code": "nets/small.py"}}, "code is 'nets/small.py': give package.module:Cl"),
        ({"network": "own", "options": {"code": "a:B", "argument": {}}}, "no setting argument: is arguments meant"),
        ({"network": "lenet5", "trained": True}, "trained is true, and pretrained null names no weights"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(model: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        check_network(ModelSettings(**model))


def test_the_pipeline_repairs_a_trained_network_of_ones_own(bare: Project, tmp_path: Path) -> None:
    """It is not trained; when its code changes, what runs it runs again, and what does not, does not."""
    project = clone(bare, tmp_path / "project")
    (project.root / "networks/nets").mkdir()
    code = project.root / "networks/nets/small.py"
    code.write_text(CODE)
    project.set_parameters(
        {
            "model.network": "own",
            "model.options": {"code": "nets.small:Net"},
            "model.pretrained": "weights/mine.safetensors",
            "model.trained": True,
        }
    )
    state = load_file(_trained(project.root))
    ran = project.repro("split-failures").succeeded()
    assert "the model is as weights/mine.safetensors holds it: nothing was trained" in ran.stdout
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.root)
        patch.setattr(sys, "path", [*sys.path])
        base, _ = load_model(project.root / "models/base")
        del sys.modules["nets.small"], sys.modules["nets"]
    assert all(torch.equal(tensor.cpu(), state[name]) for name, tensor in base.network.state_dict().items())
    code.write_text(CODE + "\nVERSION = 2\n")
    again = project.repro("split-failures").succeeded()
    assert "train-base" in again.stages_run
    assert "prepare-data" not in again.stages_run
    project.set_parameters({"identification": "sgd-influence"})
    refused = project.repro("split-failures")
    assert "the score trajectory follows the base training, which model.trained true leaves" in refused.stderr


def _trained(root: Path) -> Path:
    """Weights for the network, which make some failures."""
    path = root / "weights/mine.safetensors"
    script = (
        "import safetensors.torch, sys, torch; sys.path.insert(0, 'networks'); torch.manual_seed(0);"
        "from nets.small import Net; safetensors.torch.save_file(Net().state_dict(), 'weights/mine.safetensors')"
    )

    subprocess.run([sys.executable, "-c", script], cwd=root, check=True)
    return path
