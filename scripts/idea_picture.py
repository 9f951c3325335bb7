"""Draw docs/idea.png: the two edits of a posterior, of a classifier with two parameters, which can be looked at whole.

python scripts/idea_picture.py

A logistic regression without intercept has a posterior over a plane. Points of two classes, some of one of which carry
the other's label, teach it a wrong slope. Everything drawn is computed: contours from the likelihood itself, both steps
by `NaturalGradient` with the exact Hessian, scores as the score `loss-change` has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair import (
    Descent,
    Examples,
    Investigation,
    NaturalGradient,
    Softmax,
    TrainedModel,
    fit_curvature,
    influence_scores,
    train,
)
from modelrepair.evaluation.drawing.canvas import BLUE, INK, MUTED, ORANGE

PATH = Path(__file__).parents[1] / "docs/idea.png"
CENTRE, SPREAD = (1.4, 0.7), 1.0
DAMPING, EPSILON = 1e-3, 1.0


class Plane(nn.Module):
    """log p(1 | x) − log p(0 | x) = θ·x."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        half = points @ self.theta / 2
        return torch.stack([-half, half], dim=1)


def draw_points(count: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Points of two classes on either side of a line, with few on the wrong one."""
    labels = rng.integers(0, 2, count)
    points = rng.normal(scale=SPREAD, size=(count, 2)) + np.outer(2 * labels - 1, CENTRE)
    return points, labels


def fitted(examples: Examples) -> TrainedModel:
    """At the mode of its likelihood."""
    model = TrainedModel(Plane(), Softmax())
    for rate in (0.1, 0.01):
        train(model, examples, Descent(learning_rate=rate, rounds=400), batch_size=len(examples), seed=0)
    return model


def contours(axes: Any, examples: Examples, **style: Any) -> None:
    """Of Σ log p(z | θ) over the plane of θ, at 2, 8 and 18 below its top: one, two and three deviations of half a
    Gaussian."""
    first, second = np.meshgrid(np.linspace(*axes.get_xlim(), 160), np.linspace(*axes.get_ylim(), 160))
    signs = 2 * np.asarray(examples.targets) - 1
    margins = (
        np.stack([first.ravel(), second.ravel()], axis=1) @ (np.asarray(examples.inputs) * signs[:, None]).T
    )
    heights = -np.logaddexp(0, -margins).sum(axis=1).reshape(first.shape)
    axes.contour(
        first,
        second,
        heights,
        levels=heights.max() - np.array([18, 8, 2]),
        linewidths=1,
        linestyles="solid",
        **style,
    )


def main() -> None:
    """Compute and draw."""
    rng = np.random.default_rng(5)
    points, right = draw_points(160, rng)
    wrong = (right == 1) & (points[:, 1] > 1.2) & (points[:, 0] < 2.2)
    given = np.where(wrong, 0, right)
    training = Examples(points, given)
    base = fitted(training)
    tests, answers = draw_points(160, rng)
    unseen = Examples(tests, answers)
    failures = unseen.subset(base.correct(unseen).cpu().numpy() == 0)

    curvature = fit_curvature("hessian", base, training).damped(DAMPING)
    step = NaturalGradient(epsilon=EPSILON)
    inserted = step.insert(base, failures, curvature=curvature, count=len(training)).model
    scores = influence_scores(Investigation(base, inserted, training), "loss-change")
    causes = np.argsort(-scores, kind="stable")[: int(wrong.sum())]
    deleted = step.delete(base, training.subset(causes), curvature=curvature, count=len(training)).model
    kept = training.subset(np.setdiff1d(np.arange(len(training)), causes))
    best = fitted(kept)
    places = {
        name: model.parameter_vector.numpy()
        for name, model in (("base", base), ("F", inserted), ("C", deleted), ("kept", best))
    }
    print(
        f"{len(failures)} failures; of {len(causes)} causes {wrong[causes].mean():.0%} are; "
        f"right {base.accuracy(unseen):.1%} before, {deleted.accuracy(unseen):.1%} after"
    )

    plt.rcParams.update({"font.size": 9, "text.color": INK, "axes.edgecolor": MUTED, "axes.labelcolor": INK})
    figure, (left, middle, end) = plt.subplots(1, 3, figsize=(10.4, 3.5), layout="constrained")
    corners = np.stack(list(places.values()))
    for axes in (left, end):
        margin = 0.7 * (corners.max(axis=0) - corners.min(axis=0)).max()
        axes.set(
            xlim=(corners[:, 0].min() - margin, corners[:, 0].max() + margin),
            ylim=(corners[:, 1].min() - margin, corners[:, 1].max() + margin),
            xlabel="$\\theta_1$",
            ylabel="$\\theta_2$",
        )
    contours(left, training, colors=MUTED)
    arrow(left, places["base"], places["F"], ORANGE, "insert $F$")
    dot(left, places["base"], INK, "$\\hat\\theta$")
    left.set_title("1. Insert the failures", loc="left")

    limit = np.abs(scores).max()
    for label, marker in ((0, "s"), (1, "o")):
        members = given == label
        drawn = middle.scatter(
            *points[members].T,
            c=scores[members],
            marker=marker,
            cmap="coolwarm",
            vmin=-limit,
            vmax=limit,
            s=22,
            edgecolors="white",
            linewidths=0.4,
        )
    middle.scatter(
        *np.asarray(failures.inputs).T, marker="x", color=INK, s=26, linewidths=1.2, label="failures"
    )
    middle.scatter(
        *points[causes].T, s=58, facecolors="none", edgecolors=INK, linewidths=0.9, label="taken as causes"
    )
    middle.set(xlabel="$x_1$", ylabel="$x_2$")
    middle.set_title("What became less likely is suspect", loc="left")
    middle.legend(frameon=False, loc="lower right", fontsize=8)
    figure.colorbar(drawn, ax=middle, label="score $s(z)$", shrink=0.85)

    contours(end, training, colors=MUTED, alpha=0.45)
    contours(end, kept, colors=BLUE)
    arrow(end, places["base"], places["C"], BLUE, "delete $C$")
    dot(end, places["base"], INK, "$\\hat\\theta$")
    end.plot(*places["kept"], marker="+", color=BLUE, markersize=11, markeredgewidth=2)
    end.set_title("2. Delete the causes", loc="left")
    for axes in (left, middle, end):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PATH, dpi=130, metadata={"Software": None})


def dot(axes: Any, place: NDArray[np.float64], colour: str, name: str) -> None:
    axes.plot(*place, marker="o", color=colour, markersize=6)
    axes.annotate(name, place, xytext=(-12, -14), textcoords="offset points")


def arrow(axes: Any, start: NDArray[np.float64], stop: NDArray[np.float64], colour: str, name: str) -> None:
    axes.annotate(
        "",
        stop,
        start,
        arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0},
    )
    axes.annotate(name, stop, xytext=(6, 4), textcoords="offset points", color=colour)


if __name__ == "__main__":
    main()
