"""Likelihoods against SciPy, closed forms and values by hand."""

from __future__ import annotations

import math
import re
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax
from scipy.stats import bernoulli, norm
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.likelihood import Sigmoid, Softmax, make_likelihood
from models import Gaussian, assert_equal

DRAW = np.random.default_rng(0)
LOGITS = torch.from_numpy(3 * DRAW.normal(size=(11, 5)))
CLASSES = torch.from_numpy(DRAW.integers(0, 5, 11))
MIXTURES = torch.from_numpy(DRAW.dirichlet(np.ones(5), size=11))
ATTRIBUTES = torch.from_numpy(DRAW.integers(0, 2, (11, 5)).astype(np.float64))


def gradient(likelihood: Softmax | Sigmoid, targets: Tensor) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(likelihood.log_likelihood(logits, targets).sum(), logits)[0]


def test_softmax_of_class_numbers() -> None:
    expected = log_softmax(LOGITS.numpy(), axis=1)[np.arange(11), CLASSES.numpy()]
    assert_equal(Softmax().log_likelihood(LOGITS, CLASSES), torch.from_numpy(expected), 1e-14)


def test_softmax_of_class_probabilities_is_the_negative_cross_entropy() -> None:
    expected = (MIXTURES.numpy() * log_softmax(LOGITS.numpy(), axis=1)).sum(axis=1)
    assert_equal(Softmax().log_likelihood(LOGITS, MIXTURES), torch.from_numpy(expected), 1e-14)


def test_certain_probabilities_are_class_numbers() -> None:
    certain = torch.nn.functional.one_hot(CLASSES, 5).double()
    for measure in (Softmax().log_likelihood, Softmax().margin, Softmax().correct):
        assert_equal(measure(LOGITS, certain), measure(LOGITS, CLASSES), 1e-15)


def test_softmax_gradient_is_target_minus_probability() -> None:
    probabilities = torch.from_numpy(softmax(LOGITS.numpy(), axis=1))
    one_hot = torch.eye(5, dtype=torch.float64)[CLASSES]
    assert_equal(gradient(Softmax(), CLASSES), one_hot - probabilities, 1e-14)
    assert_equal(gradient(Softmax(), MIXTURES), MIXTURES - probabilities, 1e-14)


# The likelihood of any other target.

EXTREME = torch.tensor(
    [
        [0.0, 0.0, 0.0],
        [1e-9, -1e-9, 0.0],
        [40.0, 0.0, -3.0],
        [-40.0, 0.0, -3.0],
        [800.0, 1.0, 2.0],
        [-800.0, 1.0, 2.0],
        [1e4, 1e4, -1e4],
        [1e6, -1e6, 5.0],
        [-1e6, -1e6, -1e6],
    ],
    dtype=torch.float64,
)


@pytest.mark.parametrize("given", [0, 1, 2])
def test_the_complement_of_a_class_where_probabilities_round_to_0_and_1(given: int) -> None:
    """log(Σ_{j≠y} exp zⱼ) − log(Σⱼ exp zⱼ) with 60 digits, and its gradient, −p_y and p_y·exp zᵢ/Σ_{j≠y} exp zⱼ."""
    logits = EXTREME.clone().requires_grad_()
    values = Softmax().log_complement(logits, torch.full((len(EXTREME),), given))
    slopes = torch.autograd.grad(values.sum(), logits)[0]
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, 10**9, -(10**9)
        for row, value, slope in zip(EXTREME.tolist(), values.tolist(), slopes.tolist(), strict=True):
            powers = [Decimal(z).exp() for z in row]
            others = sum(power for j, power in enumerate(powers) if j != given)
            expected = others.ln() - sum(powers).ln()
            assert value == pytest.approx(float(expected), rel=1e-14, abs=1e-300)
            own = powers[given] / sum(powers)
            by_hand = [-own if j == given else own * power / others for j, power in enumerate(powers)]
            assert slope == pytest.approx([float(part) for part in by_hand], rel=1e-13, abs=1e-300)


@pytest.mark.parametrize("given", [(1, 1, 1), (0, 1, 0), (0, 0, 0)])
def test_the_complement_of_attributes_where_probabilities_round_to_0_and_1(given: tuple[int, ...]) -> None:
    """log(1 − Πⱼ pⱼ), 1/pⱼ = 1 + exp(∓zⱼ), from digits enough to tell it from 0."""
    logits = EXTREME.clone().requires_grad_()
    targets = torch.tensor([given] * len(EXTREME), dtype=torch.float64)
    values = Sigmoid().log_complement(logits, targets)
    assert bool(torch.isfinite(torch.autograd.grad(values.sum(), logits)[0]).all())
    with localcontext() as context:
        # The largest exponent here whose difference from 1 counts is that of 800, or some 350 digits.
        context.prec, context.Emax, context.Emin = 900, 10**9, -(10**9)
        for row, value in zip(EXTREME.tolist(), values.tolist(), strict=True):
            towards = [z if wanted else -z for z, wanted in zip(row, given, strict=True)]
            if min(towards) > 1e3:
                continue
            product = Decimal(1)
            for z in towards:
                product /= 1 + Decimal(-z).exp()
            assert value == pytest.approx(float((1 - product).ln()), rel=1e-13, abs=1e-15)


def test_a_target_and_its_complement_are_all_that_there_is() -> None:
    for likelihood, targets in ((Softmax(), CLASSES), (Sigmoid(), ATTRIBUTES)):
        both = (
            likelihood.log_likelihood(LOGITS, targets).exp()
            + likelihood.log_complement(LOGITS, targets).exp()
        )
        assert_equal(both, torch.ones_like(both), 1e-14)
    certain = torch.nn.functional.one_hot(CLASSES, 5).double()
    assert_equal(Softmax().log_complement(LOGITS, certain), Softmax().log_complement(LOGITS, CLASSES))


def test_one_class_alone_has_no_complement() -> None:
    with pytest.raises(RepairError, match="of one class alone no other target can be likely"):
        Softmax().log_complement(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def test_sigmoid_is_a_product_of_bernoullis() -> None:
    expected = bernoulli.logpmf(ATTRIBUTES.numpy(), expit(LOGITS.numpy())).sum(axis=1)
    assert_equal(Sigmoid().log_likelihood(LOGITS, ATTRIBUTES), torch.from_numpy(expected), 1e-13)
    assert_equal(gradient(Sigmoid(), ATTRIBUTES), ATTRIBUTES - LOGITS.sigmoid(), 1e-14)


def test_gaussian_of_these_tests() -> None:
    expected = norm.logpdf(ATTRIBUTES.numpy(), loc=LOGITS.numpy()).sum(axis=1)
    assert_equal(Gaussian().log_likelihood(LOGITS, ATTRIBUTES), torch.from_numpy(expected), 1e-13)


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0]])
    assert Softmax().log_likelihood(logits, torch.tensor([1])).tolist() == [-2e4]
    assert Softmax().log_likelihood(logits, torch.tensor([0])).tolist() == [0]
    assert Sigmoid().log_likelihood(logits, torch.tensor([[0.0, 1.0, 1.0]])).tolist() == pytest.approx(
        [-2e4 - math.log(2)]
    )


@pytest.mark.parametrize("width", [2, 5])
def test_chance_is_the_log_likelihood_of_knowing_nothing(width: int) -> None:
    nothing = torch.zeros(1, width, dtype=torch.float64)
    assert Softmax().chance(nothing) == pytest.approx(-math.log(width), rel=1e-15)
    assert Softmax().log_likelihood(nothing, torch.tensor([1])).item() == pytest.approx(
        Softmax().chance(nothing), rel=1e-15
    )
    assert Sigmoid().chance(nothing) == pytest.approx(-width * math.log(2), rel=1e-15)
    assert Sigmoid().log_likelihood(nothing, torch.ones_like(nothing)).item() == pytest.approx(
        Sigmoid().chance(nothing), rel=1e-15
    )


def test_probabilities() -> None:
    assert_equal(Softmax().probabilities(LOGITS), torch.from_numpy(softmax(LOGITS.numpy(), axis=1)), 1e-14)
    assert_equal(Sigmoid().probabilities(LOGITS), torch.from_numpy(expit(LOGITS.numpy())), 1e-14)


def test_softmax_predictions_and_margins_by_hand() -> None:
    outputs = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [3.0, 3.0, -1.0]])
    classes = torch.tensor([1, 2, 0])
    assert Softmax().predictions(outputs).tolist() == [1, 1, 0]
    assert Softmax().correct(outputs, classes).tolist() == [1, 0, 1]
    assert Softmax().margin(outputs, classes).tolist() == [2, -2, 0]
    mixtures = torch.tensor([[0.3, 0.6, 0.1], [0.1, 0.2, 0.7], [0.2, 0.2, 0.6]])
    assert Softmax().correct(outputs, mixtures).tolist() == [1, 0, 0]
    assert Softmax().margin(outputs, mixtures).tolist() == [2, -2, -4]


def test_sigmoid_predictions_and_margins_by_hand() -> None:
    outputs = torch.tensor([[1.0, -4.0, 2.0, -1.0], [0.5, 3.0, -2.0, 0.0]])
    attributes = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    assert Sigmoid().predictions(outputs).tolist() == [[1, 0, 1, 0], [1, 1, 0, 0]]
    assert Sigmoid().correct(outputs, attributes).tolist() == [1, 0.5]
    assert Sigmoid().margin(outputs, attributes).tolist() == [1, -3]


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=2, max_size=6, unique=True), st.data())
def test_a_margin_is_positive_exactly_where_the_prediction_is_right(
    outputs: list[float], data: st.DataObject
) -> None:
    row = torch.tensor([outputs], dtype=torch.float64)
    label = torch.tensor([data.draw(st.integers(0, len(outputs) - 1))])
    assert bool(Softmax().margin(row, label) > 0) == bool(Softmax().correct(row, label))
    attributes = torch.tensor(
        [data.draw(st.lists(st.integers(0, 1), min_size=row.numel(), max_size=row.numel()))]
    )
    if (row != 0).all():
        right = Sigmoid().correct(row, attributes.double()) == 1
        assert bool(Sigmoid().margin(row, attributes) > 0) == bool(right)


def test_likelihoods_are_made_by_name() -> None:
    assert isinstance(make_likelihood("softmax"), Softmax)
    assert isinstance(make_likelihood("sigmoid"), Sigmoid)
    with pytest.raises(
        RepairError, match=re.escape("there is no likelihood 'probit': choose one of sigmoid, softmax")
    ):
        make_likelihood("probit")


@pytest.mark.parametrize("measure", ["log_likelihood", "correct", "margin"])
@pytest.mark.parametrize("wrong", [-100, -1, 5, 255])
def test_classes_that_are_not_there_are_refused(wrong: int, measure: str) -> None:
    targets = CLASSES.clone()
    targets[4] = wrong
    with pytest.raises(
        RepairError,
        match=f"1 of 11 targets are not what .* softmax can have, the first {wrong}: .* from 0 to 4",
    ):
        getattr(Softmax(), measure)(LOGITS, targets)


@pytest.mark.parametrize("measure", ["log_likelihood", "correct", "margin"])
@pytest.mark.parametrize(
    ("likelihood", "targets", "words"),
    [
        (Softmax(), 2 * MIXTURES, "sum to 1"),
        (Softmax(), MIXTURES - 0.5, "0 or more"),
        (Softmax(), torch.full_like(MIXTURES, torch.nan), "0 or more"),
        (Sigmoid(), 2 * ATTRIBUTES - 1, "zeros and ones"),
        (Sigmoid(), 2 * ATTRIBUTES, "zeros and ones"),
        (Sigmoid(), torch.full_like(ATTRIBUTES, torch.nan), "zeros and ones"),
    ],
    ids=["twice", "negative", "none", "plus and minus one", "two", "no attributes"],
)
def test_targets_that_cannot_be_are_refused(
    likelihood: Softmax | Sigmoid, targets: Tensor, words: str, measure: str
) -> None:
    with pytest.raises(
        RepairError, match=f"targets are not what the likelihood {likelihood.name} can have.*{words}"
    ):
        getattr(likelihood, measure)(LOGITS, targets)


@pytest.mark.parametrize("measure", ["log_likelihood", "correct", "margin"])
@pytest.mark.parametrize(
    ("likelihood", "outputs", "targets"),
    [
        (Softmax(), LOGITS, CLASSES[:10]),
        (Softmax(), LOGITS, CLASSES.double()),
        (Softmax(), LOGITS, MIXTURES[:, :4]),
        (Softmax(), LOGITS, ATTRIBUTES.long()),
        (Softmax(), LOGITS[:, :, None].expand(11, 5, 11), CLASSES[:, None].expand(11, 11)),
        (Softmax(), LOGITS[:, 0], CLASSES),
        (Sigmoid(), LOGITS, CLASSES),
        (Sigmoid(), LOGITS, ATTRIBUTES[:, :1]),
        (Sigmoid(), LOGITS[:1], ATTRIBUTES),
        (Sigmoid(), LOGITS[:, 0], ATTRIBUTES[:, 0]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    likelihood: Softmax | Sigmoid, outputs: Tensor, targets: Tensor, measure: str
) -> None:
    with pytest.raises(
        RepairError, match=f"met targets of shape .* the likelihood {likelihood.name} needs outputs"
    ):
        getattr(likelihood, measure)(outputs, targets)


def test_attributes_may_be_whole_numbers() -> None:
    for measure in ("log_likelihood", "correct", "margin"):
        whole, floats = (getattr(Sigmoid(), measure)(LOGITS, t) for t in (ATTRIBUTES.long(), ATTRIBUTES))
        assert_equal(whole, floats, 1e-15)


def test_checked_targets_can_be_mapped_over() -> None:
    for likelihood, targets in ((Softmax(), CLASSES), (Softmax(), MIXTURES), (Sigmoid(), ATTRIBUTES)):

        def single(x: Tensor, y: Tensor, likelihood: Softmax | Sigmoid = likelihood) -> Tensor:
            return likelihood.log_likelihood(x.unsqueeze(0), y.unsqueeze(0)).squeeze(0)

        mapped = torch.func.vmap(single)(LOGITS, targets)
        assert_equal(mapped, likelihood.log_likelihood(LOGITS, targets), 1e-14)
