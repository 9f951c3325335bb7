"""The features on which a network's last linear layer decides, its gradients, and what valuations check of such."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.passes import PerExample
from modelrepair.models.trained_model import TrainedModel


@torch.no_grad()
def penultimate_features(model: TrainedModel, examples: Examples) -> Tensor:
    """(n, f) the input of the linear layer that the network applies last, one row an example, on the model's device.

    Which layer that is is seen as the network runs, so it need not be the last in the order of the modules. A layer
    whose weights are used without the layer being called (as in attention) is not seen.

    Args:
        model: at θ̂; nothing of it is changed.
        examples: n of them, at least one.

    Raises:
        RepairError: if there are no examples, the network applies no linear layer, or the last of them is not applied
            to one vector an example.
    """
    if not len(examples):
        raise RepairError("features were asked for of no examples: give at least one")
    last: list[tuple[nn.Module, Tensor]] = []

    def remember(layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        last[:] = [(layer, arguments[0] if arguments else named["input"])]

    linear: dict[nn.Module, str] = {
        layer: path for path, layer in model.network.named_modules() if isinstance(layer, nn.Linear)
    }
    hooks = [layer.register_forward_pre_hook(remember, with_kwargs=True) for layer in linear]
    rows = PerExample(len(examples))
    try:
        for positions, inputs, _ in model.batches(examples, shared=True):
            last.clear()
            model.network(inputs)
            if not last:
                there = f"none of its {len(linear)} linear layers" if linear else "no linear layer"
                raise RepairError(
                    f"network {type(model.network).__name__} applies {there}, so it has no penultimate features: give "
                    "a network that ends in a linear layer, or features of your own"
                )
            layer, features = last[0]
            if features.ndim != 2 or len(features) != len(inputs):
                raise RepairError(
                    f"linear layer {linear[layer]}, the last that is applied, takes inputs of shape "
                    f"{tuple(features.shape)} for {len(inputs)} examples, not one vector for each: give features of "
                    "your own"
                )
            rows.put(positions, features)
    finally:
        for hook in hooks:
            hook.remove()
    return rows.whole()


def last_layer_gradients(model: TrainedModel, examples: Examples) -> tuple[Tensor, Tensor]:
    """(n, f) φ and (n, k) e, of which the gradients of the log-likelihood by the last layer's weights W are made.

    With φ the input of that layer and e = ∂ log p / ∂ outputs, ∇_W log p(z | θ̂) = e φᵀ, so the product of two of these
    is ⟨eᵢ, eⱼ⟩⟨φᵢ, φⱼ⟩, and nobody need write the (k, f) matrices down.

    Args:
        model: at θ̂, with a network whose outputs are those of its last linear layer.
        examples: n of them, at least one.

    Raises:
        RepairError: if the network ends in no linear layer, or that is not applied to one vector an example.
    """
    slopes = []
    for _, inputs, targets in model.batches(examples):
        with torch.no_grad():
            outputs = model.network(inputs)
        if outputs.ndim != 2:
            raise RepairError(
                f"the network's outputs for {len(inputs)} examples are of shape {tuple(outputs.shape)}: the last layer "
                "is looked at where it makes one vector for each"
            )
        outputs.requires_grad_()
        with torch.enable_grad():
            slopes += torch.autograd.grad(model.log_likelihood(outputs, targets).sum(), outputs)
    return penultimate_features(model, examples), torch.cat(slopes)


def last_layer_factors(model: TrainedModel, examples: Examples) -> tuple[NDArray[Any], NDArray[Any]]:
    """φ and e of `last_layer_gradients` as arrays of NumPy, by which failures are divided."""
    features, slopes = last_layer_gradients(model, examples)
    return features.cpu().numpy(), slopes.cpu().numpy()


def labelled_features(
    features: ArrayLike | Tensor, labels: ArrayLike | Tensor, what: str
) -> tuple[Tensor, Tensor]:
    """Features (n, f) in float64 and class numbers (n,), on the device of the features.

    Raises:
        RepairError: if they do not belong together, a feature is NaN or infinite, there are no examples, or the labels
            are no class numbers; names them as `what`.
    """
    arrays = []
    for given in (features, labels):
        array = given if torch.is_tensor(given) else np.array(given)
        if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
            raise RepairError(
                f"an array of type {array.dtype} was given for the {what} examples: give real numbers as features and "
                "class numbers as labels"
            )
        if isinstance(array, np.ndarray):
            # PyTorch knows neither other byte orders nor longer floats, and can do little with unsigned numbers.
            wide = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}[array.dtype.kind]
            array = torch.from_numpy(array.astype(wide))
        arrays.append(array.detach())
    matrix, numbers = arrays[0].to(torch.float64), arrays[1]
    if matrix.ndim != 2 or not matrix.numel() or numbers.shape != matrix.shape[:1]:
        raise RepairError(
            f"features of shape {tuple(matrix.shape)} and labels of shape {tuple(numbers.shape)} were given for the "
            f"{what} examples: give one row of at least one feature, and one class number, for each of one or "
            "more examples"
        )
    bad = int((~torch.isfinite(matrix)).any(dim=1).sum())
    if bad:
        raise RepairError(
            f"the features of {bad} of {len(matrix)} {what} examples are NaN or infinite: check those inputs"
        )
    if numbers.is_floating_point() or numbers.dtype == torch.bool or int(numbers.min()) < 0:
        kind = str(numbers.dtype).removeprefix("torch.")
        raise RepairError(
            f"labels of type {kind}, the lowest {numbers.min().item()}, were given for the {what} examples: give class "
            "numbers, whole numbers of 0 or more"
        )
    return matrix, numbers.to(matrix.device, torch.int64)


def on_same_footing(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    query_features: ArrayLike | Tensor,
    query_labels: ArrayLike | Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training features (n, f) and labels (n,), query features (q, f) and labels (q,), all on the device of the first.

    Raises:
        RepairError: as `labelled_features`, or if the two have different numbers of features.
    """
    training, given = labelled_features(features, labels, "training")
    query, right = labelled_features(query_features, query_labels, "query")
    if training.shape[1] != query.shape[1]:
        raise RepairError(
            f"training examples have {training.shape[1]} features and query examples {query.shape[1]}: take both from "
            "the same layer of the same network"
        )
    return training, given, query.to(training.device), right.to(training.device)
