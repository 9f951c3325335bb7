"""Pictures: real PNGs of sensible size, the same bytes for the same numbers, and no crash at the edges."""

import itertools
import struct
import tracemalloc
import warnings
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest

from evidence_cases import (
    AFTER,
    BEFORE,
    CASES,
    CLASSES,
    COUNT,
    COURSE,
    DIGITS,
    GENERATOR,
    GIVEN,
    IMAGES,
    LONG_NAMES,
    MULTIPLE,
    NO_SCORES,
    NO_TRUTH,
    SCORES,
    TRUE,
    answers,
)
from modelrepair.errors import RepairError
from modelrepair.evaluation.drawing.canvas import Canvas, picture
from modelrepair.evaluation.drawing.charts import bar_chart
from modelrepair.evaluation.drawing.gallery import TrainingTiles, as_picture
from modelrepair.evaluation.drawing.names import label_text, readable
from modelrepair.evaluation.pictures import (
    PICTURES,
    attributes,
    changes,
    confusion,
    draw_all,
    erasure,
    examples,
    identification,
    summary,
    treatment,
)

REQUEST = replace(CLASSES, **NO_SCORES)
REFERENCE = {
    "reference": answers((TRUE + np.arange(COUNT) % 5 // 4) % 10, seed=3),
    "reference_in_words": "retrain",
}
SAMPLES = {
    "examples": (examples.draw, CLASSES),
    "changes": (changes.draw, CLASSES),
    "identification": (identification.draw, CLASSES),
    "confusion": (confusion.draw, CLASSES),
    "treatment": (treatment.draw, CLASSES),
    "erasure": (erasure.draw, REQUEST),
    "erasure, reference": (erasure.draw, replace(REQUEST, **REFERENCE)),
    "summary": (summary.draw, CLASSES),
    "summary, reference": (summary.draw, replace(CLASSES, **REFERENCE)),
    "attributes": (attributes.draw, MULTIPLE),
}
ALWAYS = {"summary.png", "changes.png", "treatment.png"}
DRAWN = {
    "failures, causes known": {*ALWAYS, "examples.png", "identification.png", "confusion.png"},
    "failures": {*ALWAYS, "examples.png", "confusion.png"},
    "request, causes known": {*ALWAYS, "confusion.png"},
    "request": {*ALWAYS, "confusion.png"},
    "failures in attributes": {*ALWAYS, "examples.png", "attributes.png"},
    "failures in attributes, causes known": {
        *ALWAYS,
        "examples.png",
        "identification.png",
        "attributes.png",
    },
    "request for attributes": {*ALWAYS, "attributes.png"},
}


def size_of(path):
    """Width and height in pixels; fails if the file is no PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def draw_sample(name, path):
    draw, evidence = SAMPLES[name]
    draw(path, evidence)


@pytest.mark.parametrize("name", SAMPLES)
def test_same_bytes_twice_whatever_the_users_settings(name, tmp_path):
    first, second = tmp_path / "first.png", tmp_path / "second.png"
    draw_sample(name, first)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 10}):
        draw_sample(name, second)
        assert matplotlib.rcParams["font.size"] == 30
    assert first.read_bytes() == second.read_bytes()
    width, height = size_of(first)
    assert 900 <= width <= 1600
    assert 400 <= height <= 1200


def test_files_hold_no_date_and_no_program(tmp_path):
    draw_sample("identification", tmp_path / "curve.png")
    data = (tmp_path / "curve.png").read_bytes()
    for chunk in (b"tEXt", b"iTXt", b"tIME"):
        assert chunk not in data


def test_a_failure_while_drawing_leaves_the_earlier_picture(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"earlier")
    with pytest.raises(ZeroDivisionError), picture(path, 1, 1):
        _ = 1 / 0
    assert path.read_bytes() == b"earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]


def drawn(folder, evidence, names=None):
    """What each picture's function draws into a file of its own, by name, where it draws; of all names, or some."""
    found = {}
    for number, (name, draw) in enumerate(PICTURES):
        if names and name not in names:
            continue
        path = folder / f"{number}.png"
        path.unlink(missing_ok=True)
        draw(path, evidence)
        if path.exists():
            assert name not in found, "no two pictures are drawn into one file"
            assert size_of(path)[0] >= 900
            found[name] = path.read_bytes()
    return found


@pytest.mark.parametrize("case", CASES)
def test_what_is_drawn_follows_from_what_is_there(case, tmp_path):
    """And where a reference is there too, the summary alone shows it: other answers, other words, another picture."""
    evidence = CASES[case]
    without = drawn(tmp_path, evidence)
    assert without.keys() == DRAWN[case]
    predictions = evidence.after.test_predictions
    as_before = replace(evidence, reference=answers(predictions, seed=3), reference_in_words="retrain")
    with_it = drawn(tmp_path, as_before)
    assert {**with_it, "summary.png": b""} == {**without, "summary.png": b""}
    summaries = {without["summary.png"], with_it["summary.png"]}
    for shown in (
        replace(as_before, reference=answers(evidence.test_labels, seed=3)),
        replace(as_before, reference_in_words="distil " * 99),
    ):
        summaries |= {*drawn(tmp_path, shown, {"summary.png"}).values()}
    assert len(summaries) == 4


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("failures")])
def test_no_causes_are_drawn_as_some_are(case, tmp_path):
    nobody = replace(CASES[case], causes=np.empty(0, dtype=np.int64))
    assert drawn(tmp_path, nobody).keys() == DRAWN[case]


@pytest.mark.parametrize("chart", ["without", "with"])
def test_bars_and_their_values(chart):
    """One a model and group: before, reference, after, none upon another; a group without examples says so."""
    before, after, beside = {"all": 0.5, "rare": 0.0}, {"all": 0.9}, {"all": 0.7, "rare": 1.0}
    axes = Canvas(4, 3).axes(0, 0, 4, 3)
    bar_chart(axes, before, after, {"all": "All", "rare": "Rare"}, beside if chart == "with" else None)
    bars = sorted((bar.get_y(), bar.get_height(), bar.get_width()) for bar in axes.patches)
    expected = [50.0, 70.0, 90.0, 0.0, 100.0] if chart == "with" else [50.0, 90.0, 0.0]
    np.testing.assert_allclose([width for *_, width in bars], expected)
    for (top, height, _), (following, *_) in itertools.pairwise(bars):
        assert top + height <= following
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("no examples") == 1
    assert [f"{value:.1f}" in texts for value in expected] == [True] * len(expected)


@pytest.mark.parametrize("count", [0, 1, 12, 40])
def test_few_or_all_erased_examples(count, tmp_path):
    path = tmp_path / "erasure.png"
    evidence = replace(
        REQUEST, class_names=LONG_NAMES, causes=np.arange(count), parts=np.full(COUNT, "reserved")
    )
    erasure.draw(path, evidence)
    assert size_of(path)[0] >= 900


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_fewer_examples_than_places(count, tmp_path):
    path = tmp_path / "examples.png"
    few = {
        name: getattr(CLASSES, name)[:count]
        for name in ("given_labels", "true_labels", "is_corrupted", "scores")
    }
    known = {
        name: replace(
            getattr(CLASSES, name),
            training_log_likelihoods=np.zeros(count),
            training_correct=np.ones(count),
        )
        for name in ("before", "after")
    }
    evidence = replace(CLASSES, training_inputs=IMAGES[:count], causes=np.arange(1), **few, **known)
    examples.draw(path, evidence)
    assert size_of(path)[0] == 1200
    summary.draw(path, evidence)
    assert size_of(path)[0] in (1590, 1027)


@pytest.mark.parametrize(
    "inputs",
    [
        GENERATOR.normal(size=(40, 7)),
        np.zeros((40, 300)),
        GENERATOR.random((40, 28, 28)),
        GENERATOR.normal(size=(40, 3, 32, 32)),
        GENERATOR.integers(0, 256, (40, 3, 224, 224), dtype=np.uint8),
        GENERATOR.integers(0, 256, (40, 5, 8, 8), dtype=np.uint8),
    ],
    ids=[
        "vectors",
        "constant vectors",
        "grey floats",
        "standardised colours",
        "photographs",
        "five channels",
    ],
)
@pytest.mark.parametrize("names", [DIGITS, LONG_NAMES], ids=["digits", "long names"])
def test_any_inputs_and_names(inputs, names, tmp_path):
    path = tmp_path / "examples.png"
    evidence = replace(
        CLASSES,
        training_inputs=inputs,
        test_inputs=inputs,
        scores=SCORES * 1e-6,
        class_names=names,
        **NO_TRUTH,
    )
    examples.draw(path, evidence)
    assert size_of(path)[0] == 1200
    changes.draw(path, evidence, count=3)
    assert size_of(path)[0] == 1200


STRANGE_NAMES = {
    "mathtext": ("$x", "$\\frac", "a_b^c", "\\", "$", "$$", "{", "%", "#&~", "$\\alpha$"),
    "other scripts": ("犬", "кошка", "كلب", "mačka", "😀", "猫", "γάτα", "개", "कुत्ता", "犬 2"),
    "very long": tuple(f"{number} {'x' * 5_000}" for number in range(10)),
    "no names": ("", " ", "\n", "a\nb", "\t", "\x00", "\x1b", "\u200b", "\ud800", "-"),
}


@pytest.mark.parametrize("names", STRANGE_NAMES.values(), ids=STRANGE_NAMES)
@pytest.mark.parametrize("case", ["failures, causes known", "request", "failures in attributes"])
def test_names_are_drawn_as_they_are(case, names, tmp_path):
    evidence = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_all(tmp_path, replace(evidence, class_names=names[: len(evidence.class_names)]))
    assert {path.name for path in tmp_path.iterdir()} == DRAWN[case]


def test_a_name_that_cannot_be_drawn_becomes_its_number():
    assert readable(["犬", "кошка", "", "a\n b", "$x_1$", "x" * 99]) == [
        "no. 0",
        "кошка",
        "no. 2",
        "a b",
        "$x_1$",
        "x" * 59 + "…",
    ]


def test_labels_as_text():
    assert label_text(np.int64(1), ["a", "b"]) == "b"
    assert label_text(np.array([1.0, 0.0, 1.0]), ["a", "b", "c"]) == "a, c"
    assert label_text(np.zeros(3), ["a", "b", "c"]) == "none"


@pytest.mark.parametrize(
    ("before", "after"), [(TRUE, TRUE), (BEFORE, TRUE), (TRUE, AFTER), (BEFORE, BEFORE)], ids=str
)
def test_nothing_fixed_or_nothing_broken(before, after, tmp_path):
    path = tmp_path / "changes.png"
    changes.draw(path, replace(CLASSES, class_names=LONG_NAMES, before=answers(before), after=answers(after)))
    assert size_of(path)[0] == 1200


def test_changes_are_those_of_assessment(tmp_path):
    """The examples of other parts may be anything."""
    other = np.arange(COUNT) % 2 == 0
    parts = np.where(other, "discovery", "assessment")
    changed = np.where(other, 0, AFTER)
    for name, after in (("first", AFTER), ("second", changed)):
        changes.draw(tmp_path / f"{name}.png", replace(CLASSES, parts=parts, after=answers(after)))
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def many_classes(classes, count=COUNT):
    """Class numbers up to `classes`, of which some are mistaken."""
    labels = np.linspace(0, classes - 1, count).astype(int)
    before = np.where(np.arange(count) % 3 == 0, labels[::-1], labels)
    return replace(
        CLASSES,
        class_names=tuple(f"class {number}" for number in range(classes)),
        noisy_classes=(0,),
        test_inputs=np.zeros((count, 3)),
        test_labels=labels,
        given_labels=np.linspace(0, classes - 1, COUNT).astype(int),
        true_labels=np.linspace(0, classes - 1, COUNT).astype(int),
        roles=np.full(count, ""),
        parts=np.full(count, "assessment"),
        before=answers(before),
        after=answers(labels),
    )


@pytest.mark.parametrize("classes", [2, 10, 100, 101, 1000])
def test_confusions_of_few_and_many_classes(classes, tmp_path):
    path = tmp_path / "confusions.png"
    confusion.draw(path, many_classes(classes, 500))
    width, height = size_of(path)
    assert width == 1200
    assert 400 <= height <= 800


def test_a_group_of_which_examples_are_missing_has_its_accuracy_in_the_summary():
    """No example is known to be corrupted then, as where nothing was done, and there such rows are not."""
    missing = {**NO_TRUTH, "noisy_classes": (3,)}
    assert list(summary._groups(replace(CLASSES, **missing)).values())[1:3] == [
        "Other classes",
        "Rare classes",
    ]
    assert list(summary._groups(replace(CLASSES, **NO_TRUTH))) == ["all", "holdout", "remaining"]
    assert list(summary._groups(CLASSES).values())[1:3] == ["Clean classes", "Noisy classes"]


def test_of_many_classes_those_that_are_confused_most_are_shown():
    labels = np.array([5, 5, 5, 700, 9, 9])
    before, after = np.array([6, 6, 5, 700, 9, 9]), np.array([5, 5, 5, 700, 9, 3])
    assert confusion._most_confused(labels, before, after).tolist() == [3, 5, 6, 9, 700]
    many = np.arange(200)
    wrong = np.where(many >= 190, many - 100, many)
    assert confusion._most_confused(many, wrong, wrong).tolist() == [*range(90, 100), *range(190, 200)]
    assert confusion._most_confused(many, many, many).tolist() == [*range(20)]
    often = np.repeat(many, many + 1)
    assert confusion._most_confused(often, 199 - often).tolist() == [*range(10), *range(190, 200)]


@pytest.mark.parametrize("case", ["mistakes", "no mistakes"])
def test_a_hundred_thousand_classes_take_little_memory(case, tmp_path):
    evidence = many_classes(100_000)
    if case == "no mistakes":
        evidence = replace(evidence, before=evidence.after)
    draw_all(tmp_path, evidence)
    tracemalloc.start()
    confusion.draw(tmp_path / "confusion.png", evidence)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6
    assert size_of(tmp_path / "confusion.png")[0] == 1200


@pytest.mark.parametrize("count", [1, 20, 60])
def test_few_and_many_attributes(count, tmp_path):
    have = GENERATOR.integers(0, 2, (COUNT, count))
    path = tmp_path / "attributes.png"
    attributes.draw(
        path,
        replace(
            MULTIPLE,
            class_names=tuple(f"attribute {number}" for number in range(count)),
            test_labels=have,
            before=answers(1 - have),
            after=answers(have),
        ),
    )
    width, height = size_of(path)
    assert width == 1200
    assert height <= 2000


def test_an_attribute_that_nothing_has(tmp_path):
    nothing = np.zeros_like(MULTIPLE.test_labels)
    evidence = replace(MULTIPLE, test_labels=nothing, given_labels=nothing)
    draw_all(tmp_path, evidence)
    assert size_of(tmp_path / "attributes.png")[0] == 1200


def test_tiles_of_attributes_are_marked_where_a_label_is_wrong():
    true = np.array([[1, 0], [1, 1]])
    tiles = TrainingTiles(IMAGES, SCORES, np.array([[1, 0], [0, 1]]), true, ["a", "b"], None)
    first, second = tiles.of(np.arange(2))
    assert [line for line, *_ in first.caption[:2]] == ["given a", "true a"]
    assert [line for line, *_ in second.caption[:2]] == ["given b", "true a, b"]
    assert (first.frame is None, second.frame is None) == (True, False)


def test_wrong_labels_are_framed_where_nothing_else_is_known():
    tiles = TrainingTiles(IMAGES, SCORES, GIVEN, TRUE, DIGITS, None)
    assert tiles.summary(np.arange(COUNT)) == f"{(GIVEN != TRUE).sum()} of these 40 are corrupted"
    assert TrainingTiles(IMAGES, SCORES, GIVEN, None, DIGITS, None).summary(np.arange(3)) == "3 examples"


def test_no_known_causes(tmp_path):
    """Then there is no curve, and no panel for it in the summary; groups without examples say so."""
    path = tmp_path / "summary.png"
    summary.draw(path, CLASSES)
    assert size_of(path)[0] == 1590
    unknown = replace(CLASSES, **NO_TRUTH, parts=np.full(COUNT, "reserved"), roles=np.full(COUNT, ""))
    summary.draw(path, unknown)
    assert size_of(path)[0] == 1027
    identification.draw(tmp_path / "curve.png", unknown)
    assert not (tmp_path / "curve.png").exists()


@pytest.mark.parametrize(
    "course",
    [
        pd.DataFrame({"round": [], "discovery_accuracy": []}),
        pd.DataFrame({"round": [0, 1]}),
        pd.DataFrame({"round": [0], "discovery_accuracy": [0.5], "query_accuracy": [np.nan]}),
        pd.DataFrame({"round": [0, 1], "holdout_accuracy": [0.1, 0.2], "remaining_accuracy": [1.0, 0.9]}),
        pd.DataFrame({"round": [0, 1], "discovery_accuracy": [0.1, 0.2], "returned": [False, False]}),
        COURSE.assign(returned=COURSE["round"] == 4),
    ],
    ids=["no steps", "no accuracies", "one step", "without discovery", "none marked", "marked"],
)
def test_short_courses(course, tmp_path):
    treatment.draw(tmp_path / "treatment.png", replace(CLASSES, course=course))
    assert size_of(tmp_path / "treatment.png")[0] == 1200


def test_a_course_needs_rounds(tmp_path):
    with pytest.raises(RepairError, match="needs a column round"):
        treatment.draw(tmp_path / "treatment.png", replace(CLASSES, course=pd.DataFrame({"accuracy": [0.5]})))
    assert not list(tmp_path.iterdir())


def test_text_shrinks_then_is_cut_to_its_room():
    canvas = Canvas(4, 1)
    assert canvas.text(0.1, 0.1, "short", width=2) < 1
    assert canvas.text(0.1, 0.4, "a long line that has no room in one inch at all", width=1) <= 1.11


def test_pixels_keep_their_values():
    image = np.array([[[0, 255], [51, 102]]], dtype=np.uint8)
    np.testing.assert_allclose(as_picture(image), [[0, 1], [0.2, 0.4]])
    np.testing.assert_allclose(as_picture(np.array([[0.2, 0.9]])), [[0.2, 0.9]])
    np.testing.assert_allclose(as_picture(np.array([[-1.0, 3.0]])), [[0, 1]])
    colours = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    np.testing.assert_allclose(as_picture(colours)[1, 0] * 255, [2, 6, 10])
