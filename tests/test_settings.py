"""What may be set: the schema of params.yaml, what it says of wrong settings, and that all that it names is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from modelrepair.errors import RepairError
from modelrepair.settings import choose
from modelrepair.settings.attributes import expect_no_classes
from modelrepair.settings.curvature import FisherTable
from modelrepair.settings.influence import Score
from modelrepair.settings.networks import NETWORKS
from modelrepair.settings.parameters import Parameters, read_parameters
from modelrepair.settings.posterior import EwcSettings, InsertionSettings, NaturalGradientSettings
from modelrepair.settings.stages import expect_lists, stage_settings
from modelrepair.settings.treatment import KnowledgeEditorSettings, LessonSettings, Treatment
from modelrepair.stages.choose_method import has_attributes

ROOT = Path(__file__).parents[1]
CONTENT: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
PARAMETERS = read_parameters(ROOT / "params.yaml")
EVERY_METHOD = pytest.mark.parametrize("name", PARAMETERS.methods)


def changed(**values: Any) -> dict[str, Any]:
    """The content of params.yaml with other values; names are dotted, with two underscores in place of a dot."""
    content = json.loads(json.dumps(CONTENT))
    for name, value in values.items():
        *parents, last = name.split("__")
        place = content
        for parent in parents:
            place = place[parent.replace("_", "-") if parent not in place else parent]
        if value is Parameters:
            del place[last]
        else:
            place[last] = value
    return content


ABSENT = Parameters
"""For `changed`: leave the setting out."""


# What is wrong, in words.

LONG = "9" * 70
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a setting of a member that is called as another of its settings": (
        {"selections__fraction__per_class": 0},
        "selections.fraction.per_class is 0: give a number above 0",
    ),
    "no such setting of it": (
        {"selections__fraction": {"rule": "fraction", "per_class": 0.5}},
        "selections.fraction lacks fraction: add it",
    ),
    "text for a number": (
        {"training__batch_size": "many"},
        "training.batch_size is 'many': give a whole number of 1",
    ),
    "a list for a number": ({"training__epochs": [3]}, r"training.epochs is \[3\]: give a whole number"),
    "null for a number": (
        {"training__learning_rate": None},
        "training.learning_rate is None: give a number above 0",
    ),
    "true for a number": (
        {"training__learning_rate": True},
        "training.learning_rate is True: give a number above 0",
    ),
    "half an epoch": ({"training__epochs": 2.5}, "training.epochs is 2.5: give a whole number of 1 or more"),
    "half a patience": (
        {"training__patience": 2.5},
        "training.patience is 2.5: give a whole number .* or null",
    ),
    "no epochs": ({"training__epochs": 0}, "training.epochs is 0: give a whole number of 1 or more"),
    "no batch": ({"training__batch_size": 0}, "training.batch_size is 0"),
    "a number beyond all floats": (
        {"training__learning_rate": 10**400},
        "training.learning_rate is 1000+.*: give a number",
    ),
    "infinity": (
        {"training__weight_decay": float("inf")},
        "training.weight_decay is inf: give a number of 0 or more",
    ),
    "not a number": ({"identifications__ewc__damping": float("nan")}, "identifications.ewc.damping is nan"),
    "a negative weight decay": ({"training__weight_decay": -1}, "training.weight_decay is -1"),
    "an optimiser": (
        {"training__optimiser": "magic"},
        "training.optimiser is 'magic': choose one of adam, sgd",
    ),
    "a negative seed": ({"seed": -1}, "seed is -1: give a whole number of 0 or more"),
    "a seed of 64 bits": (
        {"seed": 2**64},
        r"seed is 18446744073709551616: give a whole number .* below 2\*\*63",
    ),
    "a list for a name": ({"method": ["ewc"]}, r"method is \['ewc'\]: give a name"),
    "a map for a name": ({"dataset": {"a": 1}}, "dataset is {'a': 1}: give a name"),
    "a section that is null": (
        {"training": None},
        "training is None: give a section with optimiser, learning_rate, weight_decay",
    ),
    "an entry that is null": ({"datasets": {"mine": None}}, "datasets.mine is None: give a section"),
    "an entry that is text": ({"selections": {"mine": "top"}}, "selections.mine is 'top': give a section"),
    "a section that is missing": ({"model": ABSENT}, "lacking is model: add it"),
    "a setting that is missing": (
        {"selections__fraction": {"rule": "fraction"}},
        "selections.fraction lacks fraction",
    ),
    "a rule that is missing": ({"selections__fraction": {"fraction": 0.1}}, "selections.fraction lacks rule"),
    "a rule": (
        {"selections__fraction__rule": "best"},
        "selections.fraction.rule is 'best': choose one of .*top-k",
    ),
    "a source": (
        {"datasets__mnist": {"source": "web"}},
        "datasets.mnist.source is 'web': choose one of .*npz",
    ),
    "a kind of corruption": (
        {"corruptions__none__kind": "rust"},
        "corruptions.none.kind is 'rust': choose one of",
    ),
    "a misspelt setting": ({"training__epoch": 3}, "training has no setting epoch: is epochs meant?"),
    "a misspelt section": ({"tretments": {}}, "there is no setting tretments: is treatments meant?"),
    "a surplus setting": (
        {"failures__colour": 3},
        "failures has no setting colour: there may be protocol, classes",
    ),
    "a surplus setting within": (
        {"identifications__ewc__posterior__colour": 1},
        "identifications.ewc.posterior has no setting colour",
    ),
    "text for a truth value": ({"failures__required": "no"}, "failures.required is 'no': give true or false"),
    "text for a guard": (
        {"treatments__ewc__guarded": "no"},
        "treatments.ewc.guarded is 'no': give true, false or null",
    ),
    "nothing to train on": (
        {"treatments__mend__trains_on": []},
        "treatments.mend: trains_on is empty: name at least one of discovery",
    ),
    "a share of what is left out": (
        {"treatments__finetune-failures__remaining": "equal"},
        "treatments.finetune-failures: remaining is 'equal', and trains_on leaves the remaining out",
    ),
    "a judge that never learns": (
        {"identifications__second-look__posterior__memory": 1.0},
        "memory is 1.0: give a number of 0 or more, below 1",
    ),
    "a curvature that is not used": (
        {"identifications__second-look__curvature": "gram"},
        "identifications.second-look: with posterior.update second-look no curvature is used",
    ),
    "a negative tolerance": (
        {"treatments__finetune__tolerance": -0.1},
        "tolerance is -0.1: give a number from 0 to 1",
    ),
    "no points": ({"treatments__scrub__points": 0}, "treatments.scrub.points is 0: give a whole number of 1"),
    "a fraction above 1": (
        {"selections__fraction__fraction": 1.2},
        "fraction is 1.2: give a number above 0 and at most 1",
    ),
    "all for validation": (
        {"datasets__mnist__validation_fraction": 1},
        "validation_fraction is 1: give .* below 1",
    ),
    "labels without columns": (
        {"datasets__cifar10__labels": {"file": "data/own/labels.csv"}},
        "datasets.cifar10.labels lacks columns: add it",
    ),
    "no columns of labels": (
        {"datasets__cifar10-jpeg__labels__columns": []},
        r"datasets.cifar10-jpeg.labels.columns is \[\]: give a list of names of columns",
    ),
    "text for labels": (
        {"datasets__cifar10__labels": "labels.csv"},
        "datasets.cifar10.labels is 'labels.csv': give a section with file, columns",
    ),
    "a block of nothing": (
        {"fisher__block__block_size": 0},
        "fisher.block.block_size is 0: give a whole number of 1",
    ),
    "a curvature's option": ({"fisher__diagonal": {"red": 1}}, "fisher.diagonal has no setting red"),
    "a curvature": (
        {"identifications__ewc__curvature": "cubic"},
        "curvature is 'cubic': choose one of .*gram",
    ),
    "an update": (
        {"identifications__ewc__posterior__update": "wish"},
        "posterior.update is 'wish': choose one of each-alone, ewc",
    ),
    "an update without its curvature": (
        {"identifications__ewc__curvature": ABSENT},
        "identifications.ewc: the posterior update ewc needs curvature: add it",
    ),
    "a curvature for no update": (
        {"identifications__loss__curvature": "gram"},
        "identifications.loss: with posterior.update none no curvature is used",
    ),
    "insertion by what is kept": (
        {"identifications__linear__posterior__gradient": "kept"},
        "identifications.linear: posterior.gradient is 'kept', which is for deletions",
    ),
    "insertion with a penalty": (
        {"identifications__linear__posterior__weight_decay": 0.1},
        "identifications.linear: posterior.weight_decay is for deletions",
    ),
    "a curvature that cannot forget": (
        {"treatments__ewc__curvature_without_causes": True},
        "treatments.ewc: the curvature diagonal cannot leave out the causes .*: choose one of gram, hessian, identity",
    ),
    "a posterior that is more than its diagonal": (
        {"identifications__variational__curvature": "gram"},
        "identifications.variational: the posterior update variational carries on a precision .* curvature is gram",
    ),
    "a deletion from more than a diagonal": (
        {"treatments__online-ewc__curvature": "kfac"},
        "treatments.online-ewc: the posterior update online-ewc carries on .* is kfac: choose diagonal or identity",
    ),
    "a posterior that knows nothing of a parameter": (
        {"treatments__variational__damping": 0.0},
        "treatments.variational: damping is 0, and the posterior update variational needs a precision above 0",
    ),
    "an expectation over a mode": (
        {"identifications__ewc__influence__score": "expected-loss-change"},
        "identifications.ewc: the score expected-loss-change averages over a posterior, .* ewc gives the mode alone",
    ),
    "an expectation of one draw": (
        {"identifications__variational__influence__samples": 1},
        "influence.samples is 1: give a whole number of 2 or more",
    ),
    "all gradients of a curvature without them": (
        {"identifications__orthogonal-gradients__posterior__directions": None},
        "identifications.orthogonal-gradients: posterior.directions is null, .* the curvature is identity",
    ),
    "causes that are protected": (
        {
            "treatments__orthogonal-gradients__posterior__directions": None,
            "treatments__orthogonal-gradients__curvature": "gram",
        },
        "posterior.directions is null, which would protect the causes too: set curvature_without_causes to true",
    ),
    "a score that compares nothing": (
        {"identifications__loss__influence__score": "loss-change"},
        "identifications.loss: the score loss-change compares the model with and without the failures",
    ),
    "a method's treatment": (
        {"methods__ewc__treatment": "pray"},
        "methods.ewc.treatment is 'pray': choose one of",
    ),
    "a list for a table": ({"datasets": [3]}, r"datasets is \[3\]: give names with their values"),
    "no file for a line end": (
        {"datasets__mnist__folder": "a\nb"},
        r"datasets.mnist.folder is 'a\\nb': give a text of one line",
    ),
    "a line end in a name": (
        {"training__a\nb": 1},
        r"training has no setting 'a\\nb': there may be optimiser, learning_rate",
    ),
    "an endless name": ({"training__" + "a" * 3000: 1}, r"training has no setting 'a+\.\.\.: there may be"),
    "half a letter": ({"training__\ud800": 1}, r"training has no setting '\\ud800': there may be"),
    "half a letter for an optimiser": (
        {"training__optimiser": "\ud800"},
        r"training.optimiser is '\\ud800': give a text",
    ),
    "an endless kind": (
        {"corruptions__none__kind": "a" * 3000},
        r"corruptions.none.kind is 'a+\.\.\.: choose one of none, label-noise",
    ),
    "patience beyond all numbers": (
        {"training__patience": 10**400},
        r"training.patience is 10+\.\.\.: give a whole number of 1 or more, or null$",
    ),
    "bytes beyond all numbers": (
        {"fisher__hessian": {"memory": 10**400}},
        r"fisher.hessian.memory is 10+\.\.\.: give a whole number of bytes",
    ),
    "a list of lists for classes": (
        {"failures__classes": [[3]]},
        r"failures.classes is \[\[3\]\]: give a list of classes such as \[1, 7\], or null$",
    ),
    "a number for rates": (
        {"corruptions__label-noise__confusion_matrix": 3},
        "corruptions.label-noise.confusion_matrix is 3: give names with their values$",
    ),
    "a number for the rates of a class": (
        {"corruptions__label-noise__confusion_matrix": {"1": 3}},
        "corruptions.label-noise.confusion_matrix.1 is 3: give names with their values$",
    ),
    "a text for a row of rates": (
        {"corruptions__label-noise__confusion_matrix": [[1, 0], "many"]},
        "corruptions.label-noise.confusion_matrix.1 is 'many': give a list$",
    ),
    "half a class": (
        {"corruptions__label-noise__confusion_matrix": {"1": {2.5: 0.1}}},
        "corruptions.label-noise.confusion_matrix.1 is 2.5: give the name or the number of a class$",
    ),
    "a rate above 1": (
        {"corruptions__label-noise__confusion_matrix": {"1": {"7": 1.4}}},
        "corruptions.label-noise.confusion_matrix.1.7 is 1.4: give a number from 0 to 1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_settings(name: str) -> None:
    values, expected = WRONG[name]
    with pytest.raises(RepairError, match=expected) as refusal:
        Parameters(**changed(**values))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_classes_by_name_and_by_number_are_one_table() -> None:
    """JSON, in which stages are given their settings, knows texts alone."""
    mixed = {1: {"7": 0.1, 9: 0.2}, "six": {3: 0.5}}
    found = what_runs(**{"corruptions__label-noise__confusion_matrix": mixed})["corrupt-data"]["corruption"]
    assert found["confusion_matrix"] == {"1": {"7": 0.1, "9": 0.2}, "six": {"3": 0.5}}
    for twice in ({1: {}, "1": {}}, {"6": {7: 0.1, "7": 0.2}}):
        with pytest.raises(
            RepairError, match=r"label-noise\.confusion_matrix.*[17] stands there as a number and"
        ):
            Parameters(**changed(**{"corruptions__label-noise__confusion_matrix": twice}))


def test_how_much_else_is_wrong_is_said() -> None:
    with pytest.raises(RepairError, match=r"batch_size is 0: .* \(1 more after this one\)"):
        Parameters(**changed(training__epochs=0, training__batch_size=0))


@pytest.mark.parametrize(
    ("text", "value"), [("5e-05", 5e-05), ("1e-3", 1e-3), ("0.00001", 1e-5), ("010", 10.0), ("1", 1.0)]
)
def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path, text: str, value: float) -> None:
    content = (ROOT / "params.yaml").read_text()
    line = "training:\n  optimiser: adam\n  learning_rate: 0.001\n"
    assert line in content
    (tmp_path / "params.yaml").write_text(content.replace(line, line.replace("0.001", text)))
    assert read_parameters(tmp_path / "params.yaml").training.learning_rate == value


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("seed: 0\nmethod: [ewc\n", "params.yaml cannot be read as YAML"),
        ("seed: 0\nseed: 1\n", "params.yaml cannot be read as YAML: .*duplicate key"),
        ("- seed\n- method\n", "params.yaml should hold names with values, not list"),
        ("", "params.yaml should hold names with values, not NoneType"),
        ("seed: !!int ''\n", "params.yaml cannot be read as YAML"),
        ("seed: " + 3000 * "[", "params.yaml cannot be read as YAML"),
        ("1: 2\n", "params.yaml has a section 1: names of sections are texts"),
        ("seed: 0\nmethod: ewc\n", "in params.yaml, lacking is dataset: add it"),
    ],
    ids=["brackets", "twice", "a list", "empty", "no number", "endless", "a number", "sections are missing"],
)
def test_files_that_are_none(tmp_path: Path, content: str, expected: str) -> None:
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(RepairError, match=expected):
        read_parameters(tmp_path / "params.yaml")


def test_members_made_in_python_say_the_same() -> None:
    with pytest.raises(RepairError, match=r"^epsilon is -1: give a number above 0$"):
        NaturalGradientSettings(epsilon=-1)
    with pytest.raises(RepairError, match=r"^there is no setting colour: there may be update, learning_rate"):
        EwcSettings(colour="red")
    assert EwcSettings(rounds=3).options == {
        "learning_rate": 1e-3,
        "rounds": 3,
        "batch_size": 500,
        "points": 20,
        "bounded": True,
    }


def test_the_settings_have_a_schema_for_editors() -> None:
    schema = Parameters.model_json_schema()
    assert set(schema["properties"]) == set(CONTENT)
    assert "Of everything that is drawn at random." in schema["properties"]["seed"]["description"]
    said = "docs/params.schema.json is not that of the settings: run python scripts/params_schema.py"
    assert json.loads((ROOT / "docs/params.schema.json").read_text()) == json.loads(json.dumps(schema)), said
    assert "$schema=docs/params.schema.json" in (ROOT / "params.yaml").read_text().splitlines()[0]


# What is run.


def what_runs(**values: Any) -> dict[str, Any]:
    settings = stage_settings(Parameters(**changed(**values)))
    return {name: content.model_dump() for name, content in settings.items()}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"method": "mend"}, False),
        ({"method": "mend", "treatment": "mend-discovery"}, False),
        ({"method": "mend", "treatment": "finetune-failures"}, False),
        ({"method": "mend", "treatment": "finetune"}, True),
        ({"method": "mend", "treatment": "relabel"}, True),
        ({"method": "ewc"}, True),
        # The reference of the same causes needs one too.
        ({"method": "mend", "reference": "retrain"}, True),
        ({"method": "mend", "reference": "finetune-failures"}, False),
    ],
)
def test_select_causes_may_find_none_where_what_follows_learns_something_else(
    values: dict[str, str], expected: bool
) -> None:
    assert what_runs(**values)["select-causes"]["at_least_one"] is expected


def test_every_stage_gets_its_own() -> None:
    found = what_runs(method="ewc")
    assert found["prepare-data"] == {
        "seed": 0,
        "dataset": {**CONTENT["datasets"]["mnist-sample"], "labels": None},
    }
    assert found["select-causes"] == {
        "selection": {**CONTENT["selections"]["fraction"], "per_class": None},
        "for_reference": False,
        "at_least_one": True,
        "only_removes": None,
    }
    ewc = CONTENT["identifications"]["ewc"]
    insertion = found["update-posterior"]
    assert ewc["posterior"].items() <= insertion["posterior"].items()
    assert (insertion["curvature"], insertion["damping"]) == (ewc["curvature"], ewc["damping"])
    assert ewc["influence"].items() <= found["score-influence"]["influence"].items()
    assert found["evaluate"] == {
        "method": "ewc",
        "identification": "ewc",
        "treatment": "ewc",
        "selection": "fraction",
        "uses": "guard",
        "known": None,
        "scored": True,
        "reference": "fine-tuned without the 15 % highest losses",
        "retrained": False,
        "parameters": {
            "method": "ewc",
            "identification": "ewc",
            "treatment": "ewc",
            "selection": "fraction",
            "dataset": "mnist-sample",
            "corruption": "label-noise",
            "model.network": "lenet5",
            "reference": "obvious",
            "seed": "0",
        },
        "seed": 0,
        "measured": {"relearning_steps": 0, "single_edits": 0, "edits_in_a_row": 0},
        "cka": None,
    }


def test_lists_that_are_to_be_read_are_there(tmp_path: Path) -> None:
    def expect(**values: Any) -> None:
        parameters = Parameters(**changed(**values))
        expect_lists(parameters, stage_settings(parameters), tmp_path)

    expect()
    (tmp_path / "requests").mkdir()
    for values, name in (
        ({"failures__file": "requests/mine.csv"}, "failures.file"),
        ({"selection": "listed", "selections__listed__file": "requests/mine.csv"}, "selections.listed.file"),
        ({"known": "listed", "selections__listed__file": "requests/mine.csv"}, "selections.listed.file"),
    ):
        (tmp_path / "requests/mine.csv").unlink(missing_ok=True)
        with pytest.raises(RepairError, match=f"{name} is 'requests/mine.csv', and there is no such file"):
            expect(**values)
        (tmp_path / "requests/mine.csv").touch()
        expect(**values)


def test_what_needs_classes_is_refused_where_examples_have_attributes(tmp_path: Path) -> None:
    np.savez(tmp_path / "attributes.npz", train_labels=np.eye(3))
    np.savez_compressed(tmp_path / "classes.npz", train_labels=np.arange(3))
    np.savez(tmp_path / "other.npz", labels=np.eye(3))
    np.save(tmp_path / "train_labels.npy", np.eye(3))
    (tmp_path / "broken.npz").write_bytes(b"no arrays")
    looked = {
        "attributes.npz": True, "": True, "classes.npz": False, "other.npz": False, "broken.npz": False, "no.npz": False
    }  # fmt: skip
    assert {name: has_attributes(tmp_path / name) for name in looked} == looked

    def expect(**values: Any) -> None:
        expect_no_classes(stage_settings(Parameters(**changed(**{"corruption": "none", **values}))))

    for name in ("ewc", "linear", "loss", "margin", "self-influence", "sgd-influence", "second-look", "bir"):
        expect(identification=name)
    expect(corruption="biased-sample", treatment="salun", reference="bir")
    log_likelihood = {f"{place}__orthogonal-gradients__posterior__protects": "log-likelihood"
                      for place in ("identifications", "treatments")}  # fmt: skip
    orthogonal = dict.fromkeys(("identification", "treatment", "reference"), "orthogonal-gradients")
    expect(**orthogonal, **log_likelihood)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"corruption": "label-noise"}, "the corruption label-noise"),
        ({"corruption": ["label-noise", "salt-and-pepper"]}, "the corruption label-noise, salt-and-pepper"),
        ({"failures__classes": [1]}, "failures.classes"),
        ({"failures__file": "requests/mine.csv"}, "failures.file"),
        ({"failures__clusters": 3}, "failures.clusters 3"),
        ({"identification": "confident-learning"}, "the score confident-learning"),
        ({"identification": "g-shapley"}, "the score g-shapley"),
        *(
            ({name: value}, f"the {name}'s posterior update orthogonal-gradients with protects logit")
            for name, value in orthogonal.items()
        ),
    ]
    for values, what in refused:
        with pytest.raises(
            RepairError, match=f"^{what} needs examples with one class each, and these have attr"
        ):
            expect(**values)


def test_links_to_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC does not look into them."""
    (tmp_path / "data/own").mkdir(parents=True)
    (tmp_path / "elsewhere/images").mkdir(parents=True)
    (tmp_path / "images.zip").touch()
    (tmp_path / "data/own/images.zip").symlink_to(tmp_path / "images.zip")
    (tmp_path / "data/own/linked").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    for path in ("data/own/linked", "data/own/linked/images", "data/own/linked/images/deep.zip"):
        with pytest.raises(
            RepairError, match="data/own/linked is a link to a folder, in which DVC would see no"
        ):
            what_runs(dataset="images", datasets__images__path=path)
    what_runs(dataset="images", datasets__images__path="data/own/images.zip")


ANOTHER_WAY: dict[str, Any] = {
    "optimiser": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "momentum": 0.8,
    "nesterov": True,
    "schedule": "one-cycle",
    "batch_size": 100,
    "crop": 4,
    "flip": True,
    "precision": "bfloat16",
    "channels_last": True,
}


def test_what_trains_on_or_anew_does_so_as_the_base_training_did() -> None:
    whole = {f"training__{name}": value for name, value in {**ANOTHER_WAY, "patience": None}.items()}

    def agrees(section: dict[str, Any], except_for: str = "") -> bool:
        return all(section[name] == value for name, value in ANOTHER_WAY.items() if name != except_for)

    looks = what_runs(method="mend", **whole)
    assert agrees(looks["update-posterior"]["posterior"], except_for="learning_rate")
    assert agrees(looks["treat"]["treatment"]["posterior"])
    assert agrees(looks["train-reference"]["treatment"])
    anew = what_runs(treatment="retrain", **whole, training__epochs=25)["treat"]["treatment"]
    assert agrees(anew)
    assert anew["epochs"] == 25
    assert what_runs(treatment="retrain", training__epochs=25)["treat"]["treatment"]["epochs"] == 40
    own = what_runs(treatment="retrain", **whole, treatments__retrain__epochs=3)["treat"]["treatment"]
    assert own["epochs"] == 3
    assert agrees(what_runs(identification="confident-learning", **whole)["score-influence"]["influence"])
    judged = what_runs(treatment="relabel", **whole)["treat"]["treatment"]["judge"]
    assert agrees(judged["posterior"], except_for="learning_rate"), "a judge that trains on the training data"
    for name, value in {"crop": 0, "flip": False, "learning_rate": 0.5, "batch_size": 7}.items():
        own = what_runs(treatment="finetune", **whole, **{f"treatments__finetune__{name}": value})
        assert own["treat"]["treatment"][name] == value
        assert agrees(own["treat"]["treatment"], except_for=name)


def test_steps_are_longer_by_the_pace_than_those_of_a_steady_rate() -> None:
    """Of which a rate that changes is taken to be three times as much where it is highest."""

    def rate(**changes: Any) -> float:
        value = what_runs(method="mend", **changes)["treat"]["treatment"]["posterior"]["learning_rate"]
        return float(value)

    assert rate() == 3 * 0.001
    assert rate(training__learning_rate=0.02, treatments__mend__posterior__pace=0.5) == 0.01
    assert rate(treatments__mend__posterior__learning_rate=0.1) == 0.1, "set, and nothing but that"
    assert rate(training__learning_rate=0.1, training__schedule="cosine", training__patience=None) == 0.1
    assert rate(treatments__mend__posterior__schedule="cosine") == pytest.approx(0.003)
    found = what_runs(training__learning_rate=0.3, training__schedule="one-cycle", training__patience=None)
    assert found["update-posterior"]["posterior"]["learning_rate"] == pytest.approx(0.1)
    own = what_runs(method="mend", training__learning_rate=0.3, treatments__mend__posterior__optimiser="sgd")
    assert own["treat"]["treatment"]["posterior"]["learning_rate"] == 0.001, (
        "with its own optimiser its own rate"
    )


def test_a_rate_that_changes_goes_through_the_same_course_in_as_many_epochs_as_there_are() -> None:
    drops = {"schedule": "steps", "drops": [50, 75, 99], "warm_up": 5.0, "epochs": 100, "patience": None}
    whole = {f"training__{name}": value for name, value in drops.items()}
    found = what_runs(method="mend", **whole, treatments__mend__posterior__looks=12)
    looks, tuned = found["treat"]["treatment"]["posterior"], found["train-reference"]["treatment"]
    assert (looks["drops"], looks["warm_up"]) == ([6, 9, 12], pytest.approx(0.6))
    assert (tuned["drops"], tuned["warm_up"], tuned["epochs"]) == ([5, 8, 10], pytest.approx(0.5), 10)
    short = what_runs(method="mend", **whole, treatments__mend__posterior__looks=2)["treat"]["treatment"]
    assert short["posterior"]["drops"] == [1, 2]


def test_what_trains_in_its_own_way_shares_nothing_that_does_not_go_with_it() -> None:
    whole = {f"training__{name}": value for name, value in {**ANOTHER_WAY, "patience": None}.items()}
    own = what_runs(treatment="finetune", **whole, treatments__finetune__optimiser="adam")["treat"][
        "treatment"
    ]
    alone = {
        "optimiser": "adam", "learning_rate": 1e-3, "momentum": 0.9, "nesterov": False, "schedule": "constant"
    }  # fmt: skip
    assert own.items() >= {**ANOTHER_WAY, **alone}.items()
    looks = what_runs(method="mend", **whole, treatments__mend__posterior__optimiser="adam")
    assert looks["treat"]["treatment"]["posterior"].items() >= {**ANOTHER_WAY, **alone}.items()
    stepped = {"schedule": "steps", "drops": [3], "warm_up": 1.0, "patience": None}
    steady = what_runs(
        treatment="finetune",
        **{f"training__{name}": value for name, value in stepped.items()},
        treatments__finetune__schedule="constant",
    )["treat"]["treatment"]
    assert (steady["schedule"], steady["drops"], steady["warm_up"]) == ("constant", [], None)
    with pytest.raises(
        RepairError, match="the schedule one-cycle is over all epochs, and patience 3 may end"
    ):
        what_runs(treatment="finetune", **whole, treatments__finetune__patience=3)
    with pytest.raises(RepairError, match="the schedule cosine is over all epochs, and patience 3 may end"):
        what_runs(treatments__finetune={"kind": "fine-tune", "schedule": "cosine", "patience": 3})


def test_the_weight_decay_of_training_reaches_what_must_know_it() -> None:
    """Scores, deletions and further training; failures are inserted without one."""
    found = what_runs(method="ssse", training__weight_decay=0.01)
    assert found["score-influence"]["influence"]["weight_decay"] == 0.01
    assert found["treat"]["treatment"]["posterior"]["weight_decay"] == 0.01
    assert found["update-posterior"]["posterior"]["weight_decay"] == 0.0
    looks = what_runs(method="mend", training__weight_decay=0.01)
    for stage, section in (
        ("update-posterior", looks["update-posterior"]),
        ("treat", looks["treat"]["treatment"]),
    ):
        assert section["posterior"]["weight_decay"] == 0.01, f"{stage} trains on the training data"
    own = what_runs(method="ssse", training__weight_decay=0.01, treatments__ssse__posterior__weight_decay=0.5)
    assert own["treat"]["treatment"]["posterior"]["weight_decay"] == 0.5
    for treatment in ("finetune", "retrain"):
        found = what_runs(treatment=treatment, training__weight_decay=0.01)
        assert found["treat"]["treatment"]["weight_decay"] == 0.01
        own = what_runs(
            treatment=treatment,
            training__weight_decay=0.01,
            **{f"treatments__{treatment}__weight_decay": 0.0},
        )
        assert own["treat"]["treatment"]["weight_decay"] == 0.0


def with_room(treatment: Any) -> dict[str, str]:
    """What an editor needs: facts, and a network with room for what it adds."""
    facts = {"dataset": "facts", "corruption": "false-facts", "model__network": "factlm"}
    needs = isinstance(treatment, KnowledgeEditorSettings | LessonSettings) or "restated" in treatment.taught
    return facts if needs else {}


def test_any_identification_goes_with_any_treatment() -> None:
    pair = what_runs(identification="loss", treatment="finetune")
    assert pair["evaluate"]["identification"] == "loss"
    assert pair["treat"] == what_runs(method="finetune")["treat"]
    assert pair["score-influence"] == what_runs(method="loss-ssse")["score-influence"]
    for identification in PARAMETERS.identifications:
        selection = "class" if identification == "request" else "fraction"
        for treatment, settings in PARAMETERS.treatments.items():
            what_runs(
                identification=identification,
                treatment=treatment,
                selection=selection,
                known="truth-10",
                **with_room(settings),
            )


@pytest.mark.parametrize(
    ("identification", "treatment", "curvatures"),
    [
        ("ewc", "ssse", ["diagonal", "gram"]),
        ("linear", "newton", ["gram"]),
        ("loss", "ewc", ["diagonal"]),
        ("loss", "retrain", []),
    ],
)
def test_the_curvatures_that_are_fitted(identification: str, treatment: str, curvatures: list[str]) -> None:
    found = what_runs(identification=identification, treatment=treatment)
    assert list(found["fit-fisher"]["curvatures"]) == curvatures


def test_a_request_is_not_guarded_unless_somebody_says_so() -> None:
    erase = what_runs(method="erase", selection="class")
    assert not erase["treat"]["treatment"]["guarded"]
    assert erase["evaluate"]["uses"] == "request"
    assert not erase["evaluate"]["scored"]
    guarded = what_runs(method="erase", selection="class", treatments__erase__guarded=True)
    assert guarded["treat"]["treatment"]["guarded"]
    assert what_runs(method="ewc", treatments__ewc__guarded=False)["evaluate"]["uses"] == "failures"
    # Discovery tells a judge what its belief is worth, whatever the selection, and how many causes are expected.
    for asked in (
        {"identification": "second-look", "selection": "fraction"},
        {"identifications__ewc__influence": {"score": "loss-after"}, "selection": "expected"},
    ):
        unguarded = what_runs(method="ewc", treatments__ewc__guarded=False, **asked)
        assert unguarded["evaluate"]["uses"] == "guard"
    for treatment, uses in (
        ("mend", "guard"),
        ("mend-discovery", "discovery"),
        ("finetune-failures", "guard"),
        ("finetune-reserved", "reserved"),
        ("finetune-remaining-discovery", "discovery"),
    ):
        assert what_runs(identification="loss", treatment=treatment)["evaluate"]["uses"] == uses
    assert what_runs(identification="knn-shapley")["evaluate"]["uses"] == "discovery"


@pytest.mark.parametrize(
    ("values", "treatment", "guarded", "words"),
    [
        ({"method": "mend"}, "finetune", True, "fine-tuned without the 15 % highest losses"),
        ({"method": "ewc"}, "finetune", True, "fine-tuned without the 15 % highest losses"),
        (
            {"method": "ewc", "treatments__ewc__guarded": False},
            "finetune",
            False,
            "fine-tuned without the 15 % highest losses",
        ),
        ({"method": "bir"}, "finetune-reserved", True, "fine-tuned on the reserved examples"),
        (
            {"identification": "knn-shapley"},
            "finetune-discovery",
            True,
            "fine-tuned on discovery",
        ),
        ({"treatment": "mend-discovery"}, "finetune-discovery", True, "fine-tuned on discovery"),
        ({"method": "erase", "selection": "class"}, None, None, None),
        ({"method": "mend", "reference": "none"}, None, None, None),
        ({"method": "mend", "reference": "retrain"}, "retrain", True, "retrain, with the same causes"),
        (
            {"method": "erase", "selection": "class", "reference": "retrain"},
            "retrain",
            False,
            "retrain, with the same causes",
        ),
        (
            {"selections__fraction__fraction": 0.325},
            "finetune",
            True,
            "fine-tuned without the 32.5 % highest losses",
        ),
        (
            {"treatments__finetune__trains_on": ["remaining", "failures"]},
            "finetune",
            True,
            "fine-tuned on the failures without the 15 % highest losses",
        ),
    ],
)
def test_the_reference_is_what_anybody_would_do_with_the_same(
    values: dict[str, Any], treatment: str | None, guarded: bool | None, words: str | None
) -> None:
    found = what_runs(**values)
    reference, obvious = found["train-reference"], values.get("reference", "obvious") == "obvious"
    assert found["evaluate"]["reference"] == words
    assert found["evaluate"]["retrained"] == (treatment == "retrain")
    if treatment is None:
        assert reference == {
            "seed": 0,
            "treatment": None,
            "dropped": None,
            "known": False,
            "curvatures": {},
        }
        return
    alone = what_runs(**{**values, "reference": "none", "treatment": treatment})["treat"]["treatment"]
    assert reference["treatment"] == {**alone, "guarded": guarded}
    assert (reference["dropped"] is not None) == obvious
    assert found["select-causes"]["for_reference"] == (not obvious)


def test_who_knows_some_causes_would_drop_these() -> None:
    given = {"identification": "grow", "known": "truth-10"}
    found = what_runs(**given)
    assert found["know-causes"]["known"] == PARAMETERS.selections["truth-10"].model_dump()
    assert (found["train-reference"]["known"], found["train-reference"]["dropped"]) == (True, None)
    assert found["evaluate"]["reference"] == "fine-tuned without the known causes"
    assert found["evaluate"]["known"] == "truth-10"
    assert not found["select-causes"]["for_reference"]
    assert what_runs(**given, method="ewc")["train-reference"] == found["train-reference"]
    anew = what_runs(**given, reference="retrain")
    assert not anew["train-reference"]["known"]
    assert anew["select-causes"]["for_reference"]
    assert anew["evaluate"]["retrained"]


def test_methods_that_are_given_the_same_have_one_reference() -> None:
    by_use: dict[str, set[str]] = {}
    for name, method in CONTENT["methods"].items():
        selection = "class" if method["identification"] == "request" else None
        found = what_runs(method=name, selection=selection)
        made = json.dumps(found["train-reference"], sort_keys=True)
        by_use.setdefault(found["evaluate"]["uses"], set()).add(made)
    assert {use: len(made) for use, made in by_use.items()} == {"guard": 1, "reserved": 1, "request": 1}


def test_a_reference_gets_the_curvature_that_it_asks_for() -> None:
    found = what_runs(method="ewc", reference="ssse", training__weight_decay=0.01)
    assert found["train-reference"]["curvatures"] == {"gram": PARAMETERS.fisher.gram.model_dump()}
    assert list(found["fit-fisher"]["curvatures"]) == ["diagonal"], "the method's own"
    assert found["train-reference"]["treatment"]["posterior"]["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"reference": "voodoo"},
            "there is no reference 'voodoo': choose obvious, none, or one of the treat",
        ),
        (
            {"method": "bir", "treatments__finetune-reserved": ABSENT},
            "given 'reserved' is the treatment 'finetune-reserved', and treatments has no such entry: add it",
        ),
        (
            {"selections__fraction": {"rule": "top-k", "count": 3}},
            "reference is obvious, .* no such entry of the rule fraction, below 1: add it, or set reference",
        ),
        (
            {"selections__fraction__fraction": 1.0},
            "reference is obvious, .* no such entry of the rule fraction, below 1: add it, or set reference",
        ),
        ({"method": "voodoo"}, "there is no method 'voodoo': choose one of bir"),
        ({"identification": "voodoo"}, "there is no identification 'voodoo': choose one of bir"),
        ({"treatment": "voodoo"}, "there is no treatment 'voodoo': choose one of ascent"),
        ({"dataset": "cats"}, "there is no dataset 'cats': choose one of cifar10, .*, mnist, mnist-sample"),
        (
            {"dataset": "images", "datasets__images__path": "photos"},
            r"datasets\.images\.path is 'photos', outside the folder data/own \(own_data\)",
        ),
        (
            {"datasets__mnist-sample__labels": {"file": "labels.csv", "columns": ["worst"]}},
            r"datasets\.mnist-sample\.labels\.file is 'labels\.csv', outside the folder data/own",
        ),
        (
            {"corruption": "cifar10n-worst"},
            "'cifar10n-worst' takes the labels 'worst', which datasets.mnist-sample does not have: name a file",
        ),
        (
            {
                "dataset": "cifar10-jpeg",
                "corruption": "cifar10n-worst",
                "corruptions__cifar10n-worst__column": "best",
            },
            "'cifar10n-worst' takes the labels 'best', which datasets.cifar10-jpeg does not have",
        ),
        (
            {"corruption": "rust"},
            "there is no corruption 'rust': choose one of backdoor",
        ),
        ({"selection": "best"}, "there is no selection 'best': choose one of .*fraction"),
        (
            {"identification": "bir", "datasets__mnist-sample__reserved": 0},
            "'bir' or the treatment 'mend' learns from reserved examples, of which datasets.mnist-sample keeps none",
        ),
        (
            {"identification": "loss", "selection": "expected"},
            "reads scores as odds, and those of the identification",
        ),
        ({"identifications__self-influence__posterior__update": "ewc"}, "each-alone go together"),
        ({"treatments__bir__judge__posterior": {"update": "none"}}, "inserts nothing that is right"),
        ({"model__network": "lenet6"}, "there is no network 'lenet6': choose one of conv4, factlm, lenet5"),
        (
            {"model__options": {"seed": 1}},
            "model.options of the network lenet5: there is no setting seed",
        ),
        ({"model": {"network": "linear", "options": {"bias": 3}}}, "bias is 3: give true or false"),
        (
            {"method": "erase", "selection": "fraction"},
            "identification 'request' scores no examples, so the selection 'fraction' cannot",
        ),
        ({"method": "erase"}, "identification 'request' scores no examples: say which causes"),
        (
            {"method": "erase", "selection": "class", "failures__clusters": 3},
            "failures.clusters is 3, and the identification 'request' scores no examples, by which the causes",
        ),
        (
            {"identifications__loss__selection": None, "method": "loss-ssse"},
            "identification 'loss' names no selection: say which causes",
        ),
        ({"identification": "request"}, "identification 'request' scores no examples"),
        (
            {"corruption": "none", "selection": "truth"},
            "'truth' needs examples that were corrupted on purpose",
        ),
        (
            {"identification": "sgd-influence", "training__checkpoints": 0},
            "goes through the base training again, of which training.checkpoints 0 keeps no state: give 16",
        ),
        (
            {"identification": "sgd-influence", "model__network": "resnet20"},
            "resnet20 normalises by the statistics of a batch while it is trained",
        ),
        (
            {"identification": "sgd-influence", "training__precision": "bfloat16"},
            "training.precision bfloat16 rounds more than what one example changes: set it to float32",
        ),
        (
            {"model__network": "torchvision", "model__options": {"classifier": "resnet5"}},
            "no classifier of torchvision 'resnet5': choose one of resnet",
        ),
        ({"model__network": "torchvision"}, "lacking is classifier: add it"),
        ({"model__pretrained": "IMAGENET1K_V1"}, "and lenet5 has no published weights: give a file"),
        (
            {"model__pretrained": "elsewhere/a.safetensors"},
            r"model.pretrained is 'elsewhere/a.safetensors', outside the folder weights",
        ),
        (
            {
                "identification": "sgd-influence",
                "model__network": "torchvision",
                "model__options": {"classifier": "resnet50", "size": 224},
            },
            "torchvision normalises by the statistics of a batch",
        ),
        ({"training__nesterov": True}, "nesterov is of sgd with momentum, and optimiser is adam"),
        ({"training__schedule": "one-cycle"}, "patience 5 may end the training before: set patience to null"),
        ({"training__drops": [3]}, r"drops are \[3\] with the schedule constant: give steps some epochs"),
        ({"training__warm_up": 100}, "warm_up is 100 of 100 epochs: give fewer than there are"),
        (
            {"identification": "sgd-influence", "identifications__sgd-influence__influence__legacy": True},
            "influence.legacy is of plain stochastic gradients: leave it out, or set training.optimiser to sgd",
        ),
        (
            {"identification": "grow"},
            "the identification 'grow' starts from causes that are known, and known is null: list some in a CSV file",
        ),
        (
            {"known": "fraction"},
            "known is 'fraction', of the rule fraction, and causes that are known before anything is scored are listed",
        ),
        (
            {"known": "most"},
            "there is no selection 'most'",
        ),
        (
            {"known": "listed", "selections__listed__file": "elsewhere/known.csv"},
            "selections.listed.file is 'elsewhere/known.csv', outside the folder requests",
        ),
        (
            {"known": "truth-10", "corruption": "none"},
            "'truth-10' needs examples that were corrupted on purpose",
        ),
        (
            {"corruption": "none", "method": "semi-oracle"},
            "'truth' needs examples that were corrupted on purpose",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(RepairError, match=expected):
        what_runs(**values)


def test_members_are_chosen_by_name() -> None:
    members = {"round": 1, "flat": 2}
    assert choose("shape", members, "flat") == 2
    for name in ("flatt", None, []):
        with pytest.raises(RepairError, match=r"there is no shape .*: choose one of flat, round"):
            choose("shape", members, name)  # type: ignore[arg-type]


# The repository's own settings.


def test_no_block_of_settings_stands_twice() -> None:
    for family in ("identifications", "treatments", "selections"):
        blocks = [json.dumps(block, sort_keys=True) for block in CONTENT[family].values()]
        assert len(set(blocks)) == len(blocks), f"{family} has the same settings under two names"
    used = {
        part: {method[part] for method in CONTENT["methods"].values()}
        for part in ("identification", "treatment")
    }
    assert used["identification"] <= set(CONTENT["identifications"])
    assert used["treatment"] <= set(CONTENT["treatments"])


def test_every_member_that_may_be_set_is_there_and_no_other() -> None:
    from modelrepair.influence import INFLUENCES
    from modelrepair.posterior import UPDATES
    from modelrepair.treatment import TREATMENTS

    updates = get_args(InsertionSettings.model_fields["posterior"].annotation)
    assert set(UPDATES) == {update.model_fields["update"].default for update in updates if update.inserts}
    for family, union in ((TREATMENTS, Treatment), (INFLUENCES, Score)):
        kinds = get_args(get_args(union)[0])
        assert set(family) == {kind.model_fields[kind.tag].default for kind in kinds}


@EVERY_METHOD
def test_every_method_of_params_can_be_made(name: str) -> None:
    from modelrepair.curvature import CURVATURES, PATH_CURVATURES
    from modelrepair.influence import INFLUENCES
    from modelrepair.posterior import PosteriorUpdate, make_update
    from modelrepair.treatment import Treatment as Kind
    from modelrepair.treatment import make_treatment

    selection = "class" if PARAMETERS.methods[name].identification == "request" else "fraction"
    found = stage_settings(Parameters(**changed(method=name, selection=selection)))
    insertion: Any = found["update-posterior"]
    if insertion.posterior.inserts:
        update = make_update(insertion.posterior.chosen, **insertion.posterior.options)
        assert isinstance(update, PosteriorUpdate)
    score: Any = found["score-influence"]
    INFLUENCES[score.influence.chosen](**score.influence.options)
    treat: Any = found["treat"]
    treatment = make_treatment(treat.treatment.chosen, **treat.treatment.options)
    assert isinstance(treatment, Kind)
    assert treatment.model_dump() == treat.treatment.model_dump()
    assert {
        name.replace("_", "-") for name in FisherTable.model_fields
    } == CURVATURES.keys() | PATH_CURVATURES.keys()


@pytest.mark.parametrize("name", PARAMETERS.treatments)
def test_every_treatment_of_params_can_be_made(name: str) -> None:
    from modelrepair.treatment import Treatment, make_treatment

    changes = {"treatment": name, "training__weight_decay": 0.5, **with_room(PARAMETERS.treatments[name])}
    treat: Any = stage_settings(Parameters(**changed(**changes)))["treat"]
    treatment = make_treatment(treat.treatment.chosen, **treat.treatment.options)
    assert isinstance(treatment, Treatment)
    assert treatment.model_dump() == treat.treatment.model_dump()
    decays = [
        settings["weight_decay"]
        for settings in (treatment.model_dump(), treatment.model_dump().get("posterior", {}))
        if "weight_decay" in settings
    ]
    assert set(decays) <= {0.5}, "whatever trains solves the base model's problem"


def test_a_curvature_that_forgets_can_do_so() -> None:
    from modelrepair.curvature import CURVATURES, PATH_CURVATURES

    for name, member in (CURVATURES | PATH_CURVATURES).items():
        assert FisherTable().of(name).forgets == hasattr(member, "without"), name


def test_every_curvature_of_params_can_be_fitted() -> None:
    from modelrepair.base_training.train import train
    from modelrepair.curvature import CURVATURES, PATH_CURVATURES, fit_curvature
    from modelrepair.training.descent import Descent
    from models import make_examples, make_model

    model, examples = make_model(), make_examples()
    course = train(model, examples, Descent(0.01, 1), batch_size=10, seed=0, checkpoints=0)
    for name in CURVATURES | PATH_CURVATURES:
        options = PARAMETERS.fisher.of(name).model_dump()
        if name in PATH_CURVATURES:
            options["trajectory"] = course.trajectory
        assert fit_curvature(name, model, examples, **options).damped(0.1).name == name


def test_every_network_has_settings_and_a_module() -> None:
    modules = {path.stem for path in (ROOT / "src/modelrepair/networks").glob("*.py")} - {"__init__"}
    assert set(NETWORKS) == modules


@pytest.mark.parametrize("name", PARAMETERS.selections)
def test_every_selection_of_params_finds_causes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelrepair.selection import select_causes
    from modelrepair.sound import Sound

    monkeypatch.chdir(ROOT)
    count = 2700
    table = pd.DataFrame(
        {
            "example": np.arange(count),
            "names": [[str(position % 10)] for position in range(count)],
            "is_corrupted": np.arange(count) % 7 == 0,
        }
    )
    scores = np.random.default_rng(0).normal(size=count)
    rule: Any = PARAMETERS.selections[name]
    causes = select_causes(scores, table, rule.chosen, sound=Sound(0.9, 700), **rule.options)
    assert 0 < len(set(causes)) == len(causes) < count


def test_dvc_writes_params_as_they_stand(tmp_path: Path) -> None:
    """So that `dvc exp run -S` changes one line, and git sees it."""
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    apply_overrides(path, ["method=ssse"])
    before, after = (file.read_text().splitlines() for file in (ROOT / "params.yaml", path))
    assert [line for line in after if line not in before] == ["method: ssse"]
    assert len(before) == len(after)


# The names that the library shows.


def test_importing_the_library_imports_no_torch() -> None:
    program = (
        "import sys, modelrepair, modelrepair.settings.parameters, modelrepair.pipeline.stage, modelrepair.selection\n"
        "dir(modelrepair), modelrepair.RepairError\n"
        "print([name for name in ('torch', 'torchvision', 'sklearn', 'matplotlib') if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert loaded.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    import modelrepair

    assert dir(modelrepair) == modelrepair.__all__ == sorted(modelrepair.__all__)
    for name in modelrepair.__all__:
        assert getattr(modelrepair, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'modelrepair' has no attribute 'Forget'"):
        _ = modelrepair.Forget


def test_public_names_can_be_imported_from_the_package() -> None:
    import modelrepair

    names: dict[str, Any] = {}
    exec("from modelrepair import *", names)
    assert set(modelrepair.__all__) <= set(names)
    assert names["train"].__module__ == "modelrepair.base_training.train"
