"""Folders of language models: what has to lie in one, and what is not read."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from modelrepair.errors import PICKLES, RepairError

DESCRIPTION = "config.json"
NUMBERS = (".safetensors", ".gguf")
"""How the names of files end that hold numbers and their names alone."""


@dataclass(frozen=True)
class ModelFolder:
    """A language model of others in a folder, as Hugging Face's `save_pretrained` writes one, or in a GGUF file.

    Attributes:
        path: of the folder.
        gguf: the name of its GGUF file, which holds description, weights and tokeniser; None where they are files.
        has_weights: whether there are weights that can be read.
    """

    path: Path
    gguf: str | None
    has_weights: bool


def open_model_folder(path: Path) -> ModelFolder:
    """What lies in a folder, of which nothing is read yet.

    Raises:
        RepairError: if there is no such folder, it holds no model or several, its weights could run code as they are
            read, or a package that reads it is not installed.
    """
    if not path.is_dir():
        raise RepairError(f"there is no folder {path}: put the language model there, or name another")
    names = sorted(file.name for file in path.iterdir() if file.is_file())
    packed = [name for name in names if name.endswith(".gguf")]
    described = DESCRIPTION in names
    if len(packed) > 1 or (packed and described):
        raise RepairError(
            f"{path} holds {', '.join([*packed, *([DESCRIPTION] if described else [])])}, which are several models: "
            "leave one"
        )
    if not packed and not described:
        raise RepairError(
            f"{path} holds no {DESCRIPTION} and no file that ends in .gguf: put there what `save_pretrained` of the "
            "model and of its tokeniser wrote"
        )
    trusted = [name for name in names if name.endswith(NUMBERS)]
    pickled = [name for name in names if name.endswith(PICKLES) and name != "training_args.bin"]
    if pickled and not trusted:
        raise RepairError(
            f"{path} holds {pickled[0]}, which could run code as it is read: write the weights as safetensors, with "
            "`save_pretrained(folder)` where they come from"
        )
    needed = ["transformers", *(["gguf"] if packed else [])]
    if absent := [name for name in needed if find_spec(name) is None]:
        raise RepairError(
            f"a language model in a folder is read by the package {absent[0]}, which is not installed: "
            "pip install 'modelrepair[transformers]'"
        )
    return ModelFolder(path, packed[0] if packed else None, bool(trusted))
