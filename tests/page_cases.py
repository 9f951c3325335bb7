"""Pages of evidence written by hand, with class names that try to leave their place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from modelrepair.evaluation.evidence import Answers, Evidence
from modelrepair.evaluation.links import Links
from modelrepair.evaluation.measures import measure_all
from modelrepair.evaluation.page import Run, write_page

NAMES = (
    "zero",
    "</script><script>document.title='left'</script>",
    'quote " and, comma',
    "<b>&amp;</b>",
    "ثلاثة",
)
SCORE = {
    "score": "loss",
    "unit": "nats",
    "meaning": "score > 0: removing the example should lower the failure loss",
}
RUN = Run(
    used={
        "method": "mend",
        "identification": "second-look",
        "treatment": "mend",
        "selection": "positive",
        "uses": "guard",
    },
    parameters={"method": "mend", "dataset": "a $b's", "seed": "0"},
    score=SCORE,
)


def evidence(count: int, tests: int = 120, *, side: int = 28, seed: int = 0) -> Evidence:
    """Of `count` training examples, blobs of five classes, a fifth of them labelled wrongly."""
    draw = np.random.default_rng(seed)
    true, right = draw.integers(0, 5, count), draw.integers(0, 5, tests)
    corrupted = draw.random(count) < 0.2
    given = np.where(corrupted, (true + 1) % 5, true)
    scores = draw.normal(size=count) + 3 * corrupted
    before = np.where(draw.random(tests) < 0.3, (right + 2) % 5, right)
    after = np.where(draw.random(tests) < 0.1, (right + 3) % 5, right)
    course = pd.DataFrame(
        {
            "round": range(4),
            "discovery_accuracy": [0.7, 0.8, np.nan, 0.9],
            "returned": [False, False, False, True],
        }
    )

    def answers(predictions: Any, believed: Any) -> Answers:
        return Answers(
            training_log_likelihoods=-draw.exponential(size=count),
            training_correct=(believed == given).astype(np.float32),
            test_log_likelihoods=-draw.exponential(size=tests),
            test_predictions=predictions,
            training_predictions=believed,
        )

    return Evidence(
        class_names=NAMES,
        noisy_classes=(1,),
        training_inputs=blobs(true, side, draw),
        given_labels=given,
        true_labels=true,
        is_corrupted=corrupted,
        scores=scores,
        causes=np.argsort(-scores, kind="stable")[: count // 5],
        test_inputs=blobs(right, side, draw),
        test_labels=right,
        roles=np.where(before == right, "remaining", np.where(np.arange(tests) % 2, "query", "holdout")),
        parts=np.where(np.arange(tests) % 2, "discovery", "assessment"),
        before=answers(before, np.where(draw.random(count) < 0.5, true, given)),
        after=answers(after, true),
        course=course,
        training_numbers=2 * np.arange(count) + 1,
        test_numbers=np.arange(tests) + 7,
    )


def texts(count: int, length: int = 5) -> Evidence:
    """The same of texts of so many words, of which the first is number 0, which is none."""
    of, draw = evidence(count), np.random.default_rng(2)
    train, test = (
        draw.integers(1, 9, (len(labels), length + 1)) for labels in (of.given_labels, of.test_labels)
    )
    train[:, 0] = test[:, 0] = 0
    words = tuple(f"word{number}" for number in range(9))
    return replace(of, training_inputs=train, test_inputs=test, vocabulary=words)


def with_clusters(of: Evidence) -> Evidence:
    """The same with its failures in three clusters, the last of which nothing drives, and with causes by cluster."""
    failing = of.before.test_predictions != of.test_labels
    numbers = np.where(failing, np.minimum(of.test_labels // 2, 2), -1)
    assert of.test_numbers is not None
    described = []
    for number in range(3):
        members = np.flatnonzero((numbers == number) & (of.roles == "query"))
        described.append(
            {
                "name": f"{NAMES[2 * number]} taken for {NAMES[(2 * number + 2) % 5]}",
                "share": 0.5,
                "size": len(members),
                "typical": of.test_numbers[members[:4]].tolist(),
            }
        )
    driven = np.arange(len(of.given_labels)) % 2
    return replace(of, clusters=tuple(described), failure_clusters=numbers, driven_clusters=driven)


def blobs(labels: Any, side: int, draw: np.random.Generator) -> Any:
    """(n, 1, side, side) bytes: a disc whose place is the class's, with some noise within it."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    centre = 0.3 + 0.1 * labels[:, None, None]
    inside = (rows - centre) ** 2 + (columns - 0.5) ** 2 < 0.04 + 0.02 * draw.random((len(labels), 1, 1))
    noise = draw.integers(120, 256, (len(labels), side, side))
    return (inside * noise)[:, None].astype(np.uint8)


def links(of: Evidence, seed: int = 1) -> Links:
    """Random ones between all suspects and the failures shown."""
    assert of.scores is not None
    suspects = np.argsort(-of.scores, kind="stable")[:10_000]
    failures = np.flatnonzero(of.roles == "query")
    pull = np.random.default_rng(seed).normal(size=(len(suspects), len(failures))).astype(np.float32)
    return Links(suspects, failures, pull)


def page(path: Path, of: Evidence, tied: Links | None = None, run: Run = RUN) -> Path:
    """The page of this evidence, written to a path."""
    if of.scores is None:
        run = replace(run, score=None)
    write_page(path, of, links(of) if tied is None else tied, measure_all(of), run)
    return path


def records(path: Path) -> Any:
    """The page's block of JSON."""
    text = path.read_text(encoding="utf-8")
    (block,) = text.split('<script type="application/json" id="records">')[1:]
    return json.loads(block.split("</script>")[0])
