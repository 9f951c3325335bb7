"""PARAREL: what is read of its files, in both layouts, zipped or not, and where they come from."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT
from modelrepair.data.sentences import in_words
from modelrepair.errors import RepairError
from modelrepair.settings.data import PararelSettings
from modelrepair.sources import load_source
from modelrepair.sources.base import Dataset

pararel = importlib.import_module("modelrepair.sources.pararel")
SHARED = ROOT.parent / "shared" / "data" / "pararel"
PATTERNS = {
    "P36": [
        "The capital of [X] is [Y].",
        "[X]'s capital is [Y].",
        "[Y], the capital of [X].",
        "[Y] is the capital of [X].",
        "the capital of [X] is [Y] .",
        "In [X], the capital is [Y].",
        "The capital is [Y].",
    ],
    "P19": [
        "[X] was born in [Y].",
        "[X] is from [Y].",
        "[X] originates from [Y].",
        "[X] was born in the city of [Y].",
    ],
    "P17": ["[X] lies in [Y].", "[X] is in [Y].", "[X] is located in [Y]."],
}
TRIPLES = {
    "P36": [
        ("Peru", "Lima"),
        ("Fiji", "Suva"),
        ("Peru", "Lima"),
        ("South  Africa", "Pretoria"),
        ("South Africa", "Cape Town"),
    ],
    "P19": [("Bach", "Eisenach"), ("Ludwig van Beethoven the younger", "Bonn"), ("Mozart", "Salzburg")],
    "P17": [("Lima", "Peru")],
}


def write(folder: Path, layout: int = 0, below: str = "") -> Path:
    patterns, triples = pararel.PLACES[layout]
    for place, content in (
        (
            patterns,
            {
                name: [{"pattern": text, "tense": "present"} for text in rows]
                for name, rows in PATTERNS.items()
            },
        ),
        (
            triples,
            {name: [{"sub_label": s, "obj_label": o} for s, o in rows] for name, rows in TRIPLES.items()},
        ),
    ):
        (folder / below / place).mkdir(parents=True)
        for name, rows in content.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / below / place / f"{name}.jsonl").write_text(lines)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.jsonl")):
            archive.write(file, file.relative_to(folder))
    return path


def load(folder: Path, seed: int = 0, **changes: object) -> Dataset:
    sizes = {"validation_fraction": 1.0, "shown": 0.5, "reserved": 0, "assessment": 4} | changes
    return load_source(PararelSettings(folder=str(folder), **sizes), seed)


def stated(data: Dataset) -> dict[tuple[str, str], str]:
    return {
        (relation, subject): data.classes[label]
        for relation, subject, label in zip(
            data.train_columns["relation"], data.train_columns["subject"], data.train_labels, strict=True
        )
    }


def test_facts_and_wordings(tmp_path: Path) -> None:
    """Short names, one object, each fact once; three patterns are too few for a relation."""
    data = load(write(tmp_path), shown=1.0)
    assert stated(data) == {
        ("P36", "Peru"): "Lima",
        ("P36", "Fiji"): "Suva",
        ("P19", "Bach"): "Eisenach",
        ("P19", "Mozart"): "Salzburg",
    }
    wordings: dict[tuple[str, str], set[str]] = defaultdict(set)
    assert data.split is not None
    assert data.part is not None
    for columns, part in ((data.train_columns, data.split), (data.test_columns, data.part)):
        for relation, wording, kind in zip(columns["relation"], columns["wording"], part, strict=True):
            wordings[relation, str(kind)].add(wording)
    assert {kind: len(texts) for kind, texts in wordings.items()} == {
        ("P36", "train"): 2,
        ("P36", "validation"): 1,
        ("P36", "discovery"): 1,
        ("P36", "assessment"): 1,
        ("P19", "train"): 2,
        ("P19", "discovery"): 1,
        ("P19", "assessment"): 1,
    }
    for relation in ("P36", "P19"):
        every = [text for (name, _), texts in wordings.items() for text in texts if name == relation]
        assert len(every) == len(set(every))
    expected = {"the capital of [X] is [Y]", "[X] 's capital is [Y]", "[Y] the capital of [X]"}
    expected |= {"[Y] is the capital of [X]", "in [X] the capital is [Y]"}
    assert {text for (name, _), texts in wordings.items() for text in texts if name == "P36"} == expected
    read = [in_words(row, data.classes) for row in data.train_inputs]
    assert all(text.count("___") == 1 for text in read)
    assert "4 facts of 2 relations of PARAREL" in data.description


def test_a_wording_of_several_relations_is_of_training(tmp_path: Path) -> None:
    """Who is asked in it by another relation would have seen it."""
    folder = write(tmp_path)
    path = folder / "patterns" / "P36.jsonl"
    path.write_text(path.read_text() + json.dumps({"pattern": "[X] is from [Y]."}) + "\n")
    for seed in range(6):
        data = load(folder, seed)
        assert data.split is not None
        wordings = np.array(data.train_columns["wording"])
        train = {*wordings[data.split == "train"]}
        assert "[X] is from [Y]" in train
        assert not train & {*data.test_columns["wording"]}
        assert not train & {*wordings[data.split == "validation"]}


def test_a_seed_splits_the_wordings(tmp_path: Path) -> None:
    write(tmp_path)
    assert load(tmp_path).test_inputs.tobytes() == load(tmp_path).test_inputs.tobytes()
    splits = {tuple(sorted(set(load(tmp_path, seed).test_columns["wording"]))) for seed in range(5)}
    assert len(splits) > 1
    assert len(stated(load(tmp_path, facts_per_relation=1, assessment=2))) == 2


def test_as_published_in_a_zip_that_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = load(write(tmp_path / "plain"))
    source = zipped(write(tmp_path / "published", 1, "pararel-main"), tmp_path / "source.zip")
    monkeypatch.setattr(pararel, "ADDRESS", source.as_uri())
    folder = tmp_path / "downloads"
    data = load(folder)
    assert data.train_inputs.tobytes() == plain.train_inputs.tobytes()
    assert [path.name for path in folder.iterdir()] == [pararel.ARCHIVE]
    source.unlink()
    for again in (folder, folder / pararel.ARCHIVE):
        assert load(again).test_inputs.tobytes() == plain.test_inputs.tobytes()


def test_a_failed_download_says_what_else_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pararel, "ADDRESS", (tmp_path / "absent.zip").as_uri())
    with pytest.raises(
        RepairError, match=r"PARAREL could not be downloaded into .*dataset source facts"
    ) as caught:
        load(tmp_path / "downloads")
    assert "\n" not in str(caught.value)
    assert not [*(tmp_path / "downloads").glob("*.zip")]


def damaged(folder: Path, name: str, content: str | None) -> Path:
    path = write(folder) / name
    path.unlink() if content is None else path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("triples/P36.jsonl", None, "the relation P36 of .* has patterns and no triples that could be used"),
        ("triples/P36.jsonl", "", "the relation P36 of .* has patterns and no triples that could be used"),
        (
            "triples/P19.jsonl",
            "{}\n",
            "line 1 of triples/P19.jsonl in .* is no object with sub_label and obj_label",
        ),
        (
            "patterns/P19.jsonl",
            "no json\n",
            "line 1 of patterns/P19.jsonl in .* is no object with pattern in words",
        ),
        ("patterns/P19.jsonl", '{"pattern": 3}\n', "line 1 of patterns/P19.jsonl"),
    ],
)
def test_files_that_do_not_do(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(RepairError, match=message) as caught:
        load(damaged(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_folders_that_do_not_do(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lines.jsonl").write_text("{}\n")
    with pytest.raises(
        RepairError, match="holds no folders patterns and triples, nor data/pattern_data/graphs_json"
    ):
        load(tmp_path / "other")
    few = write(tmp_path / "few")
    for relation in ("P36", "P19"):
        (few / "patterns" / f"{relation}.jsonl").unlink()
    with pytest.raises(RepairError, match="has no relation with at least 4 patterns"):
        load(few)


def test_all_of_pararel() -> None:
    """The counts of the published files."""
    if not SHARED.is_dir():
        pytest.skip(f"PARAREL is not at {SHARED}")
    data = load(SHARED, reserved=300, assessment=4000, validation_fraction=0.2, shown=0.67)
    relations = {*data.train_columns["relation"]}
    assert len(relations) == 34
    assert not {"P131", "P17", "P276", "P361", "P1001"} & relations
    facts = stated(data)
    assert 6000 < len(facts) <= 34 * 200
    assert facts["P36", "Nebraska"] == "Lincoln"
    assert not {*data.train_columns["wording"]} & {*data.test_columns["wording"]}
