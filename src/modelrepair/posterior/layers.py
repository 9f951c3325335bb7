"""The layers of a network, in order, and training some of them alone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from modelrepair.errors import RepairError
from modelrepair.models.trained_model import TrainedModel

NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm, nn.RMSNorm)
ALL = "all"


def layer_groups(network: nn.Module) -> dict[str, list[str]]:
    """The names of the trainable parameters of each layer, by the layer's name, from input to output.

    A layer is a part of the network's top level, with all that is in it: for LeNet-5 and Conv4 each convolution and
    each linear layer, for ResNet-20 the first convolution, the three stages and the last layer, as in Huang et al. 2023
    (A.2). Around a single part nothing counts as a level. Normalisation belongs to the layer before it, and a parameter
    that several layers share to the first. Parameters of the top level itself are a layer of the name "".

    Raises:
        RepairError: if nothing is trainable.
    """
    path, top = "", network
    while True:
        parts = [(name, part) for name, part in top.named_children() if _trainable(part)]
        if len(parts) != 1 or _trainable(top, recurse=False) or not any(True for _ in parts[0][1].children()):
            break
        path, top = f"{path}{parts[0][0]}.", parts[0][1]
    heads: dict[str, str] = {}
    last = None
    for name, part in parts:
        last = last if isinstance(part, NORMALISATIONS) and last is not None else name
        heads[name] = last
    groups: dict[str, list[str]] = {}
    for full_name, parameter in network.named_parameters():
        if parameter.requires_grad:
            within = full_name.removeprefix(path)
            head = heads[within.split(".")[0]] if "." in within else ""
            groups.setdefault(head, []).append(full_name)
    if not groups:
        raise RepairError("the network has no trainable parameters: unfreeze the layers that may be changed")
    return groups


def layer_subsets(names: Collection[str]) -> dict[str, list[str]]:
    """Subsets of layers that are worth trying, by a name: each alone, the first two, the first three, and all.

    Those of Huang et al. 2023 (A.2).
    """
    ordered = list(names)
    alone = [[name] for name in ordered] if len(ordered) > 1 else []
    first = [ordered[:count] for count in (2, 3) if count < len(ordered)]
    return {"+".join(name or "top level" for name in subset): subset for subset in [*alone, *first]} | {
        ALL: ordered
    }


@contextlib.contextmanager
def training_only(model: TrainedModel, names: Collection[str]) -> Iterator[None]:
    """While the block runs, these parameters of the model are its only trainable ones."""
    frozen = [parameter for name, parameter in model.parameters.items() if name not in set(names)]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _trainable(module: nn.Module, *, recurse: bool = True) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=recurse))
