"""Noise, poison, missing groups and several at once: which examples, what is done to them, what is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from conftest import ROOT, Project
from evidence_cases import CLASSES, COUNT
from modelrepair.corruptions import Attack, Attacked, TrainingData, corrupt, corrupted_domain
from modelrepair.corruptions.input_noise import gaussian, salt_and_pepper
from modelrepair.corruptions.label_noise import uniform_confusion
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.identification import measure
from modelrepair.pipeline.artifacts import read_array, read_json, read_table
from modelrepair.settings.corruption import (
    AdversarialSettings,
    BackdoorSettings,
    BiasedSampleSettings,
    CorruptionSettings,
    InputNoiseSettings,
    InterclassConfusionSettings,
    LabelNoiseSettings,
    SeveralSettings,
)
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings

NAMES = ("cat", "dog", "bird", "fish")
SPLIT = np.tile(["train"] * 9 + ["validation"], 40)
TABLE = pd.DataFrame({"example": np.arange(400), "split": SPLIT, "label": np.arange(400) // 10 % 4})
IMAGES = np.random.default_rng(0).integers(20, 200, (400, 2, 6, 5), dtype=np.uint8)
DATA = TrainingData.original(TABLE, IMAGES, NAMES)


def victim(classes: int, stubborn: int = 0, wrong: int = 0) -> Attack:
    """Takes an input for what it is unless its first value is below `wrong`; an attack adds 1 to every value and to the
    class, unless the last value is below `stubborn`.
    """

    def attack(inputs: NDArray[Any], labels: NDArray[np.int64]) -> Attacked:
        flat = inputs.reshape(len(inputs), -1)
        before = np.where(flat[:, 0] < wrong, (labels + 2) % classes, labels)
        after = np.where(flat[:, -1] < stubborn, before, (before + 1) % classes)
        return Attacked(inputs + 1, before, after)

    return attack


def changed(of: CorruptionSettings, seed: int = 0, attack: Attack | None = None) -> TrainingData:
    return corrupt(of, DATA, seed, None if attack is None else lambda _: attack)


def noise(**how: Any) -> InputNoiseSettings:
    given = {"noise": "salt-and-pepper", "amount": 0.3, "share": 0.4, "classes": ["dog", 3], **how}
    return InputNoiseSettings(**given)


def poison(**how: Any) -> AdversarialSettings:
    return AdversarialSettings(**{"epsilon": 0.1, "share": 0.4, "classes": ["dog", 3], **how})


def several(**each: CorruptionSettings) -> SeveralSettings:
    return SeveralSettings(names=list(each), each=list(each.values()))


class TestPapers:
    """Huang et al. 2023, table 8: how many examples are corrupted."""

    @pytest.mark.parametrize(
        ("name", "per_class", "count", "changed_to"),
        [
            ("label-noise", 270, 432, "labels"),
            ("salt-and-pepper", 270, 432, "inputs"),
            ("fgsm", 270, 432, "both"),
            ("pgd", 270, 432, "both"),
            ("cifar10-label-noise", 4500, 7200, "labels"),
            ("cifar10-gaussian", 4500, 5400, "inputs"),
            ("cifar10-fgsm", 4500, 7200, "both"),
            # Tanno et al. 2022: 30 % of four classes, about 12 % of all.
            ("salt-and-pepper-30", 270, 324, "inputs"),
            ("fgsm-30", 270, 324, "both"),
            # Of each class the share of each other class is rounded.
            ("uniform-10", 4500, 4500, "labels"),
            ("uniform-25", 4500, 11250, "labels"),
        ],
    )
    @pytest.mark.parametrize("seed", [0, 7])
    def test_counts(self, name: str, per_class: int, count: int, changed_to: str, seed: int) -> None:
        parameters = read_parameters(ROOT / "params.yaml").model_copy(update={"corruption": name})
        settings = stage_settings(parameters)["corrupt-data"].corruption  # type: ignore[attr-defined]
        labels = np.repeat(np.arange(10), per_class)
        table = pd.DataFrame({"example": np.arange(len(labels)), "split": "train", "label": labels})
        rng = np.random.default_rng(seed)
        inputs = rng.integers(0, 200, (len(labels), 1, 1, 4), dtype=np.uint8)
        data = TrainingData.original(table, inputs, tuple("0123456789"))
        result = corrupt(settings, data, seed, lambda _: victim(10, stubborn=60, wrong=10))
        marks = result.table["is_corrupted"].to_numpy()
        assert marks.sum() == count
        relabelled = result.table["label"] != result.table["true_label"]
        assert relabelled.equals(result.table["is_corrupted"] & (changed_to != "inputs"))
        touched = (result.inputs != inputs).any(axis=(1, 2, 3))
        assert not (touched & ~marks).any()
        assert touched.sum() == 0 if changed_to == "labels" else touched.sum() > 0.9 * count


class TestNoise:
    def test_it_is_on_so_many_of_each_class_and_labels_stay(self) -> None:
        result = changed(noise())
        wrong = result.table[result.table["is_corrupted"]]
        # 90 examples of each class in training, 10 in validation.
        assert wrong.groupby(["split", "true_label"]).size().to_dict() == {
            ("train", 1): 36,
            ("train", 3): 36,
            ("validation", 1): 4,
            ("validation", 3): 4,
        }
        assert (result.table["label"] == TABLE["label"]).all()
        assert result.about == {1, 3}
        sound = ~result.table["is_corrupted"].to_numpy()
        np.testing.assert_array_equal(result.inputs[sound], IMAGES[sound])
        assert (result.inputs[~sound] != IMAGES[~sound]).any(axis=(1, 2, 3)).all()
        assert DATA.inputs is IMAGES
        assert not DATA.table["is_corrupted"].any()

    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32))
    def test_more_are_the_same_and_more_whatever_other_classes_there_are(
        self, few: int, many: int, seed: int
    ) -> None:
        few, many = sorted((few, many))
        part = changed(noise(count=few, share=None, classes=["dog"]), seed).table
        whole = changed(noise(count=many, share=None), seed).table
        assert (part["is_corrupted"] <= whole["is_corrupted"]).all()
        of_dogs = (part["true_label"] == 1) & (part["split"] == "train")
        assert (part["is_corrupted"] & of_dogs).sum() == few

    def test_salt_and_pepper_make_pixels_darkest_or_brightest(self) -> None:
        images = np.full((200, 3, 20, 20), 100, dtype=np.uint8)
        noisy = salt_and_pepper(images, 0.3, 0.0, 255.0, np.random.default_rng(0))
        assert noisy.dtype == np.uint8
        assert set(np.unique(noisy)) == {0, 100, 255}
        assert (noisy == noisy[:, :1]).all(), "all channels of a pixel alike"
        places = noisy[:, 0]
        # Five standard deviations of 80,000 draws.
        for value, share in ((0, 0.15), (255, 0.15), (100, 0.7)):
            assert abs((places == value).mean() - share) < 5 * np.sqrt(share * (1 - share) / places.size)
        features = np.full((50, 30), 0.5)
        assert set(np.unique(salt_and_pepper(features, 1.0, -2.0, 3.0, np.random.default_rng(0)))) == {-2, 3}

    def test_gaussian_noise_has_the_deviation_that_is_asked_for(self) -> None:
        images = np.full((300, 1, 20, 20), 128, dtype=np.uint8)
        noisy = gaussian(images, 0.1, 0.0, 255.0, np.random.default_rng(0)).astype(float)
        error = 25.5 / np.sqrt(noisy.size)
        assert abs(noisy.mean() - 128) < 5 * error
        # Rounding to whole numbers adds a variance of 1/12.
        assert abs(noisy.std() - np.sqrt(25.5**2 + 1 / 12)) < 5 * error
        floats = np.full((300, 40), 1.0)
        noisy = gaussian(floats, 0.1, -3.0, 5.0, np.random.default_rng(0))
        assert noisy.dtype == np.float64
        assert abs(noisy.std() - 0.8) < 5 * 0.8 / np.sqrt(noisy.size)
        wild = gaussian(floats, 1.0, 0.5, 1.25, np.random.default_rng(0))
        assert (wild.min(), wild.max()) == (0.5, 1.25)


class TestPoison:
    def test_only_attacks_that_changed_a_right_prediction_count(self) -> None:
        result = changed(poison(), attack=victim(4, stubborn=90, wrong=40))
        table = result.table
        flat = IMAGES.reshape(400, -1)
        poisoned = table["is_corrupted"].to_numpy()
        assert table[poisoned].groupby(["split", "true_label"]).size().to_list() == [36, 36, 4, 4]
        assert (flat[poisoned, 0] >= 40).all()
        assert (flat[poisoned, -1] >= 90).all()
        expected = np.where(poisoned, (TABLE["label"] + 1) % 4, TABLE["label"])
        np.testing.assert_array_equal(table["label"], expected)
        np.testing.assert_array_equal(result.inputs, IMAGES + poisoned[:, None, None, None].astype(np.uint8))
        assert result.about == {1, 3}, "not what the poisoned are called"
        (name, record), *rest = result.attacks.items()
        assert (name, rest) == ("fgsm-0.1", [])
        assert record["succeeded"] == 80
        assert record["attacked"] > 80
        assert record["wrong_before"] > 0
        assert record["success_rate"] == 80 / record["attacked"]

    def test_no_more_are_attacked_than_it_takes(self) -> None:
        record = changed(poison(), attack=victim(4)).attacks["fgsm-0.1"]
        assert record == {"attacked": 80, "succeeded": 80, "success_rate": 1.0, "wrong_before": 0}

    @settings(deadline=None, max_examples=20)
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
    def test_more_are_the_same_and_more(self, few: int, many: int, seed: int) -> None:
        few, many = sorted((few, many))
        part, whole = (
            changed(poison(count=count, share=None), seed, victim(4, stubborn=70)).table
            for count in (few, many)
        )
        assert (part["is_corrupted"] <= whole["is_corrupted"]).all()
        assert (part["is_corrupted"] & (part["split"] == "train")).sum() == 2 * few

    def test_a_share_of_nothing_attacks_nothing(self) -> None:
        result = changed(poison(share=0.001), attack=victim(4))
        assert not result.table["is_corrupted"].any()
        assert not result.attacks

    def test_steps_are_of_pgd(self) -> None:
        assert (poison().number_of_steps, poison().length_of_step) == (1, 0.1)
        pgd = poison(attack="pgd", epsilon=0.2)
        assert (pgd.number_of_steps, pgd.length_of_step) == (10, pytest.approx(0.05))
        pgd = poison(attack="pgd", steps=4, step_size=0.02)
        assert (pgd.number_of_steps, pgd.length_of_step) == (4, 0.02)


class TestBiasedSample:
    @pytest.mark.parametrize("kept", [0.1, 0.5])
    def test_most_of_the_group_is_missing(self, kept: float) -> None:
        result = changed(BiasedSampleSettings(group=["bird"], kept=kept))
        counts = result.table.groupby(["split", "label"]).size()
        for number in range(4):
            share = kept if number == 2 else 1
            assert (counts["train", number], counts["validation", number]) == (90 * share, 10 * share)
        assert not result.table["is_corrupted"].any(), "no example that is left is wrong"
        assert result.about == {2}
        rows = result.table["example"].to_numpy()
        np.testing.assert_array_equal(result.table["label"], TABLE["label"].to_numpy()[rows])
        assert list(result.table.index) == list(range(len(rows)))

    def test_more_are_the_same_and_more(self) -> None:
        few, many = (
            set(changed(BiasedSampleSettings(group=[0, "dog"], kept=kept)).table["example"])
            for kept in (0.2, 0.7)
        )
        assert few < many

    def test_a_group_may_be_of_an_attribute(self) -> None:
        labels = np.random.default_rng(0).integers(0, 2, (200, 3)).astype(np.float32)
        table = pd.DataFrame({"example": np.arange(200), "split": "train", "label": list(labels)})
        data = TrainingData.original(table, np.zeros((200, 4)), ("round", "striped", "large"))
        left = corrupt(BiasedSampleSettings(group=["striped"], kept=0.25), data, 0).table
        having = labels[left["example"].to_numpy(), 1].sum()
        assert having == round(0.25 * labels[:, 1].sum())
        assert len(left) - having == (labels[:, 1] == 0).sum()

    def test_no_example_is_a_known_cause(self) -> None:
        parameters = read_parameters(ROOT / "params.yaml")
        chosen = {"corruption": "biased-sample", "selection": "truth"}
        with pytest.raises(
            RepairError, match="on purpose, and the corruption biased-sample makes none: choose"
        ):
            stage_settings(parameters.model_copy(update=chosen))


class TestSeveral:
    def test_each_takes_its_share_of_all_among_those_that_are_left(self) -> None:
        mixed = several(
            swaps=LabelNoiseSettings(confusion_matrix={"dog": {"cat": 0.4}}),
            noise=noise(),
            patch=BackdoorSettings(label="bird", share=0.1, size=2),
        )
        result = changed(mixed, seed=3)
        by = result.table["corruption"]
        train = result.table[result.table["split"] == "train"]
        assert train["corruption"].value_counts().to_dict() == {
            "": 216,
            "swaps": 36,
            "noise": 72,
            "patch": 36,
        }
        assert ((by != "") == result.table["is_corrupted"]).all()
        alone = corrupt(mixed.each[0], DATA, 3).table["is_corrupted"]
        assert ((by == "swaps") == alone).all(), "the first draws as it does alone"
        assert set(result.table.loc[by == "swaps", "label"]) == {0}
        assert (result.table.loc[by == "noise", "label"] == TABLE.loc[by == "noise", "label"]).all()
        assert set(result.table.loc[by == "patch", "label"]) == {2}
        np.testing.assert_array_equal(
            result.inputs[(by == "swaps") | (by == "")], IMAGES[(by == "swaps") | (by == "")]
        )
        assert result.trigger is not None
        patched = result.inputs[by == "patch"]
        np.testing.assert_array_equal(patched, result.trigger.on(IMAGES[by == "patch"]))
        assert result.about == {0, 1, 2, 3}

    def test_attacks_are_told_apart(self) -> None:
        mixed = several(
            one=poison(classes=["cat"]), two=poison(classes=["dog"]), other=poison(attack="pgd", share=0.1)
        )
        assert set(changed(mixed, attack=victim(4)).attacks) == {"fgsm-0.1", "fgsm-0.1-2", "pgd-0.1"}

    def test_what_they_are_about_is_what_each_is_about(self) -> None:
        confusions = several(
            one=InterclassConfusionSettings(classes=["dog", "fish"], share=0.2),
            two=InterclassConfusionSettings(classes=["fish", "cat"], share=0.2),
            noise=noise(),
        )
        assert corrupted_domain(confusions, NAMES) == {"classes": [0, 1, 3]}
        patched = several(one=confusions.each[0], two=BackdoorSettings(label="bird", share=0.1))
        assert corrupted_domain(patched, NAMES) == {"classes": [1, 3], "trigger": True, "label": 2}
        assert corrupted_domain(several(noise=noise()), NAMES) is None

    def test_parameters_name_them(self) -> None:
        parameters = read_parameters(ROOT / "params.yaml")

        def of(names: Any) -> Any:
            return stage_settings(parameters.model_copy(update={"corruption": names}))

        mixed = of(["backdoor", "fgsm"])
        assert mixed["corrupt-data"].corruption.names == ["backdoor", "fgsm"]
        assert mixed["train-victim"].needed
        one, same = of(["backdoor"]), of("backdoor")
        # Evaluate notes the words that were used.
        assert one.pop("evaluate").parameters["corruption"] == "[backdoor]"
        assert same.pop("evaluate").parameters["corruption"] == "backdoor"
        assert one == same
        assert not of("backdoor")["train-victim"].needed
        for names, message in (
            ([], r"corruption is \[\]: name one corruption at least"),
            (["fgsm", "fgsm"], "name one corruption at least, and each once"),
            (["fgsm", "gas"], "there is no corruption 'gas'"),
        ):
            with pytest.raises(RepairError, match=message):
                of(names)

    def test_how_much_of_each_was_found(self) -> None:
        assert CLASSES.is_corrupted is not None
        assert CLASSES.scores is not None
        by = np.where(CLASSES.is_corrupted, np.where(np.arange(COUNT) % 2, "odd", "even"), "")
        found = measure(replace(CLASSES, corrupted_by=by))["by_corruption"]
        assert set(found) == {"even", "odd"}
        for name, numbers in found.items():
            apart = (by == name) | (by == "")
            truth = by[apart] == name
            assert numbers["causes"] == truth.sum()
            assert numbers["auroc"] == pytest.approx(roc_auc_score(truth, CLASSES.scores[apart]))
            loss = -CLASSES.before.training_log_likelihoods[apart]
            assert numbers["auroc_of_plain_loss"] == pytest.approx(roc_auc_score(truth, loss))
            hits = sum(by[cause] == name for cause in CLASSES.causes)
            assert (numbers["selected"], numbers["selected_recall"]) == (hits, hits / truth.sum())
        unscored = measure(replace(CLASSES, corrupted_by=by, scores=None))["by_corruption"]
        assert {numbers["auroc"] for numbers in unscored.values()} == {None}
        assert "by_corruption" not in measure(CLASSES)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.01, 1), st.integers(2, 12))
def test_uniform_noise_spares_no_class_and_prefers_none(rate: float, k: int) -> None:
    confusion = uniform_confusion(rate, k)
    np.testing.assert_allclose(confusion.sum(axis=1), 1)
    np.testing.assert_allclose(np.diag(confusion), 1 - rate)
    assert np.ptp(confusion[~np.eye(k, dtype=bool)]) == 0


def test_uniform_noise_is_its_matrix() -> None:
    rows = [[0.8 if i == j else 0.2 / 3 for j in range(4)] for i in range(4)]
    by_rate, by_matrix = (
        changed(LabelNoiseSettings(**how)).table for how in ({"uniform": 0.2}, {"confusion_matrix": rows})
    )
    pd.testing.assert_frame_equal(by_rate, by_matrix)
    assert by_rate["is_corrupted"].sum() == 80


WRONG: dict[str, tuple[Any, str]] = {
    "two ways to say it": (
        lambda: LabelNoiseSettings(uniform=0.1, confusion_matrix={}),
        "is said by confusion_matrix or by uniform: give one of them",
    ),
    "no way to say it": (lambda: LabelNoiseSettings(), "is said by confusion_matrix or by uniform"),
    "a rate": (
        lambda: LabelNoiseSettings(uniform=1.5),
        "uniform is 1.5: give a number above 0 and at most 1",
    ),
    "no classes": (lambda: noise(classes=[]), r"classes is \[\]: give a list of classes, or null for all"),
    "no such class": (lambda: changed(noise(classes=["ape"])), "no class 'ape'"),
    "a noise": (lambda: noise(noise="rain"), "noise is 'rain': choose one of salt-and-pepper, gaussian"),
    "no share": (lambda: noise(share=None), "is said by count or by share"),
    "too many": (
        lambda: changed(noise(share=None, count=91)),
        "91 training examples of class dog, of which there are 90",
    ),
    "steps of fgsm": (lambda: poison(steps=3), "fgsm goes one step of length epsilon: leave out steps and"),
    "epsilon": (lambda: poison(epsilon=0.0), "epsilon is 0.0: give a number above 0 and at most 1"),
    "no victim": (lambda: changed(poison()), "need a victim to attack"),
    "a strong victim": (
        lambda: changed(poison(), attack=victim(4, stubborn=190)),
        r"of \d+ attacks on examples that the victim has right \d+ changed what it predicts, and too few examples are "
        "left to corrupt as many as wanted: give a larger epsilon than 0.1, or a smaller share",
    ),
    "no group": (lambda: BiasedSampleSettings(group=[], kept=0.1), "give a list of classes or attributes"),
    "all kept": (lambda: BiasedSampleSettings(group=["dog"], kept=1.0), "kept is 1.0: give a number above 0"),
    "nothing kept": (
        lambda: changed(BiasedSampleSettings(group=["dog"], kept=0.001)),
        "keeps 0.001 of a group of 90 training examples, which is none: keep more",
    ),
    "two backdoors": (
        lambda: several(a=BackdoorSettings(share=0.1), b=BackdoorSettings(share=0.1)),
        "of the corruptions a, b more than one is a backdoor",
    ),
    "too much for one class": (
        lambda: changed(several(a=noise(share=0.7), b=poison(share=0.5)), attack=victim(4)),
        "adversarial is to change 45 examples of a group in which the corruptions before it left 27 of 90 alone",
    ),
    "labels too often wrong": (
        lambda: changed(several(a=noise(share=0.7), b=LabelNoiseSettings(uniform=0.5))),
        "label-noise is to change 45 examples of a group in which",
    ),
    "ids": (
        lambda: corrupt(noise(), TrainingData.original(TABLE, np.zeros((400, 7), dtype=np.int64), NAMES), 0),
        r"input-noise changes images of bytes or floats, and inputs of type int64 and shape \(7,\) are ids",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_said_in_one_sentence(wrong: str) -> None:
    make, message = WRONG[wrong]
    with pytest.raises(RepairError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_attributes_have_no_classes_to_poison() -> None:
    table = pd.DataFrame({"example": [0, 1], "split": "train", "label": [np.zeros(3), np.ones(3)]})
    each: Sequence[CorruptionSettings] = (noise(), poison(), LabelNoiseSettings(uniform=0.1))
    for of in each:
        with pytest.raises(RepairError, match=f"{of.chosen} needs one class an example"):
            corrupt(of, TrainingData.original(table, IMAGES[:2], NAMES), 0, lambda _: victim(3))


def test_poison_in_the_pipeline(project: Project) -> None:
    """A victim is trained once, whatever is asked of it, and what it was made to believe is in the data."""
    project.set_parameters({"corruption": "poison"})
    outcome = project.repro("corrupt-data").succeeded()
    assert outcome.stages_run == ["choose-method", "train-victim", "corrupt-data"]
    record = read_json(project.root / "data/corrupted/corruption.json")
    # Of 54 examples of each of two classes 30 % in training, of 6 in validation.
    assert record["attacks"]["fgsm-0.5"]["succeeded"] == 2 * (16 + 2)
    assert record["noisy_classes"] == [0, 2]
    table = read_table(project.root / "data/corrupted/train.parquet")
    before, after = (
        read_array(project.root / file).astype(int)
        for file in ("data/original/train_inputs.npy", "data/corrupted/inputs.npy")
    )
    distances = np.abs(after - before).max(axis=(1, 2, 3))
    assert ((distances > 0) == table["is_corrupted"]).all()
    assert distances.max() == 127
    assert ((table["label"] != table["true_label"]) == table["is_corrupted"]).all()

    project.set_parameters({"corruptions.poison.share": 0.1})
    assert project.repro("corrupt-data").succeeded().stages_run == ["choose-method", "corrupt-data"]
    project.set_parameters({"corruption": ["small", "poison"]})
    assert project.repro("evaluate").succeeded().stages_run[:2] == ["choose-method", "corrupt-data"]
    metrics = read_json(project.root / "metrics/repair.json")
    assert set(metrics["identification"]["by_corruption"]) == {"small", "poison"}
    assert metrics["attacks"]["fgsm-0.5"]["success_rate"] > 0
