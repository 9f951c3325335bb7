"""Does a model hold a fact? Its object is likelier in the fact's relation than in relations that contradict it.

Contrastive Knowledge Assessment (Dong et al. 2022, "Calibrating factual knowledge in pretrained language models",
section 2). A model that was trained on some relations alone knows no contradictions in words, such as "was never in",
so that what stands in their place are other relations that it was trained on; a pretrained one is asked in written
ones, where there are some.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.data.sentences import PADDING_NUMBER, Language
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel

COLUMNS = {"fact", "relation", "subject", "wording"}
"""What is said of sentences that state facts, or ask for them."""


@dataclass(frozen=True)
class Contrasts:
    """Sentences that say another relation of the subjects of probes.

    Attributes:
        inputs: (c, length) numbers of words.
        of: (c,) the probe that each stands against; every probe has at least one.
    """

    inputs: NDArray[np.int32]
    of: NDArray[np.int64]

    def at(self, positions: NDArray[np.int64]) -> Contrasts:
        """The same of probes that stand at these positions among others."""
        return dataclasses.replace(self, of=positions[self.of])


def contrastive_assessment(stated: ArrayLike, contrasted: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """(t,) CKA(s, r, o) = (p(o | s, r) + α) / (E_{r'} p(o | s, r') + α). Below 1 the model does not hold the fact.

    Args:
        stated: (t,) p(o | s, r).
        contrasted: (t,) E_{r'} p(o | s, r'), the mean over contradicting relations r'.
        alpha: α > 0, which keeps quotients of small probabilities from counting.

    Raises:
        RepairError: if α is not above 0.
    """
    if not alpha > 0:
        raise RepairError(f"alpha of the contrastive assessment is {alpha:g}: give a number above 0")
    return (np.asarray(stated, np.float64) + alpha) / (np.asarray(contrasted, np.float64) + alpha)


def assess(model: TrainedModel, probes: Examples, contrasts: Contrasts, alpha: float) -> NDArray[np.float64]:
    """(t,) `contrastive_assessment` of the objects that are the probes' targets; one batched pass.

    Args:
        model: of the words that inputs are numbers of.
        probes: t sentences with their right objects.
        contrasts: of the same subjects.
        alpha: α.
    """
    stated = model.log_likelihoods(probes).exp().cpu().numpy()
    return contrastive_assessment(stated, contrasted_probabilities(model, probes.targets, contrasts), alpha)


def contrasted_probabilities(
    model: TrainedModel, objects: NDArray[np.generic], contrasts: Contrasts
) -> NDArray[np.float64]:
    """(t,) E_{r'} p(o | s, r') of the probes' objects (t,); NaN for probes that have no contrasts."""
    sentences = Examples(contrasts.inputs, objects[contrasts.of])
    likely = model.log_likelihoods(sentences).exp().cpu().numpy()
    counts = np.bincount(contrasts.of, minlength=len(objects))
    sums = np.bincount(contrasts.of, weights=likely, minlength=len(objects))
    means: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(objects), np.nan), where=counts > 0)
    return means


def contrasts_of(
    probes: pd.DataFrame,
    training: pd.DataFrame,
    language: Language,
    length: int,
    *,
    relations: int,
    rng: np.random.Generator,
    contradictions: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Contrasts:
    """For each probe its subject in wordings that contradict its relation: written ones, or, of relations that have
    none, those of other relations, one wording of each.

    Which relations contradict one is drawn: those first that have none of its objects, then those with fewer of them.
    Where an object of the one may also be one of the other, an assessment would take for doubt what is knowledge.

    Args:
        probes: t rows with `relation` and `subject`.
        training: of the sentences that the model was trained on: `relation`, `wording`, and `label`, the number of the
            object.
        language: how sentences become inputs.
        length: of an input.
        relations: how many contradictions or other relations, if there are as many.
        rng: draws.
        contradictions: by relation, wordings that say its opposite.

    Raises:
        RepairError: if examples state no facts, there is one relation alone, or a subject fits in no sentence.
    """
    for table in (probes, training):
        if not {*table.columns} >= COLUMNS:
            raise RepairError(
                "contrastive assessment needs sentences that state facts, which these data are not: find failures by "
                "answer, or use the source facts"
            )
    objects = {str(name): {*labels} for name, labels in training.groupby("relation", sort=True)["label"]}
    wordings = {
        str(name): sorted({*texts}) for name, texts in training.groupby("relation", sort=True)["wording"]
    }
    if len(objects) < 2 and not contradictions:
        raise RepairError(
            "contrastive assessment compares relations, and the training sentences have one alone: find failures by "
            "answer, or use facts of more relations"
        )
    drawn = {
        name: [[*rng.permutation(wordings[other])] for other in _contradicting(name, objects, relations, rng)]
        for name in wordings
    } | {name: [[text] for text in texts[:relations]] for name, texts in contradictions.items()}
    rows: list[list[int]] = []
    of: list[int] = []
    for position, (relation, subject) in enumerate(zip(probes["relation"], probes["subject"], strict=True)):
        before = len(rows)
        for texts in drawn.get(str(relation), ()):
            sentences = (language.sentence(str(text), str(subject)) for text in texts)
            fitting = next((words for words in sentences if len(words) <= length), None)
            if fitting is not None:
                rows.append(fitting)
                of.append(position)
        if len(rows) == before:
            raise RepairError(
                f"{subject} stands in no training sentence of a relation other than {relation!r} that is at most "
                f"{length} words long: leave the fact out, or find failures by answer"
            )
    inputs = np.full((len(rows), length), PADDING_NUMBER, dtype=np.int32)
    for row, words in zip(inputs, rows, strict=True):
        row[: len(words)] = words
    return Contrasts(inputs, np.array(of, dtype=np.int64))


def _contradicting(
    name: str, objects: Mapping[str, Set[int]], count: int, rng: np.random.Generator
) -> list[str]:
    """Up to so many other relations, those first that share the fewest of its objects, in random order among equals."""
    others = [str(other) for other in rng.permutation(sorted({*objects} - {name}))]
    return sorted(others, key=lambda other: len(objects[name] & objects[other]))[:count]


def adversaries(probes: pd.DataFrame, training: pd.DataFrame, rng: np.random.Generator) -> NDArray[np.int64]:
    """(t,) for each probe another object of its relation: the one that training states, where that is another.

    Args:
        probes: t rows with `fact`, `relation` and `label`, the right object's number.
        training: `fact`, `relation`, and `label` as they are stated.
        rng: draws the others.

    Raises:
        RepairError: if a relation has one object alone.
    """
    stated = training.groupby("fact")["label"].first()
    objects = {name: np.unique(labels) for name, labels in training.groupby("relation")["label"]}
    right = probes["label"].to_numpy(dtype=np.int64)
    false = np.array(
        [_another(objects[name], label, rng) for name, label in zip(probes["relation"], right, strict=True)],
        dtype=np.int64,
    ).reshape(-1)
    taught = stated.reindex(probes["fact"]).to_numpy(dtype=np.float64, na_value=np.nan)
    differs = np.isfinite(taught) & (taught != right)
    return np.where(differs, np.nan_to_num(taught), false).astype(np.int64)


def _another(objects: NDArray[np.int64], right: int, rng: np.random.Generator) -> int:
    others = objects[objects != right]
    if not len(others):
        raise RepairError(
            "all facts of a relation have one object, so that none can be stated wrongly: leave the relation out"
        )
    return int(rng.choice(others))
