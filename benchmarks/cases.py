"""The cases of `cases.yaml`: what each is, checked before anything runs, and the runs of the pipeline that it takes."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from modelrepair.errors import RepairError
from modelrepair.settings import Number, Seed, Settings, Share, Text, choose, listed
from modelrepair.settings.corruption import (
    AdversarialSettings,
    BiasedSampleSettings,
    CorruptionSettings,
    InputNoiseSettings,
    InterclassConfusionSettings,
    LabelNoiseSettings,
)
from modelrepair.settings.parameters import Parameters
from modelrepair.settings.stages import stage_settings

PAIR = "/"
"""Between an identification and a treatment that are no method."""
OURS = "benchmark"
"""The name of every entry that a run adds to params.yaml, whatever that names."""

ACCURACIES = ("all", "clean_classes", "noisy_classes", "worst_class", "query", "holdout", "remaining")
"""In percent; before a treatment and after."""
CORRECTIONS = ("corrected_accuracy", "retained_accuracy", "trigger_success")
"""In percent, where the corruption has a domain; before a treatment and after."""
FACTS = (
    "success",
    "equivalence",
    "carried_over",
    "retain",
    "retain_shown",
    "retain_hidden",
    "retain_training",
    "deterioration",
)
"""In percent, after a treatment, where examples state facts."""
PORTABILITY = "portability"
KNOWLEDGE = ("false_rate", "false_rate_of_others", "exact_match", "f1", PORTABILITY)
"""In percent, how facts are held; before a treatment and after."""
PERPLEXITIES = ("perplexity", "adversarial_perplexity", "language_perplexity")
"""Of the same."""
EDITS = ("success", "equivalence", "retain", "deterioration")
"""In percent, of edits one by one, and of edits in a row after so many of them."""
RATIO = "forgotten_per_learned"
"""Facts forgotten for each one learned."""
RANKINGS = (
    "auroc",
    "average_precision",
    "precision_at_causes",
    "found_in_first_10_percent",
    "found_in_first_20_percent",
    "selected_precision",
    "selected_recall",
    "causes",
    "expected_causes",
    "expected_causes_error",
)
"""Of an identification, and its selection of causes."""
BY_CORRUPTION = ("auroc", "selected_recall")
"""Of the same, of each of several corruptions."""


SAID = (*ACCURACIES, *RANKINGS, *FACTS, *KNOWLEDGE, RATIO, *(f"{name}:single" for name in EDITS))
"""What papers say something of."""


class PartialRuns(Settings):
    """What is run where a part of the corrupted examples is known (Goel et al. 2024)."""

    shares: Annotated[list[Share], Field(min_length=1)]
    """γ, of the corrupted examples; what is drawn for a smaller share is part of what is drawn for a larger one."""
    treatments: list[Text] = Field(default_factory=list)
    """They are given these examples as causes."""
    found: list[Text] = Field(default_factory=list)
    """Pairs of an identification that is given these examples, and a treatment of what it finds by them."""


class Runs(Settings):
    """What is run, by the causes that a treatment is given."""

    found: list[Text] = Field(default_factory=list)
    """Causes found and selected as the case's parameters say: methods, or pairs such as `loss/finetune`."""
    true_causes: list[Text] = Field(default_factory=list)
    """Treatments that are given the corrupted examples."""
    partial: PartialRuns | None = None
    """Treatments that are given a part of them."""
    right_labels: list[Text] = Field(default_factory=list)
    """Treatments where no example is corrupted: what could be reached. They are given one example as causes."""


class PaperSays(Settings):
    """What a paper reports for a row of the results."""

    source: Text
    identification: str = ""
    treatment: str = ""
    """`none` for the model before repair; nothing for the search for causes alone."""
    causes: Literal["", "found", "true", "right-labels"] = ""
    values: Annotated[dict[Literal[SAID], Number], Field(min_length=1)]  # type: ignore[valid-type]


class Case(Settings):
    """A problem on which methods are measured."""

    description: Text
    kind: Literal["development", "report"]
    """development: settings are chosen on it. report: no choice ever looks at it."""
    seeds: Annotated[list[Seed], Field(min_length=1)]
    parameters: dict[Text, Any] = Field(default_factory=dict)
    """Dotted names of params.yaml with values in place of its own, and whole new entries."""
    runs: Runs
    paper: list[PaperSays] = Field(default_factory=list)

    @model_validator(mode="after")
    def _counts_once(self) -> Case:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed stands twice: give each once")
        return self


class Cases(Settings):
    """The file."""

    cases: Annotated[dict[Text, Case], Field(min_length=1)]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline.

    Attributes:
        identification: its name, or nothing where the causes do not come from one.
        treatment: its name.
        causes: "found", "true", a part of those such as "true-10" (percent), found from such a part as "found-10", or
            "right-labels".
        parameters: the content of params.yaml, but for the seed.
    """

    identification: str
    treatment: str
    causes: str
    parameters: Mapping[str, Any]

    def __str__(self) -> str:
        given = "right labels" if self.causes == "right-labels" else f"{self.causes} causes"
        return f"{self.identification or 'given'}{PAIR}{self.treatment}, {given}"

    @property
    def shown(self) -> str:
        """What its identification looks at beside the model: "failures", "discovery", or nothing."""
        return Parameters(**self.parameters).identifications[self.identification or OURS].sees

    @property
    def judged(self) -> bool:
        """Whether its identification also knows how often its judge believes what is right in discovery."""
        return Parameters(**self.parameters).identifications[self.identification or OURS].posterior.judges

    @property
    def given(self) -> set[str]:
        """What its identification or its treatment is given beside the model and the training examples."""
        taught = Parameters(**self.parameters).treatments[self.treatment].taught
        return {self.shown, *taught} - {""}

    def with_seed(self, seed: int) -> dict[str, Any]:
        return {**self.parameters, "seed": seed}

    def settings(self) -> dict[str, Settings]:
        """Each stage's settings.

        Raises:
            RepairError: if a parameter is not as it should be.
        """
        return stage_settings(Parameters(**self.parameters))


@dataclass(frozen=True)
class PlannedCase:
    """A case and its runs."""

    name: str
    case: Case
    runs: tuple[Run, ...]

    @property
    def paper(self) -> dict[tuple[str, str, str, str], float]:
        """What papers say, by identification, treatment, causes and metric."""
        return {
            (said.identification, said.treatment, said.causes, metric): value
            for said in self.case.paper
            for metric, value in said.values.items()
        }


def read_yaml(file: Path) -> Any:
    """The content of a file, as YAML 1.2, as the pipeline reads it."""
    try:
        return YAML(typ="safe", pure=True).load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError) as error:
        raise RepairError(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from None


def read_cases(
    file: Path,
    project: Path,
    changes: Mapping[str, Any] | None = None,
    names: Collection[str] | None = None,
    runs: Runs | None = None,
) -> dict[str, PlannedCase]:
    """The cases, each with its runs, checked as a whole.

    Args:
        file: `cases.yaml`.
        project: the folder with the `params.yaml` from which every case departs.
        changes: dotted names of parameters with values in place of the cases'.
        names: of the cases that are wanted; all by default.
        runs: in place of the cases' own.

    Raises:
        RepairError: if anything in the file, or in a run that follows from it, is not as it should be; or if cases to
            choose settings on and cases to report share seeds or pairs of classes.
    """
    content = read_yaml(file)
    base = read_yaml(project / "params.yaml")
    try:
        cases = Cases(**content).cases if isinstance(content, dict) else Cases(cases=content).cases
    except RepairError as error:
        raise RepairError(f"in {file.name}, {error}") from None
    planned = {}
    for name, case in cases.items():
        if names is not None and name not in names:
            continue
        if runs is not None:
            case = case.model_copy(update={"runs": runs, "paper": []})
        try:
            planned[name] = _planned(
                name, case, changed(base, {**case.parameters, **(changes or {})}), project
            )
        except RepairError as error:
            where = f"with {listed(changes)} set" if changes else f"in {file.name}"
            raise RepairError(f"{where}, case {name}: {error}") from None
    _keep_apart(planned.values(), file.name)
    return planned


def changed(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the content of params.yaml with other values.

    Args:
        content: nested sections.
        changes: dotted names with values; the last part of a name may be new, its sections may not.

    Raises:
        RepairError: if a section is not there.
    """
    result = copy.deepcopy(dict(content))
    for name, value in changes.items():
        *sections, last = name.split(".")
        place: Any = result
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise RepairError(f"params.yaml has no section {'.'.join(sections)}, in which to set {name}")
        place[last] = copy.deepcopy(value)
    return result


def class_pairs(run: Run) -> set[frozenset[str]]:
    """Pairs of classes that the run's corruptions confuse, and classes whose inputs they change or that they make rare.

    None where a corruption treats all classes alike and singles out none.
    """
    parameters = Parameters(**run.parameters)
    given = parameters.corruption
    names = [given] if isinstance(given, str) else given
    return set().union(*(_singled_out(parameters.corruptions[name]) for name in names))


def _singled_out(corruption: CorruptionSettings) -> set[frozenset[str]]:
    if isinstance(corruption, InputNoiseSettings | AdversarialSettings):
        return {frozenset([str(name)]) for name in corruption.classes or []}
    if isinstance(corruption, BiasedSampleSettings):
        return {frozenset([str(name)]) for name in corruption.group}
    if isinstance(corruption, InterclassConfusionSettings):
        return {frozenset(str(name) for name in corruption.classes)}
    if not isinstance(corruption, LabelNoiseSettings) or corruption.confusion_matrix is None:
        return set()
    given = corruption.confusion_matrix
    rows = given if isinstance(given, dict) else {i: dict(enumerate(row)) for i, row in enumerate(given)}
    rates = {(str(a), str(b)): rate for a, row in rows.items() for b, rate in row.items() if str(a) != str(b)}
    alike = len(set(rates.values())) == 1 and len(rates) == len(rows) * (len(rows) - 1)
    return set() if alike and len(rows) > 2 else {frozenset(pair) for pair, rate in rates.items() if rate > 0}


def _planned(name: str, case: Case, content: dict[str, Any], project: Path) -> PlannedCase:
    Parameters(**content)
    runs = tuple(_runs(case.runs, _with_absolute_folders(content, project)))
    if not runs:
        raise RepairError(
            "it runs nothing: name methods in runs.found, or treatments in another part of runs"
        )
    rows = {(run.identification, run.treatment, run.causes) for run in runs}
    if len(rows) < len(runs):
        raise RepairError("a run stands twice in runs, as itself or as the pair of a method: name it once")
    rows |= {("", "none", "")} | {(run.identification, "", run.causes) for run in runs if run.identification}
    for run in runs:
        try:
            run.settings()
        except RepairError as error:
            raise RepairError(f"{run}: {error}") from None
    for said in case.paper:
        row = said.identification, said.treatment, said.causes
        if row not in rows:
            raise RepairError(
                f"paper names a row that is not run: {', '.join(part or 'nothing' for part in row)}"
            )
    return PlannedCase(name, case, runs)


def _runs(wanted: Runs, content: dict[str, Any]) -> Iterator[Run]:
    for name in wanted.found:
        if PAIR in name:
            identification, treatment = name.split(PAIR, 1)
        else:
            method = choose("method", content["methods"], name)
            identification, treatment = method["identification"], method["treatment"]
            if method.get("selection") is not None:
                raise RepairError(
                    f"method {name} always selects by {method['selection']}: found causes it has none"
                )
        yield _run(content, identification, treatment, "found", {})
    given = {
        f"identifications.{OURS}": {"posterior": {"update": "none"}, "influence": {"score": "loss"}},
        "selection": OURS,
    }
    for treatment in wanted.true_causes:
        yield _run(content, "", treatment, "true", given | {f"selections.{OURS}": {"rule": "truth"}})
    if wanted.partial:
        for share in wanted.partial.shares:
            part = {f"selections.{OURS}": {"rule": "partial-truth", "share": share}}
            for treatment in wanted.partial.treatments:
                yield _run(content, "", treatment, f"true-{100 * share:g}", given | part)
            for pair in wanted.partial.found:
                identification, separator, treatment = pair.partition(PAIR)
                if not separator:
                    raise RepairError(
                        f"partial.found names {pair}: give pairs of an identification and a treatment, such as "
                        f"grow{PAIR}mend"
                    )
                known = part | {"known": OURS}
                yield _run(content, identification, treatment, f"found-{100 * share:g}", known)
    right = {
        f"corruptions.{OURS}": {"kind": "none"},
        "corruption": OURS,
        f"selections.{OURS}": {"rule": "top-k", "count": 1},
        "failures.required": False,
    }
    for treatment in wanted.right_labels:
        yield _run(content, "", treatment, "right-labels", given | right)


def _run(
    content: dict[str, Any], identification: str, treatment: str, causes: str, changes: dict[str, Any]
) -> Run:
    pair = {"identification": identification or OURS, "treatment": treatment}
    changes = {
        **changes,
        "method": OURS,
        f"methods.{OURS}": pair,
        "identification": None,
        "treatment": None,
        # What anybody would do is measured by runs of its own.
        "reference": "none",
        # How fast a run is does not depend on who shares it.
        "launch": {},
        # Any: a run is given its seed later.
        "seed": 0,
    }
    editors = ("closed-form", "knowledge-editor")
    if treatment in content["treatments"] and content["treatments"][treatment]["kind"] not in editors:
        # What nothing else can be asked.
        changes |= {"evaluation.single_edits": 0, "evaluation.edits_in_a_row": 0}
    parameters = changed(content, changes)
    chosen = {name: parameters[name] for name in ("dataset", "corruption", "method")} | pair
    own = choose("identification", parameters["identifications"], pair["identification"]).get("selection")
    if selection := parameters.get("selection") or own:
        chosen["selection"] = selection
    for family, name in chosen.items():
        members, names = parameters[f"{family}s"], name if isinstance(name, list) else [name]
        # DVC spends seconds on reading what a run does not use.
        parameters[f"{family}s"] = {one: choose(family, members, one) for one in names}
        if family == "selection" and (known := parameters.get("known")):
            parameters["selections"][known] = choose(family, members, known)
    return Run(identification, treatment, causes, parameters)


def _with_absolute_folders(content: dict[str, Any], project: Path) -> dict[str, Any]:
    """The same downloads, seen from any folder."""
    result = copy.deepcopy(content)
    for dataset in result["datasets"].values():
        if "folder" in dataset:
            dataset["folder"] = str((project / dataset["folder"]).resolve())
    return result


def _keep_apart(cases: Collection[PlannedCase], file: str) -> None:
    """Whether what settings are chosen on and what is reported have nothing in common that chance could favour."""
    seeds: dict[str, set[str]] = {"development": set(), "report": set()}
    pairs: dict[str, set[str]] = {"development": set(), "report": set()}
    for planned in cases:
        seeds[planned.case.kind] |= {str(seed) for seed in planned.case.seeds}
        confused = set().union(*(class_pairs(run) for run in planned.runs if run.causes != "right-labels"))
        pairs[planned.case.kind] |= {"-".join(sorted(pair)) for pair in confused}
    for what, of in (("seeds", seeds), ("pairs of classes", pairs)):
        if shared := of["development"] & of["report"]:
            raise RepairError(
                f"in {file}, development and report cases share the {what} {', '.join(sorted(shared))}: settings "
                "chosen on the former would be fitted to the latter"
            )
