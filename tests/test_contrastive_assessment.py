"""Contrastive assessment of facts: the score, what stands against them, failures found by it, what is measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from conftest import ROOT
from evidence_cases import CLASSES
from modelrepair.data.sentences import Words, in_words
from modelrepair.errors import RepairError
from modelrepair.evaluation.gathering import Assessment, gather
from modelrepair.evaluation.measures.knowledge import (
    failures_told,
    knowledge_of_facts,
    measure,
    perplexity,
)
from modelrepair.knowledge.contrast import (
    Contrasts,
    adversaries,
    assess,
    contrastive_assessment,
    contrasts_of,
)
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.settings.data import FactsSettings
from modelrepair.settings.failures import CkaSettings
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings
from modelrepair.sources import load_source
from modelrepair.sources.base import Dataset
from modelrepair.sources.facts import RELATIONS
from modelrepair.splits.dataset import training_table
from modelrepair.splits.failures import split_failures
from models import one_thread  # noqa: F401


@pytest.fixture(scope="module")
def some() -> Dataset:
    """12 facts of each relation."""
    return load_source(FactsSettings(facts_per_relation=12, reserved=5, assessment=60), seed=0)


@pytest.fixture(scope="module")
def model(some: Dataset) -> TrainedModel:
    network = make_network(
        "factlm",
        some.train_inputs.shape[1:],
        len(some.classes),
        seed=0,
        **{"width": 8, "layers": 1, "heads": 2, "hidden": 12},
    )
    # A network that knows nothing says of all words the same: this one has opinions.
    torch.nn.init.normal_(network.output.weight, generator=torch.Generator().manual_seed(1))
    return TrainedModel(network.double(), Softmax(), device="cpu")


def tables(data: Dataset) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training sentences and probes."""
    assert data.split is not None
    training = training_table(data.train_labels, data.split).assign(**data.train_columns)
    return training[training["split"] == "train"].reset_index(drop=True), pd.DataFrame(
        {**data.test_columns, "label": data.test_labels, "part": data.part}
    )


def against(data: Dataset, **changes: Any) -> Contrasts:
    training, probes = tables(data)
    options = {"relations": 3, "rng": np.random.default_rng(0)} | changes
    return contrasts_of(probes, training, Words(data.classes), data.test_inputs.shape[1], **options)


def test_the_score_is_the_quotient_of_the_slides() -> None:
    """CKA = (p + α)/(E p' + α): without α a fact that nobody expects would be held, with it nothing is known of it."""
    score = contrastive_assessment([0.5, 1e-6, 0.1], [0.1, 1e-8, 0.3], alpha=0.001)
    assert score == pytest.approx([0.501 / 0.101, 0.001001 / 0.00100001, 0.101 / 0.301])
    assert contrastive_assessment([1e-6], [1e-8], alpha=1e-12) == pytest.approx([100], rel=1e-3)
    with pytest.raises(RepairError, match="alpha of the contrastive assessment is 0: give a number above 0"):
        contrastive_assessment([0.5], [0.1], alpha=0)


def test_a_batched_pass_is_a_loop_over_facts(some: Dataset, model: TrainedModel) -> None:
    """In float64 to 1e-12, whatever the batch size."""
    contrasts = against(some)
    probes = Examples(some.test_inputs, some.test_labels)
    found = assess(model, probes, contrasts, alpha=0.001)

    def probability(sentence: Any, word: int) -> float:
        with torch.no_grad():
            outputs = model.network(torch.from_numpy(np.asarray(sentence)[None].astype(np.int64)))
        return float(outputs.softmax(dim=1)[0, word])

    for position in range(0, len(probes), 7):
        word = int(some.test_labels[position])
        others = [probability(row, word) for row in contrasts.inputs[contrasts.of == position]]
        expected = (probability(some.test_inputs[position], word) + 0.001) / (np.mean(others) + 0.001)
        assert found[position] == pytest.approx(expected, rel=1e-12)
    model.batch_size = 7
    assert np.abs(assess(model, probes, contrasts, alpha=0.001) - found).max() < 1e-12
    model.batch_size = 500


def test_what_contradicts_is_another_relation_of_the_same_subject(some: Dataset) -> None:
    contrasts = against(some)
    training, probes = tables(some)
    objects = training.groupby("relation")["label"].agg(set)
    sentences = {
        wording.replace("[X]", subject).replace("[Y]", "___"): name
        for name, relation in RELATIONS.items()
        for wording in relation.wordings
        for subject in {*probes["subject"]}
    }
    shared = 0
    for row, position in zip(contrasts.inputs, contrasts.of, strict=True):
        asked = probes.iloc[position]
        text = in_words(row, some.classes)
        assert asked["subject"] in text
        other = sentences[text]
        assert other != asked["relation"]
        shared += bool(objects[other] & objects[asked["relation"]])
    # Of ten relations each has three that share no object with it.
    assert shared == 0
    assert {*np.bincount(contrasts.of)} == {3}
    again, elsewhere = against(some), against(some, rng=np.random.default_rng(1))
    assert again.inputs.tobytes() == contrasts.inputs.tobytes()
    assert elsewhere.inputs.tobytes() != contrasts.inputs.tobytes()
    assert len(against(some, relations=100).inputs) == 9 * len(probes)


def test_an_adversary_is_what_training_says_or_another_object(some: Dataset) -> None:
    training, probes = tables(some)
    objects = training.groupby("relation")["label"].agg(set)
    false = training["fact"] == probes["fact"].iloc[0]
    taught = next(iter(objects[probes["relation"].iloc[0]] - {probes["label"].iloc[0]}))
    stated = training.assign(label=training["label"].where(~false, taught))
    drawn = adversaries(probes, stated, np.random.default_rng(0))
    assert drawn[0] == taught
    assert (drawn != probes["label"]).all()
    assert all(word in objects[name] for word, name in zip(drawn, probes["relation"], strict=True))
    one = training.assign(label=training["label"].where(training["relation"] != "capital of country", 5))
    asked = probes[probes["relation"] == "capital of country"].assign(label=5)
    with pytest.raises(RepairError, match="all facts of a relation have one object"):
        adversaries(asked, one, np.random.default_rng(0))


def test_data_that_cannot_be_assessed(some: Dataset) -> None:
    training, probes = tables(some)
    arguments = {"relations": 3, "rng": np.random.default_rng(0)}
    cases: list[tuple[Any, Any, int, str]] = [
        (probes.drop(columns="subject"), training, 15, "needs sentences that state facts"),
        (
            probes,
            training[training["relation"] == "capital of country"],
            15,
            "the training sentences have one alone",
        ),
        (probes, training, 3, "that is at most 3 words long"),
    ]
    for asked, known, length, message in cases:
        with pytest.raises(RepairError, match=message) as caught:
            contrasts_of(asked, known, Words(some.classes), length, **arguments)
        assert "\n" not in str(caught.value)


def test_only_facts_are_assessed() -> None:
    with pytest.raises(RepairError, match=r"failures\.detect is cka, which assesses facts, and datasets"):
        stage_settings(read_parameters(ROOT / "params.yaml", {"failures.detect": "cka"}))
    for name, value, message in (
        ("failures.detect", "rank", r"failures\.detect is 'rank': choose one of answer, cka"),
        ("failures.cka.alpha", 0, r"failures\.cka\.alpha is 0: give a number above 0"),
    ):
        with pytest.raises(RepairError, match=message):
            read_parameters(ROOT / "params.yaml", {name: value})


def test_what_fails_otherwise_is_a_failure_however_it_is_answered() -> None:
    correct = np.array([True, False, True, False, True])
    failing = np.array([True, True, False, False, False])
    part = np.array(["discovery", "discovery", "assessment", "assessment", "assessment"])
    split = split_failures(correct, part, np.zeros(5, int), np.random.default_rng(0), failing=failing)
    assert split["is_failure"].tolist() == failing.tolist()
    # What is answered wrongly and held is neither.
    assert split["role"].tolist() == ["query", "query", "remaining", "", "remaining"]


def test_knowledge_is_measured_by_hand() -> None:
    assessed, edited = [0.5, 2.0, 0.9, 3.0], [True, True, False, False]
    right, false = np.log([0.1, 0.4, 0.5, 0.5]), np.log([0.5, 0.02, 0.3, 0.3])
    other = [False, False, True, True]
    assert knowledge_of_facts(assessed, right, false, edited, other, threshold=1.0) == {
        "false_rate": 0.5,
        "false_rate_of_others": 0.5,
        "perplexity": pytest.approx((1 / (0.1 * 0.4)) ** 0.5),
        "adversarial_perplexity": pytest.approx((1 / (0.5 * 0.02)) ** 0.5),
        "language_perplexity": pytest.approx(2),
    }
    nothing = knowledge_of_facts([], [], [], [], [], threshold=1.0)
    assert {*nothing.values()} == {None}
    assert perplexity([-1e6]) is None
    with pytest.raises(RepairError, match="give one of each for every probe"):
        knowledge_of_facts([1.0], [], [], [], [], threshold=1.0)


def test_the_false_rate_of_the_slides() -> None:
    """158 probes of 100 facts: 76 and 27 below 1 are the 48.10 % and 17.09 % of Dong et al. 2022 (table 3)."""
    edited, other, zeros = np.ones(158, bool), np.zeros(158, bool), np.zeros(158)
    rates = [
        knowledge_of_facts(np.arange(158) / count, zeros, zeros, edited, other, 1.0)["false_rate"]
        for count in (76, 27)
    ]
    assert [f"{rate:.2%}" for rate in rates] == ["48.10%", "17.09%"]


def test_two_ways_to_find_failures_beside_the_truth() -> None:
    draws = np.random.default_rng(0)
    false = draws.random(200) < 0.2
    value = np.exp(draws.normal(size=200) - false)
    astray = draws.random(200) < np.where(false, 0.9, 0.1)
    told = failures_told(value, astray, false, 1.0)
    assert told["auroc_of_assessment"] == pytest.approx(roc_auc_score(false, -value))
    assert told["auroc_of_answer"] == pytest.approx(roc_auc_score(false, astray))
    assert told["agreement"] == pytest.approx(np.mean((value < 1) == astray))
    assert told["flagged_by_assessment"] == pytest.approx(np.mean(value[false] < 1))
    assert told["alarms_by_answer"] == pytest.approx(np.mean(astray[~false]))


def test_evidence_holds_what_models_make_of_contrasts(some: Dataset, model: TrainedModel) -> None:
    training, probes = tables(some)
    asked = np.flatnonzero(probes["part"] == "assessment")
    contrasts = contrasts_of(
        probes.iloc[asked],
        training,
        Words(some.classes),
        some.test_inputs.shape[1],
        relations=2,
        rng=np.random.default_rng(0),
    ).at(asked)
    drawn = adversaries(probes, training, np.random.default_rng(0))
    tests = Examples(some.test_inputs, some.test_labels)
    corrupted = np.isin(training["fact"], probes["fact"].iloc[asked[:9]])
    evidence = gather(
        model,
        model,
        Examples(some.train_inputs[: len(training)], training["label"].to_numpy()),
        tests,
        class_names=some.classes,
        causes=[0],
        roles=np.where(np.arange(len(probes)) % 5, "", "query"),
        parts=probes["part"],
        course=CLASSES.course,
        is_corrupted=corrupted,
        training_facts=training["fact"],
        test_facts=probes["fact"],
        training_relations=training["relation"],
        training_subjects=training["subject"],
        in_words=True,
        assessment=Assessment(CkaSettings(), contrasts, drawn),
    )
    assert evidence.before.contrasted is not None
    assert evidence.before.adversarial is not None
    assert np.isfinite(evidence.before.contrasted).tolist() == (probes["part"] == "assessment").tolist()
    measured = measure(evidence)
    assert measured is not None
    assert measured["before"] == measured["after"]
    of_edited = np.isin(probes["fact"], probes["fact"][evidence.roles == "query"])[asked]
    expected = assess(model, tests, contrasts, 0.001)[asked]
    assert measured["before"]["false_rate"] == pytest.approx((expected[of_edited] < 1).mean())
    false = model.log_likelihoods(tests.with_targets(drawn)).numpy()[asked]
    assert measured["before"]["adversarial_perplexity"] == pytest.approx(np.exp(-false[of_edited].mean()))
    assert measured["detection"]["auroc_of_assessment"] == pytest.approx(
        roc_auc_score(np.isin(probes["fact"], training["fact"][corrupted])[asked], -expected)
    )
    assert measured["before"]["exact_match"] == pytest.approx(
        model.correct(tests).numpy()[asked][of_edited].mean()
    )
    assert measured["portability"]["before"] == measured["portability"]["after"]
    assert measured["portability"]["before"]["chains"] > 0
    assert measure(CLASSES) is None
    unknown = replace(evidence, is_corrupted=None)
    assert "detection" not in (measure(unknown) or {})
    with pytest.raises(RepairError, match="contrasts before"):
        replace(evidence, before=replace(evidence.before, contrasted=np.zeros(3)))
