"""A repair in one call: the pipeline's own steps, for what somebody has in a program."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import modelrepair
from conftest import Finished
from modelrepair.additions import Extended
from modelrepair.errors import RepairError
from modelrepair.models.files import load_model
from modelrepair.models.workspace import discovery_examples, training_examples
from modelrepair.repairing.adapters import as_subject
from modelrepair.repairing.repair import _Operation
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings
from modelrepair.splits.failures import NoFailures

CENTRES = np.array([[2.0, 0.0], [-1.0, 1.8], [-1.0, -1.8]])


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """As many as the pipeline has, whose numbers are compared with."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def clouds(count: int, seed: int) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    return (CENTRES[labels] + 0.6 * draw.normal(size=(count, 2))).astype(np.float32), labels


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    """A network that has learned that half of the second class is of the third."""
    inputs, labels = clouds(300, 0)
    given = labels.copy()
    given[(labels == 1) & (inputs[:, 0] > -1)] = 2
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(300):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(torch.from_numpy(inputs)), torch.from_numpy(given)).backward()
        optimiser.step()
    return {"model": network, "train": (inputs, given), "wrong": given != labels, "test": clouds(400, 1)}


def repaired(case: dict[str, Any], **options: Any) -> modelrepair.Repair:
    data = {"train": case["train"], "failures": None, "test": case["test"], **options}
    return modelrepair.repair(
        case["model"], data.pop("train"), data.pop("failures"), data.pop("test"), **data
    )


class Roomy(nn.Sequential):
    """The network of the case, which says that there is room beside it."""

    def sites(self) -> dict[str, Any]:
        return {"feed-forward": [("0", "2", None)]}


def test_what_is_added_to_a_model_is_part_of_what_comes_back(case: dict[str, Any]) -> None:
    given = Roomy(*copy.deepcopy(case["model"]))
    state = copy.deepcopy(given.state_dict())
    how = {"steps": 200, "looks": 2, "slots": 16}
    result = repaired(
        {**case, "model": given},
        treatment="calinet",
        selection="fraction",
        settings={f"treatments.calinet.{name}": value for name, value in how.items()},
    )
    assert isinstance(result.model, Extended)
    assert all(torch.equal(tensor, state[name]) for name, tensor in given.state_dict().items())
    assert all(torch.equal(tensor, state[name]) for name, tensor in result.model.network.state_dict().items())
    numbers = result.measured["repair"]
    assert numbers["after"]["query"] > 0.5
    assert numbers["after"]["all"] > numbers["before"]["all"]
    with pytest.raises(
        RepairError, match="CALINET needs room at 'feed-forward', and the network Sequential has none"
    ):
        repaired(case, treatment="calinet", selection="fraction")


def test_it_finds_the_causes_repairs_a_copy_and_measures_it(case: dict[str, Any]) -> None:
    state = copy.deepcopy(case["model"].state_dict())
    # Three hundred points make five steps an epoch: they are longer than those of the pipeline's own data.
    parts = ("identifications.second-look", "treatments.mend")
    result = repaired(case, settings={f"{part}.posterior.learning_rate": 0.01 for part in parts})
    assert all(torch.equal(tensor, state[name]) for name, tensor in case["model"].state_dict().items())
    assert result.scores is not None
    assert result.scores.shape == (300,)
    found = case["wrong"][result.causes]
    assert found.mean() > 0.8
    assert found.sum() > 0.8 * case["wrong"].sum()
    assert (np.diff(result.scores[result.causes]) <= 0).all()
    numbers = result.measured["repair"]
    assert numbers["after"]["holdout"] > 0.8
    assert numbers["after"]["all"] > numbers["before"]["all"] + 0.05
    known = result.measured["identification"]
    assert set(known) == {"selected", "expected_causes", "expected_causes_error"}, (
        "nobody knows the true causes"
    )
    assert known["selected"] == len(result.causes)
    assert abs(known["expected_causes"] - case["wrong"].sum()) < 3 * known["expected_causes_error"]
    assert result.used == {
        "method": "mend",
        "identification": "second-look",
        "treatment": "mend",
        "selection": "expected",
        "uses": "guard",
    }
    # What is measured is what the model that comes back says of examples that no step has seen.
    evidence = result.evidence
    unseen = evidence.parts == "assessment"
    with torch.no_grad():
        said = result.model(
            torch.from_numpy(np.stack([evidence.test_inputs[row] for row in np.flatnonzero(unseen)]))
        )
    np.testing.assert_array_equal(said.argmax(1).numpy(), evidence.after.test_predictions[unseen])


def test_scores_are_in_the_order_of_the_data(case: dict[str, Any]) -> None:
    order = np.random.default_rng(1).permutation(300)
    inputs, given = case["train"]
    options = {"identification": "linear", "reference": "none"}
    first, other = repaired(case, **options), repaired(case, train=(inputs[order], given[order]), **options)
    assert first.scores is not None
    assert other.scores is not None
    scale = np.abs(first.scores).max()
    np.testing.assert_allclose(other.scores, first.scores[order], atol=1e-4 * scale)


def test_given_failures_are_sought_and_never_measured(case: dict[str, Any]) -> None:
    inputs, labels = case["test"]
    with torch.no_grad():
        wrong = case["model"](torch.from_numpy(inputs)).argmax(1).numpy() != labels
    few = np.r_[np.flatnonzero(wrong)[:12], np.flatnonzero(~wrong)[:3]]
    result = repaired(case, failures=(inputs[few], labels[few]), reference="none")
    evidence = result.evidence
    assert (evidence.roles == "query").sum() == 12
    assert set(evidence.parts[:15]) == {"discovery"}
    seen = {row.tobytes() for row in inputs[few]}
    unseen = [evidence.test_inputs[row].tobytes() for row in np.flatnonzero(evidence.parts == "assessment")]
    assert not seen & set(unseen)
    assert (evidence.roles == "holdout").sum() > 0


def test_failures_alone_are_halved(case: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """One half is sought and the other measures, and nothing is said of what else the model does."""
    inputs, labels = case["test"]
    with torch.no_grad():
        wrong = case["model"](torch.from_numpy(inputs)).argmax(1).numpy() != labels
    failures = inputs[wrong], labels[wrong]
    parts = ("identifications.second-look", "treatments.mend")
    longer = {f"{part}.posterior.learning_rate": 0.01 for part in parts}
    result = modelrepair.repair(case["model"], case["train"], failures, method="mend", settings=longer)
    assert "what the repair breaks is not known" in capsys.readouterr().err
    assert abs((result.evidence.roles == "query").sum() - (result.evidence.roles == "holdout").sum()) <= 3
    assert (result.evidence.roles != "remaining").all()
    numbers = result.measured["repair"]
    assert numbers["before"]["remaining"] is numbers["after"]["remaining"] is None
    assert numbers["after"]["holdout"] > 0.5
    with pytest.raises(RepairError, match="neither failures nor test examples were given"):
        modelrepair.repair(case["model"], case["train"], None)


def test_failures_of_several_kinds_are_divided(case: dict[str, Any]) -> None:
    """As in the pipeline: each kind has its own insertion and scores, which become one ranking."""
    options = {"identification": "linear", "treatment": "ewc", "selection": "fraction", "reference": "none"}
    result = repaired(case, **options, settings={"failures.clusters": 2})
    evidence = result.evidence
    classes = {"failures.classes": [1], "failures.most_queries": 4}
    some = repaired(case, **options, settings=classes).evidence
    assert set(some.test_labels[np.isin(some.roles, ["query", "holdout"])]) == {1}
    assert (some.roles == "query").sum() == 4
    assert [kind["size"] for kind in evidence.clusters] == np.bincount(
        evidence.failure_clusters[evidence.roles == "query"]  # type: ignore[index]
    ).tolist()
    assert set(evidence.driven_clusters.tolist()) == {0, 1}  # type: ignore[union-attr]
    assert len(result.measured["clusters"]) == 2
    of_labels = repaired(case, **{**options, "identification": "loss"}, settings={"failures.clusters": 2})
    assert of_labels.evidence.driven_clusters is None


def test_causes_of_a_request_are_taken_as_they_are(case: dict[str, Any]) -> None:
    result = repaired(case, method="erase", causes=case["wrong"], reference="retrain")
    assert result.scores is None
    np.testing.assert_array_equal(result.causes, np.flatnonzero(case["wrong"]))
    assert result.measured["erasure"]["examples"] == case["wrong"].sum()
    assert "beside_retrained" in result.measured["erasure"]


def test_known_causes_lead_to_more(case: dict[str, Any]) -> None:
    known = np.flatnonzero(case["wrong"])[:10]
    result = repaired(case, identification="grow", known=known, reference="none")
    np.testing.assert_array_equal(result.causes[:10], known)
    assert len(result.causes) > 10


def test_where_nothing_in_training_is_to_blame_the_failures_are_learned(case: dict[str, Any]) -> None:
    nothing = {"selection": "positive", "reference": "none"}
    unreached = {"selections.positive.threshold": 1e9}
    longer = {"treatments.mend.posterior.learning_rate": 0.01}
    result = repaired(case, **nothing, settings={**longer, **unreached})
    assert not len(result.causes)
    numbers = result.measured
    assert numbers["repair"]["after"]["holdout"] > 0.5
    assert numbers["identification"] == {"selected": 0}
    with pytest.raises(RepairError, match=r"'threshold' finds no causes .* or a treatment that goes without"):
        repaired(case, **nothing, treatment="finetune", settings=unreached)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bir"}, "the method learns from clean examples, and none were given: give some as `reserved`"),
        ({"treatment": "bir-judge"}, "the method learns from clean examples, and none were given: give some as `res"),
        ({"identification": "margin"}, "margin score needs the margins of every training epoch"),
        ({"identification": "sgd-influence"}, "the score trajectory follows the base training, which was not record"),
        ({"treatment": "synaptic-intelligence"}, "the curvature synaptic-intelligence follows the base training"),
        ({"method": "mended"}, "there is no method 'mended': choose one of"),
        ({"selection": "truth"}, "needs examples that were corrupted on purpose"),
        ({"settings": {"treatments.mendd.tolerance": 1}}, r"no section treatments\.mendd, of which treatm"),
        ({"settings": {"seed": -1}}, "seed is -1: give a whole number of 0 or more"),
        ({"settings": {"failures.protocol": "halves"}}, "failures.protocol is halves, which is for the pipeline"),
        ({"settings": {"failures.file": "requests/a.csv"}}, "failures.file is requests/a.csv, which is for the pipeli"),
        ({"settings": {"failures.classes": [3]}}, "the data have no class '3': choose from 0, 1, 2, or"),
        ({"causes": [300], "method": "erase"}, "example 300 of 300 was asked for"),
        ({"test": (np.zeros((1, 2), np.float32), np.zeros(1, int))}, "1 test examples that are not among the failures"),
        ({"test": (np.zeros((9, 2), np.float32), np.full(9, 3))}, "a label is 3, and the network has 3 outputs"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(
    case: dict[str, Any], options: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RepairError, match=message):
        repaired(case, **options)
    assert "treating" not in capsys.readouterr().err, "before anything was treated"


class Wrapped(nn.Module):
    """The network of the case, with something done to its outputs."""

    def __init__(self, network: nn.Module, change: Any) -> None:
        super().__init__()
        self.network, self.change = copy.deepcopy(network), change

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.change(self.network(inputs))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda outputs: {"logits": outputs, "loss": None}, r"are a dict with logits, loss: wrap it in a module"),
        (lambda outputs: (outputs, None), r"are a tuple of 2: wrap it in a module that gives a tensor with one row"),
        (lambda outputs: outputs + torch.randn_like(outputs), "the network says something else when it runs again"),
        (lambda outputs: outputs - outputs.mean(0), "so examples influence each other: give a network that treats"),
        (lambda outputs: outputs.softmax(-1), "sum to 1, so they are probabilities: give one that ends in logits"),
        (lambda outputs: outputs[:, 0], r"the network's outputs for one example are of shape \(1,\): give one"),
    ],
    ids=["dict", "tuple", "random", "batch", "probabilities", "one number"],
)  # fmt: skip
def test_networks_that_cannot_be_repaired_say_what_to_do(
    case: dict[str, Any], change: Any, message: str
) -> None:
    with pytest.raises(RepairError, match=message):
        repaired({**case, "model": Wrapped(case["model"], change)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda network: network.requires_grad_(False), r"has no parameters that may change: call requires_grad_"),
        (lambda network: network.half(), r"parameters are of type float16, .* give it as model\.float\(\)"),
    ],
    ids=["frozen", "half"],
)  # fmt: skip
def test_networks_that_cannot_be_trained(case: dict[str, Any], change: Any, message: str) -> None:
    with pytest.raises(RepairError, match=message):
        repaired({**case, "model": change(copy.deepcopy(case["model"]))})


def changed_inputs(case: dict[str, Any], change: Any) -> dict[str, Any]:
    inputs, labels = case["test"]
    return {"test": (change(inputs.copy()), labels)}


def holed(inputs: Any) -> Any:
    inputs[7] = np.nan
    return inputs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda inputs: inputs[:, :1], r"test examples have inputs of shape \(1,\) .* training examples \(2,\)"),
        (lambda inputs: (100 * inputs).astype(np.int64), "inputs of type int64, and training examples float32: give"),
        (holed, r"outputs for 1 of the 400 test examples are NaN, the first for example 7"),
        (lambda inputs: inputs[:0], "test examples with inputs of shape"),
    ],
    ids=["shape", "type", "NaN", "number"],
)  # fmt: skip
def test_test_examples_of_another_kind(case: dict[str, Any], change: Any, message: str) -> None:
    with pytest.raises(RepairError, match=message):
        repaired(case, **changed_inputs(case, change))


def test_labels_of_another_kind(case: dict[str, Any]) -> None:
    inputs, labels = case["test"]
    with pytest.raises(
        RepairError, match=r"labels of shape \(3,\), and training examples .* give both in the same"
    ):
        repaired(case, test=(inputs, np.eye(3, dtype=np.float32)[labels]))


SHORT = {f"{part}.posterior.looks": 2 for part in ("identifications.second-look", "treatments.mend")}


def test_doubles_words_and_a_network_in_training_mode_are_all_the_same(case: dict[str, Any]) -> None:
    """What people have in other forms gives the same result."""
    names = np.array(["ant", "bee", "cat"])
    (inputs, given), (tests, labels) = case["train"], case["test"]
    network = copy.deepcopy(case["model"])
    network.insert(1, nn.BatchNorm1d(16))
    options = {"reference": "none", "settings": SHORT, "classes": names.tolist()}
    first = repaired({**case, "model": network.eval()}, **options)
    other = repaired(
        {**case, "model": network.train(), "train": (inputs, names[given])},
        test=(tests.astype(np.float64), names[labels]),
        **options,
    )
    assert network.training
    assert not other.model.training
    np.testing.assert_array_equal(first.scores, other.scores)  # type: ignore[arg-type]
    assert first.measured == other.measured


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "a label is 'ant', and the network's outputs are numbered: give numbers from 0 to 2, or the names of all"),
        ({"classes": ["ant", "bee", "dog"]}, "a label is 'cat', and the network's outputs are ant, bee, dog: give num"),
        ({"classes": ["ant", "ant", "cat"]}, "the classes are called ant, ant, cat: give each its own name"),
        ({"device": "gpu"}, "there is no device 'gpu': give one such as cpu or cuda"),
    ],
)  # fmt: skip
def test_names_that_are_not_there(case: dict[str, Any], options: dict[str, Any], message: str) -> None:
    inputs, given = case["train"]
    with pytest.raises(RepairError, match=message):
        repaired(case, train=(inputs, np.array(["ant", "bee", "cat"])[np.sort(given)]), **options)


def test_a_model_without_failures_is_good_news(case: dict[str, Any]) -> None:
    inputs, _ = case["test"]
    with torch.no_grad():
        said = case["model"](torch.from_numpy(inputs)).argmax(1).numpy()
    with pytest.raises(NoFailures, match="good news"):
        repaired(case, test=(inputs, said))


def test_it_does_what_the_pipeline_does(finished: Finished) -> None:
    """From the pipeline's own base model and examples: the same scores, causes and models, to the byte."""
    root = finished.project.root
    base, _ = load_model(root / "models/base")
    training, _ = training_examples(root)
    discovery, failures = discovery_examples(root)
    stages = stage_settings(read_parameters(root / "params.yaml"))
    operation = _Operation(
        stages=stages,
        subject=as_subject(base, training),
        training=training,
        discovery=discovery,
        failures=failures,
        clusters=None,
        known=np.empty(0, dtype=np.int64),
        clean=None,
        seed=0,
    )
    [scores], sound = operation.scores()
    in_pipeline = pd.read_parquet(root / "data/scores/scores.parquet")["score"]
    if torch.cuda.is_available():
        # Only stages make a GPU add up in the same order each time.
        np.testing.assert_allclose(scores, in_pipeline, rtol=0, atol=1e-3 * np.abs(scores).max())
        return
    np.testing.assert_array_equal(scores, in_pipeline)
    causes = operation.causes(scores, sound)
    expected = pd.read_parquet(root / "data/causes/causes.parquet")["position"]
    np.testing.assert_array_equal(causes, expected)
    made = {
        "repaired": operation.treated(stages["treat"].treatment, causes, "treatment").model,  # type: ignore[attr-defined]
        "reference": operation.reference(causes),
    }
    for name, model in made.items():
        assert model is not None
        assert torch.equal(model.parameter_vector, load_model(root / "models" / name)[0].parameter_vector)
