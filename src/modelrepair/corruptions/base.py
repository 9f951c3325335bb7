"""The training data, and what a corruption is given and leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from modelrepair.errors import RepairError


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack on a victim made of m inputs.

    Attributes:
        inputs: (m, ...) the changed inputs, of the type of the given ones.
        before: (m,) the classes that the victim takes the given inputs for.
        after: (m,) those that it takes the changed inputs for.
    """

    inputs: NDArray[Any]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


Attack = Callable[[NDArray[Any], NDArray[np.int64]], Attacked]
"""Of (m, ...) inputs with their (m,) right classes."""


@dataclass(frozen=True)
class Trigger:
    """A square patch in a corner of an image.

    Attributes:
        corner: such as "bottom-right".
        size: of its side, in pixels.
        value: of its pixels, in all channels.
    """

    corner: str
    size: int
    value: float

    def on(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """(n, channels, height, width) copies of the images with the patch on them."""
        stamped = np.array(inputs)
        vertical, horizontal = self.corner.split("-")
        rows = slice(None, self.size) if vertical == "top" else slice(-self.size, None)
        columns = slice(None, self.size) if horizontal == "left" else slice(-self.size, None)
        stamped[:, :, rows, columns] = self.value
        return stamped


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training examples, and what corruptions have done to them so far.

    Attributes:
        table: `example` (row of the inputs), `split`, `label` (given), `true_label`, `is_corrupted`.
        inputs: (N, ...) as they are given, perhaps memory-mapped; never changed in place.
        classes: names of the classes or attributes.
        about: numbers of the classes that the corruptions are about, for which repair is reported.
        trigger: the patch of a backdoor.
        attacks: for each attack on a victim, by its name and ε, how many examples that the victim had right were
            `attacked`, on how many of those it `succeeded`, which share that is (`success_rate`), and how many more
            examples the victim had wrong anyhow (`wrong_before`).
    """

    table: pd.DataFrame
    inputs: NDArray[Any]
    classes: Sequence[str]
    about: frozenset[int] = frozenset()
    trigger: Trigger | None = None
    attacks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def original(cls, table: pd.DataFrame, inputs: NDArray[Any], classes: Sequence[str]) -> TrainingData:
        """Data with right labels.

        Args:
            table: `example`, `split`, `label`; left as it is.
            inputs: (N, ...).
            classes: names.
        """
        return cls(table.assign(true_label=table["label"], is_corrupted=False), inputs, classes)

    @property
    def split(self) -> NDArray[np.str_]:
        """(n,) names of the examples' splits."""
        return self.table["split"].to_numpy(dtype=str)

    @property
    def sound(self) -> NDArray[np.bool_]:
        """(n,) whether an example is not corrupted yet."""
        return ~self.table["is_corrupted"].to_numpy(dtype=bool)

    def true_classes(self, kind: str) -> NDArray[np.int64]:
        """(n,) the true class numbers.

        Raises:
            RepairError: if examples have attributes instead; names the kind of corruption that needs classes.
        """
        labels = self.table["true_label"].to_numpy()
        if labels.dtype == object:
            raise RepairError(
                f"{kind} needs one class an example, but these have attributes: use corruption none"
            )
        return labels

    def corrupted(
        self, marks: NDArray[np.bool_], labels: NDArray[Any] | None = None, inputs: NDArray[Any] | None = None
    ) -> TrainingData:
        """The data with these examples corrupted too.

        Args:
            marks: (n,) which ones.
            labels: (n,) of all examples, as they are given now; by default as before.
            inputs: the changed inputs of those that are marked, in the order of the table.

        Returns:
            Data that are also about the marked examples' true and given classes.
        """
        given = self.table["label"] if labels is None else pd.Series(labels, index=self.table.index)
        table = self.table.assign(label=given, is_corrupted=self.table["is_corrupted"] | marks)
        wrong = table[marks]
        touched = {int(number) for column in ("label", "true_label") for number in wrong[column].unique()}
        changed = self.inputs
        if inputs is not None:
            changed = np.array(self.inputs)
            changed[wrong["example"].to_numpy()] = inputs
        return replace(self, table=table, inputs=changed, about=self.about | touched)


def value_range(inputs: NDArray[Any], kind: str) -> tuple[float, float]:
    """The smallest and the greatest value that inputs may have: of bytes 0 and 255, of floats those there are.

    Args:
        inputs: (N, ...) of training.
        kind: the corruption that asks, for the message.

    Raises:
        RepairError: if the inputs are ids, which are no quantities.
    """
    if inputs.dtype == np.uint8 and inputs.ndim == 4:
        return 0.0, 255.0
    if inputs.dtype.kind != "f":
        raise RepairError(
            f"{kind} changes images of bytes or floats, and inputs of type {inputs.dtype} and shape "
            f"{inputs.shape[1:]} are ids: use a corruption of labels"
        )
    return float(inputs.min()), float(inputs.max())
