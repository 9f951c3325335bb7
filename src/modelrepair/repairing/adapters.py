"""What people have in their programs, as this library's objects: arrays, torch's data sets and loaders, estimators."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, SequentialSampler

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks.linear import Linear
from modelrepair.settings import listed, shown

READ_TWICE = 3
"""So many items of a data set are read twice, to see whether they are always the same."""
PROBED = 8
"""So many examples are run to see what a network's outputs are."""
PROBABILITY_TOLERANCE = 1e-6
"""How far an estimator's probabilities may be from those of the network that takes its place."""


def as_examples(data: Any, what: str) -> Examples:
    """Labelled examples, in the order in which they are given.

    Args:
        data: Examples; a pair of arrays or tensors, inputs and labels; a torch Dataset of such pairs; or a DataLoader,
            whose data set is read in its own order, whether or not the loader shuffles. They are held in memory. As
            everywhere here, byte images become numbers from 0 to 1 where a network sees them.
        what: they are, in words, for messages.

    Raises:
        RepairError: if it is none of these, the order or number of its examples is not certain, an item is no pair of
            numbers or another when it is read again, or inputs differ in shape.
    """
    if isinstance(data, Examples):
        return data
    if isinstance(data, DataLoader):
        data = _data_set_of(data, what)
    if isinstance(data, tuple | list) and len(data) == 2 and not isinstance(data[0], tuple | list):
        inputs, labels = (_array(part) for part in data)
    elif (
        hasattr(data, "__getitem__")
        and hasattr(data, "__len__")
        and not isinstance(data, np.ndarray | torch.Tensor)
    ):
        inputs, labels = _stacked(data, what)
    else:
        raise RepairError(
            f"{what} of type {type(data).__name__} were given: give a pair of arrays (inputs and labels), a torch "
            "Dataset with a length, or a DataLoader of one"
        )
    if inputs.dtype.kind not in "biuf" or not inputs.ndim:
        kind = type(data[0] if isinstance(data, tuple | list) else data).__name__
        raise RepairError(
            f"inputs of {what} are of type {kind} and are no array of numbers: give one, as by .toarray() of a sparse "
            "matrix, with words made numbers"
        )
    if labels.ndim not in (1, 2) or len(inputs) != len(labels):
        raise RepairError(
            f"{what} with inputs of shape {inputs.shape} and labels of shape {labels.shape} were given: give one label "
            "for each input"
        )
    if not len(inputs):
        raise RepairError(f"there are no {what}: give at least one example")
    return Examples(inputs, labels)


def as_further_examples(data: Any, what: str, subject: Subject, train: Examples) -> Examples:
    """Labelled examples of the same kind as the training examples, with class numbers for labels.

    Args:
        data: as `as_examples` takes them; floats of any precision become floats as the training examples are.
        what: they are, in words, for messages.
        subject: says how labels are numbered.
        train: the training examples.

    Raises:
        RepairError: see `as_examples`; or if inputs or labels are of another shape, or type, than in training.
    """
    examples = as_examples(data, what)
    inputs, expected = examples.subset([0]).inputs, train.subset([0]).inputs
    if inputs.shape[1:] != expected.shape[1:] or examples.targets.ndim != train.targets.ndim:
        raise RepairError(
            f"{what} have inputs of shape {inputs.shape[1:]} and labels of shape {examples.targets.shape[1:]}, and "
            f"training examples {expected.shape[1:]} and {train.targets.shape[1:]}: give both in the same form"
        )
    if inputs.dtype != expected.dtype:
        if inputs.dtype.kind != expected.dtype.kind or inputs.dtype.kind == "u":
            raise RepairError(
                f"{what} have inputs of type {inputs.dtype}, and training examples {expected.dtype}: give both in the "
                "same form"
            )
        examples = Examples(examples.inputs.astype(expected.dtype), examples.targets)
    return examples.with_targets(subject.number(np.asarray(examples.targets)))


def _data_set_of(loader: DataLoader[Any], what: str) -> Any:
    """The data set that a loader goes through once, whatever the order."""
    sampler, batches = loader.sampler, loader.batch_sampler
    once = type(sampler) is SequentialSampler or (type(sampler) is RandomSampler and not sampler.replacement)
    if (
        isinstance(loader.dataset, IterableDataset)
        or not once
        or type(batches) not in (BatchSampler, type(None))
    ):
        kind = type(loader.dataset if isinstance(loader.dataset, IterableDataset) else sampler).__name__
        raise RepairError(
            f"{what} come from a DataLoader with {kind}, so which they are, and in which order, is not certain: give "
            "its data set, or the part of it that is meant as torch.utils.data.Subset"
        )
    return loader.dataset


def _stacked(data: Any, what: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs and labels of all items of a data set."""

    def item(position: int) -> tuple[NDArray[Any], NDArray[Any]]:
        found = data[position]
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise RepairError(
                f"item {position} of {what} is of type {type(found).__name__}: give pairs of an input and its label"
            )
        arrays = _array(found[0]), _array(found[1])
        if any(array.dtype.kind not in "biuf" for array in arrays):
            raise RepairError(
                f"item {position} of {what} has types {type(found[0]).__name__} and {type(found[1]).__name__}: give "
                "numbers, as with torchvision's transform ToTensor"
            )
        return arrays

    items = [item(position) for position in range(len(data))]
    if not items:
        raise RepairError(f"there are no {what}: give at least one example")
    for position, (first, _) in enumerate(items[:READ_TWICE]):
        if not np.array_equal(item(position)[0], first, equal_nan=first.dtype.kind == "f"):
            raise RepairError(
                f"item {position} of {what} is another when it is read again, as with random augmentation: give the "
                "data set without it"
            )
    shapes = sorted({first.shape for first, _ in items})
    if len(shapes) > 1:
        raise RepairError(f"inputs of {what} have the shapes {shapes[0]} and {shapes[1]}: bring them to one")
    return np.stack([first for first, _ in items]), np.stack([second for _, second in items])


def _array(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


@dataclass(frozen=True)
class Subject:
    """A model of the user's, as methods see it.

    Attributes:
        model: with a network of its own, so that the user's is left as it is.
        classes: names of the classes or attributes.
        number: (n,) labels as the user writes them to class numbers.
        returned: a model like this one to what the user gave.
        fresh: a seed to the same network untrained.
        weight_decay: strength α of the penalty α/2·‖θ‖² on the mean loss that it was trained with, where that is known.
    """

    model: TrainedModel
    classes: tuple[str, ...]
    number: Callable[[NDArray[Any]], NDArray[Any]]
    returned: Callable[[TrainedModel], Any]
    fresh: Callable[[int], TrainedModel]
    weight_decay: float | None = None


def as_subject(
    model: Any,
    train: Examples,
    *,
    classes: Sequence[str] | None = None,
    batch_size: int = 500,
    device: torch.device | str | None = None,
) -> Subject:
    """A model in the form in which methods take it.

    Args:
        model: a TrainedModel; a torch module, whose outputs are logits of classes or, where labels are (n, k), of
            attributes; or a fitted logistic regression of scikit-learn.
        train: what it was trained on.
        classes: names of the classes; by default what the estimator calls them, or their numbers.
        batch_size, device: as in `TrainedModel`; of a TrainedModel its own.

    Raises:
        RepairError: if it is none of these, an estimator is no logistic regression, or its output is not one number for
            each class.
    """
    _expect_device(device)
    if hasattr(model, "coef_") and hasattr(model, "classes_"):
        return _of_estimator(model, train, batch_size, device)
    if isinstance(model, TrainedModel):
        given = model.copy()
    elif isinstance(model, nn.Module):
        _expect_trainable(model)
        likelihood = Sigmoid() if train.targets.ndim == 2 else Softmax()
        given = TrainedModel(copy.deepcopy(model), likelihood, batch_size=batch_size, device=device)
    else:
        raise RepairError(
            f"a model of type {type(model).__name__} was given: give a torch.nn.Module, or a fitted logistic "
            "regression of scikit-learn (of a pipeline its last step, and inputs as that sees them)"
        )
    words = train.targets.dtype.kind not in "biuf"
    few = train.subset(np.arange(min(PROBED, len(train))))
    # What the labels are is seen below, and the outputs do not depend on it.
    outputs = given.outputs(few.with_targets(np.zeros(len(few), dtype=np.int64)) if words else few)
    shape = (1, *outputs.shape[1:])
    if len(shape) != 2:
        raise RepairError(
            f"the network's outputs for one example are of shape {shape}: give one for each class"
        )
    names = tuple(map(str, classes if classes is not None else range(shape[1])))
    if len(names) != shape[1]:
        raise RepairError(
            f"there are {len(names)} names of classes and {shape[1]} outputs: give one for each"
        )
    if len(set(names)) < len(names):
        raise RepairError(f"the classes are called {listed(names)}: give each its own name")

    if isinstance(given.likelihood, Softmax) and shape[1] > 1 and _are_probabilities(outputs):
        raise RepairError(
            "the network's outputs for each example are positive and sum to 1, so they are probabilities: give one "
            "that ends in logits, as without its last softmax"
        )

    def number(labels: NDArray[Any]) -> NDArray[Any]:
        if labels.ndim == 2:
            return labels.astype(np.float32)
        if labels.dtype.kind not in "biuf":
            unknown = labels[~np.isin(labels, names)]
            if classes is None or len(unknown):
                raise RepairError(
                    f"a label is {shown(str((unknown if len(unknown) else labels)[0]))}, and the network's outputs are "
                    f"{'numbered' if classes is None else listed(names)}: give numbers from 0 to {len(names) - 1}, or "
                    "the names of all, in the order of the outputs, as `classes`"
                )
            return np.array([names.index(str(label)) for label in labels], dtype=np.int64)
        wrong = labels[~np.isin(labels, np.arange(len(names)))]
        if len(wrong):
            raise RepairError(
                f"a label is {shown(wrong[0].item())}, and the network has {len(names)} outputs: give class numbers "
                f"from 0 to {len(names) - 1}"
            )
        return labels.astype(np.int64)

    def returned(treated: TrainedModel) -> Any:
        if isinstance(model, TrainedModel):
            return treated
        return treated.network.to(next(model.parameters()).device)

    return Subject(given, names, number, returned, lambda seed: untrained(given, seed))


def _expect_device(device: torch.device | str | None) -> None:
    try:
        kind = None if device is None else torch.device(device).type
    except RuntimeError:
        raise RepairError(f"there is no device {shown(device)}: give one such as cpu or cuda") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise RepairError(
            f"the device is {shown(str(device))}, and this torch sees no GPU: leave device out, or install a build of "
            "torch for the GPU"
        )


def _expect_trainable(network: nn.Module) -> None:
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise RepairError(
            f"the network {type(network).__name__} has no parameters that may change: call requires_grad_(True), of "
            "some layers at least"
        )
    if any(parameter.dtype == torch.float16 for parameter in parameters):
        raise RepairError(
            "the network's parameters are of type float16, whose steps are lost to rounding: give it as model.float()"
        )


def _are_probabilities(outputs: torch.Tensor) -> bool:
    """Whether each row of outputs is a distribution."""
    sums = outputs.double().sum(dim=1)
    return bool((outputs >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


def untrained(model: TrainedModel, seed: int) -> TrainedModel:
    """The same network with random weights, as its layers' own `reset_parameters` draw them.

    Raises:
        RepairError: if a layer has parameters and no such function.
    """
    fresh = model.copy()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, module in fresh.network.named_modules():
            if hasattr(module, "reset_parameters"):
                module.to("cpu").reset_parameters()
            elif [*module.parameters(recurse=False)]:
                raise RepairError(
                    f"layer {path or type(module).__name__} has parameters and no reset_parameters, which would draw "
                    "them anew: give it that function, or choose a method that trains nothing from scratch"
                )
    fresh.network.to(model.device).eval()
    return fresh


def _of_estimator(
    estimator: Any, train: Examples, batch_size: int, device: torch.device | str | None
) -> Subject:
    """A logistic regression as a linear network in double precision.

    Of two classes it has one row w of coefficients, of which the network has −w/2 and w/2: then its penalty, which is
    ½‖w‖² beside C times the sum of losses, is that of the network with α = 2/(C n), and with α = 1/(C n) of more
    classes; but that the network's is on the intercept too.
    """
    weight = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    bias = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64), len(weight))
    two = len(weight) == 1
    if two:
        weight, bias = np.r_[-weight, weight] / 2, np.r_[-bias, bias] / 2
    names, has_bias = np.asarray(estimator.classes_), bool(getattr(estimator, "fit_intercept", True))
    if len(names) != len(weight) or train.inputs[:1].reshape(1, -1).shape[1] != weight.shape[1]:
        raise RepairError(
            f"the {type(estimator).__name__} has {len(names)} classes and coefficients of shape "
            f"{np.shape(estimator.coef_)}, and inputs are of shape {train.inputs.shape[1:]}: give inputs as it was "
            "fitted on, and one label each"
        )
    network = Linear((weight.shape[1],), len(names), bias=has_bias).double()
    with torch.no_grad():
        network.linear.weight.copy_(torch.from_numpy(weight))
        if has_bias:
            network.linear.bias.copy_(torch.from_numpy(bias.copy()))
    model = TrainedModel(network, Softmax(), batch_size=batch_size, device=device)
    _expect_same(estimator, model, train)

    def number(labels: NDArray[Any]) -> NDArray[np.int64]:
        unknown = labels[~np.isin(labels, names)]
        if len(unknown):
            raise RepairError(
                f"a label is {shown(unknown[0].item())}, and the classes are {listed(names.tolist())}: give one of them"
            )
        # In ascending order, as scikit-learn has them.
        return np.searchsorted(names, labels).astype(np.int64)

    def returned(treated: TrainedModel) -> Any:
        repaired = copy.deepcopy(estimator)
        values = {
            name: tensor.detach().cpu().numpy() for name, tensor in treated.network.state_dict().items()
        }
        coefficients, intercepts = values["linear.weight"], values.get("linear.bias", np.zeros(len(names)))
        repaired.coef_ = coefficients[1:] - coefficients[:1] if two else coefficients
        repaired.intercept_ = intercepts[1:] - intercepts[:1] if two else intercepts
        return repaired

    strength = float(getattr(estimator, "C", math.inf))
    squared = getattr(estimator, "penalty", None) != "l1" and not getattr(estimator, "l1_ratio", None)
    decay = (2 if two else 1) / (strength * len(train)) if squared else 0.0
    classes = tuple(map(str, names.tolist()))
    return Subject(model, classes, number, returned, lambda seed: untrained(model, seed), decay)


def _expect_same(estimator: Any, model: TrainedModel, train: Examples) -> None:
    """Nothing if the network says of the first examples what the estimator says."""
    few = train.subset(np.arange(min(100, len(train))))
    found = (
        torch.softmax(model.outputs(few.with_targets(np.zeros(len(few), dtype=np.int64))), dim=1)
        .cpu()
        .numpy()
    )
    with warnings.catch_warnings():
        # Of names of columns, which arrays have not.
        warnings.simplefilter("ignore", UserWarning)
        said = estimator.predict_proba(few.inputs) if hasattr(estimator, "predict_proba") else None
    if said is None or np.abs(said - found).max() > PROBABILITY_TOLERANCE:
        raise RepairError(
            f"the probabilities of the {type(estimator).__name__} are not those of a multinomial logistic regression: "
            "give a LogisticRegression that is one, as without one class against the rest"
        )
