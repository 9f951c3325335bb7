"""A network of the user's own: a class in the folder `networks` of their project."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from modelrepair.errors import RepairError

FOLDER = "networks"
"""In the current folder, which is that of the pipeline; what builds a network depends on all that lies in it."""


def own_network(
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    code: str,
    arguments: Mapping[str, Any] | None = None,
    output: str | int | None = None,
) -> nn.Module:
    """What the user's class makes of its arguments.

    Neither shape nor number of outputs is handed on: the arguments say all, and what the network makes of the data is
    seen when it is run.

    Args:
        input_shape: shape of one input.
        outputs: number of classes or attributes.
        code: `package.module:Class`, below the folder `networks`.
        arguments: keywords that the class is called with.
        output: of a network that returns a dict, a tuple or an object, which entry or attribute are the outputs.

    Raises:
        RepairError: if the class cannot be imported or called, or makes no module with parameters.
    """
    where, _, name = code.partition(":")
    kind = getattr(_imported(where, code), name, None)
    if not callable(kind):
        raise RepairError(f"{FOLDER}/{where.replace('.', '/')} has no class {name}: name one that it has")
    try:
        network = kind(**(arguments or {}))
    except Exception as error:
        raise RepairError(
            f"{code} cannot be made with the arguments {dict(arguments or {})} ({_words(error)}): give "
            "model.options.arguments that it takes"
        ) from error
    if not isinstance(network, nn.Module) or not any(p.requires_grad for p in network.parameters()):
        what = (
            "no parameters to train" if isinstance(network, nn.Module) else f"type {type(network).__name__}"
        )
        raise RepairError(f"{code} makes a network of {what}: name a torch.nn.Module that has some to train")
    if output is not None:
        network.register_forward_hook(_Taken(output, code))
    return network


class _Taken:
    """Takes the outputs out of what a network returns."""

    def __init__(self, which: str | int, code: str) -> None:
        self._which = which
        self._code = code

    def __call__(self, network: nn.Module, inputs: tuple[Any, ...], returned: Any) -> Tensor:
        which = self._which
        try:
            by_name = isinstance(which, str) and not isinstance(returned, Mapping)
            taken: Tensor = getattr(returned, str(which)) if by_name else returned[which]
        except (AttributeError, LookupError, TypeError) as error:
            raise RepairError(
                f"what {self._code} returns is of type {type(returned).__name__} without {which!r}: set "
                "model.options.output to the name or number of the outputs in it"
            ) from error
        return taken


def _imported(where: str, code: str) -> ModuleType:
    """A module below the folder.

    Raises:
        RepairError: if there is none, it cannot be imported, or another has its name.
    """
    folder = Path.cwd() / FOLDER
    file = folder.joinpath(*where.split("."))
    if not file.with_suffix(".py").is_file() and not (file / "__init__.py").is_file():
        raise RepairError(
            f"there is no {FOLDER}/{where.replace('.', '/')}.py for model.options.code {code!r}: put the code of "
            f"your network into the folder {FOLDER}, in which the pipeline looks for changes"
        )
    # First, so that no other module of the name is taken; it stays, for what the code imports when it runs.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(where)
    except Exception as error:
        raise RepairError(
            f"{FOLDER}/{where.replace('.', '/')} cannot be imported ({_words(error)}): see that it runs by itself, "
            f"with `PYTHONPATH={FOLDER} python -c 'import {where}'`"
        ) from error
    if folder not in Path(module.__file__ or "").parents:
        raise RepairError(
            f"the name {where!r} is already that of {module.__file__ or 'a module of Python'}: give the module in the "
            f"folder {FOLDER} another one"
        )
    return module


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


Network = own_network
