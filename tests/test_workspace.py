"""What stages hand to methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelrepair.models.workspace import discovery_examples
from modelrepair.pipeline.artifacts import write_array, write_table
from modelrepair.splits.failures import failure_tables, split_failures


@pytest.mark.parametrize("protocol", ["discovery", "halves"])
def test_methods_see_no_held_out_failure(tmp_path: Path, protocol: str) -> None:
    count = 60
    part = np.repeat(["discovery", "assessment", "reserved"], 20)
    correct = np.arange(count) % 3 > 0
    split = split_failures(
        correct, part, np.zeros(count), np.random.default_rng(0), protocol=protocol, required=False
    )
    table = pd.DataFrame({"example": np.arange(count), "part": part, "label": np.arange(count) % 3})
    (tmp_path / "data/original").mkdir(parents=True)
    (tmp_path / "data/failures").mkdir()
    # An example's input is its number.
    write_array(tmp_path / "data/original/test_inputs.npy", np.arange(count, dtype=np.float32)[:, None])
    for name, rows in failure_tables(table, split).items():
        write_table(tmp_path / f"data/failures/{name}.parquet", rows)
    watched, query = discovery_examples(tmp_path)
    held_out = np.flatnonzero(split["role"] == "holdout")
    assert len(held_out) >= 3
    assert not np.isin(held_out, [*watched.inputs.ravel(), *query.inputs.ravel()]).any()
    assert query.inputs.ravel().tolist() == np.flatnonzero(split["role"] == "query").tolist()
    assert query.targets.tolist() == (query.inputs.ravel() % 3).tolist()
    assert set(watched.inputs.ravel()) == set(np.flatnonzero(part == "discovery")) - set(held_out)
