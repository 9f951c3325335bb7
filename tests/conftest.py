"""Clones of the project, in which tests run the real pipeline on data that take seconds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.utils.serialize import dump_yaml
from ruamel.yaml import YAML

from modelrepair.settings.data import MnistSampleSettings
from modelrepair.sources import load_source
from warm_python import warm_python

# Threads that spin while they wait are slow where other processes want the cores too. OpenMP reads this when torch is
# imported, which nothing above does.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).parents[1]
OBSERVER = Path(__file__).parent / "observer"
LONGEST = ("test_pipeline.py", "test_readme.py")
"""Files of few tests that each run the pipeline many times."""
CLASSES = {1: "one", 6: "six", 7: "seven", 9: "nine"}
"""Digits of the small data set, and what they are called there."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def stages_run(self) -> list[str]:
        """The stages whose command DVC ran, in order."""
        return re.findall(r"^Running stage '(?:dvc\.yaml:)?([^']+)'", self.stdout, re.MULTILINE)

    @property
    def messages(self) -> list[str]:
        """The lines on stderr, without progress bars."""
        lines = re.split(r"[\r\n]+", self.stderr)
        return [line for line in lines if line.strip() and not re.match(r".*\|.*\|.*\[.*\]", line)]

    def succeeded(self) -> Outcome:
        """This outcome, which must be a success."""
        assert self.status == 0, f"{self.stdout}\n{self.stderr}"
        return self


@dataclass(frozen=True)
class Project:
    """A clone of the project, with its own pipeline, cache and settings.

    Attributes:
        root: its folder.
        environment: variables of every process that is run in it.
    """

    root: Path
    environment: Mapping[str, str]

    def start(self, *command: str | Path, **variables: str) -> subprocess.Popen[str]:
        """A command in a process group of its own, so that it can be killed with all its children."""
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.root,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str | Path, **variables: str) -> Outcome:
        """A command and how it ended."""
        return finish(self.start(*command, **variables))

    def dvc(self, *arguments: str, **variables: str) -> Outcome:
        return self.run("dvc", *arguments, **variables)

    def repro(self, *arguments: str, **variables: str) -> Outcome:
        return self.dvc("repro", *arguments, **variables)

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).succeeded().stdout

    def commit(self) -> None:
        """Commit everything that git does not ignore."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "State of a test")

    def stage(self, name: str, *options: str, python: str | Path = "python3", **variables: str) -> Outcome:
        """Run a stage's script as DVC does, without DVC.

        Args:
            name: of the stage.
            options: of the interpreter.
            python: the interpreter.
            variables: of the environment.
        """
        return finish(self.start_stage(name, *options, python=python, **variables))

    def start_stage(
        self, name: str, *options: str, python: str | Path = "python3", **variables: str
    ) -> subprocess.Popen[str]:
        """As `stage`, without waiting."""
        code = os.pathsep.join(["src", *filter(None, [variables.pop("PYTHONPATH", None)])])
        module = f"modelrepair.stages.{name.replace('-', '_')}"
        return self.start(python, *options, "-P", "-m", module, DVC_STAGE=name, PYTHONPATH=code, **variables)

    def read_yaml(self, name: str) -> Any:
        return YAML().load(self.root / name)

    def write_yaml(self, name: str, content: Any) -> None:
        """In the layout of `dvc exp run -S`."""
        dump_yaml(self.root / name, content)

    def set_parameters(self, values: Mapping[str, Any]) -> None:
        """Change params.yaml: dotted names with their new values."""
        content = self.read_yaml("params.yaml")
        for name, value in values.items():
            *parents, last = name.split(".")
            place = content
            for parent in parents:
                place = place[parent]
            place[last] = value
        self.write_yaml("params.yaml", content)

    @property
    def stages(self) -> dict[str, Any]:
        """The definitions of the stages, in the order of dvc.yaml."""
        return dict(self.read_yaml("dvc.yaml")["stages"])

    def outputs(self, stage: str) -> list[str]:
        """Paths of what a stage writes."""
        definition = self.stages[stage]
        entries = [entry for kind in ("outs", "metrics", "plots") for entry in definition.get(kind, [])]
        return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]

    def lock(self) -> str:
        return (self.root / "dvc.lock").read_text()

    def locked(self, stage: str) -> Any:
        """What dvc.lock says of a stage: hashes of its code, inputs, parameters and outputs."""
        return self.read_yaml("dvc.lock")["stages"].get(stage)

    def files(self, *paths: str) -> dict[str, bytes]:
        """The visible files below these paths, with their content."""
        found = [file for path in paths for file in (self.root / path, *(self.root / path).rglob("*"))]
        names = {str(file.relative_to(self.root)): file for file in found if file.is_file()}
        return {name: file.read_bytes() for name, file in sorted(names.items()) if "/." not in name}

    def artefacts(self) -> dict[str, bytes]:
        """Every visible file that stages wrote."""
        return self.files(*(path for stage in self.stages for path in self.outputs(stage)))

    def forget(self, stage: str) -> None:
        """Make it as if the stage and those after it had never run."""
        names = list(self.stages)
        locked = self.read_yaml("dvc.lock")
        for name in names[names.index(stage) :]:
            locked["stages"].pop(name, None)
            for path in self.outputs(name):
                remove(self.root / path)
        self.write_yaml("dvc.lock", locked)
        remove(self.root / ".dvc/cache/runs")
        remove(self.root / ".scratch")

    def copy(self, folder: Path) -> Project:
        """The same state in another folder."""
        shutil.copytree(self.root, folder, symlinks=True)
        return replace(self, root=folder)


@dataclass(frozen=True)
class Moment:
    """A moment in the life of a stage at which a signal comes.

    Attributes:
        stage: the stage.
        event: name of one of Python's audit events.
        path: pattern of its first argument.
        count: which of those events, from 1; the signal comes before it takes effect.
        signal: which signal.
        group: whether it is sent to the whole process group, DVC and all.
    """

    stage: str
    event: str
    path: str
    count: int = 1
    signal: int = signal.SIGKILL
    group: bool = True

    @property
    def variables(self) -> dict[str, str]:
        """What to set for the stage to meet it."""
        return {"PYTHONPATH": str(OBSERVER), "OBSERVE_MOMENT": json.dumps(vars(self))}


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process, and end its group if the test is ended before it."""
    try:
        stdout, stderr = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return Outcome(process.returncode, stdout, stderr)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def small_data(file: Path) -> None:
    """Real digits of four classes as 14×14 images: 60 of each to train on and 50 to test on."""
    data = load_source(MnistSampleSettings(training_per_class=60), seed=0)
    arrays: dict[str, Any] = {"classes": np.array(list(CLASSES.values()))}
    for side, inputs, labels, count in (
        ("train", data.train_inputs, data.train_labels, 60),
        ("test", data.test_inputs, data.test_labels, 50),
    ):
        chosen = np.concatenate([np.flatnonzero(labels == digit)[:count] for digit in CLASSES])
        pixels = inputs[chosen].reshape(-1, 1, 14, 2, 14, 2)
        arrays[f"{side}_inputs"] = pixels.mean(axis=(3, 5)).astype(np.uint8)
        arrays[f"{side}_labels"] = np.repeat(np.arange(len(CLASSES)), count)
    np.savez(file, **arrays)


def small_parameters(parameters: dict[str, Any]) -> None:
    """Change the project's parameters to some that take seconds, whatever they were tuned to."""
    parameters["dataset"] = "small"
    parameters["datasets"]["small"] = {
        "source": "npz",
        "file": "data/own/small.npz",
        "validation_fraction": 0.1,
        "reserved": 40,
        "assessment": 80,
    }
    parameters["corruption"] = "small"
    swapped = {"one": {"seven": 0.4}, "seven": {"one": 0.4}, "six": {"nine": 0.4}, "nine": {"six": 0.4}}
    parameters["corruptions"]["small"] = {"kind": "label-noise", "confusion_matrix": swapped}
    parameters["corruptions"]["poison"] = {
        "kind": "adversarial",
        "classes": ["one", "seven"],
        "share": 0.3,
        "epsilon": 0.5,
    }
    parameters["method"] = "ewc"
    parameters["selection"] = "small"
    parameters["selections"]["small"] = {"rule": "fraction", "fraction": 0.25}
    # As many causes by another rule.
    parameters["selections"]["same"] = {"rule": "top-k", "count": 54}
    parameters["selections"]["class"]["name"] = "six"
    parameters["selections"]["fewer"] = {"rule": "top-k", "count": 20}
    parameters["training"].update(epochs=6, patience=6, batch_size=32, learning_rate=0.003)
    for member in (*parameters["identifications"].values(), *parameters["treatments"].values()):
        for settings in (member, member.get("posterior", {})):
            settings.update({name: 6 for name in ("rounds", "epochs") if name in settings})
    parameters["treatments"]["retrain"]["epochs"] = 6


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is quick comes first, then what runs the pipeline, by file: those that have most of it before the others,
    so that of two processes none is left alone with a long one."""
    weight = Counter(item.path for item in items if "bare" in getattr(item, "fixturenames", ()))
    items.sort(key=lambda item: (item.path in weight, item.path.name not in LONGEST, -weight[item.path]))


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are made on the CPU, where a test runs their networks by hand."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the `python3` that runs stages."""
    # A signal to the group of a stage is to reach the DVC that started it.
    with warm_python(tmp_path_factory.mktemp("python"), unserved=["OBSERVE_MOMENT"]) as folder:
        yield folder


@pytest.fixture(scope="session")
def bare(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The working tree's files with small parameters, committed, in which nothing has been run."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[user]\nname = Tester\nemail = tester@example.com\n")
    foreign = ("DVC", "GIT_", "PYTHON", "OBSERVE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {
        # `python3` in dvc.yaml is the one on PATH: here the one that runs the tests, with its imports done.
        "PATH": os.pathsep.join([str(python), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "DVC_NO_ANALYTICS": "1",
    }
    project = Project(tmp_path_factory.mktemp("bare"), environment)
    listing = ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0"):
        if (ROOT / name).is_file():
            (project.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project.root / name)
    for path in project.outputs("split-failures") + project.outputs("evaluate") + ["dvc.lock"]:
        remove(project.root / path)
    small_data(project.root / "data/own/small.npz")
    parameters = project.read_yaml("params.yaml")
    small_parameters(parameters)
    project.write_yaml("params.yaml", parameters)
    project.git("init", "--quiet")
    project.commit()
    return project


@dataclass(frozen=True)
class Finished:
    """A clone whose pipeline was run once, and how that went."""

    project: Project
    outcome: Outcome
    artefacts: Mapping[str, bytes] = field(repr=False)


@pytest.fixture(scope="session")
def finished(bare: Project, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A clone in which `dvc repro` has run and its results are committed; to be copied, not changed."""
    project = clone(bare, tmp_path_factory.mktemp("finished") / "project")
    outcome = project.repro().succeeded()
    project.commit()
    return Finished(project, outcome, project.artefacts())


@pytest.fixture(scope="session")
def background() -> Iterator[Executor]:
    """Runs long chains of commands side by side, two at a time: most of each is one process on one core."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def project(finished: Finished, tmp_path: Path) -> Project:
    """A copy of the finished clone, for one test alone."""
    return finished.project.copy(tmp_path / "project")


def clone(origin: Project, folder: Path) -> Project:
    """A fresh `git clone` of what is committed."""
    origin.git("clone", "--quiet", str(origin.root), str(folder))
    return replace(origin, root=folder)
