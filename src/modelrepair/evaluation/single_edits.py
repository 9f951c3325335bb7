"""What an editor does to one fact at a time: each edit from the base model, as papers measure it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from modelrepair.evaluation.evidence import SingleEdits
from modelrepair.knowledge.editor import APART, Editor
from modelrepair.models.examples import Examples

MOST_OTHERS = 1000
"""Sentences of other facts that each edited model is asked, at most."""


def single_edits(
    editor: Editor,
    tests: Examples,
    facts: NDArray[np.int64],
    *,
    edits: NDArray[np.int64],
    probes: NDArray[np.int64],
    most: int,
    loops: int,
    rng: np.random.Generator,
) -> SingleEdits:
    """Edit some facts, each from θ̂, and ask each edited model.

    Args:
        editor: with the base model.
        tests: t sentences with their right objects.
        facts: (t,) that they ask for.
        edits: positions of the sentences that may be edited.
        probes: positions of the sentences that are asked: all that ask for edited facts, and 1,000 random others at
            most.
        most: so many edits, drawn at random, at most.
        loops: as in `Editor.edited_apart`.
        rng: draws.
    """
    chosen = np.sort(rng.permutation(edits)[:most])
    asked = asked_of(chosen, facts, probes, rng)
    model = editor.model
    sentences, wanted = tests.batch(chosen, device=model.device, dtype=model.dtype)
    questions, _ = tests.batch(asked, device=model.device, dtype=model.dtype)
    said, answers = [], []
    for some in torch.split(torch.arange(len(chosen), device=model.device), APART):
        values = editor.edited_apart(sentences[some], wanted[some], loops)
        said.append(editor.answers_apart(values, sentences[some]))
        answers += [
            editor.answers({name: value[place] for name, value in values.items()}, questions)
            for place in range(len(some))
        ]
    return SingleEdits(chosen, asked, _array(torch.cat(said)), _array(torch.stack(answers)))


def asked_of(
    chosen: NDArray[np.int64], facts: NDArray[np.int64], probes: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Positions of the probes that ask for facts of the chosen sentences, and of 1,000 random others at most."""
    of_edited = np.isin(facts[probes], facts[chosen])
    others = rng.permutation(probes[~of_edited])[:MOST_OTHERS]
    return np.sort(np.concatenate([probes[of_edited], others]))


def _array(values: torch.Tensor) -> NDArray[np.int64]:
    return np.asarray(values.cpu().numpy(), dtype=np.int64)
