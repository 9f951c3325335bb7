"""A new project of the user's own: a pipeline, settings with their names, and the folders that stages expect."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from modelrepair.errors import RepairError, refuse_pickle
from modelrepair.pipeline.artifacts import output_file, output_folder
from modelrepair.project.pipeline import (
    PACKAGE,
    kept_by_dvc,
    project_pipeline,
    read_pipeline,
    renewed,
    version,
)
from modelrepair.settings import named
from modelrepair.settings.data import ImageTableSettings, NpzSettings, TableSettings
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import REQUESTS, WEIGHTS, expect_lists, stage_settings
from modelrepair.sources.class_folders import arrange
from modelrepair.sources.files import open_files
from modelrepair.sources.image_table import listed_images
from modelrepair.sources.npz import npz
from modelrepair.sources.table import table

NETWORKS = "networks"
OWN_DATA = "data/own"
TABLE_ENDINGS = (".csv", ".csv.gz", ".parquet")
KEPT_CORRUPTIONS = ("none", "uniform-10", "uniform-25")
"""Those that make sense whatever the classes are called."""
TABLES = ("fisher", "selections", "identifications", "treatments", "methods")
"""Sections of `params.yaml` of which a later version of the package may have more entries."""

CONFIG = """\
[core]
    analytics = false
    check_update = false
    autostage = true
{scm}[plots]
    html_template = plots.html
"""
IGNORED_BY_GIT = "/.venv/\n/.scratch/\n/dvc_plots/\n__pycache__/\n.*.writing\n"
IGNORED_BY_DVC = "__pycache__\n.venv\n.scratch\n.*.writing\n"
FOLDERS = {
    OWN_DATA: "Your data files, or links to single ones. What reads them runs again when anything here changes.\n",
    NETWORKS: 'The code of your network, a module or a package: `options: {code: "module:Class"}` of `model` in '
    "params.yaml.\n",
    WEIGHTS: "Trained weights, safetensors, or links to them: `pretrained` of `model` in params.yaml.\n",
    REQUESTS: "Lists in CSV: failures, causes that are known, marks saved on the page, examples to erase.\n",
}
"""Folders on which stages depend, and what is said in them."""
README = """\
# {name}

A repair with modelrepair {version}: `dvc repro` runs it, `modelrepair show` says what came of it, and
`metrics/page.html` shows each suspect. All choices are in `params.yaml`. Commit, then try others:

```sh
git add --all && git commit -m "Begin"
dvc exp run -S method=ewc
dvc exp show --only-changed
```

After `pip install --upgrade modelrepair`, `modelrepair update` brings `dvc.yaml` up to date, and `dvc repro` runs again
what the new version changes.
"""


@dataclass(frozen=True)
class Wishes:
    """What a new project is about.

    Attributes:
        data: an `.npz` file, a folder of `.npy` files, a table as CSV or Parquet, a folder of images by class, or a zip
            of one; None for the digits that come along.
        label: of a table, the column that holds the class.
        images: the folder, or a zip, of the images that a table lists; None where its columns are features.
        files: of such a table, the column that holds the images' names.
        network: one of the package's, or `FILE.py:Class`, which is copied with the package that it is part of; None for
            one that goes with the data.
        arguments: keywords that the class is called with.
        weights: of the network, trained: the model as it is; None to train one.
        failures: a CSV of what the model has wrong; None for all that it has wrong.
        method: one of `methods`; None for the default.
    """

    data: Path | None = None
    label: str = "label"
    images: Path | None = None
    files: str = "file"
    network: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    failures: Path | None = None
    method: str | None = None


def start_project(folder: Path, wishes: Wishes) -> None:
    """Write a project: all of it, or nothing.

    Args:
        folder: where; it must not exist, or be empty.
        wishes: what is in it.

    Raises:
        RepairError: if there is something in the folder, or what is wished for cannot work.
    """
    folder = folder.resolve()
    if folder.is_dir() and any(folder.iterdir()):
        what = "is a project already" if (folder / "dvc.yaml").exists() else "is not empty"
        raise RepairError(f"{folder} {what}: name a new folder, or an empty one")
    if folder.exists() and not folder.is_dir():
        raise RepairError(f"{folder} is a file: name a new folder, or an empty one")
    for what, path in (
        ("--data", wishes.data),
        ("--images", wishes.images),
        ("--weights", wishes.weights),
        ("--failures", wishes.failures),
    ):
        if path is not None and not path.exists():
            raise RepairError(f"there is no {path}, which {what} names: name what is there")
    for path in (wishes.data, wishes.images):
        if path is not None and folder.is_relative_to(path.resolve()):
            raise RepairError(f"{folder} lies in {path}, which is copied into it: name a folder elsewhere")
    # An empty folder that is there stays the one that it is: somebody's terminal may be in it.
    written = folder / ".begun" if folder.is_dir() else folder
    with output_folder(written) as place:
        for name, words in FOLDERS.items():
            _write(place / name / "README.md", words)
        settings = _settings(place, wishes)
        with (place / "params.yaml").open("w", encoding="utf-8") as file:
            _yaml().dump(settings, file)
        with (place / "dvc.yaml").open("w", encoding="utf-8") as file:
            file.write(
                f"# The pipeline of modelrepair {version()}. `modelrepair update` writes these stages anew.\n"
            )
            _yaml().dump(project_pipeline(), file)
        _write(place / "README.md", README.format(name=folder.name, version=version()))
        _write(place / "requirements.txt", f"modelrepair=={version()}\n")
        _write(place / ".gitignore", IGNORED_BY_GIT)
        _ignore_outputs(place)
        _write(place / ".dvcignore", IGNORED_BY_DVC)
        _write(place / ".dvc/.gitignore", "/config.local\n/tmp\n/cache\n")
        _write(
            place / ".dvc/config",
            CONFIG.format(scm="" if _begin_git(folder, place) else "    no_scm = true\n"),
        )
        shutil.copyfile(PACKAGE / "plots.html", place / ".dvc/plots.html")
        _expect_whole(place)
    if written != folder:
        for entry in sorted(written.iterdir()):
            entry.rename(folder / entry.name)
        written.rmdir()


def update_project(folder: Path) -> list[str]:
    """Bring a project's `dvc.yaml` to the installed version, and add what its `params.yaml` lacks.

    Args:
        folder: of a project that `start_project` has made.

    Returns:
        The settings that were added, by their dotted names.

    Raises:
        RepairError: if it is no such project.
    """
    pipeline = renewed(read_pipeline(folder))
    yaml = _yaml()
    settings = yaml.load((folder / "params.yaml").read_text(encoding="utf-8"))
    offered = yaml.load((PACKAGE / "params.yaml").read_text(encoding="utf-8"))
    added = []
    for section, content in offered.items():
        if section not in settings:
            settings[section] = content
            added.append(section)
        elif section in TABLES:
            for name in content:
                if name not in settings[section]:
                    settings[section][name] = content[name]
                    added.append(f"{section}.{name}")
    for name, content in (("params.yaml", settings), ("dvc.yaml", pipeline)):
        with output_file(folder / name) as path, path.open("w", encoding="utf-8") as file:
            _yaml().dump(content, file)
    with output_file(folder / "requirements.txt") as path:
        path.write_text(f"modelrepair=={version()}\n", encoding="utf-8")
    _ignore_outputs(folder)
    return added


def _settings(place: Path, wishes: Wishes) -> CommentedMap:
    """The content of `params.yaml`; what it names is copied to where the pipeline looks for changes."""
    settings: CommentedMap = _yaml().load((PACKAGE / "params.yaml").read_text(encoding="utf-8"))
    if wishes.method is not None:
        settings["method"] = wishes.method
    if wishes.images is not None and (wishes.data is None or not wishes.data.name.endswith(TABLE_ENDINGS)):
        raise RepairError("images are those that a table lists: name it too, as with --data list.csv")
    if wishes.data is not None:
        _take_data(place, wishes.data, wishes, settings)
    if wishes.network is not None:
        _take_network(place, wishes, settings["model"])
    elif wishes.weights is not None or wishes.arguments:
        raise RepairError(
            "weights and arguments are of a network: name it, as with --network path/to/net.py:Class"
        )
    if wishes.weights is not None:
        refuse_pickle(str(wishes.weights))
        settings["model"]["pretrained"] = _copied(wishes.weights, place, WEIGHTS)
        settings["model"]["trained"] = True
    if wishes.failures is not None:
        settings["failures"]["file"] = _copied(wishes.failures, place, REQUESTS)
    settings.yaml_set_start_comment(
        "What is run. Change a value here, or for one experiment: dvc exp run -S method=ssse -S seed=1\n"
        "Every setting, with its bounds and its default: the package's folder settings, or its documentation."
    )
    return settings


def _take_data(place: Path, data: Path, wishes: Wishes, settings: CommentedMap) -> None:
    """Name the user's data, alone, and a network that takes them."""
    of_test, described = _measured(data, f"{OWN_DATA}/{data.name}", wishes)
    if described["network"] is None and wishes.network is None:
        raise RepairError(
            f"{data} holds numbers of words, for which the package has no network: name yours, as with --network "
            "path/to/net.py:Class"
        )
    for path in (data, wishes.images):
        if path is not None:
            _copied(path, place, OWN_DATA)
    classes, counts = np.unique(of_test, return_counts=True)
    dataset = {
        **described["settings"],
        "validation_fraction": 0.1,
        "reserved": 0,
        # Half of the test examples measure the results, as many of each class.
        "assessment": max(1, int(counts.min()) // 2) * len(classes),
    }
    name = re.sub(r"\W+", "-", data.name.removesuffix(data.suffix)) or "own"
    settings["dataset"] = name
    settings["datasets"] = {name: dataset}
    settings["corruption"] = "none"
    settings["corruptions"] = {kept: settings["corruptions"][kept] for kept in KEPT_CORRUPTIONS}
    # Without remarks on what is left out, which would stand above what is the user's own.
    settings.ca.items.pop("datasets", None)
    settings["corruptions"][KEPT_CORRUPTIONS[-1]].ca.items.clear()
    settings["model"]["network"] = described["network"] or wishes.network


def _measured(data: Path, file: str, wishes: Wishes) -> tuple[NDArray[Any], dict[str, Any]]:
    """The classes of the test examples, and what else follows from the data; read as the pipeline reads them.

    The network is one that takes them, None if the package has none.

    Raises:
        RepairError: if they are no data that it can read.
    """
    if data.suffix == ".npz" or (data / "train_labels.npy").is_file():
        arrays = npz(NpzSettings(file=str(data)), 0, None)
        of_numbers = "conv4" if arrays.train_inputs.ndim == 4 else "linear"
        network = None if arrays.train_inputs.dtype.kind == "i" else of_numbers
        labels = arrays.test_labels if arrays.test_labels.ndim == 1 else np.zeros(len(arrays.test_labels))
        return labels, {"settings": {"source": "npz", "file": file}, "network": network}
    label = wishes.label
    if data.name.endswith(TABLE_ENDINGS) and wishes.images is not None:
        columns = {"label": label, "files": wishes.files}
        with open_files(wishes.images) as files:
            listing = ImageTableSettings.model_validate(
                {"file": str(data), "images": str(wishes.images), **columns}
            )
            _, _, of_test = listed_images(listing, 0, files)
        images = f"{OWN_DATA}/{wishes.images.name}"
        settings = {"source": "image-table", "file": file, "images": images, **columns}
        return of_test.labels, {"settings": settings, "network": "conv4"}
    if data.name.endswith(TABLE_ENDINGS):
        read = table(TableSettings(file=str(data), label=label), 0, None)
        settings = {"source": "table", "file": file, "label": label}
        return read.test_labels, {"settings": settings, "network": "linear"}
    if not data.is_dir() and data.suffix != ".zip":
        raise RepairError(
            f"{data} is no data that the pipeline reads: give arrays as .npz or a folder of .npy files, a table as "
            ".csv, .csv.gz or .parquet, a folder of images by class, or a zip of such a folder"
        )
    folder = {"source": "image-folder", "path": file}
    with open_files(data) as files:
        _, sides = arrange(files)
    if "test" in sides:
        return sides["test"].labels, {"settings": folder, "network": "conv4"}
    share = 0.2
    labels = sides["all"].labels
    counts = [int(share * int((labels == label).sum())) for label in np.unique(labels)]
    found = {"settings": {**folder, "test_fraction": share}, "network": "conv4"}
    return np.repeat(np.unique(labels), counts), found


def _take_network(place: Path, wishes: Wishes, model: CommentedMap) -> None:
    file, separator, kind = str(wishes.network).rpartition(":")
    if not separator:
        model["network"] = wishes.network
        model["options"] = dict(wishes.arguments)
        return
    if not file.endswith(".py") or not Path(file).is_file():
        raise RepairError(
            f"there is no module {named(file)} for the network {named(str(wishes.network))}: name a file and a class "
            "in it, as path/to/net.py:Class, or one of the package's networks, such as conv4"
        )
    whole, module = _module(Path(file))
    _copied(whole, place, NETWORKS)
    model["network"] = "own"
    model["options"] = {"code": f"{module}:{kind}", "arguments": dict(wishes.arguments)}


def _module(file: Path) -> tuple[Path, str]:
    """What has to be copied for a module to be imported, the outermost package around it or itself, and its name."""
    file = file.resolve()
    whole, names = file, [] if file.stem == "__init__" else [file.stem]
    for folder in file.parents:
        if not (folder / "__init__.py").is_file():
            break
        whole, names = folder, [folder.name, *names]
    return whole, ".".join(names)


def _copied(source: Path, place: Path, folder: str) -> str:
    """A file or folder of the user's, copied into a folder of the project; its name there."""
    target = place / folder / source.name
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)
    return f"{folder}/{source.name}"


def _expect_whole(place: Path) -> None:
    """Nothing if what was written can be run.

    Raises:
        RepairError: if not; says what choose-method would.
    """
    parameters = read_parameters(place / "params.yaml")
    here = Path.cwd()
    # Whether files are links is looked up where stages run.
    os.chdir(place)
    try:
        expect_lists(parameters, stage_settings(parameters), place)
    finally:
        os.chdir(here)


def _ignore_outputs(root: Path) -> None:
    """Have git ignore what DVC keeps.

    DVC would say so itself, but of no stage of a run that fails later. Who then commits would have in git what the next
    run refuses to write for that.
    """
    for folder, names in kept_by_dvc(project_pipeline()).items():
        path = root / folder / ".gitignore"
        there = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        lines = [*there, *(line for name in names if (line := f"/{name}") not in there)]
        _write(path, "".join(f"{line}\n" for line in lines))


def _begin_git(folder: Path, place: Path) -> bool:
    """Make a repository of the new project unless it lies in one; whether it then lies in one."""
    parent = next(parent for parent in folder.parents if parent.is_dir())
    try:
        inside = subprocess.run(
            ["git", "rev-parse", "--is-inside-work-tree"], cwd=parent, capture_output=True, check=False
        )
        if inside.returncode:
            subprocess.run(["git", "init", "--quiet"], cwd=place, capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return False
    return True


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _yaml() -> YAML:
    """Keeps remarks, and writes as the package's files are written."""
    yaml = YAML()
    yaml.width = 120
    yaml.representer.add_representer(
        type(None), lambda this, _: this.represent_scalar("tag:yaml.org,2002:null", "")
    )
    return yaml
