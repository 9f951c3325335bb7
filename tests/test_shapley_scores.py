"""Scores that are minus Shapley values: against sums over all subsets and orders, planting by hand, and a kill."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

import modelrepair.influence.shapley as shapley
import modelrepair.valuation.sampling as sampling
from modelrepair.errors import RepairError
from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings.influence import NearestNeighboursSettings, OneEpochSettings
from modelrepair.valuation import CalibratedThreshold, knn_shapley, query_confusion, threshold_by_planting
from models import make_examples, make_model, one_thread  # noqa: F401

Array = NDArray[Any]
SAMPLED = 0.012
"""Four standard errors of a mean of 4,000 contributions whose standard deviation is below 0.19."""
NAMES = ("g-shapley", "knn-shapley", "tmc-shapley")
SMALL: dict[str, dict[str, Any]] = {
    "g-shapley": {"permutations": 30, "learning_rate": 0.5},
    "knn-shapley": {"neighbours": 3},
    "tmc-shapley": {"permutations": 30},
}
TOGETHER = 7


def investigation(examples: int = 40, **options: Any) -> Investigation:
    model, queries = make_model("mlp"), make_examples("mlp", count=15, seed=3)
    failures = queries.subset([0, 1, 2, 4, 6, 9, 11])
    given = make_examples("mlp", count=examples)
    return Investigation(model, model, given, discovery=queries, failures=failures, **options)


def last_layer(model: TrainedModel, examples: Examples) -> Array:
    """(n, f) the inputs of the last layer, with a constant one."""
    inputs = examples.batch(slice(None), dtype=torch.float64)[0]
    return model.network[:-1](inputs).detach().numpy()  # type: ignore[index, no-any-return]


def with_constant(features: Array, training: Array) -> Array:
    constant = np.full((len(features), 1), math.sqrt((training**2).mean()))
    return np.concatenate([features, constant], axis=1)


def share_right(outputs: Array, right: Array) -> float:
    """Where two classes are tied, neither is right."""
    ranked = np.sort(outputs, axis=1)
    return float(((outputs.argmax(axis=1) == right) & (ranked[:, -1] > ranked[:, -2])).mean())


def problem(given: Investigation, classes: int) -> tuple[Array, Array, Array, Array, int]:
    queries = given.discovery
    assert queries is not None
    x, asked = last_layer(given.base, given.examples), last_layer(given.base, queries)
    known = 1 + max(int(given.examples.targets.max()), int(queries.targets.max()))
    assert known <= classes
    return with_constant(x, x), given.examples.targets, with_constant(asked, x), queries.targets, known


def test_truncated_monte_carlo_gives_minus_the_values_of_all_subsets() -> None:
    given = investigation(5)
    x, y, asked, right, classes = problem(given, 3)
    damping = 0.5 * (x**2).sum(axis=1).mean() / x.shape[1]

    def utility(members: tuple[int, ...]) -> float:
        if not members:
            return 1 / classes
        fitted = Ridge(alpha=damping, fit_intercept=False, solver="cholesky")
        fitted.fit(x[list(members)], np.eye(classes)[y[list(members)]])
        return share_right(fitted.predict(asked), right)

    expected = np.zeros(5)
    for order in itertools.permutations(range(5)):
        for place, player in enumerate(order):
            gain = utility(tuple(sorted(order[: place + 1]))) - utility(tuple(sorted(order[:place])))
            expected[player] += gain / math.factorial(5)
    assert np.abs(expected).max() > 2 * SAMPLED
    found = influence_scores(
        given,
        "tmc-shapley",
        queries="discovery",
        permutations=4000,
        movement=0.0,
        tolerance=None,
        ridge=0.5,
    )
    np.testing.assert_allclose(found, -expected, atol=SAMPLED)
    assert found.sum() == pytest.approx(utility(()) - utility((0, 1, 2, 3, 4)), abs=1e-12)


def test_one_epoch_gives_minus_what_each_step_gains_over_all_orders() -> None:
    given = investigation(5)
    x, y, asked, right, classes = problem(given, 3)
    rate = 0.7 / (x**2).sum(axis=1).mean()
    expected = np.zeros(5)
    for order in itertools.permutations(range(5)):
        layer, before = torch.zeros(x.shape[1], classes, dtype=torch.float64, requires_grad=True), 1 / classes
        for player in order:
            loss = F.cross_entropy((torch.from_numpy(x[player]) @ layer)[None], torch.tensor([y[player]]))
            (slope,) = torch.autograd.grad(loss, layer)
            layer = (layer - rate * slope).detach().requires_grad_()
            after = share_right(asked @ layer.detach().numpy(), right)
            expected[player] += (after - before) / math.factorial(5)
            before = after
    assert np.abs(expected).max() > 2 * SAMPLED
    found = influence_scores(
        given, "g-shapley", queries="discovery", permutations=4000, movement=0.0, learning_rate=0.7
    )
    np.testing.assert_allclose(found, -expected, atol=SAMPLED)


@pytest.mark.parametrize("queries", ["discovery", "failures"])
def test_calibrated_zero_is_the_threshold_by_planting(
    queries: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = investigation(seed=5)
    chosen = given.discovery if queries == "discovery" else given.failures
    assert chosen is not None
    x, asked = last_layer(given.base, given.examples), last_layer(given.base, chosen)
    predicted = given.base.outputs(chosen).argmax(dim=1).numpy()

    def value(labels: Array) -> Array:
        return knn_shapley(x, labels, asked, chosen.targets, neighbours=3)

    threshold = threshold_by_planting(
        value,
        given.examples.targets,
        seed=5,
        rounds=4,
        share=0.2,
        confusion=query_confusion(chosen.targets, predicted, 3),
    )
    assert math.isfinite(threshold.value)
    options = {"queries": queries, "neighbours": 3, "planting_rounds": 4, "planting_share": 0.2}
    plain = influence_scores(given, "knn-shapley", **options)
    found = influence_scores(given, "knn-shapley", calibrated=True, **options)
    np.testing.assert_allclose(found, threshold.value - value(given.examples.targets), atol=1e-12)
    np.testing.assert_allclose(found - plain, threshold.value, atol=1e-12)
    np.testing.assert_array_equal(found > 0, value(given.examples.targets) < threshold.value)
    assert "% of the training examples are estimated to be harmful" in capsys.readouterr().out


@pytest.mark.parametrize(("value", "called"), [(-math.inf, 0), (math.inf, 40)])
def test_a_threshold_beyond_all_values_calls_none_or_all(
    value: float, called: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shapley, "threshold_by_planting", lambda *_, **__: CalibratedThreshold(value, 0.0, 0.0, 0.0, 0.0)
    )
    found = influence_scores(investigation(), "knn-shapley", calibrated=True)
    assert np.isfinite(found).all()
    assert (found > 0).sum() == called


@pytest.mark.parametrize("name", NAMES)
def test_neither_batches_nor_the_order_of_queries_matter(name: str) -> None:
    given = investigation()
    assert given.failures is not None
    expected = influence_scores(given, name, **SMALL[name])
    base = TrainedModel(given.base.network, given.base.likelihood, batch_size=3, device="cpu")
    other = Investigation(base, base, given.examples, failures=given.failures.subset([3, 6, 1, 0, 5, 2, 4]))
    np.testing.assert_allclose(influence_scores(other, name, **SMALL[name]), expected, atol=1e-9)


@pytest.mark.parametrize("name", ["g-shapley", "tmc-shapley"])
@pytest.mark.parametrize("killed_at", [3, 8])
def test_a_killed_valuation_goes_on_to_the_same_bytes(
    name: str, killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first valuation or in that with labels made wrong, five batches of permutations each."""
    monkeypatch.setattr(sampling, "SECONDS_BETWEEN_SAVES", 0.0)
    follow, batches = sampling.marginal_contributions, 0
    options = {**SMALL[name], "calibrated": True, "queries": "discovery"}

    def dying(*arguments: Any, **named: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == killed_at:
            raise KeyboardInterrupt
        return follow(*arguments, **named)

    def seven_together(game: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **named: Any) -> Any:
            found = game(*arguments, **named)
            found.together = TOGETHER
            return found

        return made

    for game in ("LeastSquaresGame", "OneEpochGame"):
        monkeypatch.setattr(shapley, game, seven_together(getattr(shapley, game)))
    expected = influence_scores(investigation(), name, **options)

    def go() -> Array:
        return influence_scores(
            investigation(checkpoint=Checkpoint(tmp_path / "scores", "a")), name, **options
        )

    monkeypatch.setattr(sampling, "marginal_contributions", dying)
    with pytest.raises(KeyboardInterrupt):
        go()
    batches = killed_at
    assert go().tobytes() == expected.tobytes()
    assert batches - killed_at == 2 * 5 - (killed_at - 1), "what had been done is not done again"


@pytest.mark.parametrize("name", NAMES)
def test_what_there_is_no_value_for_is_refused(name: str) -> None:
    model, attributes = make_model("mlp"), make_examples("mlp", "sigmoid")
    with pytest.raises(
        RepairError, match=f"{name} asks what helps to answer the failures, and there are none"
    ):
        influence_scores(Investigation(model, model, make_examples("mlp")), name)
    several = Investigation(make_model("mlp", "sigmoid"), model, attributes, failures=attributes)
    with pytest.raises(
        RepairError, match=f"{name} needs examples with one class each, and these have attributes"
    ):
        influence_scores(several, name)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("tmc-shapley", {"permutations": 0}, "permutations is 0: give a whole number of 1 or more"),
        ("tmc-shapley", {"tolerance": -0.1}, r"tolerance is -0\.1: give a number of 0 or more, or null"),
        ("tmc-shapley", {"ridge": 0.0}, r"ridge is 0\.0: give a number of 1e-6 or more"),
        ("tmc-shapley", {"queries": "reserved"}, "queries is 'reserved': choose one of failures, discovery"),
        ("g-shapley", {"learning_rate": 0.0}, r"learning_rate is 0\.0: give a number above 0, or null"),
        ("g-shapley", {"tolerance": 0.01}, "has no setting tolerance|there is no setting tolerance"),
        (
            "knn-shapley",
            {"planting_share": 1.0},
            r"planting_share is 1\.0: give a number above 0 and below 1",
        ),
        ("knn-shapley", {"planting_rounds": 0}, "planting_rounds is 0: give a whole number of 1 or more"),
    ],
)
def test_settings_out_of_bounds_are_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RepairError, match=words):
        influence_scores(investigation(), name, **options)


def test_the_dear_ones_plant_once() -> None:
    assert shapley.OneEpoch().planting_rounds == OneEpochSettings().planting_rounds == 1
    assert shapley.NearestNeighbours().planting_rounds == NearestNeighboursSettings().planting_rounds == 5
