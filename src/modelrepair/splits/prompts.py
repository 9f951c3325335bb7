"""What a model answers to a user's own prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def answers_in_words(table: pd.DataFrame, correct: NDArray[np.bool_], as_named: NDArray[np.bool_]) -> str:
    """How many of the prompts the model has right, and how many wrong as the user says, in a sentence.

    Args:
        table: a row for each test example: `is_own`, `part`, and `wrong`, the number of the wrong answer or -1.
        correct: (t,) whether the model answers rightly.
        as_named: (t,) whether it gives the wrong answer, where there is one.
    """
    asked = (table["is_own"] & (table["part"] == "discovery")).to_numpy(bool)
    told = asked & (table["wrong"] >= 0).to_numpy(bool)
    text = (
        f"prompts of your own: {int(asked.sum())}, of which the model has {int(correct[asked].sum())} right"
    )
    if told.any():
        text += (
            f"; wrong answers that you name: {int(told.sum())}, of which it gives {int(as_named[told].sum())}"
        )
    return text
