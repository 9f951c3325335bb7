"""Layers of networks, and learning with some of them, against the same computation by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from modelrepair.errors import RepairError
from modelrepair.influence import Investigation, influence_scores
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from modelrepair.pipeline.checkpoint import Checkpoint
from modelrepair.posterior import ElasticWeightConsolidation, LayerSelective, insert_evidence
from modelrepair.posterior.layers import layer_groups, layer_subsets, training_only
from modelrepair.settings.posterior import EwcSettings, InsertionSettings, LayerSelectiveSettings
from modelrepair.training.descent import Oversight
from modelrepair.training.epochs import epoch_batches
from models import DenseCurvature, assert_equal, make_examples, make_model, one_thread, state_bytes  # noqa: F401

BASE = make_model("mlp")
EVIDENCE, TRAINING = make_examples("mlp", count=24, seed=1), make_examples("mlp", count=40)
WEIGHTS = np.linspace(0.5, 2, 24)
UPDATE = LayerSelective(learning_rate=0.02, rounds=6, patience=6, batch_size=7)


def by_hand(names: list[str], rounds: int, seed: int = 3) -> TrainedModel:
    """The model after so many epochs of Adam on the parameters of these names."""
    edited = BASE.copy()
    chosen = [parameter for name, parameter in edited.parameters.items() if name in names]
    optimiser = torch.optim.Adam(chosen, lr=0.02)
    x, y = EVIDENCE.batch(slice(None), dtype=torch.float64)
    for epoch in range(1, rounds + 1):
        for batch in epoch_batches(24, 7, seed=seed, purpose="layer-selective", epoch=epoch):
            losses = nn.functional.cross_entropy(edited.network(x[batch]), y[batch], reduction="none")
            optimiser.zero_grad()
            (torch.from_numpy(WEIGHTS)[batch] * losses).mean().backward()
            optimiser.step()
    return edited


def loss(model: TrainedModel) -> float:
    x, y = EVIDENCE.batch(slice(None), dtype=torch.float64)
    losses = nn.functional.cross_entropy(model.network(x), y, reduction="none").detach()
    return float((torch.from_numpy(WEIGHTS) * losses).mean())


@pytest.mark.parametrize(
    ("network", "shape", "outputs", "layers"),
    [
        ("lenet5", (1, 28, 28), 10, ["conv1", "conv2", "fc1", "fc2", "fc3"]),
        ("conv4", (1, 28, 28), 10, ["conv1", "conv2", "conv3", "conv4", "fc"]),
        ("resnet20", (3, 32, 32), 10, ["conv", "stage1", "stage2", "stage3", "fc"]),
        ("linear", (7,), 3, ["layer"]),
    ],
)
def test_the_papers_networks_have_the_papers_layers(
    network: str, shape: tuple[int, ...], outputs: int, layers: list[str]
) -> None:
    built = make_network(network, shape, outputs, seed=0)
    groups = layer_groups(built)
    assert len(groups) == len(layers)
    if network != "linear":
        assert list(groups) == layers
    named = [name for group in groups.values() for name in group]
    assert sorted(named) == sorted(name for name, _ in built.named_parameters())


def test_normalisation_belongs_to_the_layer_before_it_and_shared_parameters_to_the_first() -> None:
    first, last = nn.Linear(3, 3), nn.Linear(3, 2)
    inner = nn.Sequential(nn.LayerNorm(3), first, nn.BatchNorm1d(3), nn.ReLU(), first, nn.LayerNorm(3), last)
    wrapped = nn.Sequential(nn.Sequential(inner))
    last.bias.requires_grad_(False)
    assert layer_groups(wrapped) == {
        "0": ["0.0.0.weight", "0.0.0.bias"],
        "1": [f"0.0.{place}.{kind}" for place in (1, 2, 5) for kind in ("weight", "bias")],
        "6": ["0.0.6.weight"],
    }


def test_a_parameter_of_the_top_level_is_a_layer() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.body = nn.Linear(2, 2)

    assert layer_groups(Scaled()) == {"": ["scale"], "body": ["body.weight", "body.bias"]}
    with pytest.raises(RepairError, match="no trainable parameters"):
        layer_groups(Scaled().requires_grad_(False))


def test_the_subsets_are_each_alone_the_first_few_and_all() -> None:
    assert layer_subsets("abcde") == {
        **{layer: [layer] for layer in "abcde"},
        "a+b": ["a", "b"],
        "a+b+c": ["a", "b", "c"],
        "all": list("abcde"),
    }
    assert layer_subsets("ab") == {"a": ["a"], "b": ["b"], "all": ["a", "b"]}
    assert layer_subsets("a") == {"all": ["a"]}


def test_others_are_frozen_for_as_long_as_the_block_lasts() -> None:
    model = make_model("mlp")
    names = list(model.parameters)
    with training_only(model, names[:2]):
        assert list(model.parameters) == names[:2]
    assert list(model.parameters) == names


def test_it_is_the_computation_by_hand() -> None:
    before = state_bytes(BASE)
    edited = UPDATE.insert(BASE, EVIDENCE, WEIGHTS, seed=3)
    groups = layer_groups(BASE.network)
    subsets = layer_subsets(groups)
    expected = {
        name: loss(by_hand([p for layer in layers for p in groups[layer]], 1))
        for name, layers in subsets.items()
    }
    assert list(edited.candidates) == list(expected)
    for name, value in expected.items():
        assert edited.candidates[name] == pytest.approx(value, abs=1e-12)
    assert edited.chosen == min(expected, key=expected.__getitem__)
    names = [p for layer in subsets[edited.chosen] for p in groups[layer]]
    assert edited.changed == names
    points = [by_hand(names, rounds) for rounds in range(7)]
    best = min(points, key=loss)
    assert_equal(edited.model.parameter_vector, best.parameter_vector, 1e-12)
    assert state_bytes(BASE) == before


def test_only_the_chosen_layers_change() -> None:
    first = next(iter(layer_groups(BASE.network)))
    update = LayerSelective(**{**UPDATE.model_dump(), "candidates": [[first]]})
    edited = update.insert(BASE, EVIDENCE, seed=3)
    moved = {name for name, p in edited.model.parameters.items() if not torch.equal(p, BASE.parameters[name])}
    assert moved == set(layer_groups(BASE.network)[first]) == set(edited.changed or ())
    assert all(parameter.requires_grad for parameter in edited.model.network.parameters())


def test_it_stops_where_the_loss_stops_falling(tmp_path: Path) -> None:
    update = LayerSelective(learning_rate=3, rounds=50, patience=2, batch_size=7)
    kept = Checkpoint(tmp_path / "scratch", "key")
    edited = update.insert(BASE, EVIDENCE, seed=3, oversight=Oversight(checkpoint=kept))
    saved = kept.load()
    assert saved is not None
    trace = saved[1]["trace"]
    values = [row["watched"] for row in trace]
    assert len(trace) < 51
    assert len(trace) - 1 - int(np.argmax(values)) == 2
    assert edited.model.mean_log_likelihood(EVIDENCE) == pytest.approx(max(values), abs=1e-12)


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_passes_through_the_model_change_nothing(batch_size: int) -> None:
    other = TrainedModel(BASE.copy().network, Softmax(), batch_size=batch_size, device="cpu")
    expected = UPDATE.insert(BASE, EVIDENCE, seed=3).model.parameter_vector
    assert_equal(UPDATE.insert(other, EVIDENCE, seed=3).model.parameter_vector, expected, 1e-12)


def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    class Fragile(Checkpoint):
        saved = 0

        def save(self, *content: object) -> None:  # type: ignore[override]
            super().save(*content)  # type: ignore[arg-type]
            self.saved += 1
            if self.saved == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        UPDATE.insert(
            BASE, EVIDENCE, seed=3, oversight=Oversight(checkpoint=Fragile(tmp_path / "scratch", "key"))
        )
    resumed = UPDATE.insert(
        BASE, EVIDENCE, seed=3, oversight=Oversight(checkpoint=Checkpoint(tmp_path / "scratch", "key"))
    )
    assert state_bytes(resumed.model) == state_bytes(UPDATE.insert(BASE, EVIDENCE, seed=3).model)


def test_its_score_is_that_of_any_other_update() -> None:
    """With the failures, all layers and EWC's penalty put in, the BIR score is EWC-influence."""
    curvature = DenseCurvature.fit(BASE, TRAINING).damped(0.1)

    def scores(settings: InsertionSettings) -> np.ndarray:
        updated = insert_evidence(
            settings, BASE, EVIDENCE, TRAINING, curvature=lambda name, damping: curvature, seed=3
        ).model
        return influence_scores(Investigation(base=BASE, updated=updated, examples=TRAINING), "loss-change")

    penalised = EwcSettings(learning_rate=0.02, rounds=4, batch_size=7)
    by_ewc = ElasticWeightConsolidation(**penalised.options).insert(
        BASE, EVIDENCE, curvature=curvature, count=40, seed=3
    )
    expected = BASE.log_likelihoods(TRAINING) - by_ewc.model.log_likelihoods(TRAINING)
    found = scores(
        InsertionSettings(posterior=penalised, curvature="gram", damping=0.1, balance_classes=False)
    )
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-12)
    learned = UPDATE.insert(BASE, EVIDENCE, seed=3).model
    expected = BASE.log_likelihoods(TRAINING) - learned.log_likelihoods(TRAINING)
    found = scores(
        InsertionSettings(posterior=LayerSelectiveSettings(**UPDATE.model_dump()), balance_classes=False)
    )
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=0, atol=1e-12)


def test_it_says_what_it_cannot_do() -> None:
    with pytest.raises(RepairError, match="learns evidence and deletes none"):
        UPDATE.delete(BASE, EVIDENCE)
    with pytest.raises(RepairError, match="there is no evidence to learn: give labelled examples"):
        UPDATE.insert(BASE, EVIDENCE.subset([]))
    with pytest.raises(RepairError, match=r"there is no layer 'conv9': choose one of"):
        LayerSelective(candidates=[["conv9"]]).insert(BASE, EVIDENCE)
    with pytest.raises(
        RepairError, match=r"candidates is .*: give a list of lists of layers' names, or null"
    ):
        LayerSelective(candidates=[])
    with pytest.raises(RepairError, match="no curvature is used"):
        InsertionSettings(posterior=LayerSelectiveSettings(), curvature="gram", damping=1.0)
