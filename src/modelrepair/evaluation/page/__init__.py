"""On what page does a person decide? One HTML file with all that it needs, written from one `Evidence` and its `Links`.

`write_page` puts together what the other files make: `columns` the records that the page's script shows, `sprites`
their thumbnails, `overview` and `charts` the numbers. What the page looks like and does is in `assets`.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from modelrepair.course import given_up
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.links import Links
from modelrepair.evaluation.page import columns, overview
from modelrepair.evaluation.page.sprites import COLUMNS, Sheet, draw_sheets

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("marks.js", "suspects.js", "list.js", "record.js", "failures.js", "kinds.js", "page.js")
# Of PNG; as text they take a third more.
SUSPECT_BYTES, TEST_BYTES = 1_200_000, 250_000


@dataclass(frozen=True)
class Run:
    """What was run, in words.

    Attributes:
        used: names of method, identification, treatment and selection, and what the method was given, as in
            `metrics/repair.json`.
        parameters: names and values that `dvc exp run -S` takes to run it again.
        score: unit and meaning of the scores; None where nothing was scored.
        costs: of stages, by `stage`: `seconds`, and `peak_mib` of memory; none where nobody wanted to know.
    """

    used: Mapping[str, Any]
    parameters: Mapping[str, Any]
    score: Mapping[str, Any] | None = None
    costs: Sequence[Mapping[str, Any]] = ()

    @property
    def command(self) -> str:
        """The command that runs it again."""
        return _command(self.parameters)

    @property
    def command_with_marks(self) -> str:
        """The command that runs it with the causes that a person has marked."""
        return _command({**self.parameters, "selection": "reviewed"})


def _command(parameters: Mapping[str, Any]) -> str:
    settings = (f"-S {shlex.quote(f'{name}={value}')}" for name, value in parameters.items())
    return " ".join(["dvc exp run", *settings])


def write_page(path: Path, evidence: Evidence, links: Links, measured: Mapping[str, Any], run: Run) -> None:
    """Write the page: the same bytes for the same arguments.

    Args:
        path: the HTML file.
        evidence: of the run.
        links: between its suspects and failures.
        measured: as `measure_all` measures it.
        run: what was run.
    """
    labels = columns.Labels(evidence)
    changed = columns.changed(evidence)
    spelled = columns.are_spelled(evidence.training_shown)
    sheets, places = _pictures(evidence, links, changed, spelled=spelled)
    records = {
        "classes": list(evidence.class_names),
        "attributes": evidence.has_attributes,
        "scored": evidence.scores is not None,
        "unit": run.score["unit"] if run.score else "",
        "taken": len(evidence.causes),
        "suspects": {**columns.suspects(evidence, links, labels), **places["suspects"]},
        "failures": {**columns.failures(evidence, links, labels), **places["failures"]},
        "changed": {
            name: {**columns.tests(evidence, rows, labels), **places[name], "count": count}
            for name, (rows, count) in changed.items()
        },
        "columns": COLUMNS,
        "spelled": spelled,
    }
    if evidence.clusters:
        records["clusters"] = columns.clusters(evidence, links)
    records["labels"] = labels.texts
    text = _as_text(records)
    class_rows, left_out = overview.classes(evidence)
    page = _template().render(
        run=run,
        records=text,
        identity=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
        style=_asset("page.css"),
        script=Markup("\n").join(_asset(name) for name in SCRIPTS),
        sheets=sheets,
        columns=COLUMNS,
        spelled=spelled,
        measured=measured,
        evidence=evidence,
        links=links,
        changed={name: count for name, (_, count) in changed.items()},
        groups=overview.groups(evidence, measured),
        classes=class_rows,
        classes_left_out=left_out,
        confusions=overview.confusions(evidence),
        charts=overview.charts(evidence),
        given_up=given_up(evidence.course),
        marks=overview.marks(evidence),
        kinds=overview.kinds(evidence),
    )
    path.write_text(page, encoding="utf-8", errors="replace")


def _pictures(
    evidence: Evidence, links: Links, changed: Mapping[str, tuple[NDArray[np.int64], int]], *, spelled: bool
) -> tuple[list[tuple[str, Sheet]], dict[str, dict[str, list[int]]]]:
    """Sheets of thumbnails by their names, and, for each table, on which sheet and where on it each of its examples is.

    None where examples are texts, which say more than their picture.
    """
    if spelled:
        return [], {name: {} for name in ("suspects", "failures", *changed)}
    suspects = links.suspects
    groups = np.zeros(len(suspects), np.int64) if evidence.has_attributes else evidence.given_labels[suspects]
    of_suspects, where = draw_sheets(evidence.training_inputs, suspects, groups, SUSPECT_BYTES)
    tables = {"failures": links.failures, **{name: rows for name, (rows, _) in changed.items()}}
    tests = np.concatenate(list(tables.values()))
    of_tests, places = draw_sheets(evidence.test_inputs, tests, np.zeros(len(tests), np.int64), TEST_BYTES)
    parts = np.split(places[:, 1], np.cumsum([len(rows) for rows in tables.values()])[:-1])
    found = {name: {"place": part.tolist()} for name, part in zip(tables, parts, strict=True)}
    found["suspects"] = {"sheet": where[:, 0].tolist(), "place": where[:, 1].tolist()}
    sheets = [(f"s{number}", sheet) for number, sheet in enumerate(of_suspects)]
    return sheets + [("t0", sheet) for sheet in of_tests[:1]], found


def _as_text(records: Any) -> Markup:
    """JSON that no class name can leave: nothing in it is a tag or the end of a line to HTML or JavaScript."""
    text = json.dumps(records, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> Markup:
    return Markup((ASSETS / name).read_text(encoding="utf-8"))


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f}"
    environment.filters["whole"] = lambda value: "–" if value is None else f"{100 * value:.0f} %"
    environment.filters["thousands"] = lambda value: f"{value:,}"
    return environment.get_template("page.html")
