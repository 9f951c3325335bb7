"""What the page says in numbers: tables and curves of one `Evidence`, ready to be written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelrepair.evaluation.evidence import Answers, Evidence
from modelrepair.evaluation.measures import clusters, intervals
from modelrepair.evaluation.measures.identification import curves
from modelrepair.evaluation.measures.repair import is_right, per_class_table
from modelrepair.evaluation.page.charts import Chart, line_chart

GROUPS = {
    "query": "failures that the method was shown",
    "holdout": "failures that it was not shown",
    "remaining": "what was right before",
}
COURSE = {
    "discovery_accuracy": "all of discovery",
    "kept_accuracy": "of what was right there",
    "query_accuracy": "the failures shown",
}
MOST_CONFUSIONS, MOST_CLASSES = 8, 100


@dataclass(frozen=True)
class Share:
    """A share, how many examples it is of, and its 95 % interval where it is of whole examples."""

    value: float | None
    count: int | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """A line of a table: what it is of, and the shares of the models, the reference's last if there is one."""

    name: str
    shares: tuple[Share, ...]
    noisy: bool = False
    fixed: int | None = None
    broken: int | None = None


@dataclass(frozen=True)
class Kind:
    """A cluster of failures: how the models answer those held out that are nearest to it, how many it has, of what
    share of them its name is, and how many causes drive it most, None where nothing was scored by cluster."""

    row: Row
    size: int
    share: float
    held_out: int
    causes: int | None


def models(evidence: Evidence) -> list[Answers]:
    """The base model, the repaired one and, where there is one, the reference."""
    return [
        answers for answers in (evidence.before, evidence.after, evidence.reference) if answers is not None
    ]


def groups(evidence: Evidence, measured: Mapping[str, Any]) -> list[Row]:
    """Accuracy within the classes together, and on each group of test examples, as in `measured`."""
    numbers = [measured["repair"]["before"], measured["repair"]["after"]]
    sure = intervals.measure(evidence)
    bounds = [sure["before"], sure["after"]]
    if evidence.reference is not None:
        numbers.append(measured["reference"]["after"])
        bounds.append(intervals.measure(replace(evidence, after=evidence.reference))["after"])
    kind = "attributes" if evidence.has_attributes else "classes"
    names = {"all": f"all {kind}, on {len(evidence.assessed):,} for assessment"}
    if numbers[0]["noisy_classes"] is not None:
        names |= {"noisy_classes": "classes that were corrupted", "clean_classes": "the other classes"}
    rows = []
    for group, words in {**names, **GROUPS}.items():
        if numbers[0][group] is None:
            continue
        count = int((evidence.roles == group).sum()) or None
        shares = (
            Share(of[group], count, between[group]) for of, between in zip(numbers, bounds, strict=True)
        )
        rows.append(Row(words, tuple(shares)))
    return rows


def classes(evidence: Evidence) -> tuple[list[Row], str | None]:
    """A row for each class or attribute on the examples for assessment; and which are left out, in words.

    Of more than 100, those whose accuracy changed most.
    """
    seen = evidence.assessed
    truth = evidence.test_labels[seen]
    names = list(evidence.class_names)
    if evidence.has_attributes:
        rows = [_of_attribute(evidence, number, name) for number, name in enumerate(names)]
    else:
        table = per_class_table(
            evidence.before.test_predictions[seen],
            evidence.after.test_predictions[seen],
            truth,
            evidence.noisy_classes,
            names,
        )
        rows = [
            Row(
                name,
                tuple(_share(evidence, answers, seen[truth == number]) for answers in models(evidence)),
                noisy=bool(table["noisy"][number]),
                fixed=int(table["fixed"][number]),
                broken=int(table["broken"][number]),
            )
            for number, name in enumerate(names)
        ]
    rows = [row for row in rows if row.shares[0].count]
    if len(rows) <= MOST_CLASSES:
        return rows, None
    change = [-abs((row.shares[1].value or 0) - (row.shares[0].value or 0)) for row in rows]
    shown = np.sort(np.argsort(change, kind="stable")[:MOST_CLASSES])
    return [rows[place] for place in shown], f"Of {len(rows):,}, the {len(shown)} that changed most."


def confusions(evidence: Evidence) -> list[tuple[str, str, int, int]]:
    """The pairs of classes that are confused most before and after: true, taken for, counts before and after."""
    if evidence.has_attributes:
        return []
    seen = evidence.assessed
    truth, number = evidence.test_labels[seen].astype(np.int64), len(evidence.class_names)
    counted: dict[int, list[int]] = {}
    for side, answers in enumerate((evidence.before, evidence.after)):
        predicted = answers.test_predictions[seen].astype(np.int64)
        wrong = predicted != truth
        for pair, count in zip(
            *np.unique(truth[wrong] * number + predicted[wrong], return_counts=True), strict=True
        ):
            counted.setdefault(int(pair), [0, 0])[side] = int(count)
    worst = sorted(counted.items(), key=lambda item: (-max(item[1]), item[0]))[:MOST_CONFUSIONS]
    return [
        (evidence.class_names[pair // number], evidence.class_names[pair % number], before, after)
        for pair, (before, after) in worst
    ]


def kinds(evidence: Evidence) -> list[Kind]:
    """A row for each cluster of failures, on those held out that are nearest to it; none where they are not divided."""
    found = []
    counted = clusters.measure(evidence) or {}
    for number, (one, (name, counts)) in enumerate(zip(evidence.clusters, counted.items(), strict=True)):
        held_out = np.flatnonzero((evidence.failure_clusters == number) & (evidence.roles == "holdout"))
        found.append(
            Kind(
                Row(name, tuple(_share(evidence, answers, held_out) for answers in models(evidence))),
                size=counts["query"],
                share=one["share"],
                held_out=counts["holdout"],
                causes=counts["causes"],
            )
        )
    return found


def charts(evidence: Evidence) -> list[Chart]:
    """The course of the treatment and, where the truth is known, how soon the causes were found."""
    drawn = []
    course = evidence.course
    steps = course["round"].to_numpy(np.float64)
    lines = {
        words: (steps, course[name].to_numpy(np.float64))
        for name, words in COURSE.items()
        if name in course and course[name].notna().any()
    }
    if lines and len(steps) > 1:
        returned = steps[course["returned"].to_numpy(bool)] if "returned" in course else steps[:0]
        mark = float(returned[0]) if len(returned) else None
        said = f"{len(steps) - 1} points" + (
            f", of which number {mark:.0f} was returned." if mark is not None else "."
        )
        drawn.append(line_chart("Accuracy in the course of the treatment (%)", lines, "point", mark, said))
    found = {
        name: (100 * curve["inspected"].to_numpy(np.float64), curve["found"].to_numpy(np.float64))
        for name, curve in curves(evidence).items()
    }
    if found:
        drawn.append(
            line_chart(
                "Causes found, of all (%), when the highest scores are looked at first",
                found,
                "% of the training examples looked at",
                spoken=". ".join(
                    f"{name}: {np.interp(20, x, 100 * y):.0f} % found in the first 20 %"
                    for name, (x, y) in found.items()
                )
                + ".",
            )
        )
    return drawn


def marks(evidence: Evidence) -> list[Row]:
    """Of what a person listed, how often the models answer the given label and the new one."""
    if evidence.corrections is None:
        return []
    rows = []
    removed, relabelled = (
        evidence.causes[chosen] for chosen in (evidence.corrections < 0, evidence.corrections >= 0)
    )
    given = evidence.given_labels
    for name, members, labels in (
        ("removed, answered as they were labelled", removed, given[removed]),
        ("relabelled, answered as they were labelled", relabelled, given[relabelled]),
        (
            "relabelled, answered as they are labelled now",
            relabelled,
            evidence.corrections[evidence.corrections >= 0],
        ),
    ):
        if not len(members):
            continue
        shares = []
        for answers in models(evidence):
            if answers.training_predictions is None:
                continue
            shares.append(_of_counts(is_right(answers.training_predictions[members], labels)))
        rows.append(Row(name, tuple(shares)))
    return rows


def _share(evidence: Evidence, answers: Answers, members: NDArray[np.int64]) -> Share:
    return _of_counts(is_right(answers.test_predictions[members], evidence.test_labels[members]))


def _of_counts(right: NDArray[np.bool_]) -> Share:
    if not len(right):
        return Share(None, 0)
    low, high = intervals.wilson(int(right.sum()), len(right))
    return Share(float(right.mean()), len(right), (float(low), float(high)))


def _of_attribute(evidence: Evidence, number: int, name: str) -> Row:
    seen = evidence.assessed
    truth = evidence.test_labels[seen][:, number]
    right = [answers.test_predictions[seen][:, number] == truth for answers in models(evidence)]
    return Row(
        name,
        tuple(_of_counts(same) for same in right),
        fixed=int((~right[0] & right[1]).sum()),
        broken=int((right[0] & ~right[1]).sum()),
    )
