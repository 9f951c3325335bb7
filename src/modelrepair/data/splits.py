"""Who may see which example: training and validation, the three parts of the test set, the failures in it.

* **reserved**: a clean set for the methods that need one.
* **discovery**: where failures are found; treatments may watch their accuracy on it.
* **assessment**: where everything that is reported is measured; no method ever sees it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import label_array, label_column, strata
from modelrepair.errors import RepairError

PARTS = ("reserved", "discovery", "assessment")
PROTOCOLS = ("discovery", "halves")


class NoFailures(RepairError):  # noqa: N818
    """The model makes no mistake to repair: good news, and the end of the pipeline."""


def split_training(
    labels: NDArray[Any], validation_fraction: float, rng: np.random.Generator
) -> NDArray[np.str_]:
    """(n,) "train" or "validation": that fraction of every class, rounded, at random.

    A class always keeps at least one training example.

    Args:
        labels: (n,) class numbers, or (n, k) attributes, which are split as one stratum.
        validation_fraction: at least 0 and below 1.

    Raises:
        RepairError: if the fraction is out of range.
    """
    if not 0 <= validation_fraction < 1:
        raise RepairError(
            f"validation_fraction is {validation_fraction}: give a number of at least 0 and below 1"
        )
    split = np.full(len(labels), "train", dtype="<U10")
    for _, members in strata(labels):
        # The small shift makes 0.1·5 round up everywhere, whatever the last binary digit.
        count = min(int(validation_fraction * len(members) + 0.5 + 1e-9), len(members) - 1)
        split[rng.permutation(members)[:count]] = "validation"
    return split


def training_table(labels: NDArray[Any], split: NDArray[np.str_]) -> pd.DataFrame:
    """One row for each training example: `example` (its row in the inputs), `split`, `label`."""
    return pd.DataFrame({"example": np.arange(len(labels)), "split": split, "label": label_column(labels)})


def split_test(
    labels: NDArray[Any], settings: Mapping[str, Any], rng: np.random.Generator
) -> NDArray[np.str_]:
    """(n,) "reserved", "discovery" or "assessment" for each test example, at random within its class.

    Reserved and assessment are balanced: every class gives the same number, and where a total does not
    divide, the first classes give one more. Discovery is the rest, as unbalanced as the test set is.

    Args:
        labels: (n,) class numbers, or (n, k) attributes, which are split as one stratum.
        settings: totals `reserved` and `assessment`; the published repair tables are means over balanced
            assessment sets.

    Raises:
        RepairError: if a total is no whole number, a class has too few examples, or discovery is left
            empty.
    """
    totals: dict[str, int] = {}
    for part in ("reserved", "assessment"):
        total = settings.get(part)
        if isinstance(total, bool) or not isinstance(total, int | np.integer) or total < 0:
            raise RepairError(f"the size of {part} is {total!r}: give a whole number of 0 or more")
        totals[part] = int(total)
    groups = list(strata(labels))
    split = np.full(len(labels), "discovery", dtype="<U10")
    for position, (number, members) in enumerate(groups):
        reserved, assessment = (
            total // len(groups) + (position < total % len(groups)) for total in totals.values()
        )
        if reserved + assessment > len(members):
            raise RepairError(
                f"class {number} has {len(members)} test examples, fewer than the {reserved} for reserved and "
                f"{assessment} for assessment that {totals['reserved']} and {totals['assessment']} in all ask "
                "of it: make these two smaller"
            )
        shuffled = rng.permutation(members)
        split[shuffled[:reserved]] = "reserved"
        split[shuffled[reserved : reserved + assessment]] = "assessment"
    if not (split == "discovery").any():
        raise RepairError(
            f"reserved ({totals['reserved']}) and assessment ({totals['assessment']}) take all {len(labels)} "
            "test examples and leave none to discover failures in: make one of them smaller"
        )
    return split


def test_table(labels: NDArray[Any], part: NDArray[np.str_]) -> pd.DataFrame:
    """One row for each test example: `example` (its row in the inputs), `part`, `label`."""
    return pd.DataFrame({"example": np.arange(len(labels)), "part": part, "label": label_column(labels)})


def split_failures(
    correct: NDArray[np.bool_],
    part: NDArray[np.str_],
    labels: NDArray[Any],
    rng: np.random.Generator,
    *,
    protocol: str = "discovery",
    failure_classes: Collection[int] | None = None,
    required: bool = True,
) -> pd.DataFrame:
    """The role of every test example in finding, repairing and judging the base model's failures.

    A failure is a misclassified example, of the failure classes if these are given. Columns, n rows:

    * `is_failure`: in any part, reserved too.
    * `role`: "query" (Fq: causes are sought for these), "holdout" (Fh: failures that no method sees, does
      the repair carry over?), "remaining" (T\\F: correct, is it kept?), or "" for all others.

    Protocols:

    * `discovery`: query = the failures in discovery; holdout and remaining = the failures and the correctly
      classified in assessment. What is measured is seen by no method.
    * `halves` (Tanno et al. 2022, section 4): query and holdout = random halves of the failures in
      discovery and assessment together, the query with the odd one; remaining = the correctly classified
      there. Examples that methods saw, such as discovery as a stopping rule, are then among the measured.

    Reserved examples, and misclassified ones of other than the failure classes, have no role.

    Args:
        correct: (n,) whether the base model is right.
        part: (n,) as from `split_test`.
        labels: (n,) true class numbers, or (n, k) attributes.
        rng: draws the halves; unused by the other protocol.
        protocol: one of `PROTOCOLS`.
        failure_classes: class numbers; all by default.
        required: whether there must be a query. A request to erase examples needs none.

    Raises:
        NoFailures: if the query is required and would be empty.
        RepairError: for an unknown protocol, or failure classes where examples have attributes.
    """
    if protocol not in PROTOCOLS:
        raise RepairError(
            f"there is no protocol {protocol!r} for splitting failures: choose one of {', '.join(PROTOCOLS)}"
        )
    is_failure = ~correct
    if failure_classes is not None:
        if labels.ndim == 2:
            raise RepairError(
                "failure classes need one class an example, but these have attributes: omit them"
            )
        is_failure &= np.isin(labels, list(failure_classes))

    discovery, assessment = part == "discovery", part == "assessment"
    role = np.full(len(part), "", dtype="<U10")
    if protocol == "discovery":
        searched = discovery
        role[assessment & correct] = "remaining"
        role[assessment & is_failure] = "holdout"
        role[discovery & is_failure] = "query"
    else:
        searched = discovery | assessment
        role[searched & correct] = "remaining"
        failures = rng.permutation(np.flatnonzero(searched & is_failure))
        role[failures] = "holdout"
        role[failures[: (len(failures) + 1) // 2]] = "query"

    if required and not (role == "query").any():
        among = "" if failure_classes is None else " of the failure classes"
        raise NoFailures(
            f"good news: the base model classifies every example{among} among the {int(searched.sum())} in "
            "which failures are sought correctly, so there is nothing to repair"
        )
    return pd.DataFrame({"is_failure": is_failure, "role": role})


def failure_tables(table: pd.DataFrame, failures: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table for each of `PARTS`, so that a stage can be given one part and none of the others.

    Besides `is_failure` and `role`, discovery says what a method may do with an example: `is_query`, seek its
    causes; `is_watched`, judge the points of a treatment by it. Under the protocol `halves` it also holds the
    queries from assessment, which are not watched. A held-out failure is never watched.

    Args:
        table: as from `test_table`.
        failures: as from `split_failures`, row by row.
    """
    joined = pd.concat([table, failures], axis=1)
    query = joined["role"] == "query"
    parts = {part: joined[joined["part"] == part].reset_index(drop=True) for part in PARTS}
    discovery = joined[(joined["part"] == "discovery") | query].reset_index(drop=True)
    parts["discovery"] = discovery.assign(
        is_query=discovery["role"] == "query",
        is_watched=(discovery["part"] == "discovery") & (discovery["role"] != "holdout"),
    )
    return parts


def failure_counts(table: pd.DataFrame, failures: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """How many examples are `query`, `holdout`, `remaining`, and of each class `failures_by_class`.

    The last counts query and holdout; it is left out where examples have attributes instead of classes.

    Args:
        table: as from `test_table`.
        failures: as from `split_failures`, row by row.
        classes: class names.
    """
    counts: dict[str, Any] = {
        role: int((failures["role"] == role).sum()) for role in ("query", "holdout", "remaining")
    }
    labels = label_array(table["label"])
    if labels.ndim == 1:
        of_role = labels[failures["role"].isin(["query", "holdout"])]
        per_class = np.bincount(of_role, minlength=len(classes)).tolist()
        counts["failures_by_class"] = dict(zip(classes, per_class, strict=True))
    return counts
