"""Games in which only a last layer is trained, whose prefixes grow by one example at a time.

Shapes here: b permutations together, blocks of m prefixes, f features with the constant one, k classes, q queries. All
in float64. With x_j the features of the j-th example of a permutation, each step adds a matrix of rank one to the
layer, W_j = W_{j−1} + u_j v_jᵀ (f × k), and so to the outputs for the queries; no prefix is trained from scratch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.models.passes import at_a_time
from modelrepair.valuation.features import on_same_footing
from modelrepair.valuation.games import Game, Positions, Walk

Utility = Literal["accuracy", "squared-error"]

STATE_MEMORY = 32 * 2**20
"""Bytes of the state of the permutations followed together: on a CPU what stays in its cache."""
LOWEST_RIDGE = 1e-6
"""With it utilities are off by 1e-7 after thousands of updates, with 1 by 1e-13; the error grows as it shrinks."""
PILOT_PERMUTATIONS = 8
"""Permutations on which a learning rate is chosen."""
LEARNING_RATES = tuple(2.0**power for power in range(-10, 5))
"""Candidates, in units of 1 / mean ‖x‖²."""


class LastLayerGame(Game):
    """Training examples and queries as features of a last layer.

    A constant feature is appended, of the size of the root mean square of the others, for the layer's bias.

    Attributes:
        examples: (n, f) features of the training examples, with the constant one.
        targets: (n, k) their labels, one-hot.
        queries: (q, f) features of the queries, with the constant one.
        right: (q,) their right classes.
        block: m, how many prefixes a walk advances at a time; changes speed only.
    """

    def __init__(
        self,
        features: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        query_features: ArrayLike | Tensor,
        query_labels: ArrayLike | Tensor,
        *,
        block: int = 64,
    ) -> None:
        training, given, query, right = on_same_footing(features, labels, query_features, query_labels)
        if block < 1:
            raise RepairError(f"block is {block}: give a whole number of prefixes, 1 or more")
        constant = float(training.square().mean().sqrt()) or 1.0
        self.examples = F.pad(training, (0, 1), value=constant)
        self.queries = F.pad(query, (0, 1), value=constant)
        self.right = right
        self.players = len(training)
        self.block = block
        classes = 1 + max(int(given.max()), int(right.max()))
        self.targets = F.one_hot(given, classes).to(torch.float64)
        # A guess.
        self.empty = 1.0 / classes
        f, q = self.examples.shape[1], len(query)
        state = 8 * (f * (f + classes) + q * (classes + 4 * block) + 3 * block * f)
        self.together = max(1, min(512, at_a_time(training.device, STATE_MEMORY) // state))

    @property
    def mean_square(self) -> float:
        """The mean of ‖x‖² over the training examples."""
        return float(self.examples.square().sum(dim=1).mean())

    def accuracy(self, layer: Tensor) -> float:
        """Share of the queries for which a layer (f, k) gives the right class more than any other."""
        outputs = self.queries @ layer
        hits = outputs.gather(1, self.right[:, None])[:, 0]
        return float((hits > outputs.scatter(1, self.right[:, None], -math.inf).amax(dim=1)).double().mean())


class LeastSquaresGame(LastLayerGame):
    """A ridge-regularised least-squares classifier on the features, fitted exactly to every prefix.

    The layer of a set S is W_S = (λI + Σ_S x xᵀ)⁻¹ Σ_S x yᵀ with one-hot targets y. With P = (λI + Σ x xᵀ)⁻¹ one more
    example changes it, by Sherman & Morrison, by the rank-one matrix P x (y − Wᵀx)ᵀ / (1 + xᵀP x). A block of m rows
    X (m, f) is m such updates at once: with the Cholesky factor L of I + X P Xᵀ, the rows of U = L⁻¹ X P and
    V = L⁻¹ (Y − X W) are the factors of the m steps in their order, because the leading blocks of L are the factors of
    the leading blocks. That makes everything but the judgement of the queries a matrix product.

    The utility is a function of the set alone, and there is no training to tune but λ.

    Args:
        features, labels: (n, f), (n,) of the training examples, such as `penultimate_features` and given labels.
        query_features, query_labels: (q, f), (q,) of the examples to be right on.
        ridge: λ in units of mean ‖x‖² / f: so many pseudo-examples of no class in every direction.
        utility: "accuracy" on the queries: where the right class has the highest output, alone; 1/k for no example.
            "squared-error": −(1/q) Σ ‖y − Wᵀx‖² over the queries; −1 for no example. It costs less, because it takes
            no output for any query, and says more about each example, because it is not in steps of 1/q.
        block: how many prefixes a walk advances at a time; changes speed, and utilities by rounding only.

    Raises:
        RepairError: if the arrays do not belong together or are not finite, or a setting is out of bounds.
    """

    def __init__(
        self,
        features: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        query_features: ArrayLike | Tensor,
        query_labels: ArrayLike | Tensor,
        *,
        ridge: float = 1.0,
        utility: Utility = "accuracy",
        block: int = 64,
    ) -> None:
        super().__init__(features, labels, query_features, query_labels, block=block)
        if not LOWEST_RIDGE <= ridge < math.inf:
            raise RepairError(
                f"ridge is {ridge}: give a number of {LOWEST_RIDGE:g} or more, below which updates lose their precision"
            )
        if utility not in get_args(Utility):
            raise RepairError(f"there is no utility {utility!r}: choose from {', '.join(get_args(Utility))}")
        self.utility = utility
        self.damping = ridge * self.mean_square / self.examples.shape[1]
        if utility == "squared-error":
            self.empty = -1.0

    def layer(self, members: ArrayLike | slice = slice(None)) -> Tensor:
        """(f, k) the layer of the examples at these positions, fitted from scratch."""
        chosen = members if isinstance(members, slice) else torch.as_tensor(np.asarray(members))
        x, y = self.examples[chosen], self.targets[chosen]
        identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        solved: Tensor = torch.linalg.solve(self.damping * identity + x.T @ x, x.T @ y)
        return solved

    def of(self, layer: Tensor) -> float:
        """Utility of a layer (f, k)."""
        if self.utility == "accuracy":
            return self.accuracy(layer)
        wanted = F.one_hot(self.right, layer.shape[1]).to(layer)
        return -float((wanted - self.queries @ layer).square().sum(dim=1).mean())

    @cached_property
    def full(self) -> float:  # type: ignore[override]
        return self.of(self.layer())

    def walk(self, permutations: Positions) -> Walk:
        judge = _Accuracy if self.utility == "accuracy" else _SquaredError
        return _LeastSquaresWalk(self, permutations, judge(self, len(permutations)))


class OneEpochGame(LastLayerGame):
    """G-Shapley's game (Ghorbani & Zou 2019, Algorithm 2): one pass of gradient descent, an example a step.

    A softmax layer starts at 0; the j-th example of a permutation moves it by α x_j (y_j − softmax(W_{j−1}ᵀx_j))ᵀ, and
    what the accuracy on the queries gains is its contribution. To be used without truncation. The utility depends on
    the order and not on the set alone, so these are Shapley values in name; they sum to the mean final accuracy − 1/k.

    Args:
        features, labels, query_features, query_labels, block: as in `LeastSquaresGame`.
        learning_rate: α in units of 1 / mean ‖x‖², such as `best_learning_rate` finds.

    Raises:
        RepairError: if the arrays do not belong together or are not finite, or a setting is out of bounds.
    """

    def __init__(
        self,
        features: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        query_features: ArrayLike | Tensor,
        query_labels: ArrayLike | Tensor,
        *,
        learning_rate: float,
        block: int = 64,
    ) -> None:
        super().__init__(features, labels, query_features, query_labels, block=block)
        if not 0 < learning_rate < math.inf:
            raise RepairError(f"learning_rate is {learning_rate}: give a number above 0")
        self.learning_rate = learning_rate

    @cached_property
    def full(self) -> float:  # type: ignore[override]
        """Accuracy after a pass in the given order of the examples."""
        walk = self.walk(np.arange(self.players)[None])
        for _ in range(0, self.players, self.block):
            final = float(walk.advance()[0, -1])
        return final

    def walk(self, permutations: Positions) -> Walk:
        rates = torch.full((len(permutations),), self.learning_rate, dtype=torch.float64)
        return _OneEpochWalk(self, permutations, rates)


def best_learning_rate(
    features: ArrayLike | Tensor,
    labels: ArrayLike | Tensor,
    query_features: ArrayLike | Tensor,
    query_labels: ArrayLike | Tensor,
    *,
    seed: int,
) -> float:
    """The learning rate, in units of 1 / mean ‖x‖², with the best mean accuracy on the queries after one pass.

    What Ghorbani & Zou 2019 (section 3.2) prescribe for G-Shapley; over eight random orders and fifteen rates from 2⁻¹⁰
    to 2⁴, the smallest of equal ones.

    Args:
        features, labels, query_features, query_labels: as in `OneEpochGame`.
        seed: of the orders.
    """
    game = OneEpochGame(features, labels, query_features, query_labels, learning_rate=1.0)
    random = generator(seed, "learning rate of one epoch")
    orders = np.stack([random.permutation(game.players) for _ in range(PILOT_PERMUTATIONS)])
    rates = torch.tensor(LEARNING_RATES, dtype=torch.float64).repeat_interleave(PILOT_PERMUTATIONS)
    walk = _OneEpochWalk(game, np.tile(orders, (len(LEARNING_RATES), 1)), rates)
    for _ in range(0, game.players, game.block):
        walk.move()
    final = torch.tensor([game.accuracy(layer) for layer in walk.layer])
    return LEARNING_RATES[int(final.view(-1, PILOT_PERMUTATIONS).mean(dim=1).argmax())]


class _Judge(ABC):
    """What rank-one steps do to the utility, for b permutations."""

    @abstractmethod
    def after(self, u: Tensor, v: Tensor, layer: Tensor) -> Tensor:
        """(b, m) utilities after each of m steps u_j v_jᵀ.

        Args:
            u: (b, m, f).
            v: (b, m, k).
            layer: (b, f, k) the layer before them.
        """

    @abstractmethod
    def keep(self, going: Tensor) -> None:
        """Go on with those permutations only where this mask (b,) is true."""


class _Accuracy(_Judge):
    """Keeps every query's outputs, the right class apart from the others."""

    def __init__(self, game: LastLayerGame, count: int) -> None:
        self.queries = game.queries
        q, k = len(game.right), game.targets.shape[1]
        self.one_hot = F.one_hot(game.right, k).to(torch.float64).T.contiguous()
        self.hits = torch.zeros(count, q, dtype=torch.float64, device=game.queries.device)
        # The right class stays at −∞ among the others, whatever is added.
        self.others = torch.zeros(k, q, dtype=torch.float64, device=game.queries.device)
        self.others.masked_fill_(self.one_hot.bool(), -math.inf)
        self.others = self.others.expand(count, k, q).clone()

    def after(self, u: Tensor, v: Tensor, layer: Tensor) -> Tensor:
        at_queries = torch.matmul(self.queries, u.mT).permute(2, 0, 1).contiguous()  # (m, b, q)
        of_right = torch.matmul(v, self.one_hot).transpose(0, 1).contiguous()  # (m, b, q)
        right = torch.empty(at_queries.shape, dtype=torch.bool, device=u.device)
        for step in range(len(at_queries)):
            self.hits.addcmul_(at_queries[step], of_right[step])
            self.others.addcmul_(v[:, step, :, None], at_queries[step][:, None, :])
            torch.gt(self.hits, self.others.amax(dim=1), out=right[step])
        return right.to(torch.float64).mean(dim=2).T

    def keep(self, going: Tensor) -> None:
        self.hits, self.others = self.hits[going], self.others[going]


class _SquaredError(_Judge):
    """With the residuals R = Y − QW of the queries, a step changes ‖R‖² by −2 uᵀQᵀR v + ‖Qu‖²‖v‖²; QᵀQ and QᵀY do."""

    def __init__(self, game: LastLayerGame, count: int) -> None:
        self.count = len(game.right)
        self.squares = game.queries.T @ game.queries
        self.products = game.queries.T @ F.one_hot(game.right, game.targets.shape[1]).to(torch.float64)
        # Every query has a target of norm 1.
        self.error = torch.full((count,), float(self.count), dtype=torch.float64, device=game.queries.device)

    def after(self, u: Tensor, v: Tensor, layer: Tensor) -> Tensor:
        weighted = torch.matmul(u, self.squares)
        slope = torch.matmul(u, self.products) - torch.bmm(
            weighted, layer
        )  # (b, m, k) uᵀQᵀR at the block's start
        inner = torch.bmm(weighted, u.mT) * torch.bmm(v, v.mT)  # (b, m, m)
        # The steps of the block before it, twice, and itself once.
        earlier = 2 * inner.tril(-1).sum(dim=2) + inner.diagonal(dim1=1, dim2=2)
        change = earlier - 2 * (slope * v).sum(dim=2)
        errors = self.error[:, None] + change.cumsum(dim=1)
        self.error = errors[:, -1]
        return -errors / self.count

    def keep(self, going: Tensor) -> None:
        self.error = self.error[going]


class _LastLayerWalk(Walk):
    """Blocks of steps u_j v_jᵀ of the layers of b permutations."""

    def __init__(self, game: LastLayerGame, permutations: Positions, judge: _Judge) -> None:
        self.game = game
        self.judge = judge
        self.orders = torch.from_numpy(np.asarray(permutations)).to(game.examples.device)
        self.done = 0
        f, k = game.examples.shape[1], game.targets.shape[1]
        self.layer = torch.zeros(len(permutations), f, k, dtype=torch.float64, device=game.examples.device)

    def advance(self) -> NDArray[np.float64]:
        before = self.layer
        return self.judge.after(*self.move(), before).cpu().numpy()

    def move(self) -> tuple[Tensor, Tensor]:
        """(b, m, f), (b, m, k) the factors of the next m steps, which the layers have taken."""
        block = self.orders[:, self.done : self.done + self.game.block]
        u, v = self.steps(self.game.examples[block], self.game.targets[block])
        self.layer = torch.baddbmm(self.layer, u.mT, v)
        self.done += block.shape[1]
        return u, v

    @abstractmethod
    def steps(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(b, m, f), (b, m, k) the factors of the steps that examples x (b, m, f) with targets y (b, m, k) make."""

    def keep(self, going: NDArray[np.bool_]) -> None:
        mask = torch.from_numpy(going).to(self.orders.device)
        self.orders, self.layer = self.orders[mask], self.layer[mask]
        self.judge.keep(mask)


class _LeastSquaresWalk(_LastLayerWalk):
    def __init__(self, game: LeastSquaresGame, permutations: Positions, judge: _Judge) -> None:
        super().__init__(game, permutations, judge)
        f = game.examples.shape[1]
        self.inverse = torch.eye(f, dtype=torch.float64, device=game.examples.device) / game.damping
        self.inverse = self.inverse.repeat(len(permutations), 1, 1)

    def steps(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        applied = torch.bmm(x, self.inverse)
        gram = torch.bmm(applied, x.mT)
        gram.diagonal(dim1=1, dim2=2).add_(1)
        factor = torch.linalg.cholesky(gram)
        u = torch.linalg.solve_triangular(factor, applied, upper=False)
        v = torch.linalg.solve_triangular(factor, y - torch.bmm(x, self.layer), upper=False)
        self.inverse.baddbmm_(u.mT, u, alpha=-1)
        return u, v

    def keep(self, going: NDArray[np.bool_]) -> None:
        super().keep(going)
        self.inverse = self.inverse[torch.from_numpy(going).to(self.inverse.device)]


class _OneEpochWalk(_LastLayerWalk):
    """Args: rates: (b,) learning rates of the permutations, in units of 1 / mean ‖x‖²."""

    def __init__(self, game: OneEpochGame, permutations: Positions, rates: Tensor) -> None:
        super().__init__(game, permutations, _Accuracy(game, len(permutations)))
        self.rates = rates.to(game.examples.device) / game.mean_square

    def steps(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x_scaled = x * self.rates[:, None, None]
        inner = torch.bmm(x, x_scaled.mT)
        outputs = torch.bmm(x, self.layer)
        # What each step adds to the outputs for the examples of the block that come after it.
        errors = torch.empty_like(y)
        for step in range(x.shape[1]):
            errors[:, step] = y[:, step] - outputs[:, step].softmax(dim=1)
            outputs.addcmul_(inner[:, :, step, None], errors[:, step, None, :])
        return x_scaled, errors

    def keep(self, going: NDArray[np.bool_]) -> None:
        super().keep(going)
        self.rates = self.rates[torch.from_numpy(going).to(self.rates.device)]
