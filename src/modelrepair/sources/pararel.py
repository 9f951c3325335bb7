"""Facts of Wikidata in the wordings of PARAREL."""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from modelrepair.data.randomness import generator
from modelrepair.data.sentences import OBJECT, SUBJECT
from modelrepair.errors import RepairError
from modelrepair.pipeline.artifacts import output_file
from modelrepair.settings.data import PararelSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.files import Files, open_files
from modelrepair.sources.relations import Fact, Relation, fits
from modelrepair.sources.sentences import sentences

ADDRESS = "https://github.com/yanaiela/pararel/archive/HEAD.zip"
ARCHIVE = "pararel.zip"
PLACES = (("patterns", "triples"), ("data/pattern_data/graphs_json", "data/trex_lms_vocab"))
"""Where patterns and triples lie, in a folder or below one: of a plain copy, and as published."""
FEWEST, MOST_IN_TRAINING = 4, 5
"""Patterns that a relation needs: two that ask, and two of training; and those of training, at most."""
_SECONDS = 60
_WORD = re.compile(r"\[[XY]\]|[^\s\[\],;:!?]+")


def pararel(settings: PararelSettings, seed: int, _: Path | None) -> Dataset:
    """Sentences with a blank of the triples and patterns of PARAREL (Elazar et al. 2021, "Measuring and improving
    consistency in pretrained language models", section 3).

    The relations are those with four patterns at least, which the seed splits into wordings: two ask, one is of the
    validation split if there are five, and up to five of the others are of training. A wording that several relations
    have is of training alone. An object is one word of the vocabulary. Subjects of more than three words are left out,
    and those with several objects in a relation.

    Raises:
        RepairError: if the files are missing and cannot be downloaded, or hold something else; if a relation has
            patterns and no triples; if too few facts are there, or prompts of one's own ask for none of them.
    """
    with _files(Path(settings.folder)) as files:
        known, relations = read_facts(
            files, seed, None if settings.tokeniser else settings.facts_per_relation
        )
    return sentences(
        known,
        generator(seed, "facts"),
        settings,
        origin=f"facts of {relations} relations of PARAREL",
    )


def read_facts(files: Files, seed: int, most: int | None) -> tuple[list[Fact], int]:
    """The facts that the files state, and of how many relations.

    Args:
        files: with patterns and triples.
        seed: splits the patterns.
        most: of a relation, those that stand first; None for all.

    Raises:
        RepairError: see `pararel`.
    """
    patterns, triples = _places(files)
    known: list[Fact] = []
    names = [name for name in files.names if name.startswith(f"{patterns}/") and name.endswith(".jsonl")]
    every = {name: [*_patterns(files, name)] for name in names}
    wordings = {name: texts for name, texts in every.items() if len(texts) >= FEWEST}
    having = Counter(text for texts in wordings.values() for text in texts)
    relations = 0
    for name in sorted(wordings, key=_number):
        relation = _relation(
            Path(name).stem, wordings[name], {text for text in having if having[text] > 1}, seed
        )
        if relation is None:
            continue
        own = f"{triples}/{Path(name).name}"
        found = _facts(relation, [*_triples(files, own)] if own in files.names else [])
        if not found:
            raise RepairError(
                f"the relation {relation.name} of {files.path} has patterns and no triples that could be used: add "
                f"{own}, or take its patterns out"
            )
        known += found[:most]
        relations += 1
    if not relations:
        raise RepairError(
            f"{files.path} has no relation with at least {FEWEST} patterns that name subject and object once: give the "
            "whole of PARAREL"
        )
    return known, relations


def _files(folder: Path) -> Files:
    """Those of the folder or zip, after a download where it holds nothing of the kind."""
    if folder.is_file():
        return open_files(folder)
    if folder.is_dir():
        files = open_files(folder)
        if any(name.endswith(".jsonl") for name in files.names):
            return files
    archive = folder / ARCHIVE
    if not archive.exists():
        _download(archive)
    return open_files(archive)


def _download(archive: Path) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            output_file(archive) as path,
            urllib.request.urlopen(ADDRESS, timeout=_SECONDS) as answer,
            path.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise RepairError(
            f"PARAREL could not be downloaded into {archive.parent} ({reason}): put {ADDRESS} there yourself as "
            f"{ARCHIVE}, or use the dataset source facts, which needs no download"
        ) from None


def _places(files: Files) -> tuple[str, str]:
    """The folders of patterns and of triples."""
    for wanted in PLACES:
        for folder in sorted(files.folders):
            if folder == wanted[0] or folder.endswith(f"/{wanted[0]}"):
                above = folder.removesuffix(wanted[0])
                if above + wanted[1] in files.folders:
                    return folder, above + wanted[1]
    raise RepairError(
        f"{files.path} holds no folders {' and '.join(PLACES[0])}, nor {' and '.join(PLACES[1])} as PARAREL is "
        f"published: give what is at {ADDRESS}"
    )


def _number(name: str) -> tuple[int, str]:
    """By which relations are in order: P19 before P101."""
    digits = "".join(filter(str.isdigit, Path(name).stem))
    return int(digits or 0), name


def _rows(files: Files, name: str, keys: Sequence[str]) -> Iterator[list[str]]:
    """The values of these keys in each line of a file."""
    try:
        content = files.read(name).decode()
    except (OSError, ValueError) as error:
        raise RepairError(f"{name} of {files.path} cannot be read ({error}): fetch it again") from None
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            values = [row[key] for key in keys]
        except (ValueError, KeyError, TypeError):
            values = []
        if not values or not all(isinstance(value, str) and value.strip() for value in values):
            raise RepairError(
                f"line {number} of {name} in {files.path} is no object with {' and '.join(keys)} in words: fetch the "
                "file again"
            )
        yield values


def _patterns(files: Files, name: str) -> Iterator[str]:
    """Wordings in small letters without punctuation, each once, with one subject and one object."""
    seen = set()
    for (pattern,) in _rows(files, name, ["pattern"]):
        found = [
            word if word in (SUBJECT, OBJECT) else word.lower().strip(".") for word in _WORD.findall(pattern)
        ]
        wording = " ".join(filter(None, found))
        if found.count(SUBJECT) == found.count(OBJECT) == 1 and wording not in seen:
            seen.add(wording)
            yield wording


def _triples(files: Files, name: str) -> Iterator[tuple[str, str]]:
    for subject, object in _rows(files, name, ["sub_label", "obj_label"]):
        yield " ".join(subject.split()), " ".join(object.split())


def _relation(name: str, wordings: Sequence[str], shared: Set[str], seed: int) -> Relation | None:
    """The relation with its wordings split; None where two that no other relation has are lacking.

    Args:
        name: of the relation.
        wordings: four at least.
        shared: those that other relations have too, which are of training alone: who is trained on them there has seen
            them.
        seed: of the shuffling.
    """
    order = generator(seed, f"wordings of {name}").permutation(len(wordings))
    shuffled = [wordings[place] for place in order]
    own = [text for text in shuffled if text not in shared]
    if len(own) < 2:
        return None
    validation = own[2] if len(own) > 2 and len(wordings) > FEWEST else None
    training = [text for text in shuffled if text not in (*own[:2], validation)]
    return Relation(name, tuple(training[:MOST_IN_TRAINING]), validation, (own[0], own[1]))


def _facts(relation: Relation, triples: Sequence[tuple[str, str]]) -> list[Fact]:
    """Of subjects with one object, in short names, each once."""
    once = [*dict.fromkeys(triples)]
    objects = Counter(subject for subject, _ in once)
    return [
        Fact(relation, subject, object)
        for subject, object in once
        if objects[subject] == 1 and fits(subject) and not {SUBJECT, OBJECT} & {subject, object}
    ]
