"""A user's own prompts: sentences with a blank, what the model fills in, and what is right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from modelrepair.data.sentences import OBJECT, PUNCTUATION, SUBJECT, Language
from modelrepair.errors import RepairError
from modelrepair.lists import Line, expect_values, read_list
from modelrepair.sources.relations import Fact

PROMPT, RIGHT, WRONG, PARAPHRASES, RELATION = "prompt", "right", "wrong", "paraphrases", "relation"
BETWEEN = "|"
_BLANK = re.compile(r"_{2,}|\[MASK\]|\[blank\]|\[Y\]")


@dataclass(frozen=True)
class Prompt:
    """A question for a fact that training states.

    Attributes:
        fact: its number.
        wording: of the prompt, with places for the subject and the object.
        paraphrases: one at least.
        right: the right answer, a word of the vocabulary.
        wrong: what the model answers; None where the user does not say.
    """

    fact: int
    wording: str
    paraphrases: tuple[str, ...]
    right: str
    wrong: str | None


def read_prompts(path: Path, known: Sequence[Fact], language: Language) -> list[Prompt]:
    """The prompts of a CSV file, one a row.

    Columns are `prompt`, a sentence with one blank (___), and `right`, the word that belongs there; `wrong`, what the
    model fills in; `paraphrases`, the same in other words, with | between them, which no method sees; and `relation`,
    by its name, where subject and answers do not say which fact is meant. Where there are no paraphrases the relation's
    own wording for assessment asks for the fact.

    Which fact that is: of those whose subject stands in the prompt, and whose object is the right or the wrong answer
    or, where it is given, whose relation is `relation`, the one with the longest subject.

    Args:
        path: of the file.
        known: the facts.
        language: in which they are asked.

    Raises:
        RepairError: if there is no such file; if a row has no blank or several, several right answers, words that the
            vocabulary lacks, no relation in its column or one that there is not, or asks for no fact or for several; if
            a paraphrase is a wording of training or the prompt itself; or if rows differ on what is right.
    """
    columns, lines = read_list(
        path, column=PROMPT, of="prompt", missing="which holds the prompts: write it, or set prompts to null"
    )
    allowed = (PROMPT, RIGHT, WRONG, PARAPHRASES, RELATION)
    if RIGHT not in columns or len(set(columns)) < len(columns) or not {*columns} <= {*allowed}:
        raise RepairError(
            f"{path} has the columns {', '.join(columns)}: give {PROMPT} and {RIGHT}, and if you like "
            f"{', '.join(allowed[2:-1])} and {allowed[-1]}, each once"
        )
    if not lines:
        raise RepairError(f"{path} has no prompts: give one in each row below {', '.join(columns)}")
    reader = _Reader(path, known, language)
    prompts: list[Prompt] = []
    first: dict[int, tuple[int, str]] = {}
    for line in lines:
        expect_values(line, columns, len(columns), path)
        prompt = reader.prompt(line, dict(zip(columns, line.values, strict=False)))
        number, right = first.setdefault(prompt.fact, (line.number, prompt.right))
        if right != prompt.right:
            raise RepairError(
                f"lines {number} and {line.number} of {path} ask for one fact, and say that {right!r} and "
                f"{prompt.right!r} are right: leave one of them"
            )
        prompts.append(prompt)
    return prompts


class _Reader:
    """Makes prompts of rows.

    Args:
        path: of the file, for messages.
        known: the facts.
        language: in which they are asked.
    """

    def __init__(self, path: Path, known: Sequence[Fact], language: Language) -> None:
        self.path, self.known, self.language = path, known, language
        self.relations = sorted({fact.relation.name for fact in known})
        self.of_subject: dict[tuple[str, ...], list[int]] = {}
        for number, fact in enumerate(known):
            self.of_subject.setdefault(tuple(fact.subject.split()), []).append(number)

    def prompt(self, line: Line, values: Mapping[str, str]) -> Prompt:
        right = self._answer(line, values[RIGHT], RIGHT)
        wrong = self._answer(line, values[WRONG], WRONG) if values.get(WRONG) else None
        if wrong == right:
            self._refuse(
                line, f"gives {right!r} as wrong and as right", "give what the model answers, or nothing"
            )
        sentence = self._words(line, values[PROMPT])
        number = self._fact(line, sentence, {right, wrong}, values.get(RELATION))
        fact = self.known[number]
        wording = self._wording(line, sentence, fact)
        asked = [text.strip() for text in values.get(PARAPHRASES, "").split(BETWEEN)]
        paraphrases = [self._wording(line, self._words(line, text), fact) for text in asked if text]
        for text in paraphrases:
            if text == wording or text in fact.relation.wordings:
                seen = "the prompt itself" if text == wording else "a wording of the training sentences"
                self._refuse(
                    line,
                    f"has {_said(text, fact)!r} as a paraphrase, which is {seen}",
                    "give one that no method has seen, or nothing",
                )
        if not paraphrases:
            paraphrases = [next(text for text in fact.relation.probes[::-1] if text != wording)]
        return Prompt(number, wording, tuple(paraphrases), right, wrong)

    def _answer(self, line: Line, text: str, column: str) -> str:
        if not text:
            self._refuse(
                line, f"has nothing in the column {column}", "give the word that belongs into the blank"
            )
        if BETWEEN in text:
            self._refuse(
                line,
                f"has several {column} answers, {text[:80]!r}",
                "give one: what is taught is one word for the blank",
            )
        if self.language.number(text) is None:
            what, instead = self.language.answers
            self._refuse(line, f"has the {column} answer {text[:80]!r}, which is no {what}", instead)
        return text

    def _words(self, line: Line, text: str) -> list[str]:
        """The words of a sentence, with [Y] for its blank."""
        blanks = len(_BLANK.findall(text))
        if blanks != 1:
            self._refuse(
                line,
                f"has {'no blank' if not blanks else f'{blanks} blanks'} in {text[:80]!r}",
                "write ___ once, where the answer belongs",
            )
        return _BLANK.sub(f" {OBJECT} ", text).split()

    def _fact(
        self, line: Line, sentence: Sequence[str], answers: set[str | None], relation: str | None
    ) -> int:
        if relation is not None and relation not in self.relations:
            what = (
                f"has the relation {relation[:80]!r}, which there is not" if relation else "has no relation"
            )
            self._refuse(
                line, what, f"give one of {', '.join(self.relations)}, or leave the column {RELATION} out"
            )
        plain = [word.strip(PUNCTUATION) for word in sentence]
        found: list[int] = []
        longest = max(map(len, self.of_subject))
        for length in range(min(longest, len(plain)), 0, -1):
            names = {
                tuple(side[start : start + length])
                for side in (sentence, plain)
                for start in range(len(plain) - length + 1)
            }
            found = [
                number
                for name in sorted(names & self.of_subject.keys())
                for number in self.of_subject[name]
                if (
                    self.known[number].object in answers
                    if relation is None
                    else self.known[number].relation.name == relation
                )
            ]
            if found:
                break
        text = " ".join(sentence).replace(OBJECT, "___")
        if not found:
            self._refuse(
                line,
                f"asks {text[:80]!r}, for a fact that no training sentence states",
                "name its subject as the data do, so that what taught it can be found",
            )
        if len(found) > 1:
            names_of = ", ".join(sorted({self.known[number].relation.name for number in found}))
            self._refuse(
                line,
                f"asks {text[:80]!r}, which could mean {len(found)} facts ({names_of})",
                f"say which in a column {RELATION}",
            )
        return found[0]

    def _wording(self, line: Line, sentence: Sequence[str], fact: Fact) -> str:
        """The sentence in words of the vocabulary, with places for the subject and the object."""
        subject = fact.subject.split()
        words = list(sentence)
        for start in range(len(words) - len(subject) + 1):
            own = words[start : start + len(subject)]
            if own == subject or [word.strip(PUNCTUATION) for word in own] == subject:
                words[start : start + len(subject)] = [SUBJECT]
                break
        else:
            self._refuse(
                line,
                f"does not name {fact.subject} in {' '.join(sentence).replace(OBJECT, '___')[:80]!r}",
                "every paraphrase asks for the fact of its prompt",
            )
        wording = " ".join(filter(None, (self._known_word(line, word) for word in words)))
        if not self.language.takes(wording):
            self._refuse(
                line,
                f"has its blank before the end in {_said(wording, fact)[:80]!r}, and the model says how texts go on",
                "write it with the blank at the end",
            )
        return wording

    def _known_word(self, line: Line, word: str) -> str:
        """The word as the language has it."""
        form = word if word in (SUBJECT, OBJECT) else self.language.form(word)
        if form is not None:
            return form
        self._refuse(
            line,
            f"has the word {word[:80]!r}, which no sentence of the data has, so that no model could know it",
            "say it in other words",
        )

    def _refuse(self, line: Line, what: str, instead: str) -> NoReturn:
        raise RepairError(f"line {line.number} of {self.path} {what}: {instead}")


def _said(wording: str, fact: Fact) -> str:
    return wording.replace(SUBJECT, fact.subject).replace(OBJECT, "___")
