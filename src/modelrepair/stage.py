"""How a pipeline stage runs: the parameters it may read, its errors, its checkpoint.

A stage is a script `stages/NAME.py` whose `main(stage)` reads parameters and artefacts, makes one library
call and writes artefacts. This module imports no torch, so that stages without tensors start at once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from modelrepair.allocation import keep_freed_memory
from modelrepair.errors import RepairError
from modelrepair.scratch import Checkpoint

# Sums are split over threads, so their number decides the last digits of every result: it is fixed here
# rather than taken from the machine.
THREADS = 2


class Parameters(Mapping[str, Any]):
    """The part of `params.yaml` that a stage declares in `dvc.yaml`; reading anything else is an error.

    DVC reruns a stage when a declared parameter changes. An undeclared read would leave its outputs stale
    without a word, so here it fails at once.

    Args:
        values: the whole content of `params.yaml`.
        declared: dotted names, such as `training` or `model.name`.
        stage: the stage's name, for messages.
    """

    def __init__(self, values: Mapping[str, Any], declared: list[str], stage: str, prefix: str = "") -> None:
        self._stage = stage
        self._prefix = prefix
        self._content: dict[str, Any] = {}
        heads: dict[str, list[str]] = {}
        for name in declared:
            head, _, rest = name.partition(".")
            heads.setdefault(head, []).append(rest)
        for head, rests in heads.items():
            if not isinstance(values, Mapping) or head not in values:
                raise _absent(f"{prefix}{head}", stage)
            whole = "" in rests
            self._content[head] = (
                _named(values[head], f"{prefix}{head}", stage)
                if whole
                else Parameters(values[head], rests, stage, f"{prefix}{head}.")
            )

    def __getitem__(self, name: str) -> Any:
        if name not in self._content:
            raise RepairError(
                f"stage {self._stage} reads the parameter {self._prefix}{name}, which it does not declare: "
                f"add {self._prefix}{name} to the params of {self._stage} in dvc.yaml"
            )
        return self._content[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def plain(self) -> dict[str, Any]:
        """All declared values as nested dictionaries."""
        return {k: v.plain() if isinstance(v, Parameters) else v for k, v in self._content.items()}


class _Section(dict[str, Any]):
    """A section of `params.yaml`, which says what is missing from it."""

    def __init__(self, values: Mapping[str, Any], name: str, stage: str) -> None:
        super().__init__({key: _named(value, f"{name}.{key}", stage) for key, value in values.items()})
        self._name, self._stage = name, stage

    def __missing__(self, key: str) -> Any:
        raise _absent(f"{self._name}.{key}", self._stage)


class Stage:
    """One stage of the pipeline in `root`.

    Args:
        name: its name in `dvc.yaml`.
        root: the folder of `dvc.yaml` and `params.yaml`.
    """

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        stages = _read_yaml(root / "dvc.yaml").get("stages", {})
        if name not in stages:
            raise RepairError(f"dvc.yaml has no stage {name}: its stages are {', '.join(stages)}")
        self._definition: dict[str, Any] = stages[name]
        self.parameters = Parameters(
            _read_yaml(root / "params.yaml"), self._definition.get("params", []), stage=name
        )

    def checkpoint(self) -> Checkpoint:
        """Where this stage keeps its progress, so that it can go on after a kill.

        The place is named by all that decides the result: the stage's command, its parameters, its code,
        its inputs and the version of torch. Anything else finds another place, so it is never resumed.

        Raises:
            RepairError: if another process is running the same stage on the same inputs.
        """
        return Checkpoint(self.root / ".scratch" / self.name, self._fingerprint())

    def _fingerprint(self) -> str:
        identity = {
            "command": self._definition["cmd"],
            "parameters": self.parameters.plain(),
            "torch": importlib.metadata.version("torch"),
            "threads": THREADS,
        }
        digest = hashlib.blake2b(json.dumps(identity, sort_keys=True).encode(), digest_size=16)
        for dependency in sorted(self._definition.get("deps", [])):
            path = self.root / dependency
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    digest.update(str(file.relative_to(self.root)).encode())
                    with file.open("rb") as content:
                        digest.update(hashlib.file_digest(content, "blake2b").digest())
        return digest.hexdigest()


def run_stage(main: Callable[[Stage], None]) -> None:
    """Run a stage script's `main`: one sentence and status 1 for what a user can mend.

    The stage's name is that of the script, its root the current folder: there DVC runs it. DVC_ROOT is another one
    where an experiment runs in a copy of the workspace, as those in a queue do.
    """
    name = Path(sys.argv[0]).stem.replace("_", "-")
    keep_freed_memory()
    # cuBLAS is deterministic only with this set before CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        main(Stage(name, Path.cwd()))
    except RepairError as error:
        sys.exit(f"{name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; run it again to go on from the last checkpoint")


def use_deterministic_torch() -> None:
    """Fix what decides the last digits: the thread count and the choice of algorithms."""
    import torch

    torch.set_num_threads(THREADS)
    # The same as use_deterministic_algorithms(True, warn_only=True), without importing torch's compiler (2 s).
    torch.set_deterministic_debug_mode("warn")


def _named(value: Any, name: str, stage: str) -> Any:
    return _Section(value, name, stage) if isinstance(value, Mapping) else value


def _absent(name: str, stage: str) -> RepairError:
    return RepairError(
        f"params.yaml lacks {name}, which stage {stage} reads: add it (`git diff params.yaml` shows what was "
        "changed)"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise RepairError(
            f"there is no {path.name} in {path.parent}: run stages from the project's folder, with `dvc repro`"
        ) from None
    except yaml.YAMLError as error:
        raise RepairError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RepairError(f"{path.name} should hold names with values, not {type(content).__name__}")
    return content
