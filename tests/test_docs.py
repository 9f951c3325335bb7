"""The documentation: it builds without a warning, its commands and snippets work, what it adds is added."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import modelrepair
from conftest import ROOT, Project
from modelrepair.curvature import CURVATURES, PATH_CURVATURES
from modelrepair.evaluation.measures import MEASURES
from modelrepair.influence import INFLUENCES
from modelrepair.pipeline.artifacts import read_array, read_table
from modelrepair.posterior import UPDATES
from modelrepair.selection import SELECTIONS
from modelrepair.settings.parameters import Parameters
from modelrepair.settings.stages import stage_settings
from modelrepair.treatment import TREATMENTS

DOCS = ROOT / "docs"
IN_A_CLONE = ["choosing", "erasure", "machines", "page", "troubleshooting"]
"""Pages whose commands are for a clone in which the pipeline has run."""
ELSEWHERE = ["data", "index"]
"""Those whose commands are for an empty folder."""
INSTEAD = {
    # The tests' own environment has it.
    "pip install ./modelrepair": "true",
    # As far as all that can be wrong with settings; the rest is tested with the installed package, in test_package.py.
    "dvc repro": "dvc repro choose-method",
    "cd trial && dvc repro": "cd trial && dvc repro choose-method",
    "modelrepair show": "modelrepair --version",
}
"""Commands of the latter, with what is run in their place."""
RUN_FOR_THE_README = {"dvc exp run -S selection=reviewed"}
"""Commands that take long, and which test_readme.py runs."""
SINGLE = {
    "repair",
    "Repair",
    "RepairError",
    "TrainedModel",
    "Examples",
    "train",
    "choose_epsilon",
    "make_network",
}
"""Further names that the page must have."""
CAPTION = re.compile(r"(?P<file>[\w/.]+)(?:, (?P<where>before|after) \"(?P<anchor>[^\"]+)\")?")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.DOTALL | re.MULTILINE
    )


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]


def pages() -> list[str]:
    return sorted(path.stem for path in DOCS.glob("*.md"))


def changed(project: Project) -> None:
    """What "Adding a method" says, done."""
    text = (DOCS / "adding.md").read_text()
    found = re.findall(
        r"^```\{code-block\} \w+\n:caption: '(.*?)'\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    assert sum(len(code.splitlines()) for _, code in found) <= 40
    for caption, code in found:
        named = CAPTION.fullmatch(caption)
        assert named, caption
        path = project.root / named["file"]
        if not named["where"]:
            assert not path.exists()
            path.write_text(code)
            continue
        lines = path.read_text().splitlines(keepends=True)
        [at] = [number for number, line in enumerate(lines) if line.startswith(named["anchor"])]
        lines.insert(at + (named["where"] == "after"), code)
        path.write_text("".join(lines))
    # Where a clone has a link, the copy that tests make has a file.
    (project.root / "src/modelrepair/params.yaml").write_text((project.root / "params.yaml").read_text())


def test_every_command_is_run_by_a_test() -> None:
    assert {page for page in pages() if commands(page)} == {*IN_A_CLONE, *ELSEWHERE, "adding"}


@pytest.mark.parametrize("page", IN_A_CLONE)
def test_commands_for_a_clone_work(project: Project, tmp_path: Path, page: str) -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(command in readme for command in RUN_FOR_THE_README)
    told = [command for command in commands(page) if command not in RUN_FOR_THE_README]
    script = "set -e\n" + "\n".join(told).replace("/mnt/shared", str(tmp_path))
    # Workers outlive the command that starts them: they are started, watched and ended in test_pipeline.py.
    script = script.replace("dvc queue start --jobs 2", "dvc queue remove --queued")
    # The three erase alike, in runs that test_erasure.py takes to the end: here the last of them goes there.
    script = re.sub(r"(?m)^(dvc exp run -S method=erase [^#\n]*)", r"\1 select-causes ", script)
    # Of this clone, whatever else is installed.
    outcome = project.run("sh", "-c", script, PYTHONPATH=str(project.root / "src"))
    assert outcome.status == 0, f"{outcome.stdout}\n{outcome.stderr}"
    if page == "machines":
        assert outcome.stages_run == []
        assert (tmp_path / "clone/metrics/page.html").is_file()
        assert (tmp_path / "modelrepair/files").is_dir()


@pytest.mark.parametrize("page", ELSEWHERE)
def test_commands_for_an_empty_folder_work(bare: Project, tmp_path: Path, page: str) -> None:
    command = tmp_path / "bin/modelrepair"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m modelrepair "$@"\n')
    command.chmod(0o755)
    here = replace(bare, root=tmp_path)
    variables = {"PYTHONPATH": str(ROOT / "src"), "PATH": f"{command.parent}:{bare.environment['PATH']}"}
    if page == "data":
        arrays, network = blocks(page, "python")
        here.run("python3", "-c", arrays, **variables).succeeded()
        (tmp_path / "nets.py").write_text(network)
        [failures] = blocks(page, "text")
        (tmp_path / "wrong.csv").write_text(failures)
    script = "\n".join(["set -e", *(INSTEAD.get(line, line) for line in commands(page))])
    outcome = here.run("sh", "-c", script, **variables)
    assert outcome.status == 0, f"{outcome.stdout}\n{outcome.stderr}"
    assert "finds causes by second-look" in outcome.stdout


def test_the_code_of_the_idea_computes_what_it_says(tmp_path: Path) -> None:
    [code] = blocks("idea", "python")
    assert "assert np.allclose(scores" in code
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_settings_of_the_documentation_are_settings() -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    found = [block for page in pages() for block in blocks(page, "yaml")]
    assert found
    for settings in map(yaml.safe_load, found):
        whole = {
            name: {**content[name], **section} if isinstance(section, dict) else section
            for name, section in settings.items()
        }
        assert all(whole[name] != content[name] for name in settings)
        stage_settings(Parameters(**{**content, **whole}))


def test_a_method_that_is_added_as_it_says_works(project: Project) -> None:
    changed(project)
    checks, runs = commands("adding")[:2], commands("adding")[2:]
    for command in checks:
        project.run("sh", "-c", command, PYTHONPATH=str(project.root / "src")).succeeded()
    project.run("lint-imports", "--no-logo", PYTHONPATH=str(project.root / "src")).succeeded()
    project.commit()
    assert runs == ["dvc exp run -S identification=behind"]
    # As far as its scores: what follows is as of any other.
    outcome = project.dvc("exp", "run", "-S", "identification=behind", "score-influence").succeeded()
    assert outcome.stages_run == ["choose-method", "update-posterior", "score-influence"]
    margins = read_array(project.root / "models/base/margins.npy")
    scores = read_table(project.root / "data/scores/scores.parquet")["score"]
    behind = sum(after < 0 for after in margins[1:])
    np.testing.assert_allclose(scores, behind / (len(margins) - 1) - 0.5)
    assert scores.nunique() > 3


def members() -> list[str]:
    """Names of all members of the families, as they are imported."""
    families = [
        ("curvature", {**CURVATURES, **PATH_CURVATURES}),
        ("influence", INFLUENCES),
        ("posterior", UPDATES),
        ("selection", SELECTIONS),
        ("treatment", TREATMENTS),
    ]
    named = [f"modelrepair.{room}.{kind.__name__}" for room, kinds in families for kind in kinds.values()]
    measures = [f"modelrepair.evaluation.measures.{name}.measure" for name in MEASURES]
    return [*named, *measures, *(f"modelrepair.{name}" for name in modelrepair.__all__ if name in SINGLE)]


def test_each_member_of_a_family_can_be_imported() -> None:
    for name in members():
        where, _, what = name.rpartition(".")
        room = importlib.import_module(where)
        assert what in getattr(room, "__all__", dir(room)), name
        assert (getattr(room, what).__doc__ or "").strip(), name


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    """A link to a page, a heading or a file that is not there is a warning, and warnings are errors."""
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed here: pip install -e '.[docs]'")
    code = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", DOCS, tmp_path / "site"],
        env={**os.environ, "PYTHONPATH": code},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "site/api.html").read_text()
    missing = [name for name in members() if f'id="{name}"' not in api]
    assert not missing, "each member of a family is in the documentation"
    formulas = (tmp_path / "site/idea.html").read_text()
    assert formulas.count("<math ") > 15
    assert "MathJax" not in formulas
    for page in (tmp_path / "site").rglob("*.html"):
        # A link may lead elsewhere; what a page is made of may not.
        loaded = re.findall(
            r"""<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=["']([^"']*)""", page.read_text()
        )
        elsewhere = [name for name in loaded if re.match(r"(https?:)?//", name)]
        assert elsewhere == [], f"{page.name} needs a network"
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text()), sheet.name
