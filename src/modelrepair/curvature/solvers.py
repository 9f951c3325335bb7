"""Solving F̂x = v with products F̂p only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


def euclidean(vectors: Tensor) -> Tensor:
    """(k,) the lengths of the columns of (d, k)."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=0)
    return lengths


def largest_share(rests: Tensor, lengths: Tensor) -> float:
    """The largest of the columns' lengths (d, k), each as a share of (k,) what it is compared with, or of 1 for 0.

    NaN if a number in it is.
    """
    return float((euclidean(rests) / torch.where(lengths > 0, lengths, 1)).max())


@dataclass(frozen=True)
class Solution:
    """Where an iterative solver stopped.

    Attributes:
        vectors: (d, k) the best x seen.
        residual: the largest ‖F̂x − v‖ of its columns, as a fraction of the scale; as the recurrence has it, if it is
            that of `conjugate_gradients` alone.
        iterations: how many products F̂p were taken.
        curvature: the smallest pᵀF̂p/‖p‖² met, infinite if there was no iteration; not above 0 if F̂ was found not to be
            positive.
    """

    vectors: Tensor
    residual: float
    iterations: int
    curvature: float


def conjugate_gradients(
    product: Product,
    vectors: Tensor,
    *,
    tolerance: float,
    iterations: int,
    precondition: Product = lambda vectors: vectors,
    patience: int | None = None,
    norm: Product = euclidean,
    scale: Tensor | None = None,
) -> Solution:
    """Preconditioned conjugate gradients (Hestenes & Stiefel 1952) from x = 0, all columns at once.

    Args:
        product: (d, k) to F̂ times them.
        vectors: (d, k) v.
        tolerance: stop when every column's residual is at most this.
        iterations: stop after so many products.
        precondition: (d, k) to approximately F̂⁻¹ times them, symmetric and positive.
        patience: stop after so many iterations that did not halve the best residual; None goes on.
        norm: (d, k) to (k,), by which residuals are measured.
        scale: (k,) what a residual is a fraction of; by default the norms of v.
    """
    scale = norm(vectors) if scale is None else scale
    scale = torch.where(scale > 0, scale, 1)
    solution, rest = torch.zeros_like(vectors), vectors
    direction, previous = torch.zeros_like(vectors), torch.ones_like(scale)
    best, residual, lowest, stalled = solution, float((norm(vectors) / scale).max()), float("inf"), 0
    if residual <= tolerance:
        return Solution(best, residual, 0, lowest)
    for iteration in range(iterations):
        conditioned = precondition(rest)
        inner = (rest * conditioned).sum(0)
        direction = conditioned + direction * (inner / previous if iteration else 0)
        image = product(direction)
        curved, length = (direction * image).sum(0), direction.square().sum(0)
        moving = length > 0
        if bool(moving.any()):
            lowest = min(lowest, float((curved[moving] / length[moving]).min()))
        if not lowest > 0:
            return Solution(best, residual, iteration + 1, lowest)
        step = torch.where(moving, inner / curved, 0)
        solution = solution + step * direction
        rest = rest - step * image
        previous = torch.where(inner > 0, inner, 1)
        achieved = float((norm(rest) / scale).max())
        stalled = 0 if achieved <= residual / 2 else stalled + 1
        if achieved < residual:
            best, residual = solution, achieved
        if residual <= tolerance or (patience is not None and stalled >= patience):
            return Solution(best, residual, iteration + 1, lowest)
    return Solution(best, residual, iterations, lowest)


def refined(
    product: Product, inverse: Product, vectors: Tensor, *, tolerance: float, iterations: int
) -> Solution:
    """The answer of an approximate inverse, mended by what it misses as long as that halves.

    Args:
        product: (d, k) to F̂ times them.
        inverse: (d, k) to about F̂⁻¹ times them.
        vectors: (d, k) v.
        tolerance: stop when every column's ‖F̂x − v‖/‖v‖ is at most this.
        iterations: mend at most so often.
    """
    length = euclidean(vectors)
    best = Solution(torch.zeros_like(vectors), largest_share(vectors, length), 0, float("inf"))
    rest = vectors
    for iteration in range(iterations + 1):
        candidate = best.vectors + inverse(rest)
        missed = vectors - product(candidate)
        residual, before = largest_share(missed, length), best.residual
        if residual < before:
            best, rest = Solution(candidate, residual, iteration, float("inf")), missed
        if residual <= tolerance or not residual <= before / 2:
            break
    return best


def refined_gradients(
    product: Product,
    vectors: Tensor,
    *,
    tolerance: float,
    iterations: int,
    coarse: Product | None = None,
) -> Solution:
    """Conjugate gradients whose residual is the true one.

    The recurrence drifts from F̂x − v by the rounding of its products. So the rest is computed anew, and solved for
    again, as long as that halves it. Where there are coarse products, which are faster, recurrences take those, and the
    others only where coarse ones do not get there.

    Args:
        product: (d, k) to F̂ times them.
        vectors: (d, k) v.
        tolerance: stop when every column's ‖F̂x − v‖/‖v‖ is at most this.
        iterations: stop after so many products, without those of the rests.
        coarse: as `product`, with more rounding.
    """
    length = euclidean(vectors)
    best = Solution(torch.zeros_like(vectors), largest_share(vectors, length), 0, float("inf"))
    rest = vectors
    for inner in (coarse, product) if coarse else (product,):
        while best.residual > tolerance and best.iterations < iterations:
            found = conjugate_gradients(
                inner,
                rest,
                tolerance=tolerance,
                iterations=iterations - best.iterations,
                scale=torch.where(length > 0, length, 1),
            )
            taken, lowest = best.iterations + found.iterations, min(best.curvature, found.curvature)
            candidate = best.vectors + found.vectors
            missed = vectors - product(candidate)
            residual = largest_share(missed, length)
            improved = residual < best.residual
            halved = residual <= best.residual / 2
            if improved:
                best, rest = Solution(candidate, residual, taken, lowest), missed
            else:
                best = replace(best, iterations=taken, curvature=lowest)
            if not (halved and lowest > 0):
                break
        if best.residual > tolerance and inner is coarse:
            # What was met in coarse products may be their rounding.
            best = replace(best, curvature=float("inf"))
    return best


def largest_eigenvalue(
    product: Product, like: Tensor, *, iterations: int = 100, tolerance: float = 1e-3
) -> float:
    """The eigenvalue of largest magnitude of a symmetric operator, from below, by power iteration.

    Args:
        product: (d, 1) to the operator times it.
        like: (d, ...) a tensor of the wanted length, dtype and device.
        iterations: at most this many products.
        tolerance: stop when the estimate changes by less than this fraction.
    """
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(len(like), 1, generator=generator, dtype=torch.float64).to(like)
    estimate = 0.0
    for _ in range(iterations):
        vector = vector / torch.linalg.vector_norm(vector)
        image = product(vector)
        before, estimate = estimate, float((vector * image).sum())
        vector = image
        if abs(estimate - before) <= tolerance * abs(estimate):
            break
    return estimate
