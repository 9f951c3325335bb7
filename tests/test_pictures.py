"""Pictures: real PNGs of sensible size, the same bytes for the same numbers, and no crash at the edges."""

import struct

import matplotlib
import numpy as np
import pandas as pd
import pytest

from modelrepair.errors import RepairError
from modelrepair.evaluation.canvas import Canvas, picture
from modelrepair.evaluation.gallery import as_picture
from modelrepair.evaluation.identification import identification_curve
from modelrepair.evaluation.pictures import (
    draw_changes,
    draw_confusions,
    draw_erasure,
    draw_examples,
    draw_identification_curve,
    draw_summary,
    draw_trade_off,
)
from modelrepair.evaluation.repair import repair_metrics

DIGITS = [str(number) for number in range(10)]
LONG_NAMES = [f"a rather long class name, number {number}" for number in range(10)]
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.integers(0, 256, (40, 1, 28, 28), dtype=np.uint8)
SCORES = GENERATOR.normal(size=40)
TRUE = np.arange(40) % 10
IS_CORRUPTED = SCORES > 0.8
GIVEN = np.where(IS_CORRUPTED, (TRUE + 1) % 10, TRUE)
BEFORE = np.where(np.arange(40) < 12, (TRUE + 3) % 10, TRUE)
AFTER = np.where(np.arange(40) % 7 == 0, (TRUE + 5) % 10, TRUE)
CURVE = identification_curve(SCORES, IS_CORRUPTED)
TRACE = pd.DataFrame(
    {
        "step": range(6),
        "discovery_accuracy": [0.80, 0.85, 0.90, 0.88, np.nan, 0.87],
        "query_accuracy": [0.0, np.nan, 0.4, 0.5, 0.6, 0.7],
    }
)
ROLE = np.where(BEFORE != TRUE, "holdout", "remaining")
METRICS = repair_metrics(BEFORE, AFTER, TRUE, ROLE, np.full(40, "assessment"), [1, 7], 10)
ERASURE = {when: {"erased": 0.9, "kept": 0.8, "membership_auc": 0.5} for when in ("before", "after")}
NOTHING = dict.fromkeys(METRICS["before"])


def size_of(path):
    """Width and height in pixels; fails if the file is no PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert data[-8:-4] == b"IEND"
    return struct.unpack(">II", data[16:24])


def draw_sample(name, path):
    draw = {
        "examples": lambda: draw_examples(path, IMAGES, SCORES, GIVEN, TRUE, DIGITS, IS_CORRUPTED),
        "changes": lambda: draw_changes(path, IMAGES, TRUE, BEFORE, AFTER, DIGITS),
        "curve": lambda: draw_identification_curve(
            path, {"ewc": CURVE, "plain loss": CURVE}, {"ewc": 0.9, "plain loss": None}
        ),
        "confusions": lambda: draw_confusions(path, np.diag(np.arange(10)), np.ones((10, 10), int), DIGITS),
        "trade-off": lambda: draw_trade_off(path, TRACE),
        "erasure": lambda: draw_erasure(path, IMAGES, GIVEN, np.arange(30), DIGITS, ERASURE, METRICS),
        "summary": lambda: draw_summary(
            path, IMAGES, SCORES, GIVEN, TRUE, DIGITS, IS_CORRUPTED, {"ewc": CURVE}, {"ewc": 0.9}, METRICS
        ),
    }
    draw[name]()


SAMPLES = ["examples", "changes", "curve", "confusions", "trade-off", "erasure", "summary"]


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
    draw_sample("curve", tmp_path / "curve.png")
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


@pytest.mark.parametrize("count", [1, 12, 40])
def test_few_or_all_erased_examples(count, tmp_path):
    nobody = {when: dict.fromkeys(ERASURE["before"]) for when in ERASURE}
    path = tmp_path / "erasure.png"
    draw_erasure(path, IMAGES, GIVEN, np.arange(count), LONG_NAMES, nobody, METRICS)
    assert size_of(path)[0] >= 900


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_fewer_examples_than_places(count, tmp_path):
    path = tmp_path / "examples.png"
    draw_examples(path, IMAGES[:count], SCORES[:count], GIVEN[:count], TRUE[:count], DIGITS)
    assert size_of(path)[0] == 1200


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
    draw_examples(path, inputs, SCORES * 1e-6, GIVEN, None, names)
    assert size_of(path)[0] == 1200
    draw_changes(path, inputs, TRUE, BEFORE, AFTER, names, count=3)
    assert size_of(path)[0] == 1200


@pytest.mark.parametrize(
    ("before", "after"), [(TRUE, TRUE), (BEFORE, TRUE), (TRUE, AFTER), (BEFORE, BEFORE)], ids=str
)
def test_nothing_fixed_or_nothing_broken(before, after, tmp_path):
    path = tmp_path / "changes.png"
    draw_changes(path, IMAGES, TRUE, before, after, LONG_NAMES)
    assert size_of(path)[0] == 1200


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_confusions_of_few_and_many_classes(classes, tmp_path):
    counts = GENERATOR.integers(0, 500, (classes, classes))
    names = [f"class {number}" for number in range(classes)]
    path = tmp_path / "confusions.png"
    draw_confusions(path, counts, np.zeros_like(counts), names)
    width, height = size_of(path)
    assert width == 1200
    assert 400 <= height <= 800


def test_no_known_causes(tmp_path):
    empty = identification_curve(SCORES, np.zeros(40, dtype=bool))
    draw_identification_curve(tmp_path / "curve.png", {"ewc": empty}, {"ewc": None})
    metrics = {"before": NOTHING, "after": NOTHING}
    draw_summary(
        tmp_path / "summary.png", IMAGES, SCORES, GIVEN, None, DIGITS, None, {"ewc": empty}, {}, metrics
    )
    assert size_of(tmp_path / "curve.png")[0] == 960
    assert size_of(tmp_path / "summary.png")[0] == 1590


@pytest.mark.parametrize(
    "trace",
    [
        pd.DataFrame({"step": [], "discovery_accuracy": []}),
        pd.DataFrame({"step": [0, 1]}),
        pd.DataFrame({"step": [0], "discovery_accuracy": [0.5], "query_accuracy": [np.nan]}),
        pd.DataFrame({"step": [0, 1], "holdout_accuracy": [0.1, 0.2], "remaining_accuracy": [1.0, 0.9]}),
    ],
    ids=["no steps", "no accuracies", "one step", "without discovery"],
)
def test_short_traces(trace, tmp_path):
    draw_trade_off(tmp_path / "trade-off.png", trace)
    assert size_of(tmp_path / "trade-off.png")[0] == 1200


def test_a_trace_needs_steps(tmp_path):
    with pytest.raises(RepairError, match="needs a column step"):
        draw_trade_off(tmp_path / "trade-off.png", pd.DataFrame({"accuracy": [0.5]}))
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
