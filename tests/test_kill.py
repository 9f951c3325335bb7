"""A killed run goes on where it was, to the same last byte, and never from the progress of another computation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import Finished, Moment, Project

CHECKPOINT = "*/.scratch/*.partial"
"""What is renamed whenever a checkpoint is replaced."""


@dataclass(frozen=True)
class Case:
    """A computation that keeps its progress.

    Attributes:
        stage: whose it is.
        method: that needs it.
        description: how it speaks of itself.
        rounds: how many there are.
    """

    stage: str
    method: str
    description: str
    rounds: int = 6


CASES = {
    "train-base": Case("train-base", "ewc", "training"),
    "update-posterior": Case("update-posterior", "ewc", "editing the posterior"),
    "treat by deletion": Case("treat", "ewc", "editing the posterior"),
    "treat by retraining": Case("treat", "retrain", "retraining"),
}


@pytest.fixture(params=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def expected(case: Case, project: Project) -> dict[str, bytes]:
    """What an uninterrupted run of the case's stage writes; after it, the stage is made not to have run."""
    if project.read_yaml("params.yaml")["method"] != case.method:
        project.set_parameters({"method": case.method})
        project.repro(case.stage).succeeded()
    artefacts = project.files(*project.outputs(case.stage))
    assert artefacts
    project.forget(case.stage)
    assert not project.files(*project.outputs(case.stage))
    return artefacts


def killed(project: Project, moment: Moment) -> None:
    """Run DVC up to the moment at which it is killed with the stage and all else in its process group."""
    outcome = project.repro(moment.stage, **moment.variables)
    assert outcome.status == -signal.SIGKILL, f"{moment} did not come: {outcome.stdout}\n{outcome.stderr}"


def resumed_after(output: str, description: str) -> int | None:
    """The round after which a run went on, or None if it began at the beginning."""
    match = re.search(rf"^{description}: resuming after round (\d+) of at most", output, re.MULTILINE)
    return int(match[1]) if match else None


def test_killed_runs_go_on_to_the_same_bytes(
    project: Project, case: Case, expected: dict[str, bytes]
) -> None:
    scratch = project.root / ".scratch" / case.stage
    moments = [
        # Before anything is kept, then after two more rounds and while a checkpoint is being replaced.
        (Moment(case.stage, "os.rename", CHECKPOINT, count=1), None),
        (Moment(case.stage, "os.rename", CHECKPOINT, count=3), 2),
        # All rounds are done, and of the result a part is written.
        (Moment(case.stage, "open", "*.writing/*", count=2), 2),
    ]
    for moment, _ in moments:
        killed(project, moment)
        visible = project.files(*project.outputs(case.stage))
        assert visible.items() <= expected.items(), "what is in sight is whole"
        assert [file.suffix for file in scratch.iterdir() if file.suffix == ".lock"] == [".lock"]
    outcome = project.repro(case.stage).succeeded()
    assert resumed_after(outcome.stdout, case.description) == case.rounds
    assert project.files(*project.outputs(case.stage)) == expected
    assert not scratch.exists(), "what was kept is deleted once the result is written"
    assert not list(project.root.glob("*/.*.writing")), "nor is anything else left"
