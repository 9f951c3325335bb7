"""Dampening, contrast and relabelling against a few lines of dense code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2, entropy
from torch import Tensor

from modelrepair.errors import RepairError
from modelrepair.models.examples import Examples
from modelrepair.models.likelihood import Sigmoid, Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior import SecondLook
from modelrepair.settings.posterior import InsertionSettings, SecondLookSettings
from modelrepair.treatment import (
    Align,
    ComplementaryLabels,
    Dampen,
    Distil,
    NegativeGradient,
    Patient,
    RandomLabels,
    Treatment,
)
from modelrepair.treatment.contrast import divergences
from modelrepair.treatment.relabelling import other_targets
from models import (
    assert_equal,
    make_examples,
    make_model,
    one_thread,  # noqa: F401
    per_example_gradients,
    state_bytes,
)

COUNT, RATE, EPOCHS = 40, 0.02, 4
DATA = make_examples(count=COUNT)
CAUSES = np.array([31, 2, 17, 8, 25, 0])
KEPT = np.setdiff1d(np.arange(COUNT), CAUSES)
MODEL = make_model()
LOOKS = SecondLookSettings(learning_rate=0.05, looks=3, batch_size=COUNT)
LOOKING = InsertionSettings(posterior=LOOKS, evidence="nothing", balance_classes=False)
# Every batch is everything, so that what a step sees does not depend on the order.
HOW: dict[str, Any] = {"learning_rate": RATE, "epochs": EPOCHS, "batch_size": COUNT}


def patient(**changes: Any) -> Patient:
    def no_curvature(name: str, damping: float) -> Any:
        raise AssertionError("these treatments use none that was fitted before")

    settings: dict[str, Any] = {
        "model": MODEL.copy(),
        "examples": DATA,
        "causes": CAUSES,
        "discovery": make_examples(seed=1),
        "failures": changes.get("discovery", make_examples(seed=2)),
        "curvature": no_curvature,
        "guarded": False,
        "seed": 3,
    }
    return Patient(**(settings | changes))


INPUTS, TARGETS = torch.from_numpy(DATA.inputs), torch.from_numpy(DATA.targets)


def by_hand(
    losses: Callable[[Callable[[Any], Tensor], int], list[Callable[[], Tensor]]], **decay: float
) -> Tensor:
    """(d,) parameters after Adam's steps down these losses of the log-probabilities of chosen examples."""
    model = MODEL.copy()
    optimiser = torch.optim.Adam(model.network.parameters(), lr=RATE, **decay)

    def log_probabilities(chosen: Any) -> Tensor:
        return model.network(INPUTS[chosen]).log_softmax(dim=1)

    for epoch in range(1, EPOCHS + 1):
        for loss in losses(log_probabilities, epoch):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
    return model.parameter_vector


def of_labels(log_probabilities: Tensor, chosen: Any) -> Tensor:
    return log_probabilities[torch.arange(len(chosen)), TARGETS[chosen]]


def treated(treatment: Treatment, **changes: Any) -> Tensor:
    return treatment.treat(patient(**changes)).model.parameter_vector


# Contrast.


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_negative_gradient_descends_on_what_remains_and_ascends_on_the_causes(decay: float) -> None:
    def losses(said: Callable[[Any], Tensor], epoch: int) -> list[Callable[[], Tensor]]:
        return [
            lambda: -0.7 * of_labels(said(KEPT), KEPT).mean() + 0.3 * of_labels(said(CAUSES), CAUSES).mean()
        ]

    treatment = NegativeGradient(beta=0.7, bounded=False, weight_decay=decay, **HOW)
    assert_equal(treated(treatment), by_hand(losses, weight_decay=decay), 1e-10)


def test_all_of_the_causes_are_met_again_and_again_while_an_epoch_goes_through_what_remains() -> None:
    seen: list[int] = []
    batch = Examples.batch

    def noting(examples: Examples, positions: Any, **options: Any) -> Any:
        if len(examples) == len(CAUSES):
            seen.extend(examples.rows[positions])
        return batch(examples, positions, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Examples, "batch", noting)
        treated(NegativeGradient(epochs=1, batch_size=2))
    # 17 steps for the 34 that remain, with 2 of the 6 causes each.
    assert len(seen) == 34
    assert seen[:6] == seen[6:12] == seen[24:30]
    assert set(seen) == set(CAUSES)


@pytest.mark.parametrize("departures", [1, 2, 10])
def test_distilling_departs_from_the_given_model_on_the_causes_and_stays_with_it_elsewhere(
    departures: int,
) -> None:
    given = MODEL.network(INPUTS).softmax(dim=1).detach()

    def divergence(log_probabilities: Tensor, chosen: Any) -> Tensor:
        return (given[chosen] * (given[chosen].log() - log_probabilities)).sum(dim=1)

    def losses(said: Callable[[Any], Tensor], epoch: int) -> list[Callable[[], Tensor]]:
        def depart() -> Tensor:
            return -divergence(said(CAUSES), CAUSES).mean()

        def stay() -> Tensor:
            both = said(KEPT)
            return 0.5 * divergence(both, KEPT).mean() - 0.8 * of_labels(both, KEPT).mean()

        return [depart, stay] if epoch <= departures else [stay]

    treatment = Distil(divergence=0.5, loss=0.8, departures=departures, bounded=False, **HOW)
    assert_equal(treated(treatment), by_hand(losses), 1e-9)


def test_divergences_are_those_of_kullback_and_leibler() -> None:
    given, outputs = torch.randn(2, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = make_model()
    expected = entropy(given.softmax(1).numpy(), outputs.softmax(1).numpy(), axis=1)
    assert_equal(divergences(model, given, outputs), torch.from_numpy(expected), 1e-13)
    assert_equal(divergences(model, given, given), torch.zeros(9, dtype=torch.float64))
    attributes = TrainedModel(model.network, Sigmoid(), device="cpu")
    pairs = [np.stack([x.sigmoid().numpy(), (-x).sigmoid().numpy()]) for x in (given, outputs)]
    assert_equal(
        divergences(attributes, given, outputs), torch.from_numpy(entropy(*pairs).sum(axis=1)), 1e-13
    )


@pytest.mark.parametrize("kind", [NegativeGradient, Distil])
def test_what_is_unlearned_counts_until_it_is_no_likelier_than_a_guess(kind: Any) -> None:
    """With nothing but ascent, the bound is where it ends, and without the bound nothing does."""
    only = {"beta": 0.0} if kind is NegativeGradient else {"divergence": 0.0, "loss": 0.0, "departures": 60}
    how: dict[str, Any] = {"learning_rate": RATE, "epochs": 60, "batch_size": COUNT, **only}
    given = MODEL.likelihood.probabilities(MODEL.outputs(DATA.subset(CAUSES)))
    unlearned = (
        DATA.subset(CAUSES) if kind is NegativeGradient else Examples(DATA.inputs[CAUSES], given.numpy())
    )
    chance = -np.log(3)
    bounded, unbounded = (
        kind(bounded=bounded, **how).treat(patient()).model.log_likelihoods(unlearned).numpy()
        for bounded in (True, False)
    )
    assert unbounded.mean() < chance - 3
    assert bounded.mean() < chance + 0.05, "all of them are unlearned"
    assert bounded.mean() > chance - 1, "and no further than the others carry them"


# Dampening.


@pytest.mark.parametrize(("alpha", "strength"), [(1.0, 1.0), (1.5, 0.5), (0.5, 3.0)])
def test_dampening_multiplies_what_the_causes_need_more(alpha: float, strength: float) -> None:
    overall, causes = (
        per_example_gradients(MODEL, part).square().mean(dim=0) for part in (DATA, DATA.subset(CAUSES))
    )
    expected = torch.tensor(
        [min(strength * d / c, 1.0) if c > alpha * d else 1.0 for d, c in zip(overall, causes, strict=True)]
    ).double()
    treatment = Dampen(alpha=alpha, strength=strength)
    assert 0 < int((expected < 1).sum()) < len(expected), "some are dampened, and some are not"
    assert_equal(treatment.factors(patient()), expected, 1e-12)
    result = treatment.treat(patient())
    assert_equal(result.model.parameter_vector, expected * MODEL.parameter_vector, 1e-12)
    assert [row["fraction"] for row in result.trace] == [0, 1]


def test_no_parameter_is_dampened_from_the_share_of_the_causes_on() -> None:
    """I_D is at least m/n of I_C."""
    bound = COUNT / len(CAUSES)
    assert bool((Dampen(alpha=bound * (1 + 1e-12), strength=1e-3).factors(patient()) == 1).all())


def test_parameters_that_nothing_needs_are_left_alone() -> None:
    dead = MODEL.copy()
    with torch.no_grad():
        dead.network[2].weight[:, 1] = 0
        dead.network[0].weight[1] = 0
        dead.network[0].bias[1] = 0
    factors = Dampen(alpha=1e-9, strength=1e-9).factors(patient(model=dead))
    assert bool(torch.isfinite(factors).all())
    assert bool((dead.split(factors)["0.weight"][1] == 1).all())


# Relabelling.


def relabelled(belief: Callable[[Tensor, int], Tensor], **decay: float) -> Tensor:
    """By hand, on the causes and what remains together; the belief is of the causes' log-probabilities."""

    def losses(said: Callable[[Any], Tensor], epoch: int) -> list[Callable[[], Tensor]]:
        return [lambda: -(belief(said(CAUSES), epoch).sum() + of_labels(said(KEPT), KEPT).sum()) / COUNT]

    return by_hand(losses, **decay)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_complementary_labels_are_learned_as_what_the_causes_are_not(decay: float) -> None:
    expected = relabelled(lambda said, epoch: (1 - of_labels(said, CAUSES).exp()).log(), weight_decay=decay)
    assert_equal(treated(ComplementaryLabels(weight_decay=decay, **HOW)), expected, 1e-10)


def test_the_relabelling_function_of_rdia_has_the_same_loss() -> None:
    """Kong et al. 2022: Σⱼ yⱼ′·(−log pⱼ) with yⱼ′ = log_{pⱼ}((1 − p_y)^{1/(k−1)})."""
    outputs = MODEL.outputs(DATA).numpy()
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    own = p[np.arange(COUNT), DATA.targets]
    labels = np.log((1 - own[:, None]) ** (1 / 2)) / np.log(p)
    labels[np.arange(COUNT), DATA.targets] = 0
    expected = (labels * np.log(p)).sum(axis=1)
    assert_equal(Softmax().log_complement(MODEL.outputs(DATA), TARGETS), torch.from_numpy(expected), 1e-12)


def test_soft_labels_are_what_the_repaired_model_says() -> None:
    repaired = (
        SecondLook(**LOOKS.options).insert(MODEL, DATA.subset([]), kept=DATA.subset(KEPT), seed=3).model
    )
    labels = repaired.outputs(DATA.subset(CAUSES)).softmax(dim=1)
    expected = relabelled(lambda said, epoch: (labels * said).sum(dim=1))
    assert_equal(treated(Align(judge=LOOKING, step=0.0, **HOW)), expected, 1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_random_labels_on_all_parameters(decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[np.ndarray] = []

    def noting(*arguments: Any) -> Any:
        drawn.append(other_targets(*arguments))
        return drawn[-1]

    monkeypatch.setattr("modelrepair.treatment.relabelling.other_targets", noting)
    result = treated(RandomLabels(salient=1.0, weight_decay=decay, **HOW))
    assert len(drawn) == EPOCHS
    assert len({labels.tobytes() for labels in drawn}) > 1, "drawn anew"
    expected = relabelled(
        lambda said, epoch: said[torch.arange(len(CAUSES)), torch.from_numpy(drawn[epoch - 1])],
        weight_decay=decay,
    )
    assert_equal(result, expected, 1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_only_the_salient_parameters_move(decay: float) -> None:
    steepness = per_example_gradients(MODEL, DATA.subset(CAUSES)).sum(dim=0).abs()
    treatment = RandomLabels(salient=0.3, weight_decay=decay, **HOW)
    salient = treatment.saliency(patient())
    assert int(salient.sum()) == round(0.3 * len(steepness))
    assert steepness[salient].min() > steepness[~salient].max()
    assert torch.equal(treated(treatment) != MODEL.parameter_vector, salient)


@pytest.mark.parametrize("network", ["lenet5", "normalised", "tied"])
def test_saliency_masks_what_networks_of_all_kinds_train(network: str) -> None:
    model, data = make_model(network), make_examples(network, count=COUNT)
    suffering = patient(model=model, examples=data, discovery=data)
    treatment = RandomLabels(salient=0.5, learning_rate=0.01, epochs=2, batch_size=16)
    result = treatment.treat(suffering).model
    moved, salient = result.parameter_vector != model.parameter_vector, treatment.saliency(suffering)
    assert not bool((moved & ~salient).any())
    # A unit that no example makes answer has parameters that nothing moves.
    assert float(moved.sum()) > 0.8 * float(salient.sum())
    assert all(
        torch.equal(buffer, dict(model.network.named_buffers())[name])
        for name, buffer in result.network.named_buffers()
    )


def test_every_other_label_is_as_likely() -> None:
    draw, targets = np.random.default_rng(0), np.arange(40_000) % 4
    shifts = (other_targets(targets, 4, draw) - targets) % 4
    counts = np.bincount(shifts, minlength=4)
    assert counts[0] == 0
    assert ((counts[1:] - 40_000 / 3) ** 2 / (40_000 / 3)).sum() < chi2.ppf(1 - 1e-6, 2)
    attributes = draw.integers(0, 2, (40_000, 2)).astype(float)
    others = other_targets(attributes, 2, draw)
    codes = np.bincount((np.abs(others - attributes) @ [1, 2]).astype(int), minlength=4)
    assert codes[0] == 0
    assert ((codes[1:] - 40_000 / 3) ** 2 / (40_000 / 3)).sum() < chi2.ppf(1 - 1e-6, 2)


def test_what_remains_can_be_as_many_as_the_causes() -> None:
    suffering = patient()
    sample = suffering.remaining_sample()
    inputs = np.full_like(DATA.inputs, np.nan)
    seen = np.concatenate([CAUSES, sample])
    inputs[seen] = DATA.inputs[seen]
    for treatment in (ComplementaryLabels(remaining="equal", **HOW), RandomLabels(remaining="equal", **HOW)):
        expected = treated(treatment)
        assert_equal(treated(treatment, examples=Examples(inputs, DATA.targets)), expected)


# Any likelihood, and what cannot be.

EVERY: list[Treatment] = [
    NegativeGradient(**HOW),
    Distil(**HOW),
    ComplementaryLabels(**HOW),
    RandomLabels(**HOW),
    Align(judge=LOOKING, step=0.0, **HOW),
]


@pytest.mark.parametrize(
    "treatment", [*EVERY, Dampen(alpha=0.5, strength=0.5)], ids=lambda treatment: treatment.kind
)
def test_attributes_are_treated_too(treatment: Treatment) -> None:
    model, data = make_model(likelihood="sigmoid"), make_examples(likelihood="sigmoid", count=COUNT)
    result = treatment.treat(patient(model=model, examples=data, discovery=data)).model
    assert bool(torch.isfinite(result.parameter_vector).all())
    assert state_bytes(result) != state_bytes(model)


@pytest.mark.parametrize("treatment", EVERY, ids=lambda treatment: treatment.kind)
def test_nothing_left_to_train_on_is_refused(treatment: Treatment) -> None:
    with pytest.raises(RepairError, match="no training examples remain without the causes: select fewer"):
        treatment.treat(patient(causes=np.arange(COUNT)))


def test_one_class_has_no_other_label() -> None:
    with pytest.raises(RepairError, match="of one class alone there is no other label"):
        other_targets(np.zeros(3, dtype=np.int64), 1, np.random.default_rng(0))


# Two computations that keep their progress side by side.


@pytest.mark.parametrize("share", [0.35, 0.8], ids=["while labels are found", "while they are learned"])
def test_soft_labels_go_on_after_a_kill(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = LOOKS.model_copy(update={"batch_size": 8})
    treatment = Align(
        judge=LOOKING.model_copy(update={"posterior": looks}), step=0.0, **{**HOW, "batch_size": 8}
    )
    steps, last, batch = 0, -1, Examples.batch

    def counting(examples: Examples, positions: Any, **options: Any) -> Any:
        nonlocal steps
        # A step reads positions; whoever looks at a model reads slices.
        if not isinstance(positions, slice):
            steps += 1
            if steps == last:
                raise SystemExit
        return batch(examples, positions, **options)

    def treated() -> Any:
        return treatment.treat(patient(checkpoint=Checkpoint(tmp_path / "treat", "fingerprint")))

    monkeypatch.setattr(Examples, "batch", counting)
    expected = treatment.treat(patient())
    total, steps = steps, 0
    last = round(share * total)
    with pytest.raises(SystemExit):
        treated()
    assert (tmp_path / "treat" / "fingerprint.judge.safetensors").exists()
    assert (tmp_path / "treat" / "fingerprint.safetensors").exists() == (share > 0.5)
    steps, last = 0, -1
    result = treated()
    assert steps < (1 - share) * total + 7, "rounds that were finished are not computed again"
    assert state_bytes(result.model) == state_bytes(expected.model)
    assert result.trace == expected.trace


def test_the_parts_of_a_computation_go_with_it(tmp_path: Path) -> None:
    first = Checkpoint(tmp_path, "one")
    first.part("early").save({}, {"round": 3})
    first.save({}, {"round": 5})
    (tmp_path / "one.early.partial").touch()
    again = Checkpoint(tmp_path, "one")
    assert again.load() == ({}, {"round": 5})
    assert again.part("early").load() == ({}, {"round": 3})
    assert again.part("late").load() is None
    assert not (tmp_path / "one.early.partial").exists()
    again.clear()
    assert not list(tmp_path.iterdir())
    again.part("early").save({}, {})
    Checkpoint(tmp_path, "other")
    assert not list(tmp_path.iterdir())
