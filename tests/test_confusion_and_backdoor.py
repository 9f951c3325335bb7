"""Interclass confusion and backdoors: which examples, what is done to them, on which test examples it is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score

from evidence_cases import AFTER, BEFORE, CLASSES, COUNT, TRUE
from modelrepair.corruptions import TrainingData, corrupt, corrupted_domain, with_triggered_copies
from modelrepair.corruptions.backdoor import trigger_for
from modelrepair.errors import RepairError
from modelrepair.evaluation.measures.correction import correction, measure
from modelrepair.models import workspace
from modelrepair.pipeline.artifacts import write_array, write_json, write_table
from modelrepair.settings.corruption import (
    BackdoorSettings,
    InterclassConfusionSettings,
    LabelNoiseSettings,
)

NAMES = ("cat", "dog", "bird", "fish")
SPLIT = np.tile(["train"] * 9 + ["validation"], 40)
TABLE = pd.DataFrame({"example": np.arange(400), "split": SPLIT, "label": np.arange(400) // 10 % 4})
IMAGES = np.random.default_rng(0).integers(0, 200, (400, 2, 6, 5), dtype=np.uint8)


def confused(seed: int = 0, **how: Any) -> pd.DataFrame:
    of = InterclassConfusionSettings(**{"classes": ["dog", 3], "share": 0.5, **how})
    return corrupt(of, TrainingData.original(TABLE, IMAGES, NAMES), seed).table


def poisoned(seed: int = 0, **how: Any) -> pd.DataFrame:
    of = BackdoorSettings(**{"label": "bird", "share": 0.1, **how})
    return corrupt(of, TrainingData.original(TABLE, IMAGES, NAMES), seed).table


@pytest.mark.parametrize("amount", [{"share": 0.5}, {"count": 45, "share": None}])
def test_two_classes_swap_as_many_labels(amount: dict[str, Any]) -> None:
    table = confused(**amount)
    wrong = table[table["is_corrupted"]]
    counts = wrong.groupby(["split", "true_label", "label"]).size()
    # 90 examples of each class in training, 10 in validation.
    assert counts.to_dict() == {
        ("train", 1, 3): 45,
        ("train", 3, 1): 45,
        ("validation", 1, 3): 5,
        ("validation", 3, 1): 5,
    }
    right = table[~table["is_corrupted"]]
    assert (right["label"] == right["true_label"]).all()
    assert (table["true_label"] == TABLE["label"]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32))
def test_more_are_the_same_and_more(few: int, many: int, seed: int) -> None:
    few, many = sorted((few, many))
    for corrupted in (confused, poisoned):
        part, whole = (corrupted(seed, count=count, share=None) for count in (few, many))
        assert (part["is_corrupted"] <= whole["is_corrupted"]).all()
        in_training = part["is_corrupted"] & (part["split"] == "train")
        assert in_training.sum() == few * (2 if corrupted is confused else 1)


def test_a_backdoor_is_put_on_images_of_every_class() -> None:
    table = poisoned()
    drawn = table[table["is_corrupted"]]
    assert drawn.groupby("split").size().to_dict() == {"train": 36, "validation": 4}
    assert set(drawn["label"]) == {2}
    assert set(drawn["true_label"]) == {0, 1, 2, 3}
    rest = table[~table["is_corrupted"]]
    assert (rest["label"] == rest["true_label"]).all()


@pytest.mark.parametrize("corner", ["bottom-right", "bottom-left", "top-right", "top-left"])
@pytest.mark.parametrize("value", [None, 7])
def test_the_patch_is_in_its_corner_and_nowhere_else(corner: str, value: int | None) -> None:
    trigger = trigger_for(BackdoorSettings(share=0.1, corner=corner, size=2, value=value), IMAGES)
    before = IMAGES.copy()
    stamped = trigger.on(IMAGES[:5])
    np.testing.assert_array_equal(IMAGES, before)
    assert stamped.dtype == np.uint8
    for row in range(6):
        for column in range(5):
            inside = (row < 2 if "top" in corner else row >= 4) and (
                column < 2 if "left" in corner else column >= 3
            )
            expected = (
                np.full((5, 2), IMAGES.max() if value is None else value)
                if inside
                else IMAGES[:5, :, row, column]
            )
            np.testing.assert_array_equal(stamped[:, :, row, column], expected)


def test_test_images_get_copies_in_their_parts_with_right_labels() -> None:
    tests = pd.DataFrame({"example": np.arange(30), "label": np.arange(30) % 4})
    tests["part"] = np.repeat(["reserved", "discovery", "assessment"], 10)
    trigger = trigger_for(BackdoorSettings(share=0.1, size=2), IMAGES)
    inputs, table = with_triggered_copies(trigger, IMAGES[:30], tests)
    assert len(inputs) == len(table) == 50
    assert table["example"].tolist() == list(range(50))
    pd.testing.assert_frame_equal(table.iloc[:30][tests.columns], tests)
    assert table["is_triggered"].tolist() == [False] * 30 + [True] * 20
    assert table["part"].iloc[30:].tolist() == ["discovery"] * 10 + ["assessment"] * 10
    assert table["label"].iloc[30:].tolist() == tests["label"].iloc[10:].tolist()
    np.testing.assert_array_equal(inputs[30:], trigger.on(IMAGES[10:30]))


def test_stages_are_handed_what_the_corruption_left(tmp_path: Path) -> None:
    for folder in ("original", "corrupted"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    tests = pd.DataFrame({"example": np.arange(4), "part": "assessment", "label": [0, 1, 2, 3]})
    write_array(tmp_path / "data/original/test_inputs.npy", IMAGES[:4])
    write_table(tmp_path / "data/original/test.parquet", tests)

    def domain(content: Any) -> tuple[Any, int | None]:
        write_json(tmp_path / "data/corrupted/corruption.json", {"noisy_classes": [], "domain": content})
        return workspace.corrupted_domain(tmp_path, workspace.test_rows(tmp_path))

    pd.testing.assert_frame_equal(workspace.test_rows(tmp_path), tests)
    assert domain(corrupted_domain(LabelNoiseSettings(confusion_matrix={}), NAMES)) == (None, None)
    confusion = InterclassConfusionSettings(classes=["dog", 3], share=0.5)
    mask, attacker = domain(corrupted_domain(confusion, NAMES))
    assert (mask.tolist(), attacker) == ([False, True, False, True], None)

    of = BackdoorSettings(label="bird", share=0.1, size=2)
    trigger = trigger_for(of, IMAGES)
    inputs, table = with_triggered_copies(trigger, IMAGES[:4], tests)
    write_array(tmp_path / "data/corrupted/test_inputs.npy", inputs)
    write_table(tmp_path / "data/corrupted/test.parquet", table)
    mask, attacker = domain(corrupted_domain(of, NAMES))
    assert (mask.tolist(), attacker) == ([False] * 4 + [True] * 4, 2)
    examples = workspace.test_examples(tmp_path, workspace.test_rows(tmp_path))
    np.testing.assert_array_equal(examples.inputs[4:], trigger.on(IMAGES[:4]))
    assert examples.targets.tolist() == [0, 1, 2, 3] * 2


def test_accuracies_on_and_off_the_domain() -> None:
    in_domain = np.arange(COUNT) % 3 == 0
    parts = np.where(np.arange(COUNT) < 30, "assessment", "discovery")
    numbers = measure(replace(CLASSES, in_domain=in_domain, attacker_class=3, parts=parts))
    assert numbers is not None
    for when, predictions in (("before", BEFORE), ("after", AFTER)):
        on, off = in_domain & (parts == "assessment"), ~in_domain & (parts == "assessment")
        attacked = [row for row in np.flatnonzero(on) if TRUE[row] != 3]
        assert numbers[when] == {
            "corrected_accuracy": pytest.approx(accuracy_score(TRUE[on], predictions[on])),
            "retained_accuracy": pytest.approx(accuracy_score(TRUE[off], predictions[off])),
            "trigger_success": pytest.approx(sum(predictions[row] == 3 for row in attacked) / len(attacked)),
        }
    assert numbers["before"]["trigger_success"] > 0
    for name, change in numbers["change"].items():
        assert change == pytest.approx(numbers["after"][name] - numbers["before"][name])
    without = measure(replace(CLASSES, in_domain=in_domain))
    assert without is not None
    assert without["change"]["trigger_success"] is None
    assert measure(CLASSES) is None
    assert correction([], [], [])["corrected_accuracy"] is None
    with pytest.raises(RepairError, match="2 predictions, 2 labels and 1 marks of the domain"):
        correction([0, 1], [0, 1], [True])


WRONG: dict[str, tuple[Any, str]] = {
    "no amount": (lambda: confused(share=None), "is said by count or by share: give one of them"),
    "two amounts": (lambda: poisoned(count=3), "is said by count or by share: give one of them"),
    "three classes": (lambda: confused(classes=[0, 1, 2]), "classes is .*: give two classes, such as"),
    "one class twice": (lambda: confused(classes=["dog", 1]), "names class dog twice: give two classes"),
    "no such class": (lambda: confused(classes=["dog", "ape"]), "no class 'ape'"),
    "no such label": (lambda: poisoned(label="ape"), "no class 'ape'"),
    "more than there are": (
        lambda: confused(count=91, share=None),
        "corrupt 91 training examples of class dog, of which there are 90: give a smaller count",
    ),
    "more than all": (
        lambda: poisoned(count=361, share=None),
        "361 training examples, of which there are 360",
    ),
    "no images": (
        lambda: trigger_for(BackdoorSettings(share=0.1), np.zeros((3, 4))),
        "needs images of at least",
    ),
    "small images": (
        lambda: trigger_for(BackdoorSettings(share=0.1, size=6), IMAGES),
        r"6 × 6 pixels needs images of at least that size, and an input has the shape \(2, 6, 5\)",
    ),
    "beyond bytes": (
        lambda: trigger_for(BackdoorSettings(share=0.1, value=256.0), IMAGES),
        "value is 256, and inputs hold whole numbers from 0 to 255: give one of these, or null",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_said_in_one_sentence(wrong: str) -> None:
    make, message = WRONG[wrong]
    with pytest.raises(RepairError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_attributes_have_no_classes_to_confuse() -> None:
    table = pd.DataFrame({"example": [0, 1], "split": "train", "label": [np.zeros(3), np.ones(3)]})
    for of in (InterclassConfusionSettings(classes=[0, 1], share=0.5), BackdoorSettings(share=0.5)):
        with pytest.raises(RepairError, match=f"{of.kind} needs one class an example"):
            corrupt(of, TrainingData.original(table, IMAGES[:2], NAMES), 0)
