"""Settings of the failures that the repair is for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelrepair.settings import ClassName, Count, Flag, Positive, Seed, Settings, Text, expect


class CkaSettings(Settings):
    """Contrastive Knowledge Assessment of facts: how much likelier is the object than in other relations (Dong et al.
    2022)."""

    alpha: Positive = 0.001
    """α, added to both probabilities."""
    threshold: Positive = 1.0
    """A fact with less than this is not held by the model."""
    relations: Count = 3
    """How many other relations of the training sentences stand against each."""


class FailuresSettings(Settings):
    """Which failures, and who may see them."""

    protocol: Literal["discovery", "halves"] = "discovery"
    """discovery: what methods see and what is measured are different examples. halves: query and holdout are random
    halves of all failures (Tanno et al. 2022)."""
    classes: Annotated[
        Annotated[list[ClassName], Field(min_length=1)] | None,
        expect("a list of classes such as [1, 7], or null"),
    ] = None
    """Only failures of these classes; null for all."""
    file: Annotated[Text | None, expect("a file, or null")] = None
    """A CSV file in the folder `requests` that lists failures: a column `label`, the right class, and a column
    `example` with the number of a test example, or `file` with its name. Only those of them are failures that the model
    has wrong. null: all that it has wrong."""
    required: Flag = True
    """Whether to stop if there are none; false to erase examples from a model without failures."""
    most_queries: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = None
    """At most so many failures are shown to methods as such, a random part that is contained in any larger one; the
    others stay among the examples by which a repair is judged. null: all."""
    most_reserved: Annotated[Count | None, expect("a whole number of 1 or more, or null")] = None
    """At most so many of the reserved examples are to be had, of all classes alike; contained in any larger part.
    null: all."""
    detect: Literal["answer", "cka"] = "answer"
    """What a failure is. answer: an example that the model has wrong. cka: of facts, one that it does not hold by
    `cka`, whatever it answers."""
    clusters: Annotated[
        Count | Literal["auto", "none"], expect("a whole number of 1 or more, auto, or none")
    ] = "none"
    """Into so many clusters the failures that methods are shown are divided, by how they fail, and causes are sought
    for each, so that a rare kind of failure counts as much as a frequent one. auto: as many as lie apart best, 8 at
    most. none, as 1: all failures are one."""
    cka: CkaSettings = CkaSettings()
    """How facts are assessed, as failures and when results are measured."""

    @property
    def clustered(self) -> bool:
        """Whether there may be several clusters."""
        return self.clusters not in ("none", 1)


class SplitFailures(Settings):
    """What the stage split-failures is given."""

    seed: Seed
    failures: FailuresSettings
