"""Evidence written by hand: 40 training and 40 test examples of ten classes or three attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from modelrepair.evaluation.evidence import Answers, Evidence

COUNT = 40
DIGITS = tuple(str(number) for number in range(10))
LONG_NAMES = tuple(f"a rather long class name, number {number}" for number in range(10))
ATTRIBUTES = ("round", "striped", "very large")
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (COUNT, 1, 28, 28), dtype=np.uint8)
SCORES = GENERATOR.normal(size=COUNT)
TRUE = np.arange(COUNT) % 10
IS_CORRUPTED = SCORES > 0.8
GIVEN = np.where(IS_CORRUPTED, (TRUE + 1) % 10, TRUE)
BEFORE = np.where(np.arange(COUNT) < 12, (TRUE + 3) % 10, TRUE)
AFTER = np.where(np.arange(COUNT) % 7 == 0, (TRUE + 5) % 10, TRUE)
COURSE = pd.DataFrame(
    {
        "round": range(6),
        "discovery_accuracy": [0.80, 0.85, 0.90, 0.88, np.nan, 0.87],
        "query_accuracy": [0.0, np.nan, 0.4, 0.5, 0.6, 0.7],
    }
)


def answers(predictions: Any, seed: int = 1) -> Answers:
    """Some model's answers, with these predictions on the test examples."""
    generator = np.random.default_rng(seed)
    return Answers(
        training_log_likelihoods=-generator.exponential(size=COUNT),
        training_correct=generator.integers(0, 2, COUNT).astype(np.float32),
        test_log_likelihoods=-generator.exponential(size=len(predictions)),
        test_predictions=np.asarray(predictions),
    )


CLASSES = Evidence(
    class_names=DIGITS,
    noisy_classes=(1, 7),
    training_inputs=IMAGES,
    given_labels=GIVEN,
    true_labels=TRUE,
    is_corrupted=IS_CORRUPTED,
    scores=SCORES,
    causes=np.argsort(-SCORES)[:6],
    test_inputs=IMAGES,
    test_labels=TRUE,
    roles=np.where(BEFORE != TRUE, "holdout", "remaining"),
    parts=np.full(COUNT, "assessment"),
    before=answers(BEFORE),
    after=answers(AFTER, seed=2),
    course=COURSE,
)
HAVE = GENERATOR.integers(0, 2, (COUNT, len(ATTRIBUTES))).astype(np.float32)
HAVE_BEFORE = np.where(GENERATOR.random(HAVE.shape) < 0.2, 1 - HAVE, HAVE)
HAVE_AFTER = np.where(GENERATOR.random(HAVE.shape) < 0.1, 1 - HAVE, HAVE)
MULTIPLE = replace(
    CLASSES,
    class_names=ATTRIBUTES,
    noisy_classes=(),
    given_labels=HAVE,
    true_labels=None,
    is_corrupted=None,
    test_labels=HAVE,
    roles=np.where((HAVE_BEFORE != HAVE).any(axis=1), "holdout", "remaining"),
    before=answers(HAVE_BEFORE),
    after=answers(HAVE_AFTER, seed=2),
)
NO_TRUTH: dict[str, Any] = {"true_labels": None, "is_corrupted": None, "noisy_classes": ()}
NO_SCORES: dict[str, Any] = {"scores": None}
CASES = {
    "failures, causes known": CLASSES,
    "failures": replace(CLASSES, **NO_TRUTH),
    "request, causes known": replace(CLASSES, **NO_SCORES),
    "request": replace(CLASSES, **NO_TRUTH, **NO_SCORES),
    "failures in attributes": MULTIPLE,
    "failures in attributes, causes known": replace(
        MULTIPLE, true_labels=1 - HAVE, is_corrupted=IS_CORRUPTED
    ),
    "request for attributes": replace(MULTIPLE, **NO_SCORES),
}
