"""What a user can get wrong ends with one clear sentence, and nothing that was there before is lost."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Finished, Outcome, Project, remove
from modelrepair.pipeline.artifacts import read_json, read_table, read_tensors, write_table, write_tensors


def sentence(outcome: Outcome, stage: str) -> str:
    """The one line with which a stage ended that could not do its work."""
    assert outcome.status == 1, f"{outcome.stdout}\n{outcome.stderr}"
    [message] = outcome.messages
    assert message.startswith(f"{stage}: ")
    return message


@pytest.fixture
def same_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """For running stages in this process, which spares them the import of torch."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield monkeypatch
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)


def run_here(project: Project, stage: str, same_process: pytest.MonkeyPatch) -> None:
    script = f"src/modelrepair/stages/{stage.replace('-', '_')}.py"
    with same_process.context() as patched:
        patched.chdir(project.root)
        patched.setattr(sys, "argv", [script])
        runpy.run_path(script, run_name="__main__")


def refusal(project: Project, stage: str, same_process: pytest.MonkeyPatch) -> str:
    """As `sentence`, of a stage that is run in this process."""
    with pytest.raises(SystemExit) as ended:
        run_here(project, stage, same_process)
    message = ended.value.code
    assert isinstance(message, str), "text given to sys.exit is printed, with status 1"
    assert message.startswith(f"{stage}: ")
    assert "\n" not in message
    return message


SMALL = "datasets.small"
MATRIX = "corruptions.small.confusion_matrix"
REFUSED: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "method": ("choose-method", {"method": "voodoo"}, r"no method 'voodoo': choose one of bir, erase"),
    "pair": (
        "choose-method",
        {"identification": "request"},
        r"identification 'request' scores no examples, so the selection 'small' cannot rank them",
    ),
    "type": (
        "choose-method",
        {"training.batch_size": "many"},
        r"training\.batch_size is 'many': give a whole number of 1 or more",
    ),
    "data file elsewhere": (
        "choose-method",
        {f"{SMALL}.file": "../small.npz"},
        r"datasets\.small\.file is '\.\./small\.npz', outside the folder data/own \(own_data\)",
    ),
    "list elsewhere": (
        "choose-method",
        {"selections.listed.file": "causes.csv", "selection": "listed"},
        r"selections\.listed\.file is 'causes\.csv', outside the folder requests",
    ),
    "data file": ("prepare-data", {f"{SMALL}.file": "data/own/gone.npz"}, r"gone\.npz cannot be read"),
    "test set too small": ("prepare-data", {f"{SMALL}.assessment": 500}, "fewer than"),
    "nothing left for discovery": ("prepare-data", {f"{SMALL}.assessment": 160}, "none to discover failures"),
    "training set too small": (
        "prepare-data",
        {"dataset": "mnist-sample", "datasets.mnist-sample.training_per_class": 501},
        "has only 500 examples",
    ),
    "row above 1": (
        "corrupt-data",
        {MATRIX: {"one": {"seven": 0.6, "nine": 0.6}}},
        r"row of class one sums to 1\.2",
    ),
    "row below 1": (
        "corrupt-data",
        {MATRIX: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.9, 0], [0, 0, 0, 1]]},
        r"row of class seven sums to 0\.9",
    ),
    "shape": ("corrupt-data", {MATRIX: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "should be 4 rows of 4 rates"),
    "ragged shape": ("corrupt-data", {MATRIX: [[1], [0, 1]]}, "should be 4 rows of 4 rates"),
    "class": (
        "corrupt-data",
        {MATRIX: {"one": {"eight": 0.4}}},
        "have no class 'eight': choose from one, six, seven, nine",
    ),
    "failure class": ("split-failures", {"failures.classes": ["eight"]}, "have no class 'eight'"),
    "selection larger than the data": (
        "select-causes",
        {"selections.same.count": 217, "selection": "same"},
        "asks for 217 causes and there are 216",
    ),
    "threshold that nothing reaches": (
        "select-causes",
        {"selection": "positive", "selections.positive.threshold": 1e9},
        "finds no causes",
    ),
}
"""Stage, parameters, and what the stage says. Everything that the schema alone can see is in test_settings.py."""


@pytest.fixture(scope="module")
def shared(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return finished.project.copy(tmp_path_factory.mktemp("shared") / "project")


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_parameters(
    shared: Project, finished: Finished, same_process: pytest.MonkeyPatch, name: str
) -> None:
    stage, values, expected = REFUSED[name]
    with changed(shared, values):
        if stage != "choose-method":
            run_here(shared, "choose-method", same_process)
        message = refusal(shared, stage, same_process)
    assert re.search(expected, message), message
    assert shared.artefacts() == finished.artefacts, "what was there stays"


@contextmanager
def changed(project: Project, values: Mapping[str, Any]) -> Iterator[None]:
    """Other parameters for a while, and the settings that come of them."""
    files = project.files("params.yaml", "data/method")
    project.set_parameters(values)
    try:
        yield
    finally:
        for name, content in files.items():
            (project.root / name).write_bytes(content)


@pytest.mark.parametrize("name", ["method", "pair", "type"])
def test_wrong_parameters_in_a_process_of_its_own(project: Project, name: str) -> None:
    stage, values, expected = REFUSED[name]
    project.set_parameters(values)
    assert re.search(expected, sentence(project.stage(stage), stage))


def test_an_explosion_names_round_and_step(project: Project) -> None:
    project.set_parameters({"training.learning_rate": 1e30})
    project.stage("choose-method").succeeded()
    outcome = project.stage("train-base")
    assert outcome.status == 1
    assert re.match(
        r"train-base: training: the loss is (nan|inf) in round \d+, step \d+: .*smaller learning rate",
        outcome.messages[-1],
    )
    assert "Traceback" not in outcome.stderr


def test_no_damping_on_a_singular_fisher(project: Project, same_process: pytest.MonkeyPatch) -> None:
    """216 examples cannot stiffen thousands of directions."""
    project.set_parameters({"method": "ssse", "identifications.linear.damping": 0})
    run_here(project, "choose-method", same_process)
    run_here(project, "fit-fisher", same_process)
    message = refusal(project, "update-posterior", same_process)
    assert re.search(r"singular.*damping", message), message


def test_infinity_in_the_data_names_the_array(project: Project) -> None:
    arrays = dict(np.load(project.root / "data/own/small.npz"))
    arrays["test_inputs"] = arrays["test_inputs"].astype(np.float32)
    arrays["train_inputs"] = arrays["train_inputs"].astype(np.float32)
    arrays["train_inputs"][3, 0, 5, 5] = np.nan
    np.savez(project.root / "data/own/small.npz", **arrays)
    message = sentence(project.stage("prepare-data"), "prepare-data")
    assert "train_inputs of data/own/small.npz holds NaN or infinity" in message


def test_scores_that_are_no_numbers(project: Project, same_process: pytest.MonkeyPatch) -> None:
    path = project.root / "data/scores/scores.parquet"
    scores = read_table(path)
    scores.loc[[3, 8], "score"] = [np.nan, np.inf]
    write_table(path, scores)
    assert "2 of 216 scores are NaN or infinite" in refusal(project, "select-causes", same_process)


@pytest.mark.parametrize("stage", ["split-failures", "fit-fisher"])
def test_weights_that_are_no_numbers(project: Project, same_process: pytest.MonkeyPatch, stage: str) -> None:
    path = project.root / "models/base/weights.safetensors"
    weights = read_tensors(path)
    name = next(iter(weights))
    weights[name].view(-1)[0] = torch.nan
    write_tensors(path, weights)
    message = refusal(project, stage, same_process)
    assert f"{path} holds NaN or infinite numbers, the first in {name}" in message


INPUTS = {
    "train-victim": "data/method/train-victim.json",
    "corrupt-data": "data/original/train.parquet",
    "know-causes": "data/method/know-causes.json",
    "train-base": "data/original/train_inputs.npy",
    "split-failures": "models/base/weights.safetensors",
    "fit-fisher": "data/method/fit-fisher.json",
    "update-posterior": "models/fisher/diagonal/diagonal.safetensors",
    "score-influence": "models/posterior/weights.safetensors",
    "select-causes": "data/scores/scores.parquet",
    "treat": "data/causes/causes.parquet",
    "train-reference": "data/method/train-reference.json",
    "evaluate": "data/failures/assessment.parquet",
}


@pytest.mark.parametrize("stage", INPUTS)
def test_missing_or_truncated_inputs(
    shared: Project, finished: Finished, same_process: pytest.MonkeyPatch, stage: str
) -> None:
    path = shared.root / INPUTS[stage]
    content = path.read_bytes()
    try:
        path.write_bytes(content[: len(content) // 2])
        message = refusal(shared, stage, same_process)
        assert f"{path} is truncated or damaged" in message
        assert "run `dvc checkout --force`" in message
        remove(path)
        assert f"{path} is missing: run `dvc checkout`" in refusal(shared, stage, same_process)
    finally:
        remove(path)
        path.write_bytes(content)
    assert shared.artefacts() == finished.artefacts


def test_checkout_brings_back_what_was_damaged(project: Project, finished: Finished) -> None:
    """As the sentences say."""
    remove(project.root / "data/original/train_inputs.npy")
    weights = project.root / "models/base/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    project.dvc("checkout", "--force").succeeded()
    assert project.artefacts() == finished.artefacts


def test_one_single_failure_is_enough(project: Project, same_process: pytest.MonkeyPatch) -> None:
    path = project.root / "data/failures/discovery.parquet"
    table = read_table(path)
    first = table.index[table["is_query"]][0]
    write_table(path, table.assign(is_query=table.index == first))
    for stage in (
        "update-posterior",
        "score-influence",
        "select-causes",
        "treat",
        "train-reference",
        "evaluate",
    ):
        run_here(project, stage, same_process)
    assert np.isfinite(read_table(project.root / "data/scores/scores.parquet")["score"]).all()
    assert read_json(project.root / "metrics/repair.json")["repair"]["after"]["all"] > 0


def test_a_model_without_failures_is_good_news(project: Project) -> None:
    """Dark and bright images: nothing after split-failures runs, and a metric says why."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for side, count in (("train", 200), ("test", 200)):
        labels = np.arange(count) % 2
        arrays[f"{side}_labels"] = labels
        arrays[f"{side}_inputs"] = (
            generator.integers(0, 50, (count, 1, 14, 14)) + 200 * labels[:, None, None, None]
        ).astype(np.uint8)
    np.savez(project.root / "data/own/small.npz", **arrays)
    project.set_parameters({"corruption": "none"})
    outcome = project.repro()
    assert outcome.status != 0
    assert outcome.stages_run[-1] == "split-failures"
    assert not {"update-posterior", "treat", "evaluate"} & set(outcome.stages_run)
    [message] = [line for line in outcome.messages if line.startswith("split-failures: ")]
    assert "good news" in message
    assert "nothing to repair" in message
    assert "Traceback" not in outcome.stderr
    failures = json.loads((project.root / "metrics/failures.json").read_text())
    assert failures["query"] == 0
    assert failures["accuracy"] == 1
    assert "nothing to repair" in failures["note"]


def test_a_refusal_under_dvc_loses_nothing(project: Project, finished: Finished) -> None:
    project.set_parameters({"method": "voodoo"})
    outcome = project.repro()
    assert outcome.status != 0
    assert any(re.match(r"choose-method: there is no method 'voodoo': choose", m) for m in outcome.messages)
    assert "Traceback" not in outcome.stderr
    assert outcome.stages_run == ["choose-method"]
    project.set_parameters({"method": "ewc"})
    project.dvc("checkout").succeeded()
    assert project.artefacts() == finished.artefacts
    assert project.repro().succeeded().stages_run == []


def test_invalid_yaml_stops_dvc(project: Project, finished: Finished) -> None:
    (project.root / "params.yaml").write_text("seed: 0\nmethod: [ewc\n")
    outcome = project.repro()
    assert outcome.status != 0
    assert "params.yaml" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert project.artefacts() == finished.artefacts


def bound_by_permissions() -> list[str]:
    """What to put before a command so that permissions bind it."""
    if os.geteuid() != 0:
        return []
    prefix = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("permissions do not bind root, and root may not give up its rights here (setpriv)")
    return prefix


def test_a_folder_that_may_not_be_written(project: Project, finished: Finished) -> None:
    prefix = bound_by_permissions()
    (project.root / "data").chmod(0o500)
    try:
        outcome = project.run(*prefix, "python3", "src/modelrepair/stages/corrupt_data.py")
    finally:
        (project.root / "data").chmod(0o700)
    message = sentence(outcome, "corrupt-data")
    assert f"{project.root / 'data/corrupted'} could not be written (Permission denied)" in message
    assert project.artefacts() == finished.artefacts


def test_a_full_disk(project: Project) -> None:
    """A file system of 64 KiB over `data`, where what was there is small and what is to come is not."""
    project.set_parameters({"dataset": "mnist-sample"})
    project.stage("choose-method").succeeded()
    before = project.artefacts()
    unshare = ["unshare", "--map-root-user", "--mount", "sh", "-ec"]
    mount = f"mount -t tmpfs -o size=64k tmpfs '{project.root / 'data'}'"
    if shutil.which("unshare") is None or subprocess.run([*unshare, mount], capture_output=True).returncode:
        pytest.skip("this user cannot mount a small file system (unshare --map-root-user --mount)")
    script = (
        f"settings=$(cat data/method/prepare-data.json); {mount}; mkdir data/method data/original; "
        'echo "$settings" > data/method/prepare-data.json; echo old > data/original/train.parquet; '
        "python3 src/modelrepair/stages/prepare_data.py || status=$?; ls -A data data/original; exit $status"
    )
    outcome = project.run(*unshare, script)
    message = sentence(outcome, "prepare-data")
    assert "the disk, the quota or the limit on file sizes is exhausted" in message
    assert outcome.stdout.split() == ["data:", "method", "original", "data/original:", "train.parquet"]
    assert project.artefacts() == before
