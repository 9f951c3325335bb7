"""The pipeline's artefacts as objects of the library: which file holds what is known here alone.

| folder | content |
|---|---|
| data/original/ | `train_inputs.npy`, `train.parquet`, `test_inputs.npy`, `test.parquet`, `dataset.json`; |
| | `tokeniser.json` of sentences in a language model's tokens |
| models/victim/ | the model that adversarial examples were made against, if there are any |
| data/corrupted/ | `train.parquet` with given and true labels, `corruption.json`; `inputs.npy` if inputs changed; |
| | `test_inputs.npy` and `test.parquet` if test examples with a trigger were added |
| data/known/ | `causes.parquet`: positions of the training examples that are known to be causes |
| data/failures/ | `discovery.parquet`, `reserved.parquet`, `assessment.parquet`: rows of the test set |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import label_array
from modelrepair.data.sentences import Language, Words
from modelrepair.data.tokens import Tokens
from modelrepair.models.examples import Examples
from modelrepair.pipeline.artifacts import read_array, read_json, read_table


def training_examples(root: Path, split: str = "train") -> tuple[Examples, pd.DataFrame]:
    """Examples of one split ("train" or "validation") with their given labels, and their table, row by row."""
    folder = root / "data" / "corrupted"
    changed = folder / "inputs.npy"
    inputs = read_array(changed if changed.exists() else root / "data" / "original" / "train_inputs.npy")
    table = read_table(folder / "train.parquet")
    table = table[table["split"] == split].reset_index(drop=True)
    return _examples(inputs, table), table


def test_examples(root: Path, table: pd.DataFrame) -> Examples:
    """The test examples that a table's `example` column names, with its labels."""
    return _examples(read_array(_of_tests(root, "test_inputs.npy")), table)


def test_rows(root: Path) -> pd.DataFrame:
    """All test examples: `example`, `part`, `label`, and `is_triggered` where copies with a trigger are among them."""
    return read_table(_of_tests(root, "test.parquet"))


def corrupted_domain(root: Path, tests: pd.DataFrame) -> tuple[NDArray[np.bool_] | None, int | None]:
    """Which test examples the corruption is about, and the attacker's class; None where there is no such thing.

    Args:
        root: of the pipeline.
        tests: a row for each, with `label` and, where copies with a trigger are among them, `is_triggered`.
    """
    domain = read_json(root / "data" / "corrupted" / "corruption.json").get("domain")
    if domain is None:
        return None, None
    inside = tests["label"].isin(domain.get("classes", [])).to_numpy(bool)
    if "trigger" in domain:
        return inside | tests["is_triggered"].to_numpy(bool), int(domain["label"])
    return inside, None


def discovery_examples(root: Path) -> tuple[Examples, Examples]:
    """What methods may see of discovery: the examples that a treatment may be judged by, and the failures among all.

    Held-out failures, which a protocol may leave in the table, are in neither.
    """
    table = failures(root, "discovery")
    examples = test_examples(root, table)
    return examples.subset(table["is_watched"].to_numpy(bool)), examples.subset(
        table["is_query"].to_numpy(bool)
    )


def failure_clusters(root: Path) -> NDArray[np.int64] | None:
    """(m,) from 0, the cluster of each failure that methods may see, as `discovery_examples` has them; None where they
    are not divided."""
    table = failures(root, "discovery")
    if "cluster" not in table:
        return None
    clusters: NDArray[np.int64] = table.loc[table["is_query"], "cluster"].to_numpy(dtype=np.int64)
    return clusters


def reserved_examples(root: Path) -> Examples:
    """The test examples that were set aside as clean, for methods that need some."""
    return test_examples(root, failures(root, "reserved"))


def failures(root: Path, part: str) -> pd.DataFrame:
    """The table of one part: "discovery", "reserved" or "assessment"."""
    return read_table(root / "data" / "failures" / f"{part}.parquet")


def known_causes(root: Path) -> NDArray[np.int64]:
    """Positions, among the training examples, of the causes that are known beforehand."""
    return read_table(root / "data" / "known" / "causes.parquet")["position"].to_numpy(dtype=np.int64)


def posterior_folders(folder: Path, count: int) -> list[Path]:
    """Where, below the folder of the posteriors, that of each of several clusters of failures is."""
    return [folder / f"cluster-{number}" for number in range(count)]


def dataset_description(root: Path) -> dict[str, Any]:
    """`classes`, `input_shape`, `likelihood` and the origin of the data, in words."""
    content: dict[str, Any] = read_json(root / "data" / "original" / "dataset.json")
    return content


def language_of(root: Path) -> Language:
    """How the data set's sentences became numbers: by words of its own, or by a language model's tokeniser."""
    folder = root / "data" / "original"
    described = dataset_description(root)
    if "tokens" in described:
        return Tokens.read(folder, **described["tokens"])
    return Words(described["classes"])


def _of_tests(root: Path, name: str) -> Path:
    """A file of the test examples: as the corruption left it, or else the original."""
    changed = root / "data" / "corrupted" / name
    return changed if changed.exists() else root / "data" / "original" / name


def _examples(inputs: Any, table: pd.DataFrame) -> Examples:
    return Examples(inputs, label_array(table["label"]), table["example"].to_numpy())
