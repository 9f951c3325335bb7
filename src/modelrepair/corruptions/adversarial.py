"""Inputs changed so that a victim takes them for another class, which becomes their label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from modelrepair.corruptions.base import Attack, TrainingData
from modelrepair.corruptions.drawing import queues_by_class
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import AdversarialSettings


def adversarial(
    settings: AdversarialSettings, data: TrainingData, rng: np.random.Generator, attack: Attack
) -> TrainingData:
    """Tanno et al. 2022, section 4.1: adversarial images with the classes that the victim predicts for them.

    An attack counts where the victim took the input for what it is and takes the changed one for something else. Of
    every class and split as many are drawn, in random order, as it takes for the wanted number to count; those that do
    not count stay as they were.

    Args:
        settings: see there.
        data: see there.
        rng: draws the examples.
        attack: on the victim.

    Raises:
        RepairError: if a class has too few examples on which the attack succeeds.
    """
    queues = list(queues_by_class(settings, data, rng))
    truth, examples = data.true_classes(settings.kind), data.table["example"].to_numpy()
    missing, waiting = [wanted for wanted, _ in queues], [queue for _, queue in queues]
    rows, labels, inputs = [], [], []
    known = tried = succeeded = 0
    while any(missing):
        if any(still > len(queue) for still, queue in zip(missing, waiting, strict=True)):
            raise RepairError(
                f"of {tried} attacks on examples that the victim has right {succeeded} changed what it predicts, and "
                f"too few examples are left to corrupt as many as wanted: give a larger epsilon than "
                f"{settings.epsilon:g}, or a smaller share"
            )
        # So many at once as are missing: none is attacked for nothing.
        turns = [queue[:still] for still, queue in zip(missing, waiting, strict=True)]
        waiting = [queue[still:] for still, queue in zip(missing, waiting, strict=True)]
        turn = np.concatenate(turns)
        outcome = attack(np.asarray(data.inputs[examples[turn]]), truth[turn])
        right = outcome.before == truth[turn]
        counts = right & (outcome.after != outcome.before)
        known, tried, succeeded = known + len(turn), tried + int(right.sum()), succeeded + int(counts.sum())
        rows.append(turn[counts])
        labels.append(outcome.after[counts])
        inputs.append(outcome.inputs[counts])
        of_each = np.split(counts, np.cumsum([len(each) for each in turns])[:-1])
        missing = [still - int(done.sum()) for still, done in zip(missing, of_each, strict=True)]
    if not succeeded:
        return data
    changed = np.concatenate(rows)
    order = np.argsort(changed)
    marks = np.zeros(len(truth), dtype=bool)
    marks[changed] = True
    given = data.table["label"].to_numpy().copy()
    given[changed] = np.concatenate(labels)
    poisoned = data.corrupted(marks, given, np.concatenate(inputs)[order])
    record = {
        "attacked": tried,
        "succeeded": succeeded,
        "success_rate": succeeded / tried,
        "wrong_before": known - tried,
    }
    # What they are called may be any class; those that were attacked lack examples.
    about = data.about | {int(number) for number in np.unique(truth[marks])}
    name = f"{settings.attack}-{settings.epsilon:g}"
    if name in data.attacks:
        name = f"{name}-{len(data.attacks) + 1}"
    return replace(poisoned, about=about, attacks={**data.attacks, name: record})
