"""A repair in one call that goes on after a kill: where its steps keep their progress, and what decides its result."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.resources
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.pipeline.stage import Stage
from modelrepair.settings import Settings
from modelrepair.sound import Sound

Keep = Callable[[str], Checkpoint | None]
"""The name of a step to where it keeps its progress; to None where nothing is kept."""
CHUNK = 10_000
"""So many examples are held in memory at a time to be hashed."""
PROBED = 100
"""So many examples are run, since the code of somebody's network is seen by what it computes alone."""


def keep_nothing(step: str) -> None:
    """For a repair that begins anew each time."""


@contextlib.contextmanager
def kept_in(folder: Path | str | None, fingerprint: Callable[[], str]) -> Iterator[Keep]:
    """While the block runs, its steps may keep progress below the folder, and no other process may do so there.

    Args:
        folder: is made if it is not there; None: nothing is kept.
        fingerprint: of all that decides the result; asked for only if something is kept.

    Raises:
        RepairError: if the folder cannot be written to, or another process repairs with it.
    """
    if folder is None:
        yield keep_nothing
        return
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RepairError(
            f"progress cannot be kept in {place} ({error.strerror}): name a folder, or where one can be made"
        ) from None
    with Stage("repair", place).alone():
        identity = fingerprint()
        yield lambda step: Checkpoint(place / ".scratch" / "repair" / step, identity)


def saved_scores(
    checkpoint: Checkpoint | None, scores: Callable[[], tuple[NDArray[np.float64], Sound | None]]
) -> tuple[NDArray[np.float64], Sound | None]:
    """The scores, and what their judge says elsewhere, as they were kept or, if they were not, computed and kept."""
    if checkpoint and (saved := checkpoint.load()):
        sound = saved[1]["sound"]
        return saved[0]["scores"].numpy(), None if sound is None else Sound(*sound)
    result, sound = scores()
    if checkpoint:
        told = None if sound is None else dataclasses.astuple(sound)
        checkpoint.save({"scores": torch.from_numpy(np.asarray(result, dtype=np.float64))}, {"sound": told})
    return result, sound


def fingerprint_of(
    stages: Mapping[str, Settings], model: TrainedModel, examples: Mapping[str, Examples | None], *others: Any
) -> str:
    """A hash of what decides the result of a repair: settings, model, examples, code, torch and its threads.

    Args:
        stages: settings by stage.
        model: that is repaired: its layers, all its tensors, and what it says of the first examples.
        examples: by name; those of "training" are run.
        others: whatever else counts, of which `repr` says all, or arrays.
    """
    digest = hashlib.blake2b(digest_size=16)

    def count(value: Any) -> None:
        if isinstance(value, np.ndarray):
            digest.update(repr((value.shape, value.dtype.str)).encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        else:
            digest.update(repr(value).encode())

    count((torch.__version__, torch.get_num_threads(), model.device.type, model.dtype, model.batch_size))
    package = Path(str(importlib.resources.files("modelrepair")))
    for file in sorted(package.rglob("*.py")):
        count((file.relative_to(package).as_posix(), hashlib.blake2b(file.read_bytes()).digest()))
    for name, settings in stages.items():
        count((name, settings.model_dump_json()))
    count((repr(model.network), type(model.likelihood).__name__))
    for name, tensor in model.network.state_dict().items():
        count(name)
        # Of any type, such as bfloat16, which NumPy has not.
        count(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    for name, some in examples.items():
        count(name)
        for start in range(0, len(some) if some else 0, CHUNK):
            part = some.subset(np.arange(start, min(start + CHUNK, len(some)))) if some else None
            if part:
                count(part.inputs)
                count(np.asarray(part.targets))
    if probed := examples.get("training"):
        few = probed.subset(np.arange(min(PROBED, len(probed))))
        count(model.outputs(few).detach().cpu().double().numpy())
    for value in others:
        count(value)
    return digest.hexdigest()
