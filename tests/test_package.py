"""The package as others install it: built, without the repository, and at work in a project of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import Project

BUILD = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"


@pytest.fixture(scope="module")
def source(bare: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a source distribution of the working tree unpacks to."""
    tree = bare.copy(tmp_path_factory.mktemp("tree") / "project")
    tree.run(sys.executable, "-c", BUILD.split("; b.build_wheel")[0]).succeeded()
    [packed] = (tree.root / "dist").glob("modelrepair-*.tar.gz")
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(packed) as archive:
        # Python 3.11 has filters from its fourth release on; the archive has just been made.
        archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    [unpacked] = folder.iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheel(source: Path, bare: Project) -> Path:
    """Built from the source distribution alone."""
    replace(bare, root=source).run(sys.executable, "-c", BUILD).succeeded()
    [built] = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, bare: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """An empty folder, in which Python finds what is in the wheel, and nothing of the repository."""
    place = tmp_path_factory.mktemp("installed")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel)
    bare.run(sys.executable, *pip).succeeded()
    # Before whatever else is installed for the tests.
    environment = {**bare.environment, "PYTHONPATH": str(place)}
    environment["PATH"] = f"{place / 'bin'}:{environment['PATH']}"
    return Project(tmp_path_factory.mktemp("elsewhere"), environment)


@pytest.fixture(scope="module")
def mine(installed: Project) -> Project:
    """A project of two overlapping classes, of which some training labels are wrong, that has been run once."""
    draw, folder = np.random.default_rng(0), installed.root
    sides = {}
    for side, count in (("train", 120), ("test", 200)):
        labels = np.arange(count) % 2
        sides[f"{side}_inputs"] = (draw.normal(size=(count, 3)) + 1.5 * labels[:, None]).astype(np.float32)
        wrong = (draw.random(count) < 0.4) & (labels == 1) & (side == "train")
        sides[f"{side}_labels"] = np.where(wrong, 0, labels)
    np.savez(folder / "points.npz", **sides)
    installed.run("modelrepair", "init", "mine", "--data=points.npz").succeeded()
    project = replace(installed, root=folder / "mine")
    project.set_parameters({"training.epochs": 10})
    outcome = project.repro().succeeded()
    assert outcome.stages_run == list(project.stages)
    return project


def test_the_wheel_holds_all_that_runs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = Path(__file__).parents[1] / "src/modelrepair"
    expected = {
        f"modelrepair/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("modelrepair/")} == expected
    assert {
        "modelrepair/evaluation/page/assets/page.html",
        "modelrepair/params.yaml",
        "modelrepair/pipeline.yaml",
        "modelrepair/py.typed",
        "modelrepair/stages/treat.py",
    } <= expected


def test_the_command_says_its_version(installed: Project) -> None:
    by_name = installed.run("modelrepair", "--version").succeeded().stdout
    assert by_name == installed.run("python3", "-m", "modelrepair", "--version").succeeded().stdout
    assert by_name.startswith("modelrepair 0.")


def test_a_project_elsewhere_runs_what_is_installed(mine: Project) -> None:
    numbers = json.loads((mine.root / "metrics/repair.json").read_text())
    assert numbers["used"]["method"] == "mend"
    assert numbers["identification"]["selected"] > 0
    assert (mine.root / "metrics/page.html").stat().st_size > 10_000
    shown = mine.run("modelrepair", "show").succeeded().stdout
    assert f"took as causes {numbers['identification']['selected']} training examples" in shown


def test_an_unchanged_package_runs_nothing_and_a_changed_one_what_it_concerns(mine: Project) -> None:
    assert mine.repro().succeeded().stages_run == ["note-code"]
    code = Path(mine.environment["PYTHONPATH"]) / "modelrepair/selection/rules.py"
    code.write_text(f"{code.read_text()}\n# A remark.\n")
    run = mine.repro().succeeded().stages_run
    assert run == ["note-code", "know-causes", "select-causes"], "their results are the same, so nothing else"


def test_settings_are_chosen_as_in_the_repository(mine: Project) -> None:
    mine.commit()
    run = mine.dvc("exp", "run", "-S", "evaluation.relearning_steps=1").succeeded().stages_run
    assert run == ["note-code", "choose-method", "evaluate"]


def test_a_network_that_is_not_there_is_refused(mine: Project) -> None:
    mine.set_parameters({"model.network": "lenet6"})
    outcome = mine.repro()
    assert outcome.status != 0
    assert any("no network 'lenet6': choose one of" in line for line in outcome.messages)


def test_without_the_package_python_says_so(mine: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-m", "modelrepair.stages.note_code", "linear"],
        cwd=mine.root,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in mine.environment.items() if name != "PYTHONPATH"},
    )
    assert done.returncode == 1
    assert "No module named 'modelrepair'" in done.stderr
