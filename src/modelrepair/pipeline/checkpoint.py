"""Checkpoints that let a killed computation go on where it was, to the same last byte."""

from __future__ import annotations

import contextlib
import copy
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelrepair.errors import RepairError
from modelrepair.pipeline import processes
from modelrepair.pipeline.artifacts import tensors_with_metadata, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


class Checkpoint:
    """The progress of one computation, in a folder named by the fingerprint of all that decides its result.

    Progress stays when the computation is done, because a kill may still come before its result is recorded. It goes
    when another of the same kind begins, or by `clear`. Two of one kind must not run at once: a stage sees to that by
    its lock. Of processes that work together the first writes and reads, and all go on from what it has read.

    Args:
        folder: scratch folder of this kind of computation.
        fingerprint: hash of parameters, code and inputs.

    Raises:
        RepairError: if the folder cannot be written to.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._file = folder / f"{fingerprint}.safetensors"
        self._mark = folder / f"{fingerprint}.finished"
        self._saves = processes.is_first()
        if not self._saves:
            return
        with self._writing():
            folder.mkdir(parents=True, exist_ok=True)
            for file in folder.iterdir():
                if file.suffix == ".partial" or file not in self._files():
                    file.unlink()

    def _files(self) -> set[Path]:
        """The files of this computation and its parts."""
        return set(self._file.parent.glob(f"{self._fingerprint}.*"))

    def part(self, name: str) -> Checkpoint:
        """Where a part of the computation keeps its progress, beside that of the whole and for as long."""
        part = copy.copy(self)
        part._file = self._file.with_name(f"{self._fingerprint}.{name}.safetensors")
        return part

    @property
    def finished(self) -> bool:
        """Whether the computation was seen to its end."""
        return self._mark.exists()

    def finish(self) -> None:
        """Note down that the computation has come to its end and that its result is in place."""
        if not processes.is_first():
            return
        # Without the note, a computation that is done for is gone on with, to the same result.
        with contextlib.suppress(OSError):
            self._mark.touch()

    def clear(self) -> None:
        """Forget the progress, so that the computation begins anew.

        Raises:
            RepairError: if the folder cannot be written to.
        """
        if not processes.is_first():
            return
        with self._writing():
            for file in self._files():
                file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn what the system says of the folder into one sentence."""
        try:
            yield
        except OSError as error:
            raise RepairError(
                f"progress cannot be kept in {self._file.parent} ({error.strerror}): see that it is a folder in which "
                "this user may write, on a disk that is not full"
            ) from None

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the state saved last, or None if there is no usable checkpoint."""
        return processes.from_first(self._load)

    def _load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        from safetensors import SafetensorError

        if not self._file.exists():
            return None
        try:
            tensors, metadata = tensors_with_metadata(self._file)
            return tensors, json.loads(metadata["state"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the checkpoint %s cannot be read (%s): starting afresh", self._file, error)
            return None

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Replace the checkpoint in one step: a kill leaves the old one or the new one, never a part.

        Where the disk is full, the computation goes on without: a warning says so, once.
        """
        from safetensors import SafetensorError

        if not self._saves:
            return
        temporary = self._file.with_suffix(".partial")
        try:
            write_tensors(temporary, tensors, {"state": json.dumps(state)})
            temporary.replace(self._file)
        except (SafetensorError, OSError) as error:
            self._saves = False
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            log.warning(
                "progress cannot be kept in %s (%s): going on, but a kill would lose it", self._file, error
            )
