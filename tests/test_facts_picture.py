"""The picture of single facts: which are shown, beside which others, and that nothing is drawn where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from evidence_cases import AFTER, BEFORE, CLASSES, COUNT, NO_SCORES, NO_TRUTH, SCORES, TRUE
from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Answers
from modelrepair.evaluation.gathering import gather
from modelrepair.evaluation.pictures import PICTURES, facts
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from models import one_thread  # noqa: F401

# Each of twenty facts has two sentences of training, and is asked for in discovery and in assessment.
FACTS = np.arange(COUNT) % 20
RELATIONS = np.where(FACTS % 2 == 0, "capital", "language")
WORDS = ("[none]", "[blank]", *(f"word {number}" for number in range(8)))


def likeliest(of: Answers, predictions: Any) -> Answers:
    words = (np.asarray(predictions)[:, None] + np.arange(3)) % 10
    return replace(of, likeliest=words, likeliest_probabilities=np.tile([0.7, 0.2, 0.05], (COUNT, 1)))


STATING = replace(
    CLASSES,
    training_inputs=np.tile(np.array([2, 1, 3], dtype=np.int32), (COUNT, 1)),
    test_inputs=np.tile(np.array([4, 1], dtype=np.int32), (COUNT, 1)),
    class_names=WORDS,
    vocabulary=WORDS,
    training_facts=FACTS,
    test_facts=FACTS,
    test_relations=RELATIONS,
    parts=np.where(np.arange(COUNT) < 20, "discovery", "assessment"),
    roles=np.where(BEFORE != TRUE, "query", ""),
    before=likeliest(CLASSES.before, BEFORE),
    after=likeliest(CLASSES.after, AFTER),
)


def test_the_facts_with_the_highest_scores_are_shown_one_of_each_relation_first() -> None:
    worth = {fact: float(SCORES[fact == FACTS].mean()) for fact in range(12)}
    order = sorted(worth, key=lambda fact: -worth[fact])
    first = order[0]
    other = next(fact for fact in order if fact % 2 != first % 2)
    third = next(fact for fact in order if fact not in (first, other))
    assert facts.chosen_facts(STATING) == [first, other, third]
    # What became of them says nothing of which are shown.
    assert facts.chosen_facts(replace(STATING, after=STATING.before)) == [first, other, third]
    assert facts.chosen_facts(replace(STATING, **NO_SCORES)) == [0, 1, 2]
    unasked = np.where(first == FACTS, "discovery", STATING.parts)
    assert first not in facts.chosen_facts(replace(STATING, parts=unasked))


def test_neighbours_are_right_before_and_closest_first() -> None:
    """Of fact 0, whose object is 0 and for which 3 is answered: facts of its relation that are not in the query."""
    found = facts.neighbours(STATING, 0)
    assert {*found} <= {*range(20, COUNT)}
    assert {*FACTS[found]} == {12, 14, 16, 18}
    # Of fact 16 the object is now what is answered for fact 0.
    labels = np.where(np.arange(COUNT) == 36, 3, TRUE)
    before = replace(STATING.before, test_predictions=np.where(BEFORE != TRUE, BEFORE, labels))
    assert facts.neighbours(replace(STATING, test_labels=labels, before=before), 0)[0] == 36


@pytest.mark.parametrize("changes", [{}, NO_SCORES, NO_TRUTH, {"parts": np.full(COUNT, "discovery")}])
def test_same_bytes_twice(changes: dict[str, Any], tmp_path: Path) -> None:
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    evidence = replace(STATING, **changes)
    facts.draw(first, evidence)
    with matplotlib.rc_context({"font.size": 30}):
        facts.draw(second, evidence)
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) > 20_000


def test_nothing_is_drawn_without_failing_facts(tmp_path: Path) -> None:
    assert ("facts.png", facts.draw) in PICTURES
    for evidence in (
        CLASSES,
        replace(STATING, roles=np.full(COUNT, "")),
        replace(STATING, before=CLASSES.before),
        replace(STATING, test_relations=None),
    ):
        facts.draw(tmp_path / "none.png", evidence)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(RepairError, match="relations"):
        replace(STATING, test_relations=RELATIONS[:3])


def test_the_likeliest_words_are_those_of_the_softmax() -> None:
    """Against NumPy, to 1e-12."""
    network = make_network("factlm", (3,), 10, seed=0, width=4, layers=1, heads=1, hidden=4)
    model = TrainedModel(network, Softmax(), batch_size=3, device="cpu")
    inputs = np.array([[2, 1, 3], [1, 4, 0], [5, 6, 1], [1, 0, 0]], dtype=np.int32)
    examples = Examples(inputs, np.array([2, 3, 4, 5]))
    evidence = gather(
        model,
        model,
        examples,
        examples,
        class_names=WORDS,
        causes=[0],
        roles=["query", "", "", ""],
        parts=["discovery"] * 4,
        course=CLASSES.course,
        in_words=True,
    )
    outputs = model.outputs(examples).double().detach().numpy()
    likely = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    order = np.argsort(-likely, axis=1)[:, :3]
    assert evidence.before.likeliest is not None
    assert (evidence.before.likeliest == order).all()
    assert (evidence.before.likeliest[:, 0] == evidence.before.test_predictions).all()
    found = evidence.before.likeliest_probabilities
    np.testing.assert_allclose(found, np.take_along_axis(likely, order, axis=1), atol=1e-12)
