"""The causes that a person lists, and what is to be done with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.data.classes import class_number
from modelrepair.errors import RepairError
from modelrepair.lists import expect_values, read_list, whole_number
from modelrepair.selection.rules import Positions, Selection
from modelrepair.settings.selection import ListedSettings
from modelrepair.sound import Sound

COLUMN, ACTION, LABEL, GIVEN = "example", "action", "label", "given"
ACTIONS = ("keep", "remove", "relabel")


@dataclass(frozen=True)
class Mark:
    """A line of a list: what is to be done with an example, and the class that it should have, as a person wrote it.

    `given` is the label that the example had when it was marked, None where the list does not say.
    """

    line: int
    example: int
    action: str = "remove"
    label: str = ""
    given: str | None = None


class Listed(ListedSettings, Selection):
    """The examples that a person lists, but for those that are marked to be kept."""

    def select(
        self, scores: NDArray[np.float64], table: pd.DataFrame, sound: Sound | None = None
    ) -> Positions:
        path = Path(self.file)
        causes = self._causes(path)
        wanted = [mark.example for mark in causes]
        position = pd.Series(np.arange(len(table)), index=table["example"].to_numpy())
        absent = [example for example in wanted if example not in position.index]
        if absent:
            raise RepairError(
                f"{path} lists example {absent[0]}, and {len(absent) - 1} more, that the model was not trained on: "
                "list examples of the training split"
            )
        chosen = np.asarray(position.loc[wanted], dtype=np.int64)
        for mark, place in zip(causes, chosen, strict=True):
            if mark.given is not None:
                _expect_marked_here(mark, table["names"].iloc[place], path)
        return chosen

    def corrections(self, table: pd.DataFrame, classes: Sequence[str]) -> NDArray[np.int64] | None:
        path = Path(self.file)
        causes = self._causes(path)
        if not any(mark.action == "relabel" for mark in causes):
            return None
        told = {mark.example: mark for mark in causes if mark.action == "relabel"}
        new = np.full(len(table), -1, dtype=np.int64)
        for position, (example, given) in enumerate(zip(table["example"], table["label"], strict=True)):
            if example in told:
                new[position] = _new_label(told[example], path, given, classes)
        return new

    @staticmethod
    def _causes(path: Path) -> list[Mark]:
        """The marks of the causes, each example once, in the order of the list."""
        found: dict[int, Mark] = {}
        for mark in read_marks(path):
            first = found.setdefault(mark.example, mark)
            if (first.action, first.label) != (mark.action, mark.label):
                raise RepairError(
                    f"lines {first.line} and {mark.line} of {path} differ on example {mark.example}: leave one of them"
                )
        causes = [mark for mark in found.values() if mark.action != "keep"]
        if not causes:
            raise RepairError(
                f"{path} keeps all {len(found)} examples that it lists: mark at least one as a cause"
            )
        return causes


def _expect_marked_here(mark: Mark, names: Sequence[str], path: Path) -> None:
    """Nothing if an example has the label that it had when it was marked.

    Args:
        mark: that says which.
        names: of the class of its example.
        path: of the list, for messages.

    Raises:
        RepairError: if not.
    """
    if str(mark.given).split() != " ".join(names).split():
        raise RepairError(
            f"line {mark.line} of {path} marks example {mark.example} as one with the label {mark.given!r}, and it has "
            f"{', '.join(names)!r} here, so the marks are of other data: save them on the page of these"
        )


def _new_label(mark: Mark, path: Path, given: Any, classes: Sequence[str]) -> int:
    """The number of the class that a cause should have."""
    if np.ndim(given):
        raise RepairError(
            f"line {mark.line} of {path} relabels example {mark.example}, which has attributes in place of one class: "
            "mark it to be removed"
        )
    names = {name.strip(): name for name in classes}
    try:
        new = class_number(names.get(mark.label, mark.label), classes)
    except RepairError as error:
        raise RepairError(f"line {mark.line} of {path}: {error}") from None
    if new == int(given):
        raise RepairError(
            f"line {mark.line} of {path} relabels example {mark.example} as {mark.label!r}, which is the label that it "
            "has: mark it to be kept, or give another"
        )
    return new


def read_marks(path: Path) -> list[Mark]:
    """The lines of a CSV file with commas: the numbers in the column `example` and, if there is a column `action`, what
    it says (keep, remove or relabel) with the class in the column `label`. Without it all are to be removed. A column
    `given` beside it, as the page writes it, is the label that the example had as it was marked.

    A request erases what it names, so nothing is guessed: every row must have the columns of the first, and a whole
    number where the example stands. Empty values behind the last column are passed over, as spreadsheets write them.

    Raises:
        RepairError: if there is no such file, or it is anything else; names the line.
    """
    columns, lines = read_list(
        path,
        column=COLUMN,
        of="training example",
        missing="which lists the causes: write it, or choose another selection",
    )
    place = columns.index(COLUMN)
    for name in (ACTION, LABEL) if ACTION in columns else ():
        if columns.count(name) != 1:
            raise RepairError(
                f"{path} has {columns.count(name)} columns {name}: give one, beside the columns {COLUMN} and {ACTION}"
            )
    marks = []
    for line in lines:
        expect_values(line, columns, len(columns) if ACTION in columns else place + 1, path)
        example = whole_number(line, place, COLUMN, path)
        if ACTION not in columns:
            marks.append(Mark(line.number, example))
            continue
        action, label = (line.values[columns.index(name)] for name in (ACTION, LABEL))
        if action not in ACTIONS:
            raise RepairError(
                f"line {line.number} of {path} has {action[:40]!r} in the column {ACTION}: give one of "
                f"{', '.join(ACTIONS)}"
            )
        if (action == "relabel") != bool(label):
            raise RepairError(
                f"line {line.number} of {path} {'relabels without' if not label else f'says {action} with'} a label: "
                "give one where the action is relabel, and there alone"
            )
        given = line.values[columns.index(GIVEN)] if GIVEN in columns else None
        marks.append(Mark(line.number, example, action, label, given))
    if not marks:
        raise RepairError(f"{path} lists no causes: give one training example in each row below {COLUMN}")
    return marks
