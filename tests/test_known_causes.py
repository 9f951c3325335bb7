"""Causes that are known beforehand: what is like them, against densities, and their way through the pipeline."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from conftest import Project
from modelrepair.errors import RepairError
from modelrepair.influence import Investigation, influence_scores, mixture_log_odds
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import read_table
from modelrepair.training.descent import Descent, minimise
from modelrepair.training.epochs import mean_losses
from models import assert_equal, blobs, make_examples, make_model, one_thread  # noqa: F401

Array = NDArray[Any]


def problem(count: int = 90, width: int = 4, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Features, labels, which are wrong, and which of these are known: of classes 0 and 1, and of 2 none."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    wrong = (draw.random(count) < 0.3) & (labels < 2)
    centres = draw.normal(size=(3, 2, width)) * 1.5
    features = centres[labels, wrong.astype(int)] + draw.normal(size=(count, width))
    known = np.zeros(count, dtype=bool)
    for number in (0, 1):
        known[np.flatnonzero(wrong & (labels == number))[:2]] = True
    return features + 50, labels, wrong, known


def odds_by_densities(features: Array, labels: Array, known: Array, ridge: float, rounds: int) -> Array:
    """Expectation-maximisation, one example and one density after the other."""
    probability, odds = known.astype(float), np.full(len(labels), -np.inf)
    for number in range(rounds):
        scatter = np.zeros((features.shape[1],) * 2)
        means = {}
        for label in np.unique(labels):
            for kind in (0, 1):
                weights = np.where(labels == label, probability if kind else 1 - probability, 0.0)
                if weights.sum():
                    means[label, kind] = np.average(features, axis=0, weights=weights)
                    for weight, row in zip(weights, features - means[label, kind], strict=True):
                        scatter += weight * np.outer(row, row)
        covariance = scatter / len(labels)
        covariance += ridge * np.diag(covariance).mean() * np.eye(len(covariance))
        for label in np.unique(labels[known]):
            members = labels == label
            if known[members].all():
                continue
            prior = (probability[members].sum() + 1) / (members.sum() + 2) if number else 0.5
            logs = [
                multivariate_normal(means[label, kind], covariance).logpdf(features[members])
                for kind in (0, 1)
            ]
            odds[members] = logs[1] - logs[0] + np.log(prior / (1 - prior))
        probability = np.where(known, 1.0, 1 / (1 + np.exp(-odds)))
    return odds


def found(features: Array, labels: Array, known: Array, **options: Any) -> Array:
    arrays = (torch.from_numpy(array) for array in (features, labels, known))
    return mixture_log_odds(*arrays, **options).numpy()


@pytest.mark.parametrize(("ridge", "rounds"), [(0.1, 1), (0.1, 2), (0.03, 7), (2.0, 4)])
def test_the_odds_are_those_of_the_densities(ridge: float, rounds: int) -> None:
    features, labels, _, known = problem()
    expected = odds_by_densities(features, labels, known, ridge, rounds)
    np.testing.assert_allclose(
        found(features, labels, known, ridge=ridge, rounds=rounds), expected, rtol=1e-9
    )
    assert np.isneginf(expected[labels == 2]).all()
    assert np.isfinite(expected[labels != 2]).all()


def test_where_all_is_known_the_odds_are_those_of_linear_discriminant_analysis() -> None:
    """As scikit-learn has it, of one class."""
    features, _, wrong, _ = problem(60, seed=3)
    wrong[:5] = True
    analysis = LinearDiscriminantAnalysis(solver="lsqr").fit(features, wrong)
    expected = analysis.decision_function(features) - np.log(wrong.sum() / (~wrong).sum())
    odds = found(features, np.zeros(60, dtype=np.int64), wrong, ridge=1e-12, rounds=1)
    np.testing.assert_allclose(odds, expected, rtol=1e-6)


def test_it_settles_and_more_rounds_change_nothing() -> None:
    features, labels, _, known = problem(300, seed=1)
    settled = found(features, labels, known)
    np.testing.assert_array_equal(found(features, labels, known, rounds=10**6), settled)
    assert not np.allclose(found(features, labels, known, rounds=1), settled, atol=0.1)


def test_neither_order_nor_units_matter() -> None:
    features, labels, _, known = problem()
    expected = found(features, labels, known)
    order = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_allclose(
        found(features[order], labels[order], known[order]), expected[order], rtol=1e-9
    )
    np.testing.assert_allclose(found(1e-3 * features - 7, labels, known), expected, rtol=1e-9)


def test_a_class_that_is_known_as_a_whole_is_one_gaussian() -> None:
    """It has no sound example, and so no mean of such."""
    features, labels, _, known = problem()
    known |= labels == 1
    expected = odds_by_densities(features, labels, known, 0.1, 5)
    odds = found(features, labels, known, rounds=5)
    np.testing.assert_allclose(odds[labels == 0], expected[labels == 0], rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x),
            "are NaN or infinite: check",
        ),
        (lambda x: np.ones_like(x), "are alike, so none can be told from the rest"),
    ],
)
def test_features_that_say_nothing_are_refused(change: Any, message: str) -> None:
    features, labels, _, known = problem()
    with pytest.raises(RepairError, match=message):
        found(change(features), labels, known)


def network(data: Examples) -> TrainedModel:
    """One that has learned the data by heart."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(data.batch([0])[0].shape[1], 40), torch.nn.Tanh(), torch.nn.Linear(40, 2)]
    model = TrainedModel(torch.nn.Sequential(*layers).double(), Softmax(), device="cpu")
    descent = Descent(learning_rate=0.02, rounds=60)
    minimise(model, mean_losses(model, data, 32, seed=0, purpose="base"), descent)
    return model


def test_few_known_causes_lead_to_the_rest() -> None:
    """Ones with a mark that are called zeros: a model that has learned it believes them all."""
    examples, _ = blobs(300, seed=4)
    wrong = np.flatnonzero(examples.targets == 1)[::4]
    mark, called = np.zeros((300, 1)), examples.targets.copy()
    mark[wrong], called[wrong] = 3.0, 0
    data = Examples(np.hstack([examples.inputs, mark]), called)
    model = network(data)
    known = wrong[::7]
    rest = np.setdiff1d(np.arange(300), known)
    scores = influence_scores(Investigation(model, model, data, known=known), "resemblance")
    assert roc_auc_score(np.isin(rest, wrong), scores[rest]) > 0.99
    assert (
        roc_auc_score(np.isin(rest, wrong), influence_scores(Investigation(model, model, data), "loss")[rest])
        < 0.9
    )
    assert scores[known].min() >= scores[rest].max()
    ones = called == 1
    assert scores[ones].max() < min(0.0, scores[~ones].min())


def test_where_nothing_is_known_it_is_refused() -> None:
    model, examples = make_model("mlp"), make_examples("mlp")
    for known in (None, np.empty(0, dtype=np.int64)):
        with pytest.raises(RepairError, match="like the causes that are known, and none are: name some"):
            influence_scores(Investigation(model, model, examples, known=known), "resemblance")
    model, examples = make_model("mlp", "sigmoid"), make_examples("mlp", "sigmoid")
    with pytest.raises(RepairError, match="with one class each, and these have attributes"):
        influence_scores(Investigation(model, model, examples, known=np.array([0])), "resemblance")


def test_where_everything_is_known_everything_is_a_cause() -> None:
    model, examples = make_model("mlp"), make_examples("mlp")
    everything = np.arange(len(examples))
    scores = influence_scores(Investigation(model, model, examples, known=everything), "resemblance")
    assert (scores >= 0).all()


def positions(project: Project, name: str) -> list[int]:
    found: list[int] = read_table(project.root / "data" / name / "causes.parquet")["position"].tolist()
    return found


def test_known_causes_run_through_the_pipeline(project: Project) -> None:
    """They are taken first, whatever is found; and other ones run nothing again that they are not given."""
    assert positions(project, "known") == []
    project.set_parameters({"identification": "grow", "known": "truth-10", "selection": "small"})
    first = project.repro().succeeded().stages_run
    assert {"know-causes", "score-influence", "select-causes", "train-reference"} <= set(first)
    known, causes = positions(project, "known"), positions(project, "causes")
    table = read_table(project.root / "data/corrupted/train.parquet")
    truth = table.loc[table["split"] == "train", "is_corrupted"].to_numpy()
    assert truth[known].all()
    assert len(known) == round(0.1 * truth.sum())
    assert causes[: len(known)] == known
    assert len(set(causes)) == len(causes) > len(known)
    used = json.loads((project.root / "metrics/repair.json").read_text())
    assert used["used"]["known"] == "truth-10"
    assert used["reference"]["what"] == "fine-tuned without the known causes"

    (project.root / "requests/known.csv").write_text("example\n7\n2\n")
    project.set_parameters(
        {"known": "own", "selections.own": {"rule": "listed", "file": "requests/known.csv"}}
    )
    second = project.repro().succeeded().stages_run
    # The folder of lists changed, in which split-failures looks for one of failures; its result did not.
    expected = {"choose-method", "know-causes", "split-failures", "score-influence", "select-causes", "treat"}
    assert len(second) == len(set(second))
    assert set(second) == expected | {"train-reference", "evaluate"}
    rows = table[table["split"] == "train"].reset_index(drop=True)
    assert rows["example"].iloc[positions(project, "known")].tolist() == [7, 2]
    assert positions(project, "causes")[:2] == positions(project, "known")
    assert json.loads((project.root / "metrics/repair.json").read_text())["used"]["known"] == "own"
