"""The one door to transformers, for language models of others that lie in a folder.

Nothing is downloaded, and no code that comes with a model is run. transformers itself imports torchvision, for which
`modelrepair.vision` comes first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from modelrepair.data.model_folders import ModelFolder, open_model_folder
from modelrepair.data.tokens import Tokens
from modelrepair.errors import RepairError
from modelrepair.vision import torchvision  # noqa: F401

MASKED = "ForMaskedLM"
"""How the names of the classes of masked models end; all others are taken for causal ones."""


def read_tokens(path: Path) -> Tokens:
    """How the language model in a folder reads sentences.

    Raises:
        RepairError: if there is none, or no fast tokeniser of its own.
    """
    folder = open_model_folder(path)
    config = read_config(folder)
    tokeniser = _read(folder, "AutoTokenizer", "tokeniser")
    if not getattr(tokeniser, "is_fast", False):
        raise RepairError(
            f"the tokeniser of {path}, {type(tokeniser).__name__}, is none of the package tokenizers: give a "
            "tokenizer.json with the model"
        )
    mask = tokeniser.mask_token if is_masked(config) else None
    if is_masked(config) and mask is None:
        raise RepairError(
            f"the model in {path} fills masks, and its tokeniser has no mask token: give its own"
        )
    return Tokens(tokeniser.backend_tokenizer, mask, int(config.vocab_size))


def read_config(folder: ModelFolder) -> Any:
    """The description of the model in a folder, as transformers has it.

    Raises:
        RepairError: if it cannot be read, or is of a model without words of its own.
    """
    config = _read(folder, "AutoConfig", "description")
    if not isinstance(getattr(config, "vocab_size", None), int):
        raise RepairError(
            f"the model in {folder.path}, of the kind {config.model_type}, is no language model: give another"
        )
    return config


def config_of(description: dict[str, Any]) -> Any:
    """The same of what its `to_dict` says."""
    transformers = _transformers()
    return transformers.AutoConfig.for_model(**description)


def is_masked(config: Any) -> bool:
    """Whether the model fills a mask in a text, and does not say how a text goes on."""
    return any(name.endswith(MASKED) for name in config.architectures or [])


def new_model(config: Any) -> Any:
    """A model of this description with random weights, as a module of transformers.

    Raises:
        RepairError: if there is no such model that says tokens.
    """
    try:
        return _kind(config).from_config(config)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise RepairError(
            f"transformers makes no language model of the kind {config.model_type} ({_words(error)}): choose another"
        ) from error


def read_model(folder: ModelFolder, config: Any) -> Any:
    """The model in a folder with its weights, in float32.

    Raises:
        RepairError: if they cannot be read, or some are missing.
    """
    if not folder.has_weights:
        raise RepairError(f"{folder.path} holds no weights: put the model's safetensors or GGUF there")
    import torch

    packed: dict[str, Any] = (
        {"gguf_file": folder.gguf} if folder.gguf else {"use_safetensors": True, "output_loading_info": True}
    )
    try:
        found = _kind(config).from_pretrained(
            folder.path, config=config, local_files_only=True, dtype=torch.float32, **packed
        )
    except Exception as error:
        raise RepairError(
            f"the weights in {folder.path} cannot be read ({_words(error)}): fetch the model again"
        ) from error
    if folder.gguf:
        return found
    model, loaded = found
    if missing := sorted(loaded["missing_keys"]):
        raise RepairError(
            f"the weights in {folder.path} lack {missing[0]}{' and others' if len(missing) > 1 else ''}, of "
            f"{type(model).__name__}: give those of a model that says tokens"
        )
    return model


def _kind(config: Any) -> Any:
    transformers = _transformers()
    return transformers.AutoModelForMaskedLM if is_masked(config) else transformers.AutoModelForCausalLM


def _read(folder: ModelFolder, reader: str, what: str) -> Any:
    packed = {"gguf_file": folder.gguf} if folder.gguf else {}
    try:
        return getattr(_transformers(), reader).from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False, **packed
        )
    except Exception as error:
        raise RepairError(
            f"the {what} of the model in {folder.path} cannot be read ({_words(error)}): fetch the model again"
        ) from error


def _transformers() -> Any:
    # Read when it is imported: whatever is asked for lies in the folder.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import transformers

    messages: Any = transformers.logging
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    return transformers


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
