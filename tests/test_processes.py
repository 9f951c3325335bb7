"""Several processes make what one makes, and end together."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import process_cases
from conftest import OBSERVER, ROOT, Outcome, Project
from modelrepair.errors import RepairError
from modelrepair.models.passes import in_order, own
from modelrepair.pipeline import processes
from modelrepair.pipeline.artifacts import output_file, output_folder, read_tensors, write_json
from modelrepair.pipeline.stage import Stage
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings
from models import one_thread  # noqa: F401

DIFFERENCE = 1e-12
"""Of what is made of sums in float64, which are added up in another order, as a share of the largest entry."""
SINGLE = 1e-6
"""The same in float32."""


@pytest.fixture
def second_of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_group", processes._Group(number=1, count=3, here=3))


class TestParts:
    @pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
    @pytest.mark.parametrize("items", [0, 1, 3, 10, 53])
    def test_every_item_is_one_process_s(
        self, monkeypatch: pytest.MonkeyPatch, items: int, count: int
    ) -> None:
        parts = []
        for number in range(count):
            monkeypatch.setattr(processes, "_group", processes._Group(number, count, count))
            parts.append(own(range(0, 5 * items, 5)))
        assert [item for part in parts for item in part] == list(range(0, 5 * items, 5))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    def test_values_stand_where_they_belong(self) -> None:
        values = torch.tensor([[3.0, 30.0], [1.0, 10.0], [2.0, 20.0]])
        found = in_order(torch.tensor([2, 0, 1]), values, 3)
        assert found.tolist() == [[1, 10], [2, 20], [3, 30]]

    @pytest.mark.parametrize(
        ("places", "wrong"), [([0, 1], 1), ([0, 1, 1], 2), ([0, 1, 2, 2], 1), ([0, 1, 2, 3], 1), ([], 3)]
    )
    def test_a_value_that_is_missing_or_comes_twice_is_seen(self, places: list[int], wrong: int) -> None:
        given = torch.tensor(places, dtype=torch.int64)
        with pytest.raises(RepairError, match=rf"of 3 examples, {wrong} were taken by no process or by more"):
            in_order(given, given.double(), 3)


@pytest.mark.usefixtures("second_of_three")
def test_only_the_first_process_writes(tmp_path: Path) -> None:
    with output_folder(tmp_path / "folder") as folder:
        write_json(folder / "one.json", {})
        (folder / "picture.png").write_text("")
    with output_file(tmp_path / "file.json") as file:
        write_json(file, {})
        file.write_text("")
    write_json(tmp_path / "other.json", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["two", "0", "-1", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setenv(processes.PROCESSES, given)
    with (
        pytest.raises(RepairError, match=rf"MODELREPAIR_PROCESSES is '{given}': give a whole number"),
        processes.together(),
    ):
        pass


def test_a_rank_alone_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs have variables of that name too."""
    monkeypatch.setenv("RANK", "3")
    for name in ("WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert not processes.is_further()
    with processes.together():
        assert (processes.number(), processes.count()) == (0, 1)
    for name, value in (("WORLD_SIZE", "4"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    assert processes.is_further()


def test_without_accelerate_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(
        RepairError, match=r"2 processes .*: install it with `pip install 'modelrepair\[processes\]'"
    ):
        processes._join(2)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(RepairError, match=r"2 processes .* with 1 GPU: start one for each"):
        processes._join(4)


def run(folder: Path, count: int, *events: str) -> Outcome:
    """The cases by so many processes."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/process_cases.py"), str(folder), *events],
        env={**os.environ, processes.PROCESSES: str(count)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


MOST = 3
pytestmark = pytest.mark.skipif(
    0 < torch.cuda.device_count() < MOST,
    reason=f"{MOST} processes are started, each of which would want a GPU",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Outcome]]:
    """Two processes; two of which one has an error; three of which one is killed; and then three once more."""
    folder = tmp_path_factory.mktemp("processes")

    def killed_and_again() -> list[Outcome]:
        return [run(folder / "three", 3, "kill"), run(folder / "three", 3)]

    with ThreadPoolExecutor(max_workers=2) as pool:
        three = pool.submit(killed_and_again)
        two = pool.submit(run, folder / "two", 2)
        error = pool.submit(run, folder / "error", 2, "error")
        killed, again = three.result()
        return {
            "two": (folder / "two", two.result()),
            "error": (folder / "error", error.result()),
            "killed": (folder / "three", killed),
            "again": (folder / "three", again),
        }


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, torch.Tensor]]:
    """What one process makes of the cases."""
    return {"passes": process_cases.all_passes(), "curvatures": process_cases.all_curvatures()}


@pytest.mark.parametrize("which", ["two", "again"])
def test_all_numbers_of_processes_make_the_same(
    runs: dict[str, tuple[Path, Outcome]], alone: dict[str, dict[str, torch.Tensor]], which: str
) -> None:
    folder, outcome = runs[which]
    outcome.succeeded()
    for part, expected in alone.items():
        found = read_tensors(folder / "result" / f"{part}.safetensors")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name].dtype == value.dtype, name
            if name.startswith("trained/") or "/values/" in name:
                assert torch.equal(found[name], value), f"{name} is not the same to the byte"
            else:
                limit = SINGLE if value.dtype == torch.float32 else DIFFERENCE
                difference = (found[name] - value).abs().max() / value.abs().max()
                assert float(difference) <= limit, name


def test_an_error_of_one_process_is_the_error_of_all(runs: dict[str, tuple[Path, Outcome]]) -> None:
    folder, outcome = runs["error"]
    assert outcome.status == 1
    assert outcome.messages == [
        "cases: one input cannot be read: give another",
        "process 2 of 2 ended with status 1: all of them were ended; run it again to go on",
    ]
    assert [path.name for path in folder.iterdir()] == ["scratch"], "nothing half-written is left"


def test_a_killed_process_ends_all_and_the_next_run_goes_on(runs: dict[str, tuple[Path, Outcome]]) -> None:
    (_, killed), (folder, again) = runs["killed"], runs["again"]
    assert killed.status == 1
    assert killed.messages == [
        "process 3 of 3 was ended by signal 9: all of them were ended; run it again to go on"
    ]
    assert again.stdout == "resumed 3\n"
    assert {path.name for path in folder.iterdir()} == {"scratch", "result"}


class TestStages:
    """The real stages."""

    @pytest.mark.parametrize(
        ("stage", "launch", "variables"),
        [("fit-fisher", 2, {}), ("evaluate", 4, {"MODELREPAIR_PROCESSES": "2"})],
        ids=["as params.yaml says", "as a variable says, which goes before"],
    )
    def test_two_processes_write_the_bytes_of_one(
        self, project: Project, tmp_path: Path, stage: str, launch: int, variables: dict[str, str]
    ) -> None:
        expected = project.files(*project.outputs(stage))
        assert expected
        project.forget(stage)
        alone = project.files(*project.outputs(stage))
        assert alone == {}
        project.set_parameters({"launch.processes": launch})
        observed = {"PYTHONPATH": str(OBSERVER), "OBSERVE_READS": str(tmp_path)}
        outcome = project.stage(stage, **observed, **variables).succeeded()
        assert project.files(*project.outputs(stage)) == expected
        assert outcome.messages == []
        read = (tmp_path / stage).read_text().split()
        assert read.count(str(project.root / f"data/method/{stage}.json")) == 2

    def test_how_many_there_are_is_no_part_of_what_stages_are_given(self, tmp_path: Path) -> None:
        given = [
            stage_settings(read_parameters(ROOT / "params.yaml", {"launch.processes": count}))
            for count in (1, 4)
        ]
        assert given[0] == given[1]
        assert Stage("evaluate", ROOT).processes() == 1
        for content, wanted in (("launch: {processes: 3}", 3), ("launch: {}", 1), ("seed: 0", 1)):
            (tmp_path / "params.yaml").write_text(content)
            assert Stage("evaluate", tmp_path).processes() == wanted
        for content in ("launch: {processes: many}", "launch: {processes: 0}", "launch: 2", "launch:"):
            (tmp_path / "params.yaml").write_text(content)
            with pytest.raises(RepairError, match=r"launch\.processes is .*: give a whole number"):
                Stage("evaluate", tmp_path).processes()

    def test_torchrun_starts_them_too(self, project: Project) -> None:
        expected = project.files(*project.outputs("score-influence"))
        project.forget("score-influence")
        command = ["torchrun", "--standalone", "--nproc-per-node", "2"]
        module = "modelrepair.stages.score_influence"
        outcome = project.run(*command, "-m", module, DVC_STAGE="score-influence", PYTHONPATH="src")
        assert outcome.status == 0, outcome.stderr
        assert project.files(*project.outputs("score-influence")) == expected
        assert outcome.stdout.count("training examples score as harmful") == 1

    def test_one_process_imports_nothing_for_several(self, project: Project) -> None:
        outcome = project.stage("score-influence", "-X", "importtime").succeeded()
        imported = {line.rpartition("|")[2].strip() for line in outcome.stderr.splitlines()}
        assert "torch" in imported
        assert "accelerate" not in imported

    def test_what_is_no_number_of_processes_is_said_in_one_sentence(self, project: Project) -> None:
        project.set_parameters({"launch.processes": "many"})
        outcome = project.stage("score-influence")
        assert outcome.status == 1
        assert outcome.messages == [
            "score-influence: launch.processes is 'many': give a whole number of processes, 1 or more"
        ]
