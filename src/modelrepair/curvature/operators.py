"""The two exact forms of λI + GᵀG/n: by its own matrix, or by the Gram matrix GGᵀ of its rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from modelrepair.curvature.solvers import (
    Product,
    Solution,
    conjugate_gradients,
    euclidean,
    largest_share,
)
from modelrepair.errors import RepairError

RESIDUAL = 1e-4
SPANNED = 1e-10
"""Share of the largest eigenvalue of a Gram matrix below which one is rounding, and its direction is not spanned."""
UNSOLVED = 0.1
REFINEMENTS = 10


@dataclass
class Direct:
    """λI + M with M (d, d) at hand.

    Attributes:
        matrix: M, in float64.
        damping: λ.
        residual: the largest ‖F̂x − v‖/‖v‖ of the last `solve`, of x in float64.
    """

    matrix: Tensor
    damping: float = 0.0
    residual: float = field(default=float("nan"), init=False)
    _factor: Tensor | None = field(default=None, init=False)

    def damped(self, damping: float) -> Self:
        """The same M with another λ."""
        return replace(self, damping=damping)

    def matvec(self, vectors: Tensor) -> Tensor:
        """F̂v of (d, k)."""
        return (self.matrix @ vectors.to(self.matrix.dtype)).to(vectors.dtype) + self.damping * vectors

    def solve(self, vectors: Tensor) -> Tensor:
        """F̂⁻¹v of (d, k) in float64.

        Warns:
            RuntimeWarning: if the residual is above 1e-4.

        Raises:
            RepairError: if F̂ is singular to working precision.
        """
        if self._factor is None:
            self._factor = _cholesky(self.matrix, self.damping)
        found, largest = None, float(torch.linalg.vector_norm(self.matrix))
        if self._factor is not None:
            wanted = vectors.double()
            solution = _cholesky_solve(wanted, self._factor)
            found = Solution(
                solution, largest_share(self.matvec(solution) - wanted, euclidean(wanted)), 0, math.inf
            )
        solved = sound(found, self.damping, largest, _rounding(self.matrix))
        self.residual = solved.residual
        return solved.vectors


@dataclass
class LowRank:
    """λI + GᵀG/n with G applied but not written out, solved by the Woodbury identity

        F̂⁻¹v = (1/λ) [v − Gᵀ (nλI + GGᵀ)⁻¹ Gv].

    The difference in it is λ times the answer, so whatever G and Gᵀ round off is divided by λ: both must keep the
    precision of float64 vectors, and be those of one matrix.

    Attributes:
        times: (d, k) v to Gv, in the precision of v.
        transposed_times: (rows, k) c to Gᵀc, in the precision of c.
        gram: GGᵀ.
        precise_gram: makes GGᵀ with products taken in float64, for where `gram` is too coarse.
        count: n.
        damping: λ.
        residual: the largest ‖F̂x − v‖/‖v‖ of the last `solve`, of x in float64.
    """

    times: Product
    transposed_times: Product
    gram: Tensor
    precise_gram: Callable[[], Tensor]
    count: int
    damping: float = 0.0
    residual: float = field(default=float("nan"), init=False)
    _factor: Tensor | None = field(default=None, init=False)
    _factored: Tensor | None = field(default=None, init=False)
    _precise: bool = field(default=False, init=False)
    _span: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def damped(self, damping: float) -> Self:
        """The same G with another λ."""
        return replace(self, damping=damping)

    def matvec(self, vectors: Tensor) -> Tensor:
        """F̂v of (d, k)."""
        return self.transposed_times(self.times(vectors)) / self.count + self.damping * vectors

    def quadratic(self, vectors: Tensor) -> Tensor:
        """(k,) vᵀF̂v = ‖Gv‖²/n + λ‖v‖² of (d, k)."""
        return self.times(vectors).square().sum(0) / self.count + self.damping * vectors.square().sum(0)

    def leverages(self) -> Tensor | None:
        """(rows,) the diagonal of GF̂⁻¹Gᵀ, n(1 − nλ[(nλI + GGᵀ)⁻¹]ᵢᵢ); None if F̂ is singular to working precision."""
        shift = self.count * self.damping
        factor = _cholesky(self.precise_gram(), shift)
        return (
            None if factor is None else self.count * (1 - shift * torch.cholesky_inverse(factor).diagonal())
        )

    def solve(self, vectors: Tensor) -> Tensor:
        """F̂⁻¹v of (d, k) in float64, refined until the residual is at most 1e-4.

        Where rounding of the Gram matrix spoils the formula's answer, conjugate gradients that it preconditions
        mend it; where they do not either, products for it are taken in float64. All of it happens in the `rows`
        dimensions of the coefficients c of x = (v − Gᵀc)/λ, so that an iteration applies G and Gᵀ once. The residual is
        that of x itself, multiplied by F̂ once more, not what an iteration believes it to be.

        Warns:
            RuntimeWarning: if refinement stops above 1e-4.

        Raises:
            RepairError: if F̂ is singular to working precision; says which damping would do.
        """
        found = self._refined(vectors) if self.damping else None
        coarse = self.damping and not self._precise and self.gram.dtype != torch.float64
        if coarse and not (found and found.residual <= RESIDUAL):
            self._factor, self._precise = None, True
            found = self._refined(vectors)
        precise = torch.finfo(torch.float64).eps / RESIDUAL
        solved = sound(found, self.damping, self._largest, max(precise, _rounding(self.gram)))
        self.residual = solved.residual
        return solved.vectors

    def outside_span(self, vectors: Tensor) -> Tensor:
        """(I − Gᵀ(GGᵀ)⁺G)v of (d, k) in float64: what of v is orthogonal to every row of G.

        The pseudo-inverse is that of the Gram matrix of the rows at length 1, so that a short row counts as a long one.
        The projection is taken twice: once leaves rounding where nearly all of v is taken away.
        """
        if self._span is None:
            gram = (self.gram if self.gram.dtype == torch.float64 else self.precise_gram()).double()
            lengths = gram.diagonal().clamp_min(0).sqrt()
            scale = torch.where(lengths > 0, 1 / lengths, 0.0).unsqueeze(1)
            values, directions = torch.linalg.eigh(scale * gram * scale.mT)
            spanned = values > SPANNED * values[-1]
            self._span = scale, directions[:, spanned] * values[spanned].rsqrt()
        scale, roots = self._span
        rest = vectors.double()
        for _ in range(2):
            weights = roots @ (roots.mT @ (scale * self.times(rest)))
            rest = rest - self.transposed_times(scale * weights)
        return rest

    def _refined(self, vectors: Tensor) -> Solution | None:
        """The formula's answer after refinement; None if the matrix in it is singular.

        With x = (v − Gᵀc)/λ the rest F̂x − v is Gᵀr/(nλ) for the rest r = Gv − (nλI + GGᵀ)c of the coefficients.
        """
        if self._factor is None:
            self._factored = self.precise_gram() if self._precise else self.gram
            self._factor = _cholesky(self._factored, self.count * self.damping)
        if self._factor is None or self._factored is None:
            return None
        gram, factor, shift, wanted = (
            self._factored,
            self._factor,
            self.count * self.damping,
            vectors.double(),
        )
        length = euclidean(wanted)

        def norm(rest: Tensor) -> Tensor:
            return (rest * (gram @ rest.to(gram.dtype))).sum(0).clamp_min(0).sqrt()

        def shifted(weights: Tensor) -> Tensor:
            return self.times(self.transposed_times(weights)) + shift * weights

        # What the difference rounds off is beyond the reach of the coefficients.
        rounding = torch.finfo(torch.float64).eps * self._largest / self.damping
        coefficients = _cholesky_solve(goal := self.times(wanted), factor)
        best, left = None, REFINEMENTS
        while True:
            spanned = self.transposed_times(coefficients)
            image = self.times(spanned)
            missed = self.transposed_times(goal - image).div_(shift).sub_(spanned)
            residual = largest_share(missed, length) + rounding
            del missed
            halved = best is None or residual <= best.residual / 2
            if best is None or residual < best.residual:
                solution = spanned.sub_(wanted).div_(-self.damping)
                best = Solution(solution, residual, REFINEMENTS - left, math.inf)
            if not (residual > RESIDUAL and halved and left):
                return best
            found = conjugate_gradients(
                shifted,
                goal - shift * coefficients - image,
                tolerance=RESIDUAL,
                iterations=left,
                precondition=lambda rest: _cholesky_solve(rest, factor),
                patience=2,
                norm=norm,
                scale=shift * length,
            )
            if not found.iterations:
                return best
            coefficients, left = coefficients + found.vectors, left - found.iterations

    @property
    def _largest(self) -> float:
        """At least the largest eigenvalue of GᵀG/n."""
        return float(torch.linalg.vector_norm(self.gram)) / self.count


def sound(found: Solution | None, damping: float, largest: float, rounding: float) -> Solution:
    """A solution as found, if it is one.

    Args:
        found: None where F̂ could not be factorised.
        damping: λ.
        largest: about the largest eigenvalue of M.
        rounding: relative error of M.

    Warns:
        RuntimeWarning: if its residual is above 1e-4.

    Raises:
        RepairError: if there is none, or none to speak of.
    """
    if found is None or not found.residual <= UNSOLVED:
        raise singular(damping, largest, rounding)
    if found.residual > RESIDUAL:
        warnings.warn(
            f"F̂x = v was solved to a residual of {found.residual:.1e} only, because the damping {damping:g} is small "
            f"beside a largest curvature of up to {largest:.1e}: use a larger damping",
            RuntimeWarning,
            stacklevel=4,
        )
    return found


def _cholesky(matrix: Tensor, shift: float) -> Tensor | None:
    """Lower Cholesky factor of a symmetric matrix plus shift·I, in float64; None if it is not positive."""
    # Transposed, which changes nothing but the order in memory, it is factorised in place.
    shifted = matrix.to(torch.float64, copy=True).mT
    shifted.diagonal().add_(shift)
    failure = torch.empty((), dtype=torch.int32, device=matrix.device)
    torch.linalg.cholesky_ex(shifted, out=(shifted, failure))
    # Rounding turns the zero pivots of a singular matrix into small ones of any sign.
    rounding = len(matrix) * torch.finfo(torch.float64 if shift else matrix.dtype).eps
    smallest, largest = shifted.diagonal().aminmax()
    return None if int(failure) or not float(smallest / largest) ** 2 > rounding else shifted


def _cholesky_solve(vectors: Tensor, factor: Tensor) -> Tensor:
    """(LLᵀ)⁻¹ times vectors; unlike `torch.cholesky_solve` without a copy of L."""
    forward = torch.linalg.solve_triangular(factor, vectors, upper=False)
    backward: Tensor = torch.linalg.solve_triangular(factor.mT, forward, upper=True)
    return backward


def singular(damping: float, largest: float, rounding: float) -> RepairError:
    """What to raise when λI + M cannot be inverted, with λ that would do.

    Args:
        damping: λ.
        largest: about the largest eigenvalue of M.
        rounding: relative error of M.
    """
    return RepairError(
        f"the curvature with damping {damping:g} is singular to working precision: its largest eigenvalue is up to "
        f"{largest:.1e}, so use a damping of {10 * rounding * largest or 1e-6:.0e} or more"
    )


def _rounding(matrix: Tensor) -> float:
    return max(torch.finfo(matrix.dtype).eps, len(matrix) * torch.finfo(torch.float64).eps)
