"""One matrix moved by one solve, against least squares and a few dense lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modelrepair.additions import extend
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.knowledge.closed_form import (
    MOMENTS,
    ClosedFormEditor,
    Search,
    SecondMatrix,
    closed_form_shift,
    moments_of,
)
from modelrepair.knowledge.editor import with_matrices
from modelrepair.knowledge.files import load_editor, save_editor
from modelrepair.models.examples import Examples
from modelrepair.models.trained_model import TrainedModel
from modelrepair.treatment import ClosedForm, Patient, SlotEditor, make_treatment
from models import make_model, one_thread  # noqa: F401
from test_editing import CAUSES, DATA, FAILURES, MODEL, patient

HOW: dict[str, Any] = {"steps": 5, "learning_rate": 0.3, "norm": 0.1}


def test_the_shift_is_that_of_weighted_least_squares() -> None:
    """Δ minimises Σ‖Δ kᵢ − rᵢ‖² + (λ/m) Σ‖Δ k‖²: one system of n + m rows, to 1e-6."""
    draws = np.random.default_rng(0)
    keys, wanted, others = draws.normal(size=(5, 7)), draws.normal(size=(5, 3)), draws.normal(size=(20, 7))
    rows = np.concatenate([keys, np.sqrt(2.5 / 20) * others])
    sides = np.concatenate([wanted, np.zeros((20, 3))])
    expected = np.linalg.lstsq(rows, sides, rcond=None)[0].T
    shift = solved(keys, wanted, others)
    assert np.abs(shift - expected).max() < 1e-6
    # What no sentence excites stays.
    keys[:, 3] = others[:, 3] = 0
    assert not solved(keys, wanted, others)[:, 3].any()


def solved(keys: np.ndarray, wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    moments = moments_of(torch.from_numpy(others), 2.5)
    shift = closed_form_shift(torch.from_numpy(keys), torch.from_numpy(wanted), moments)
    return np.asarray(shift.numpy())


def at_the_blank(examples: Examples, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """What stands at the blank before a two-layer network, what its second matrix is given there, and the places."""
    own: Any = MODEL.network
    inputs = torch.from_numpy(examples.inputs.astype(np.int64))
    part = own.layers[layer]
    stream = own.states(inputs)[layer]
    attended = part.attend(stream, stream, own.visible(inputs)[:, None, None])
    inner = torch.nn.functional.gelu(part.network_in(part.network_norm(attended)))
    places = (inputs == 1).double().unsqueeze(1)
    return (places @ attended).squeeze(1).detach(), (places @ inner).squeeze(1).detach(), places


def logits_with(examples: Examples, layer: int, shift: Tensor) -> Tensor:
    """What the network makes of sentences whose state at the blank behind a layer is shifted, written out."""
    own: Any = MODEL.network
    inputs = torch.from_numpy(examples.inputs.astype(np.int64))
    visible = own.visible(inputs)[:, None, None]
    _, _, places = at_the_blank(examples, layer)
    stream = own.states(inputs)[layer]
    stream = own.layers[layer](stream, stream, visible) + places.transpose(1, 2) @ shift.unsqueeze(1)
    for later in own.layers[layer + 1 :]:
        stream = later(stream, stream, visible)
    return own.output(own.norm((places @ stream).squeeze(1)))


@pytest.mark.parametrize(("layer", "number"), [(None, 1), (0, 0)])
def test_an_edit_is_as_by_hand(layer: int | None, number: int) -> None:
    """Keys, residuals by Adam and the new matrix, to 1e-9."""
    treated = ClosedForm(layer=layer, covariance=3.0, **HOW).treat(patient())
    taught, kept = patient().lessons("causes")
    answers = torch.from_numpy(taught.targets)
    shift = torch.zeros(len(taught), 8, dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=0.3)
    for _ in range(5):
        optimiser.zero_grad()
        said = logits_with(taught, number, shift).log_softmax(dim=1)
        (-said[torch.arange(len(taught)), answers].sum() + 0.1 * shift.square().sum()).backward()
        optimiser.step()
    keys, others = at_the_blank(taught, number)[1], at_the_blank(kept, number)[1]
    moved = closed_form_shift(keys, shift.detach(), moments_of(others, 3.0))
    name = f"layers.{number}.network_out.weight"
    for other, value in treated.model.parameters.items():
        expected = MODEL.parameters[other] + (moved if other == name else 0)
        assert torch.allclose(value, expected, rtol=1e-9, atol=1e-9), other
    assert treated.model.mean_log_likelihood(taught) > MODEL.mean_log_likelihood(taught)


def test_nothing_depends_on_the_size_of_batches() -> None:
    whole = ClosedForm(**HOW).treat(patient()).model
    small = TrainedModel(MODEL.copy().network, MODEL.likelihood, batch_size=2, device="cpu")
    apart = ClosedForm(**HOW).treat(patient(model=small)).model
    assert torch.allclose(whole.parameter_vector, apart.parameter_vector, rtol=1e-9, atol=1e-9)


def test_points_on_the_way_are_looked_at_where_it_is_guarded() -> None:
    treated = ClosedForm(points=4, **HOW).treat(patient(guarded=True, tolerance=1.0))
    assert len(treated.trace) == 5
    assert treated.trace[treated.best_round]["watched"] == max(row["watched"] for row in treated.trace)
    assert len(ClosedForm(points=4, **HOW).treat(patient()).trace) == 2


def test_a_later_edit_leaves_the_earlier_ones() -> None:
    """Fact after fact is least squares with what was taught before among what is to stay, to 1e-9."""
    one = patient()
    assert one.stated is not None
    treated = ClosedForm(edits="sequential", covariance=3.0, **HOW).treat(one)
    layer = SecondMatrix(MODEL, None)
    model, name, weight = MODEL, layer.name, layer.weight
    others = layer.keys(one.lessons("causes")[1])
    before = torch.empty(0, others.shape[1], dtype=torch.double)
    facts = generator(one.seed, "order of edits").permutation(np.unique(one.stated.failing))
    assert len(facts) > 2
    for fact in facts:
        lessons, _ = one.with_failures(one.stated.failing == fact).lessons("causes")
        keys, residuals = SecondMatrix(model, None).wanted(lessons, Search(**HOW))
        # What no sentence excites is held by a ridge of 1e-9 of the mean moment.
        held = np.sqrt(3.0 / len(others)) * others
        ridge = torch.eye(others.shape[1], dtype=torch.double) * (1e-9 * held.square().sum(0).mean()).sqrt()
        rows = torch.cat([keys, before, held, ridge])
        sides = torch.cat([residuals, residuals.new_zeros(len(rows) - len(keys), residuals.shape[1])])
        weight = weight + torch.linalg.lstsq(rows, sides, driver="gelsd").solution.T
        before = torch.cat([before, keys])
        model = with_matrices(MODEL, {name: weight})
    assert torch.allclose(treated.model.parameters[name], weight, rtol=1e-6, atol=1e-6)
    together = ClosedForm(covariance=3.0, **HOW).treat(one).model.parameters[name]
    assert not torch.allclose(treated.model.parameters[name], together, rtol=1e-3, atol=1e-3)
    watched = ClosedForm(edits="sequential", points=2, **HOW).treat(patient(guarded=True, tolerance=1.0))
    assert len(watched.trace) == 3


def test_single_edits_are_those_that_a_treatment_makes(tmp_path: Path) -> None:
    how = ClosedForm(wordings="query", covariance=3.0, **HOW)
    editor = how.treat(patient()).editor
    assert isinstance(editor, ClosedFormEditor)
    save_editor(tmp_path / "editor.safetensors", editor, loops=1)
    again, loops = load_editor(tmp_path / "editor.safetensors", MODEL)
    assert loops == 1
    inputs, wanted = FAILURES.batch(slice(None), device=MODEL.device)
    apart = again.edited_apart(inputs, wanted, 1)
    [name] = again.matrices
    assert {*apart} == {name}
    pending = again.answers(again.given, inputs) != wanted
    assert pending.any()
    for place in range(len(FAILURES)):
        expected = MODEL.parameters[name]
        values = again.edited(again.given, inputs[place : place + 1], wanted[place : place + 1], 1)
        if pending[place]:
            # Of one failure alone; what is to stay is that of all.
            matrix = SecondMatrix(MODEL, None)
            key, residual = matrix.wanted(FAILURES.subset([place]), Search(**HOW))
            expected = expected + closed_form_shift(key, residual, editor.given[MOMENTS])
            assert torch.allclose(values[MOMENTS], editor.given[MOMENTS] + key.T @ key, atol=1e-12)
        assert torch.allclose(values[name], expected, rtol=1e-9, atol=1e-9)
        # By another solve, of moments of which few sentences are the mean.
        assert torch.allclose(apart[name][place], expected, rtol=1e-6, atol=1e-6)
    # A row of edits: the second goes on from the first.
    row = again.edited(again.given, inputs[:1], wanted[:1], 1)
    row = again.edited(row, inputs[1:2], wanted[1:2], 1)
    assert torch.equal(again.answers_apart(apart, inputs), editor.answers_apart(apart, inputs))
    assert not torch.equal(row[name], again.given[name])


def test_an_editor_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "editor.safetensors"
    editor = ClosedForm(**HOW).treat(patient()).editor
    assert editor is not None
    save_editor(path, editor, loops=1)
    with pytest.raises(RepairError, match="needs room at 'feed-forward'"):
        load_editor(path, make_model())
    with pytest.raises(RepairError, match=r"made for a matrix with 3 inputs, and layers\.1\..* has"):
        ClosedFormEditor(MODEL, None, Search(**HOW), torch.eye(3, dtype=torch.double))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(RepairError, match=r"the editor .* cannot be read"):
        load_editor(path, MODEL)


def test_a_network_with_additions_is_edited_itself() -> None:
    slots = SlotEditor(slots=2, steps=2, looks=1).treat(patient()).model
    treated = make_treatment("closed-form", **HOW).treat(patient(model=slots)).model
    changed = [
        name for name, value in treated.parameters.items() if not torch.equal(value, slots.parameters[name])
    ]
    assert changed == ["network.layers.1.network_out.weight"]
    assert extend(slots.network, []).is_selective is False


@pytest.mark.parametrize("treatment", [ClosedForm(**HOW), SlotEditor(slots=2, steps=2, looks=1)])
def test_editors_need_no_causes(treatment: Any) -> None:
    """Without any the failing sentences are taught by themselves, and all other facts stay."""
    nobody = patient(causes=np.empty(0, dtype=np.int64))
    taught, kept = nobody.lessons("causes")
    assert taught.targets.tolist() == FAILURES.targets.tolist()
    assert kept.rows.tolist() == patient().elsewhere.tolist()
    treated = treatment.treat(nobody).model
    assert treated.mean_log_likelihood(FAILURES) > MODEL.mean_log_likelihood(FAILURES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"failures": FAILURES.subset([]), "stated": None}, "teaches failures, and there are none"),
        (
            {"causes": np.arange(len(DATA)), "stated": None},
            "no training examples remain that an edit is to leave",
        ),
        ({"model": make_model()}, "needs room at 'feed-forward', and the network .* has none"),
    ],
)
def test_what_cannot_be_edited_is_refused(changes: dict[str, Any], message: str) -> None:
    given: Patient = patient(**changes)
    assert len(CAUSES)
    with pytest.raises(RepairError, match=message):
        ClosedForm(**HOW).treat(given)
