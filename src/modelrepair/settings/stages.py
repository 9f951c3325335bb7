"""What each stage is given: its part of the parameters, once all of them are known to fit together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar, cast

from modelrepair.errors import RepairError
from modelrepair.settings import Member, Settings, choose, named, shown
from modelrepair.settings.as_trained import as_trained, inserting
from modelrepair.settings.corruption import (
    AnnotationNoiseSettings,
    AnyCorruption,
    CorruptData,
    CorruptionSettings,
    FalseFactsSettings,
    SeveralSettings,
)
from modelrepair.settings.curvature import FitFisher
from modelrepair.settings.data import ImageTableSettings, PrepareData, SentencesSettings, Source
from modelrepair.settings.evaluation import Description
from modelrepair.settings.failures import SplitFailures
from modelrepair.settings.influence import ScoreInfluence, TrajectorySettings
from modelrepair.settings.networks import TransformersSettings, check_network
from modelrepair.settings.parameters import Identification, Parameters
from modelrepair.settings.posterior import InsertionSettings, UpdatePosterior
from modelrepair.settings.reference import (
    NONE,
    OBVIOUS,
    TrainReference,
    dropped_share,
    in_words,
    reference_treatment,
)
from modelrepair.settings.selection import KnowCauses, ListedSettings, SelectCauses, Selection
from modelrepair.settings.training import (
    ModelSettings,
    TrainBase,
    TrainingSettings,
    TrainVictim,
)
from modelrepair.settings.treatment import (
    ClosedFormSettings,
    DeleteSettings,
    JudgedSettings,
    KnowledgeEditorSettings,
    LessonSettings,
    MendSettings,
    Treat,
    Treatment,
)

Chosen = TypeVar("Chosen", bound=Member)
Insertion = TypeVar("Insertion", bound=InsertionSettings)
REQUESTS = "requests"
WEIGHTS = "weights"


def stage_settings(parameters: Parameters) -> dict[str, Settings]:
    """Each stage's settings, by its name; those of evaluate are the `Description` of what is run.

    Raises:
        RepairError: if a name is not there, or identification, treatment, selection and corruption do not fit.
    """
    method = choose("method", parameters.methods, parameters.method)
    name = parameters.identification or method.identification
    identification = choose("identification", parameters.identifications, name)
    selected = method.selection or parameters.selection or identification.selection
    if selected is None:
        how = "names no selection" if identification.influence.ranks else "scores no examples"
        raise RepairError(
            f"the identification {name!r} {how}: say which causes are taken, as with -S selection=class"
        )
    names = {
        "identification": name,
        "treatment": parameters.treatment or method.treatment,
        "selection": selected,
    }
    treatment = choose("treatment", parameters.treatments, names["treatment"])
    selection = choose("selection", parameters.selections, names["selection"])
    corruption = _corruption(parameters)
    scored = identification.influence.ranks
    check_network(parameters.model)
    if parameters.model.from_file:
        _check_place("model.pretrained", str(parameters.model.pretrained), WEIGHTS, "weights")
    if parameters.failures.file is not None:
        _check_place("failures.file", parameters.failures.file, REQUESTS, "requests")
    dataset = _written(choose("dataset", parameters.datasets, parameters.dataset), parameters)
    _check_dataset(parameters, dataset, corruption)
    _check_room(parameters, names["treatment"], treatment)
    _check(identification, selection, corruption, names)
    for chosen in {names["treatment"], parameters.reference} & {*parameters.treatments}:
        if isinstance(parameters.treatments[chosen], KnowledgeEditorSettings) and not dataset.in_words:
            raise RepairError(
                f"the treatment {chosen!r} edits facts, and datasets.{named(parameters.dataset)} states none: choose a "
                "dataset whose source is facts, or another treatment"
            )
        if "restated" in parameters.treatments[chosen].taught and not dataset.in_words:
            raise RepairError(
                f"the treatment {chosen!r} trains on restated, sentences of facts with the right object, and "
                f"datasets.{named(parameters.dataset)} states no facts: choose a dataset whose source is facts, or "
                "leave restated out of its trains_on"
            )
    edits = isinstance(treatment, KnowledgeEditorSettings | ClosedFormSettings) and dataset.in_words
    for wish in ("single_edits", "edits_in_a_row"):
        count = getattr(parameters.evaluation, wish)
        if count and not edits:
            raise RepairError(
                f"evaluation.{wish} is {count}, and the treatment {names['treatment']!r} makes no edits of facts here: "
                "set it to 0, or choose knowledge-editor or closed-form for data whose source is facts"
            )
    if parameters.failures.clustered and not scored:
        raise RepairError(
            f"failures.clusters is {parameters.failures.clusters}, and the identification {name!r} scores no "
            "examples, by which the causes of each could be told: set it to none, or choose another identification"
        )
    known = _known(parameters, identification, name, corruption)
    _check_trajectory(identification, parameters)

    guarded = scored if treatment.guarded is None else treatment.guarded
    given = {identification.sees, *treatment.taught}
    if "reserved" in given and not dataset.reserved:
        raise RepairError(
            f"the identification {name!r} or the treatment {names['treatment']!r} learns from reserved examples, of "
            f"which datasets.{named(parameters.dataset)} keeps none: set its `reserved` to 300, for example, "
            "or choose others"
        )
    # What a judge makes of discovery tells what its belief is worth, and how many causes are expected.
    judged = selection.by_even_odds or identification.posterior.judges
    by_default = "guard" if guarded or judged else "failures" if scored else "request"
    uses = next((part for part in ("discovery", "reserved") if part in given), by_default)
    asked = [identification.curvature, treatment.stiffness]
    curvatures = sorted({name for name in asked if name is not None})
    inserts = inserting(identification, parameters.training)
    insertion = {name: getattr(inserts, name) for name in InsertionSettings.model_fields}
    seed = parameters.seed
    reference, described = _reference(parameters, uses, scored=scored, guarded=guarded)
    _check_recorded(parameters, identification.influence.chosen, [*curvatures, *reference.curvatures])
    treating = _treating(names["treatment"], treatment, parameters, reference)
    return {
        "prepare-data": PrepareData(seed=seed, dataset=dataset),
        "train-victim": _victim(corruption, parameters),
        "corrupt-data": CorruptData(seed=seed, corruption=corruption),
        "train-base": TrainBase(seed=seed, model=parameters.model, training=parameters.training),
        "split-failures": SplitFailures(seed=seed, failures=parameters.failures),
        "know-causes": KnowCauses(known=known),
        "fit-fisher": FitFisher(
            curvatures={name: parameters.fisher.of(name).model_dump() for name in curvatures}
        ),
        "update-posterior": UpdatePosterior(seed=seed, **insertion),
        "score-influence": ScoreInfluence(
            seed=seed, influence=as_trained(identification.influence, parameters.training)
        ),
        "select-causes": SelectCauses(
            selection=selection,
            for_reference=reference.same_causes,
            at_least_one=not all(one.goes_without_causes for one in treating.values()),
            only_removes=next((which for which, one in treating.items() if not one.relabels), None),
        ),
        "treat": Treat(seed=seed, treatment=_complete(treatment, parameters, guarded)),
        "train-reference": reference,
        "evaluate": Description(
            method=parameters.method,
            **names,
            uses=uses,
            known=parameters.known,
            scored=scored,
            reference=described,
            retrained=reference.is_gold_standard,
            seed=seed,
            measured=parameters.evaluation,
            cka=parameters.failures.cka if dataset.in_words else None,
            parameters={
                "method": parameters.method,
                **names,
                "dataset": parameters.dataset,
                "corruption": parameters.corruption
                if isinstance(parameters.corruption, str)
                else f"[{','.join(parameters.corruption)}]",
                "model.network": parameters.model.network,
                "reference": parameters.reference,
                "seed": str(seed),
                **({} if parameters.known is None else {"known": parameters.known}),
                **(
                    {"failures.clusters": str(parameters.failures.clusters)}
                    if parameters.failures.clustered
                    else {}
                ),
            },
        ),
    }


def expect_lists(parameters: Parameters, stages: Mapping[str, Settings], root: Path) -> None:
    """Nothing if the lists that the stages are going to read are there.

    Args:
        parameters: of the run.
        stages: from `stage_settings`.
        root: of the pipeline.

    Raises:
        RepairError: if one is not.
    """
    known, chosen = cast(KnowCauses, stages["know-causes"]).known, cast(SelectCauses, stages["select-causes"])
    lists = {"failures.file": parameters.failures.file} | {
        f"selections.{name}.file": rule.file
        for name, rule in parameters.selections.items()
        if isinstance(rule, ListedSettings) and rule in (known, chosen.selection)
    }
    for name, file in lists.items():
        if file is not None and not (root / file).is_file():
            raise RepairError(
                f"{name} is {shown(file)}, and there is no such file: write it, or name another"
            )


def language_models(parameters: Parameters, stages: Mapping[str, Settings]) -> list[str]:
    """The folders of language models that the stages are going to read.

    Args:
        parameters: of the run.
        stages: from `stage_settings`.
    """
    network = check_network(parameters.model)
    dataset = cast(PrepareData, stages["prepare-data"]).dataset
    folders = {network.folder} if isinstance(network, TransformersSettings) else set()
    if isinstance(dataset, SentencesSettings) and dataset.tokeniser is not None:
        folders.add(dataset.tokeniser)
    return sorted(folders)


def _written(dataset: Source, parameters: Parameters) -> Source:
    """The data set, with the folder of the language model whose tokens its sentences are written in, if there is one.

    Raises:
        RepairError: if the folder lies where no change is seen, or the data name another.
    """
    network = check_network(parameters.model)
    if isinstance(network, TransformersSettings):
        _check_place("model.options.folder", network.folder, WEIGHTS, "weights")
    if not isinstance(dataset, SentencesSettings):
        return dataset
    name = f"datasets.{named(parameters.dataset)}.tokeniser"
    if dataset.tokeniser is not None:
        _check_place(name, dataset.tokeniser, WEIGHTS, "weights")
    if not isinstance(network, TransformersSettings):
        return dataset
    if dataset.tokeniser not in (None, network.folder):
        raise RepairError(
            f"{name} is {shown(dataset.tokeniser)}, and the network transformers reads the tokens of "
            f"{shown(network.folder)}: set it to null"
        )
    return dataset.model_copy(update={"tokeniser": network.folder})


def _corruption(parameters: Parameters) -> AnyCorruption:
    """The corruption, or several as one.

    Raises:
        RepairError: if there is no such corruption, one is named twice, or they do not go together.
    """
    if isinstance(parameters.corruption, str):
        return choose("corruption", parameters.corruptions, parameters.corruption)
    names = parameters.corruption
    if not names or len(set(names)) < len(names):
        raise RepairError(f"corruption is {shown(names)}: name one corruption at least, and each once")
    each = [choose("corruption", parameters.corruptions, name) for name in names]
    return each[0] if len(each) == 1 else SeveralSettings(names=names, each=each)


def _victim(corruption: CorruptionSettings, parameters: Parameters) -> TrainVictim:
    """What trains the victim of adversarial examples: what trains the base model, on the data as they are."""
    if not corruption.attacks:
        # Nothing else, so that nothing else runs the stage again.
        model, training = ModelSettings(network=parameters.model.network), TrainingSettings()
        return TrainVictim(seed=0, model=model, training=training, needed=False)
    return TrainVictim(
        seed=parameters.seed, model=parameters.model, training=parameters.training, needed=True
    )


def _reference(
    parameters: Parameters, uses: str, *, scored: bool, guarded: bool
) -> tuple[TrainReference, str | None]:
    """What the reference is made of, and what it is in words.

    Args:
        parameters: all of them.
        uses: what the method is given, as in `Description`.
        scored: whether the method ranks examples.
        guarded: whether it may judge points by accuracy on discovery. The obvious one may do what the method may.

    Raises:
        RepairError: if there is no such treatment, or it lacks what it needs.
    """
    name = reference_treatment(parameters.reference, uses, parameters.treatments)
    if name == NONE:
        return TrainReference(seed=parameters.seed, treatment=None, dropped=None, curvatures={}), None
    treatment, obvious = parameters.treatments[name], parameters.reference == OBVIOUS
    _check_room(parameters, name, treatment)
    # Who knows some of the causes would drop these.
    known = obvious and parameters.known is not None
    dropped = dropped_share(parameters.selections) if obvious and not known else None
    if treatment.guarded is not None:
        guarded = treatment.guarded
    elif not obvious:
        guarded = scored
    stiff = treatment.stiffness
    reference = TrainReference(
        seed=parameters.seed,
        treatment=_complete(treatment, parameters, guarded),
        dropped=dropped,
        known=known,
        curvatures={} if stiff is None else {stiff: parameters.fisher.of(stiff).model_dump()},
    )
    return reference, in_words(name, treatment, dropped, known)


def _treating(
    name: str, treatment: Treatment, parameters: Parameters, reference: TrainReference
) -> dict[str, Treatment]:
    """What treats the causes that are selected, by name: the treatment, and the reference if it is of the same."""
    same = reference.treatment if reference.same_causes else None
    return {name: treatment} if same is None else {name: treatment, parameters.reference: same}


def _complete(treatment: Treatment, parameters: Parameters, guarded: bool) -> Treatment:
    """A treatment's settings with what follows from the others: whether it is guarded, and how the base was trained."""
    training, parts = parameters.training, dict[str, Settings]()
    if isinstance(treatment, DeleteSettings | MendSettings):
        parts["posterior"] = as_trained(treatment.posterior, training)
    if isinstance(treatment, JudgedSettings):
        parts["judge"] = inserting(treatment.judge, training)
    return as_trained(treatment, training).model_copy(update={"guarded": guarded, **parts})


def _check_dataset(parameters: Parameters, dataset: Source, corruption: AnyCorruption) -> None:
    """Whether the data set's files lie where they should, and it has the labels that the corruption takes.

    Raises:
        RepairError: if not.
    """
    name = f"datasets.{named(parameters.dataset)}"
    if dataset.own is not None:
        _check_place(f"{name}.{dataset.own}", getattr(dataset, dataset.own), parameters.own_data, "own_data")
    if isinstance(dataset, ImageTableSettings):
        _check_place(f"{name}.images", dataset.images, parameters.own_data, "own_data")
    if dataset.labels is not None:
        _check_place(f"{name}.labels.file", dataset.labels.file, parameters.own_data, "own_data")
    if isinstance(dataset, SentencesSettings) and dataset.prompts is not None:
        _check_place(f"{name}.prompts", dataset.prompts, parameters.own_data, "own_data")
    in_words = check_network(parameters.model).in_words
    if in_words not in (None, dataset.in_words) and (dataset.in_words or dataset.own is None):
        raise RepairError(
            f"the network {parameters.model.network} takes {'images or vectors' if dataset.in_words else 'sentences'}, "
            f"and {name} has {'sentences' if dataset.in_words else 'none'}: choose another model.network"
            f"{', such as factlm' if dataset.in_words else ''}, or another dataset"
        )
    if parameters.failures.detect == "cka" and not dataset.in_words:
        raise RepairError(
            f"failures.detect is cka, which assesses facts, and {name} states none: set it to answer, or choose a "
            "dataset whose source is facts"
        )
    columns = dataset.labels.columns if dataset.labels is not None else []
    for one in corruption.each if isinstance(corruption, SeveralSettings) else [corruption]:
        if isinstance(one, FalseFactsSettings) and not dataset.in_words:
            raise RepairError(
                f"the corruption {parameters.corruption!r} makes facts wrong, and {name} states none: choose a dataset "
                "whose source is facts, or another corruption"
            )
        if isinstance(one, AnnotationNoiseSettings) and one.column not in columns:
            raise RepairError(
                f"the corruption {parameters.corruption!r} takes the labels {named(one.column)!r}, which {name} "
                f"does not have: name a file with such a column in {name}.labels, or choose another corruption"
            )


def _check_room(parameters: Parameters, name: str, treatment: Treatment) -> None:
    """Whether the network has room for what a treatment adds to it, as far as its options say.

    Raises:
        RepairError: if it has not.
    """
    room = check_network(parameters.model).room
    if not isinstance(treatment, LessonSettings) or room is None:
        return
    for site, layer in treatment.needs_room.items():
        if site not in room:
            raise RepairError(
                f"the treatment {named(name)} adds to the network at {site!r}, and {parameters.model.network} has no "
                "room there: set model.network to factlm, or to one of your own that says where it has some, or choose "
                "another treatment"
            )
        if layer >= room[site]:
            raise RepairError(
                f"the treatment {named(name)} names layer {layer} of the network, and {parameters.model.network} has "
                f"{room[site]}: give a number from 0 to {room[site] - 1}"
            )


def _check_place(name: str, file: str, folder: str, what: str) -> None:
    """Files of a user's own lie where the pipeline looks for changes, so that no result is of an older file.

    Raises:
        RepairError: if this one lies elsewhere.
    """
    if Path(os.path.normpath(folder)) not in Path(os.path.normpath(file)).parents:
        raise RepairError(
            f"{name} is {shown(file)}, outside the folder {named(folder)} ({what}) in which the pipeline looks for "
            "changes: put the file, or a link to it, there"
        )
    linked = [
        place
        for place in Path(os.path.normpath(file)).parents
        if Path(os.path.normpath(folder)) in place.parents and place.is_symlink()
    ]
    if linked or (Path(file).is_symlink() and Path(file).is_dir()):
        raise RepairError(
            f"{name} is {shown(file)}, and {linked[0] if linked else file} is a link to a folder, in which DVC would "
            f"see no change: put the folder itself into {named(folder)}, or link to single files"
        )


def _known(
    parameters: Parameters, identification: Identification, name: str, corruption: AnyCorruption
) -> Selection | None:
    """The selection of the causes that are known beforehand.

    Raises:
        RepairError: if there is none and the identification starts from them, or they cannot be known before it.
    """
    if parameters.known is None:
        if identification.influence.starts:
            raise RepairError(
                f"the identification {name!r} starts from causes that are known, and known is null: list some in "
                f"a CSV file in {REQUESTS} and name the selection, as with -S known=listed, or choose another "
                "identification"
            )
        return None
    known = choose("selection", parameters.selections, parameters.known)
    if known.by_score:
        raise RepairError(
            f"known is {shown(parameters.known)}, of the rule {known.chosen}, and causes that are known before "
            "anything is scored are listed, or a part of the truth: name a selection of the rule listed, partial-truth "
            "or truth"
        )
    _check_selection(known, parameters.known, corruption)
    return known


def _check_recorded(parameters: Parameters, score: str, curvatures: Iterable[str]) -> None:
    """Whether the base training is there to be looked at, where a score or a curvature is of its course.

    Raises:
        RepairError: if it is not.
    """
    of_course = [f"score {name}" for name in ("margin", "trajectory") if name == score]
    of_course += [f"curvature {name}" for name in ("synaptic-intelligence",) if name in curvatures]
    if parameters.model.trained and of_course:
        raise RepairError(
            f"the {of_course[0]} follows the base training, which model.trained true leaves out: set it to false, or "
            "choose another identification, treatment or reference"
        )


def _check_trajectory(identification: Identification, parameters: Parameters) -> None:
    """Whether a score can go through the base training again, if it has to.

    Raises:
        RepairError: if it cannot.
    """
    score, training = identification.influence, parameters.training
    if not score.follows:
        return
    if not training.checkpoints:
        raise RepairError(
            f"the score {score.chosen} goes through the base training again, of which training.checkpoints 0 keeps no "
            "state: give 16, or choose another identification"
        )
    if training.precision != "float32":
        raise RepairError(
            f"the score {score.chosen} goes through the base training again, and training.precision "
            f"{training.precision} rounds more than what one example changes: set it to float32, or choose another "
            "identification"
        )
    if training.parts > 1:
        raise RepairError(
            f"the score {score.chosen} goes through the base training again, a whole batch at a time, and "
            f"training.parts cuts them into {training.parts}: set it to 1, or choose another identification"
        )
    if check_network(parameters.model).batchwise:
        raise RepairError(
            f"the score {score.chosen} needs steps in which every example has a share of its own, and "
            f"{parameters.model.network} normalises by the statistics of a batch while it is trained: choose another "
            "network or identification"
        )
    if (
        isinstance(score, TrajectorySettings)
        and score.legacy
        and (training.optimiser, training.momentum) != ("sgd", 0)
    ):
        raise RepairError(
            "influence.legacy is of plain stochastic gradients: leave it out, or set training.optimiser to sgd and "
            "training.momentum to 0"
        )


def _check(
    identification: Identification,
    selection: Selection,
    corruption: CorruptionSettings,
    names: dict[str, str],
) -> None:
    """Whether a way to find causes, a rule to select them and what is known of them go together."""
    chosen, rule = names["identification"], names["selection"]
    if selection.by_score and not identification.influence.ranks:
        raise RepairError(
            f"the identification {chosen!r} scores no examples, so the selection {rule!r} cannot rank them: choose a "
            "selection that is given its causes, as with -S selection=class, or another identification"
        )
    if selection.by_even_odds and not identification.influence.even_odds:
        raise RepairError(
            f"the selection {rule!r} reads scores as odds, and those of the identification {chosen!r} are none: choose "
            "another selection, or an identification with the score loss-after"
        )
    _check_selection(selection, rule, corruption)


def _check_selection(selection: Selection, name: str, corruption: CorruptionSettings) -> None:
    """Whether what a rule reads is there.

    Raises:
        RepairError: if it is not.
    """
    if isinstance(selection, ListedSettings):
        _check_place(f"selections.{name}.file", selection.file, REQUESTS, "requests")
    if selection.knows_truth and not corruption.known:
        raise RepairError(
            f"the selection {name!r} needs examples that were corrupted on purpose, and the corruption "
            f"{'is none' if corruption.chosen == 'none' else f'{corruption.chosen} makes none'}: choose a selection by "
            "score, such as fraction"
        )
