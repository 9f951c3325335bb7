"""Failures in clusters: found, named, scored each by itself and made one ranking again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Project
from evidence_cases import BEFORE, CLASSES, DIGITS, TRUE
from modelrepair.curvature import fit_curvature
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures import clusters as measures
from modelrepair.evaluation.measures import measure_all
from modelrepair.influence import Investigation, combine, influence_scores, of_each_cluster
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import read_table
from modelrepair.posterior import NaturalGradient
from modelrepair.settings.failures import FailuresSettings
from modelrepair.splits.clusters import (
    Clusters,
    GradientSpace,
    cluster_counts,
    describe_clusters,
    find_clusters,
    nearest_clusters,
)
from modelrepair.valuation.features import last_layer_gradients

SIZES = (40, 12, 5)


def groups(seed: int = 0, spread: float = 0.1) -> tuple[Any, Any, Any]:
    """φ and e of failures in three groups, of which the first two are seen alike and the last two confused alike."""
    draw = np.random.default_rng(seed)
    seen = np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 0, 1.0, 0]])
    confused = np.array([[1.0, -1, 0], [0, 1.0, -1], [0, 1.0, -1]])
    of = np.repeat(np.arange(3), SIZES)
    features = (1 + draw.random((len(of), 1))) * (seen[of] + spread * draw.normal(size=(len(of), 4)))
    slopes = confused[of] + spread * draw.normal(size=(len(of), 3))
    return features, slopes, of


@pytest.mark.parametrize("count", [3, "auto"])
def test_known_groups_are_found_the_largest_first(count: Any) -> None:
    features, slopes, of = groups()
    found = find_clusters(GradientSpace(features, slopes).place(features, slopes), count, seed=3)
    assert found.numbers.tolist() == of.tolist()
    assert bool(found.silhouettes) == (count == "auto")
    if found.silhouettes:
        assert max(found.silhouettes, key=lambda number: found.silhouettes[number]) == 3


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_failures_is_no_part_of_it(seed: int) -> None:
    features, slopes, _ = groups(spread=0.6)
    moved = np.random.default_rng(seed).permutation(len(features))
    first = find_clusters(GradientSpace(features, slopes).place(features, slopes), 4, seed=0)
    features, slopes = features[moved], slopes[moved]
    second = find_clusters(GradientSpace(features, slopes).place(features, slopes), 4, seed=0)
    assert second.numbers.tolist() == first.numbers[moved].tolist()
    np.testing.assert_array_equal(second.centres, first.centres)


def test_products_are_the_cosines_of_the_gradients_of_the_last_layer() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4)).double()
    model = TrainedModel(network, Softmax(), device="cpu")
    draw = np.random.default_rng(0)
    examples = Examples(draw.normal(size=(9, 5)), draw.integers(0, 4, 9))
    features, slopes = (part.numpy() for part in last_layer_gradients(model, examples))
    places = GradientSpace(features, slopes).place(features, slopes)
    # By autograd, one example at a time.
    rows = []
    for inputs, label in zip(examples.inputs, examples.targets, strict=True):
        outputs = network(torch.as_tensor(inputs)[None])
        loss = torch.nn.functional.cross_entropy(outputs, torch.as_tensor([label]))
        (gradient,) = torch.autograd.grad(loss, network[2].weight)
        rows.append(gradient.flatten().numpy() / gradient.norm().item())
    np.testing.assert_allclose(places @ places.T, np.array(rows) @ np.array(rows).T, rtol=0, atol=1e-12)


def test_of_many_directions_those_are_kept_in_which_failures_are_largest() -> None:
    draw = np.random.default_rng(1)
    features = draw.normal(size=(60, 3)) @ draw.normal(size=(3, 500)) + 1e-3 * draw.normal(size=(60, 500))
    slopes = draw.normal(size=(60, 5))
    places = GradientSpace(features, slopes).place(features, slopes)
    assert places.shape == (60, 32 * 5)
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 1, rtol=0, atol=1e-4)


def test_one_cluster_is_all_of_them_and_failures_without_structure_are_one() -> None:
    places = np.random.default_rng(0).normal(size=(80, 30))
    assert len(find_clusters(places, 1, seed=0)) == 1
    assert len(find_clusters(places, "auto", seed=0)) == 1
    assert len(find_clusters(places[:1], "auto", seed=0)) == 1
    assert len(find_clusters(np.repeat(places[:1], 5, axis=0), "auto", seed=0)) == 1


def test_more_clusters_than_failures_are_refused() -> None:
    places = np.eye(4)[[0, 1, 2, 2]]
    with pytest.raises(
        RepairError, match=r"failures\.clusters is 5, and there are 4 failures.*3 of them differ"
    ):
        find_clusters(places, 5, seed=0)
    with pytest.raises(RepairError, match="3 of them different: give a smaller number, or auto"):
        find_clusters(places, 4, seed=0)
    assert len(find_clusters(places, 3, seed=0)) == 3


def test_what_is_held_out_belongs_to_the_nearest_centre() -> None:
    features, slopes, _ = groups()
    space = GradientSpace(features, slopes)
    found = find_clusters(space.place(features, slopes), 3, seed=0)
    others, confused, of = groups(seed=9)
    assert nearest_clusters(space.place(others, confused), found).tolist() == of.tolist()


def test_a_cluster_has_the_name_of_its_most_frequent_confusion() -> None:
    clusters = Clusters(
        numbers=np.array([0, 0, 0, 0, 0, 1, 1]),
        distances=np.array([0.3, 0.1, 0.1, 0.5, 0.2, 0.0, 0.4]),
        centres=np.zeros((2, 1)),
        silhouettes={},
    )
    labels, predictions = np.array([4, 4, 4, 7, 4, 1, 0]), np.array([9, 9, 8, 9, 9, 1, 2])
    first, second = describe_clusters(
        clusters, labels, predictions, np.array([70, 51, 50, 53, 54, 55, 56]), DIGITS
    )
    assert first == {
        "name": "4 taken for 9",
        "label": 4,
        "taken_for": 9,
        "share": 3 / 5,
        "size": 5,
        "typical": [50, 51, 54, 70, 53],
    }
    # Of equals the lowest classes; and what is answered rightly is not taken for anything.
    assert second["name"] == "0 taken for 2"
    assert describe_clusters(clusters, labels * 0 + 3, predictions * 0 + 3, labels, DIGITS)[0]["name"] == "3"
    counted = cluster_counts([first | {"held_out": 8}, first | {"held_out": 0}])["clusters"]
    assert counted == {
        "1: 4 taken for 9": {"query": 5, "share": 0.6, "holdout": 8},
        "2: 4 taken for 9": {"query": 5, "share": 0.6, "holdout": 0},
    }
    assert cluster_counts([]) == {}


def test_what_became_of_each_cluster_is_counted() -> None:
    numbers = np.where(BEFORE != TRUE, np.arange(40) % 3, -1)
    roles = np.where(np.arange(40) < 6, "query", CLASSES.roles)
    described = tuple({"name": "a", "size": 2, "share": 1.0, "typical": []} for _ in range(3))
    driven = np.arange(40) % 2
    evidence = replace(
        CLASSES, roles=roles, clusters=described, failure_clusters=numbers, driven_clusters=driven
    )
    measured = measures.measure(evidence)
    assert measured is not None
    # Of the failures 6 to 11, which are held out, the repaired model has all right but number 7.
    assert [measured[name]["holdout"] for name in measured] == [2, 2, 2]
    assert [measured[name]["fixed"] for name in measured] == [2, 1, 2]
    assert [measured[name]["remaining"] for name in measured] == [0, 1, 0]
    assert [measured[name]["query"] for name in measured] == [2, 2, 2]
    odd = int(np.sum(evidence.causes % 2))
    assert [measured[name]["causes"] for name in measured] == [len(evidence.causes) - odd, odd, 0]
    unscored = measures.measure(replace(evidence, driven_clusters=None))
    assert unscored is not None
    assert {one["causes"] for one in unscored.values()} == {None}
    assert measures.measure(CLASSES) is None
    assert "clusters" not in measure_all(CLASSES)


def test_scores_are_combined_by_the_best_rank() -> None:
    each = np.array([[9.0, 1.0, -2.0, -1.0, 5.0], [0.001, -0.004, 0.003, -0.002, -0.003]])
    combined = combine(each)
    # Ranks 1, 3, 5, 4, 2 and 2, 5, 1, 3, 4, so the best are 1, 3, 1, 3, 2. Of the two that are first somewhere, one is
    # second in the other cluster and one last; of the two that are third, one is fourth and one last.
    first, second, third, last = (9 + 0.003) / 2, (5 + 0.001) / 2, (1 - 0.002) / 2, (-2 - 0.004) / 2
    expected = [first, (third + last) / 2, (first + second) / 2, third, second]
    np.testing.assert_allclose(combined.scores, expected, rtol=1e-12)
    assert combined.clusters.tolist() == [0, 0, 1, 1, 0]
    np.testing.assert_array_equal(combined.each, each)
    # How large the scores of a cluster are is no part of the order.
    larger = combine(each * [[1.0], [1e6]])
    assert np.argsort(-larger.scores).tolist() == [0, 2, 4, 3, 1]
    assert larger.clusters.tolist() == combined.clusters.tolist()


def test_equal_scores_share_their_rank() -> None:
    combined = combine([[1.0, 1.0, 0.0, -4.0], [0.0, 0.0, 2.0, 0.0]])
    # Ranks 1.5, 1.5, 3, 4 and 3, 3, 1, 3: halfway from what has the second rank to what has the first, in the mean of
    # 1, 1, 0, -4 and 2, 0, 0, 0.
    np.testing.assert_allclose(combined.scores, [1.0, 1.0, 1.5, 0.0], rtol=1e-12)
    assert combined.clusters.tolist() == [0, 0, 1, 1]


def test_none_but_equal_examples_have_equal_scores() -> None:
    """A selection of so many could not tell them apart."""
    each = np.random.default_rng(0).normal(size=(4, 500))
    assert len(np.unique(combine(each).scores)) == 500
    assert len(np.unique(combine(np.repeat(each, 2, axis=1)).scores)) == 500


def test_one_cluster_leaves_the_scores_as_they_are() -> None:
    scores = np.random.default_rng(0).normal(size=1000).round(2) + 0.0
    combined = combine(scores[None])
    assert combined.scores.tobytes() == scores.tobytes()
    assert not combined.clusters.any()
    with pytest.raises(RepairError, match="give a row for each cluster"):
        combine(scores)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 40))
def test_the_first_of_every_cluster_are_among_the_first(seed: int, clusters: int, count: int) -> None:
    each = np.random.default_rng(seed).normal(size=(clusters, 40)) * 10.0 ** np.arange(clusters)[:, None]
    taken = np.argsort(-combine(each).scores, kind="stable")[:count]
    for scores in each:
        assert set(np.argsort(-scores)[: count // clusters]) <= set(taken)


def test_each_cluster_is_scored_by_its_own_failures() -> None:
    """By linear influence: the sum of the scores of the clusters is that of all failures, but for the step's length."""
    torch.manual_seed(0)
    model = TrainedModel(torch.nn.Linear(4, 3).double(), Softmax())
    draw = np.random.default_rng(0)
    training = Examples(draw.normal(size=(30, 4)), draw.integers(0, 3, 30))
    failures = Examples(draw.normal(size=(7, 4)), draw.integers(0, 3, 7))
    curvature = fit_curvature("gram", model, training).damped(0.1)

    def inserted(evidence: Examples) -> TrainedModel:
        return NaturalGradient().insert(model, evidence, curvature=curvature, count=len(training)).model

    clusters = np.array([1, 0, 0, 1, 0, 2, 0])
    updates = [(inserted(failures.subset(clusters == number)), None) for number in range(3)]
    whole = Investigation(model, inserted(failures), training, failures=failures)
    parts = of_each_cluster(whole, clusters, updates)
    assert [part.failures.targets.tolist() for part in parts if part.failures is not None] == [
        failures.targets[clusters == number].tolist() for number in range(3)
    ]
    each = np.stack([influence_scores(part, "linear") for part in parts])
    steps = len(training) + np.array([4, 2, 1])
    np.testing.assert_allclose(
        steps @ each, (len(training) + 7) * influence_scores(whole, "linear"), rtol=1e-9, atol=1e-12
    )
    # Scores that look at the failures themselves are given those of the cluster.
    assert [part.updated is whole.updated for part in of_each_cluster(whole, clusters)] == [True] * 3


@pytest.mark.parametrize("clusters", [0, -1, 2.5, "some", True, None])
def test_other_numbers_of_clusters_are_refused(clusters: Any) -> None:
    with pytest.raises(RepairError, match=r"clusters is .*: give a whole number of 1 or more, auto, or none"):
        FailuresSettings(clusters=clusters)


def test_clusters_run_through_the_pipeline(project: Project) -> None:
    """Two kinds of failure, from the failures to the page; one cluster is none, to the byte."""
    before = project.files("data/failures", "metrics/failures.json")
    project.set_parameters({"failures.clusters": 1})
    assert project.repro("split-failures").succeeded().stages_run == ["choose-method", "split-failures"]
    assert project.files("data/failures", "metrics/failures.json") == before

    project.set_parameters({"failures.clusters": 3})
    ran = project.repro().succeeded().stages_run
    assert "train-base" not in ran
    discovery, held_out = (
        read_table(project.root / f"data/failures/{part}.parquet") for part in ("discovery", "assessment")
    )
    query = discovery[discovery["is_query"]]
    sizes = query["cluster"].value_counts().sort_index()
    assert sizes.index.tolist() == [0, 1, 2]
    assert (discovery.loc[~discovery["is_query"], "cluster"] == -1).all()
    assert ((held_out["cluster"] >= 0) == (held_out["role"] == "holdout")).all()
    told = json.loads((project.root / "metrics/failures.json").read_text())["clusters"]
    assert [one["query"] for one in told.values()] == sizes.tolist()

    scores = read_table(project.root / "data/scores/scores.parquet")
    combined = combine(scores[[f"score_of_cluster_{number}" for number in range(3)]].to_numpy().T)
    np.testing.assert_array_equal(scores["score"], combined.scores)
    np.testing.assert_array_equal(scores["cluster"], combined.clusters)
    causes = read_table(project.root / "data/causes/causes.parquet")
    np.testing.assert_array_equal(causes["cluster"], scores["cluster"].to_numpy()[causes["position"]])

    measured = json.loads((project.root / "metrics/repair.json").read_text())["clusters"]
    assert list(measured) == list(told)
    assert sum(one["causes"] for one in measured.values()) == len(causes)
    for name, one in measured.items():
        assert one["fixed"] + one["remaining"] == one["holdout"] == told[name]["holdout"]
    page = (project.root / "metrics/page.html").read_text()
    assert "Kinds of failure" in page
    assert page.count('class="kind"') == 3

    # What looks at no failures has one ranking for all clusters, and says so.
    project.set_parameters({"identification": "loss"})
    scored = project.repro("score-influence").succeeded()
    assert "the score loss is of no failures: one ranking serves all clusters of them" in scored.stdout
    assert "cluster" not in read_table(project.root / "data/scores/scores.parquet")
    project.set_parameters({"identification": "request", "selection": "class"})
    refused = project.stage("choose-method")
    assert "failures.clusters is 3, and the identification 'request' scores no examples" in refused.stderr
