"""What an editor does to one fact after another: the model that it edits is the one that it has edited."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from modelrepair.evaluation.evidence import EditsInARow
from modelrepair.evaluation.single_edits import asked_of
from modelrepair.knowledge.editor import Editor, Values
from modelrepair.models.examples import Examples


def looks(edits: int) -> list[int]:
    """After how many of so many edits the model is looked at: after 1, 10, 100 and so on, and after all."""
    powers = [10**power for power in range(len(str(edits)))] if edits else []
    return sorted({*powers, *([edits] if edits else [])})


def edits_in_a_row(
    editor: Editor,
    tests: Examples,
    facts: NDArray[np.int64],
    *,
    edits: NDArray[np.int64],
    probes: NDArray[np.int64],
    most: int,
    loops: int,
    rng: np.random.Generator,
) -> EditsInARow:
    """Edit some facts one after another, the first from θ̂, and ask the model after 1, 10, 100, ... of them.

    Args:
        editor: with the base model.
        tests: t sentences with their right objects.
        facts: (t,) that they ask for.
        edits: positions of the sentences that may be edited.
        probes: positions of the sentences that are asked: all that ask for edited facts, and 1,000 random others at
            most.
        most: so many edits, drawn at random in a random order, at most.
        loops: as in `Editor.edited`.
        rng: draws.
    """
    chosen = rng.permutation(edits)[:most]
    asked = asked_of(chosen, facts, probes, rng)
    model = editor.model
    sentences, wanted = tests.batch(chosen, device=model.device, dtype=model.dtype)
    questions, _ = tests.batch(asked, device=model.device, dtype=model.dtype)
    values: Values = editor.given
    after, said, answers = looks(len(chosen)), [], []
    for place in range(len(chosen)):
        values = editor.edited(values, sentences[place : place + 1], wanted[place : place + 1], loops)
        if place + 1 in after:
            said.append(editor.answers(values, sentences))
            answers.append(editor.answers(values, questions))
    return EditsInARow(
        chosen,
        asked,
        np.array(after, dtype=np.int64),
        _stacked(said, len(chosen)),
        _stacked(answers, len(asked)),
    )


def _stacked(rows: list[torch.Tensor], width: int) -> NDArray[np.int64]:
    """(m, width) of m rows, of which there may be none."""
    if not rows:
        return np.empty((0, width), dtype=np.int64)
    return np.asarray(torch.stack(rows).cpu().numpy(), dtype=np.int64)
