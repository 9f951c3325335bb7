"""A knowledge editor as a file, with which single edits can be made again."""

from __future__ import annotations

import json
from pathlib import Path

from modelrepair.errors import RepairError
from modelrepair.knowledge.editing import Editor
from modelrepair.knowledge.hypernetwork import HyperNetwork, edited_matrices, embedded_words
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.artifacts import tensors_with_metadata, write_tensors


def save_editor(path: Path, editor: Editor, loops: int) -> None:
    """Write the hyper-network of an editor.

    Args:
        path: of a safetensors file.
        editor: of which the model is written elsewhere.
        loops: how often at most an edit is made again that has not taken.
    """
    network = editor.network
    sizes = {"memory": network.memory, "condition": network.condition, "hidden": network.hidden}
    options = {**sizes, "scale": network.scale, "loops": loops}
    write_tensors(path, network.state_dict(), {"options": json.dumps(options)})


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
        tensors, metadata = tensors_with_metadata(path)
        options = json.loads(metadata["options"])
        loops = int(options.pop("loops"))
        network = HyperNetwork(embedded_words(model.network), edited_matrices(model.network), **options)
        network.load_state_dict(tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RepairError(
            f"the editor {path} cannot be read ({reason}): rerun the stage that writes {path.parent}"
        ) from None
    return Editor(model, network.requires_grad_(False).eval()), loops
