"""Facts that are stated wrongly wherever they are stated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from modelrepair.corruptions.base import TrainingData
from modelrepair.corruptions.drawing import wanted_of
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import FalseFactsSettings


def false_facts(settings: FalseFactsSettings, data: TrainingData, rng: np.random.Generator) -> TrainingData:
    """A share of the facts of every relation, rounded, gets another object of the relation in all its sentences.

    The other object is drawn at random from the different ones that the relation has. With one seed a higher share
    makes the same facts wrong, with the same objects, and more. Facts of which a sentence is corrupted already are left
    alone.

    Raises:
        RepairError: if the examples state no facts, a relation has one object alone, or too few facts are left.
    """
    truth = data.true_classes(settings.kind)
    if not {"fact", "relation"} <= {*data.table.columns}:
        raise RepairError(
            "false-facts needs sentences that state facts, which these data are not: use the source facts, or another "
            "corruption"
        )
    facts = data.table["fact"].to_numpy(dtype=np.int64)
    touched = {*facts[~data.sound].tolist()}
    given, marks = data.table["label"].to_numpy(copy=True), np.zeros(len(facts), dtype=bool)
    for relation, members in data.table.groupby("relation", sort=True)["fact"]:
        numbers, first = np.unique(members.to_numpy(dtype=np.int64), return_index=True)
        right = truth[data.table.index.get_indexer(members.index[first])]
        for fact, true, false in _in_order(numbers, right, touched, settings.share, str(relation), rng):
            stated = facts == fact
            assert (truth[stated] == true).all()
            given[stated], marks[stated] = false, True
    return data.corrupted(marks, labels=given)


def _in_order(
    numbers: NDArray[np.int64],
    right: NDArray[np.int64],
    touched: set[int],
    share: float,
    relation: str,
    rng: np.random.Generator,
) -> list[tuple[int, int, int]]:
    """The facts of a relation that are to be wrong, with their right and their wrong objects.

    Args:
        numbers: (m,) of the facts.
        right: (m,) their objects.
        touched: facts that are to be left alone.
        share: of the facts that is to be wrong.
        relation: its name, for messages.
        rng: draws, the same whatever the share is.
    """
    objects = np.unique(right)
    if len(objects) < 2:
        raise RepairError(
            f"all {len(numbers)} facts of the relation {relation!r} have one object, so that none can have another of "
            "the relation: leave the relation out, or take more facts_per_relation"
        )
    order = rng.permutation(len(numbers))
    # How far behind the right one the wrong one stands among the objects, in a circle.
    steps = rng.integers(1, len(objects), size=len(numbers))
    wrong = objects[(np.searchsorted(objects, right) + steps) % len(objects)]
    free = [place for place in order if int(numbers[place]) not in touched]
    wanted = wanted_of(share, len(numbers))
    if len(free) < wanted:
        raise RepairError(
            f"false-facts is to change {wanted} facts of the relation {relation!r}, of which the corruptions before it "
            f"left {len(free)} of {len(numbers)} alone: let them corrupt less"
        )
    return [(int(numbers[place]), int(right[place]), int(wrong[place])) for place in free[:wanted]]
