"""A killed run goes on where it was, to the same last byte, and never from the progress of another computation."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import PurePath

import pytest

from conftest import Finished, Moment, Outcome, Project, finish

REPLACED = ("os.rename", "*/.scratch/*.partial")
"""What happens whenever a checkpoint takes its predecessor's place."""
WRITTEN = ("open", "*.writing/*")
"""What happens whenever a file of the result is opened, to be written or to be flushed to the disk."""
ROUNDS = 6
"""Of every computation, by the small parameters."""


@dataclass(frozen=True)
class Case:
    """A computation that keeps its progress.

    Attributes:
        stage: whose it is.
        description: how it speaks of itself.
        last: when it is killed last; None for when its result is in place and DVC has not recorded it.
        method, corruption: that need it.
    """

    stage: str
    description: str
    last: Moment | None
    method: str = "ewc"
    corruption: str = "small"


CASES = {
    # Before the last file of a folder.
    "training": Case("train-base", "training", Moment("train-base", "open", "*/margins.npy")),
    "victim": Case(
        "train-victim", "training the victim", Moment("train-victim", *WRITTEN, count=2), corruption="poison"
    ),
    "insertion": Case("update-posterior", "editing the posterior", None),
    "deletion": Case("treat", "editing the posterior", Moment("treat", *WRITTEN, count=2)),
    "retraining": Case("treat", "retraining", None, method="retrain"),
    "reference": Case("train-reference", "fine-tuning", None),
}


@pytest.fixture(scope="module")
def chains(
    finished: Finished, background: Executor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Future[None]]:
    """Every case in a project of its own."""
    folder = tmp_path_factory.mktemp("chains")
    return {
        name: background.submit(kill_and_go_on, finished.project.copy(folder / name), case)
        for name, case in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_killed_runs_go_on_to_the_same_bytes(chains: dict[str, Future[None]], name: str) -> None:
    chains[name].result()


def kill_and_go_on(project: Project, case: Case) -> None:
    if (case.method, case.corruption) != ("ewc", "small"):
        project.set_parameters({"method": case.method, "corruption": case.corruption})
        project.repro(case.stage).succeeded()
    expected = unmade(project, case.stage)
    scratch = project.root / ".scratch" / case.stage

    # First while the third round's checkpoint replaces the second's.
    third = Moment(case.stage, *REPLACED, count=3)
    for moment, round_kept in ((third, None), (case.last, 2)):
        if moment is None:
            outcome = project.stage(case.stage).succeeded()
        else:
            outcome = project.repro(case.stage, **moment.variables)
            assert outcome.status == -signal.SIGKILL, f"{moment} did not come: {outcome}"
        assert resumed_after(outcome, case.description) == round_kept
        for path in project.outputs(case.stage):
            whole = {name: content for name, content in expected.items() if is_below(name, path)}
            assert project.files(path) in ({}, whole), "what is in sight is whole"
        assert list(scratch.glob("*.safetensors"))
    outcome = project.repro(case.stage).succeeded()
    assert resumed_after(outcome, case.description) == ROUNDS
    assert project.files(*project.outputs(case.stage)) == expected
    assert not list(project.root.glob("*/.*.writing")), "nothing else is left"


def is_below(name: str, path: str) -> bool:
    return PurePath(name).is_relative_to(path)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that runs the tests in the background makes them ignore SIGINT, and their children inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_unreadable_checkpoint_is_not_used(project: Project) -> None:
    """Interrupted by hand, and then something happens to the disk."""
    expected = unmade(project, "train-base")
    moment = Moment("train-base", *REPLACED, count=3, signal=signal.SIGINT, group=False)
    outcome = project.stage("train-base", **moment.variables)
    assert outcome.status == 1
    assert outcome.messages[-1] == "train-base: interrupted; run it again to go on from the last checkpoint"

    [checkpoint] = (project.root / ".scratch/train-base").glob("*.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    outcome = project.stage("train-base").succeeded()
    assert resumed_after(outcome, "training") is None
    assert any("cannot be read" in message for message in outcome.messages)
    assert project.files(*project.outputs("train-base")) == expected


def test_a_second_process_is_refused_while_the_first_lives(project: Project) -> None:
    """Killing DVC alone leaves the training running."""
    expected = unmade(project, "train-base")
    moment = Moment("train-base", *REPLACED, count=2, signal=signal.SIGSTOP, group=False)
    first = project.start_stage("train-base", **moment.variables)
    _, status = os.waitpid(first.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    try:
        second = project.stage("train-base")
        assert second.status == 1
        assert f"process {first.pid} is still running train-base here" in second.messages[-1]
    finally:
        first.send_signal(signal.SIGCONT)
    finish(first).succeeded()
    assert project.files(*project.outputs("train-base")) == expected


def unmade(project: Project, stage: str) -> dict[str, bytes]:
    """What the stage wrote, after making it as if it had never run."""
    artefacts = project.files(*project.outputs(stage))
    assert artefacts
    project.forget(stage)
    assert not project.files(*project.outputs(stage))
    return artefacts


def resumed_after(outcome: Outcome, description: str) -> int | None:
    """The round after which a run went on, or None if it began at the beginning."""
    match = re.search(rf"^{description}: resuming after round (\d+) of at most", outcome.stdout, re.MULTILINE)
    return int(match[1]) if match else None
