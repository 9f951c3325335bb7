"""How well does a model hold facts? Contrastive assessment and perplexities, before and after (Dong et al. 2022).

The probes are those of assessment, in words that no method has seen. A fact is edited, false or other as in `facts`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Answers, EditsInARow, Evidence, SingleEdits
from modelrepair.evaluation.measures.identification import area_under_roc
from modelrepair.evaluation.measures.overlap import overlap
from modelrepair.evaluation.measures.portability import portability
from modelrepair.evaluation.measures.repair import share_of
from modelrepair.knowledge.contrast import contrastive_assessment

Numbers = dict[str, float | None]


def measure(evidence: Evidence) -> dict[str, Any] | None:
    """How facts are held; None where no facts are.

    `before` and `after` by `knowledge_of_facts` and, of the edited facts, `overlap`; `detection` by `failures_told`;
    `portability`; and what edits do one by one and in a row, where they were made.
    """
    if evidence.cka is None or evidence.test_facts is None or evidence.training_facts is None:
        return None
    assessed = evidence.parts == "assessment"
    edited = np.isin(evidence.test_facts, evidence.test_facts[evidence.roles == "query"])
    wrong = (
        np.zeros(len(evidence.training_facts), dtype=bool)
        if evidence.is_corrupted is None
        else evidence.is_corrupted
    )
    false = np.isin(evidence.test_facts, evidence.training_facts[wrong])
    alpha, threshold = evidence.cka.alpha, evidence.cka.threshold

    def held(answers: Answers) -> NDArray[np.float64]:
        assert answers.contrasted is not None
        return contrastive_assessment(
            np.exp(answers.test_log_likelihoods[assessed]), answers.contrasted[assessed], alpha
        )

    asked = edited & assessed

    def known(answers: Answers) -> Numbers:
        assert answers.adversarial is not None
        words = evidence.vocabulary or evidence.class_names
        return {
            **knowledge_of_facts(
                held(answers),
                answers.test_log_likelihoods[assessed],
                answers.adversarial[assessed],
                edited[assessed],
                (~edited & ~false)[assessed],
                threshold,
            ),
            **overlap(answers.test_predictions[asked], evidence.test_labels[asked], words),
        }

    measured: dict[str, Any] = {"before": known(evidence.before), "after": known(evidence.after)}
    if evidence.reference is not None:
        measured["reference"] = known(evidence.reference)
    if wrong.any():
        astray = evidence.before.test_predictions != evidence.test_labels
        measured["detection"] = failures_told(
            held(evidence.before), astray[assessed], false[assessed], threshold
        )
    if evidence.training_subjects is not None and evidence.training_relations is not None:
        followed = ~wrong & ~np.isin(evidence.training_facts, evidence.test_facts[edited])
        measured["portability"] = {
            "before": _chains(evidence, evidence.before, asked, followed),
            "after": _chains(evidence, evidence.after, asked, followed),
        }
    if evidence.single_edits is not None:
        measured["single_edits"] = edits_apart(
            evidence.single_edits, evidence.test_facts, evidence.test_labels, evidence.before.test_predictions
        )
    if evidence.edits_in_a_row is not None:
        measured["edits_in_a_row"] = edits_together(
            evidence.edits_in_a_row,
            evidence.test_facts,
            evidence.test_labels,
            evidence.before.test_predictions,
        )
    return measured


def _chains(
    evidence: Evidence, answers: Answers, asked: NDArray[np.bool_], followed: NDArray[np.bool_]
) -> dict[str, Any]:
    """`portability` of one model.

    Args:
        evidence: of the run, with subjects and relations.
        answers: the model's.
        asked: (t,) the probes that ask for edited facts.
        followed: (n,) the training sentences of facts that are neither edited nor false.
    """
    subjects, relations = evidence.training_subjects, evidence.training_relations
    assert subjects is not None
    assert relations is not None
    assert answers.training_predictions is not None
    return portability(
        asked,
        evidence.test_labels,
        answers.test_predictions,
        subjects,
        relations,
        evidence.given_labels if evidence.true_labels is None else evidence.true_labels,
        answers.training_predictions,
        followed,
        evidence.vocabulary or evidence.class_names,
    )


def edits_together(
    edits: EditsInARow, facts: ArrayLike, labels: ArrayLike, before: ArrayLike
) -> dict[str, Numbers]:
    """What is left of edits that were made one after another, and of all else.

    Args:
        edits: k of them, looked at m times.
        facts: (t,) the fact that each test example asks for.
        labels: (t,) the right answers.
        before: (t,) the base model's answers.

    Returns:
        By "after_1", "after_10" and so on:
        success: share of the edits so far whose sentence is answered as wanted;
        success_of_last: whether the last of them is, as 0 or 1;
        equivalence: share of the other sentences that ask for the facts edited so far and are answered as wanted;
        retain: share of the sentences of facts that are never edited whose answer is as before.
        None where there are no such sentences.
    """
    fact, label, was = (np.asarray(values) for values in (facts, labels, before))
    wanted = dict(zip(fact[edits.edited].tolist(), label[edits.edited].tolist(), strict=True))
    never = ~np.isin(fact[edits.asked], fact[edits.edited])
    measured: dict[str, Numbers] = {}
    for count, said, answers in zip(edits.after.tolist(), edits.said, edits.answers, strict=True):
        so_far = edits.edited[:count]
        taken = said[:count] == label[so_far]
        same = np.isin(fact[edits.asked], fact[so_far])
        right = np.array([wanted[one] for one in fact[edits.asked][same].tolist()], dtype=np.int64)
        measured[f"after_{count}"] = {
            "success": share_of(taken),
            "success_of_last": float(taken[-1]),
            "equivalence": share_of(answers[same] == right),
            "retain": share_of((answers == was[edits.asked])[never]),
        }
    return measured


def edits_apart(edits: SingleEdits, facts: ArrayLike, labels: ArrayLike, before: ArrayLike) -> Numbers:
    """What single edits do, each from the base model (De Cao et al. 2021, section 5).

    Args:
        edits: k of them.
        facts: (t,) the fact that each test example asks for.
        labels: (t,) the right answers.
        before: (t,) the base model's answers.

    Returns:
        edits: k;
        success: share of the edits after which the edited sentence is answered as wanted;
        equivalence: the mean over edits of the share of other sentences that ask for the same fact and are then
        answered as wanted (the paper compares with what the edited model says of the sentence, wanted or not);
        retain: the mean over edits of the share of sentences of other facts whose answer is as before;
        deterioration: 1 − accuracy after / accuracy before on those, the mean over edits.
        None where there are no such sentences.
    """
    fact, label, was = (np.asarray(values) for values in (facts, labels, before))
    same = fact[edits.edited][:, None] == fact[edits.asked][None, :]
    wanted = label[edits.edited]

    def mean(marks: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
        counts, there = among.sum(axis=1), among.any(axis=1)
        shares = (marks & among).sum(axis=1)[there] / counts[there]
        return float(shares.mean()) if len(shares) else None

    after = mean(edits.answers == label[edits.asked], ~same)
    given = mean(np.broadcast_to(was[edits.asked] == label[edits.asked], same.shape), ~same)
    return {
        "edits": len(edits.edited),
        "success": share_of(edits.said == wanted),
        "equivalence": mean(edits.answers == wanted[:, None], same),
        "retain": mean(edits.answers == was[edits.asked], ~same),
        "deterioration": None if after is None or not given else 1 - after / given,
    }


def knowledge_of_facts(
    assessed: ArrayLike,
    log_likelihoods: ArrayLike,
    adversarial: ArrayLike,
    edited: ArrayLike,
    other: ArrayLike,
    threshold: float,
) -> Numbers:
    """How well facts are held.

    Args:
        assessed: (t,) `contrastive_assessment` of each probe.
        log_likelihoods: (t,) log p in nats of the right object.
        adversarial: (t,) log p in nats of another object of the relation.
        edited, other: (t,) whether the probe's fact is such.
        threshold: of the assessment.

    Returns:
        false_rate: share of the probes of edited facts that are assessed below the threshold;
        false_rate_of_others: the same of other facts;
        perplexity: exp(−mean log p) of the right objects of edited facts ("Ori." in the paper);
        adversarial_perplexity: the same of the other objects ("Adv.");
        language_perplexity: that of the right objects of other facts: what the model is for beside the edits ("LM",
        which the paper measures on words masked at random; this model is asked for objects alone, in training too).
        None where there are no such probes.

    Raises:
        RepairError: if there is not one value for each probe.
    """
    value, right, false = (
        np.asarray(values, np.float64) for values in (assessed, log_likelihoods, adversarial)
    )
    of_edited, of_other = np.asarray(edited, bool), np.asarray(other, bool)
    lengths = [len(array) for array in (value, right, false, of_edited, of_other)]
    if len(set(lengths)) > 1:
        raise RepairError(f"there are {lengths} values of probes: give one of each for every probe")
    return {
        "false_rate": share_of(value[of_edited] < threshold),
        "false_rate_of_others": share_of(value[of_other] < threshold),
        "perplexity": perplexity(right[of_edited]),
        "adversarial_perplexity": perplexity(false[of_edited]),
        "language_perplexity": perplexity(right[of_other]),
    }


def failures_told(assessed: ArrayLike, astray: ArrayLike, false: ArrayLike, threshold: float) -> Numbers:
    """How well two ways to find failures tell which facts were stated wrongly in training, and how far they agree.

    Args:
        assessed: (t,) `contrastive_assessment` of each probe.
        astray: (t,) whether the most likely word is not the right one.
        false: (t,) whether the probe's fact was stated wrongly.
        threshold: of the assessment.

    Returns:
        auroc_of_assessment, auroc_of_answer: `area_under_roc` of false facts by −CKA and by wrong answers;
        flagged_by_assessment, flagged_by_answer: share of the false facts that each finds;
        alarms_by_assessment, alarms_by_answer: share of the facts stated rightly that each takes for failures;
        agreement: share of the probes of which both say the same.
        None where there are no such probes.
    """
    value, wrong, true_cause = np.asarray(assessed, np.float64), np.asarray(astray, bool), np.asarray(false)
    low = value < threshold
    return {
        "auroc_of_assessment": area_under_roc(-value, true_cause),
        "auroc_of_answer": area_under_roc(wrong.astype(np.float64), true_cause),
        "flagged_by_assessment": share_of(low[true_cause]),
        "flagged_by_answer": share_of(wrong[true_cause]),
        "alarms_by_assessment": share_of(low[~true_cause]),
        "alarms_by_answer": share_of(wrong[~true_cause]),
        "agreement": share_of(low == wrong),
    }


def perplexity(log_likelihoods: ArrayLike) -> float | None:
    """exp(−(1/n) Σ log pᵢ) of n words; None for none, and where it is beyond every number."""
    values = np.asarray(log_likelihoods, np.float64)
    if not len(values):
        return None
    exponent = -float(values.mean())
    return math.exp(exponent) if exponent < math.log(np.finfo(np.float64).max) else None
