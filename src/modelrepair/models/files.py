"""Models in folders: weights as safetensors beside a description that says how to build the network."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelrepair.errors import RepairError
from modelrepair.models.likelihood import make_likelihood
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network, published_weights, settled_options
from modelrepair.pipeline.artifacts import (
    read_json,
    read_tensors,
    tensors_with_metadata,
    write_json,
    write_tensors,
)
from modelrepair.settings import listed


def fresh_model(description: dict[str, Any], seed: int) -> TrainedModel:
    """An untrained model.

    Args:
        description: `network` (its name), `options`, `input_shape`, `outputs`, `likelihood`.
        seed: of its initial weights.
    """
    network = make_network(
        description["network"],
        tuple(description["input_shape"]),
        description["outputs"],
        seed=seed,
        **description["options"],
    )
    return TrainedModel(network, make_likelihood(description["likelihood"]))


def save_model(folder: Path, model: TrainedModel, description: dict[str, Any]) -> None:
    """Write a model into an existing folder, with what was added to its network.

    Args:
        folder: that is there.
        model: with or without additions.
        description: as for `fresh_model`, of the network without additions.
    """
    added = getattr(model.network, "descriptions_of_additions", [])
    write_json(folder / "model.json", {**description, **({"additions": added} if added else {})})
    write_tensors(folder / "weights.safetensors", model.network.state_dict())


def load_model(folder: Path) -> tuple[TrainedModel, dict[str, Any]]:
    """A model that `save_model` wrote, and its description, which is that of its network without additions.

    Raises:
        RepairError: if a file is missing or damaged, or the weights are not those of the network.
    """
    description = read_json(folder / "model.json")
    added = description.pop("additions", [])
    model = _with_additions(fresh_model(description, seed=0), added)
    weights = read_tensors(folder / "weights.safetensors")
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RepairError(
                f"{folder / 'weights.safetensors'} holds NaN or infinite numbers, the first in {name}: "
                f"rerun the stage that writes {folder}"
            )
    try:
        model.network.load_state_dict(weights)
    except RuntimeError as error:
        raise RepairError(
            f"{folder / 'weights.safetensors'} does not hold the weights of {description['network']} "
            f"({' '.join(str(error).split())[:200]}): rerun the stage that writes {folder}"
        ) from None
    return model, description


def _with_additions(model: TrainedModel, descriptions: Sequence[Mapping[str, Any]]) -> TrainedModel:
    """The model with additions of these descriptions, whose weights are still to be loaded."""
    if not descriptions:
        return model
    # By name, as networks are: what adds nothing to its model does not depend on what could be added.
    room = importlib.import_module("modelrepair.additions")
    additions = [room.make_addition(model.network, one, seed=0) for one in descriptions]
    return TrainedModel(room.extend(model.network, additions), model.likelihood)


def begun_model(
    data: Mapping[str, Any],
    seed: int,
    root: Path,
    *,
    network: str,
    options: Mapping[str, Any],
    pretrained: str | None,
    trained: bool,
) -> tuple[TrainedModel, dict[str, Any]]:
    """The model from which a training on these data begins, or which is not trained, and its description.

    Args:
        data: `classes`, `input_shape` and `likelihood` of the data set.
        seed: of weights that are random.
        root: of the pipeline.
        network, options, pretrained, trained: the settings of the model.

    Raises:
        RepairError: see `fresh_model` and `begin_from`.
    """
    description = {
        "network": network,
        "options": settled_options(network, **options),
        "input_shape": data["input_shape"],
        "outputs": len(data["classes"]),
        "likelihood": data["likelihood"],
    }
    model = fresh_model(description, seed)
    if pretrained is not None:
        begin_from(model, description, pretrained, root, whole=trained)
    return model, description


def begin_from(
    model: TrainedModel, description: dict[str, Any], pretrained: str, root: Path, *, whole: bool = False
) -> None:
    """Give a fresh model the weights that training begins from.

    A last layer of other classes keeps its own random weights, and says so, unless the weights are the whole model.

    Args:
        model: of the description; its network is changed in place.
        description: as for `fresh_model`.
        pretrained: a file of weights, relative to root, or the name of published weights.
        root: of the pipeline.
        whole: whether nothing is to stay random, as where no training follows.

    Raises:
        RepairError: if they cannot be had, are damaged, or are not those of the network.
    """
    # Names of published weights have no points.
    if Path(pretrained).suffix:
        weights = read_weights(root / pretrained)
    else:
        weights = published_weights(description["network"], pretrained, **description["options"])
    own, last = model.network.state_dict(), _last_layer(model.network)
    of_others = {
        name
        for name, tensor in weights.items()
        if name in own and name.startswith(f"{last}.") and tensor.shape[1:] == own[name].shape[1:]
        if len(tensor) != len(own[name]) and not whole
    }
    # Older files do not count the batches that normalisation has seen, which nothing uses.
    counted = {name for name in own if name.endswith("num_batches_tracked")} - set(weights)
    wrong = []
    if missing := [name for name in own if name not in weights and name not in counted]:
        wrong.append(f"lacks {listed(missing)}")
    if extra := [name for name in weights if name not in own]:
        wrong.append(f"has {listed(extra)}, which the network has not")
    wrong += [
        f"has {name} of shape {tuple(tensor.shape)} in place of {tuple(own[name].shape)}"
        for name, tensor in weights.items()
        if name in own and tensor.shape != own[name].shape and name not in of_others
    ]
    wrong += [
        f"has NaN or infinite numbers in {name}"
        for name, tensor in weights.items()
        if not bool(torch.isfinite(tensor).all())
    ]
    if wrong:
        raise RepairError(
            f"{pretrained} {'; it '.join(wrong)}: give weights of the network {description['network']} with these "
            "options"
        )
    kept = {name: own[name] for name in (*of_others, *counted)}
    model.network.load_state_dict({**weights, **kept})
    if of_others:
        print(f"{pretrained} is of other classes: layer {last} begins with random weights", flush=True)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name of a file of safetensors that others may have written.

    Raises:
        RepairError: if there is no such file, it cannot be read, or holds anything but named tensors.
    """
    if not path.is_file():
        raise RepairError(f"there is no file {path}: put the weights there, or set model.pretrained to null")
    try:
        weights, _ = tensors_with_metadata(path, others=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise RepairError(
            f"{path} cannot be read as safetensors ({type(error).__name__}: {reason}): write it anew with "
            "safetensors.torch.save_file(network.state_dict(), …)"
        ) from error
    if not weights:
        raise RepairError(
            f"{path} holds no tensors: write it anew with safetensors.torch.save_file(network.state_dict(), …)"
        )
    return weights


def _last_layer(network: nn.Module) -> str:
    """The path of the last layer that has parameters of its own."""
    paths: list[str] = [
        path for path, module in network.named_modules() if [*module.parameters(recurse=False)]
    ]
    return paths[-1]
