"""From a model and its failures to a repaired model and its evidence, in one call.

What the pipeline's stages do, one after the other, by the same functions and with the settings of `params.yaml`.
"""

from __future__ import annotations

import importlib.resources
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from modelrepair.curvature import PATH_CURVATURES, Curvature, fit_curvature
from modelrepair.data.classes import class_number
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.gathering import gather
from modelrepair.evaluation.measures import measure_all
from modelrepair.influence import Investigation, belief, combine, influence_scores, of_each_cluster
from modelrepair.models.examples import Examples, chosen_positions
from modelrepair.models.trained_model import TrainedModel
from modelrepair.posterior import Edited, evidence_of, insert_evidence, own_effects
from modelrepair.repairing.adapters import Subject, as_examples, as_further_examples, as_subject
from modelrepair.repairing.resuming import Keep, fingerprint_of, keep_nothing, kept_in, saved_scores
from modelrepair.selection import candidates, expected_causes, select_causes
from modelrepair.settings import Settings
from modelrepair.settings.attributes import expect_no_classes
from modelrepair.settings.curvature import FitFisher
from modelrepair.settings.evaluation import Description
from modelrepair.settings.failures import FailuresSettings, SplitFailures
from modelrepair.settings.influence import ScoreInfluence
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.posterior import UpdatePosterior
from modelrepair.settings.reference import TrainReference
from modelrepair.settings.selection import SelectCauses
from modelrepair.settings.stages import stage_settings
from modelrepair.settings.treatment import Treat, Treatment
from modelrepair.sound import Sound
from modelrepair.splits.clusters import divide_failures
from modelrepair.splits.dataset import split_training, training_table
from modelrepair.splits.failures import split_failures
from modelrepair.training.descent import Oversight
from modelrepair.training.trajectory import require_trajectory
from modelrepair.treatment import Patient, Treated, highest_losses, make_treatment
from modelrepair.valuation.features import last_layer_factors

PARAMETERS = Path(str(importlib.resources.files("modelrepair"))) / "params.yaml"

OF_THE_PIPELINE = {"protocol": "discovery", "file": None, "most_reserved": None, "detect": "answer"}
"""Settings of failures that are about the data of a pipeline, with their values where they say nothing."""


@dataclass(frozen=True)
class Repair:
    """What a repair leaves.

    Attributes:
        scores: (n,) how harmful each training example is, positive = harmful; None for a request, which scores nothing.
        causes: (m,) positions of the training examples that were taken as causes, most harmful first.
        model: the repaired model, of the kind that was given; a torch module is in eval mode.
        measured: the numbers of `metrics/repair.json`.
        evidence: what they are made of, for `evaluation.measures`, `.pictures` and `.page`.
        used: method, identification, treatment, selection, and what the method was given ("uses").
    """

    scores: NDArray[np.float64] | None
    causes: NDArray[np.int64]
    model: Any
    measured: dict[str, dict[str, Any]]
    evidence: Evidence
    used: dict[str, Any]


def repair(
    model: Any,
    train: Any,
    failures: Any | None,
    test: Any | None = None,
    *,
    method: str = "mend",
    identification: str | None = None,
    treatment: str | None = None,
    selection: str | None = None,
    reference: str = "obvious",
    settings: Mapping[str, Any] = MappingProxyType({}),
    causes: ArrayLike | None = None,
    known: ArrayLike | None = None,
    reserved: Any | None = None,
    classes: Sequence[str] | None = None,
    weight_decay: float | None = None,
    batch_size: int = 500,
    device: torch.device | str | None = None,
    seed: int = 0,
    checkpoints: Path | str | None = None,
) -> Repair:
    """Find the training examples that cause a model's failures, repair the model, and measure what that did.

    A random half of each class of `test` is kept from all steps and measures the repair; the other half is discovery,
    by which a treatment may judge its points. Test examples that are among the failures are no part of the first.
    Without test examples the failures are halved so: then nothing says, nor keeps a treatment from it, what it breaks.

    Args:
        model: a torch module in the form of `adapters.as_subject`, or a fitted logistic regression of scikit-learn. It
            is left as it is.
        train: what it was trained on, with the labels that it was given, as `adapters.as_examples` takes them; their
            order is that of the scores.
        failures: examples outside training with their right labels; those that the model has right are no failures.
            None: what it has wrong in discovery.
        test: examples outside training with their right labels, right and wrong ones; None: there are none but the
            failures.
        method, identification, treatment, selection, reference: names of entries in `params.yaml`, as there.
        settings: further settings by their dotted names in `params.yaml`, such as
            {"identifications.second-look.posterior.looks": 6}.
        causes: positions of the causes, or a mask, in place of what a selection would choose, as of a request to erase.
        known: positions of causes that are known beforehand, or a mask, from which `grow` finds the rest.
        reserved: clean examples, for methods that learn from some, such as bir.
        classes: their names.
        weight_decay: α of the penalty α/2·‖θ‖² on the mean loss that the model was trained with; by default 0, or what
            the estimator says.
        batch_size, device: where and how a torch module runs, as in `TrainedModel`.
        seed: of all that is drawn.
        checkpoints: a folder in which long steps keep their progress. After a kill, the same call with the same folder
            goes on where it was, to the same result to the byte; anything else that decides the result, such as data,
            settings or the version of the package, begins afresh. It holds one repair at a time.

    Raises:
        RepairError: for a name or setting that is not there, or what does not fit together.
        NoFailures: if there is nothing that the model has wrong.
    """
    examples = as_examples(train, "training examples")
    subject = as_subject(model, examples, classes=classes, batch_size=batch_size, device=device)
    examples = examples.with_targets(subject.number(np.asarray(examples.targets)))

    def further(data: Any, what: str) -> Examples:
        return as_further_examples(data, what, subject, examples)

    if test is None:
        if failures is None:
            raise RepairError("neither failures nor test examples were given: give one of them at least")
        _say(
            "there are no test examples: one half of the failures measures, and what the repair breaks is not known"
        )
        test, failures = failures, None
    tests = further(test, "test examples")
    given = None if failures is None else further(failures, "failures")
    changes: dict[str, Any] = {
        "seed": seed,
        "method": method,
        "identification": identification,
        "treatment": treatment,
        "selection": "listed" if causes is not None else selection,
        "known": None if known is None else "listed",
        "reference": reference,
        # How much is kept clean is for the caller to say, and checked below.
        "dataset": "mnist-sample",
        "corruption": "none",
        # Its options are those of the model itself.
        "model": {"network": "own", "options": {"code": "given:Model"}},
        "training.weight_decay": subject.weight_decay or 0.0 if weight_decay is None else weight_decay,
    }
    stages = stage_settings(read_parameters(PARAMETERS, {**changes, **settings}))
    description = cast(Description, stages["evaluate"])
    wanted = cast(SplitFailures, stages["split-failures"]).failures
    split = _split(subject, given, tests, wanted, required=description.scored, seed=seed)
    split = _divided(subject, split, cast(SplitFailures, stages["split-failures"]))
    operation = _Operation(
        stages=stages,
        subject=subject,
        training=examples,
        discovery=split.of(split.watched),
        failures=split.of(split.roles == "query"),
        clusters=None if split.clusters is None else split.clusters[split.roles == "query"],
        known=np.empty(0, dtype=np.int64) if known is None else chosen_positions(known, len(examples)),
        clean=None if reserved is None else further(reserved, "reserved examples"),
        seed=seed,
    )
    operation.expect_possible()
    given_causes = None if causes is None else chosen_positions(causes, len(examples))
    sets = {"training": examples, "tests": split.tests, "reserved": operation.clean}

    def fingerprint() -> str:
        drawn = split.roles.astype(bytes), split.parts.astype(bytes), operation.known, given_causes, seed
        return fingerprint_of(stages, subject.model, sets, subject.classes, *drawn)

    with kept_in(checkpoints, fingerprint) as keep:
        evidence, treated = _operated(replace(operation, keep=keep), split, description, given_causes)
    return Repair(
        scores=evidence.scores,
        causes=evidence.causes,
        model=subject.returned(treated.model),
        measured=measure_all(evidence),
        evidence=evidence,
        used=description.model_dump(include={"method", "identification", "treatment", "selection", "uses"}),
    )


def _operated(
    operation: _Operation, split: _Split, description: Description, given: NDArray[np.int64] | None
) -> tuple[Evidence, Treated]:
    """What comes of all steps, for these causes or, without, those that are found."""
    if description.scored:
        _say(f"scoring {len(operation.training)} training examples by {description.identification}")
    each, sound = saved_scores(operation.keep("scores"), operation.scores)
    combined = combine(each) if len(each) > 1 else None
    scores = each[0] if combined is None else combined.scores
    found = operation.causes(scores, sound) if given is None else given
    rule = cast(SelectCauses, operation.stages["select-causes"]).selection
    _say(f"treating {len(found)} causes by {description.treatment}")
    treated = operation.treated(cast(Treat, operation.stages["treat"]).treatment, found, "treatment")
    course = pd.DataFrame(treated.trace).drop(columns="watched")
    if description.reference is not None:
        _say(f"making what stands beside it: {description.reference}")
    reference = operation.reference(found)
    _say("measuring")
    evidence = gather(
        base=operation.subject.model,
        repaired=treated.model,
        training=operation.training,
        tests=split.tests,
        class_names=operation.subject.classes,
        scores=scores if description.scored else None,
        causes=found,
        roles=split.roles,
        parts=split.parts,
        course=course.assign(returned=course["round"] == treated.best_round),
        reference=reference,
        reference_in_words=description.reference,
        reference_retrained=description.retrained,
        clusters=split.kinds,
        failure_clusters=split.clusters,
        driven_clusters=None if combined is None else combined.clusters,
        expected_causes=expected_causes(scores, sound) if given is None and rule.by_even_odds else None,
        seed=operation.seed,
    )
    return evidence, treated


def _say(what: str) -> None:
    """Beside the progress bars of the steps."""
    tqdm.write(f"repair: {what}", file=sys.stderr)


@dataclass(frozen=True)
class _Split:
    """The examples outside training, and what each is for.

    Attributes:
        tests: given failures first.
        roles, parts: (t,) as in `Evidence`.
        clusters: (t,) the cluster of each failure, -1 of other examples; None where failures are not divided.
        kinds: what each cluster is.
    """

    tests: Examples
    roles: NDArray[np.str_]
    parts: NDArray[np.str_]
    clusters: NDArray[np.int64] | None = None
    kinds: Sequence[dict[str, Any]] = ()

    @property
    def watched(self) -> NDArray[np.bool_]:
        """(t,) the examples by which a treatment may judge its points."""
        return np.asarray(self.parts == "discovery")

    def of(self, chosen: NDArray[np.bool_]) -> Examples:
        return self.tests.subset(chosen)


def _split(
    subject: Subject,
    given: Examples | None,
    tests: Examples,
    wanted: FailuresSettings,
    *,
    required: bool,
    seed: int,
) -> _Split:
    """What methods may see, and what measures them."""
    for name, usual in OF_THE_PIPELINE.items():
        if (value := getattr(wanted, name)) != usual:
            raise RepairError(
                f"failures.{name} is {value}, which is for the pipeline: leave it out, and give what is meant as "
                "`failures`, `test` or `reserved`"
            )
    model = subject.model
    if given is not None:
        seen = {example.tobytes() for example in given.inputs}
        other = np.array([example.tobytes() not in seen for example in tests.inputs], dtype=bool)
        tests = tests.subset(other)
    if len(tests) < 2:
        raise RepairError(
            f"{len(tests)} test examples that are not among the failures were given: give some of each class, of which "
            "one half judges the treatment and the other measures the repair"
        )
    lost = model.outputs(tests).isnan().flatten(1).any(dim=1)
    if lost.any():
        first = int(lost.nonzero()[0])
        raise RepairError(
            f"the network's outputs for {int(lost.sum())} of the {len(tests)} test examples are NaN, the first for "
            f"example {first} of those that are not among the failures: leave it out, or mend its input"
        )
    half = split_training(tests.targets, 0.5, generator(seed, "halves of the test examples"))
    parts = np.where(half == "validation", "assessment", "discovery")
    listed = None
    if given is not None:
        tests, parts = given.followed_by(tests), np.r_[np.full(len(given), "discovery"), parts]
        # What the search is for is what was given; how far the repair carries is seen on all else that fails.
        listed = (np.arange(len(tests)) < len(given)) | (parts == "assessment")
    roles = split_failures(
        model.correct(tests).cpu().numpy() == 1,
        parts,
        tests.targets,
        generator(seed, "failures"),
        failure_classes=None
        if wanted.classes is None
        else [class_number(name, subject.classes) for name in wanted.classes],
        required=required,
        most_queries=wanted.most_queries,
        listed=listed,
    )
    return _Split(tests, roles["role"].to_numpy(str), parts)


def _divided(subject: Subject, split: _Split, settings: SplitFailures) -> _Split:
    """The same with the failures in clusters, where they are to be divided and there is more than one."""
    wanted, model, tests = settings.failures, subject.model, split.tests
    if not wanted.clustered:
        return split
    clusters, kinds = divide_failures(
        lambda positions: last_layer_factors(model, tests.subset(positions)),
        np.asarray(tests.targets),
        model.likelihood.predictions(model.outputs(tests)).cpu().numpy(),
        split.roles,
        wanted.clusters,
        settings.seed,
        examples=tests.rows,
        classes=subject.classes,
    )
    return replace(split, clusters=clusters, kinds=kinds) if kinds else split


@dataclass(frozen=True)
class _Operation:
    """A model with its failures, and the settings of each step."""

    stages: Mapping[str, Settings]
    subject: Subject
    training: Examples
    discovery: Examples
    failures: Examples
    clusters: NDArray[np.int64] | None
    known: NDArray[np.int64]
    clean: Examples | None
    seed: int
    keep: Keep = keep_nothing

    @cached_property
    def _fitted(self) -> dict[str, Curvature]:
        """Curvatures by name, each fitted once for all steps, when the first of them asks."""
        return {}

    def expect_possible(self) -> None:
        """Nothing if all steps have what they need, as far as it can be told before the first of them.

        Raises:
            RepairError: if one lacks clean examples or the course of the training, or needs classes where examples have
                attributes.
        """
        if np.ndim(self.training.targets) == 2:
            expect_no_classes(self.stages)
        insertion, made = cast(UpdatePosterior, self.stages["update-posterior"]), self._treatments
        learned = {insertion.evidence} if insertion.posterior.inserts else set()
        if "reserved" in learned.union(*(treatment.taught for treatment in made)):
            self._reserved()
        score = cast(ScoreInfluence, self.stages["score-influence"]).influence
        if score.follows:
            require_trajectory(None, f"the score {score.chosen}")
        asked = (
            cast(FitFisher, self.stages[stage]).curvatures for stage in ("fit-fisher", "train-reference")
        )
        for name in {name for curvatures in asked for name in curvatures if name in PATH_CURVATURES}:
            require_trajectory(None, f"the curvature {name}")

    @property
    def _treatments(self) -> list[Treatment]:
        reference = cast(TrainReference, self.stages["train-reference"]).treatment
        return [cast(Treat, self.stages["treat"]).treatment, *([] if reference is None else [reference])]

    def scores(self) -> tuple[NDArray[np.float64], Sound | None]:
        """(k, n) of the training examples, a row for each cluster of failures, or one of all where they are one.

        Where they are odds, also how often their judge believes what is right elsewhere.
        """
        base, insertion = self.subject.model, cast(UpdatePosterior, self.stages["update-posterior"])
        edited = self._inserted(insertion) if insertion.posterior.inserts else []
        effects = None
        if insertion.posterior.alone:
            name, damping = insertion.insertion or ("", 0.0)
            effects = own_effects(base, self.training, self._curvature(name, damping))
        score = cast(ScoreInfluence, self.stages["score-influence"]).influence
        investigation = Investigation(
            base=base,
            updated=edited[0].model if edited else base,
            examples=self.training,
            discovery=self.discovery,
            failures=self.failures,
            gaussians=edited[0].gaussians if edited else None,
            own_effects=effects,
            fresh=lambda: self.subject.fresh(self.seed),
            seed=self.seed,
            known=self.known,
            checkpoint=self.keep("score") if score.lasts else None,
        )
        parts = [investigation]
        # A score that looks at no failures, and at no posterior with them, is the same for all of them.
        if self.clusters is not None and (len(edited) > 1 or score.sees == "failures"):
            updates = [(one.model, one.gaussians) for one in edited]
            parts = of_each_cluster(investigation, self.clusters, updates if len(updates) > 1 else None)
        scores = np.stack([influence_scores(part, score.chosen, **score.options) for part in parts])
        sound = belief(parts, self.discovery) if score.even_odds else None
        return scores, sound

    def causes(self, scores: NDArray[np.float64], sound: Sound | None) -> NDArray[np.int64]:
        """Positions of the causes that the selection chooses, most harmful first."""
        settings = cast(SelectCauses, self.stages["select-causes"])
        rule = settings.selection
        split = np.full(len(self.training), "train")
        table = candidates(training_table(self.training.targets, split), self.subject.classes)
        return select_causes(
            scores,
            table,
            rule.chosen,
            known=self.known,
            sound=sound,
            at_least_one=settings.at_least_one,
            **rule.options,
        )

    def treated(self, treatment: Treatment, causes: NDArray[np.int64], step: str) -> Treated:
        """The model without these causes; the step is that under which progress is kept."""
        patient = Patient(
            model=self.subject.model,
            examples=self.training,
            causes=causes,
            discovery=self.discovery,
            failures=self.failures,
            curvature=self._curvature,
            reserved=self._reserved,
            fresh=lambda: self.subject.fresh(self.seed),
            guarded=bool(treatment.guarded),
            tolerance=treatment.tolerance,
            judged_by=treatment.judged_by,
            seed=self.seed,
            checkpoint=self.keep(step),
        )
        return make_treatment(treatment.chosen, **treatment.options).treat(patient)

    def reference(self, causes: NDArray[np.int64]) -> TrainedModel | None:
        """The model beside which the repaired one stands, if there is one."""
        settings = cast(TrainReference, self.stages["train-reference"])
        if settings.treatment is None:
            return None
        if settings.dropped is not None:
            causes = highest_losses(self.subject.model, self.training, settings.dropped)
        elif settings.known:
            causes = self.known
        return self.treated(settings.treatment, causes, "reference").model

    def _inserted(self, settings: UpdatePosterior) -> list[Edited]:
        """The posterior with the evidence, or with that of each cluster of failures alone."""
        checkpoint = self.keep("insertion")
        pieces = [(evidence_of(settings, self.failures, self._reserved), checkpoint)]
        if self.clusters is not None and settings.evidence == "failures":
            pieces = [
                (
                    self.failures.subset(self.clusters == number),
                    checkpoint and checkpoint.part(f"cluster-{number}"),
                )
                for number in range(int(self.clusters.max()) + 1)
            ]
        return [
            insert_evidence(
                settings,
                self.subject.model,
                evidence,
                self.training,
                curvature=self._curvature,
                seed=self.seed,
                discovery=self.discovery,
                oversight=Oversight(checkpoint=kept),
            )
            for evidence, kept in pieces
        ]

    def _reserved(self) -> Examples:
        if self.clean is None:
            raise RepairError(
                "the method learns from clean examples, and none were given: give some as `reserved`"
            )
        return self.clean

    def _curvature(self, name: str, damping: float) -> Curvature:
        if name not in self._fitted:
            of_stages = (cast(FitFisher, self.stages[stage]) for stage in ("fit-fisher", "train-reference"))
            options = next(stage.curvatures[name] for stage in of_stages if name in stage.curvatures)
            self._fitted[name] = fit_curvature(name, self.subject.model, self.training, **options)
        return self._fitted[name].damped(damping)
