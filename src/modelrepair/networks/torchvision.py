"""Any classifier of torchvision, by its name there."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from modelrepair.errors import RepairError
from modelrepair.vision import torchvision

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the red, green and blue of ImageNet, which torchvision's weights were trained on."""
OLDER = ("googlenet", "inception_v3")
"""Networks that would say more than one thing of an image while they are trained, and have another idea of mean and
deviation, to which they bring what is standardised as for the others."""


def classifier_of_torchvision(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    classifier: str,
    size: int | None = None,
    standardised: bool = False,
) -> nn.Module:
    """torchvision's network of that name, with its own names of layers and weights.

    Args:
        input_shape: (channels, height, width); of one channel all three are made.
        outputs: number of classes.
        classifier: one of `torchvision.models.list_models(torchvision.models)`, such as resnet50.
        size: height and width that images are brought to where the network runs, bilinearly, when they are smaller
            without and when they are larger with a low-pass filter; None leaves them as they are.
        standardised: whether images in [0, 1] lose ImageNet's mean and are divided by its deviation, as torchvision's
            weights expect.

    Raises:
        RepairError: if there is no such network, or it cannot take such inputs.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise RepairError(
            f"torchvision's {classifier} takes images of shape (channels, height, width) with 1 or 3 channels, not "
            f"inputs of shape {tuple(input_shape)}: choose another model"
        )
    if classifier not in torchvision.models.list_models(module=torchvision.models):
        raise RepairError(f"this version of torchvision has no classifier {classifier!r}: choose another")

    older = {"aux_logits": False, "init_weights": True, "transform_input": standardised}
    network: nn.Module = torchvision.models.get_model(
        classifier, weights=None, num_classes=outputs, **(older if classifier in OLDER else {})
    )
    network.register_forward_pre_hook(_Preparation(size, standardised))
    # Shapes alone: nothing is computed, and the network's own tensors are left as they are.
    placed = dict(itertools.chain(network.named_parameters(), network.named_buffers()))
    shapes = {key: torch.empty_like(tensor, device="meta") for key, tensor in placed.items()}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            outcome = functional_call(network.train(), shapes, (torch.empty(2, *input_shape, device="meta"),))
            shape = tuple(outcome.shape)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise RepairError(
                f"torchvision's {classifier} cannot run images of {input_shape[1]}×{input_shape[2]} pixels brought to "
                f"size {size} ({reason}): set the option size to what it takes, such as 224"
            ) from error
    if shape != (2, outputs):
        raise RepairError(
            f"torchvision's {classifier} gives outputs of shape {shape} for 2 images: choose another"
        )
    return network


def published_weights(weights: str, *, classifier: str, **options: Any) -> dict[str, Tensor]:
    """torchvision's weights for a network, by their name there, such as IMAGENET1K_V2 or DEFAULT.

    They are downloaded unless they lie in the cache of `torch.hub` (`$TORCH_HOME/hub/checkpoints`).

    Raises:
        RepairError: if there are none of that name, or they cannot be downloaded.
    """
    there = torchvision.models.get_model_weights(classifier)
    if weights not in there.__members__:
        names = ", ".join(there.__members__) or "none"
        raise RepairError(f"torchvision has no weights {weights!r} for {classifier}: choose one of {names}")
    chosen = there[weights]
    try:
        state: dict[str, Tensor] = chosen.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        file = chosen.url.rpartition("/")[2]
        raise RepairError(
            f"the weights {weights} of {classifier} cannot be had from {chosen.url} ({error}): put that file into "
            f"{torch.hub.get_dir()}/checkpoints as {file}"
        ) from error
    return {key: value for key, value in state.items() if not key.lower().startswith("aux")}


class _Preparation:
    """What is done to images before the network sees them, where they are."""

    def __init__(self, size: int | None, standardised: bool) -> None:
        self._size = size
        self._standardised = standardised

    def __call__(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        images = inputs[0].expand(-1, 3, -1, -1)
        size = self._size
        if size is not None and images.shape[2:] != (size, size):
            shrinks = max(images.shape[2:]) > size
            images = F.interpolate(
                images, (size, size), mode="bilinear", align_corners=False, antialias=shrinks
            )
        if self._standardised:
            mean, deviation = (images.new_tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
            images = (images - mean) / deviation
        return images


Network = classifier_of_torchvision
