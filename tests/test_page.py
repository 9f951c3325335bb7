"""The page's content: columns as the evidence has them, thumbnails as the inputs, links as autograd finds them."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from evidence_cases import CASES, CLASSES, MULTIPLE
from modelrepair.evaluation.evidence import Evidence
from modelrepair.evaluation.links import MOST_SUSPECTS, Links, connect, pull
from modelrepair.evaluation.measures import measure_all
from modelrepair.evaluation.page import write_page
from modelrepair.evaluation.page.sprites import COLUMNS, draw_sheets
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.stage import Stage
from page_cases import NAMES, RUN, evidence, links, page, records, texts


class Parsed(HTMLParser):
    """Tags of a page, by name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_no_causes_have_a_page_too(tmp_path: Path) -> None:
    of = replace(evidence(40), causes=np.empty(0, dtype=np.int64), corrections=None)
    text = page(tmp_path / "page.html", of).read_text()
    assert "Taken as causes were <strong>0</strong> of 40 training examples." in text
    assert not any(records(tmp_path / "page.html")["suspects"]["taken"])


def request_links(of: Evidence) -> Links:
    return Links(np.asarray(of.causes), np.empty(0, np.int64), None, "the method was shown no failures")


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_run_has_a_page(case: str, tmp_path: Path) -> None:
    of = CASES[case]
    tied = request_links(of) if of.scores is None else links(of)
    text = page(tmp_path / "page.html", of, tied).read_text()
    tags = Parsed(text).tags
    for (needed,) in (("table",), ("main",), ("h1",)):
        assert any(tag == needed for tag, _ in tags)
    names = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {value for _, attributes in tags if (value := attributes.get("href")) and value.startswith("#")}
    assert targets <= {f"#{name}" for name in names}
    assert len(records(tmp_path / "page.html")["suspects"]["example"]) == len(tied.suspects)


def test_the_page_is_the_same_for_the_same_evidence(tmp_path: Path) -> None:
    of = evidence(300)
    assert page(tmp_path / "a.html", of).read_bytes() == page(tmp_path / "b.html", of).read_bytes()


def test_nothing_leaves_the_page_and_no_name_leaves_its_place(tmp_path: Path) -> None:
    text = page(tmp_path / "page.html", evidence(60)).read_text()
    assert re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", text) == []
    assert re.findall(r"https?://[^\s\"']+", text) == []
    assert "document.title='left'</script>" not in text
    tags = [tag for tag, _ in Parsed(text).tags]
    assert tags.count("script") == 2
    assert "b" not in tags
    assert records(tmp_path / "page.html")["classes"] == list(NAMES)


def test_columns_are_what_the_evidence_says(tmp_path: Path) -> None:
    of = evidence(200)
    of = replace(of, corrections=np.where(np.arange(len(of.causes)) % 2, -1, 3))
    tied = links(of)
    found = records(page(tmp_path / "page.html", of, tied))
    suspects, failures = found["suspects"], found["failures"]
    rows = tied.suspects
    assert of.training_numbers is not None
    assert of.scores is not None
    assert of.is_corrupted is not None
    assert suspects["example"] == of.training_numbers[rows].tolist()
    assert suspects["given"] == of.given_labels[rows].tolist()
    np.testing.assert_allclose(suspects["score"], of.scores[rows], rtol=1e-3)
    assert np.all(np.diff(suspects["score"]) <= 0)
    for when, answers in (("before", of.before), ("after", of.after)):
        assert answers.training_predictions is not None
        assert suspects[when] == answers.training_predictions[rows].tolist()
        beliefs = 1000 * np.exp(answers.training_log_likelihoods[rows])
        np.testing.assert_allclose(suspects[f"belief_{when}"], beliefs, atol=0.5)
    taken = np.isin(rows, of.causes)
    assert suspects["taken"] == taken.astype(int).tolist()
    assert suspects["wrong"] == of.is_corrupted[rows].astype(int).tolist()
    new = dict(zip(of.causes.tolist(), of.corrections.tolist(), strict=True))  # type: ignore[union-attr]
    assert suspects["new"] == [new.get(row, -1) for row in rows.tolist()]
    assert failures["label"] == of.test_labels[tied.failures].tolist()
    assert tied.pull is not None
    for position in (0, 7, 199):
        order = np.argsort(-tied.pull[position], kind="stable")
        assert suspects["drives"][position] == [f for f in order[:6].tolist() if tied.pull[position, f] > 0]
    for failure in (0, len(tied.failures) - 1):
        order = np.argsort(-tied.pull[:, failure], kind="stable")
        assert failures["causes"][failure] == order[:12].tolist()
    changed = found["changed"]
    was, now = (answers.test_predictions == of.test_labels for answers in (of.before, of.after))
    assessed = of.parts == "assessment"
    assert changed["fixed"]["count"] == int((~was & now & assessed).sum())
    assert changed["broken"]["count"] == int((was & ~now & assessed).sum())


def test_failures_that_were_held_out_are_not_shown_as_failures() -> None:
    of = evidence(100)
    model = TrainedModel(nn.Sequential(nn.Flatten(), nn.Linear(784, 5)), Softmax(), device="cpu")
    training = Examples(np.asarray(of.training_inputs), of.given_labels)
    tests = Examples(np.asarray(of.test_inputs), of.test_labels)
    found = connect(model, training, tests, of)
    assert set(of.roles[found.failures]) == {"query"}
    losses = -of.before.test_log_likelihoods[found.failures]
    assert np.all(np.diff(losses) <= 0)
    assert found.pull is not None
    assert found.pull.shape == (100, len(found.failures))


def test_thumbnails_are_the_inputs() -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (90, 1, 20, 20), dtype=np.uint8)
    rows, groups = draw.permutation(90)[:70], draw.integers(0, 3, 70)
    sheets, places = draw_sheets(images, rows, groups, 10**6)
    assert len(sheets) == 3
    for row, group, (sheet, place) in zip(rows, groups, places, strict=True):
        assert sheet == group
        drawn = np.asarray(Image.open(io.BytesIO(sheets[sheet].png)).convert("L"))
        down, across = divmod(int(place), COLUMNS)
        part = drawn[20 * down : 20 * down + 20, 20 * across : 20 * across + 20].astype(int)
        assert np.abs(part - images[row, 0]).max() <= 255 / 31 / 2 + 1


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (17,)])
def test_ten_thousand_thumbnails_stay_within_the_budget(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    few = draw.integers(0, 256, (50, *shape), dtype=np.uint8)
    inputs = few if len(shape) == 3 else few.astype(np.float32)
    rows = draw.integers(0, 50, 10_000)
    sheets, places = draw_sheets(inputs, rows, rows % 10, 1_200_000)
    assert sum(len(sheet.png) for sheet in sheets) <= 1_200_000
    assert len(np.unique(places, axis=0)) == 10_000
    for sheet in sheets:
        image = Image.open(io.BytesIO(sheet.png))
        assert image.size == (COLUMNS * sheet.side, sheet.rows * sheet.side)


def test_ten_thousand_suspects_take_less_than_three_megabytes(tmp_path: Path) -> None:
    of = evidence(12_000, 600)
    written = page(tmp_path / "page.html", of)
    assert written.stat().st_size <= 3_000_000
    assert len(records(written)["suspects"]["example"]) == MOST_SUSPECTS


def slopes(model: TrainedModel, layer: nn.Linear, examples: Examples) -> NDArray[np.float64]:
    """Gradients of the layer's weights, one backward pass an example."""
    found = []
    for row in range(len(examples)):
        inputs, targets = examples.batch([row], dtype=model.dtype)
        (gradient,) = torch.autograd.grad(
            model.log_likelihood(model.run(inputs), targets).sum(), layer.weight
        )
        found.append(gradient.reshape(-1).numpy())
    return np.stack(found)


@pytest.mark.parametrize("attributes", [False, True])
def test_pull_is_the_product_of_the_last_layers_gradients(attributes: bool) -> None:
    torch.manual_seed(0)
    last = nn.Linear(6, 3).double()
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh()).double().append(last)
    draw = np.random.default_rng(0)

    def some(count: int) -> Examples:
        targets: NDArray[Any] = draw.integers(0, 3, count)
        if attributes:
            targets = draw.integers(0, 2, (count, 3)).astype(np.float32)
        return Examples(draw.normal(size=(count, 4)), targets)

    suspects, failures = some(30), some(11)
    found = []
    for batch_size in (7, 500):
        model = TrainedModel(
            network, Sigmoid() if attributes else Softmax(), batch_size=batch_size, device="cpu"
        )
        found.append(pull(model, suspects, failures))
    expected = -slopes(model, last, suspects) @ slopes(model, last, failures).T
    for products in found:
        np.testing.assert_allclose(products, expected, rtol=1e-6, atol=1e-7)


def test_a_network_without_a_last_linear_layer_is_said_to_have_none() -> None:
    network = nn.Sequential(nn.Conv2d(1, 5, 28), nn.Flatten())
    model = TrainedModel(network, Softmax(), device="cpu")
    of = evidence(20)
    training, tests = (
        Examples(np.asarray(inputs), labels)
        for inputs, labels in ((of.training_inputs, of.given_labels), (of.test_inputs, of.test_labels))
    )
    found = connect(model, training, tests, of)
    assert found.pull is None
    assert "no linear layer" in str(found.reason)


def test_labels_of_attributes_are_texts_of_those_that_an_example_has(tmp_path: Path) -> None:
    found = records(page(tmp_path / "page.html", MULTIPLE, links(MULTIPLE)))
    assert MULTIPLE.scores is not None
    first = int(np.argmax(MULTIPLE.scores))
    have = [
        name for name, value in zip(MULTIPLE.class_names, MULTIPLE.given_labels[first], strict=True) if value
    ]
    assert found["labels"][found["suspects"]["given"][0]] == (", ".join(have) or "none")


def test_short_vectors_are_shown_in_words(tmp_path: Path) -> None:
    values = np.arange(40 * 3, dtype=np.float32).reshape(40, 3) / 4
    of = replace(CLASSES, training_inputs=values, test_inputs=values)
    found = records(page(tmp_path / "page.html", of))
    assert of.scores is not None
    assert found["suspects"]["text"][0] == ", ".join(f"{v:.3g}" for v in values[np.argmax(of.scores)])


def test_texts_are_read_and_not_looked_at(tmp_path: Path) -> None:
    """Without thumbnails; of many long ones the beginnings, so that the page stays small."""
    path = page(tmp_path / "page.html", texts(40))
    assert "data:image" not in path.read_text()
    found = records(path)
    assert found["spelled"]
    assert "place" not in found["suspects"]
    assert {len(text.split()) for text in found["suspects"]["text"]} == {5}
    assert found["failures"]["text"][0].startswith("word")
    many = page(tmp_path / "many.html", texts(3000, length=200))
    assert max(map(len, records(many)["suspects"]["text"])) == 1_000_000 // 3000


def test_time_and_memory_are_shown_where_they_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the stages whose inputs are still the same, and of their last run."""
    (tmp_path / "dvc.yaml").write_text(
        "stages: {one: {cmd: a, deps: [x]}, two: {cmd: b, deps: [x]}, three: {cmd: c}}"
    )
    (tmp_path / "x").write_text("input")
    lines = [
        {
            "stage": name,
            "fingerprint": Stage(name, tmp_path).fingerprint(),
            "seconds": seconds,
            "peak_mib": 1e3,
        }
        for name, seconds in (("one", 9.0), ("three", 7.25), ("one", 2.0))
    ]
    lines += [{**lines[0], "stage": "two"}, {**lines[0], "stage": "gone"}]
    monkeypatch.setenv("MODELREPAIR_COSTS", str(tmp_path / "costs.jsonl"))
    assert Stage("last", tmp_path).costs_before() == []
    (tmp_path / "costs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    costs = Stage("last", tmp_path).costs_before()
    assert {one["stage"]: one["seconds"] for one in costs} == {"one": 2.0, "three": 7.25}
    of = evidence(30)
    write_page(tmp_path / "page.html", of, links(of), measure_all(of), replace(RUN, costs=costs))
    shown = re.sub(r"<[^>]+>", " ", (tmp_path / "page.html").read_text()).split("Time and memory")[1]
    assert shown.split("MiB")[1].split()[:9] == [
        "one",
        "2.0",
        "1,000",
        "three",
        "7.2",
        "1,000",
        "all",
        "9.2",
        "1,000",
    ]


def test_the_command_runs_the_same_again() -> None:
    assert RUN.command == "dvc exp run -S method=mend -S 'dataset=a $b'\"'\"'s' -S seed=0"
    assert RUN.command_with_marks.endswith("-S selection=reviewed")


def test_sheets_are_data_uris(tmp_path: Path) -> None:
    text = page(tmp_path / "page.html", evidence(30)).read_text()
    found = re.findall(r"url\(data:image/png;base64,([^)]+)\)", text)
    assert len(found) == 5 + 1
    for content in found:
        Image.open(io.BytesIO(base64.b64decode(content))).verify()
