"""The matrix G of all gradients, (rows, d), applied to vectors and to itself.

Its pieces stay in memory up to a given number of bytes, or in a scratch file. Where neither holds them, the Gram
matrix is made in several passes over the examples, and G is applied by forward-mode and backward passes.
"""

from __future__ import annotations

import bisect
import itertools
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.gradients.footprint import in_small_batches
from modelrepair.gradients.pieces import (
    CAST_ENTRIES,
    TILE_ROWS,
    Dense,
    Factored,
    Piece,
    add_gram,
    symmetrised,
    times,
    transposed_times,
    write,
)
from modelrepair.gradients.recorder import Recorder
from modelrepair.gradients.rows import gather
from modelrepair.models.examples import Examples
from modelrepair.models.passes import summed
from modelrepair.models.precision import full_precision
from modelrepair.models.trained_model import TrainedModel

TILE_COLUMNS = 8192
TILE_ENTRIES = 2**26
DEFAULT_MEMORY = 2**30
OPTIONS = ("minibatch", "memory", "scratch")
"""Of a curvature that is made of `Gradients`."""


class Layout(NamedTuple):
    """A piece to be: its columns, and (out, in, positions of a row) if it is factored."""

    columns: slice
    sizes: tuple[int, int, int] | None


class Gradients:
    """G of a model on examples; what it needs is computed at first use.

    Args:
        model: at θ̂.
        examples: n of them.
        minibatch: consecutive examples whose gradients are summed into one row.
        memory: bytes that pieces may take.
        scratch: an existing folder on a disk; if given, a nameless file there takes dense pieces beyond `memory`.
        cuts: positions in θ where pieces must be cut, ascending.

    Raises:
        RepairError: if minibatch is no number of examples or scratch no folder; later, if the model's gradients
            cannot be computed example by example.
    """

    def __init__(
        self,
        model: TrainedModel,
        examples: Examples,
        *,
        minibatch: int = 1,
        memory: int = DEFAULT_MEMORY,
        scratch: str | Path | None = None,
        cuts: Sequence[int] = (),
    ) -> None:
        if isinstance(minibatch, bool) or not isinstance(minibatch, int) or minibatch < 1:
            raise RepairError(f"minibatch is {minibatch!r}: give a whole number of examples, 1 or more")
        if scratch is not None and not Path(scratch).is_dir():
            raise RepairError(
                f"scratch is {str(scratch)!r}, which is no folder: name an existing one on a disk"
            )
        self._model = model
        self._examples = examples
        self._minibatch = minibatch
        self._memory = memory
        self._scratch = scratch
        self._cuts = cuts
        self.rows = -(-len(examples) // minibatch)

    @cached_property
    def recorder(self) -> Recorder:
        """How rows are made; the probe runs when it is first asked for."""
        return Recorder(self._model, self._examples, self._minibatch)

    @cached_property
    def pieces(self) -> list[Piece] | None:
        """G, or None if neither memory nor a scratch file holds it."""
        return self.filled(self.layouts) if self.fits(self.layouts) else None

    def bytes_held(self, layouts: list[Layout]) -> int:
        """What these pieces take in memory, without those in the scratch file."""
        if self.fits(layouts):
            return sum(map(self.size, layouts)) - sum(self._bytes_filed(layouts))
        return max(sum(map(self.size, group)) for group in self._groups())

    def bytes_pairing(self, layouts: list[Layout]) -> int:
        """What their Gram matrix takes beside them and itself."""
        positions = max((layout.sizes[2] for layout in layouts if layout.sizes), default=0)
        tile = 2 * self.like.element_size() * TILE_ROWS * positions * self.rows
        return max([tile, *self._bytes_filed(layouts)])

    def bytes_filling(self) -> tuple[int, int]:
        """What a pass over the examples takes beside the pieces at the worst moment, and what it frees again in all."""
        return self.recorder.pass_bytes(len(self._examples))

    def bytes_applying(self, layouts: list[Layout]) -> int:
        """What products in float64 with these pieces take beside them and the vectors."""
        if not self.fits(layouts):
            # A pass forth and back in float64, with a model of that type, what it is copied from, and the gradient.
            batch = min(len(self._examples), self.recorder.footprint.small_batch(self._model))
            d, size = len(self._model.parameter_vector), self.like.element_size()
            return batch * self.recorder.footprint.plain(8) + d * (8 * (3 + (size != 8)))
        widest = max((sum(layout.sizes) - layout.sizes[2] for layout in layouts if layout.sizes), default=0)
        positions = max((layout.sizes[2] for layout in layouts if layout.sizes), default=0)
        # Copies of factors, and their products with vectors.
        entries = max(CAST_ENTRIES, widest * positions) if widest else 0
        return max(
            8 * 2 * min(entries, self.rows * widest * positions),
            (8 + self.like.element_size()) * CAST_ENTRIES,
        )

    def operations(self, layouts: list[Layout]) -> float:
        """Floating-point operations of the Gram matrix of these pieces, with the passes that fill them."""
        passes = 1 if self.fits(layouts) else len(self._groups())
        pairs = sum(
            lay.sizes[2] ** 2 * (lay.sizes[0] + lay.sizes[1])
            if lay.sizes
            else lay.columns.stop - lay.columns.start
            for lay in layouts
        )
        return passes * len(self._examples) * self.recorder.operations_per_example + self.rows**2 * pairs

    def fits(self, layouts: list[Layout]) -> bool:
        """Whether memory or the scratch file may hold these pieces."""
        return self._scratch is not None or sum(map(self.size, layouts)) <= self._memory

    @cached_property
    def layouts(self) -> list[Layout]:
        """How G is cut into pieces, in order."""
        recorder, factored = self.recorder, {}
        for name, (out, features, positions) in recorder.outer.items():
            positions *= self._minibatch
            columns = self.columns[name]
            bias = recorder.biases.get(name)
            if bias and self.columns[bias].start == columns.stop:
                columns = slice(columns.start, self.columns[bias].stop)
            cheap = positions**2 * (out + features) < out * features
            cut = bisect.bisect_right(self._cuts, columns.start)
            whole = cut == len(self._cuts) or self._cuts[cut] >= columns.stop
            if cheap and whole:
                factored[columns.start] = Layout(columns, (out, features, positions))
        width = max(256, min(TILE_COLUMNS, TILE_ENTRIES // self.rows))
        dimension = max(columns.stop for columns in self.columns.values())
        stops = {*self._cuts, *factored, dimension}
        if self._scratch is not None:
            # In a file, what a batch adds to a piece is then one run of bytes.
            stops |= {columns.stop for columns in self.columns.values()}
        ordered = sorted(stops)
        layouts: list[Layout] = []
        start = 0
        while start < dimension:
            stop = min(ordered[bisect.bisect_right(ordered, start)], start + width)
            layouts.append(factored.get(start, Layout(slice(start, stop), None)))
            start = layouts[-1].columns.stop
        return layouts

    def gram(self, dtype: torch.dtype | None = None) -> Tensor:
        """(rows, rows) GGᵀ in this dtype, by default the model's, without holding G where it does not fit."""
        # By several processes: blocks of rows.
        gram = self.like.new_zeros(self.rows, self.rows, dtype=dtype)
        if self.pieces is not None:
            add_gram(self.pieces, gram)
        else:
            for group in self._groups():
                add_gram(self.filled(group), gram)
        summed(gram)
        return symmetrised(gram)

    @cached_property
    def precise_gram(self) -> Tensor:
        """`gram` with products taken in float64; the gradients are as they are."""
        return self.gram(torch.float64)

    def times(self, vectors: Tensor) -> Tensor:
        """(rows, k) Gv of vectors (d, k), in their dtype; in the model's where G is not held."""
        if self.pieces is not None:
            return times(self.pieces, vectors)
        with full_precision():
            derivatives = [
                self._batched.directional_derivatives(self._examples, v) for v in vectors.unbind(1)
            ]
        return gather(torch.stack(derivatives, dim=1), self._minibatch).sum(1).to(vectors.dtype)

    def transposed_times(self, weights: Tensor) -> Tensor:
        """(d, k) Gᵀc of weights (rows, k), in their dtype; in the model's where G is not held."""
        if self.pieces is not None:
            return transposed_times(self.pieces, weights)
        each = weights.repeat_interleave(self._minibatch, dim=0)[: len(self._examples)]
        with full_precision():
            sums = [self._batched.weighted_gradient(self._examples, column) for column in each.unbind(1)]
        return torch.stack(sums, dim=1).to(weights.dtype)

    @cached_property
    def _batched(self) -> TrainedModel:
        """The model for passes that make no rows."""
        return in_small_batches(self._model, self._examples)

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Where each parameter stands in θ."""
        columns, start = {}, 0
        for name, parameter in self._model.parameters.items():
            columns[name] = slice(start, start + parameter.numel())
            start += parameter.numel()
        return columns

    @property
    def like(self) -> Tensor:
        """An empty tensor of the model's dtype and device."""
        return torch.empty(0, dtype=self._model.dtype, device=self._model.device)

    def size(self, layout: Layout) -> int:
        """How many bytes such a piece takes."""
        columns, sizes = layout
        numbers = columns.stop - columns.start if sizes is None else sizes[2] * (sizes[0] + sizes[1])
        return self.rows * numbers * self.like.element_size()

    def _bytes_filed(self, layouts: list[Layout]) -> list[int]:
        """Sizes of the pieces that go into the scratch file."""
        return [self.size(lay) for lay, filed in zip(layouts, self._in_file(layouts), strict=True) if filed]

    def _groups(self) -> list[list[Layout]]:
        """Pieces that memory holds at the same time; each group needs a pass over the examples."""
        groups: list[list[Layout]] = [[]]
        for layout in self.layouts:
            if groups[-1] and sum(map(self.size, [*groups[-1], layout])) > self._memory:
                groups.append([])
            groups[-1].append(layout)
        return groups

    def _in_file(self, layouts: list[Layout]) -> list[bool]:
        """Which pieces go into the scratch file: those for which there is no memory left."""
        sums = itertools.accumulate(map(self.size, layouts))
        over = [total > self._memory and self._scratch is not None for total in sums]
        return [late and not layout.sizes for late, layout in zip(over, layouts, strict=True)]

    def filled(self, layouts: list[Layout]) -> list[Piece]:
        """These pieces with their values, from one pass over the examples.

        Processes that work together share it, but for what goes into a file, which each has for itself.
        """
        in_file = self._in_file(layouts)
        shared = not any(in_file)
        file, offset = self._scratch_file() if any(in_file) else None, 0
        pieces: list[Piece] = []
        for layout, filed in zip(layouts, in_file, strict=True):
            if layout.sizes is not None:
                pieces.append(Factored(layout.columns, self.rows, layout.sizes, self.like))
            else:
                pieces.append(Dense(layout.columns, self.rows, self.like, file if filed else None, offset))
                offset += self.size(layout) * filed
        takers = {
            name: [p for p in pieces if p.columns.start < own.stop and own.start < p.columns.stop]
            for name, own in self.columns.items()
        }
        wanted = {name for name, taking in takers.items() if taking}
        try:
            for rows, gradients in self.recorder.batches(self._examples, wanted, shared=shared):
                for name, values in gradients:
                    write(takers[name], rows, self.columns[name], values)
        except OSError as error:
            raise RepairError(
                f"the gradients ({offset / 2**30:.1f} GiB) could not be kept in scratch folder {self._scratch}: "
                f"{error.strerror or error}; name a folder with room, or none to recompute them instead"
            ) from error
        if shared:
            # The rows that others have filled are 0 here.
            summed(*(values for piece in pieces for values in piece.held))
        return pieces

    def _scratch_file(self) -> IO[bytes]:
        """A nameless file that the system removes when it is no longer used, also after a kill."""
        try:
            return tempfile.TemporaryFile(dir=self._scratch)
        except OSError as error:
            raise RepairError(
                f"scratch is {str(self._scratch)!r}, where no file can be made ({error.strerror or error}): "
                "name an existing folder in which this user may write"
            ) from error
