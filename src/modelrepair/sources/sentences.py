"""Facts in words: sentences with a blank, whose missing word is the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from modelrepair.data.sentences import BLANK, OBJECT, PADDING, SUBJECT, Language, Words
from modelrepair.data.tokens import Tokens
from modelrepair.errors import RepairError
from modelrepair.settings.data import SentencesSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.prompts import Prompt, read_prompts
from modelrepair.sources.relations import Fact, Relation, require_one_object


def sentences(
    known: Sequence[Fact],
    rng: np.random.Generator,
    settings: SentencesSettings,
    *,
    origin: str,
) -> Dataset:
    """Facts in the wordings of their relations, as examples whose inputs are the numbers of words.

    A prompt of the user's own takes the place of what would ask for its fact in discovery or reserved, and its
    paraphrases of what would ask for it in assessment, where they all stand; what the user says is right is the right
    answer wherever the fact is asked for.

    Where a language model's tokeniser writes the sentences, the classes are its tokens. Facts whose object is not one
    of them are left out, and wordings in which such a model cannot be asked; how many is part of the description.

    Args:
        known: m facts, where a tokeniser writes them all that there are.
        rng: draws who is asked where, and which facts are not stated.
        settings: how many are asked for, and where.
        origin: of the facts, in words.

    Returns:
        The data, whose columns are `fact` (its number), `relation`, `subject` and `wording`; where there are prompts of
        the user's own, also `is_own` of the test examples, and `wrong`, the number of the word that the user says the
        model answers, or -1.

    Raises:
        RepairError: if a subject has two objects in a relation, there are too few facts, or a prompt asks for none.
    """
    require_one_object(known)
    tokens: Tokens | None = None
    left_out = ""
    if settings.tokeniser is not None:
        # Here, so that sources that need no language model start at once.
        from modelrepair.language import read_tokens

        tokens = read_tokens(Path(settings.tokeniser))
        known, left_out = answerable(known, tokens, settings.facts_per_relation)
    shown, reserved, assessment = settings.shown, settings.reserved, settings.assessment
    count = len(known)
    seen = int(shown * count + 0.5 + 1e-9)
    if reserved >= seen:
        raise RepairError(
            f"reserved is {reserved} of the {seen} facts that are shown ({shown:g} of {count}), which leaves none to "
            "discover failures in: make reserved smaller or shown larger"
        )
    if assessment > count:
        raise RepairError(
            f"assessment is {assessment} and there are {count} facts, each asked for once: make assessment smaller, or "
            "take more facts_per_relation"
        )
    order = rng.permutation(count)
    reserved_facts, discovered, hidden = order[:reserved], order[reserved:seen], order[seen:]
    half = min(len(hidden), max(assessment // 2, assessment - seen))
    assessed = np.concatenate([hidden[:half], rng.permutation(order[:seen])[: assessment - half]])
    validated = rng.permutation(count)[: int(settings.validation_fraction * count + 0.5 + 1e-9)]
    # Drawn last, so that nothing else that is drawn depends on it.
    unstated = {*rng.permutation(count)[: int(settings.unstated * count + 0.5 + 1e-9)].tolist()}

    training = [
        (number, text, "train")
        for number, f in enumerate(known)
        if number not in unstated
        for text in f.relation.wordings
    ]
    training += [
        (int(n), text, "validation")
        for n in np.sort(validated)
        if n not in unstated and (text := known[n].relation.validation) is not None
    ]
    tests = [
        (int(number), known[number].relation.probes[which], part)
        for part, which, chosen in (
            ("reserved", 0, reserved_facts),
            ("discovery", 0, discovered),
            ("assessment", 1, assessed),
        )
        for number in np.sort(chosen)
        if number not in unstated
    ]
    for number in sorted(unstated):
        relation = known[number].relation
        tests += [(number, text, "discovery") for text in relation.wordings]
        tests.append((number, relation.probes[1], "assessment"))
    language: Language = tokens or Words(
        vocabulary(known, [text for relation in _relations(known) for text in relation.every_wording])
    )
    answers = {number: _number(language, fact.object) for number, fact in enumerate(known)}
    own: list[Prompt] = []
    if settings.prompts is not None:
        own = read_prompts(Path(settings.prompts), known, language)
        taken = {prompt.fact for prompt in own}
        tests = [asked for asked in tests if asked[0] not in taken]
        tests += [(prompt.fact, prompt.wording, "discovery") for prompt in own]
        tests += [(prompt.fact, text, "assessment") for prompt in own for text in prompt.paraphrases]
    told = {prompt.fact: _number(language, prompt.right) for prompt in own}
    written = {
        side: [language.sentence(text, known[number].subject) for number, text, _ in asked]
        for side, asked in (("train", training), ("test", tests))
    }
    length = max(len(sentence) for side in written.values() for sentence in side)
    if tokens is not None:
        # Contradictions are asked of the same subjects.
        against = (
            len(language.sentence(text, fact.subject))
            for fact in known
            for text in fact.relation.contradictions
        )
        length = max(length, max(against, default=0))
    sides = {}
    for side, asked in (("train", training), ("test", tests)):
        inputs = np.zeros((len(asked), length), dtype=np.int32)
        for row, sentence in zip(inputs, written[side], strict=True):
            row[: len(sentence)] = sentence
        right = answers if side == "train" else answers | told
        labels = np.array([right[number] for number, _, _ in asked], dtype=np.int64)
        sides[side] = inputs, labels, _columns(asked, known)
    return Dataset(
        *sides["train"][:2],
        *sides["test"][:2],
        language.vocabulary,
        f"{count:,} {origin} in {len(training):,} sentences, asked for in {len(tests):,} others; a vocabulary of "
        f"{len(language.vocabulary):,} {'words' if tokens is None else 'tokens'}{left_out}"
        + (f"; {len(unstated):,} facts that no training sentence states" if unstated else "")
        + (f"; {len(own):,} prompts of the user's own" if own else ""),
        np.ones(len(training), dtype=bool),
        split=np.array([split for _, _, split in training]),
        part=np.array([part for _, _, part in tests]),
        train_columns=sides["train"][2],
        test_columns={**sides["test"][2], **(_own_columns(tests, own, language) if own else {})},
        tokens=tokens,
        contradictions={}
        if tokens is None
        else {one.name: one.contradictions for one in _relations(known) if one.contradictions},
    )


def answerable(known: Sequence[Fact], tokens: Tokens, most: int | None) -> tuple[list[Fact], str]:
    """The facts that a language model can be asked for by one token, in wordings that it takes; and what that left out.

    Args:
        known: the facts, those of a relation in the order in which they are taken.
        tokens: how the model reads.
        most: of a relation; None for all.

    Raises:
        RepairError: if none is left.
    """
    relations = {one.name: one.asked_in(tokens.takes) for one in _relations(known)}
    numbers = {word: tokens.number(word) for word in {fact.object for fact in known}}
    taken: list[Fact] = []
    count: Counter[str] = Counter()
    several = 0
    for fact in known:
        relation = relations[fact.relation.name]
        if relation is None:
            continue
        if numbers[fact.object] is None:
            several += 1
        elif most is None or count[relation.name] < most:
            count[relation.name] += 1
            taken.append(replace(fact, relation=relation))
    if not taken:
        raise RepairError(
            "no fact has an object that is one token of the language model, in wordings that it can be asked in: "
            "choose another model or dataset"
        )
    gone = [name for name, relation in relations.items() if relation is None]
    return taken, (
        f"; left out are {several:,} facts whose object is not one token"
        + (f", and {len(gone)} relations with too few wordings that end in their object" if gone else "")
    )


def vocabulary(known: Iterable[Fact], wordings: Iterable[str]) -> tuple[str, ...]:
    """The words: padding, the blank, all objects whole, and the words of wordings and of the other subjects."""
    objects, others = set(), set()
    for fact in known:
        objects.add(fact.object)
        others.add(fact.subject)
    parts = {word for text in wordings for word in text.split() if word not in (SUBJECT, OBJECT)}
    parts |= {word for subject in others - objects for word in subject.split()}
    return (PADDING, BLANK, *sorted(objects), *sorted(parts - objects))


def _number(language: Language, word: str) -> int:
    """Of a word that is known to have one."""
    number = language.number(word)
    assert number is not None
    return number


def _columns(asked: Sequence[tuple[int, str, str]], known: Sequence[Fact]) -> dict[str, Sequence[Any]]:
    return {
        "fact": [number for number, _, _ in asked],
        "relation": [known[number].relation.name for number, _, _ in asked],
        "subject": [known[number].subject for number, _, _ in asked],
        "wording": [text for _, text, _ in asked],
    }


def _own_columns(
    asked: Sequence[tuple[int, str, str]], own: Sequence[Prompt], language: Language
) -> dict[str, Sequence[Any]]:
    """Which of the questions are the user's own, and the wrong answers to them."""
    wrong = {prompt.fact: -1 if prompt.wrong is None else _number(language, prompt.wrong) for prompt in own}
    return {
        "is_own": [number in wrong for number, _, _ in asked],
        "wrong": [wrong.get(number, -1) for number, _, _ in asked],
    }


def _relations(known: Iterable[Fact]) -> list[Relation]:
    return [*{fact.relation.name: fact.relation for fact in known}.values()]
