"""Sentences as the tokens of a pretrained language model's own tokeniser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelrepair.data.sentences import (
    BLANK,
    BLANK_NUMBER,
    CONTINUED,
    OBJECT,
    PADDING,
    PUNCTUATION,
    SUBJECT,
)
from modelrepair.errors import RepairError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokeniser.json"
SHIFT = 2
"""Token t is number t + 2: 0 and 1 are padding and the blank, in this vocabulary as in every other."""
_BEGINNINGS = ("Ġ", "▁")
"""By which tokens of byte-level and of SentencePiece tokenisers say that a word begins."""
_BEFORE = "is"
"""What a word stands behind when its tokens are looked at: at the beginning of a text it may have others."""


class Tokens:
    """How a language model reads sentences with a blank, and which words it can answer with by one token.

    A masked model reads the whole sentence, with its mask token for the blank. A causal one, which says how texts go
    on, reads what stands before the blank, so that the blank has to be at the end. Sentences begin with a capital
    letter, and those of a masked model end with a full stop, as those that such models were trained on do.

    Args:
        tokenizer: of the package tokenizers.
        mask: the token for the blank of a masked model; None for a causal one.
        size: how many tokens the model tells apart, which may be more than the tokeniser makes.

    Raises:
        RepairError: if the tokeniser has no such mask, or makes more tokens than the model knows.
    """

    answers: ClassVar[tuple[str, str]] = ("single token of the model", "give another")

    def __init__(self, tokenizer: Tokenizer, mask: str | None, size: int) -> None:
        self._tokenizer, self._mask, self._size = tokenizer, mask, size
        self.mask_id: int | None = None if mask is None else tokenizer.token_to_id(mask)
        if mask is not None and self.mask_id is None:
            raise RepairError(
                f"the tokeniser has no token {mask!r}, by which its model is asked: give the model's own"
            )
        if tokenizer.get_vocab_size() > size:
            raise RepairError(
                f"the tokeniser makes {tokenizer.get_vocab_size()} tokens, and the model knows {size}: give the "
                "tokeniser and the model of one folder"
            )

    @property
    def is_causal(self) -> bool:
        """Whether the model says how a text goes on, and does not look behind the blank."""
        return self._mask is None

    def takes(self, wording: str) -> bool:
        """Whether the model can be asked in this wording."""
        return not self.is_causal or wording.split()[-1] == OBJECT

    def sentence(self, wording: str, subject: str) -> list[int]:
        """The numbers of a sentence, with the blank's in the place of the object.

        Args:
            wording: with places for the object and, if it names one, the subject.
            subject: of one word or more.

        Raises:
            RepairError: if a causal model cannot be asked in it.
        """
        if not self.takes(wording):
            raise RepairError(
                f"the model says how texts go on, and the blank of {wording!r} is not at the end: ask otherwise"
            )
        words = [subject if word == SUBJECT else word for word in wording.split()]
        if self._mask is None:
            text = " ".join(words[:-1])
            return [*(one + SHIFT for one in self._ids(text[:1].upper() + text[1:])), BLANK_NUMBER]
        text = " ".join(self._mask if word == OBJECT else word for word in words)
        if words[0] != OBJECT:
            text = text[:1].upper() + text[1:]
        return [BLANK_NUMBER if one == self.mask_id else one + SHIFT for one in self._ids(f"{text}.")]

    def number(self, word: str) -> int | None:
        """The number of a word within a sentence; None if it is not one token of the model's."""
        before, after = (
            self._tokenizer.encode(text, add_special_tokens=False).ids
            for text in (_BEFORE, f"{_BEFORE} {word}")
        )
        if after[:-1] != before or after[-1] in self._special:
            return None
        return int(after[-1]) + SHIFT

    def form(self, word: str) -> str:
        """As it is: a language model of others knows any."""
        return word if word.strip(PUNCTUATION) else ""

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """What each number is called: a word by itself, a part that goes on a word with ## before it."""
        raw = [self._tokenizer.id_to_token(one) for one in range(self._size)]
        marked = any(token and token.startswith(_BEGINNINGS) for token in raw)
        seen: Counter[str] = Counter()
        own = []
        for number, name in enumerate(self._names(raw, marked)):
            own.append(f"{name} [{number}]" if seen[name] else name)
            seen[name] += 1
        return (PADDING, BLANK, *own)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write the tokeniser into a folder; returns what else `read` needs."""
        (folder / FILE).write_text(self._tokenizer.to_str(), encoding="utf-8")
        return {"mask": self._mask, "size": self._size}

    @classmethod
    def read(cls, folder: Path, mask: str | None, size: int) -> Tokens:
        """What `write` wrote.

        Raises:
            RepairError: if the file is missing or damaged.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / FILE))
        # The package raises no narrower one.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise RepairError(
                f"{folder / FILE} cannot be read ({reason}): rerun the stage that writes it"
            ) from None
        return cls(tokenizer, mask, size)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    @cached_property
    def _special(self) -> set[int]:
        """Tokens that are no part of a text, such as that for unknown words."""
        added = self._tokenizer.get_added_tokens_decoder()
        return {number for number, token in added.items() if token.special}

    def _names(self, raw: list[str | None], marked: bool) -> Iterator[str]:
        for number, token in enumerate(raw):
            if token is None:
                yield f"[unused {number}]"
            elif number in self._special or not marked:
                yield token
            else:
                text = self._tokenizer.decode([number], skip_special_tokens=False).strip()
                if not text or "\ufffd" in text:
                    # A space, or a part of a character.
                    yield token
                else:
                    yield text if token.startswith(_BEGINNINGS) else f"{CONTINUED}{text}"
