"""The matrix G of all gradients, (rows, d), in the form that costs least.

Columns are cut into pieces. A `Dense` piece holds its columns as they are. A `Factored` piece holds a linear
layer's inputs a and output gradients b, of which its columns are the products: with P positions a row,
products of all pairs of rows cost P²(in + out) instead of in·out multiplications a pair, and memory P(in + out)
instead of in·out numbers a row.

Pieces stay in memory up to a given number of bytes, or in a scratch file. Where neither holds them, the Gram
matrix is made in several passes over the examples, and G is applied by forward-mode and backward passes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple

import torch
from torch import Tensor

from modelrepair.curvature.recorder import Outer, Recorder, Rows, dense, full_precision, gather
from modelrepair.errors import RepairError
from modelrepair.examples import Examples
from modelrepair.trained_model import TrainedModel

TILE_COLUMNS = 8192
TILE_ROWS = 1024
TILE_ENTRIES = 2**26
DEFAULT_MEMORY = 2**30


class Dense:
    """Columns of G as they are, in memory or in a file.

    Args:
        columns: which of θ.
        rows: number of rows.
        like: a tensor of the wanted dtype and device.
        file: where to keep the values instead of in memory.
        offset: where in the file, in bytes.
    """

    def __init__(
        self, columns: slice, rows: int, like: Tensor, file: IO[bytes] | None = None, offset: int = 0
    ) -> None:
        self.columns = columns
        self._shape = (rows, columns.stop - columns.start)
        self._like = like
        self._file = file
        self._offset = offset
        self._held = None if file else like.new_zeros(self._shape)
        self._buffer = like.new_empty(0)

    def write(self, rows: slice, columns: slice, values: Rows) -> None:
        """Take what belongs here of the rows' gradients by the parameter that has these columns of θ."""
        start, stop = max(columns.start, self.columns.start), min(columns.stop, self.columns.stop)
        if self._held is not None:
            target = self._held[rows]
        else:
            if not len(self._buffer):
                self._buffer = self._like.new_zeros(rows.stop - rows.start, self._shape[1])
            target = self._buffer
        target[:, start - self.columns.start : stop - self.columns.start] = dense(values)[
            :, start - columns.start : stop - columns.start
        ]

    def flush(self, rows: slice) -> None:
        """All parameters of these rows are written."""
        if self._file is None:
            return
        self._file.seek(self._offset + rows.start * self._shape[1] * self._like.element_size())
        self._file.write(self._buffer.cpu().numpy().data)
        self._buffer = self._like.new_empty(0)

    @property
    def values(self) -> Tensor:
        """(rows, width)."""
        if self._held is not None:
            return self._held
        assert self._file is not None
        values = torch.empty(self._shape, dtype=self._like.dtype)
        self._file.seek(self._offset)
        self._file.readinto(values.numpy().data)  # type: ignore[attr-defined]
        return values.to(self._like.device)

    def add_gram(self, gram: Tensor) -> None:
        """Add the products of all pairs of rows to the lower triangle."""
        values = self.values
        for columns in _tiles(self._shape[1], TILE_ROWS):
            part = values[:, columns].to(gram.dtype)
            for tile in _tiles(len(values), TILE_ROWS):
                gram[tile, : tile.stop].addmm_(part[tile], part[: tile.stop].mT)

    def times(self, vectors: Tensor) -> Tensor:
        """(rows, k) this piece times (width, k), in the vectors' dtype."""
        values = self.values
        return torch.cat(
            [values[tile].to(vectors.dtype) @ vectors for tile in _tiles(len(values), TILE_ROWS)]
        )

    def transposed_times(self, weights: Tensor) -> Tensor:
        """(width, k) the transposed piece times (rows, k), in the weights' dtype."""
        values = self.values
        total = weights.new_zeros(self._shape[1], weights.shape[1])
        for tile in _tiles(len(values), TILE_ROWS):
            total.addmm_(values[tile].to(weights.dtype).mT, weights[tile])
        return total


class Factored:
    """Columns of G that are a linear layer's weight, or its weight and bias, as inputs and output gradients.

    Args:
        columns: which of θ.
        rows: number of rows.
        sizes: (out, in, positions of a row).
        like: a tensor of the wanted dtype and device.
    """

    def __init__(self, columns: slice, rows: int, sizes: tuple[int, int, int], like: Tensor) -> None:
        out, features, positions = sizes
        self.columns = columns
        self._bias = columns.stop - columns.start > out * features
        self._left = like.new_zeros(rows, positions, out)
        self._right = like.new_zeros(rows, positions, features)

    def write(self, rows: slice, columns: slice, values: Rows) -> None:
        """Take the rows' gradients by the weight; those by the bias are known from them."""
        if isinstance(values, Outer):
            self._left[rows] = values.left[:, 0].mT
            self._right[rows] = values.right[:, 0].mT

    def flush(self, rows: slice) -> None:
        """Nothing is buffered."""

    @property
    def values(self) -> Tensor:
        """(rows, width) written out."""
        weight = torch.bmm(self._left.mT, self._right).flatten(1)
        return torch.cat([weight, self._left.sum(1)], dim=1) if self._bias else weight

    def add_gram(self, gram: Tensor) -> None:
        """Add the products of all pairs of rows, Σ_pq (aᵢₚ·aⱼ_q)(bᵢₚ·bⱼ_q), to the lower triangle."""
        rows, positions, _ = self._left.shape
        for tile in _tiles(rows, max(1, TILE_ROWS // positions)):
            left, right = (
                factor[tile].flatten(0, 1).to(gram.dtype)
                @ factor[: tile.stop].flatten(0, 1).to(gram.dtype).mT
                for factor in (self._left, self._right)
            )
            if self._bias:
                right += 1
            left *= right
            if positions > 1:
                left = left.view(tile.stop - tile.start, positions, tile.stop, positions).sum((1, 3))
            gram[tile, : tile.stop] += left

    def times(self, vectors: Tensor) -> Tensor:
        """(rows, k) this piece times (width, k), in the vectors' dtype."""
        weights, biases = self._split(vectors)
        parts = []
        for tile in _tiles(len(self._left), TILE_ROWS):
            left, right = self._left[tile].to(vectors.dtype), self._right[tile].to(vectors.dtype)
            columns = []
            for weight, bias in zip(weights, biases, strict=True):
                columns.append(((right @ weight.mT + bias) * left).sum((1, 2)))
            parts.append(torch.stack(columns, dim=1))
        return torch.cat(parts)

    def transposed_times(self, weights: Tensor) -> Tensor:
        """(width, k) the transposed piece times (rows, k), in the weights' dtype."""
        total = weights.new_zeros(self.columns.stop - self.columns.start, weights.shape[1])
        matrices, biases = self._split(total)
        for tile in _tiles(len(self._left), TILE_ROWS):
            left, right = self._left[tile].to(weights.dtype), self._right[tile].to(weights.dtype)
            for column, matrix, bias in zip(weights[tile].mT, matrices, biases, strict=True):
                weighted = (left * column[:, None, None]).flatten(0, 1)
                matrix += weighted.mT @ right.flatten(0, 1)
                if self._bias:
                    bias += weighted.sum(0)
        return total

    def _split(self, vectors: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of (width, k) as k weights (out, in) and k biases (out,), or zeros for no bias."""
        out, features = self._left.shape[2], self._right.shape[2]
        weights = vectors[: out * features].view(out, features, -1)
        biases = vectors[out * features :] if self._bias else vectors.new_zeros(1, vectors.shape[1])
        return list(weights.unbind(2)), list(biases.unbind(1))


Piece = Dense | Factored


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
        scratch: an existing folder on a disk; if given, dense pieces are kept in a nameless file there.
        cuts: positions in θ where pieces must be cut, ascending.

    Raises:
        RepairError: if minibatch is not a number of examples; later, if the model's gradients cannot be computed
            example by example.
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
            if cheap and not any(columns.start < cut < columns.stop for cut in self._cuts):
                factored[columns.start] = Layout(columns, (out, features, positions))
        width = max(256, min(TILE_COLUMNS, TILE_ENTRIES // self.rows))
        layouts: list[Layout] = []
        start, dimension = 0, max(columns.stop for columns in self.columns.values())
        while start < dimension:
            stops = (*self._cuts, *factored, start + width, dimension)
            dense_columns = slice(start, min(stop for stop in stops if stop > start))
            layouts.append(factored.get(start, Layout(dense_columns, None)))
            start = layouts[-1].columns.stop
        return layouts

    def gram(self, dtype: torch.dtype | None = None) -> Tensor:
        """(rows, rows) GGᵀ in this dtype, by default the model's, without holding G where it does not fit."""
        gram = self.like.new_zeros(self.rows, self.rows, dtype=dtype)
        for pieces in [self.pieces] if self.pieces is not None else self._groups():
            add_gram(pieces, gram)
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
            derivatives = [self._model.directional_derivatives(self._examples, v) for v in vectors.unbind(1)]
        return gather(torch.stack(derivatives, dim=1), self._minibatch).sum(1).to(vectors.dtype)

    def transposed_times(self, weights: Tensor) -> Tensor:
        """(d, k) Gᵀc of weights (rows, k), in their dtype; in the model's where G is not held."""
        if self.pieces is not None:
            return transposed_times(self.pieces, weights)
        each = weights.repeat_interleave(self._minibatch, dim=0)[: len(self._examples)]
        with full_precision():
            sums = [self._model.weighted_gradient(self._examples, column) for column in each.unbind(1)]
        return torch.stack(sums, dim=1).to(weights.dtype)

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

    def _groups(self) -> Iterator[list[Piece]]:
        """Pieces, as many at a time as fit into memory, with one pass over the examples for each group."""
        group: list[Layout] = []
        for layout in self.layouts:
            if group and sum(map(self.size, [*group, layout])) > self._memory:
                yield self.filled(group)
                group = []
            group.append(layout)
        yield self.filled(group)

    def filled(self, layouts: list[Layout]) -> list[Piece]:
        """These pieces with their values, from one pass over the examples."""
        file, offset = self._scratch_file(), 0
        pieces: list[Piece] = []
        for columns, sizes in layouts:
            if sizes is not None:
                pieces.append(Factored(columns, self.rows, sizes, self.like))
            else:
                pieces.append(Dense(columns, self.rows, self.like, file, offset))
                offset += self.size(Layout(columns, None))
        takers = {
            name: [p for p in pieces if p.columns.start < own.stop and own.start < p.columns.stop]
            for name, own in self.columns.items()
        }
        wanted = {name for name, taking in takers.items() if taking}
        try:
            for rows, gradients in self.recorder.batches(self._examples, wanted):
                for name, values in gradients:
                    taking = takers[name]
                    if any(isinstance(piece, Dense) for piece in taking):
                        values = dense(values)
                    for piece in taking:
                        piece.write(rows, self.columns[name], values)
                for piece in pieces:
                    piece.flush(rows)
        except OSError as error:
            raise RepairError(
                f"the gradients ({offset / 2**30:.1f} GiB) could not be kept in scratch folder {self._scratch}: "
                f"{error.strerror or error}; name a folder with room, or none to recompute them instead"
            ) from error
        return pieces

    def _scratch_file(self) -> IO[bytes] | None:
        """A nameless file that the system removes when it is no longer used, also after a kill."""
        if self._scratch is None:
            return None
        try:
            return tempfile.TemporaryFile(dir=self._scratch)
        except OSError as error:
            raise RepairError(
                f"scratch is {str(self._scratch)!r}, where no file can be made ({error.strerror or error}): "
                "name an existing folder in which this user may write"
            ) from error


def add_gram(pieces: list[Piece], gram: Tensor) -> None:
    """Add the products of all pairs of rows of these columns to the lower triangle of (rows, rows)."""
    with full_precision():
        for piece in pieces:
            piece.add_gram(gram)


def times(pieces: list[Piece], vectors: Tensor) -> Tensor:
    """(rows, k) these columns times vectors (width, k)."""
    start = pieces[0].columns.start
    with full_precision():
        parts = [p.times(vectors[p.columns.start - start : p.columns.stop - start]) for p in pieces]
        return torch.stack(parts).sum(0)


def transposed_times(pieces: list[Piece], weights: Tensor) -> Tensor:
    """(width, k) these columns, transposed, times weights (rows, k)."""
    with full_precision():
        return torch.cat([piece.transposed_times(weights) for piece in pieces])


def symmetrised(gram: Tensor) -> Tensor:
    """A square matrix with its lower triangle copied, in place, to the upper."""
    for tile in _tiles(len(gram), TILE_ROWS):
        gram[: tile.start, tile] = gram[tile, : tile.start].mT
        gram[tile, tile] = gram[tile, tile].tril() + gram[tile, tile].tril(-1).mT
    return gram


def _tiles(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
