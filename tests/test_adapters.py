"""Arrays, data sets, loaders and estimators of other people, as this library's objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.repairing.adapters import as_examples, as_subject, untrained
from models import one_thread  # noqa: F401

DRAW = np.random.default_rng(0)
INPUTS, LABELS = DRAW.normal(size=(12, 3)).astype(np.float32), DRAW.integers(0, 3, 12)
TENSORS = TensorDataset(torch.from_numpy(INPUTS), torch.from_numpy(LABELS))


class Items(Dataset[Any]):
    """A data set of what is given."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        return self.items[position]


class Augmented(Items):
    """One whose items are others each time."""

    def __getitem__(self, position: int) -> Any:
        return torch.rand(3), 0


class Stream(IterableDataset[Any]):
    """One without an order that could be gone back to."""

    def __iter__(self) -> Any:
        return iter([(torch.zeros(3), 0)])


@pytest.mark.parametrize(
    "data",
    [
        Examples(INPUTS, LABELS),
        (INPUTS, LABELS),
        (torch.from_numpy(INPUTS).requires_grad_(), LABELS.tolist()),
        TENSORS,
        DataLoader(TENSORS, batch_size=5, drop_last=True),
        DataLoader(TENSORS, batch_size=5, shuffle=True),
        DataLoader(TENSORS, batch_size=None),
        Items(*((row.tolist(), int(label)) for row, label in zip(INPUTS, LABELS, strict=True))),
        Subset(TensorDataset(*(tensor.flip(0) for tensor in TENSORS.tensors)), range(11, -1, -1)),
    ],
    ids=lambda data: type(data).__name__,
)  # fmt: skip
def test_examples_come_in_the_order_of_the_data(data: Any) -> None:
    examples = as_examples(data, "examples")
    np.testing.assert_allclose(examples.inputs, INPUTS, rtol=1e-6)
    np.testing.assert_array_equal(examples.targets, LABELS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataLoader(TENSORS, sampler=RandomSampler(TENSORS, replacement=True)), "a DataLoader with RandomSampler, so"),
        (DataLoader(TENSORS, sampler=SubsetRandomSampler([1, 2])), "a DataLoader with SubsetRandomSampler, so which"),
        (DataLoader(TENSORS, batch_sampler=[[1, 2]]), "is not certain: give its data set, or the part"),
        (DataLoader(Stream()), "a DataLoader with Stream, so which they are"),
        (Stream(), "of type Stream were given: give a pair of arrays"),
        (INPUTS, "of type ndarray were given"),
        (Augmented(1, 2), "item 0 of examples is another when it is read again, as with random augmentation"),
        (Items(torch.zeros(3)), "item 0 of examples is of type Tensor: give pairs"),
        (Items((torch.zeros(3), 0, 1)), "item 0 of examples is of type tuple: give pairs"),
        (Items((object(), 0)), "item 0 of examples has types object and int: give numbers"),
        (Items((torch.zeros(3), 0), (torch.zeros(4), 0)), r"inputs of examples have the shapes \(3,\) and \(4,\)"),
        (Items(), "there are no examples: give at least one"),
        ((INPUTS[:0], LABELS[:0]), "there are no examples: give at least one"),
        ((csr_matrix(INPUTS), LABELS), "of type csr_matrix and are no array of numbers: give one, as by .toarray"),
        ((np.array(["a text"] * 12), LABELS), "of type ndarray and are no array of numbers: give one"),
        ((INPUTS, LABELS[:3]), r"inputs of shape \(12, 3\) and labels of shape \(3,\) were given"),
    ],
)  # fmt: skip
def test_what_has_no_certain_order_or_is_no_numbers_is_refused(data: Any, message: str) -> None:
    with pytest.raises(RepairError, match=message):
        as_examples(data, "examples")


def table(classes: int, count: int = 80) -> tuple[Any, Any]:
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, count)
    inputs = draw.normal(size=(count, 4)) + np.eye(classes, 4)[labels]
    return inputs, np.array(["ant", "bee", "cat"])[labels]


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_logistic_regression_is_a_network_and_comes_back(classes: int, intercept: bool) -> None:
    """With its probabilities; and without an intercept its optimum is that of the network's penalised mean loss."""
    inputs, labels = table(classes)
    estimator = LogisticRegression(C=0.7, fit_intercept=intercept, tol=1e-12, max_iter=10_000).fit(
        inputs, labels
    )
    examples = Examples(inputs, labels)
    subject = as_subject(estimator, examples)
    numbered = examples.with_targets(subject.number(labels))
    assert subject.classes == ("ant", "bee", "cat")[:classes]
    found = subject.model.likelihood.probabilities(subject.model.outputs(numbered)).cpu().numpy()
    np.testing.assert_allclose(found, estimator.predict_proba(inputs), atol=1e-12)
    back = subject.returned(subject.model)
    np.testing.assert_allclose(back.coef_, estimator.coef_, atol=1e-14)
    np.testing.assert_allclose(back.intercept_, estimator.intercept_, atol=1e-14)
    assert back is not estimator
    if not intercept:
        assert subject.weight_decay is not None
        gradient = subject.model.weighted_gradient(numbered) / len(numbered)
        penalty = subject.weight_decay * subject.model.parameter_vector
        torch.testing.assert_close(gradient, penalty, rtol=0, atol=1e-7)


def test_estimators_that_are_no_logistic_regression_are_refused() -> None:
    inputs, labels = table(3)
    with pytest.raises(
        RepairError, match="RidgeClassifier are not those of a multinomial logistic regression"
    ):
        as_subject(RidgeClassifier().fit(inputs, labels), Examples(inputs, labels))
    estimator = LogisticRegression().fit(inputs, labels)
    with pytest.raises(RepairError, match=r"and inputs are of shape \(3,\): give inputs as it was fitted on"):
        as_subject(estimator, Examples(inputs[:, :3], labels))
    with pytest.raises(
        RepairError, match="a label is 'dog', and the classes are ant, bee, cat: give one of them"
    ):
        as_subject(estimator, Examples(inputs, labels)).number(np.array(["ant", "dog"]))


def test_a_module_is_copied_and_stands_for_its_outputs() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 3)).train()
    subject = as_subject(network, Examples(INPUTS, LABELS), device="cpu")
    assert network.training
    assert subject.classes == ("0", "1", "2")
    with torch.no_grad():
        subject.model.network[0].weight.zero_()
    assert network[0].weight.abs().min() > 0
    assert subject.returned(subject.model) is subject.model.network
    assert isinstance(subject.model.likelihood, Softmax)
    attributes = Examples(INPUTS, np.eye(3, dtype=int)[LABELS])
    assert isinstance(as_subject(network, attributes).model.likelihood, Sigmoid)
    with pytest.raises(
        RepairError, match=r"a label is 3, and the network has 3 outputs: give class numbers from 0"
    ):
        subject.number(np.array([0, 3]))
    with pytest.raises(RepairError, match="there are 2 names of classes and 3 outputs"):
        as_subject(network, Examples(INPUTS, LABELS), classes=["a", "b"])
    with pytest.raises(RepairError, match=r"a model of type str was given: give a torch\.nn\.Module"):
        as_subject("model", Examples(INPUTS, LABELS))


def test_an_untrained_network_is_drawn_by_its_seed_alone() -> None:
    model = TrainedModel(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), Softmax())
    model.network[1].running_mean.fill_(7)
    state = torch.get_rng_state()
    first, again, other = untrained(model, 0), untrained(model, 0), untrained(model, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.parameter_vector, again.parameter_vector)
    assert not torch.equal(first.parameter_vector, other.parameter_vector)
    assert not torch.equal(first.parameter_vector, model.parameter_vector)
    assert float(first.network[1].running_mean.abs().max()) == 0
    assert not first.network.training

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.inner = nn.Parameter(torch.ones(1)), nn.Linear(3, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.inner(inputs) * self.scale
            return outputs

    with pytest.raises(RepairError, match="layer Scaled has parameters and no reset_parameters"):
        untrained(TrainedModel(Scaled(), Softmax()), 0)
