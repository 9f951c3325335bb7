"""What `make` installs: exact versions, and of all but torch exact files."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib

import pytest

from conftest import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
ENTRY = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ \n]+)(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)
APART = dict(line.split("==") for line in (ROOT / "requirements-torch.lock").read_text().splitlines())
PINNED = {entry["name"]: entry["version"] for entry in ENTRY.finditer(LOCK)}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_line_is_a_version_with_hashes() -> None:
    assert ENTRY.sub("", LOCK) == ""
    assert len(PINNED) > 100
    names = [plain(entry["name"]) for entry in ENTRY.finditer(LOCK)]
    assert names == sorted(names)
    assert set(APART) == {"torch", "torchvision"}
    assert not set(APART) & set(names)


@pytest.mark.parametrize(
    "name", ["requirements.lock", "requirements-torch.lock", "Makefile", "pyproject.toml"]
)
def test_no_index_is_named(name: str) -> None:
    assert not re.search(
        r"https?://|--(extra-)?index-url|--find-links|--trusted-host", (ROOT / name).read_text()
    )


def test_what_is_pinned_is_installed() -> None:
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in {**PINNED, **APART}}
    assert installed == {**PINNED, **APART}


def test_all_that_the_package_asks_for_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for some in project["optional-dependencies"].values() for one in some),
    ]
    names = {plain(re.split(r"[<>=; \[]", one)[0]) for one in asked}
    assert names <= {plain(name) for name in {**PINNED, **APART}}


def test_make_installs_by_hash_and_checks_what_is_there() -> None:
    [recipe] = re.findall(
        r"^\$\(INSTALLED\):.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    steps = [line.split(" -m ", 1)[1].strip() for line in recipe.splitlines() if " -m pip" in line]
    assert steps == [
        "pip install --quiet --require-hashes --no-deps --requirement requirements.lock",
        "pip install --quiet --requirement requirements-torch.lock",
        "pip install --quiet --no-deps --editable .",
        "pip check",
    ]


def test_the_documentation_says_which_versions() -> None:
    text = (ROOT / "docs/versions.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, newest in APART.items():
        [oldest] = [one.partition(">=")[2] for one in project["dependencies"] if one.startswith(f"{name}>=")]
        assert f"{oldest} to {newest.rpartition('.')[0]}" in text, name
    assert f"| Python | {project['requires-python'].removeprefix('>=')}," in text
    [oldest] = re.findall(r"^OLDEST_PYTHON := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert project["requires-python"] == f">={oldest}"
