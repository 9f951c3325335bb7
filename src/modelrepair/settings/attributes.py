"""What cannot be done where examples have attributes in place of one class each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from modelrepair.errors import RepairError
from modelrepair.settings import Settings, listed
from modelrepair.settings.corruption import CorruptData, SeveralSettings
from modelrepair.settings.failures import SplitFailures
from modelrepair.settings.influence import ScoreInfluence
from modelrepair.settings.posterior import UpdatePosterior, UpdateSettings
from modelrepair.settings.reference import TrainReference
from modelrepair.settings.treatment import DeleteSettings, JudgedSettings, Treat, Treatment


def expect_no_classes(stages: Mapping[str, Settings]) -> None:
    """Nothing if all that is to be run can be run on examples with attributes.

    Args:
        stages: from `stage_settings`.

    Raises:
        RepairError: if something needs one class an example; says what, and what to choose.
    """
    for what, remedy in _of_classes(stages):
        raise RepairError(f"{what} needs examples with one class each, and these have attributes: {remedy}")


def _of_classes(stages: Mapping[str, Settings]) -> Iterator[tuple[str, str]]:
    """What needs classes, and what to do instead."""
    corruption = cast(CorruptData, stages["corrupt-data"]).corruption
    if corruption.of_classes:
        each = corruption.names if isinstance(corruption, SeveralSettings) else [corruption.chosen]
        yield f"the corruption {listed(each)}", "set corruption to none"
    failures = cast(SplitFailures, stages["split-failures"]).failures
    if failures.classes is not None:
        yield "failures.classes", "set it to null"
    if failures.file is not None:
        yield "failures.file", "set it to null"
    if failures.clustered:
        yield f"failures.clusters {failures.clusters}", "set it to none"
    influence = cast(ScoreInfluence, stages["score-influence"]).influence
    if influence.of_classes:
        yield f"the score {influence.chosen}", "choose another identification, such as ewc, linear or loss"
    inserts = cast(UpdatePosterior, stages["update-posterior"]).posterior
    updates: list[tuple[str, UpdateSettings]] = [("identification", inserts)]
    updates += [("treatment", update) for update in _updates_of(cast(Treat, stages["treat"]).treatment)]
    reference = cast(TrainReference, stages["train-reference"]).treatment
    updates += [("reference", update) for update in _updates_of(reference)]
    for whose, update in updates:
        if update.of_classes:
            yield (
                f"the {whose}'s posterior update {update.chosen} with protects logit",
                "set protects to log-likelihood, or choose another",
            )


def _updates_of(treatment: Treatment | None) -> list[UpdateSettings]:
    if isinstance(treatment, DeleteSettings):
        return [treatment.posterior]
    return [treatment.judge.posterior] if isinstance(treatment, JudgedSettings) else []
