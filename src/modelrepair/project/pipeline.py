"""The stages of a project that uses modelrepair as an installed package.

In a clone of modelrepair, `dvc.yaml` names the modules that each stage imports, and DVC sees when one changes. Where
the package is installed, they lie outside the project, elsewhere on every machine. There the stage note-code, which
always runs, writes the hashes of the modules of each stage into a file of `data/code`, and the stage depends on that:
a changed package runs again what the change concerns, an unchanged one nothing, on whichever machine.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from modelrepair.errors import RepairError

PACKAGE = Path(str(importlib.resources.files("modelrepair")))
IN_A_CLONE = "src/modelrepair"
"""Where a clone has the package."""
NETWORK = "${model.network}"
NOTE_CODE = "note-code"
CODE = "data/code"
RUN = "python3 -P -m modelrepair.stages."
OUTPUTS = ("outs", "metrics", "plots")
KINDS = ("deps", "params", *OUTPUTS)
"""What a stage lists in `dvc.yaml`."""


def version() -> str:
    """The package's version."""
    return importlib.metadata.version("modelrepair")


def package_pipeline() -> dict[str, Any]:
    """The content of the package's own `dvc.yaml`."""
    # Under another name, or DVC would take the package for a second pipeline.
    content: dict[str, Any] = _yaml((PACKAGE / "pipeline.yaml").read_text(encoding="utf-8"))
    return content


def project_pipeline() -> dict[str, Any]:
    """The content of a project's `dvc.yaml`: the package's stages, with `data/code/STAGE.json` in place of its code."""
    content = package_pipeline()
    stages: dict[str, Any] = {
        # -P: what lies in the project's folder takes the place of no module.
        NOTE_CODE: {"cmd": f"{RUN}note_code {NETWORK}", "outs": [CODE], "always_changed": True}
    }
    for name, definition in content["stages"].items():
        inputs = [entry for entry in definition["deps"] if not entry.startswith(IN_A_CLONE)]
        stages[name] = {
            **definition,
            "cmd": f"{RUN}{name.replace('-', '_')}",
            "deps": [f"{CODE}/{name}.json", *inputs],
        }
    return {**content, "stages": stages}


def kept_by_dvc(pipeline: Mapping[str, Any]) -> dict[str, list[str]]:
    """What stages make that DVC keeps, so that git must not: names by their folder, in the order of the stages.

    Args:
        pipeline: the content of a `dvc.yaml`.
    """
    found: dict[str, list[str]] = {}
    for stage in pipeline["stages"].values():
        for entry in (entry for kind in OUTPUTS for entry in stage.get(kind, [])):
            name, options = (entry, {}) if isinstance(entry, str) else next(iter(entry.items()))
            if options.get("cache", True):
                folder, _, file = name.rpartition("/")
                found.setdefault(folder, []).append(file)
    return found


def code_of_stages(network: str) -> dict[str, dict[str, str]]:
    """What the result of each stage follows from in the package: its modules' hashes, by their names, by the stage's.

    Args:
        network: the one that the project uses; others do not count.
    """
    hashes: dict[Path, str] = {}
    stages = {}
    for name, definition in package_pipeline()["stages"].items():
        files: list[Path] = []
        for entry in definition["deps"]:
            if entry.startswith(IN_A_CLONE):
                place = PACKAGE / entry.replace(NETWORK, network).removeprefix(f"{IN_A_CLONE}/")
                files += sorted(place.rglob("*")) if place.is_dir() else [place]
        counted = [file for file in files if file.is_file() and "__pycache__" not in file.parts]
        for file in counted:
            if file not in hashes:
                hashes[file] = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
        stages[name] = {file.relative_to(PACKAGE).as_posix(): hashes[file] for file in counted}
    return stages


def expect_current(root: Path) -> None:
    """Nothing if the project's `dvc.yaml` has the stages of this version of the package, and what they list.

    It may have more: stages of the user's own, and further entries.

    Raises:
        RepairError: if not.
    """
    there = _yaml((root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    expected = project_pipeline()["stages"]
    differing = [name for name, definition in expected.items() if not _has(there.get(name, {}), definition)]
    differing += [name for name in there if name not in expected and _runs_package(there[name])]
    if differing:
        raise RepairError(
            f"the stage {differing[0]} in dvc.yaml is not that of modelrepair {version()}: run `modelrepair update`, "
            "which writes the package's stages anew and keeps yours"
        )


def read_pipeline(root: Path) -> Any:
    """The project's `dvc.yaml`, with its remarks, to be changed and written again.

    Raises:
        RepairError: if there is none, or it is no pipeline.
    """
    path = root / "dvc.yaml"
    try:
        content = YAML().load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        content = None
    except (YAMLError, ValueError) as error:
        raise RepairError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, Mapping) or NOTE_CODE not in content.get("stages", {}):
        raise RepairError(f"{root} is no project that `modelrepair init` has made: name the folder of one")
    return content


def renewed(content: Any) -> Any:
    """A project's `dvc.yaml` with this version's stages in place of an earlier one's, and the user's after them.

    What it has beside stages stays, and what it lacks comes from this version.
    """
    fresh = project_pipeline()
    own = {name: stage for name, stage in content["stages"].items() if not _runs_package(stage)}
    content["stages"] = {**fresh["stages"], **own}
    for name, section in fresh.items():
        content.setdefault(name, section)
    return content


def _has(stage: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    lists = all(entry in stage.get(kind, []) for kind in KINDS for entry in expected.get(kind, []))
    return lists and stage.get("cmd") == expected["cmd"]


def _runs_package(stage: Mapping[str, Any]) -> bool:
    return "modelrepair.stages." in str(stage.get("cmd", ""))


def _yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)
