"""Evidence of a run, from its models and examples: all that measures and pictures need is computed here, once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from modelrepair.evaluation.evidence import Answers, Array, EditsInARow, Evidence, SingleEdits
from modelrepair.evaluation.measures.erasure import relative_parameter_distance
from modelrepair.settings.failures import CkaSettings

if TYPE_CHECKING:
    from modelrepair.knowledge.contrast import Contrasts
    from modelrepair.models.examples import Examples
    from modelrepair.models.trained_model import TrainedModel

LIKELIEST = 3
"""So many words that a sentence could be completed by are kept."""


def gather(
    base: TrainedModel,
    repaired: TrainedModel,
    training: Examples,
    tests: Examples,
    *,
    class_names: Sequence[str],
    causes: ArrayLike,
    roles: ArrayLike,
    parts: ArrayLike,
    course: pd.DataFrame,
    scores: ArrayLike | None = None,
    true_labels: ArrayLike | None = None,
    is_corrupted: ArrayLike | None = None,
    corrupted_by: ArrayLike | None = None,
    noisy_classes: Sequence[int] = (),
    reference: TrainedModel | None = None,
    reference_in_words: str | None = None,
    reference_retrained: bool = False,
    in_domain: ArrayLike | None = None,
    attacker_class: int | None = None,
    corrections: ArrayLike | None = None,
    training_facts: ArrayLike | None = None,
    test_facts: ArrayLike | None = None,
    training_relations: ArrayLike | None = None,
    test_relations: ArrayLike | None = None,
    training_subjects: ArrayLike | None = None,
    in_words: bool = False,
    vocabulary: Sequence[str] | None = None,
    assessment: Assessment | None = None,
    single_edits: SingleEdits | None = None,
    edits_in_a_row: EditsInARow | None = None,
    clusters: Sequence[dict[str, Any]] = (),
    failure_clusters: ArrayLike | None = None,
    driven_clusters: ArrayLike | None = None,
    expected_causes: tuple[float, float] | None = None,
    relearning: int = 0,
    seed: int = 0,
) -> Evidence:
    """Run all models over all examples, once each, and put down what all measures and pictures need.

    Args:
        base, repaired: the model before and after.
        training: the n examples that the base model was trained on, with their given labels.
        tests: the t test examples.
        class_names, causes, roles, parts, course, scores, true_labels, is_corrupted, corrupted_by, noisy_classes,
            in_domain, attacker_class, corrections, training_facts, test_facts, training_relations, test_relations,
            training_subjects: as in `Evidence`. Where no example is corrupted there are no true causes to find, so no
            truth is known.
        reference: the model that the repaired one stands beside, if there is one.
        reference_in_words, reference_retrained: as in `Evidence`.
        in_words: whether inputs are sentences of numbers of classes, which are the words.
        vocabulary: the words that inputs are numbers of, where those are not the classes.
        assessment: against what facts are assessed; None where they are not.
        single_edits, edits_in_a_row, clusters, failure_clusters, driven_clusters, expected_causes: as in `Evidence`.
        relearning: at most so many steps are taken with the repaired model and the reference to see how soon they know
            the causes again; 0 for none.
        seed: of their order.

    Raises:
        RepairError: if there is not one value for each example.
    """
    deleted = training.subset(np.asarray(causes))

    def answers(model: TrainedModel, *, relearned: bool) -> Answers:
        made = _answers(model, training, tests, probable)
        if in_words:
            words, likely = _likeliest(model, tests)
            made = replace(made, likeliest=words, likeliest_probabilities=likely)
        if assessment is not None:
            made = replace(made, **assessment.answers(model, tests))
        if not (relearned and relearning and len(deleted)):
            return made
        from modelrepair.evaluation.relearning import relearning_steps

        steps = relearning_steps(model, deleted, base.accuracy(deleted), most=relearning, seed=seed)
        return replace(made, relearning_steps=math.inf if steps is None else steps)

    known = is_corrupted is not None and bool(np.any(is_corrupted))
    probable = reference is not None and reference_retrained
    return Evidence(
        class_names=tuple(str(name) for name in class_names),
        noisy_classes=tuple(int(number) for number in noisy_classes),
        training_inputs=_Stored(training),
        given_labels=np.asarray(training.targets),
        true_labels=np.asarray(true_labels) if known and true_labels is not None else None,
        is_corrupted=np.asarray(is_corrupted, dtype=bool) if known else None,
        scores=None if scores is None else np.asarray(scores, dtype=np.float64),
        causes=np.asarray(causes),
        test_inputs=_Stored(tests),
        test_labels=np.asarray(tests.targets),
        roles=np.asarray(roles),
        parts=np.asarray(parts),
        before=answers(base, relearned=False),
        after=answers(repaired, relearned=True),
        course=course,
        reference=None if reference is None else answers(reference, relearned=True),
        reference_in_words=reference_in_words,
        reference_retrained=probable,
        in_domain=None if in_domain is None else np.asarray(in_domain, dtype=bool),
        attacker_class=attacker_class,
        corrupted_by=None if corrupted_by is None or not known else np.asarray(corrupted_by, dtype=str),
        corrections=None if corrections is None else np.asarray(corrections, dtype=np.int64),
        training_numbers=training.rows,
        test_numbers=tests.rows,
        taught_in=_taught_in(base, repaired, roles, test_facts),
        training_facts=None if training_facts is None else np.asarray(training_facts, dtype=np.int64),
        test_facts=None if test_facts is None else np.asarray(test_facts, dtype=np.int64),
        training_relations=None if training_relations is None else np.asarray(training_relations, dtype=str),
        test_relations=None if test_relations is None else np.asarray(test_relations, dtype=str),
        training_subjects=None if training_subjects is None else np.asarray(training_subjects, dtype=str),
        vocabulary=tuple(map(str, class_names)) if in_words else tuple(vocabulary) if vocabulary else None,
        cka=None if assessment is None else assessment.settings,
        single_edits=single_edits,
        edits_in_a_row=edits_in_a_row,
        clusters=tuple(clusters),
        failure_clusters=None if failure_clusters is None else np.asarray(failure_clusters, dtype=np.int64),
        driven_clusters=None if driven_clusters is None else np.asarray(driven_clusters, dtype=np.int64),
        parameter_distance=_distance(repaired, base, reference)
        if reference is not None and probable
        else None,
        expected_causes=expected_causes,
    )


def _distance(repaired: TrainedModel, base: TrainedModel, retrained: TrainedModel) -> float | None:
    """`relative_parameter_distance`; None where something was added to one of the models."""
    vectors = [model.parameter_vector.double().cpu().numpy() for model in (repaired, base, retrained)]
    if len({len(vector) for vector in vectors}) > 1:
        return None
    return relative_parameter_distance(*vectors)


@dataclass(frozen=True, eq=False)
class Assessment:
    """Against what facts are assessed.

    Attributes:
        settings: how.
        contrasts: of the probes that are assessed.
        adversaries: (t,) another object of each probe's relation.
    """

    settings: CkaSettings
    contrasts: Contrasts
    adversaries: NDArray[np.int64]

    def answers(self, model: TrainedModel, tests: Examples) -> dict[str, Any]:
        """`Answers.contrasted` and `Answers.adversarial` of a model."""
        from modelrepair.knowledge.contrast import contrasted_probabilities

        asked = np.unique(self.contrasts.of)
        false = tests.subset(asked).with_targets(self.adversaries[asked])
        adversarial = np.full(len(tests), np.nan)
        adversarial[asked] = model.log_likelihoods(false).cpu().numpy()
        return {
            "contrasted": contrasted_probabilities(model, tests.targets, self.contrasts),
            "adversarial": adversarial,
        }


class _Stored:
    """The inputs of examples, of which rows are read when they are shown."""

    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    @property
    def ndim(self) -> int:
        return self._examples.subset([]).inputs.ndim

    def __getitem__(self, row: Any, /) -> Any:
        if np.ndim(row):
            return self._examples.subset(row).inputs
        return self._examples.subset([row]).inputs[0]


def _answers(model: TrainedModel, training: Examples, tests: Examples, probable: bool) -> Answers:
    known, correct, believed, expected = _run(model, training, probable)
    unseen, _, predictions, foreseen = _run(model, tests, probable)
    return Answers(
        known,
        correct,
        unseen,
        predictions,
        training_predictions=believed,
        training_probabilities=expected,
        test_probabilities=foreseen,
        additions_on=_additions_on(model, tests),
    )


def _taught_in(
    base: TrainedModel, repaired: TrainedModel, roles: ArrayLike, facts: ArrayLike | None
) -> NDArray[np.int64] | None:
    """`Evidence.taught_in`, of a model with an addition for each update."""
    from modelrepair.additions import Extended
    from modelrepair.additions.updates import update_of

    after, before = (
        len(model.network.additions) if isinstance(model.network, Extended) else 0
        for model in (repaired, base)
    )
    if facts is None or after - before < 2:
        return None
    asked = np.asarray(facts)
    failing = np.unique(asked[np.asarray(roles) == "query"])
    updates = dict(zip(failing.tolist(), update_of(failing, after - before).tolist(), strict=True))
    return np.array([updates.get(fact, -1) for fact in asked.tolist()], dtype=np.int64)


def _likeliest(model: TrainedModel, tests: Examples) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(t, 3) the likeliest words of each sentence and their probabilities, in descending order."""
    import torch

    from modelrepair.models.passes import PerExample

    words, likely = PerExample(len(tests)), PerExample(len(tests))
    with torch.no_grad():
        for positions, inputs, _ in model.batches(tests, shared=True):
            outputs = model.network(inputs).double()
            best = model.likelihood.probabilities(outputs).topk(min(LIKELIEST, outputs.shape[1]))
            words.put(positions, best.indices)
            likely.put(positions, best.values)
    return words.whole().cpu().numpy(), likely.whole().cpu().numpy()


def _additions_on(model: TrainedModel, examples: Examples) -> NDArray[np.bool_] | None:
    """(n,) for which examples an addition with a selector is on; None where there is none."""
    from modelrepair.additions import Extended

    network = model.network
    if not isinstance(network, Extended) or not network.is_selective:
        return None
    # The first of them is on wherever any is.
    on = [
        next(switch for switch in network.switches(inputs) if switch is not None)
        for _, inputs, _ in model.batches(examples)
    ]
    return np.concatenate([batch.cpu().numpy() for batch in on])


def _run(model: TrainedModel, examples: Examples, probable: bool) -> tuple[Array, Array, Array, Array | None]:
    """Log-likelihoods, correctness, predictions and, if wanted, probabilities of n examples, of one pass over them."""
    import torch

    from modelrepair.models.passes import PerExample
    from modelrepair.models.trained_model import Measure

    likelihood = model.likelihood
    measures: list[Measure] = [
        model.log_likelihood,
        likelihood.correct,
        lambda outputs, _: likelihood.predictions(outputs),
        *([lambda outputs, _: likelihood.probabilities(outputs)] if probable else []),
    ]
    found = [PerExample(len(examples)) for _ in measures]
    with torch.no_grad():
        for positions, inputs, targets in model.batches(examples, shared=True):
            # In double precision, as `TrainedModel.log_likelihoods`; numpy knows no half precision of all kinds.
            outputs = model.network(inputs).double()
            targets = targets.double() if targets.is_floating_point() else targets
            for values, measure in zip(found, measures, strict=True):
                values.put(positions, measure(outputs, targets))
    whole = [values.whole().cpu().numpy() for values in found]
    likelihoods, correct, predictions = whole[:3]
    return likelihoods, correct, predictions, whole[3] if probable else None
