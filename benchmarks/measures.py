"""What the benchmarks of erasure share: measures of a request, and the table that they end in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from modelrepair import keep_freed_memory
from modelrepair.evaluation.measures.erasure import erasure_metrics
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from results_table import show, summarise, write

KEYS = ["dataset", "model", "method", "erased", "fraction", "metric"]

Rows = list[dict[str, Any]]


def over_seeds(rows_of_seed: Callable[[int], Rows], seeds: int, processes: int) -> Rows:
    """The rows of seeds 0, 1, …, side by side in processes of one thread: networks this small gain little from two."""
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_one_thread) as pool:
        return [row for rows in pool.map(rows_of_seed, range(seeds)) for row in rows]


def _one_thread() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def measures(models: Mapping[str, TrainedModel], splits: Mapping[str, Examples]) -> dict[str, float]:
    """The similarity on S, absolute accuracy differences to the retrained model on the four splits of Peste et al. 2021
    (Figure 5), in percentage points, and how well members of S can be told from unseen examples by their loss.

    Args:
        models: "original", "updated" and "retrained".
        splits: "retained_train" (D\\S), "erased_train" (S), "retained_test" (T\\T_a) and "erased_test" (T_a).
    """
    probabilities, losses = {}, {}
    for name, model in models.items():
        probabilities[name] = {
            split: model.likelihood.probabilities(model.outputs(examples)).cpu().numpy()
            for split, examples in splits.items()
        }
        losses[name] = {
            split: -model.log_likelihoods(examples).cpu().numpy() for split, examples in splits.items()
        }
    found = erasure_metrics(
        probabilities,
        {split: examples.targets for split, examples in splits.items()},
        {name: model.parameter_vector.cpu().numpy() for name, model in models.items()},
        losses,
    )
    similarity = found["similarity"]
    wanted = ("normalised_confusion_distance", "similarity_ratio", "relative_parameter_distance")
    values = {name: similarity[name] for name in wanted if name in similarity}
    for split in splits:
        gap = found["gap"][split]
        values[f"accuracy_difference:{split}"] = None if gap is None else 100 * abs(gap)
    values["membership_auc"] = found["membership_updated"]["loss"]
    return {name: value for name, value in values.items() if value is not None}


def report(rows: Rows, path: Path) -> None:
    """Store mean and spread over requests and seeds, and print the means, a row a method and a column a metric."""
    measured = pd.DataFrame(rows)
    table = summarise(measured, KEYS)
    # Of the seeds' epsilons, the geometric mean.
    epsilons = measured.groupby(KEYS, sort=False)["epsilon"]
    means = epsilons.agg(lambda values: np.exp(np.log(values.clip(lower=1e-300)).mean()))
    table.insert(KEYS.index("metric"), "epsilon", means.round(12).to_numpy())
    write(table, path)
    short = table["metric"].str.replace("accuracy_difference:", "Δ ")
    for (dataset, fraction), part in table.assign(metric=short).groupby(["dataset", "fraction"], sort=False):
        wide = part.pivot_table(index=["method", "epsilon"], columns="metric", values="mean", sort=False)
        show(wide.reset_index(), f"{dataset}, {100 * fraction:g} % erased")
    print(f"\nwritten to {path}")
