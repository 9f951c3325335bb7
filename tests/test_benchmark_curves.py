"""The benchmarks of removal and of sample efficiency: what is measured, what is kept, what is run."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML

import cases as cases_module
import efficiency
import removal
import results_table
import working_copies
from conftest import ROOT
from modelrepair.curvature import Identity
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.treatment import FineTuneSettings
from modelrepair.treatment import FineTune, Patient
from models import make_examples, make_model, one_thread  # noqa: F401

CONTENT = cases_module.read_yaml(ROOT / "params.yaml")
GROUPS = {name: make_examples("mlp", count=count) for name, count in (("query", 3), ("remaining", 8))}


def problem() -> tuple[TrainedModel, Examples, NDArray[np.int64], NDArray[np.bool_], dict[str, Examples]]:
    random = np.random.default_rng(0)
    examples = make_examples("mlp", count=20)
    return make_model("mlp"), examples, random.permutation(20), random.random(20) < 0.3, GROUPS


def fine_tuning() -> cases_module.Run:
    wanted = cases_module.Runs(found=["loss/finetune"])
    [run] = cases_module.read_cases(removal.CASES, ROOT, {}, ["pairs-25"], wanted)["pairs-25"].runs
    return run


def options(folder: Path, **values: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "case": "pairs-25",
            "identifications": ["loss", "random"],
            "counts": [0, 4, 9, 20],
            "failures": ["ewc/ewc", "ewc/finetune"],
            "reserved": ["bir/bir"],
            "seeds": None,
            "folder": None,
            "work": folder,
            "output": folder / "out.csv",
            **values,
        }
    )


class Imagined:
    """Working copies in which nothing runs."""

    runs: list[tuple[dict[str, Any], tuple[str, ...]]]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Imagined:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextlib.contextmanager
    def one(self) -> Iterator[Path]:
        yield Path()

    def reach(self, copy: Path, parameters: dict[str, Any], *stages: str) -> str:
        type(self).runs.append((parameters, stages))
        return ""

    def run(self, copy: Path, parameters: dict[str, Any]) -> Any:
        self.reach(copy, parameters)
        most = parameters["failures"]["most_queries"] or parameters["failures"]["most_reserved"] or 100
        accuracies = dict.fromkeys(cases_module.ACCURACIES, (most + parameters["seed"] % 2) / 200)
        metrics = {
            "used": {"uses": "guard"},
            "identification": {"auroc": most / 100, "causes": 3},
            "repair": {"before": accuracies, "after": accuracies},
        }
        return working_copies.Outcome(metrics, {}, [], 0.0)


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> type[Imagined]:
    for module in (removal, efficiency):
        monkeypatch.setattr(module, "WorkingCopies", Imagined)
    monkeypatch.setattr(removal, "problem", lambda root: problem())
    monkeypatch.setattr(efficiency, "read_json", lambda path: {"query": 7})
    Imagined.runs = []
    return Imagined


# Removal


def test_training_on_is_the_treatment_to_its_end() -> None:
    base, examples, order, _, _ = problem()
    settings = FineTuneSettings(learning_rate=0.01, epochs=3, batch_size=8, weight_decay=0.1)
    found = removal.trained_on(base, examples.subset(np.sort(order[4:])), settings, seed=2)
    patient = Patient(
        base,
        examples,
        order[:4],
        GROUPS["remaining"],
        GROUPS["query"],
        lambda *_: Identity.fit(base, examples),
        guarded=False,
        seed=2,
    )
    expected = FineTune(**settings.options).treat(patient).model
    assert torch.equal(found.parameter_vector, expected.parameter_vector)
    assert not torch.equal(found.parameter_vector, base.parameter_vector)


def test_a_curve_removes_the_highest_or_the_corrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imagined: type[Imagined]
) -> None:
    base, examples, order, truth, groups = problem()
    kept, trained = tmp_path / "kept.csv", []

    def training_on(base: TrainedModel, examples: Examples, *_: Any) -> TrainedModel:
        trained.append(examples.inputs.copy())
        return base

    monkeypatch.setattr(removal, "trained_on", training_on)
    run = fine_tuning()
    rows = removal.curve(Path(), run, 100, options(tmp_path), kept)
    assert list(rows["removed"].astype(int)) == [0, 4, 9], "20 would leave none"
    for count, inputs in zip((0, 4, 9), trained, strict=True):
        np.testing.assert_array_equal(inputs, examples.inputs[np.sort(order[count:])])
    for name, group in groups.items():
        assert rows[name].to_numpy() == pytest.approx(100 * base.accuracy(group), rel=1e-3)
    assert rows["holdout"].isna().all(), "there are none"

    only = removal.curve(Path(), run, 100, options(tmp_path), kept, corrupted=True)
    assert list(only["removed"].astype(int)) == [truth.sum()]
    np.testing.assert_array_equal(trained[-1], examples.inputs[~truth])

    count = len(trained)
    again = removal.curve(Path(), run, 100, options(tmp_path), kept)
    assert len(trained) == count, "what is kept is not measured again"
    pd.testing.assert_frame_equal(again, rows)
    removal.curve(Path(), run, 101, options(tmp_path), kept)
    assert len(trained) == count + 3, "another seed is"
    changed = (base, examples, order[::-1].copy(), truth, groups)
    monkeypatch.setattr(removal, "problem", lambda root: changed)
    removal.curve(Path(), run, 100, options(tmp_path), kept)
    assert len(trained) == count + 6, "and so are other scores"


def test_a_removal_benchmark_that_was_ended_goes_on_to_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imagined: type[Imagined]
) -> None:
    removal.benchmark(options(tmp_path / "whole"))
    stages = {stages for _, stages in imagined.runs}
    assert stages == {("score-influence",)}
    seeds = [(parameters["method"], parameters["seed"]) for parameters, _ in imagined.runs]
    assert [seed for _, seed in seeds] == [100, 100, 101, 101]

    training_on, count = removal.trained_on, 0

    def dying(*arguments: Any) -> TrainedModel:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return training_on(*arguments)

    monkeypatch.setattr(removal, "trained_on", dying)
    with pytest.raises(KeyboardInterrupt):
        removal.benchmark(options(tmp_path / "ended"))
    count = 5
    table = removal.benchmark(options(tmp_path / "ended"))
    assert count - 5 == 2 * (3 + 3 + 1) - 4
    assert (tmp_path / "ended/out.csv").read_bytes() == (tmp_path / "whole/out.csv").read_bytes()

    assert list(table.columns) == [*removal.NAMES, "removed", "mean", "std", "seeds"]
    assert set(table["identification"]) == {"loss", "random", "corrupted"}
    assert set(table["seeds"]) == {2}
    rows = table[(table["identification"] == "loss") & (table["metric"] == "query")]
    assert list(rows["removed"]) == [0, 4, 9]
    picture = tmp_path / "removal.png"
    removal.draw(table, picture)
    content = picture.read_bytes()
    removal.draw(results_table.read(tmp_path / "ended/out.csv", removal.NAMES), picture)
    assert picture.read_bytes() == content


def test_what_ranks_is_run_by_default() -> None:
    names = removal.ranking_identifications(CONTENT)
    assert "request" not in names
    assert set(CONTENT["identifications"]) - set(names) == {"request", "grow", *removal.VERY_SLOW}
    assert {*removal.SHOWN, removal.RANDOM} <= set(names)
    runs = removal.planned_runs(options(Path(), identifications=None))
    assert [run.identification for run, _ in runs] == names


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"case": "pairs"}, "there is no case 'pairs'"),
        ({"identifications": ["lost"]}, "there is no identification 'lost': choose one of"),
        ({"identifications": ["request"]}, "scores no examples"),
    ],
)
def test_removal_of_what_is_not_there_is_refused(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(RepairError, match=words):
        removal.planned_runs(options(tmp_path, **values))


# Sample efficiency


def test_pairs_are_given_more_and_more(tmp_path: Path, imagined: type[Imagined]) -> None:
    table = efficiency.benchmark(options(tmp_path, counts=[50, 10]))
    given = [(p["failures"]["most_queries"], p["failures"]["most_reserved"]) for p, _ in imagined.runs]
    of_a_seed = [(10, None)] * 2 + [(50, None)] * 2 + [(None, None)] * 2
    assert given == 2 * [*of_a_seed, (None, 10), (None, 50), (None, None)]
    assert [p["seed"] for p, _ in imagined.runs] == [100] * 9 + [101] * 9

    table = results_table.read(tmp_path / "out.csv", efficiency.NAMES)
    assert list(table.columns) == [*efficiency.NAMES, "count", "mean", "std", "seeds"]
    rows = table.set_index([*efficiency.NAMES[1:], "count"])
    # Once, though two pairs measure it.
    assert rows.loc[("failures", "ewc", "", "auroc", 10), "mean"] == 0.1
    assert rows.loc[("failures", "ewc", "ewc", "holdout", 50), ["mean", "seeds"]].tolist() == [25.25, 2]
    assert rows.loc[("failures", "ewc", "ewc", "holdout", 50), "std"] == pytest.approx(
        0.25 * math.sqrt(2), rel=1e-3
    )
    assert rows.loc[("reserved", "bir", "bir", "all", math.inf), "mean"] == 50.25
    assert not rows.index.duplicated().any()
    assert set(table["metric"]) == set(efficiency.METRICS)

    picture = tmp_path / "efficiency.png"
    efficiency.draw(table, picture)
    content = picture.read_bytes()
    efficiency.draw(table, picture)
    assert picture.read_bytes() == content


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"case": "pairs"}, "there is no case 'pairs'"),
        (
            {"failures": ["loss/finetune"]},
            "loss/finetune looks at no examples and was to be given more or less",
        ),
        ({"reserved": ["ewc/ewc"]}, "ewc/ewc looks at failures and was to be given more or less reserved"),
        ({"counts": [0]}, r"failures\.most_queries is 0: give a whole number of 1 or more, or null"),
        ({"failures": [], "reserved": []}, "no pair is to be given anything"),
    ],
)
def test_efficiency_of_what_looks_at_nothing_is_refused(
    values: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(RepairError, match=words):
        efficiency.planned_points(options(tmp_path, **{"counts": [10], **values}))


def test_the_default_pairs_can_be_run(tmp_path: Path) -> None:
    content = YAML(typ="safe").load(efficiency.CASES)["cases"]
    assert "mnist-label-lenet" in content
    points, seeds = efficiency.planned_points(
        options(tmp_path, case="mnist-label-lenet", counts=efficiency.COUNTS, **efficiency.PAIRS)
    )
    assert len(points) == (len(efficiency.COUNTS) + 1) * sum(map(len, efficiency.PAIRS.values()))
    assert seeds == content["mnist-label-lenet"]["seeds"]
