"""All of `params.yaml`: what it holds, read and checked as a whole.

The file is read as YAML 1.2, as DVC reads it: 5e-05 is a number and 010 is ten.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from modelrepair.errors import RepairError
from modelrepair.settings import Seed, Settings, Text, alternatives, expect, named, shown
from modelrepair.settings.corruption import (
    Corruption,
)
from modelrepair.settings.curvature import FisherTable
from modelrepair.settings.data import Source
from modelrepair.settings.evaluation import EvaluationSettings
from modelrepair.settings.failures import FailuresSettings
from modelrepair.settings.influence import Score
from modelrepair.settings.launch import LaunchSettings
from modelrepair.settings.posterior import InsertionSettings
from modelrepair.settings.reference import (
    OBVIOUS,
)
from modelrepair.settings.selection import Selection
from modelrepair.settings.training import ModelSettings, TrainingSettings
from modelrepair.settings.treatment import (
    Treatment,
)

Name = Annotated[str, Field(min_length=1), expect("a name")]
OptionalName = Annotated[str | None, expect("a name, or null")]


class Identification(InsertionSettings):
    """A way to find causes: a posterior update that inserts the failures, and a score."""

    influence: Score
    selection: OptionalName = None
    """The selection that goes with its scores, unless the run or the method names another."""

    @property
    def sees(self) -> str:
        """Beside models and training examples it looks at this: "discovery", "failures", "reserved", or nothing."""
        if self.influence.sees or not self.posterior.inserts or self.evidence == "nothing":
            return self.influence.sees
        return self.evidence

    @model_validator(mode="after")
    def _compares(self) -> Identification:
        if self.influence.compares and not self.posterior.inserts:
            raise ValueError(
                f"the score {self.influence.chosen} compares the model with and without the failures, and "
                f"posterior.update {self.posterior.chosen} inserts none: choose a posterior update, or another score"
            )
        if self.influence.alone != self.posterior.alone:
            raise ValueError(
                f"the score {self.influence.chosen} does not go with posterior.update {self.posterior.chosen}: the "
                "score self-influence and the update each-alone go together"
            )
        if self.influence.averages and not self.posterior.spreads:
            raise ValueError(
                f"the score {self.influence.chosen} averages over a posterior, of which posterior.update "
                f"{self.posterior.chosen} gives the mode alone: choose online-ewc or variational, or another score"
            )
        return self


class Method(Settings):
    """A way to find causes and a way to treat them, by their names."""

    identification: Name
    treatment: Name
    selection: OptionalName = None
    """A selection that this method always uses."""


class Parameters(Settings):
    """The sections of `params.yaml`."""

    seed: Seed
    """Of everything that is drawn at random."""
    method: Name
    """One of `methods`."""
    identification: OptionalName = None
    """One of `identifications`, in place of the method's."""
    treatment: OptionalName = None
    """One of `treatments`, in place of the method's."""
    dataset: Name
    """One of `datasets`."""
    corruption: Annotated[Name | list[Name], expect("a name, or a list of names")]
    """One of `corruptions`, or several, such as [label-noise, backdoor]: each of examples that none before it has
    corrupted."""
    selection: OptionalName = None
    """One of `selections`, in place of the identification's."""
    known: OptionalName = None
    """One of `selections` that needs no scores: causes that are known before anything is scored."""
    reference: Name = OBVIOUS
    """What the repaired model stands beside. obvious: what anybody would do with what the method is given. none:
    nothing. Or one of `treatments`, for the same causes, such as retrain."""
    own_data: Text
    """The folder of your own data files. What reads it runs again when anything in it changes."""
    launch: LaunchSettings = LaunchSettings()
    datasets: dict[Name, Source]
    corruptions: dict[Name, Corruption]
    model: ModelSettings
    training: TrainingSettings
    failures: FailuresSettings
    fisher: FisherTable
    selections: dict[Name, Selection]
    identifications: dict[Name, Identification]
    treatments: dict[Name, Treatment]
    methods: dict[Name, Method]
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _names(self) -> Parameters:
        for name, method in self.methods.items():
            for family in ("identification", "treatment", "selection"):
                chosen, members = getattr(method, family), getattr(self, f"{family}s")
                if chosen is not None and chosen not in members:
                    others = alternatives(chosen, members)
                    raise ValueError(
                        f"methods.{named(name)}.{family} is {shown(chosen)}: choose one of {others}"
                    )
        return self


def read_parameters(path: Path, changes: Mapping[str, Any] = MappingProxyType({})) -> Parameters:
    """The content of `params.yaml`, checked.

    Args:
        path: of the file.
        changes: values by their dotted names, which take the place of those in the file.

    Raises:
        RepairError: if it cannot be read, or anything in it, used or not, is not as described here.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RepairError(
            f"there is no {path.name} in {path.parent}: run stages from the project's folder, with `dvc repro`"
        ) from None
    except (YAMLError, ValueError, OSError, LookupError, RecursionError) as error:
        raise RepairError(
            f"{path.name} cannot be read as YAML: {' '.join(str(error).split())[:200]}"
        ) from None
    if not isinstance(content, dict):
        raise RepairError(f"{path.name} should hold names with values, not {type(content).__name__}")
    if strange := [key for key in content if not isinstance(key, str)]:
        raise RepairError(f"{path.name} has a section {strange[0]!r}: names of sections are texts")
    for name, value in changes.items():
        *sections, last = name.split(".")
        place: Any = content
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise RepairError(
                f"{path.name} has no section {'.'.join(sections)}, of which {name} is set: name one that it has"
            )
        place[last] = value
    try:
        return Parameters(**content)
    except RepairError as error:
        raise RepairError(f"in {path.name}, {error}") from None
