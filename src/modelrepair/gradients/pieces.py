"""The matrix G of all gradients, (rows, d), cut into pieces, each in the form that costs least.

A `Dense` piece holds its columns as they are. A `Factored` piece holds a linear layer's inputs a and output
gradients b, of which its columns are the products: with P positions a row, products of all pairs of rows cost
P²(in + out) instead of in·out multiplications a pair, and memory P(in + out) instead of in·out numbers a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import torch
from torch import Tensor

from modelrepair.gradients.rows import Outer, Rows, factors, written_out
from modelrepair.models.precision import full_precision
from modelrepair.pipeline import processes

TILE_ROWS = 1024
PAIRED_ROWS = 512
CAST_ENTRIES = 2**20


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
        self.rows = rows
        self._shape = (rows, columns.stop - columns.start)
        self._like = like
        self._file = file
        self._offset = offset
        self._held = None if file else like.new_zeros(self._shape)

    def write(self, rows: slice, columns: slice, gradients: Tensor) -> None:
        """Take what belongs here of the rows' gradients by the parameter that has these columns of θ.

        In a file, a piece must lie within one parameter.
        """
        start, stop = max(columns.start, self.columns.start), min(columns.stop, self.columns.stop)
        part = gradients[:, start - columns.start : stop - columns.start]
        if self._held is not None:
            self._held[rows, start - self.columns.start : stop - self.columns.start] = part
        elif self._file is not None:
            self._file.seek(self._offset + rows.start * self._shape[1] * self._like.element_size())
            self._file.write(part.cpu().contiguous().numpy().data)

    @property
    def held(self) -> list[Tensor]:
        """What is in memory, a row of each tensor for each row."""
        return [] if self._held is None else [self._held]

    @property
    def values(self) -> Tensor:
        """(rows, width)."""
        if self._held is not None:
            return self._held
        values = torch.empty(self._shape, dtype=self._like.dtype)
        self._read(0, values)
        return values.to(self._like.device)

    def add_gram(self, gram: Tensor) -> None:
        """Add the products of all pairs of rows to the lower triangle."""
        values = self.values
        # No more columns at a time than need be cast to the precision of the products.
        width = self._shape[1] if values.dtype == gram.dtype else TILE_ROWS
        for columns in tiles(self._shape[1], width):
            part = values[:, columns].to(gram.dtype)
            for tile in _own(tiles(len(values), PAIRED_ROWS)):
                gram[tile, : tile.stop].addmm_(part[tile], part[: tile.stop].mT)

    def times(self, vectors: Tensor) -> Tensor:
        """(rows, k) this piece times (width, k), in the vectors' dtype."""
        product = vectors.new_empty(self._shape[0], vectors.shape[1])
        for rows, values in self._tiles(vectors.dtype):
            product[rows] = _applied(values, vectors)
        return product

    def add_transposed_times(self, weights: Tensor, total: Tensor) -> None:
        """Add the transposed piece times (rows, k), in the weights' dtype, to (width, k)."""
        for rows, values in self._tiles(weights.dtype):
            total += _applied(values.mT, weights[rows])

    def _tiles(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """A few rows at a time with their values in this dtype, each in the place of those before.

        New memory for every tile would take longer than the products.
        """
        rows, width = self._shape
        if self._held is not None and self._held.dtype == dtype:
            yield slice(0, rows), self._held
            return
        size = min(rows, max(1, CAST_ENTRIES // width))
        cast = self._like.new_empty(size, width, dtype=dtype)
        read = torch.empty(0 if self._held is not None else size, width, dtype=self._like.dtype)
        for tile in tiles(rows, size):
            count = tile.stop - tile.start
            source = read[:count] if self._held is None else self._held[tile]
            if self._file is not None:
                self._read(tile.start, source)
            yield tile, cast[:count].copy_(source)

    def _read(self, row: int, values: Tensor) -> None:
        """Fill a tensor with the rows from this one on of a piece in a file."""
        assert self._file is not None
        self._file.seek(self._offset + row * self._shape[1] * values.element_size())
        self._file.readinto(values.numpy().data)  # type: ignore[attr-defined]


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
        self.rows = rows
        self._bias = columns.stop - columns.start > out * features
        self._left = like.new_zeros(rows, positions, out)
        self._right = like.new_zeros(rows, positions, features)

    def write(self, rows: slice, values: Outer) -> None:
        """Take the rows' gradients by the weight; those by the bias are known from them."""
        self._left[rows] = values.left[:, 0].mT
        self._right[rows] = values.right[:, 0].mT

    @property
    def held(self) -> list[Tensor]:
        """What is in memory, a row of each tensor for each row."""
        return [self._left, self._right]

    def add_gram(self, gram: Tensor) -> None:
        """Add the products of all pairs of rows, Σ_pq (aᵢₚ·aⱼ_q)(bᵢₚ·bⱼ_q), to the lower triangle."""
        rows, positions, _ = self._left.shape
        for tile in _own(tiles(rows, max(1, TILE_ROWS // positions))):
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
            del left, right

    def times(self, vectors: Tensor) -> Tensor:
        """(rows, k) this piece times (width, k), in the vectors' dtype."""
        weights, biases = self._split(vectors)
        product = vectors.new_empty(len(self._left), vectors.shape[1])
        for tile in self._tiles():
            left, right = self._left[tile].to(vectors.dtype), self._right[tile].to(vectors.dtype)
            for column, weight, bias in zip(product[tile].mT, weights, biases, strict=True):
                column.copy_(((right @ weight.mT).add_(bias).mul_(left)).sum((1, 2)))
            del left, right
        return product

    def add_transposed_times(self, weights: Tensor, total: Tensor) -> None:
        """Add the transposed piece times (rows, k), in the weights' dtype, to (width, k)."""
        matrices, biases = self._split(total)
        for tile in self._tiles():
            left, right = self._left[tile].to(weights.dtype), self._right[tile].to(weights.dtype)
            for column, matrix, bias in zip(weights[tile].mT, matrices, biases, strict=True):
                weighted = (left * column[:, None, None]).flatten(0, 1)
                if matrix.stride(1) == 1:
                    matrix.addmm_(weighted.mT, right.flatten(0, 1))
                else:
                    matrix += weighted.mT @ right.flatten(0, 1)
                if self._bias:
                    bias += weighted.sum(0)
            del left, right

    def _tiles(self) -> Iterator[slice]:
        """Rows, few at a time: copies of their factors in another dtype take about `CAST_ENTRIES` numbers."""
        rows, positions, out = self._left.shape
        yield from tiles(rows, max(1, CAST_ENTRIES // (positions * (out + self._right.shape[2]))))

    def _split(self, vectors: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Views of (width, k) as k weights (out, in) and k biases (out,), or zeros for no bias."""
        out, features = self._left.shape[2], self._right.shape[2]
        weights = vectors[: out * features].view(out, features, -1)
        biases = vectors[out * features :] if self._bias else vectors.new_zeros(1, vectors.shape[1])
        return list(weights.unbind(2)), list(biases.unbind(1))


def _applied(matrix: Tensor, vectors: Tensor) -> Tensor:
    """A matrix times (p, k); one vector is no narrow matrix, which CPU libraries multiply several times slower."""
    return matrix.mv(vectors[:, 0]).unsqueeze(1) if vectors.shape[1] == 1 else matrix @ vectors


Piece = Dense | Factored


def write(pieces: list[Piece], rows: slice, columns: slice, values: Rows) -> None:
    """Give pieces what belongs to them of these rows' gradients by the parameter with these columns of θ."""
    for piece in pieces:
        if isinstance(piece, Factored):
            assert isinstance(values, Outer) or columns.start > piece.columns.start
            if isinstance(values, Outer):
                for chunk, part in factors(values):
                    piece.write(slice(rows.start + chunk.start, rows.start + chunk.stop), part)
    plain = [piece for piece in pieces if isinstance(piece, Dense)]
    for chunk, gradients in written_out(values) if plain else ():
        within = slice(rows.start + chunk.start, rows.start + chunk.stop)
        for piece in plain:
            piece.write(within, columns, gradients)


def add_gram(pieces: list[Piece], gram: Tensor) -> None:
    """Add the products of all pairs of rows of these columns to the lower triangle of (rows, rows).

    Of processes that work together each does so for its blocks of rows: `passes.summed` makes the whole of them.
    """
    with full_precision():
        for piece in pieces:
            piece.add_gram(gram)


def times(pieces: list[Piece], vectors: Tensor) -> Tensor:
    """(rows, k) these columns times vectors (width, k)."""
    start = pieces[0].columns.start
    with full_precision():
        total = vectors.new_zeros(pieces[0].rows, vectors.shape[1])
        for piece in pieces:
            total += piece.times(vectors[piece.columns.start - start : piece.columns.stop - start])
    return total


def transposed_times(pieces: list[Piece], weights: Tensor) -> Tensor:
    """(width, k) these columns, transposed, times weights (rows, k)."""
    start, stop = pieces[0].columns.start, pieces[-1].columns.stop
    total = weights.new_zeros(stop - start, weights.shape[1])
    with full_precision():
        for piece in pieces:
            piece.add_transposed_times(
                weights, total[piece.columns.start - start : piece.columns.stop - start]
            )
    return total


def symmetrised(gram: Tensor) -> Tensor:
    """A square matrix with its lower triangle copied, in place, to the upper."""
    for tile in tiles(len(gram), TILE_ROWS):
        gram[: tile.start, tile] = gram[tile, : tile.start].mT
        gram[tile, tile] = gram[tile, tile].tril() + gram[tile, tile].tril(-1).mT
    return gram


def _own(parts: Iterator[slice]) -> Iterator[slice]:
    """Those whose first row is in a block of this process; blocks go round, as later ones have more pairs."""
    return (part for part in parts if part.start // TILE_ROWS % processes.count() == processes.number())


def tiles(length: int, size: int) -> Iterator[slice]:
    """0 to length in slices of a size, the last one ragged."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
