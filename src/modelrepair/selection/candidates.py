"""What rules choose from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from modelrepair.data.classes import label_array, names_of


def candidates(table: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """A row for each example that the model was trained on, in order, as rules read them.

    Args:
        table: of all training data, with `example`, `split`, `label` and what else rules read.
        classes: names of the classes or attributes.
    """
    rows = table[table["split"] == "train"].reset_index(drop=True)
    rows["names"] = names_of(label_array(rows["label"]), classes)
    return rows
