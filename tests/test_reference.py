"""The reference: what anybody would do with the same, trained once for all methods that are given the same."""

from __future__ import annotations

import json

import numpy as np
import pytest

from conftest import Project
from modelrepair.pipeline.artifacts import read_table
from modelrepair.treatment import highest_losses
from models import make_examples, make_model

WEIGHTS = "weights.safetensors"


def test_the_highest_losses_are_those_of_the_model() -> None:
    model, examples = make_model(), make_examples()
    losses = -model.log_likelihoods(examples).numpy()
    found = highest_losses(model, examples, 0.25)
    assert len(found) == round(0.25 * len(examples))
    assert losses[found].tolist() == sorted(losses, reverse=True)[: len(found)]
    order = np.random.default_rng(0).permutation(len(examples))
    assert order[highest_losses(model, examples.subset(order), 0.25)].tolist() == found.tolist()


@pytest.mark.parametrize(("share", "count"), [(1e-9, 1), (1 - 1e-9, -1)])
def test_something_is_dropped_and_something_remains(share: float, count: int) -> None:
    model, examples = make_model(), make_examples()
    assert len(highest_losses(model, examples, share)) == count % len(examples)


def test_equal_losses_are_dropped_in_the_order_of_the_examples() -> None:
    model, examples = make_model(), make_examples()
    same = examples.subset([3] * 8)
    assert highest_losses(model, same, 0.5).tolist() == [0, 1, 2, 3]


def test_it_is_what_a_method_of_the_plain_loss_returns(project: Project) -> None:
    """And the reference is not trained anew for that method."""
    # Without a guard, because on these few data the guarded one is the base model.
    project.set_parameters({"treatments.finetune.guarded": False})
    assert project.repro("train-reference").succeeded().stages_run == ["choose-method", "train-reference"]
    weights = (project.root / "models/reference" / WEIGHTS).read_bytes()
    assert weights != (project.root / "models/base" / WEIGHTS).read_bytes()
    assert not len(read_table(project.root / "data/reference/causes.parquet"))
    project.set_parameters({"identification": "loss", "selection": "fraction", "treatment": "finetune"})
    outcome = project.repro().succeeded()
    assert {"treat", "evaluate"} <= set(outcome.stages_run)
    assert "train-reference" not in outcome.stages_run
    assert (project.root / "models/repaired" / WEIGHTS).read_bytes() == weights
    metrics = json.loads((project.root / "metrics/repair.json").read_text())
    assert metrics["reference"]["after"] == metrics["repair"]["after"]
    assert metrics["reference"]["what"] == "fine-tuned without the 15 % highest losses"
    for name in ("fixed", "broken"):
        assert metrics["reference"][name] == metrics["repair"][name]


def test_a_request_has_none_unless_somebody_wants_one(project: Project) -> None:
    """Then it is what the method of that treatment returns."""
    project.set_parameters({"method": "erase", "selection": "class"})
    project.repro().succeeded()
    assert list(project.files("models/reference")) == ["models/reference/reference.json"]
    metrics = json.loads((project.root / "metrics/repair.json").read_text())
    assert "reference" not in metrics
    assert list(metrics["erasure"]) == ["examples", "before", "after"]
    without = (project.root / "metrics/pictures/summary.png").read_bytes()

    project.set_parameters({"reference": "retrain"})
    outcome = project.repro().succeeded()
    assert outcome.stages_run == ["choose-method", "select-causes", "train-reference", "evaluate"]
    causes = read_table(project.root / "data/causes/causes.parquet")["position"]
    assert read_table(project.root / "data/reference/causes.parquet")["position"].tolist() == causes.tolist()
    metrics = json.loads((project.root / "metrics/repair.json").read_text())
    assert metrics["reference"]["what"] == "retrain, with the same causes"
    beside = metrics["erasure"]["beside_retrained"]
    for name in ("erased", "kept"):
        gap = metrics["erasure"]["after"][name] - metrics["erasure"]["reference"][name]
        measured = beside["gap"][{"erased": "erased_train", "kept": "retained_train"}[name]]
        assert measured == pytest.approx(gap, abs=1e-6)
    assert 0 <= beside["similarity"]["normalised_confusion_distance"] <= 1
    assert (project.root / "metrics/pictures/summary.png").read_bytes() != without

    reference = (project.root / "models/reference" / WEIGHTS).read_bytes()
    project.set_parameters({"method": "erase-retrain"})
    outcome = project.repro().succeeded()
    assert "train-reference" not in outcome.stages_run
    assert (project.root / "models/repaired" / WEIGHTS).read_bytes() == reference
    beside = json.loads((project.root / "metrics/repair.json").read_text())["erasure"]["beside_retrained"]
    assert set(beside["gap"].values()) <= {0.0, None}
    assert beside["similarity"]["tug_of_war"] == 1
    assert beside["similarity"]["relative_parameter_distance"] == 0
    assert beside["membership_updated"] == beside["membership_retrained"]
    assert beside["similarity"]["confusion_distance"] == 0


def test_a_treatment_with_a_curvature_fits_its_own(project: Project) -> None:
    """It is what that treatment would be of the same causes, in the method's place."""
    project.set_parameters({"reference": "newton", "treatments.newton.guarded": False})
    project.repro("train-reference").succeeded()
    reference = (project.root / "models/reference" / WEIGHTS).read_bytes()
    assert reference != (project.root / "models/base" / WEIGHTS).read_bytes()
    project.set_parameters({"reference": "none", "treatment": "newton"})
    project.repro("treat", "train-reference").succeeded()
    assert (project.root / "models/repaired" / WEIGHTS).read_bytes() == reference
    assert list(project.files("models/reference")) == ["models/reference/reference.json"]
