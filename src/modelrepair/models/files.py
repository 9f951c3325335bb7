"""Models in folders: weights as safetensors beside a description that says how to build the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from modelrepair.errors import RepairError
from modelrepair.models.likelihood import make_likelihood
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.artifacts import read_json, read_tensors, write_json, write_tensors


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
    """Write a model into an existing folder."""
    write_json(folder / "model.json", description)
    write_tensors(folder / "weights.safetensors", model.network.state_dict())


def load_model(folder: Path) -> tuple[TrainedModel, dict[str, Any]]:
    """A model that `save_model` wrote, and its description.

    Raises:
        RepairError: if a file is missing or damaged, or the weights are not those of the network.
    """
    description = read_json(folder / "model.json")
    model = fresh_model(description, seed=0)
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
