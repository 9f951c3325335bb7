"""How many examples a corruption draws, which ones, and in which order they are tried."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from modelrepair.corruptions.base import TrainingData
from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.settings.corruption import DrawnSettings, WithinClassesSettings


def share_of(settings: DrawnSettings, members: int, what: str) -> float:
    """The share that is drawn, `share` itself or `count` of the members.

    Args:
        settings: with one of the two.
        members: those of the training split.
        what: they are, for messages.

    Raises:
        RepairError: if more are to be drawn than there are.
    """
    if settings.share is not None:
        return settings.share
    count = settings.count or 0
    if count > members:
        raise RepairError(
            f"{settings.chosen} is to corrupt {count} {what}, of which there are {members}: give a smaller count"
        )
    return count / members


def wanted_of(share: float, members: int) -> int:
    """The share of so many, rounded."""
    # The small shift makes 0.1·5 round up everywhere, whatever the last binary digit.
    return int(share * members + 0.5 + 1e-9)


def in_random_order(
    group: NDArray[np.bool_], sound: NDArray[np.bool_], wanted: int, kind: str, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of a group's examples that are not corrupted yet, as they are drawn: at random.

    Whether others are corrupted changes nothing in the order of these.

    Args:
        group: (n,) whose.
        sound: (n,) whether an example is not corrupted yet.
        wanted: how many are needed at least.
        kind: the corruption that draws, for the message.
        rng: draws.

    Raises:
        RepairError: if there are fewer.
    """
    members: NDArray[np.int64] = rng.permutation(np.flatnonzero(group))
    members = members[sound[members]]
    if len(members) < wanted:
        raise RepairError(
            f"{kind} is to change {wanted} examples of a group in which the corruptions before it left {len(members)} "
            f"of {int(group.sum())} alone: let them corrupt less, or other classes"
        )
    return members


def drawn_by_split(
    split: NDArray[np.str_], sound: NDArray[np.bool_], share: float, kind: str, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(n,) whether an example is drawn: the share of every split, rounded, at random.

    With one seed a higher share draws the same examples and more.

    Args:
        split: (n,) names.
        sound: (n,) whether an example is not corrupted yet; only such are drawn.
        share: of all of a split, corrupted or not.
        kind: the corruption that draws, for messages.
        rng: draws.
    """
    drawn = np.zeros(len(split), dtype=bool)
    for name in np.unique(split):
        members = split == name
        wanted = wanted_of(share, int(members.sum()))
        drawn[in_random_order(members, sound, wanted, kind, rng)[:wanted]] = True
    return drawn


def queues_by_class(
    settings: WithinClassesSettings, data: TrainingData, rng: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For each split and each of the settings' classes how many are to be corrupted, and those to try, in order.

    With one seed a higher share wants the same examples and more, whatever other classes there are.

    Raises:
        RepairError: if the data lack a class, or have too few of it.
    """
    labels, split = data.true_classes(settings.chosen), data.split
    names = data.classes if settings.classes is None else settings.classes
    numbers = {class_number(name, data.classes) for name in names}
    for place in np.unique(split):
        # All classes are permuted, so that those left out change nothing for the others.
        for number, name in enumerate(data.classes):
            group = (split == place) & (labels == number)
            members = int((labels[split == "train"] == number).sum())
            if number not in numbers or not members:
                rng.permutation(np.flatnonzero(group))
                continue
            share = share_of(settings, members, f"training examples of class {name}")
            wanted = wanted_of(share, int(group.sum()))
            yield wanted, in_random_order(group, data.sound, wanted, settings.chosen, rng)
