"""What a stage may read, how its checkpoints are named, and how it fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from conftest import ROOT, Finished, Project
from modelrepair.errors import RepairError
from modelrepair.pipeline.stage import Stage, run_stage
from modelrepair.settings import Positive, Seed, Settings

STAGES = list(YAML().load(ROOT / "dvc.yaml")["stages"])


class Demonstration(Settings):
    """Of the stage demo."""

    seed: Seed
    rate: Positive = 0.5


class TestSettings:
    @staticmethod
    def stage(root: Path, content: str | None) -> Stage:
        folder = root / "data/method"
        folder.mkdir(parents=True)
        if content is not None:
            (folder / "demo.json").write_text(content)
        return Stage("demo", root)

    def test_are_those_that_choose_method_wrote(self, tmp_path: Path) -> None:
        settings = self.stage(tmp_path, '{"seed": 3, "rate": 2}').settings(Demonstration)
        assert (settings.seed, settings.rate) == (3, 2.0)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, r"demo\.json is missing: run `dvc checkout`"),
            ('{"seed": 3', r"demo\.json is truncated or damaged"),
            (
                '{"seed": "three"}',
                r"demo\.json is not as choose-method writes it \(seed is 'three'.*: run `dvc repro`",
            ),
            ('{"seed": 3, "colour": 1}', r"not as choose-method writes it \(there is no setting colour"),
            ("[3]", r"not as choose-method writes it"),
        ],
    )
    def test_of_another_kind_are_refused(self, tmp_path: Path, content: str | None, expected: str) -> None:
        with pytest.raises(RepairError, match=expected):
            self.stage(tmp_path, content).settings(Demonstration)


DEFINITION = (
    'stages: {demo: {cmd: python3 demo.py, deps: [code.py, data, one.json, "nets/${model.network}.py"]}}'
)


def write_project(root: Path) -> Path:
    """A pipeline of one stage."""
    for name, content in {
        "dvc.yaml": DEFINITION,
        "code.py": "1",
        "one.json": "{}",
        "data/a.npy": "a",
        "data/b.npy": "b",
        "other.py": "2",
        "nets/small.py": "3",
        "nets/unused.py": "4",
        "params.yaml": "{model: {network: small}, other: 1}",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def checkpoint_file(root: Path) -> Path:
    """Where the stage keeps its progress."""
    checkpoint = Stage("demo", root).checkpoint()
    checkpoint.save({}, {})
    [file] = (root / ".scratch" / "demo").glob("*.safetensors")
    return file


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("nets/small.py", "4"),
        ("code.py", "2"),
        ("one.json", "{ }"),
        ("data/b.npy", "c"),
        ("data/c.npy", ""),
        ("dvc.yaml", DEFINITION.replace("python3", "python3 -O")),
    ],
    ids=["network", "code", "input", "file of a folder", "another file in a folder", "command"],
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
    (root / "params.yaml").write_text("{model: {network: small}, other: 2}")
    (root / "nets/unused.py").write_text("5")
    (root / "other.py").write_text("3")
    os.utime(root / "code.py", (0, 0))
    assert checkpoint_file(root).name == before.name


class TestRecorded:
    """What DVC has written down needs no progress; it says so in dvc.lock, by its own hashes."""

    @pytest.mark.parametrize("name", STAGES)
    def test_after_a_run(self, finished: Finished, name: str) -> None:
        assert Stage(name, finished.project.root).is_recorded()

    @pytest.mark.parametrize("file", ["stages/treat.py", "treatment/base.py", "networks/lenet5.py"])
    def test_not_after_a_change(self, project: Project, file: str) -> None:
        code = project.root / "src/modelrepair" / file
        code.write_text(code.read_text() + "\n")
        assert not Stage("treat", project.root).is_recorded()

    def test_not_after_a_file_more_or_another_command(self, project: Project) -> None:
        more = project.root / "models/base/more"
        more.touch()
        assert not Stage("treat", project.root).is_recorded()
        more.unlink()
        assert Stage("treat", project.root).is_recorded()
        pipeline = project.root / "dvc.yaml"
        pipeline.write_text(pipeline.read_text().replace("stages.treat\n", "stages.treat --quick\n"))
        assert not Stage("treat", project.root).is_recorded()

    @pytest.mark.parametrize("content", [None, "", "stages: {}", "stages: {demo: 3}", "stages: {demo: {"])
    def test_not_without_a_word_in_the_lock_file(self, tmp_path: Path, content: str | None) -> None:
        root = write_project(tmp_path)
        if content is not None:
            (root / "dvc.lock").write_text(content)
        assert not Stage("demo", root).is_recorded()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("recorded", [True, False])
def test_progress_is_dropped_once_a_run_was_finished_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool, recorded: bool
) -> None:
    """Who runs it again wants it computed. Anything else goes on: dvc.lock may have come with a clone, and a kill may
    come between the stage's end and DVC's word.
    """
    stage = Stage("demo", write_project(tmp_path))
    monkeypatch.setattr(Stage, "is_recorded", lambda stage: recorded)
    stage.checkpoint().save({}, {"round": 3})
    if finished:
        stage.finish()
    again = Stage("demo", tmp_path).checkpoint()
    assert (again.load() is None) == (finished and recorded)
    assert again.finished == (finished and not recorded)


def test_progress_of_a_stage_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RepairError, match=r"dvc\.yaml does not say what stages\.treat is"):
        Stage("treat", write_project(tmp_path)).checkpoint()


def test_a_gpu_without_memory_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stages/train_base.py"])

    def fail(error: Exception) -> Callable[[Stage], None]:
        def main(stage: Stage) -> None:
            raise error

        return main

    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    with pytest.raises(
        SystemExit, match=r"^train-base: the GPU has no memory left \(CUDA out of memory\..*: set a smaller"
    ):
        run_stage(fail(full))
    with pytest.raises(RuntimeError, match="something else"):
        run_stage(fail(RuntimeError("something else")))


def test_no_stage_but_the_first_reads_params(bare: Project) -> None:
    """What a stage depends on is what DVC sees it depend on."""
    for name, definition in bare.stages.items():
        assert ("params.yaml" in definition["deps"]) == (name == "choose-method")
        own = f"data/method/{name}.json"
        assert (own in definition["deps"]) == (name != "choose-method")
        assert "params" not in definition
    assert bare.read_yaml("dvc.yaml")["params"] == ["params.yaml"], (
        "each setting is a column of `dvc exp show`"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_outside_the_environment_every_stage_says_so(bare: Project, stage: str) -> None:
    """-S leaves out everything that was installed."""
    outcome = bare.stage(stage, "-S")
    assert outcome.status == 1
    [message] = outcome.messages
    assert "not installed in this Python" in message
    assert "make repro" in message


def test_where_the_current_folder_is_no_place_for_modules_stages_run(project: Project) -> None:
    outcome = project.repro("--force", "--single-item", "choose-method", PYTHONSAFEPATH="1").succeeded()
    assert outcome.stages_run == ["choose-method"]
    for name, definition in project.stages.items():
        module = f"modelrepair.stages.{name.replace('-', '_')}"
        assert definition["cmd"] == f"env PYTHONPATH=src:$PYTHONPATH python3 -P -m {module}"


def test_a_stage_runs_the_code_beside_it(project: Project) -> None:
    """And not that of an installed package: dvc.yaml lists this clone's modules."""
    code = project.root / "src/modelrepair/selection/rules.py"
    code.write_text(f"{code.read_text()}\nprint('the code of this clone')\n")
    assert "the code of this clone" in project.stage("select-causes").succeeded().stdout


def test_a_stage_says_where_it_should_be_run(bare: Project, tmp_path: Path) -> None:
    module = ("-m", "modelrepair.stages.choose_method")
    outcome = replace(bare, root=tmp_path).run("python3", *module, PYTHONPATH=str(bare.root / "src"))
    assert outcome.status == 1
    assert outcome.messages == [
        f"choose-method: there is no params.yaml in {tmp_path}: run stages from the project's folder, with `dvc repro`"
    ]
