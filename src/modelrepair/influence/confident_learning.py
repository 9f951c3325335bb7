"""What networks that never saw an example think of its label (Northcutt et al. 2021, arXiv:1911.00068)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from modelrepair.base_training.train import train
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.influence.base import Influence, Investigation
from modelrepair.settings.influence import ConfidentLearningSettings
from modelrepair.training.conditions import conditions_as
from modelrepair.training.descent import descent_as


class ConfidentLearning(ConfidentLearningSettings, Influence):
    """½ − q, with q the label quality of cleanlab by normalised margin, (p_y − max_{j≠y} p_j + 1)/2.

    The probabilities p are out of fold: each example's by a network that was trained anew on the other folds. Positive
    where another class is more likely than the given one.
    """

    def scores(self, investigation: Investigation) -> NDArray[np.float64]:
        # It takes a second to import.
        from cleanlab.rank import get_label_quality_scores

        targets = np.asarray(investigation.examples.targets)
        if targets.ndim != 1:
            raise RepairError(
                "the score confident-learning needs examples with one class each, and these have attributes: choose "
                "another score"
            )
        quality = get_label_quality_scores(
            targets, self.out_of_fold(investigation), method="normalized_margin", adjust_pred_probs=False
        )
        return np.asarray(0.5 - np.asarray(quality, dtype=np.float64))

    def out_of_fold(self, investigation: Investigation) -> NDArray[np.float64]:
        """(n, k) probabilities of each example by a network that was trained without its fold.

        Raises:
            RepairError: if there is no way to make a network, or there are fewer examples than folds.
        """
        examples = investigation.examples
        if investigation.fresh is None:
            raise RepairError(
                "the score confident-learning trains networks anew and there is no way to make one: give the "
                "investigation a function `fresh`, or choose another score"
            )
        if len(examples) < self.folds:
            raise RepairError(
                f"{len(examples)} training examples cannot be cut into {self.folds} folds: use fewer folds"
            )
        folds = balanced_folds(np.asarray(examples.targets), self.folds, seed=investigation.seed)
        found: NDArray[np.float64] | None = None
        for fold in range(self.folds):
            model = investigation.fresh()
            train(
                model,
                examples.subset(folds != fold),
                descent_as(self, self.epochs),
                batch_size=self.batch_size,
                seed=investigation.seed,
                conditions=conditions_as(self),
                description=f"training without fold {fold + 1} of {self.folds}",
            )
            left_out = np.flatnonzero(folds == fold)
            outputs = model.outputs(examples.subset(left_out))
            chances = torch.softmax(outputs.double(), dim=1).cpu().numpy()
            found = np.empty((len(examples), chances.shape[1])) if found is None else found
            found[left_out] = chances
        assert found is not None
        return found


def balanced_folds(labels: NDArray[np.int64], count: int, *, seed: int) -> NDArray[np.int64]:
    """(n,) a random fold for each example, such that every class is spread evenly over the folds.

    Args:
        labels: (n,) class numbers.
        count: of the folds.
        seed: of the draw.
    """
    order = generator(seed, "folds").permutation(len(labels))
    # Ordered by class, in random order within it, examples are dealt out in turn.
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % count
    return folds
