"""An editor of facts as a file, with which single edits can be made again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.knowledge.closed_form import MOMENTS, ClosedFormEditor, Search
from modelrepair.knowledge.editing import HyperNetworkEditor
from modelrepair.knowledge.editor import Editor
from modelrepair.knowledge.hypernetwork import HyperNetwork, edited_matrices, embedded_words
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import tensors_with_metadata, write_tensors

SIZES = ("memory", "condition", "hidden")
"""Options of a hyper-network that are whole numbers."""
OPTION = "option."


def save_editor(path: Path, editor: Editor, loops: int) -> None:
    """Write an editor.

    Args:
        path: of a safetensors file.
        editor: of which the model is written elsewhere.
        loops: how often at most an edit is made again that has not taken.
    """
    options: dict[str, Any] = {"loops": loops}
    if isinstance(editor, ClosedFormEditor):
        options |= dataclasses.asdict(editor.search)
        options |= {} if editor.layer is None else {"layer": editor.layer}
        tensors = {MOMENTS: editor.given[MOMENTS]}
    else:
        assert isinstance(editor, HyperNetworkEditor)
        network = editor.network
        options |= {name: getattr(network, name) for name in (*SIZES, "scale")}
        tensors = network.state_dict()
    # As tensors, because several texts beside them would come in any order, and the bytes with them.
    write_tensors(path, tensors | {f"{OPTION}{name}": _number(value) for name, value in options.items()})


def load_editor(path: Path, model: TrainedModel) -> tuple[Editor, int]:
    """An editor that `save_editor` wrote, and its loops.

    Args:
        path: of the file.
        model: the one that it edits, at θ̂.

    Raises:
        RepairError: if the file is missing or damaged, or of another network.
    """
    from safetensors import SafetensorError

    try:
        tensors, _ = tensors_with_metadata(path)
        options: dict[str, Any] = {
            name.removeprefix(OPTION): tensors.pop(name).item()
            for name in [*tensors]
            if name.startswith(OPTION)
        }
        loops = int(options.pop("loops"))
        if MOMENTS in tensors:
            layer = options.pop("layer", None)
            return ClosedFormEditor(model, layer, Search(**options), tensors[MOMENTS]), loops
        network = HyperNetwork(embedded_words(model.network), edited_matrices(model.network), **options)
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RepairError(
            f"the editor {path} cannot be read ({reason}): rerun the stage that writes {path.parent}"
        ) from None
    return HyperNetworkEditor(model, network.requires_grad_(False).eval()), loops


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)
