"""Any causal or masked language model of transformers, from a folder of one's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from modelrepair.data.model_folders import open_model_folder
from modelrepair.data.sentences import BLANK_NUMBER, PADDING_NUMBER
from modelrepair.data.tokens import SHIFT
from modelrepair.errors import RepairError
from modelrepair.language import config_of, is_masked, new_model, read_config, read_model, read_tokens

PUBLISHED = "published"
"""What `published_weights` calls those that lie in the folder."""
ATTENTION = ("attn", "attention")
"""In paths of the parts of a layer that attend."""
QUERIES, VALUES, FUSED = ("q_proj", "query", "q_lin"), ("v_proj", "value", "v_lin"), ("c_attn",)
"""How transformers' models call the layers of queries, of values, and of queries, keys and values side by side."""

Sites = dict[str, list[tuple[str, str, tuple[int, int] | None]]]


class LanguageModel(nn.Module):
    """Logits of every token for the blank of a sentence.

    p(token | sentence) is the model's own: of a masked model what it says at its mask, of a causal one what it says
    after the text before the blank, which has to be at the end. Inputs are numbers of `modelrepair.data.tokens`: token
    t is t + 2. No candidates are offered: an answer is the likeliest of all tokens. Padding and the blank, which no
    text holds, are as unlikely as the least likely token.

    Where there is room for additions (`modelrepair.additions.sites`) is seen from the modules: layers are the longest
    list of modules of one kind, its two-layer network is the two linear layers outside attention of which one undoes
    the widths of the other, and queries and values are found by the names that transformers gives them. A model of
    which something is not seen has no such room.

    Args:
        input_shape: (length,) of a sentence with its padding.
        outputs: 2 more than tokens.
        folder: in which the model lies; what is in it is read only if no config is given.
        config: what transformers' description of the model says, `to_dict`.
        mask: the number of a masked model's mask token among tokens; None for a causal model.

    Raises:
        RepairError: if inputs are no sentences in its tokens, or it says tokens otherwise than from its last hidden
            states, through one linear layer if it is causal.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        folder: str,
        config: Mapping[str, Any] | None = None,
        mask: int | None = None,
    ) -> None:
        super().__init__()
        if config is None:
            found = settled(folder=folder)
            config, mask = found["config"], found["mask"]
        description = config_of(dict(config))
        if len(input_shape) != 1 or outputs != description.vocab_size + SHIFT:
            raise RepairError(
                f"the language model in {folder} takes sentences in its own {description.vocab_size} tokens, not "
                f"inputs of shape {tuple(input_shape)} and {outputs} classes: choose a dataset of sentences, whose "
                "tokeniser is its"
            )
        description.use_cache = False
        self.mask, self.padding = mask, description.pad_token_id or 0
        self.model = with_linear_layers(new_model(description))
        # Parts of the model by path, and not as modules, so that each weight has one name.
        self._base = _path_of(self.model, self.model.base_model)
        head = self.model.get_output_embeddings()
        if not isinstance(head, nn.Linear) or not self._base:
            raise RepairError(
                f"the model in {folder}, {type(self.model).__name__}, says tokens by no linear layer: choose another"
            )
        self._head = _path_of(self.model, head)
        inner = _layers(self.model.base_model)
        self._layers = f"{self._base}.{inner}" if inner else ""
        self._sites = self._found_sites(head.in_features)
        self._late: tuple[str, ...] = ()
        self.expect_same(folder)

    def forward(self, sentences: Tensor) -> Tensor:
        """Logits (n, outputs) of sentences (n, length), each with one blank."""
        with self._reading(sentences):
            if self.mask is not None:
                logits = self.model(**self._inputs(sentences)).logits
            else:
                hidden = self.model.get_submodule(self._base)(**self._inputs(sentences)).last_hidden_state
                logits = self.model.get_submodule(self._head)(hidden)
        least = logits.detach().amin(dim=1, keepdim=True)
        outputs: Tensor = torch.cat([least.expand(-1, SHIFT), logits], dim=1)
        return outputs

    @torch.no_grad()
    def expect_same(self, folder: str) -> None:
        """Nothing if this says what transformers' model says, of two sentences of different lengths.

        Whether it does so in two parts, too, is noted.

        Raises:
            RepairError: if not; names the model in the folder.
        """
        was = self.training
        self.eval()
        few = torch.tensor([[2, 4, 3, 1, 0], [4, 3, 1, 0, 0]])
        try:
            said = self(few)
            apart = [self._theirs(sentence) for sentence in few]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise RepairError(
                f"the model in {folder}, {type(self.model).__name__}, cannot be asked for the blank of a sentence "
                f"({reason}): choose another"
            ) from error
        for theirs, own in zip(apart, said, strict=True):
            if not torch.allclose(theirs, own[SHIFT:], rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
                raise RepairError(
                    f"the model in {folder}, {type(self.model).__name__}, does more to its last hidden states than its "
                    "last layer, or looks at where padding is: choose another"
                )
        if "states" in self._sites:
            parted = self.finish(self.begin(few))
            if torch.allclose(parted, said, rtol=1e-4, atol=1e-4 * float(said.abs().max())):
                last = len(self._layers_there()) - 1
                self._late = (f"model.{self._layers}.{last}", f"model.{self._head}")
        self.train(was)

    # What a network shows where additions are put onto it; see `modelrepair.additions.sites`.

    def sites(self) -> Sites:
        """Where there is room for additions, by name, for each layer; of `answer` once."""
        return self._sites

    @property
    def late(self) -> tuple[str, ...]:
        """The modules that run in `finish`; none where the model cannot be run in two parts."""
        return self._late

    def begin(self, sentences: Tensor) -> Tensor:
        """(n, length, width + 1) what enters the last layer, with the sentences behind it."""
        *_, entering = self.states(sentences)
        return torch.cat([entering, sentences.unsqueeze(2).to(entering.dtype)], dim=2)

    def finish(self, begun: Tensor) -> Tensor:
        """Logits (n, outputs) of what `begin` made of sentences."""
        entering, sentences = begun[:, :, :-1], begun[:, :, -1].long()
        layers = self.model.get_submodule(self._layers)
        others, last = dict(layers._modules), layers[-1]

        def enter(
            module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if given:
                return (entering, *given[1:]), named
            return given, {**named, "hidden_states": entering}

        handle = last.register_forward_pre_hook(enter, with_kwargs=True)
        layers._modules.clear()
        layers._modules["0"] = last
        try:
            logits = self.forward(sentences)
        finally:
            handle.remove()
            layers._modules.clear()
            layers._modules.update(others)
        return logits

    def states(self, sentences: Tensor, last: int | None = None) -> list[Tensor]:
        """For each layer, up to and with layer `last`, (n, length, width) what enters it."""
        layers = [*self.model.get_submodule(self._layers)]
        entering: list[Tensor] = []

        def see(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            entering.append(given[0] if given else named["hidden_states"])
            if len(entering) == count:
                raise _Seen

        count = len(layers) if last is None else last + 1
        handles = [layer.register_forward_pre_hook(see, with_kwargs=True) for layer in layers[:count]]
        try:
            with contextlib.suppress(_Seen):
                self.forward(sentences)
        finally:
            for handle in handles:
                handle.remove()
        return entering

    def visible(self, sentences: Tensor) -> Tensor:
        """(n, length) which positions are attended to: all but padding, and the blank of a causal model."""
        there = sentences != PADDING_NUMBER
        return there if self.mask is not None else there & (sentences != BLANK_NUMBER)

    def read(self, sentences: Tensor, states: Tensor) -> Tensor:
        """(n, 1, width) of states (n, length, width) those that say what is in the blank."""
        blank = sentences == BLANK_NUMBER
        if self.mask is None:
            # A causal model says it one position before.
            blank = torch.cat([blank[:, 1:], torch.zeros_like(blank[:, :1])], dim=1)
        # Without a branch or an index that depends on values, so that the network can be mapped over examples.
        return blank.unsqueeze(1).to(states.dtype) @ states

    def embedded_words(self) -> Tensor:
        """(outputs, d) what embeds each number: the model's own tokens, and nothing padding and the blank."""
        tokens: Tensor = self.model.get_input_embeddings().weight
        return torch.cat([tokens.new_zeros(SHIFT, tokens.shape[1]), tokens])

    def _inputs(self, sentences: Tensor) -> dict[str, Tensor]:
        """What transformers' model is called with.

        Which position attends to which is said for each pair, so that nothing in it depends on values of a batch.
        """
        words = torch.where(sentences >= SHIFT, sentences - SHIFT, self.padding)
        if self.mask is not None:
            words = torch.where(sentences == BLANK_NUMBER, self.mask, words)
        length, dtype = sentences.shape[1], next(self.parameters()).dtype
        allowed = self.visible(sentences)[:, None, None].expand(-1, 1, length, length)
        if self.mask is None:
            allowed = allowed & torch.ones(length, length, dtype=torch.bool, device=sentences.device).tril()
        barred = torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
        given = {"input_ids": words, "attention_mask": barred}
        if self.mask is None:
            # Masked models count theirs from tokens.
            given["position_ids"] = torch.arange(length, device=sentences.device).expand_as(words)
        return given

    @contextlib.contextmanager
    def _reading(self, sentences: Tensor) -> Iterator[None]:
        """While the block runs, of the last hidden states (n, length, width) those (n, width) at the blank remain."""

        def take(module: nn.Module, given: Any, said: Any) -> Any:
            said.last_hidden_state = self.read(sentences, said.last_hidden_state).squeeze(1)
            return said

        handle: RemovableHandle = self.model.get_submodule(self._base).register_forward_hook(take)
        try:
            yield
        finally:
            handle.remove()

    def _found_sites(self, width: int) -> Sites:
        found: Sites = {}
        paths = [f"{self._layers}.{number}" for number in range(len(self._layers_there()))]
        if paths:
            found["states"] = [(f"model.{path}", f"model.{path}", None) for path in paths]
        pairs = [_two_layers(self.model.get_submodule(path), width) for path in paths]
        if paths and all(pairs):
            inner = [
                (f"model.{path}.{pair[0]}", f"model.{path}.{pair[1]}")
                for path, pair in zip(paths, pairs, strict=True)
                if pair
            ]
            found["feed-forward"] = [(first, second, None) for first, second in inner]
            found["feed-forward-in"] = [(first, first, None) for first, _ in inner]
            found["feed-forward-out"] = [(second, second, None) for _, second in inner]
        for name, names, place in (("query", QUERIES, 0), ("value", VALUES, 2)):
            sites = [
                _attending(self.model.get_submodule(path), f"model.{path}", names, place, width)
                for path in paths
            ]
            if paths and all(sites):
                found[name] = [site for site in sites if site]
        found["answer"] = [(f"model.{self._head}", f"model.{self._head}", None)]
        return found

    def _layers_there(self) -> nn.ModuleList | list[nn.Module]:
        return self.model.get_submodule(self._layers) if self._layers else []

    def _theirs(self, sentence: Tensor) -> Tensor:
        """Logits of the tokens of transformers' model for the blank at the end of a sentence, without padding."""
        words = sentence[sentence >= SHIFT] - SHIFT
        if self.mask is not None:
            words = torch.cat([words, words.new_tensor([self.mask])])
        logits: Tensor = self.model(input_ids=words.unsqueeze(0)).logits[0, -1]
        return logits


def settled(*, folder: str, **options: Any) -> dict[str, Any]:
    """The options with what the folder says of the model, so that it can be made again without the folder.

    Raises:
        RepairError: if no language model lies there.
    """
    if options.get("config") is not None:
        return {"folder": folder, **options}
    path = Path(folder)
    config = read_config(open_model_folder(path))
    mask = read_tokens(path).mask_id if is_masked(config) else None
    return {"folder": folder, "config": config.to_dict(), "mask": mask, **options}


def published_weights(weights: str, *, folder: str, **options: Any) -> dict[str, Tensor]:
    """The weights that lie in the folder, in float32; options are as in `LanguageModel`.

    Raises:
        RepairError: if they cannot be read, or another name is given.
    """
    if weights != PUBLISHED:
        raise RepairError(
            f"model.pretrained is {weights!r}: the weights that lie in {folder} are called {PUBLISHED}"
        )
    there = open_model_folder(Path(folder))
    found = settled(folder=folder, **options)
    config = config_of(found["config"])
    network = LanguageModel((1,), config.vocab_size + SHIFT, folder, found["config"], found["mask"])
    network.model.load_state_dict(with_linear_layers(read_model(there, config)).state_dict())
    # With weights that say more than random ones.
    network.expect_same(folder)
    return network.state_dict()


def with_linear_layers(model: Any) -> Any:
    """The model with PyTorch's linear layers in place of transformers' `Conv1D`, whose matrices are transposed."""
    for parent in [*model.modules()]:
        for name, module in [*parent.named_children()]:
            if type(module).__name__ == "Conv1D":
                width, outputs = module.weight.shape
                linear = nn.Linear(width, outputs, device="meta")
                linear.weight = nn.Parameter(module.weight.detach().T.contiguous())
                linear.bias = module.bias
                setattr(parent, name, linear)
    return model


class _Seen(Exception):  # noqa: N818
    """All states that were asked for have been seen."""


def _path_of(whole: nn.Module, part: nn.Module) -> str:
    return next((path for path, module in whole.named_modules() if module is part), "")


def _layers(base: nn.Module) -> str:
    """The path of the longest list of modules of one kind, below the base; nothing where there is none."""
    lists = [
        (len(module), path)
        for path, module in base.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(one) for one in module}) == 1
    ]
    return max(lists, key=lambda found: found[0], default=(0, ""))[1]


def _two_layers(layer: nn.Module, width: int) -> tuple[str, str] | None:
    """The paths of the linear layers of a two-layer network; None where there is not just one.

    Of those gates that have two first layers, the one that is multiplied in last is taken: both are given the same.
    """
    linear = {
        path: module
        for path, module in layer.named_modules()
        if isinstance(module, nn.Linear) and not any(word in path for word in ATTENTION)
    }
    seconds = [path for path, module in linear.items() if module.out_features == width]
    firsts = [
        path
        for path, module in linear.items()
        if module.in_features == width
        and len(seconds) == 1
        and module.out_features == linear[seconds[0]].in_features
    ]
    return (firsts[-1], seconds[0]) if firsts else None


def _attending(
    layer: nn.Module, path: str, names: tuple[str, ...], place: int, width: int
) -> tuple[str, str, tuple[int, int] | None] | None:
    """The site of the linear layer of one of these names, or of its part of one that is for three."""
    for own, module in layer.named_modules():
        last = own.rpartition(".")[2]
        if isinstance(module, nn.Linear) and last in names:
            return f"{path}.{own}", f"{path}.{own}", None
        if isinstance(module, nn.Linear) and last in FUSED and module.out_features == 3 * width:
            return f"{path}.{own}", f"{path}.{own}", (place * width, (place + 1) * width)
    return None


Network = LanguageModel
