"""What a stage may read, how its checkpoints are named, and how it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from conftest import ROOT, Project
from modelrepair.errors import RepairError
from modelrepair.stage import Parameters, Stage

VALUES = {
    "seed": 3,
    "model": {"network": "lenet5", "options": {"bias": True}},
    "training": {"epochs": 5, "optimiser": {"name": "adam", "rate": 0.1}},
}
STAGES = list(YAML().load(ROOT / "dvc.yaml")["stages"])


class TestParameters:
    @staticmethod
    def declared(*names: str, values: Mapping[str, Any] = VALUES) -> Parameters:
        return Parameters(values, list(names), "train-base")

    def test_declared_values_are_handed_out(self) -> None:
        parameters = self.declared("seed", "model", "training.optimiser.name")
        assert parameters["seed"] == 3
        assert parameters["model"] == VALUES["model"]
        assert parameters["training"]["optimiser"]["name"] == "adam"
        assert list(parameters) == ["seed", "model", "training"]

    @pytest.mark.parametrize(
        "read",
        [
            lambda parameters: parameters["training"],
            lambda parameters: parameters.get("training"),
            lambda parameters: "training" in parameters,
            lambda parameters: parameters["nonsense"],
        ],
        ids=["item", "get", "membership", "nowhere"],
    )
    def test_other_values_are_not(self, read: Callable[[Parameters], object]) -> None:
        with pytest.raises(RepairError, match=r"stage train-base reads the parameter .*, which it does not"):
            read(self.declared("seed", "model"))

    def test_nor_is_a_neighbour_of_a_declared_value(self) -> None:
        parameters = self.declared("training.optimiser.name")
        with pytest.raises(RepairError, match=r"add training\.epochs to the params of train-base"):
            parameters["training"]["epochs"]
        with pytest.raises(
            RepairError, match=r"parameter training\.optimiser\.rate, which it does not declare"
        ):
            parameters["training"]["optimiser"]["rate"]

    def test_plain_holds_what_is_declared_and_nothing_else(self) -> None:
        plain = self.declared("seed", "training.optimiser.rate", "model").plain()
        assert plain == {
            "seed": 3,
            "training": {"optimiser": {"rate": 0.1}},
            "model": VALUES["model"],
        }

    @pytest.mark.parametrize(
        ("names", "missing"),
        [
            (["dataset"], "dataset"),
            (["training.patience"], "training.patience"),
            (["seed.offset"], "seed.offset"),
        ],
    )
    def test_a_declared_value_that_is_not_there(self, names: list[str], missing: str) -> None:
        with pytest.raises(RepairError, match=rf"params.yaml lacks {missing}, which stage train-base reads"):
            self.declared(*names)

    def test_a_value_that_is_missing_from_a_declared_section(self) -> None:
        parameters = self.declared("training")
        with pytest.raises(
            RepairError, match=r"params.yaml lacks training\.patience, which stage train-base"
        ):
            parameters["training"]["patience"]
        with pytest.raises(RepairError, match=r"lacks training\.optimiser\.momentum"):
            parameters["training"]["optimiser"]["momentum"]


DEFINITION = "stages: {demo: {cmd: python3 demo.py, deps: [code.py, data, one.json], params: [seed]}}"


def write_project(root: Path) -> Path:
    """A pipeline of one stage."""
    for name, content in {
        "dvc.yaml": DEFINITION,
        "params.yaml": "{seed: 0, other: 1}",
        "code.py": "1",
        "one.json": "{}",
        "data/a.npy": "a",
        "data/b.npy": "b",
        "other.py": "2",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def checkpoint_file(root: Path) -> Path:
    """Where the stage keeps its progress; releases the lock."""
    checkpoint = Stage("demo", root).checkpoint()
    checkpoint.save({}, {})
    [file] = (root / ".scratch" / "demo").glob("*.safetensors")
    checkpoint.clear()
    return file


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("params.yaml", "{seed: 1, other: 1}"),
        ("code.py", "2"),
        ("one.json", "{ }"),
        ("data/b.npy", "c"),
        ("data/c.npy", ""),
        ("dvc.yaml", DEFINITION.replace("python3", "python3 -O")),
    ],
    ids=["parameter", "code", "input", "file of a folder", "another file in a folder", "command"],
)
def test_progress_is_kept_apart_for_whatever_decides_the_result(
    tmp_path: Path, file: str, content: str
) -> None:
    root = write_project(tmp_path)
    before = checkpoint_file(root)
    (root / file).write_text(content)
    assert checkpoint_file(root).name != before.name


def test_names_of_files_count_and_not_their_content_alone(tmp_path: Path) -> None:
    root = write_project(tmp_path)
    before = checkpoint_file(root)
    (root / "data/a.npy").rename(root / "data/c.npy")
    assert checkpoint_file(root) != before


def test_progress_is_found_again_whatever_else_changes(tmp_path: Path) -> None:
    before = checkpoint_file(write_project(tmp_path / "one"))
    root = write_project(tmp_path / "two")
    (root / "params.yaml").write_text("{other: 2, seed: 0}")
    (root / "other.py").write_text("3")
    os.utime(root / "code.py", (0, 0))
    assert checkpoint_file(root).name == before.name


def test_a_stage_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RepairError, match=r"dvc\.yaml has no stage treat: its stages are demo"):
        Stage("treat", write_project(tmp_path))


def test_a_stage_that_reads_an_undeclared_parameter_fails(project: Project) -> None:
    script = project.root / "stages/corrupt_data.py"
    call = "def main(stage: Stage) -> None:\n"
    assert call in script.read_text()
    script.write_text(script.read_text().replace(call, f'{call}    stage.parameters["method"]\n'))
    outcome = project.repro("corrupt-data")
    assert outcome.status != 0
    assert (
        "corrupt-data: stage corrupt-data reads the parameter method, which it does not declare: "
        "add method to the params of corrupt-data in dvc.yaml"
    ) in outcome.messages
    assert "Traceback" not in outcome.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_outside_the_environment_every_stage_says_so(bare: Project, stage: str) -> None:
    """-S leaves out everything that was installed."""
    outcome = bare.stage(stage, "-S", "-E")
    assert outcome.status == 1
    [message] = outcome.messages
    assert "not installed in this Python" in message
    assert "make repro" in message


def test_a_stage_runs_the_code_beside_it(project: Project) -> None:
    """And not that of an installed package: dvc.yaml lists this clone's modules."""
    code = project.root / "src/modelrepair/selection/rules.py"
    code.write_text(f"{code.read_text()}\nprint('the code of this clone')\n")
    assert "the code of this clone" in project.stage("select-causes").succeeded().stdout


def test_a_stage_says_where_it_should_be_run(bare: Project, tmp_path: Path) -> None:
    outcome = replace(bare, root=tmp_path).run("python3", bare.root / "stages/choose_method.py")
    assert outcome.status == 1
    assert outcome.messages == [
        f"choose-method: there is no dvc.yaml in {tmp_path}: run stages from the project's folder, with `dvc repro`"
    ]
