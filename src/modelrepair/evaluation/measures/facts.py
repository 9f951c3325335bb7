"""What a repair did to facts: those it was shown to be wrong, in other words too, and those it should leave alone.

The measures of knowledge editing, counted in facts: success, equivalence and retain after De Cao et al. 2021 (section
5), equivalence against the wanted answer instead of the model's own, and forgotten per learned after Lee et al. 2022
(section 4). The answer is always the most likely word of the whole vocabulary. A fact is

* **edited** if one of its probes is in the query, so that the method saw that it is answered wrongly;
* **false** if the sentences of training state it wrongly;
* **other** if it is neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.measures.identification import area_under_roc
from modelrepair.evaluation.measures.repair import share_of

Numbers = dict[str, float | int | None]


def measure(evidence: Evidence) -> dict[str, Any] | None:
    """`repair_of_facts`, and `causes_of_facts` where scores and true causes are there; None where no facts are."""
    if evidence.training_facts is None or evidence.test_facts is None:
        return None
    before, after = evidence.before, evidence.after
    answered = {
        "before": before.test_predictions == evidence.test_labels,
        "after": after.test_predictions == evidence.test_labels,
    }
    stated = (before.training_correct == 1, after.training_correct == 1)
    corrupted = evidence.is_corrupted
    measured: dict[str, Any] = repair_of_facts(
        evidence.test_facts,
        answered["before"],
        answered["after"],
        evidence.roles,
        evidence.parts,
        evidence.training_facts,
        *stated,
        np.zeros(len(evidence.training_facts), dtype=bool) if corrupted is None else corrupted,
    )
    edited = np.unique(evidence.test_facts[evidence.roles == "query"])
    if after.additions_on is not None:
        assessed = evidence.parts == "assessment"
        measured["selector"] = selection_of_facts(
            after.additions_on[assessed],
            answered["after"][assessed],
            np.isin(evidence.test_facts[assessed], edited),
        )
    if evidence.taught_in is not None:
        measured["updates"] = updates_of_facts(
            evidence.taught_in, answered["after"], evidence.roles, evidence.parts
        )
    if evidence.scores is not None and corrupted is not None:
        measured["causes"] = {
            "by_score": causes_of_facts(evidence.scores, corrupted, evidence.training_facts, edited),
            "by_plain_loss": causes_of_facts(
                -before.training_log_likelihoods, corrupted, evidence.training_facts, edited
            ),
        }
    return measured


def repair_of_facts(
    facts: ArrayLike,
    right_before: ArrayLike,
    right_after: ArrayLike,
    roles: ArrayLike,
    parts: ArrayLike,
    training_facts: ArrayLike,
    training_before: ArrayLike,
    training_after: ArrayLike,
    is_corrupted: ArrayLike,
) -> Numbers:
    """How many facts were mended, and how many were lost.

    Args:
        facts: (t,) the fact that each probe asks for.
        right_before, right_after: (t,) whether the base and the repaired model answer it rightly.
        roles, parts: (t,) as in `repair_metrics`. A fact is asked for once at most in discovery and reserved together,
            and once in assessment, unless a user's own prompts ask for it several times, each of which then counts.
        training_facts: (n,) the fact that each training sentence states.
        training_before, training_after: (n,) whether the models fill its blank as it is given.
        is_corrupted: (n,) whether it states its fact wrongly.

    Returns:
        edited, false, other: how many facts are such;
        success: share of the edited facts that is right, in the words of the query;
        equivalence: the same of those asked for in assessment, whose words no method has seen;
        carried_over: share of the false facts outside the query that is right in assessment;
        retain: of the other facts that the base model has right in assessment, the share that still is;
        retain_shown, retain_hidden: the same of those that were asked for in discovery or reserved too, and of those
        that methods saw in training sentences alone;
        retain_training: mean over the other facts of the share of their training sentences that the base model has
        right, and the repaired one still has;
        deterioration: 1 − accuracy after / accuracy before on the other facts in assessment;
        forgotten_per_learned: of the other and the edited facts, by their accuracies in assessment.
        None where there are no such facts, or nothing was learned.

    Raises:
        RepairError: if there is not one value for each probe and for each sentence.
    """
    fact, was, now, role, part = (
        np.asarray(values) for values in (facts, right_before, right_after, roles, parts)
    )
    known, stated, still, wrong = (
        np.asarray(values) for values in (training_facts, training_before, training_after, is_corrupted)
    )
    for kind, arrays in (
        ("probe", (fact, was, now, role, part)),
        ("sentence", (known, stated, still, wrong)),
    ):
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1:
            raise RepairError(f"there are {lengths} values of {kind}s: give one of each for every {kind}")
    query, assessed = role == "query", part == "assessment"
    edited, false = np.unique(fact[query]), np.unique(known[wrong])
    of_edited, of_false = np.isin(fact, edited), np.isin(fact, false)
    of_other = ~of_edited & ~of_false
    count = len(np.setdiff1d(np.union1d(fact, known), np.union1d(edited, false)))
    asked = assessed & of_edited
    kept = assessed & of_other
    shown = np.isin(fact, fact[~assessed])

    accuracies = {
        name: (share_of(was[members]), share_of(now[members]))
        for name, members in (("s", kept), ("t", asked))
    }
    s_before, s_after = accuracies["s"]
    t_before, t_after = accuracies["t"]
    ratio = None
    if s_before is not None and s_after is not None and t_before is not None and t_after is not None:
        ratio = forgotten_per_learned(count, s_before, s_after, len(edited), t_before, t_after)
    others = stated & ~np.isin(known, np.union1d(edited, false))
    return {
        "edited": len(edited),
        "false": len(false),
        "other": count,
        "success": share_of(now[query]),
        "equivalence": t_after,
        "carried_over": share_of(now[assessed & of_false & ~of_edited]),
        "retain": share_of(now[kept & was]),
        "retain_shown": share_of(now[kept & was & shown]),
        "retain_hidden": share_of(now[kept & was & ~shown]),
        "retain_training": share_of(_means_by_fact(still[others].astype(np.float64), known[others])[1]),
        "deterioration": None if not s_before or s_after is None else 1 - s_after / s_before,
        "forgotten_per_learned": ratio,
    }


def updates_of_facts(
    taught_in: ArrayLike, right: ArrayLike, roles: ArrayLike, parts: ArrayLike
) -> dict[str, Numbers]:
    """What is left in the end of what each of several updates taught (as Lee et al. 2022, section 4).

    Args:
        taught_in: (t,) which update taught the fact that each probe asks for, from 0; -1 for none.
        right: (t,) whether the probe is answered rightly after all of them.
        roles, parts: (t,) as in `repair_metrics`.

    Returns:
        By "update_1", "update_2" and so on: success in the words of the query, equivalence in those of assessment. None
        where nothing asks.
    """
    of, answered = np.asarray(taught_in), np.asarray(right, dtype=bool)
    query, assessed = np.asarray(roles) == "query", np.asarray(parts) == "assessment"
    return {
        f"update_{number + 1}": {
            "success": share_of(answered[(of == number) & query]),
            "equivalence": share_of(answered[(of == number) & assessed]),
        }
        for number in range(int(of.max(initial=-1)) + 1)
    }


def forgotten_per_learned(
    others: int,
    others_before: float,
    others_after: float,
    edited: int,
    edited_before: float,
    edited_after: float,
) -> float | None:
    """How many facts are forgotten for each one learned: K_s(s_before − s_after) / (K_t(t_after − t_before)).

    The F/U ratio of Lee et al. 2022, in facts, not in accuracies: their two sets differ in size.

    Args:
        others, others_before, others_after: K_s facts that are to be left alone, with their accuracies s from 0 to 1.
        edited, edited_before, edited_after: K_t facts that are to be learned, with their accuracies t.

    Returns:
        The ratio, negative where more others are right than before; None where nothing was learned.
    """
    learned = edited * (edited_after - edited_before)
    return others * (others_before - others_after) / learned if learned > 0 else None


def selection_of_facts(additions_on: ArrayLike, right: ArrayLike, edited: ArrayLike) -> Numbers:
    """How well what was added to a model tells what it was taught from all else (as Lee et al. 2022).

    Args:
        additions_on: (t,) whether it is on for each probe.
        right: (t,) whether the probe is answered rightly.
        edited: (t,) whether it asks for an edited fact.

    Returns:
        edited_on, others_on: the share of the probes of edited facts, and of all others, for which it is on;
        right_of_edited_on, right_of_edited_off, right_of_others_on, right_of_others_off: the shares that are right of
        the four kinds. None where there are no such probes.
    """
    on, answered, taught = (np.asarray(values, dtype=bool) for values in (additions_on, right, edited))
    kinds = {"edited": taught, "others": ~taught}
    return {
        **{f"{kind}_on": share_of(on[members]) for kind, members in kinds.items()},
        **{
            f"right_of_{kind}_{where}": share_of(answered[members & there])
            for kind, members in kinds.items()
            for where, there in (("on", on), ("off", ~on))
        },
    }


def causes_of_facts(
    scores: ArrayLike, is_corrupted: ArrayLike, facts: ArrayLike, edited: ArrayLike
) -> Numbers:
    """How well scores tell the sentences, and the facts, that are false.

    Args:
        scores: (n,) of training sentences, positive = harmful.
        is_corrupted: (n,) whether a sentence states its fact wrongly.
        facts: (n,) which fact that is.
        edited: the facts of the query.

    Returns:
        auroc_of_edited: `area_under_roc` of the false sentences of edited facts among all sound sentences: the causes
        of the failures that were shown;
        auroc_of_other_false: the same of the false sentences of all other facts, which the failures do not speak of;
        auroc_by_fact: of the false facts among all, by the mean score of their sentences.
    """
    values, wrong, fact = np.asarray(scores, np.float64), np.asarray(is_corrupted, bool), np.asarray(facts)
    of_edited = np.isin(fact, np.asarray(edited))

    def area(causes: NDArray[np.bool_]) -> float | None:
        among = causes | ~wrong
        return area_under_roc(values[among], causes[among])

    numbers, means = _means_by_fact(values, fact)
    return {
        "auroc_of_edited": area(wrong & of_edited),
        "auroc_of_other_false": area(wrong & ~of_edited),
        "auroc_by_fact": area_under_roc(means, np.isin(numbers, fact[wrong])),
    }


def _means_by_fact(
    values: NDArray[np.float64], facts: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The numbers of the facts that occur, ascending, and the mean of the values of each."""
    numbers, places = np.unique(facts, return_inverse=True)
    sums = np.bincount(places, weights=values, minlength=len(numbers))
    return numbers, sums / np.bincount(places, minlength=len(numbers))
