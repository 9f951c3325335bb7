"""Sentences as numbers of the words of a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from numpy.typing import NDArray

PADDING, BLANK = "[none]", "[blank]"
PADDING_NUMBER, BLANK_NUMBER = 0, 1
"""In every vocabulary: what fills a sentence up behind its end, and what stands for the missing word."""
SUBJECT, OBJECT = "[X]", "[Y]"
"""In every wording: the places of what is spoken of and of what is said of it."""

PUNCTUATION = ".,;:!?\"'()"
"""What is no part of a word in somebody else's sentence."""
CONTINUED = "##"
"""Before names of what is no word and goes on one, as in vocabularies of pretrained models."""


class Language(Protocol):
    """How sentences become numbers of a vocabulary.

    Attributes:
        answers: what an answer has to be, and what to do with one that is not, in words.
    """

    answers: ClassVar[tuple[str, str]]

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """What the numbers are called, padding and blank first."""
        ...

    def takes(self, wording: str) -> bool:
        """Whether a model can be asked in this wording."""
        ...

    def sentence(self, wording: str, subject: str) -> list[int]:
        """The numbers of a sentence about a subject, with the blank's in the place of its object."""
        ...

    def number(self, word: str) -> int | None:
        """The number of an answer; None if it is not one of the vocabulary."""
        ...

    def form(self, word: str) -> str | None:
        """How a word of somebody else's is written in it: "" for punctuation alone, None if it is not known."""
        ...


class Words:
    """A vocabulary that was made for some sentences.

    Args:
        vocabulary: its words, padding and blank first.
    """

    answers: ClassVar[tuple[str, str]] = (
        "word that the data have",
        "write it as the data do, with capitals, or give another",
    )

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self.numbers = {word: number for number, word in enumerate(self.vocabulary)}

    def takes(self, wording: str) -> bool:
        """Any."""
        return True

    def sentence(self, wording: str, subject: str) -> list[int]:
        """As of `Language`."""
        return [self.numbers[word] for word in tokens(wording, subject, self.numbers)]

    def number(self, word: str) -> int | None:
        """As of `Language`."""
        return self.numbers.get(word)

    def form(self, word: str) -> str | None:
        """As it is, without punctuation, or in small letters."""
        plain = word.strip(PUNCTUATION)
        return next((form for form in (word, plain, plain.lower()) if form in self.numbers or not form), None)


def tokens(wording: str, subject: str, numbers: Mapping[str, int]) -> list[str]:
    """The words of a sentence, with a blank in the place of its object. A subject that is a word itself is one word.

    Args:
        wording: with a place for each of the two.
        subject: of one word or more.
        numbers: of the words of the vocabulary.
    """
    sentence: list[str] = []
    for word in wording.split():
        if word == SUBJECT:
            sentence += [subject] if subject in numbers else subject.split()
        else:
            sentence.append(BLANK if word == OBJECT else word)
    return sentence


def in_words(numbers: NDArray[Any], vocabulary: Sequence[str]) -> str:
    """The sentence that (length,) numbers of words spell, with ___ for the blank; number 0 fills up and is no word."""
    words = (vocabulary[int(number)] for number in numbers if number)
    text = " ".join("___" if word == BLANK else word for word in words)
    # Of pretrained models' tokens, the first word has no space before it to be told by.
    return text.removeprefix(CONTINUED).replace(f" {CONTINUED}", "")
