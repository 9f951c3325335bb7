"""What is added to networks: against dense lines, off to the bit, and through files to the byte."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor, nn

from modelrepair.additions import Addition, Extended, extend, make_addition, query_embeddings
from modelrepair.data.sentences import BLANK_NUMBER, PADDING_NUMBER
from modelrepair.errors import RepairError
from modelrepair.models.files import load_model, save_model
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.networks import make_network
from models import (
    assert_equal,
    make_model,
    one_thread,  # noqa: F401
    state_bytes,
)

LENGTH, WORDS, WIDTH, HEADS = 7, 11, 8, 2
pytestmark = pytest.mark.usefixtures("on_cpu")
OPTIONS = {"width": WIDTH, "layers": 3, "heads": HEADS, "hidden": 12}
KINDS: dict[str, dict[str, Any]] = {
    "slots": {"slots": 5, "layer": 1},
    "low-rank": {"rank": 3, "scale": 2.0},
    "state-adapters": {"heads": HEADS},
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def sentences(count: int = 9, seed: int = 0) -> Tensor:
    """Of different lengths, with a blank each."""
    draws = np.random.default_rng(seed)
    tokens = draws.integers(2, WORDS, (count, LENGTH))
    for number, row in enumerate(tokens):
        end = LENGTH - number % 4
        row[end:] = PADDING_NUMBER
        row[draws.integers(end)] = BLANK_NUMBER
    return torch.from_numpy(tokens)


def network_of(seed: int = 0) -> Any:
    return make_network("factlm", (LENGTH,), WORDS, seed=seed, **OPTIONS).double()


def random_addition(network: nn.Module, kind: str, selector: dict[str, Any] | None = None) -> Any:
    """One that adds something, as a trained one does."""
    made = make_addition(network, {"kind": kind, **KINDS[kind], "selector": selector}, seed=1).double()
    draws = torch.Generator().manual_seed(2)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=draws, dtype=parameter.dtype)
    return made


def extended(
    kind: str, threshold: float | None = None, taught: Tensor | None = None, layer: int = 1
) -> Extended:
    network = network_of()
    if threshold is None or taught is None:
        return extend(network, [random_addition(network, kind)])
    addition = random_addition(network, kind, {"layer": layer, "threshold": threshold})
    addition.selector.remember(query_embeddings(network, taught, layer))
    return extend(network, [addition])


TOKENS = sentences()


def test_slots_are_a_second_network_beside_the_first() -> None:
    whole = extended("slots")
    own: Any = whole.network
    [side] = whole.additions[0].sides  # type: ignore[union-attr, misc]
    stream = own.words(TOKENS) + own.places
    visible = (TOKENS != PADDING_NUMBER)[:, None, None]
    for number, layer in enumerate(own.layers):
        last = number == 2
        asking = stream[TOKENS == BLANK_NUMBER].unsqueeze(1) if last else stream
        attended = layer.attend(asking, stream, visible)
        normal = layer.network_norm(attended)
        own_part = nn.functional.gelu(normal @ layer.network_in.weight.T + layer.network_in.bias)
        result = attended + own_part @ layer.network_out.weight.T + layer.network_out.bias
        if number == 1:
            # ΔFFN(H) = GELU(H K̃ᵀ) Ṽ, written out.
            scores = normal @ side.keys.weight.T
            gelu = scores * (1 + torch.erf(scores / math.sqrt(2))) / 2
            result = result + gelu @ side.values.weight.T
        stream = result
    assert_equal(whole(TOKENS), own.output(own.norm(stream.squeeze(1))))
    assert (whole(TOKENS) - own(TOKENS)).abs().max() > 0.01


def test_low_rank_products_are_other_weights() -> None:
    whole = extended("low-rank")
    dense = copy.deepcopy(whole.network)
    sides = iter(whole.additions[0].sides)  # type: ignore[union-attr, arg-type]
    for name in ("asks", "answers", "network_in", "network_out"):
        for layer in dense.layers:  # type: ignore[union-attr]
            side: Any = next(sides)
            # Of keys and values, which one layer makes, the values.
            weight = getattr(layer, name).weight.data[-len(side.up.weight) :]
            weight += 2.0 * side.up.weight @ side.down.weight
    assert_equal(whole(TOKENS), dense(TOKENS))
    assert (whole(TOKENS) - whole.network(TOKENS)).abs().max() > 0.01


def by_hand(layer: Any, stream: Tensor, visible: Tensor) -> Tensor:
    """One layer of PyTorch's transformer, for one sentence (length, width)."""
    normal, attention = layer.norm1(stream), layer.self_attn
    query, key, value = (normal @ attention.in_proj_weight.T + attention.in_proj_bias).chunk(3, dim=1)
    seen = []
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        scores = query[:, part] @ key[visible][:, part].T / math.sqrt(WIDTH / HEADS)
        seen.append(scores.softmax(dim=1) @ value[visible][:, part])
    stream = stream + attention.out_proj(torch.cat(seen, dim=1))
    return stream + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm2(stream))))


def test_adapters_read_states_of_three_depths() -> None:
    whole = extended("state-adapters")
    own: Any = whole.network
    addition: Any = whole.additions[0]
    expected = []
    for tokens in TOKENS:
        entering = [own.words(tokens.unsqueeze(0)) + own.places]
        visible = tokens != PADDING_NUMBER
        for layer in own.layers[:2]:
            entering.append(layer(entering[-1], entering[-1], visible[None, None, None]))
        said = torch.zeros(LENGTH, WIDTH, dtype=torch.double)
        for depth, adapter in zip((0, 1, 2), addition.adapters, strict=True):
            said = entering[depth][0] + said
            for layer in adapter:
                said = by_hand(layer, said, visible)
        blank = tokens == BLANK_NUMBER
        last = own.layers[2](entering[2][:, blank], entering[2], visible[None, None, None])[0]
        joined = torch.cat([last, said[blank]], dim=1)
        changed = last + joined @ addition.join.weight.T + addition.join.bias
        expected.append(own.output(own.norm(changed)))
    assert_equal(whole(TOKENS), torch.cat(expected))
    assert (whole(TOKENS) - own(TOKENS)).abs().max() > 0.01
    # In eval mode without gradients PyTorch takes other kernels.
    with torch.no_grad():
        assert_equal(whole.eval()(TOKENS), torch.cat(expected))


@EVERY_KIND
def test_as_it_is_made_it_adds_nothing(kind: str) -> None:
    network = network_of()
    addition = make_addition(network, {"kind": kind, **KINDS[kind], "selector": None}, seed=1)
    assert torch.equal(extend(network, [addition])(TOKENS), network(TOKENS))


@EVERY_KIND
def test_off_is_the_network_itself_to_the_bit(kind: str) -> None:
    taught, other = sentences(5, seed=3), TOKENS
    whole = extended(kind, 0.999999, taught)
    [on] = whole.switches(other)
    assert on is not None
    assert not on.any()
    assert torch.equal(whole(other), whole.network(other))
    both = torch.cat([taught, other])
    [on] = whole.switches(both)
    assert on is not None
    assert on.tolist() == [True] * 5 + [False] * 9
    outputs, before = whole(both), whole.network(both)
    assert torch.equal(outputs[~on], before[~on])
    assert_equal(outputs[on], extended(kind).answer(both)[on])
    assert ((outputs[on] - before[on]).abs().amax(dim=1) > 1e-3).all()


def test_the_selector_looks_at_means_of_states() -> None:
    network, taught = network_of(), sentences(5, seed=3)

    def mean_states(tokens: Tensor) -> np.ndarray[Any, Any]:
        rows = []
        for one in tokens:
            alone = one[one != PADDING_NUMBER].unsqueeze(0)
            shorter = network.words(alone) + network.places[: alone.shape[1]]
            everything = torch.ones(1, 1, 1, alone.shape[1], dtype=torch.bool)
            rows.append(network.layers[0](shorter, shorter, everything)[0].mean(dim=0))
        return torch.stack(rows).detach().numpy()

    cosines = cosine_similarity(mean_states(TOKENS), mean_states(taught)).max(axis=1)
    # Between two of them, so that both verdicts occur.
    threshold = float(np.sort(cosines)[3:5].mean())
    [on] = extended("slots", threshold, taught).switches(TOKENS)
    assert on is not None
    assert on.tolist() == (cosines >= threshold).tolist()
    assert 0 < on.sum() < len(on)


def test_what_was_added_before_is_on_wherever_a_later_addition_is() -> None:
    """Lee et al. 2022: the best match is in the second memory, so both are on; in the first, that alone."""
    network, first, second = network_of(), sentences(4, seed=5), sentences(4, seed=6)
    additions: list[Addition] = []
    for taught, kind in ((first, "slots"), (second, "low-rank")):
        addition = random_addition(network, kind, {"layer": 1, "threshold": 0.999999})
        addition.selector.remember(query_embeddings(network, taught, 1))
        additions.append(addition)
    whole = extend(extend(network, additions[:1]), additions[1:])
    assert len(whole.additions) == 2
    assert whole.network is network
    slots, products = whole.switches(torch.cat([first, second, TOKENS]))
    assert slots is not None
    assert products is not None
    assert slots.tolist() == [True] * 8 + [False] * 9
    assert products.tolist() == [False] * 4 + [True] * 4 + [False] * 9


@EVERY_KIND
def test_a_treated_model_comes_back_to_the_byte(kind: str, tmp_path: Path) -> None:
    description = {
        "network": "factlm",
        "options": OPTIONS,
        "input_shape": [LENGTH],
        "outputs": WORDS,
        "likelihood": "softmax",
    }
    model = TrainedModel(extended(kind, 0.9, sentences(5, seed=3)).float(), Softmax())
    folders = [tmp_path / name for name in ("first", "second", "plain")]
    for folder in folders:
        folder.mkdir()
    save_model(folders[0], model, description)
    before = torch.random.get_rng_state()
    loaded, described = load_model(folders[0])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert described == description
    assert state_bytes(loaded) == state_bytes(model)
    assert torch.equal(loaded.network(TOKENS), model.network(TOKENS))
    save_model(folders[1], loaded, described)
    for name in ("model.json", "weights.safetensors"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    # What adds nothing is written as ever, and is no model with additions.
    network: nn.Module = model.network.network  # type: ignore[assignment]
    save_model(folders[2], TrainedModel(network, Softmax()), description)
    assert b"additions" not in (folders[2] / "model.json").read_bytes()
    (folders[2] / "model.json").write_bytes((folders[0] / "model.json").read_bytes())
    with pytest.raises(RepairError, match="does not hold the weights of factlm"):
        load_model(folders[2])


@EVERY_KIND
def test_copies_and_gradients_are_those_of_the_whole(kind: str) -> None:
    """What the library does with any network, by functions of `torch.func` too."""
    model = TrainedModel(extended(kind, 0.5, TOKENS[:3]), Softmax(), device="cpu")
    moved = model.with_parameter_vector(model.parameter_vector + 0.01)
    assert not torch.equal(moved.network(TOKENS), model.network(TOKENS))
    assert_equal(moved.network(TOKENS), model.outputs_at(moved.parameters, TOKENS), 1e-10)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.network.modules())


class Residual(nn.Module):
    """A network of nobody's kind that says where it has room."""

    def __init__(self, reads: str = "first", adds_to: str = "second") -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 3)
        self._site = (reads, adds_to, None)

    def sites(self) -> dict[str, Any]:
        return {"feed-forward": [self._site]}

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(inputs + self.second(self.first(inputs).relu()))


def test_a_network_of_a_users_own_may_have_room() -> None:
    network = Residual()
    addition = make_addition(network, {"kind": "slots", "slots": 2, "layer": -1, "selector": None}, seed=0)
    addition.sides[0].values.weight.data.fill_(0.5)  # type: ignore[index, union-attr]
    inputs, keys = torch.randn(5, 4), addition.sides[0].keys.weight  # type: ignore[index, union-attr]
    side = 0.5 * nn.functional.gelu(inputs @ keys.T).sum(dim=1, keepdim=True).expand(5, 4)
    expected = network(inputs) + side @ network.last.weight.T
    torch.testing.assert_close(extend(network, [addition])(inputs), expected)


SLOTS = {"kind": "slots", "slots": 2, "layer": -1, "selector": None}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: make_addition(make_model().network, SLOTS, seed=0),
            "has none for additions: choose another",
        ),
        (lambda: make_addition(network_of(), {**SLOTS, "layer": 3}, seed=0), "give a number from 0 to 2"),
        (
            lambda: make_addition(network_of(), {**SLOTS, "kind": "slot"}, seed=0),
            "there is no addition 'slot'",
        ),
        (
            lambda: make_addition(Residual(), {"kind": "low-rank", "rank": 1, "selector": None}, seed=0),
            "LoRA needs room at 'query', and the network Residual has room at feed-forward",
        ),
        (
            lambda: make_addition(Residual(adds_to="elsewhere"), SLOTS, seed=0),
            "between first and elsewhere, which are not both linear layers",
        ),
        (
            lambda: make_addition(
                network_of(), {"kind": "state-adapters", "heads": 3, "selector": None}, seed=0
            ),
            "the adapters have 3 heads, and the network FactLM has 8 numbers",
        ),
    ],
)
def test_what_has_no_room_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(RepairError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
