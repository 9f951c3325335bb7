"""The benchmark of cases: what may stand in its file, what it runs and keeps, what its numbers are made of."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

import cases as cases_module
import markdown_tables
import repair
import results_table
import tables
import warm_python
import working_copies
from conftest import ROOT, Finished, Outcome, Project, finish
from modelrepair.errors import RepairError
from modelrepair.settings.parameters import read_parameters

OTHERS = {"kind": "label-noise", "confusion_matrix": {"0": {"5": 0.3}}}


def small_case(**changes: Any) -> dict[str, Any]:
    return {
        "description": "a case",
        "kind": "report",
        "seeds": [0, 1],
        "parameters": {"dataset": "mnist-sample"},
        "runs": {"found": ["ewc", "loss/finetune"], "true_causes": ["ssse"], "right_labels": ["retrain"]},
        "paper": [
            {
                "source": "a paper",
                "identification": "ewc",
                "treatment": "ewc",
                "causes": "found",
                "values": {"all": 84.5},
            }
        ],
        **changes,
    }


def planned(folder: Path, **cases: dict[str, Any]) -> dict[str, cases_module.PlannedCase]:
    file = folder / "cases.yaml"
    YAML().dump({"cases": cases}, file)
    return cases_module.read_cases(file, ROOT)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a key": ({"seds": [1]}, r"cases\.c has no setting seds: is seeds meant\?"),
    "a kind": ({"kind": "test"}, r"cases\.c\.kind is 'test': choose one of development, report"),
    "a seed": ({"seeds": [0, -1]}, r"cases\.c\.seeds\.1 is -1: give a whole number of 0 or more"),
    "no seed": ({"seeds": []}, r"cases\.c\.seeds is \[\]"),
    "a seed twice": ({"seeds": [3, 3]}, "a seed stands twice"),
    "a part of runs": ({"runs": {"truth": ["ewc"]}}, r"cases\.c\.runs has no setting truth"),
    "no runs": ({"runs": {}}, "case c: it runs nothing"),
    "a method": ({"runs": {"found": ["ecw"]}}, "case c: there is no method 'ecw': choose one of "),
    "a pair": (
        {"runs": {"found": ["ewc/ecw"]}},
        "case c: there is no treatment 'ecw': choose one of ",
    ),
    "a treatment": ({"runs": {"true_causes": ["linear"]}}, "there is no treatment 'linear': choose one of"),
    "a run twice": ({"runs": {"found": ["ewc", "ewc/ewc"]}}, "case c: a run stands twice"),
    "given causes": ({"runs": {"found": ["semi-oracle"]}}, "method semi-oracle always selects by truth"),
    "no search": ({"runs": {"found": ["erase"]}}, "the identification 'request' scores no examples"),
    "a section": (
        {"parameters": {"treatment.ewc": 1}},
        r"params\.yaml has no section treatment, in which to",
    ),
    "a parameter": (
        {"parameters": {"training.epoch": 1}},
        r"training has no setting epoch: is epochs meant\?",
    ),
    "a value": (
        {"parameters": {"training.epochs": 0}},
        r"training\.epochs is 0: give a whole number of 1 or",
    ),
    "a name": ({"parameters": {"corruption": "noise"}}, "there is no corruption 'noise'"),
    "a metric": (
        {"paper": [{"source": "s", "treatment": "none", "values": {"al": 1.0}}]},
        r"cases\.c\.paper\.0\.values",
    ),
    "a row of the paper": (
        {"paper": [{"source": "s", "treatment": "scrub", "causes": "true", "values": {"all": 1.0}}]},
        "case c: paper names a row that is not run: nothing, scrub, true",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_in_one_sentence_before_anything_runs(tmp_path: Path, wrong: str) -> None:
    changes, message = WRONG[wrong]
    with pytest.raises(RepairError, match=message) as caught:
        planned(tmp_path, c=small_case(**({"paper": []} | changes)))
    assert "\n" not in str(caught.value)


def test_a_case_is_its_runs(tmp_path: Path) -> None:
    runs = planned(tmp_path, c=small_case())["c"].runs
    rows = [(run.identification, run.treatment, run.causes) for run in runs]
    assert rows == [
        ("ewc", "ewc", "found"),
        ("loss", "finetune", "found"),
        ("", "ssse", "true"),
        ("", "retrain", "right-labels"),
    ]
    assert [run.shown for run in runs] == ["failures", "", "", ""]
    rules = [run.settings()["select-causes"].selection.rule for run in runs]
    assert rules == ["fraction", "fraction", "truth", "top-k"]
    assert [run.settings()["corrupt-data"].corruption.kind for run in runs] == ["label-noise"] * 3 + ["none"]
    assert runs[0].with_seed(7)["seed"] == 7


def test_a_part_of_the_causes_is_known(tmp_path: Path) -> None:
    partial = {"shares": [0.1, 1.0], "treatments": ["ssse", "retrain"], "found": ["grow/mend"]}
    runs = planned(tmp_path, c=small_case(runs={"partial": partial}, paper=[]))["c"].runs
    assert [(run.treatment, run.causes) for run in runs] == [
        ("ssse", "true-10"),
        ("retrain", "true-10"),
        ("mend", "found-10"),
        ("ssse", "true-100"),
        ("retrain", "true-100"),
        ("mend", "found-100"),
    ]
    for run, share in zip(runs, [0.1] * 3 + [1.0] * 3, strict=True):
        settings = run.settings()
        selection, known = settings["select-causes"].selection, settings["know-causes"].known
        assert (known is not None) == (run.identification == "grow")
        given = known or selection
        assert (given.rule, given.share) == ("partial-truth", share)
    with pytest.raises(RepairError, match=r"partial\.found names mend: give pairs of an identification and"):
        planned(tmp_path, c=small_case(runs={"partial": {**partial, "found": ["mend"]}}, paper=[]))


class TestSeparation:
    """Of what settings are chosen on from what is reported."""

    def test_kinds_share_no_seeds(self, tmp_path: Path) -> None:
        other = small_case(
            kind="development", seeds=[1], parameters={"corruptions.o": OTHERS, "corruption": "o"}, paper=[]
        )
        with pytest.raises(
            RepairError, match="development and report cases share the seeds 1: settings chosen"
        ):
            planned(tmp_path, a=small_case(), b=other)

    def test_kinds_share_no_pairs(self, tmp_path: Path) -> None:
        corruption = {
            "kind": "label-noise",
            "confusion_matrix": {"7": {"1": 0.1}, **OTHERS["confusion_matrix"]},
        }
        parameters = {"corruptions.o": corruption, "corruption": "o"}
        other = small_case(kind="development", seeds=[9], parameters=parameters, paper=[])
        with pytest.raises(RepairError, match=r"cases share the pairs of classes 1-7"):
            planned(tmp_path, a=small_case(), b=other)

    @pytest.mark.parametrize(
        "other",
        [
            {"kind": "adversarial", "classes": ["2", "7"], "share": 0.1, "epsilon": 0.1},
            {"kind": "biased-sample", "group": [7], "kept": 0.5},
        ],
    )
    def test_kinds_share_no_classes_whose_inputs_change(self, tmp_path: Path, other: dict[str, Any]) -> None:
        noise = {
            "kind": "input-noise",
            "noise": "gaussian",
            "classes": ["7", "8"],
            "share": 0.1,
            "amount": 0.1,
        }
        parameters = {"corruptions.a": OTHERS, "corruptions.b": noise, "corruption": ["a", "b"]}
        report = small_case(parameters=parameters)
        run = planned(tmp_path, a=report)["a"].runs[0]
        assert cases_module.class_pairs(run) == {frozenset("05"), frozenset("7"), frozenset("8")}
        assert set(run.parameters["corruptions"]) == {"a", "b"}
        development = small_case(
            **{"kind": "development", "seeds": [9], "paper": [], "runs": {"found": ["ewc"]}},
            parameters={"corruptions.o": other, "corruption": "o"},
        )
        with pytest.raises(RepairError, match=r"cases share the pairs of classes 7:"):
            planned(tmp_path, a=report, b=development)

    def test_nor_do_those_of_the_file(self) -> None:
        """Looked up without the code that refuses it."""
        content = YAML(typ="safe").load(ROOT / "benchmarks/cases.yaml")["cases"].values()
        named = YAML(typ="safe").load(ROOT / "params.yaml")["corruptions"]
        seeds: dict[str, set[int]] = {"development": set(), "report": set()}
        pairs: dict[str, set[tuple[str, ...]]] = {"development": set(), "report": set()}
        for case in content:
            seeds[case["kind"]] |= set(case["seeds"])
            chosen = case["parameters"]["corruption"]
            for name in [chosen] if isinstance(chosen, str) else chosen:
                corruption = case["parameters"].get(f"corruptions.{name}") or named[name]
                if corruption["kind"] in ("input-noise", "adversarial"):
                    pairs[case["kind"]] |= {(number,) for number in corruption["classes"]}
                if corruption["kind"] == "interclass-confusion":
                    pairs[case["kind"]].add(tuple(sorted(corruption["classes"])))
                matrix = corruption.get("confusion_matrix")
                if isinstance(matrix, dict):
                    pairs[case["kind"]] |= {tuple(sorted((a, b))) for a, row in matrix.items() for b in row}
        assert seeds["development"]
        assert seeds["report"]
        assert not seeds["development"] & seeds["report"]
        assert pairs["report"] >= {("1", "7"), ("6", "9")}
        assert not pairs["development"] & pairs["report"]
        assert sum(case["kind"] == "development" for case in content) >= 4

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["mnist-label-lenet", "--set", "seed=1"],
                "mnist-label-lenet is a report case and settings are chosen",
            ),
            (["--kind", "report", "--set", "seed=1"], "settings are chosen on development cases alone"),
            (["pairs-25", "--kind", "report"], "pairs-25 is a development case and --kind is report"),
            (["pairs"], "there is no case 'pairs': choose one of "),
            (["--only", "mendd"], "there is no identification or treatment of these cases 'mendd': choose"),
            (["--set", "seed"], "--set seed: give NAME=VALUE"),
            (["--set", "treatments.sse.damping=1"], "params.yaml has no section treatments.sse"),
            (
                ["--set", "treatments.ssse.damping=-1"],
                "treatments.ssse.damping is -1: give a number of 0 or more",
            ),
            (
                ["--set", "treatments.scrub.alpha=1"],
                "nothing that the cases run depends on treatments.scrub.alpha=1",
            ),
        ],
    )
    def test_a_sweep_refuses(
        self, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "argv", ["repair.py", *arguments])
        monkeypatch.setattr(signal, "signal", lambda *_: None)
        monkeypatch.setattr(repair, "WorkingCopies", None)
        with pytest.raises(SystemExit) as caught:
            repair.main()
        assert message in str(caught.value)


def outcome(after: float, *, auroc: float = 0.9, before: float = 0.5, **costs: dict[str, float]) -> Any:
    """What a run gives if accuracies are the same for all groups of examples."""
    accuracies = {
        when: dict.fromkeys(repair.ACCURACIES, value) | {"noisy_classes": None}
        for when, value in (("before", before), ("after", after))
    }
    metrics = {
        "used": {"uses": "guard"},
        "identification": {"auroc": auroc, "causes": 3},
        "repair": accuracies,
    }
    return working_copies.Outcome(metrics, costs, [], 0.0)


def test_an_identification_that_asks_its_judge_of_discovery_is_given_it() -> None:
    case = cases_module.read_cases(repair.CASES, ROOT)["pairs-25"]
    counted = outcome(0.8)
    counted.metrics["identification"] |= {"expected_causes": 3.2, "expected_causes_error": 0.5}
    for name, came, uses in (
        ("second-look", counted, "guard"),
        ("second-look", outcome(0.8), "guard"),
        ("ewc", counted, "guard"),
        ("ewc", outcome(0.8), "failures"),
    ):
        run = next(run for run in case.runs if run.identification == name)
        rows = [row for row in repair.rows_of_run(run, came) if row["metric"] == "auroc"]
        assert [row["uses"] for row in rows] == [uses]


class Imagined:
    """Working copies in which every run gives what a function makes of its parameters."""

    outcomes: Callable[[dict[str, Any]], Any]
    runs: list[dict[str, Any]]

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Imagined:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @contextlib.contextmanager
    def one(self) -> Iterator[Path]:
        yield Path()

    def run(self, copy: Path, parameters: dict[str, Any]) -> Any:
        type(self).runs.append(parameters)
        return type(self).outcomes(parameters)


@pytest.fixture
def imagined(monkeypatch: pytest.MonkeyPatch) -> type[Imagined]:
    monkeypatch.setattr(repair, "WorkingCopies", Imagined)
    Imagined.runs = []
    return Imagined


def options(folder: Path, **values: Any) -> argparse.Namespace:
    return argparse.Namespace(
        **{
            "processes": 1,
            "work": folder,
            "output": folder / "out.csv",
            "set": [],
            "seeds": None,
            "only": [],
            "cases": [],
            "kind": None,
            **values,
        }
    )


def test_means_and_spreads_by_hand(
    tmp_path: Path, imagined: type[Imagined], capsys: pytest.CaptureFixture[str]
) -> None:
    reached = {("ewc", 0): 0.90, ("ewc", 1): 0.94, ("finetune", 0): 0.93, ("finetune", 1): 0.93}

    def give(parameters: dict[str, Any]) -> Any:
        treatment = parameters["methods"]["benchmark"]["treatment"]
        seed = parameters["seed"]
        costs = {"treat": {"seconds": 2.0 + seed, "peak_mib": 300.0}} if treatment == "ewc" else {}
        value = reached.get((treatment, seed), 0.9)
        return outcome(value, auroc=0.8 + 0.1 * seed, before=0.4 + 0.2 * seed, **costs)

    imagined.outcomes = staticmethod(give)
    columns = [*repair.NAMES, "mean", "std", "seeds", "paper"]
    other = pd.DataFrame([["other", "", "none", "", "", "all", 50.0, 1.0, 3, None]], columns=columns)
    results_table.write(pd.concat([other, other.assign(case="c", metric="stale")]), tmp_path / "out.csv")
    repair.benchmark(planned(tmp_path, c=small_case()), options(tmp_path))

    table = results_table.read(tmp_path / "out.csv", repair.NAMES)
    assert list(table.columns) == [*repair.NAMES, "mean", "std", "seeds", "paper"]
    assert table["case"].value_counts()["other"] == 1, "rows of other cases are kept"
    assert "stale" not in set(table["metric"]), "and those of this one replaced"
    names = list(table[repair.NAMES].itertuples(index=False, name=None))
    assert names == sorted(names)
    rows = table.set_index(repair.NAMES)
    expected = {
        # Of 90 and 94, 2.828 is √((2² + 2²) / 1).
        ("c", "ewc", "ewc", "found", "guard", "all"): (92.0, 2.828, 2, 84.5),
        ("c", "loss", "finetune", "found", "guard", "all"): (93.0, 0.0, 2, None),
        ("c", "", "none", "", "", "all"): (50.0, 14.14, 2, None),
        ("c", "ewc", "", "found", "failures", "auroc"): (0.85, 0.07071, 2, None),
        ("c", "loss", "", "found", "", "auroc"): (0.85, 0.07071, 2, None),
        ("c", "", "retrain", "right-labels", "guard", "all"): (90.0, 0.0, 2, None),
        ("c", "ewc", "ewc", "found", "guard", "seconds:treat"): (2.5, 0.7071, 2, None),
    }
    for names, values in expected.items():
        assert [None if pd.isna(value) else value for value in rows.loc[names]] == list(values)
    assert len(table[(table["metric"] == "auroc")]) == 2, "once for each identification"
    assert (
        len(table[(table["treatment"] == "none") & (table["metric"] == "all") & (table["case"] == "c")]) == 1
    )

    repair.benchmark(planned(tmp_path, c=small_case()), options(tmp_path, seeds=1))
    rows = results_table.read(tmp_path / "out.csv", repair.NAMES).set_index(repair.NAMES)
    assert rows.loc[("c", "ewc", "ewc", "found", "guard", "all"), ["mean", "seeds"]].tolist() == [90.0, 1]

    # One method anew, on both seeds: rows of the others stay as they are.
    chosen = options(tmp_path, only=["ewc"])
    repair.benchmark(repair.chosen_cases(planned(tmp_path, c=small_case()), chosen), chosen)
    rows = results_table.read(tmp_path / "out.csv", repair.NAMES).set_index(repair.NAMES)
    assert rows.loc[("c", "ewc", "ewc", "found", "guard", "all"), ["mean", "seeds"]].tolist() == [92.0, 2]
    assert rows.loc[("c", "ewc", "", "found", "failures", "auroc"), "seeds"] == 2
    assert rows.loc[("c", "loss", "finetune", "found", "guard", "all"), "seeds"] == 1

    printed = capsys.readouterr().out
    assert re.search(r"ewc +ewc +found +guard +92\.0 ± 2\.8 .* loss/finetune 93\.0 +loses", printed)
    assert "report: c, a case; seeds [0, 1]" in printed


def test_repairs_of_facts_have_rows_of_their_own() -> None:
    facts = {**dict.fromkeys(cases_module.FACTS, 0.25), "edited": 3, "carried_over": None}
    facts |= {"forgotten_per_learned": 0.125, "causes": {"by_score": {"auroc_of_edited": 0.75}}}
    gave = outcome(0.9)
    gave.metrics["facts"] = facts
    known = {**dict.fromkeys((*cases_module.KNOWLEDGE, *cases_module.PERPLEXITIES), 0.5), "perplexity": None}
    once = dict.fromkeys(cases_module.EDITS, 1.0)
    gave.metrics["knowledge"] = {
        "before": {**known, "false_rate": 0.75},
        "after": known,
        "detection": {"auroc_of_answer": 0.9},
        "portability": {"before": {"right": 0.2}, "after": {"right": None}},
        "single_edits": {**once, "edits": 7},
        "edits_in_a_row": {"after_1": {**once, "success": 0.25}, "after_10": {**once, "retain": None}},
    }
    content = read_parameters(ROOT / "params.yaml").model_dump(by_alias=True)
    run = cases_module.Run("ewc", "calinet", "true", content)
    rows = {(row["treatment"], row["metric"]): row["value"] for row in repair.rows_of_run(run, gave)}
    for name in cases_module.FACTS:
        assert rows.get(("calinet", name)) == (None if name == "carried_over" else 25.0)
    assert rows["calinet", "forgotten_per_learned"] == 0.125
    assert rows["", "auroc_of_edited"] == 0.75
    assert (rows["none", "false_rate"], rows["calinet", "false_rate"]) == (75.0, 50.0)
    assert (rows["none", "portability"], rows.get(("calinet", "portability"))) == (20.0, None)
    assert (rows["none", "language_perplexity"], rows["none", "auroc_of_answer"]) == (0.5, 0.9)
    assert (rows["calinet", "success:single"], rows["calinet", "success:after_1"]) == (100.0, 25.0)
    assert rows["calinet", "success:after_all"] == rows["calinet", "success:after_10"] == 100.0
    assert not {("calinet", name) for name in ("perplexity", "edits:single", "retain:after_10")} & {*rows}
    assert not {metric for treatment, metric in rows if treatment == "none"} & {*cases_module.FACTS}


def test_what_starts_from_known_causes_competes_with_treatments_of_these() -> None:
    columns = [*repair.NAMES, "mean", "std", "seeds", "paper"]
    given: list[tuple[str, str, str, float]] = [
        ("", "retrain", "true-10", 90.0),
        ("", "ssd", "true-10", 80.0),
        ("grow", "retrain", "found-10", 85.0),
        ("", "retrain", "true-50", 99.0),
        ("loss", "retrain", "found", 99.0),
    ]
    rows = [["c", *names, "guard", "all", mean, 0.0, 2, float("nan")] for *names, mean in given]
    shown = repair.compared(pd.DataFrame(rows, columns=columns))
    assert list(shown["competitor, all"]) == ["", "given/retrain 90.0", "given/retrain 90.0", "", ""]
    assert list(shown["verdict"]) == ["", "loses", "loses", "", ""]


def test_the_record_of_choices(
    tmp_path: Path,
    imagined: type[Imagined],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    case = small_case(kind="development", runs={"found": ["ewc", "ssse"], "true_causes": ["ssse"]}, paper=[])
    imagined.outcomes = staticmethod(lambda p: outcome(p["treatments"]["ssse"]["damping"] / 10))
    cases = planned(tmp_path, c=case)
    monkeypatch.setattr(repair, "CASES", tmp_path / "cases.yaml")
    repair.choose_settings(cases, options(tmp_path, set=["treatments.ssse.damping=1,5"]), {})
    assert len(imagined.runs) == 2 * 2 * 2, "two runs of the three depend on it, by two values, for two seeds"
    printed = capsys.readouterr().out
    assert "best by all: treatments.ssse.damping=5\n" in printed
    assert "best by auroc: all alike\n" in printed

    repair.choose_settings(cases, options(tmp_path, set=["treatments.ssse.damping=5,7"]), {})
    table = results_table.read(tmp_path / "out.csv", repair.CHOICE_NAMES)
    assert list(table.columns) == [*repair.CHOICE_NAMES, "mean", "std", "seeds"]
    found = table[(table["metric"] == "all") & (table["identification"] == "linear")]
    settings = [f"treatments.ssse.damping={value}" for value in (1, 5, 7)]
    assert list(found["setting"]) == settings
    assert list(found["mean"]) == [10, 50, 70]
    assert set(found["seeds"]) == {2}

    imagined.runs = []
    wanted: dict[str, Any] = {"set": ["treatments.ssse.damping=3,4"], "only": ["ssse"]}
    repair.choose_settings(repair.only(cases, ["ssse"]), options(tmp_path, **wanted), {})
    assert len(imagined.runs) == 2 * 2 * 2
    assert {run["methods"]["benchmark"]["treatment"] for run in imagined.runs} == {"ssse"}


def test_every_combination_of_settings() -> None:
    assert list(repair.grid(["a.b=1,2.5e-1", "c=null,x"])) == [
        {"a.b": 1, "c": None},
        {"a.b": 1, "c": "x"},
        {"a.b": 0.25, "c": None},
        {"a.b": 0.25, "c": "x"},
    ]
    assert list(repair.grid(["a=[x],[x, y]"])) == [{"a": ["x"]}, {"a": ["x", "y"]}]


def test_the_tables_of_the_documents_are_those_of_the_results() -> None:
    for file in tables.documents():
        text = file.read_text(encoding="utf-8")
        assert tables.filled(text) == text, f"{file.name}: run `python benchmarks/tables.py --write`"
    pages = "".join(file.read_text(encoding="utf-8") for file in tables.documents())
    assert set(re.findall(r"<!-- table: (\S+) -->", pages)) == set(tables.TABLES)
    cases = cases_module.read_cases(repair.CASES, ROOT)
    assert set(results_table.read(results_table.RESULTS / "repair.csv", repair.NAMES)["case"]) <= set(cases)


def test_a_column_may_say_how_a_row_stands_beside_another() -> None:
    results = pd.DataFrame({"who": ["a", "b", "c"], "metric": "auroc", "mean": [0.9, 0.8, 0.7]})
    column = markdown_tables.Column("", {"metric": "auroc"}, markdown_tables.number("mean"), {"who": "b"})
    said = [column.text(results, markdown_tables.Row((who,), {"who": who})) for who in "abcd"]
    assert said == ["better", "", "worse", ""]


COMMAND = ("python3", "benchmarks/repair.py")
NOTED = ("--processes", "1")
"""What runs cost is noted, of a Python of its own for each stage."""
CSV = "benchmarks/results/repair.csv"
CAUSES = ".scratch/benchmarks/copy-*/data/causes/causes.parquet"


def prepared(finished: Finished, folder: Path) -> Project:
    """A project with a tiny case, and with what the pipeline has computed of it in the benchmark's cache."""
    project = finished.project.copy(folder / "project")
    case = small_case(seeds=[0], parameters={}, runs={"found": ["loss/finetune"]}, paper=[])
    project.write_yaml("benchmarks/cases.yaml", {"cases": {"tiny": case}})
    (project.root / CSV).unlink()
    shutil.copytree(project.root / ".dvc/cache", project.root / ".scratch/benchmarks/cache")
    return project


def start(project: Project, *options: str) -> subprocess.Popen[str]:
    """The benchmark, with the code beside it rather than that which is installed."""
    return project.start(*COMMAND, *options, PYTHONPATH=str(project.root / "src"))


def computed(outcome: Outcome) -> list[int]:
    """How many stages each run had to compute."""
    pattern = r"^tiny seed 0, loss/finetune, found causes: all .*\((\d+) stages computed"
    return [int(count) for count in re.findall(pattern, outcome.stdout, re.MULTILINE)]


def at_once(project: Project) -> tuple[Project, Outcome, Outcome, bytes]:
    """Twice from beginning to end."""
    first = finish(start(project, *NOTED)).succeeded()
    content = (project.root / CSV).read_bytes()
    return project, first, finish(start(project, *NOTED)).succeeded(), content


def killed(project: Project) -> tuple[Project, Outcome]:
    """Killed while it treats, and resumed."""
    process = start(project)
    while not list(project.root.glob(CAUSES)):
        assert process.poll() is None, finish(process)
        time.sleep(0.1)
    # What it has started is left behind, and in the way.
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    assert not (project.root / CSV).exists()
    return project, finish(start(project)).succeeded()


@pytest.fixture(scope="module")
def chains(
    finished: Finished, background: Executor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Future[Any]]:
    """What takes long, side by side."""
    return {
        chain.__name__: background.submit(chain, prepared(finished, tmp_path_factory.mktemp("benchmark")))
        for chain in (at_once, killed)
    }


def means(project: Project) -> pd.Series:
    return results_table.read(project.root / CSV, repair.NAMES).set_index(repair.NAMES)["mean"]


def test_what_is_computed_once_is_not_computed_again(chains: dict[str, Future[Any]]) -> None:
    project, first, second, content = chains["at_once"].result()
    assert computed(first)[0] > 4
    assert "0 of 1 runs remain, about 0 min" in first.stdout
    assert computed(second) == [0]
    assert (project.root / CSV).read_bytes() == content


def test_it_measures_what_the_pipeline_measures(chains: dict[str, Future[Any]], finished: Finished) -> None:
    """The same base model, and the ranking by its loss, which the pipeline measures with every method."""
    table = means(chains["at_once"].result()[0])
    metrics = finished.project.read_yaml("metrics/repair.json")
    for metric in ("all", "worst_class", "remaining"):
        expected = 100 * metrics["repair"]["before"][metric]
        assert table["tiny", "", "none", "", "", metric] == pytest.approx(expected, rel=1e-3)
    auroc = metrics["identification"]["auroc_of_plain_loss"]
    assert table["tiny", "loss", "", "found", "", "auroc"] == pytest.approx(auroc, rel=1e-3)


def test_costs_are_those_of_the_run_that_computed_it(chains: dict[str, Future[Any]]) -> None:
    table = means(chains["at_once"].result()[0])
    assert 0 < table["tiny", "loss", "finetune", "found", "guard", "seconds:treat"] < 100
    assert 100 < table["tiny", "loss", "finetune", "found", "guard", "peak_mib:treat"] < 5000
    assert ("tiny", "", "none", "", "", "seconds:train-base") not in table.index, "it was in the cache"


def test_a_killed_benchmark_goes_on_to_the_same_results(chains: dict[str, Future[Any]]) -> None:
    project, resumed = chains["killed"].result()
    assert computed(resumed)[0] <= 3, "the treatment that was killed, what stands beside it, and what follows"
    tables = [
        [
            row
            for row in (place.root / CSV).read_text().splitlines()
            if not re.search("seconds:|peak_mib:", row)
        ]
        for place in (project, chains["at_once"].result()[0])
    ]
    assert tables[0] == tables[1]
    assert not list((project.root / "benchmarks/results").glob(".*"))


def test_failing_runs_say_which_they_were(finished: Finished, tmp_path: Path) -> None:
    project = prepared(finished, tmp_path)
    project.set_parameters({"datasets.small.file": "data/own/absent.npz"})
    ended = finish(start(project))
    assert ended.status == 1
    *messages, last = ended.messages
    assert messages[0].startswith("tiny, seed 0, loss/finetune, found causes: prepare-data: ")
    assert all("absent.npz" in message for message in messages)
    assert (
        last
        == f"{len(messages)} runs failed, and are in no row: see above why; the same command runs them again"
    )


def test_what_nobody_serves_any_more_is_run_by_the_real_python(tmp_path: Path) -> None:
    """As what a benchmark has started when it is killed."""
    command = ["-m", "modelrepair", "--version"]
    variables = {"PYTHONPATH": str(ROOT / "src"), "PATH": os.environ["PATH"]}
    with warm_python.warm_python(tmp_path) as folder:
        served = subprocess.run([folder / "python3", *command], env=variables, capture_output=True, text=True)
    alone = subprocess.run([folder / "python3", *command], env=variables, capture_output=True, text=True)
    assert served.stdout.startswith("modelrepair ")
    assert (alone.returncode, alone.stdout) == (0, served.stdout)
