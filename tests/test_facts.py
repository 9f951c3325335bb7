"""Facts in sentences: source, false facts, encoder, measures by fact, and their way through the pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from conftest import ROOT, Project, clone
from evidence_cases import CLASSES
from modelrepair.corruptions import TrainingData, corrupt
from modelrepair.curvature import DiagonalFisher
from modelrepair.data.sentences import BLANK, BLANK_NUMBER, PADDING, in_words
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.facts import (
    causes_of_facts,
    forgotten_per_learned,
    measure,
    repair_of_facts,
    selection_of_facts,
    updates_of_facts,
)
from modelrepair.evaluation.page.columns import _in_words
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.artifacts import read_json, read_table
from modelrepair.settings.corruption import FalseFactsSettings, LabelNoiseSettings, SeveralSettings
from modelrepair.settings.data import FactsSettings
from modelrepair.settings.networks import FactLmSettings
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings
from modelrepair.settings.training import ModelSettings
from modelrepair.sources import load_source
from modelrepair.sources.base import Dataset
from modelrepair.sources.facts import RELATIONS, known_facts
from modelrepair.sources.relations import Fact
from modelrepair.sources.sentences import sentences
from modelrepair.splits.dataset import training_table
from models import one_thread  # noqa: F401


@pytest.fixture(scope="module")
def some() -> Dataset:
    """30 facts of each relation."""
    return load_source(FactsSettings(facts_per_relation=30, reserved=20, assessment=200), seed=0)


def table_of(data: Dataset) -> pd.DataFrame:
    assert data.split is not None
    return training_table(data.train_labels, data.split).assign(**data.train_columns)


def test_what_training_does_not_state_is_asked_for_in_its_wordings(some: Dataset) -> None:
    later = load_source(
        FactsSettings(facts_per_relation=30, reserved=20, assessment=200, unstated=0.1), seed=0
    )
    states, asks = table_of(later), pd.DataFrame({**later.test_columns, "part": later.part})
    unstated = {*range(300)} - {*states["fact"]}
    assert len(unstated) == 30
    for fact, rows in asks[asks["fact"].isin(unstated)].groupby("fact"):
        relation = RELATIONS[rows["relation"].iloc[0]]
        assert rows.loc[rows["part"] == "discovery", "wording"].tolist() == [*relation.wordings], fact
        assert rows.loc[rows["part"] != "discovery", "wording"].tolist() == [relation.probes[1]], fact
    # Everything else is as it is where all facts are stated.
    before = pd.DataFrame({**some.test_columns, "part": some.part})
    before, same = (table[~table["fact"].isin(unstated)].reset_index(drop=True) for table in (before, asks))
    pd.testing.assert_frame_equal(same, before)
    assert later.classes == some.classes
    assert "30 facts that no training sentence states" in later.description
    with pytest.raises(
        RepairError, match=r"unstated is 0\.1, and prompts ask for facts that training states"
    ):
        FactsSettings(unstated=0.1, prompts="data/own/prompts.csv")


def false(data: Dataset, share: float, seed: int = 0) -> pd.DataFrame:
    given = TrainingData.original(table_of(data), data.train_inputs, data.classes)
    return corrupt(FalseFactsSettings(share=share), given, seed).table


def test_the_facts_are_those_of_the_world() -> None:
    there = known_facts(1000)
    assert len(there) >= 5000
    assert len({fact.relation.name for fact in there}) >= 6
    stated = {(fact.relation.name, fact.subject): fact.object for fact in there}
    assert len(stated) == len(there)
    assert stated["capital of country", "France"] == "Paris"
    assert stated["country of capital", "Tokyo"] == "Japan"
    assert stated["currency of country", "India"] == "Rupee"
    assert stated["continent of country", "Brazil"] == "South America"
    assert stated["language of country", "Austria"] == "German"
    assert stated["internet domain of country", "Switzerland"] == ".ch"
    assert stated["country of city", "Shanghai"] == "China"
    assert stated["time zone of city", "Mumbai"] == "Asia/Kolkata"
    assert stated["state of county", "Los Angeles County"] == "California"


def test_training_never_sees_the_wordings_of_tests() -> None:
    wordings = [text for relation in RELATIONS.values() for text in relation.every_wording]
    assert len(set(wordings)) == len(wordings)
    for relation in RELATIONS.values():
        assert len(relation.wordings) + 3 >= 7
    assert all(text.count("[X]") == text.count("[Y]") == 1 for text in wordings)


def test_a_sentence_is_its_wording_with_a_blank(some: Dataset) -> None:
    for inputs, labels, columns in (
        (some.train_inputs, some.train_labels, some.train_columns),
        (some.test_inputs, some.test_labels, some.test_columns),
    ):
        assert ((inputs == BLANK_NUMBER).sum(axis=1) == 1).all()
        assert len(inputs) == len(labels) == len(columns["fact"])
        facts = {}
        for row, label, fact, subject, wording in zip(
            inputs, labels, columns["fact"], columns["subject"], columns["wording"], strict=True
        ):
            expected = wording.replace("[X]", subject).replace("[Y]", "___")
            assert in_words(row, some.classes) == expected
            assert facts.setdefault(fact, label) == label
    assert some.classes[:2] == (PADDING, BLANK)
    assert len(set(some.classes)) == len(some.classes)


def test_what_is_hidden_is_asked_for_in_assessment_alone(some: Dataset) -> None:
    tests = pd.DataFrame({**some.test_columns, "part": some.part})
    facts = {part: {*rows["fact"]} for part, rows in tests.groupby("part")}
    wordings = {part: {*rows["wording"]} for part, rows in tests.groupby("part")}
    assert {part: len(rows) for part, rows in tests.groupby("part")} == {
        "assessment": 200,
        "discovery": 201 - 20,
        "reserved": 20,
    }
    assert not facts["discovery"] & facts["reserved"]
    hidden = facts["assessment"] - facts["discovery"] - facts["reserved"]
    assert len(hidden) == 99
    assert not wordings["assessment"] & wordings["discovery"]
    training = pd.DataFrame({**some.train_columns, "split": some.split})
    assert {*training.loc[training["split"] == "train", "fact"]} == set(range(300))
    assert not {*training["wording"]} & {*tests["wording"]}
    assert (training["split"] == "validation").sum() == 60


def test_a_seed_draws_the_same_again(some: Dataset) -> None:
    settings = FactsSettings(facts_per_relation=30, reserved=20, assessment=200)
    again, other = load_source(settings, seed=0), load_source(settings, seed=1)
    assert again.test_inputs.tobytes() == some.test_inputs.tobytes()
    assert other.test_inputs.tobytes() != some.test_inputs.tobytes()


def drawn(known: list[Fact], **changes: Any) -> Dataset:
    sizes = {"validation_fraction": 0.0, "shown": 0.5, "reserved": 0, "assessment": 2} | changes
    return sentences(known, np.random.default_rng(0), FactsSettings(**sizes), origin="facts")


CAPITALS = [Fact(RELATIONS["capital of country"], *pair) for pair in (("Peru", "Lima"), ("Fiji", "Suva"))]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: drawn([*CAPITALS, Fact(CAPITALS[0].relation, "Peru", "Cusco")]),
            "Peru has 2 objects in the relation",
        ),
        (lambda: drawn(CAPITALS, assessment=3), "assessment is 3 and there are 2 facts"),
        (lambda: drawn(CAPITALS, reserved=1), "reserved is 1 of the 1 facts that are shown"),
    ],
)
def test_facts_that_do_not_do(make: Any, message: str) -> None:
    with pytest.raises(RepairError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_false_fact_is_false_wherever_it_is_stated(some: Dataset) -> None:
    table = false(some, 0.1)
    by_fact = table.groupby("fact")
    assert (by_fact["is_corrupted"].nunique() == 1).all()
    assert (by_fact["label"].nunique() == 1).all()
    assert ((table["label"] != table["true_label"]) == table["is_corrupted"]).all()
    facts = by_fact.first()
    assert (facts.groupby("relation")["is_corrupted"].sum() == 3).all()
    objects = facts.groupby("relation")["true_label"].agg(set)
    assert all(row.label in objects[row.relation] for row in facts.itertuples())
    more = false(some, 0.3)
    assert (more.loc[table["is_corrupted"], "label"] == table.loc[table["is_corrupted"], "label"]).all()
    assert not false(some, 0.1, seed=1)["is_corrupted"].equals(table["is_corrupted"])


def test_a_second_corruption_leaves_false_facts_alone(some: Dataset) -> None:
    half = FalseFactsSettings(share=0.4)
    both = SeveralSettings(names=["first", "second"], each=[half, half])
    table = corrupt(both, TrainingData.original(table_of(some), some.train_inputs, some.classes), 0).table
    assert (table.groupby("fact")["corruption"].nunique() == 1).all()
    assert table.groupby("corruption")["fact"].nunique().to_dict() == {"": 60, "first": 120, "second": 120}


def test_what_no_corruption_can_make_false(some: Dataset) -> None:
    plain = table_of(some).drop(columns=["fact"])
    with pytest.raises(RepairError, match="false-facts needs sentences that state facts"):
        corrupt(
            FalseFactsSettings(share=0.1), TrainingData.original(plain, some.train_inputs, some.classes), 0
        )
    alike = drawn([Fact(RELATIONS["continent of country"], name, "Asia") for name in ("Iran", "Iraq")])
    with pytest.raises(
        RepairError, match="all 2 facts of the relation 'continent of country' have one object"
    ):
        false(alike, 0.5)
    most = FalseFactsSettings(share=0.7)
    both = SeveralSettings(names=["first", "second"], each=[most, most])
    given = TrainingData.original(table_of(some), some.train_inputs, some.classes)
    with pytest.raises(RepairError, match="left 9 of 30 alone"):
        corrupt(both, given, 0)


def batch(count: int = 6, length: int = 7, words: int = 11) -> torch.Tensor:
    """Sentences of different lengths, with a blank each."""
    draws = np.random.default_rng(0)
    tokens = draws.integers(2, words, (count, length))
    for number, row in enumerate(tokens):
        end = length - number % 4
        row[end:] = 0
        row[draws.integers(end)] = BLANK_NUMBER
    return torch.from_numpy(tokens)


SMALL = {"width": 8, "layers": 2, "heads": 2, "hidden": 12}


def test_the_encoder_is_a_transformer() -> None:
    """Against PyTorch's own layers with the same weights, in float64 to 1e-12."""
    network = make_network("factlm", (7,), 11, seed=0, **SMALL).double()
    tokens = batch()
    stream = network.words(tokens) + network.places
    for layer in network.layers:
        own = nn.TransformerEncoderLayer(
            8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        ).double()
        own.self_attn.in_proj_weight.data = torch.cat([layer.asks.weight, layer.answers.weight]).data
        own.self_attn.in_proj_bias.data = torch.cat([layer.asks.bias, layer.answers.bias]).data
        for there, here in (
            (own.self_attn.out_proj, layer.attention_out),
            (own.linear1, layer.network_in),
            (own.linear2, layer.network_out),
            (own.norm1, layer.attention_norm),
            (own.norm2, layer.network_norm),
        ):
            there.load_state_dict(here.state_dict())
        stream = own(stream, src_key_padding_mask=tokens == 0)
    at_blank = stream[tokens == BLANK_NUMBER]
    expected = network.output(network.norm(at_blank))
    assert (network(tokens) - expected).abs().max() < 1e-12


def test_a_sentence_stands_for_itself() -> None:
    """Neither padding nor other sentences change what is answered."""
    network = make_network("factlm", (7,), 11, seed=0, **SMALL).double()
    tokens = batch()
    answers = network(tokens)
    assert (network(tokens.flip(0)).flip(0) - answers).abs().max() < 1e-12
    network.places.data = torch.cat([network.places.data, torch.ones(2, 8)])
    longer = nn.functional.pad(tokens, (0, 2))
    assert (network(longer) - answers).abs().max() < 1e-12


def test_the_encoder_has_the_size_that_is_documented() -> None:
    network = make_network("factlm", (15,), 3173, seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_610_725
    with pytest.raises(RepairError, match=r"factlm takes sentences of numbers of words \(length,\)"):
        make_network("factlm", (1, 28, 28), 10, seed=0)
    with pytest.raises(RepairError, match="width is 10 and heads is 4"):
        FactLmSettings(width=10)


def test_the_fisher_of_an_encoder_is_that_of_its_sentences() -> None:
    """Against a backward pass for each, in float64 to 1e-10 of the largest entry."""
    network = make_network("factlm", (7,), 11, seed=0, **SMALL).double()
    model = TrainedModel(network, Softmax(), device="cpu")
    tokens, targets = batch().numpy(), np.arange(6) + 2
    squares = torch.zeros_like(model.parameter_vector)
    for row, target in zip(torch.from_numpy(tokens), targets, strict=True):
        loss = nn.functional.cross_entropy(network(row.unsqueeze(0)), torch.tensor([target]))
        gradients = torch.autograd.grad(loss, list(model.parameters.values()))
        squares += torch.cat([gradient.flatten() for gradient in gradients]).square()
    fitted = DiagonalFisher.fit(model, Examples(tokens, targets)).entries
    assert (fitted - squares / 6).abs().max() < 1e-10 * fitted.max()


# Facts 0 and 1 are false, of which 0 is edited; 2 is edited and stated rightly; 3, 4 and 5 are others, 5 not shown.
PROBES = pd.DataFrame(
    [
        (0, "query", "discovery", False, True),
        (2, "query", "discovery", False, False),
        (3, "", "discovery", True, True),
        (4, "", "reserved", True, True),
        (0, "holdout", "assessment", False, True),
        (1, "holdout", "assessment", False, False),
        (2, "remaining", "assessment", True, True),
        (3, "remaining", "assessment", True, False),
        (4, "holdout", "assessment", False, True),
        (5, "remaining", "assessment", True, True),
    ],
    columns=["fact", "role", "part", "before", "after"],
)
STATED = pd.DataFrame(
    [(fact, fact < 2, True, not (fact == 3 and number == 0)) for fact in range(6) for number in range(2)],
    columns=["fact", "false", "before", "after"],
)


def test_facts_are_counted_by_hand() -> None:
    measured = repair_of_facts(
        *(PROBES[name] for name in ("fact", "before", "after", "role", "part")),
        *(STATED[name] for name in ("fact", "before", "after", "false")),
    )
    assert measured == {
        "edited": 2,
        "false": 2,
        "other": 3,
        "success": 1 / 2,
        "equivalence": 1.0,
        "carried_over": 0.0,
        "retain": 1 / 2,
        "retain_shown": 0.0,
        "retain_hidden": 1.0,
        "retain_training": pytest.approx((1 / 2 + 1 + 1) / 3),
        "deterioration": 0.0,
        # Of 3 others as many are lost as are won.
        "forgotten_per_learned": 0.0,
    }
    with pytest.raises(RepairError, match="give one of each for every sentence"):
        repair_of_facts(
            *(PROBES[name] for name in ("fact", "before", "after", "role", "part")),
            *(STATED[name] for name in ("fact", "before", "after")),
            STATED["false"][:3],
        )


def test_forgotten_per_learned_gives_the_published_ratio() -> None:
    """Lee et al. 2022, zsRE: 18.9 of 100 forgotten and 66.9 of as many learned are 0.283."""
    facts = np.arange(4000)
    edited = facts >= 2000
    was, now = facts % 1000 < 189 + 500, facts % 1000 < 500
    was, now = np.where(edited, facts % 1000 < 100, was), np.where(edited, facts % 1000 < 769, now)
    fact, part = np.tile(facts, 2), np.repeat(["assessment", "discovery"], 4000)
    role = np.where(np.tile(edited, 2) & (part == "discovery"), "query", "")
    stated = np.ones(4000, dtype=bool)
    ratio = repair_of_facts(
        fact, np.tile(was, 2), np.tile(now, 2), role, part, facts, stated, stated, ~stated
    )
    assert ratio["forgotten_per_learned"] == pytest.approx(18.9 / 66.9)


def test_what_is_left_of_each_update() -> None:
    measured = updates_of_facts(
        taught_in=[0, 0, 1, 1, -1, 0],
        right=[True, False, True, True, False, True],
        roles=["query", "query", "query", "holdout", "query", "remaining"],
        parts=["discovery", "discovery", "discovery", "assessment", "discovery", "assessment"],
    )
    assert measured == {
        "update_1": {"success": 0.5, "equivalence": 1.0},
        "update_2": {"success": 1.0, "equivalence": 1.0},
    }
    assert updates_of_facts([-1], [True], ["query"], ["discovery"]) == {}


# Lee et al. 2022, table 3: accuracies in percent on what is to be kept and what is to be learned, before and after, and
# the ratio as printed. Of the second data there are seven times as many facts to keep as to learn.
PUBLISHED = {
    "zsRE": (1, 95.6, 25.7, [
        (76.7, 92.6, 0.284), (80.5, 91.6, 0.230), (80.5, 96.4, 0.215), (71.1, 92.9, 0.366), (86.3, 96.4, 0.132),
        (90.5, 95.3, 0.073),
    ]),
    "NQ": (7, 96.6, 35.3, [
        (92.9, 94.9, 0.435), (93.1, 93.1, 0.419), (94.4, 94.8, 0.259), (89.8, 94.0, 0.800), (95.6, 94.9, 0.118),
        (95.6, 95.1, 0.117),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_ratio_of_every_published_row(name: str) -> None:
    """From accuracies that are printed to a tenth of a percent, so to 2 % or what that rounding allows."""
    times, source, target, rows = PUBLISHED[name]
    for kept, learned, printed in rows:
        found = forgotten_per_learned(times, source / 100, kept / 100, 1, target / 100, learned / 100)
        rounding = times * 0.1 / (learned - target)
        assert found == pytest.approx(printed, rel=0.02, abs=rounding)
    assert forgotten_per_learned(1, 0.9, 0.8, 1, 0.5, 0.5) is None
    assert forgotten_per_learned(1, 0.8, 0.9, 1, 0.5, 0.6) == pytest.approx(-1)


def test_the_table_of_the_selector() -> None:
    """As published by Lee et al. 2022: 48,000 questions by what they ask for and what the selector takes them for."""
    numbers = {("others", "off"): (19527, 0.953), ("others", "on"): (4473, 0.708)}
    numbers |= {("edited", "off"): (854, 0.351), ("edited", "on"): (23146, 0.917)}
    edited, on, right = [], [], []
    for (kind, where), (count, accuracy) in numbers.items():
        edited += [kind == "edited"] * count
        on += [where == "on"] * count
        right += [number < round(accuracy * count) for number in range(count)]
    found = selection_of_facts(on, right, edited)
    assert found["edited_on"] == pytest.approx(23146 / 24000)
    assert found["others_on"] == pytest.approx(4473 / 24000)
    for (kind, where), (_, accuracy) in numbers.items():
        assert found[f"right_of_{kind}_{where}"] == pytest.approx(accuracy, abs=1e-3)
    assert selection_of_facts([True], [True], [True])["right_of_others_off"] is None


def test_causes_are_told_apart_by_fact() -> None:
    scores = np.random.default_rng(1).normal(size=len(STATED)) + STATED["false"]
    wrong, fact = STATED["false"].to_numpy(), STATED["fact"].to_numpy()
    found = causes_of_facts(scores, wrong, fact, [0, 2])
    for name, among in (("edited", fact != 1), ("other_false", fact != 0)):
        expected = roc_auc_score(wrong[among], scores[among])
        assert found[f"auroc_of_{name}"] == pytest.approx(expected)
    means = scores.to_numpy().reshape(6, 2).mean(axis=1)
    assert found["auroc_by_fact"] == pytest.approx(roc_auc_score(np.arange(6) < 2, means))


def test_there_are_no_measures_by_fact_where_there_are_no_facts() -> None:
    assert measure(CLASSES) is None
    count = len(CLASSES.given_labels)
    stating = replace(CLASSES, training_facts=np.arange(count), test_facts=np.arange(count))
    measured = measure(stating)
    assert measured is not None
    assert "selector" not in measured
    on = np.arange(count) % 2 == 0
    selected = measure(replace(stating, after=replace(stating.after, additions_on=on)))
    assert selected is not None
    assert selected.pop("selector").keys() >= {"edited_on", "others_on"}
    assert selected == measured
    with pytest.raises(RepairError, match="there are 3 facts for 40 test examples"):
        replace(stating, test_facts=np.arange(3))


def test_a_person_reads_sentences(some: Dataset) -> None:
    rows = np.array([0, 7])
    evidence = replace(CLASSES, training_inputs=some.train_inputs, vocabulary=some.classes)
    expected = [in_words(some.train_inputs[row], some.classes) for row in rows]
    assert _in_words(evidence.training_shown, rows) == expected
    assert str(evidence.training_shown[7]) == expected[1]
    assert evidence.training_shown[rows].tolist() == expected
    assert "___" in expected[0]


FACTS = {"dataset": "facts", "corruption": "false-facts"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (FACTS, r"the network lenet5 takes images or vectors, and datasets\.facts has sentences"),
        ({"model": ModelSettings(network="factlm")}, "the network factlm takes sentences, and .* has none"),
        (
            {"corruption": "false-facts"},
            "'false-facts' makes facts wrong, and datasets.mnist-sample states none",
        ),
        (
            {"treatment": "mend-restated"},
            r"the treatment 'mend-restated' trains on restated, .* datasets\.mnist-sample states no facts",
        ),
    ],
)
def test_what_does_not_go_with_facts_is_refused_before_anything_runs(changes: Any, message: str) -> None:
    parameters = read_parameters(ROOT / "params.yaml")
    with pytest.raises(RepairError, match=message):
        stage_settings(parameters.model_copy(update=changes))
    stage_settings(parameters.model_copy(update={**FACTS, "model": ModelSettings(network="factlm")}))


def test_label_noise_among_thousands_of_words_is_possible(some: Dataset) -> None:
    """The classes are words, which a confusion matrix names."""
    rates = {"Euro": {"Dollar": 0.5}}
    given = TrainingData.original(table_of(some), some.train_inputs, some.classes)
    table = corrupt(LabelNoiseSettings(confusion_matrix=rates), given, 0).table  # type: ignore[arg-type]
    wrong = table[table["is_corrupted"]]
    assert {*wrong["true_label"]} == {some.classes.index("Euro")}
    assert {*wrong["label"]} == {some.classes.index("Dollar")}


def test_facts_go_the_whole_way(bare: Project, tmp_path: Path) -> None:
    """From sentences to measures by fact, in the same stages as images; a few facts, which are soon learned."""
    project = clone(bare, tmp_path / "project")
    project.set_parameters(
        {
            **FACTS,
            "model.network": "factlm",
            "model.options": {"width": 32, "layers": 1, "heads": 2, "hidden": 64},
            "datasets.facts.facts_per_relation": 15,
            "datasets.facts.reserved": 10,
            "datasets.facts.assessment": 140,
            "training.epochs": 25,
            "training.learning_rate": 0.01,
            "training.schedule": "one-cycle",
            "training.patience": None,
            "training.keep": "last",
            "method": "mend",
        }
    )
    project.repro().succeeded()
    table = read_table(project.root / "data/corrupted/train.parquet")
    assert {"fact", "relation", "subject", "wording"} <= {*table.columns}
    assert {"fact", "relation"} <= {*read_table(project.root / "data/failures/discovery.parquet").columns}
    metrics = read_json(project.root / "metrics/repair.json")
    facts = metrics["facts"]
    # Of 15 facts of each of ten relations two are false: 15 · 0.1 rounded.
    assert facts["false"] == 20
    # Few looks mend a few facts; the loss of what is known by heart says nothing of causes.
    assert facts["success"] > 0.1
    assert facts["retain"] > 0.9
    assert facts["causes"]["by_score"]["auroc_of_edited"] > 0.8
    assert facts["causes"]["by_plain_loss"]["auroc_of_edited"] < 0.7
    page = (project.root / "metrics/page.html").read_text()
    first = table.iloc[0]
    assert first["wording"].replace("[X]", first["subject"]).replace("[Y]", "___") in page
    for picture in ("examples.png", "facts.png"):
        assert (project.root / f"metrics/pictures/{picture}").stat().st_size > 10_000

    # Editors beside it, of the same base model: the causes that state facts of the failures, with what is right, in two
    # updates.
    project.set_parameters(
        {
            "treatment": "lora-selector",
            "treatments.lora-selector.updates": 2,
            "selection": "truth",
            "reference": "calinet",
            **{f"treatments.{name}.steps": 120 for name in ("lora-selector", "calinet")},
            **{f"treatments.{name}.looks": 3 for name in ("lora-selector", "calinet")},
        }
    )
    ran = project.repro().succeeded()
    assert "treat" in ran.stages_run
    assert "train-base" not in ran.stages_run
    for name, kinds in (("repaired", ["low-rank", "low-rank"]), ("reference", ["slots"])):
        additions = read_json(project.root / "models" / name / "model.json")["additions"]
        assert [addition["kind"] for addition in additions] == kinds
    edited = read_json(project.root / "metrics/repair.json")["facts"]
    assert edited["success"] > 0.8
    assert edited["retain"] > 0.9
    assert [*edited["updates"]] == ["update_1", "update_2"]
    assert min(update["success"] for update in edited["updates"].values()) > 0.7
    assert edited["selector"]["edited_on"] > edited["selector"]["others_on"]

    knowledge = metrics["knowledge"]
    assert knowledge["before"]["false_rate"] > 0.2
    assert knowledge["before"]["false_rate_of_others"] < 0.2
    assert knowledge["detection"]["auroc_of_assessment"] > 0.7
    assert knowledge["before"]["adversarial_perplexity"] < knowledge["before"]["perplexity"]

    small = {"rounds": 1, "steps": 5, "memory": 8, "condition": 16, "hidden": 8, "tried": 4}
    project.set_parameters(
        {
            "treatment": "knowledge-editor",
            "treatments.knowledge-editor": {"kind": "knowledge-editor", "loops": 1, "training": small},
            "evaluation.single_edits": 3,
            "evaluation.edits_in_a_row": 3,
        }
    )
    outcome = project.repro().succeeded()
    assert {"treat", "evaluate"} <= {*outcome.stages_run}
    assert "train-base" not in outcome.stages_run
    row = read_json(project.root / "metrics/repair.json")["knowledge"]["edits_in_a_row"]
    assert [*row] == ["after_1", "after_3"]
    assert row["after_3"]["success"] in [share / 3 for share in range(4)]
    assert row["after_1"]["retain"] is not None
    edited = read_json(project.root / "metrics/repair.json")["knowledge"]["single_edits"]
    assert edited["edits"] == 3
    assert 3 * edited["success"] == pytest.approx(round(3 * edited["success"]), abs=1e-9)
    assert edited["retain"] is not None

    # Closed-form edits are kept by those after them.
    project.set_parameters({"treatment": "closed-form", "treatments.closed-form.edits": "sequential"})
    assert "evaluate" in project.repro().succeeded().stages_run
    knowledge = read_json(project.root / "metrics/repair.json")["knowledge"]
    assert knowledge["single_edits"]["success"] > 0.6
    assert knowledge["edits_in_a_row"]["after_3"]["success"] > 0.6
    assert knowledge["edits_in_a_row"]["after_3"]["retain"] > 0.8

    project.set_parameters({"failures.detect": "cka"})
    for stage in ("choose-method", "split-failures"):
        project.repro("--single-item", stage).succeeded()
    found = read_table(project.root / "data/failures/assessment.parquet")
    false = found["fact"].isin(table.loc[table["is_corrupted"], "fact"])
    assert found.loc[false, "is_failure"].mean() > 2 * found.loc[~false, "is_failure"].mean()
