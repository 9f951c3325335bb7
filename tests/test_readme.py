"""What the README tells a reader to type, typed."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from conftest import ROOT, Project
from modelrepair.settings.parameters import Parameters
from modelrepair.settings.stages import stage_settings

README = (ROOT / "README.md").read_text()

BENCHMARKS = (
    "curvature",
    "erasure",
    "convex",
    "removal",
    "efficiency",
    "scale",
    "throughput",
    "datamodelling",
    "in_a_row",
    "other_data",
)
# Commands that set up or would not end within a test, with what is run in their place.
INSTEAD = {
    # The environment that runs the tests stands in for the one that make would set up.
    "make repro": "make --assume-old=.venv/.installed repro",
    # This is running.
    "make test": "make --assume-old=.venv/.installed --dry-run test",
    "make benchmark FOLDER=path/to/mnist": "make --assume-old=.venv/.installed --dry-run benchmark FOLDER=path",
    "python benchmarks/repair.py --kind development --set treatments.ssse.damping=0.1,1,10": (
        "python benchmarks/repair.py --kind development --set treatments.ssse.damping=0.1,1,10 --list"
    ),
    **{f"python benchmarks/{name}.py": "" for name in BENCHMARKS},
    ". .venv/bin/activate": "",
    # Nobody has saved any marks there: those that come with the project are taken.
    "mv ~/Downloads/marks.csv requests/": "",
    # As far as what differs from the runs beside it.
    "dvc exp run -S method=ssse -S treatments.ssse.posterior.epsilon=0.3": (
        "dvc exp run -S method=ssse -S treatments.ssse.posterior.epsilon=0.3 choose-method"
    ),
    "dvc exp run -S selection=truth": "dvc exp run -S selection=truth select-causes",
    # Workers outlive the command: they are started, watched and ended in test_pipeline.py.
    "dvc queue start": "dvc queue remove --queued",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[str]:
    return [
        " ".join(shlex.split(line, comments=True, posix=False)) for line in block.splitlines() if line.strip()
    ]


def test_only_commands_of_the_readme_are_replaced() -> None:
    assert set(INSTEAD) <= {command for block in blocks("sh") for command in commands(block)}


@pytest.mark.parametrize("block", blocks("sh"), ids=lambda block: commands(block)[-1])
def test_the_commands_of_the_readme_work(project: Project, block: str) -> None:
    """Each block begins from the committed settings."""
    (project.root / ".venv").mkdir()
    (project.root / ".venv/.installed").touch()
    for command in commands(block):
        done = project.run("sh", "-c", INSTEAD.get(command, command))
        assert done.status == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks_say_what_they_do(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "benchmarks" / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: {name}.py" in capsys.readouterr().out


def test_the_python_of_the_readme_works(tmp_path: Path) -> None:
    (code,) = blocks("python")
    check = """
numbers = result.measured["repair"]
assert numbers["after"]["all"] > numbers["before"]["all"] + 0.02
assert swapped[result.causes].mean() > 0.6
assert repaired.score(rows[900:], labels[900:]) > model.score(rows[900:], labels[900:]) + 0.02
"""
    done = subprocess.run([sys.executable, "-c", code + check], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_settings_of_the_readme_are_settings() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    every = [*map(yaml.safe_load, blocks("yaml"))]
    assert len(every) == 2
    for settings in every:
        changed = {
            name: {**content[name], **section} if isinstance(section, dict) else section
            for name, section in settings.items()
        }
        assert all(changed[name] != content[name] for name in settings)
        stage_settings(Parameters(**{**content, **changed}))


def test_the_readme_names_what_is_there() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert [name for name in stages if name not in README] == []
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    assert [name for name in pictures if not (ROOT / name).is_file()] == []


def test_the_readme_says_over_how_many_seeds() -> None:
    results = pd.read_csv(ROOT / "benchmarks/results/repair.csv")
    seeds = set(results.loc[results["case"] == "mnist-label-lenet", "seeds"])
    (word,) = re.findall(r"standard deviation over (\w+) seeds", " ".join(README.split()))
    assert seeds == {["no", "one", "two", "three", "four", "five"].index(word)}


def test_numbers_with_a_spread_stand_in_a_table_too() -> None:
    """What the text says of a table is what the results say."""
    text = " ".join(re.sub(r"<!-- table.*?<!-- end -->", "", README, flags=re.DOTALL).split())
    pages = (README, (ROOT / "docs/results.md").read_text())
    tables = "".join(line for page in pages for line in page.splitlines() if line.startswith("|"))
    said = re.findall(r"\d+\.\d ± \d\.\d", text)
    assert said
    assert [number for number in said if number not in tables] == []


def test_the_readme_says_of_other_data_what_was_measured() -> None:
    table = pd.read_csv(ROOT / "benchmarks/results/other_data.csv").query("metric == 'all'")
    problems = table.pivot_table(index=["data", "network", "labels"], columns="method", values="mean")
    text = " ".join(README.split())
    for own, other, said in (
        (
            "mend",
            "loss, on with the failures",
            "is {:.1f} points above training on with the failures without",
        ),
        ("mend-discovery", "loss, on with discovery", "`mend-discovery` is {:.1f} points above the same"),
    ):
        ahead = problems[own] - problems[other]
        assert said.format(ahead.mean()).replace(" 0.", " .") in text
        assert f"below it in {(ahead < 0).sum()}." in text
    assert f"in the mean of {len(problems)} problems" in text
    few = pd.read_csv(ROOT / "benchmarks/results/other_data.csv").query("metric == 'gain'")
    gained = few.groupby("method")["mean"].mean()
    own, other = (f"{gained[f'{name}, of ten']:.1f}" for name in ("mend", "loss, on with the failures"))
    assert f"By ten failures alone `mend` gains {own} points, and training on with them {other}." in text


def measured_of(case: str) -> Any:
    """Means by identification, treatment, causes and metric, as texts: points with one digit, areas with three."""
    table = pd.read_csv(ROOT / "benchmarks/results/repair.csv").query("case == @case")
    names = ["identification", "treatment", "causes", "metric"]
    means = table.fillna(dict.fromkeys(names, "")).set_index(names)["mean"]
    return {key: f"{mean:.3f}"[1:] if key[-1] == "auroc" else f"{mean:.1f}" for key, mean in means.items()}


def accuracy(shown: Any, name: str) -> str:
    identification, treatment = name.split("/") if name else ("", "none")
    return str(shown[identification, treatment, "found" if name else "", "all"])


OBVIOUS = "loss/finetune-remaining-"


def test_the_readme_says_of_four_convolutions_what_was_measured() -> None:
    shown, text = measured_of("mnist-label-conv4"), " ".join(README.split())
    auroc = {name: shown[name, "", "found", "auroc"] for name in ("second-look", "loss")}
    right = {
        name: accuracy(shown, name)
        for name in (
            "",
            "second-look/mend",
            "second-look/mend-discovery",
            f"{OBVIOUS}failures",
            f"{OBVIOUS}discovery",
        )
    }
    for said in (
        f"ranks with an AUROC of {auroc['second-look']}, the plain loss with {auroc['loss']}. `mend` makes "
        f"{right['second-look/mend']} of {right['']}",
        f"training on with the failures ({right[f'{OBVIOUS}failures']}); `mend-discovery` "
        f"{right['second-look/mend-discovery']}, the same with discovery {right[f'{OBVIOUS}discovery']}.",
    ):
        assert said in text


def test_the_readme_says_of_photographs_what_was_measured() -> None:
    text = " ".join(README.split())
    both = [measured_of(case) for case in ("cifar10-label-resnet20", "cifar10-uniform-25")]

    def pair(name: str) -> str:
        return " and ".join(accuracy(shown, name) for shown in both)

    for said in (
        f"one seed of two cases) `mend` reaches {pair('second-look/mend')}, more than",
        f"training on with the failures reaches {pair(f'{OBVIOUS}failures')}. With discovery to train on, "
        f"`mend-discovery` reaches {pair('second-look/mend-discovery')}, the same without the highest losses "
        f"{pair(f'{OBVIOUS}discovery')}.",
    ):
        assert said in text


def test_the_readme_says_of_its_run_what_was_measured() -> None:
    """The numbers beside the picture are those of the committed metrics."""
    metrics = json.loads((ROOT / "metrics/repair.json").read_text())
    failures = json.loads((ROOT / "metrics/failures.json").read_text())
    found, repair = metrics["identification"], metrics["repair"]
    wrong = 100 * (1 - repair["before"]["all"])
    text = " ".join(README.split())
    for said in (
        f"of which {found['causes']} carry a wrong label",
        f"fails on {wrong:.0f} % of the test digits",
        f"Given {failures['query']} of those failures",
        f"expects {found['expected_causes']:.0f} ± {found['expected_causes_error']:.0f} training examples to be wrong",
        f"takes {found['selected']} as causes",
        f"fixes {100 * repair['after']['holdout']:.0f} % of the failures that it was never shown",
    ):
        assert said in text
    share = 100 * found["selected_precision"]
    assert f"of which {share:.0f} % are" in text
    assert f"{repair['broken']} of {failures['remaining']} digits that were right go wrong" in text
    assert found["auroc"] > found["auroc_of_plain_loss"]
