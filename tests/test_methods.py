"""Names and what they stand for: methods, the members of each family, and the settings in params.yaml."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from modelrepair.configuration import build, choose
from modelrepair.errors import RepairError
from modelrepair.methods import resolve_method

PARAMETERS: dict[str, Any] = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())
METHOD = {
    "posterior": {
        "update": "ewc",
        "curvature": "gram",
        "damping": 0.1,
        "balance_classes": True,
        "rounds": 3,
    },
    "influence": {"score": "loss-change"},
    "treatment": {"treat": "delete", "update": "ewc", "curvature": "diagonal", "damping": 0.2},
}
EVERY_METHOD = pytest.mark.parametrize("name", PARAMETERS["methods"])


def altered(part: str, settings: Any) -> dict[str, Any]:
    return {name: value for name, value in {**METHOD, part: settings}.items() if value is not None}


# Resolving.


def test_a_method_is_resolved_part_by_part() -> None:
    resolved = resolve_method("mine", {"mine": METHOD, "other": {}})
    assert {part: resolved[part] for part in METHOD} == METHOD
    assert (resolved["selection"], resolved["curvatures"]) == (None, ["diagonal", "gram"])
    resolved["posterior"]["rounds"] = 99
    assert METHOD["posterior"]["rounds"] == 3, "the settings are a copy"


@pytest.mark.parametrize(
    ("part", "settings", "expected"),
    [
        ("posterior", {"update": "none"}, ["diagonal"]),
        ("treatment", {"treat": "retrain"}, ["gram"]),
        ("treatment", {"treat": "delete", "curvature": "gram"}, ["gram"]),
    ],
)
def test_every_curvature_that_is_asked_for_is_named_once(
    part: str, settings: dict[str, Any], expected: list[str]
) -> None:
    assert resolve_method("mine", {"mine": altered(part, settings)})["curvatures"] == expected


def test_a_method_may_insist_on_a_selection() -> None:
    assert resolve_method("mine", {"mine": {**METHOD, "selection": "truth"}})["selection"] == "truth"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (altered("influence", None), "method 'mine' lacks influence.score in params.yaml"),
        (altered("influence", {}), "method 'mine' lacks influence.score"),
        (altered("posterior", {"curvature": "gram"}), "method 'mine' lacks posterior.update"),
        (
            altered("posterior", {"update": "ewc", "curvature": "gram"}),
            "the posterior of method 'mine' lacks damping, balance_classes",
        ),
        (altered("treatment", "retrain"), "method 'mine' lacks treatment.treat"),
        (
            altered("treatments", {}),
            "method 'mine' has a part 'treatments': it may have posterior, influence",
        ),
    ],
)
def test_methods_that_cannot_be(method: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        resolve_method("mine", {"mine": method})


def test_an_unknown_method_is_met_with_those_there_are() -> None:
    with pytest.raises(RepairError, match="there is no method 'ssde': choose one of mine, other"):
        resolve_method("ssde", {"other": METHOD, "mine": METHOD})


# Making members of families.


@dataclass
class Member:
    size: int
    shape: str = "round"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise RepairError("size is below 0")


@dataclass
class Plain:
    pass


MEMBERS: dict[str, type[Any]] = {"member": Member, "plain": Plain}


def test_members_are_made_from_their_options() -> None:
    assert build("thing", MEMBERS, "member", {"size": 3}) == Member(3)
    assert build("thing", MEMBERS, "member", {"size": 3, "shape": "flat"}) == Member(3, "flat")
    assert build("thing", MEMBERS, "plain", {}) == Plain()
    assert choose("thing", MEMBERS, "plain") is Plain


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("members", {}, "there is no thing 'members': choose one of member, plain"),
        (None, {}, "there is no thing None: choose one of member, plain"),
        (
            "member",
            {"width": 1, "colour": 2},
            "thing 'member' has no option colour, width: it takes size, shape",
        ),
        ("plain", {"size": 1}, "thing 'plain' has no option size: it takes none"),
        ("member", {}, "thing 'member' cannot be made from {}: .*size"),
        ("member", {"size": -1}, "^size is below 0$"),
        ("member", {"size": "many"}, "thing 'member' cannot be made from .*many"),
    ],
)
def test_members_that_cannot_be(name: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        build("thing", MEMBERS, name, options)


# The repository's own settings.


@EVERY_METHOD
def test_every_method_of_params_can_be_made(name: str) -> None:
    from modelrepair.curvature import CURVATURES
    from modelrepair.influence import INFLUENCES, Influence
    from modelrepair.posterior import PosteriorUpdate, make_update
    from modelrepair.treatment import Treatment, make_treatment

    resolved = resolve_method(name, PARAMETERS["methods"])
    assert set(resolved["curvatures"]) <= set(PARAMETERS["fisher"]) & set(CURVATURES)
    if resolved["selection"] is not None:
        assert resolved["selection"] in PARAMETERS["selections"]

    posterior, influence, treatment = (resolved[part] for part in ("posterior", "influence", "treatment"))
    update = posterior.pop("update")
    if update == "none":
        assert not posterior, "nothing else is read where no posterior is edited"
    else:
        # What the stage itself reads, and needs.
        assert posterior.pop("damping") >= 0
        assert posterior.pop("curvature") in CURVATURES
        assert isinstance(posterior.pop("balance_classes"), bool)
        assert isinstance(make_update(update, **posterior), PosteriorUpdate)
    assert isinstance(build("score", INFLUENCES, influence.pop("score"), influence), Influence)
    assert isinstance(treatment.pop("guarded", True), bool)
    assert 0 <= treatment.pop("tolerance", 0) <= 1
    assert isinstance(make_treatment(treatment.pop("treat"), treatment), Treatment)


@pytest.mark.parametrize("name", PARAMETERS["selections"])
def test_every_selection_of_params_finds_causes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelrepair.selection import select_causes

    monkeypatch.chdir(Path(__file__).parents[1])
    count = 2700
    table = pd.DataFrame(
        {
            "example": np.arange(count),
            "names": [[str(position % 10)] for position in range(count)],
            "is_corrupted": np.arange(count) % 7 == 0,
        }
    )
    scores = np.random.default_rng(0).normal(size=count)
    causes = select_causes(scores, table, **PARAMETERS["selections"][name])
    assert 0 < len(set(causes)) == len(causes) < count


def test_every_curvature_of_params_can_be_fitted() -> None:
    from modelrepair.curvature import fit_curvature
    from models import make_examples, make_model

    model, examples = make_model(), make_examples()
    for name, options in PARAMETERS["fisher"].items():
        assert fit_curvature(name, model, examples, **options).damped(0.1).name == name


def test_the_defaults_of_params_are_there() -> None:
    for chosen, among in (
        ("method", "methods"),
        ("dataset", "datasets"),
        ("corruption", "corruptions"),
        ("selection", "selections"),
    ):
        assert PARAMETERS[chosen] in PARAMETERS[among]


def test_the_model_and_training_of_params_can_be_made() -> None:
    from modelrepair.networks import make_network
    from modelrepair.optimisation import Descent

    model = PARAMETERS["model"]
    make_network(model["network"], (1, 28, 28), 10, seed=PARAMETERS["seed"], **model["options"])
    training = dict(PARAMETERS["training"])
    assert training.pop("batch_size") >= 1
    Descent(rounds=training.pop("epochs"), **training)


# The names that the library shows.


def test_importing_the_library_imports_no_torch() -> None:
    program = (
        "import sys, modelrepair, modelrepair.methods, modelrepair.stage, modelrepair.selection\n"
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
    assert names["train"].__module__ == "modelrepair.training"
