"""What a model answers to a user's own prompts."""

from __future__ import annotations

import pandas as pd

from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel


def answers_in_words(model: TrainedModel, examples: Examples, table: pd.DataFrame) -> str:
    """How many of the prompts the model has right, and how many wrong as the user says, in a sentence.

    Args:
        model: the one that fails.
        examples: the test examples.
        table: a row for each: `is_own`, `part`, `label`, and `wrong`, the number of the wrong answer or -1.
    """
    asked = (table["is_own"] & (table["part"] == "discovery")).to_numpy(bool)
    wrong = table["wrong"].to_numpy()
    told = asked & (wrong >= 0)
    right = int(model.correct(examples.subset(asked)).sum())
    text = f"of {int(asked.sum())} prompts of your own the model has {right} right, which are no failures"
    if told.any():
        named = examples.subset(told).with_targets(wrong[told])
        text += (
            f"; of {int(told.sum())} wrong answers that you name it gives {int(model.correct(named).sum())}"
        )
    return text
