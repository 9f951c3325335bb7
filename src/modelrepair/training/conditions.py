"""Under which conditions a network sees its training examples: shifted and mirrored, and in which numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.settings import choose

if TYPE_CHECKING:
    from modelrepair.settings.training import OptimisationSettings

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
"""What products are computed in; None: in the numbers of the parameters."""


@dataclass(frozen=True)
class Conditions:
    """How a network is run over a batch while it is trained; afterwards nothing is left of it.

    Attributes:
        crop: images are shifted by up to so many pixels in both directions, what comes in is 0; the same as padding by
            so many and cropping at random (He et al. 2016, section 4.2).
        flip: images are mirrored left to right, every other one by chance.
        precision: "float32", the numbers of the parameters, or "bfloat16" for products of matrices and convolutions;
            parameters, their gradients, sums, normalisation and the loss stay as they are.
        channels_last: weights of convolutions and what comes out of them lie in memory with the channels last.
    """

    crop: int = 0
    flip: bool = False
    precision: str = "float32"
    channels_last: bool = False

    def __post_init__(self) -> None:
        choose("precision", PRECISIONS, self.precision)
        if self.crop < 0:
            raise RepairError(f"crop is {self.crop}: give a number of pixels of 0 or more")

    def views(self, count: int, *, seed: int, purpose: str, epoch: int) -> NDArray[np.int64] | None:
        """(count, 3) how each example is shown in an epoch: its shift down and to the right, and whether mirrored.

        A row is a function of seed, purpose, epoch and the example's position alone, whatever the batches are and
        however many examples there are. None if all are shown as they are.
        """
        if not self.crop and not self.flip:
            return None
        draws = generator(seed, f"{purpose}, views, epoch {epoch}").random((count, 3))
        shifts = np.floor(draws[:, :2] * (2 * self.crop + 1)).astype(np.int64) - self.crop
        mirrored = (draws[:, 2:] < 0.5) & self.flip
        return np.concatenate([shifts, mirrored.astype(np.int64)], axis=1)

    def show(self, images: Tensor, views: NDArray[np.int64] | None) -> Tensor:
        """(n, channels, height, width) the images as these rows of `views` say; computed where the images are.

        Raises:
            RepairError: if they are no images.
        """
        if views is None:
            return images
        if images.ndim != 4:
            raise RepairError(
                f"crop and flip are of images, and an input is of shape {tuple(images.shape[1:])}: set training.crop "
                "to 0 and training.flip to false"
            )
        down, right, mirrored = torch.from_numpy(views).to(images.device).unsqueeze(2).unbind(1)
        height, width = images.shape[2:]
        rows = torch.arange(height, device=images.device) - down + self.crop
        columns = torch.arange(width, device=images.device)
        columns = torch.where(mirrored.bool(), width - 1 - columns, columns) - right + self.crop
        padded = F.pad(images, (self.crop,) * 4)
        # One flat index for all: a pixel of every channel lies at the same place.
        places = rows.unsqueeze(2) * padded.shape[3] + columns.unsqueeze(1)
        places = places.flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
        return padded.flatten(2).gather(2, places).view_as(images)

    @contextlib.contextmanager
    def numbers(self, device: torch.device, *, cached: bool = True) -> Iterator[None]:
        """While the block runs, products are computed in `precision` on this device.

        Args:
            device: where.
            cached: whether a parameter that is used twice is converted once.
        """
        dtype = PRECISIONS[self.precision]
        autocast = (
            contextlib.nullcontext()
            if dtype is None
            else torch.autocast(device.type, dtype, cache_enabled=cached)
        )
        with autocast:
            yield

    @contextlib.contextmanager
    def laid_out(self, network: nn.Module) -> Iterator[None]:
        """While the block runs, the network's weights lie in memory as `channels_last` says."""
        if self.channels_last:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            yield
        finally:
            if self.channels_last:
                network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


PLAIN = Conditions()


def conditions_as(settings: OptimisationSettings) -> Conditions:
    """How examples are shown while it is trained, and in which numbers the network runs."""
    return Conditions(
        crop=settings.crop,
        flip=settings.flip,
        precision=settings.precision,
        channels_last=settings.channels_last,
    )
