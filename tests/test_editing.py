"""Editors that teach an addition, against a few dense lines; what they are taught, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelrepair.additions import Extended
from modelrepair.additions.updates import update_of
from modelrepair.data.sentences import BLANK_NUMBER, PADDING_NUMBER
from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.settings.networks import FactLmSettings
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings
from modelrepair.settings.training import ModelSettings
from modelrepair.settings.treatment import SelectorSettings
from modelrepair.treatment import (
    LowRankEditor,
    Patient,
    SlotEditor,
    StateAdapterEditor,
    Stated,
    make_treatment,
)
from modelrepair.treatment.editing import Editor
from models import (
    assert_equal,
    make_model,
    one_thread,  # noqa: F401
    state_bytes,
)

LENGTH, WORDS = 6, 9
OPTIONS = {"width": 8, "layers": 2, "heads": 2, "hidden": 12}
COUNT, QUERY = 24, 4
STATED = np.arange(COUNT) // 3
"""Which of eight facts each training sentence states."""
ASKED = np.array([6, 0, 3, 1])
STATED_ALONE = Stated(facts=STATED, relations=np.zeros(COUNT, dtype=np.int64), failing=ASKED[:1])
CAUSES = np.array([18, 19, 0, 9, 12, 2])
"""Of facts 6, 6, 0, 3, 4 and 0."""
STEPS = 4
HOW: dict[str, Any] = {"steps": STEPS, "looks": 2, "batch_size": COUNT, "learning_rate": 0.02}
# Every batch is everything, so that what a step sees does not depend on the order.


def some(count: int, seed: int) -> Examples:
    """Sentences with a blank, and a word for it."""
    draws = np.random.default_rng(seed)
    tokens = draws.integers(2, WORDS, (count, LENGTH))
    for number, row in enumerate(tokens):
        end = LENGTH - number % 3
        row[end:] = PADDING_NUMBER
        row[draws.integers(end)] = BLANK_NUMBER
    return Examples(tokens.astype(np.int32), draws.integers(2, WORDS, count))


DATA, FAILURES = some(COUNT, 0), some(QUERY, 1)
MODEL = TrainedModel(
    make_network("factlm", (LENGTH,), WORDS, seed=0, **OPTIONS).double(), Softmax(), device="cpu"
)


def patient(**changes: Any) -> Patient:
    def no_curvature(name: str, damping: float) -> Any:
        raise AssertionError("these treatments use none")

    settings: dict[str, Any] = {
        "model": MODEL.copy(),
        "examples": DATA,
        "causes": CAUSES,
        "discovery": some(12, 2),
        "failures": FAILURES,
        "curvature": no_curvature,
        "guarded": False,
        "seed": 3,
        "stated": Stated(facts=STATED, relations=np.zeros(COUNT, dtype=np.int64), failing=ASKED),
    }
    return Patient(**(settings | changes))


def test_causes_of_the_failures_are_restated() -> None:
    restated = patient().restated
    # Of the causes those of facts 6, 6, 0, 3 and 0, with the answers to these failures.
    assert restated.rows.tolist() == [18, 19, 0, 9, 2]
    assert restated.targets.tolist() == FAILURES.targets[[0, 0, 1, 2, 1]].tolist()
    # What a person gives another class is taught with that.
    told = patient(corrections=np.array([-1, 5, -1, -1, -1, -1])).restated
    assert told.rows.tolist() == [18, 0, 9, 2]
    # All of the other facts, with the cause that states one of them.
    assert patient().elsewhere.tolist() == np.flatnonzero(np.isin(STATED, [2, 4, 5, 7])).tolist()
    assert 12 in patient().elsewhere
    assert len(patient(stated=None).restated) == 0
    assert patient(stated=None).elsewhere.tolist() == patient().remaining.tolist()


def test_what_is_taught_and_what_is_kept() -> None:
    for wordings, count in (("query", QUERY), ("causes", QUERY + 5)):
        taught, kept = patient().lessons(wordings)
        assert len(taught) == count
        assert np.array_equal(taught.inputs[:QUERY], FAILURES.inputs)
        assert kept.rows.tolist() == patient().elsewhere.tolist()
    told = patient(corrections=np.array([-1, 5, -1, -1, -1, -1]))
    taught, _ = told.lessons("causes")
    [place] = np.flatnonzero((taught.inputs == DATA.inputs[19]).all(axis=1))
    assert taught.targets[place] == 5


def test_what_is_right_is_trained_on_in_place_of_the_causes() -> None:
    seen = patient()
    _, taught = seen.taught_with(["remaining", "failures", "restated"])
    assert np.array_equal(taught.inputs, np.concatenate([FAILURES.inputs, seen.restated.inputs]))
    assert taught.targets.tolist() == [*FAILURES.targets, *seen.restated.targets]
    # Where no cause states a fact of the failures, the rest is trained on.
    others = patient(causes=np.array([9]), failures=FAILURES.subset([0]), stated=STATED_ALONE)
    assert len(others.taught_with(["failures", "restated"])[1]) == 1
    with pytest.raises(RepairError, match="train on restated, of which there are too few examples"):
        others.taught_with(["restated"])
    with pytest.raises(RepairError, match="train on restated, and these examples state no facts"):
        patient(stated=None).taught_with(["remaining", "restated"])


def test_retraining_takes_what_it_is_told_to() -> None:
    """One epoch of one batch: Adam's first step on the remaining, the failures and the restated causes, to 1e-9."""
    seen = patient(fresh=MODEL.copy)
    how: dict[str, Any] = {"epochs": 1, "batch_size": 100, "learning_rate": 0.01}
    treated = make_treatment("retrain", trains_on=["remaining", "failures", "restated"], **how).treat(seen)
    expected = MODEL.copy()
    pool = seen.kept.followed_by(FAILURES).followed_by(seen.restated)
    inputs, targets = pool.batch(slice(None), dtype=expected.dtype)
    loss = -expected.log_likelihood(expected.run(inputs), targets).mean()
    optimiser = torch.optim.Adam(expected.parameters.values(), lr=0.01)
    loss.backward()
    optimiser.step()
    assert (treated.model.parameter_vector - expected.parameter_vector).abs().max() < 1e-9


def test_updates_come_one_after_another() -> None:
    """Facts 0, 3 and 1, 6 in turn: the second addition is taught beside the first one, which stays as it was."""
    how: dict[str, Any] = {"rank": 2, "selector": SelectorSettings(threshold=0.5), **HOW}
    assert update_of(ASKED, 2).tolist() == [1, 0, 0, 1]
    treated = LowRankEditor(updates=2, **how).treat(patient())
    first, second = np.flatnonzero(update_of(ASKED, 2) == 0), np.flatnonzero(update_of(ASKED, 2) == 1)

    def told(part: NDArray[np.int64], so_far: NDArray[np.int64], model: TrainedModel = MODEL) -> Patient:
        """With these failures; sentences of facts so far are not to stay, and earlier ones are no causes."""
        facts = np.where(np.isin(STATED, ASKED[so_far]), ASKED[part][0], 100)
        facts = np.where(np.isin(STATED, ASKED[part]), STATED, facts)
        earlier = np.setdiff1d(ASKED[so_far], ASKED[part])
        return patient(
            model=model.copy(),
            failures=FAILURES.subset(part),
            stated=Stated(facts, np.zeros(COUNT, dtype=np.int64), ASKED[part]),
            causes=CAUSES[~np.isin(STATED[CAUSES], earlier)],
        )

    once = LowRankEditor(**how).treat(told(first, first))
    twice = LowRankEditor(**how).treat(told(second, np.arange(QUERY), once.model))
    assert state_bytes(treated.model) == state_bytes(twice.model)
    assert [row["round"] for row in treated.trace] == [*range(6)]
    assert treated.best_round == 5
    network, before = treated.model.network, once.model.network
    assert isinstance(network, Extended)
    assert isinstance(before, Extended)
    assert len(network.additions) == 2
    for name, tensor in before.additions[0].state_dict().items():
        assert torch.equal(network.additions[0].state_dict()[name], tensor)
    with pytest.raises(RepairError, match="there are 5 updates for 4 failing facts"):
        LowRankEditor(updates=5, **how).treat(patient())


def logits_with_slots(hidden: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What factlm makes of what stands before the last two-layer network, with slots beside it, written out."""
    own: Any = MODEL.network
    layer = own.layers[-1]
    normal = layer.network_norm(hidden)
    inner = nn.functional.gelu(normal @ layer.network_in.weight.T + layer.network_in.bias)
    result = hidden + inner @ layer.network_out.weight.T + layer.network_out.bias
    result = result + nn.functional.gelu(normal @ keys.T) @ values.T
    return own.output(own.norm(result))


@pytest.mark.parametrize("retention", [0.0, 0.7])
def test_slots_descend_as_by_hand(retention: float) -> None:
    """Adam's steps down the loss of what is taught and the divergence on the rest, to 1e-10."""
    editor = SlotEditor(slots=3, retention=retention, **HOW)
    treated = editor.treat(patient())
    taught, kept = patient().lessons(editor.wordings)
    whole: Any = treated.model.network
    # The first weights are those that a descent of length 0 would have left: values of 0 and drawn keys.
    start: Any = SlotEditor(slots=3, **{**HOW, "learning_rate": 1e-300}).treat(patient()).model.network
    keys = start.additions[0].sides[0].keys.weight.detach().clone().requires_grad_()
    values = torch.zeros(8, 3, dtype=torch.double, requires_grad=True)
    own: Any = MODEL.network
    hidden = {
        name: own.begin(torch.from_numpy(part.inputs.astype(np.int64))).squeeze(1).detach()
        for name, part in (("taught", taught), ("kept", kept))
    }
    answers = torch.from_numpy(taught.targets)
    before = own.finish(hidden["kept"].unsqueeze(1)).detach().log_softmax(dim=1)
    optimiser = torch.optim.Adam([keys, values], lr=0.02)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = 0.02 * (1 + math.cos(math.pi * step / STEPS)) / 2
        said = logits_with_slots(hidden["taught"], keys, values).log_softmax(dim=1)
        loss = -said[torch.arange(len(taught)), answers].mean()
        now = logits_with_slots(hidden["kept"], keys, values).log_softmax(dim=1)
        loss = loss + retention * (before.exp() * (before - now)).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    side = whole.additions[0].sides[0]
    assert_equal(side.keys.weight.detach(), keys.detach(), 1e-10)
    assert_equal(side.values.weight.detach(), values.detach(), 1e-10)


EDITORS: dict[str, Editor] = {
    "calinet": SlotEditor(slots=3, **HOW),
    "calinet inside": SlotEditor(slots=3, layer=0, **HOW),
    "lora-selector": LowRankEditor(rank=2, selector=SelectorSettings(threshold=0.999), **HOW),
    "kadapter-selector": StateAdapterEditor(heads=2, selector=SelectorSettings(), **HOW),
    "two updates": LowRankEditor(rank=2, updates=2, selector=SelectorSettings(threshold=0.5), **HOW),
}
EVERY_EDITOR = pytest.mark.parametrize("name", EDITORS)


@EVERY_EDITOR
def test_the_network_itself_stays_as_it_is(name: str) -> None:
    given = patient()
    before, flags = state_bytes(given.model), [p.requires_grad for p in given.model.network.parameters()]
    treated = EDITORS[name].treat(given)
    whole = treated.model.network
    assert isinstance(whole, Extended)
    assert state_bytes(given.model) == before
    assert {key: tensor.numpy().tobytes() for key, tensor in whole.network.state_dict().items()} == before
    assert [p.requires_grad for p in whole.network.parameters()] == flags
    assert all(parameter.requires_grad for parameter in whole.additions.parameters())
    assert treated.trace[-1]["loss"] < treated.trace[-2]["loss"]
    taught, _ = given.lessons("causes")
    assert treated.model.mean_log_likelihood(taught) > given.model.mean_log_likelihood(taught)
    if "selector" in name:
        # Two of them with two answers are one prompt.
        twice = patient(failures=FAILURES.followed_by(FAILURES.subset([0])), stated=None)
        again: Any = EDITORS[name].treat(twice).model.network
        assert len(again.additions[0].selector.memory) == QUERY
        inputs = torch.from_numpy(taught.inputs.astype(np.int64))
        [on] = whole.switches(inputs)
        assert on is not None
        assert on.all()


def test_what_is_kept_of_the_frozen_part_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands below the slots is computed once, or in every step: the same to 1e-10."""
    editor = EDITORS["calinet"]
    kept = editor.treat(patient())
    monkeypatch.setattr(Extended, "sits_late", property(lambda whole: False))
    anew = editor.treat(patient())
    assert_equal(kept.model.parameter_vector, anew.model.parameter_vector, 1e-10)


@EVERY_EDITOR
def test_a_killed_editing_goes_on_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    expected = EDITORS[name].treat(patient())

    class Killed(Checkpoint):
        def save(self, *progress: Any) -> None:
            super().save(*progress)
            raise SystemExit

    with pytest.raises(SystemExit):
        EDITORS[name].treat(patient(checkpoint=Killed(tmp_path, "fingerprint")))
    result = EDITORS[name].treat(patient(checkpoint=Checkpoint(tmp_path, "fingerprint")))
    assert state_bytes(result.model) == state_bytes(expected.model)
    assert result.trace == expected.trace


def test_a_treated_model_can_be_treated_again() -> None:
    first = EDITORS["lora-selector"].treat(patient()).model
    # Looked at by a memory of their own; what was added before stays as it is.
    again = EDITORS["calinet"].treat(patient(model=first))
    whole = again.model.network
    assert isinstance(whole, Extended)
    assert len(whole.additions) == 2
    assert isinstance(first.network, Extended)
    assert len(first.network.additions) == 1
    for name, tensor in first.network.additions[0].state_dict().items():
        assert torch.equal(whole.additions[0].state_dict()[name], tensor)
    taught, _ = patient().lessons("causes")
    assert again.model.mean_log_likelihood(taught) > first.mean_log_likelihood(taught)


@pytest.mark.parametrize(
    ("editor", "changes", "message"),
    [
        (
            SlotEditor(),
            {"failures": FAILURES.subset([]), "stated": None},
            "teaches failures, and there are none",
        ),
        (
            SlotEditor(),
            {"stated": Stated(*np.zeros((2, COUNT), dtype=np.int64), np.zeros(QUERY, dtype=np.int64))},
            "set retention to 0",
        ),
        (SlotEditor(layer=2), {}, "CALINET is to sit in layer 2, and the network FactLM has 2 layers"),
        (
            LowRankEditor(selector=SelectorSettings(layer=4)),
            {},
            "the selector is to look at what enters layer 4, and the network FactLM has 2 layers",
        ),
        (SlotEditor(), {"model": make_model()}, "CALINET needs room at 'feed-forward', and the network"),
    ],
)
def test_what_cannot_be_edited(editor: Editor, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message) as caught:
        editor.treat(patient(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 10, "looks": 3}, "steps is 10 and looks is 3"),
        ({"selector": {"threshold": 1.0}}, "selector.threshold is 1.0: give a number above -1 and below 1"),
        ({"selector": {"layer": -1}}, "selector.layer is -1: give the number of a layer, from 0, or null"),
        ({"wordings": "all"}, "wordings is 'all': choose one of query, causes"),
        ({"slots": 0}, "slots is 0: give a whole number of 1 or more"),
    ],
)
def test_settings_that_do_not_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        make_treatment("memory-slots", **options)


ROOT = Path(__file__).parents[1]
FACTS = {"dataset": "facts", "corruption": "false-facts"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"treatment": "calinet"},
            "the treatment calinet adds to the network at 'feed-forward', and lenet5 has no",
        ),
        (
            {"reference": "lora-selector"},
            "the treatment lora-selector adds to the network at 'states', and lenet5",
        ),
        (
            {
                **FACTS,
                "treatment": "kadapter-selector",
                "treatments.kadapter-selector.selector": {"layer": 4},
                "model": {"network": "factlm", "options": {}},
            },
            "the treatment kadapter-selector names layer 4 of the network, and factlm has 4: give a number from 0 to 3",
        ),
    ],
)
def test_no_room_is_refused_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        stage_settings(read_parameters(ROOT / "params.yaml", changes))


def test_settings_know_the_room_that_the_network_has() -> None:
    network = make_network("factlm", (LENGTH,), WORDS, seed=0, **OPTIONS)
    there: Any = network.sites()  # type: ignore[operator]
    assert FactLmSettings(**OPTIONS).room == {name: len(sites) for name, sites in there.items()}
    fits = read_parameters(
        ROOT / "params.yaml",
        {**FACTS, "treatment": "calinet", "model": {"network": "factlm", "options": {}}},
    )
    stages = stage_settings(fits)
    assert stages["evaluate"].uses == "guard"  # type: ignore[attr-defined]
    own = ModelSettings(network="own", options={"code": "nets:Net"})
    stage_settings(fits.model_copy(update={"model": own}))
