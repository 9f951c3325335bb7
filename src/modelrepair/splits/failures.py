"""The failures among the test examples: which a method may see, and which are kept from it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import label_array, strata
from modelrepair.errors import RepairError

PARTS = ("reserved", "discovery", "assessment")
PROTOCOLS = ("discovery", "halves")
MOST_CLASSES = 100  # that are all named where failures are counted


class NoFailures(RepairError):  # noqa: N818
    """The model makes no mistake to repair: good news, and the end of the pipeline."""


def split_failures(
    correct: NDArray[np.bool_],
    part: NDArray[np.str_],
    labels: NDArray[Any],
    rng: np.random.Generator,
    *,
    protocol: str = "discovery",
    failure_classes: Collection[int] | None = None,
    required: bool = True,
    most_queries: int | None = None,
    listed: NDArray[np.bool_] | None = None,
    failing: NDArray[np.bool_] | None = None,
) -> pd.DataFrame:
    """The role of every test example in finding, repairing and judging the base model's failures.

    A failure is a misclassified example, or one that is found to fail otherwise, of the failure classes and of those
    listed if these are given. Columns, n rows:

    * `is_failure`: in any part, reserved too.
    * `role`: "query" (Fq: causes are sought for these), "holdout" (Fh: failures that no method sees, does
      the repair carry over?), "remaining" (T\\F: correct, is it kept?), or "" for all others.

    Protocols:

    * `discovery`: query = the failures in discovery; holdout and remaining = the failures and the correctly
      classified in assessment. What is measured is seen by no method.
    * `halves` (Tanno et al. 2022, section 4): query and holdout = random halves of the failures in
      discovery and assessment together, the query with the odd one; remaining = the correctly classified
      there. Examples that methods saw, such as discovery as a stopping rule, are then among the measured.

    Reserved examples, misclassified ones that are no failures, and others found to fail that are no failures, have no
    role.

    Args:
        correct: (n,) whether the base model is right.
        part: (n,) as from `split_test`.
        labels: (n,) true class numbers, or (n, k) attributes.
        rng: draws the halves, and the part of the query where that is limited.
        protocol: one of `PROTOCOLS`.
        failure_classes: class numbers; all by default.
        required: whether there must be a query. A request to erase examples needs none.
        most_queries: at most so many failures in the query, a random part that is contained in any larger one; the
            others have no role. All by default.
        listed: (n,) the examples among which failures are sought; all by default.
        failing: (n,) which examples fail, where that is not those that are misclassified.

    Raises:
        NoFailures: if the query is required and would be empty.
        RepairError: for an unknown protocol, or failure classes where examples have attributes.
    """
    if protocol not in PROTOCOLS:
        raise RepairError(
            f"there is no protocol {protocol!r} for splitting failures: choose one of {', '.join(PROTOCOLS)}"
        )
    is_failure = ~correct if failing is None else failing.copy()
    kept = correct if failing is None else correct & ~failing
    if failure_classes is not None:
        if labels.ndim == 2:
            raise RepairError(
                "failure classes need one class an example, but these have attributes: omit them"
            )
        is_failure &= np.isin(labels, list(failure_classes))

    if listed is not None:
        is_failure &= listed

    discovery, assessment = part == "discovery", part == "assessment"
    role = np.full(len(part), "", dtype="<U10")
    if protocol == "discovery":
        searched = discovery
        role[assessment & kept] = "remaining"
        role[assessment & is_failure] = "holdout"
        role[discovery & is_failure] = "query"
    else:
        searched = discovery | assessment
        role[searched & kept] = "remaining"
        failures = rng.permutation(np.flatnonzero(searched & is_failure))
        role[failures] = "holdout"
        role[failures[: (len(failures) + 1) // 2]] = "query"

    if required and not (role == "query").any():
        among = "" if failure_classes is None else " of the failure classes"
        among += "" if listed is None else " that is listed"
        raise NoFailures(
            f"good news: the base model classifies every example{among} among the {int(searched.sum())} in "
            "which failures are sought correctly, so there is nothing to repair"
        )
    if most_queries is not None:
        role[rng.permutation(np.flatnonzero(role == "query"))[most_queries:]] = ""
    return pd.DataFrame({"is_failure": is_failure, "role": role})


def nested_part(labels: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of `count` random examples, of all classes alike, or of all if there are fewer; ascending.

    With one state of the generator, a smaller part is contained in any larger one.

    Args:
        labels: (n,) class numbers, or (n, k) attributes, which have no classes.
        count: how many.
        rng: draws.
    """
    place = np.zeros(len(labels), dtype=np.int64)
    for _, members in strata(labels):
        place[rng.permutation(members)] = np.arange(len(members))
    # In turn one of each class, the classes in an order that is drawn anew each time.
    return np.sort(np.lexsort((rng.permutation(len(labels)), place))[:count])


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

    The last counts query and holdout; it is left out where examples have attributes instead of classes. Of more than
    100 classes, those without failures are left out.

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
        counts["failures_by_class"] = {
            name: count
            for name, count in zip(classes, per_class, strict=True)
            if count or len(classes) <= MOST_CLASSES
        }
    return counts
