"""Checkpoints that let a killed computation go on where it was, to the same last byte."""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelrepair.errors import RepairError

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


class Checkpoint:
    """The progress of one computation, in a folder named by the fingerprint of all that decides its result.

    A lock beside it keeps two processes from working on the same progress (killing DVC alone leaves its
    child running). The lock goes with the process, however that ends.

    Args:
        folder: scratch folder of this kind of computation.
        fingerprint: hash of parameters, code and inputs.

    Raises:
        RepairError: if another process holds the lock.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._file = folder / f"{fingerprint}.safetensors"
        self._lock = (folder / f"{fingerprint}.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RepairError(
                f"another process is still running {folder.name} on the same inputs: wait for it or end it "
                f"(`fuser {self._lock.name}` shows it), then try again"
            ) from None

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the state saved last, or None if there is no usable checkpoint."""
        from safetensors import SafetensorError, safe_open

        if not self._file.exists():
            return None
        try:
            with safe_open(self._file, framework="pt") as content:
                tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
                state = json.loads(content.metadata()["state"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the checkpoint %s cannot be read (%s): starting afresh", self._file, error)
            return None
        return tensors, state

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the checkpoint in one step: a kill leaves the old one or the new one, never a part."""
        from safetensors.torch import save_file

        temporary = self._file.with_suffix(".partial")
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, temporary, metadata={"state": json.dumps(state)})
        temporary.replace(self._file)

    def clear(self) -> None:
        """Delete this and every older checkpoint of the same kind, once the result is written."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()
