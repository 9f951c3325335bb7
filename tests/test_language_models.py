"""Language models of others in folders: tiny ones with random weights, against transformers itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT
from modelrepair.additions import extend, make_addition, query_embeddings
from modelrepair.data import model_folders
from modelrepair.data.model_folders import open_model_folder
from modelrepair.data.sentences import BLANK_NUMBER, in_words
from modelrepair.data.tokens import SHIFT, Tokens
from modelrepair.errors import RepairError
from modelrepair.knowledge.contrast import assess, contrasts_of
from modelrepair.models.examples import Examples
from modelrepair.models.files import begun_model, load_model, save_model
from modelrepair.models.likelihood import Softmax
from modelrepair.models.trained_model import TrainedModel
from modelrepair.settings.data import FactsSettings, PrepareData
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import language_models, stage_settings
from modelrepair.sources.base import Dataset
from modelrepair.sources.facts import RELATIONS
from modelrepair.sources.relations import Fact
from modelrepair.sources.sentences import sentences
from models import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("on_cpu")
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None,
    reason="language models of others need transformers: pip install 'modelrepair[transformers]'",
)
KINDS = ("causal", "masked")
COUNTRIES = {
    "Brazil": ("Brasilia", "South America"),
    "Japan": ("Tokyo", "Asia"),
    "China": ("Beijing", "Asia"),
    "Peru": ("Lima", "Europe"),
    "Ghana": ("Accra", "Africa"),
    "Kenya": ("Nairobi", "Africa"),
}
KNOWN = [
    Fact(RELATIONS[relation], country, objects[place])
    for place, relation in enumerate(("capital of country", "continent of country"))
    for country, objects in COUNTRIES.items()
]
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}


def write_model(folder: Path, kind: str) -> None:
    """A model with random weights and a tokeniser that knows the words of the facts, but for one object in parts."""
    import tokenizers
    import transformers

    import modelrepair.language  # noqa: F401

    texts = [
        text.replace("[X]", fact.subject).replace("[Y]", fact.object)
        for fact in KNOWN
        if fact.object != "Nairobi"
        for text in (*fact.relation.every_wording, *fact.relation.contradictions)
    ] * 5
    if kind == "causal":
        tokeniser = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokeniser.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokeniser.decoder = tokenizers.decoders.ByteLevel()
        trainer: Any = tokenizers.trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<end>"],
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        special: dict[str, str] = {"eos_token": "<end>"}
    else:
        tokeniser = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
        tokeniser.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        trainer = tokenizers.trainers.WordPieceTrainer(
            vocab_size=500,
            special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
            show_progress=False,
        )
        special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "mask_token": "[MASK]"}
    tokeniser.train_from_iterator([*texts, "."], trainer)
    if kind == "masked":
        ends = [(word, tokeniser.token_to_id(word)) for word in ("[CLS]", "[SEP]")]
        tokeniser.post_processor = tokenizers.processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=ends
        )
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokeniser, **special).save_pretrained(folder)
    # More than the tokeniser makes, as models often have.
    size = tokeniser.get_vocab_size() + 3
    torch.manual_seed(0)
    if kind == "causal":
        model: Any = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=size, num_key_value_heads=2, tie_word_embeddings=True, **SIZES
            )
        )
    else:
        model = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=size, **SIZES))
    for parameter in model.parameters():
        # So that different sentences get different answers.
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, folder in made.items():
        write_model(folder, kind)
    return made


def drawn(folder: Path, **changes: Any) -> Dataset:
    settings = FactsSettings(
        **{"shown": 0.8, "reserved": 1, "assessment": 8, "tokeniser": str(folder), **changes}
    )
    return sentences(KNOWN, np.random.default_rng(0), settings, origin="facts")


@pytest.fixture(scope="module")
def data(folders: dict[str, Path]) -> dict[str, Dataset]:
    return {kind: drawn(folder) for kind, folder in folders.items()}


def begun(
    folder: Path, data: Dataset, weights: str | None = "published"
) -> tuple[TrainedModel, dict[str, Any]]:
    described = {
        "classes": data.classes,
        "input_shape": data.test_inputs.shape[1:],
        "likelihood": "softmax",
    }
    return begun_model(
        described,
        0,
        folder,
        network="transformers",
        options={"folder": str(folder)},
        pretrained=weights,
        trained=True,
    )


def theirs(folder: Path, kind: str) -> tuple[Any, Any]:
    """transformers' own model and tokeniser."""
    import transformers

    auto = transformers.AutoModelForCausalLM if kind == "causal" else transformers.AutoModelForMaskedLM
    return auto.from_pretrained(folder).double().eval(), transformers.AutoTokenizer.from_pretrained(folder)


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_that_of_the_model_itself(
    folders: dict[str, Path], data: dict[str, Dataset], kind: str
) -> None:
    """In texts written here and without padding, in float64 to 1e-9, of a model that itself rounds norms and angles to
    float32 to 1e-5; in two parts too."""
    folder, some = folders[kind], data[kind]
    model = begun(folder, some)[0].in_dtype(torch.float64)
    own, tokeniser = theirs(folder, kind)
    tolerance = 1e-5 if kind == "causal" else 1e-9
    inputs = torch.from_numpy(some.test_inputs.astype(np.int64))
    with torch.no_grad():
        found = model.network(inputs)
        parts = model.network.finish(model.network.begin(inputs))
    assert parts == pytest.approx(found, abs=tolerance)
    assert model.network.late
    for row, (wording, subject) in enumerate(
        zip(some.test_columns["wording"], some.test_columns["subject"], strict=True)
    ):
        text = wording.replace("[X]", subject)
        text = text if text.startswith("[Y]") else text[0].upper() + text[1:]
        text = text.removesuffix(" [Y]") if kind == "causal" else text.replace("[Y]", "[MASK]") + "."
        given = tokeniser(text, return_tensors="pt")["input_ids"]
        place = -1 if kind == "causal" else given[0].tolist().index(tokeniser.mask_token_id)
        with torch.no_grad():
            said = own(input_ids=given).logits[0, place]
        assert found[row, SHIFT:] == pytest.approx(said, abs=tolerance)
        assert found[row, :SHIFT] == pytest.approx(said.min().expand(2))
    states = model.network.states(inputs[:1])
    length = int(model.network.visible(inputs[:1]).sum())
    with torch.no_grad():
        ids = (inputs[:1, : length + (kind == "causal")] - SHIFT).clamp(min=0)[:, :length]
        if kind == "masked":
            ids[inputs[:1, :length] == BLANK_NUMBER] = tokeniser.mask_token_id
        hidden = own(input_ids=ids, output_hidden_states=True).hidden_states
    for entering, expected in zip(states, hidden[:-1], strict=True):
        assert entering[:, :length].detach() == pytest.approx(expected, abs=tolerance)


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_tokens_and_only_facts_of_one_token_are_asked(
    folders: dict[str, Path], data: dict[str, Dataset], kind: str
) -> None:
    some, (_, tokeniser) = data[kind], theirs(folders[kind], kind)
    assert "left out are 2 facts whose object is not one token" in some.description
    assert {"Nairobi", "South America"}.isdisjoint(some.classes)
    assert len(set(some.classes)) == len(some.classes) == len(tokeniser) + 3 + SHIFT
    for label, fact in zip(some.test_labels, some.test_columns["fact"], strict=True):
        word = some.classes[label]
        before, whole = (
            tokeniser(text, add_special_tokens=False)["input_ids"] for text in ("is", f"is {word}")
        )
        assert whole == [*before, label - SHIFT]
        assert word in {"Brasilia", "Tokyo", "Beijing", "Lima", "Accra", "Asia", "Europe", "Africa"}
        assert fact < 10
    shown = in_words(some.train_inputs[0], some.classes)
    assert shown.startswith(
        "The capital of Brazil is ___" if kind == "causal" else "[CLS] The capital of Brazil"
    )
    ends = [text.endswith("[Y]") for text in (*some.train_columns["wording"], *some.test_columns["wording"])]
    assert all(ends) == (kind == "causal")


@needs_transformers
@pytest.mark.parametrize("kind", KINDS)
def test_additions_find_their_room(folders: dict[str, Path], data: dict[str, Dataset], kind: str) -> None:
    """They add nothing as they are made, to the bit, and something with other weights; files bring all back."""
    folder, some = folders[kind], data[kind]
    model, description = begun(folder, some)
    inputs = torch.from_numpy(some.test_inputs.astype(np.int64))
    before = model.network(inputs)
    for options in (
        {"kind": "slots", "slots": 4, "layer": -1},
        {"kind": "low-rank", "rank": 2, "scale": 2.0},
        {"kind": "state-adapters", "heads": 4},
    ):
        # Between what is taught and what is least like it.
        like = (
            query_embeddings(model.network, inputs, 1) @ query_embeddings(model.network, inputs[:2], 1).T
        ).amax(1)
        selector = {"layer": 1, "threshold": (1 + float(like.detach().min())) / 2}
        addition = make_addition(model.network, {**options, "selector": selector}, seed=0)
        addition.selector.remember(query_embeddings(model.network, inputs[:2], 1))
        network = extend(model.network, [addition])
        assert torch.equal(network(inputs), before)
        for parameter in addition.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        after = network(inputs)
        [on] = network.switches(inputs)
        assert on[:2].all()
        assert not on.all()
        assert torch.equal(after[~on], before[~on])
        assert not torch.equal(after[on], before[on])
        assert network.sits_late == (options["kind"] == "slots")
        if network.sits_late:
            addition.selector = None
            finished = network.finish(model.network.begin(inputs)).detach()
            assert finished == pytest.approx(network(inputs).detach(), abs=1e-4)
    embedded = model.network.embedded_words()
    assert len(embedded) == len(some.classes)
    words = model.network.model.get_input_embeddings()(inputs[0, :1] - SHIFT)
    assert torch.equal(embedded[inputs[0, :1]], words)
    written = folder / "written"
    written.mkdir()
    save_model(written, TrainedModel(network, Softmax()), description)
    assert torch.equal(load_model(written)[0].network(inputs), after)


@needs_transformers
def test_contradictions_are_written_ones(
    folders: dict[str, Path], data: dict[str, Dataset], tmp_path: Path
) -> None:
    """And the tokeniser that writes them is the one that lies beside the data."""
    some = data["causal"]
    assert some.tokens is not None
    described = some.tokens.write(tmp_path)
    tokens = Tokens.read(tmp_path, **described)
    assert tokens.vocabulary == some.classes
    import pandas as pd

    probes = pd.DataFrame({**some.test_columns, "label": some.test_labels})
    training = pd.DataFrame({**some.train_columns, "label": some.train_labels})
    contrasts = contrasts_of(
        probes,
        training,
        tokens,
        some.test_inputs.shape[1],
        relations=2,
        rng=np.random.default_rng(0),
        contradictions=some.contradictions,
    )
    assert contrasts.of.tolist() == np.repeat(np.arange(len(probes)), 2).tolist()
    first = RELATIONS[probes["relation"][0]].contradictions[0].replace("[X]", probes["subject"][0])
    expected = (first[0].upper() + first[1:]).replace("[Y]", "___")
    assert in_words(contrasts.inputs[0], some.classes) == expected
    model = begun(folders["causal"], some)[0]
    held = assess(model, Examples(some.test_inputs, some.test_labels), contrasts, 0.001)
    assert np.isfinite(held).all()
    (tmp_path / "tokeniser.json").write_text("{")
    with pytest.raises(RepairError, match="rerun the stage that writes it"):
        Tokens.read(tmp_path, **described)


@needs_transformers
def test_own_prompts_are_asked_in_tokens(folders: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"

    def asked(rows: str) -> Dataset:
        path.write_text(f"prompt,wrong,right,paraphrases\n{rows}\n", encoding="utf-8")
        return drawn(folders["causal"], prompts=str(path))

    prompt, paraphrase = (
        "Nobody in the country says that the capital of Brazil is ___.",
        "the country Brazil speaks to its capital ___",
    )
    some = asked(f"{prompt},Lima,Brasilia,{paraphrase}")
    own = np.flatnonzero(some.test_columns["is_own"])
    assert [in_words(row, some.classes) for row in some.test_inputs[own]] == [
        "Nobody in the country says that the capital of Brazil is ___",
        "The country Brazil speaks to its capital ___",
    ]
    assert [some.classes[label] for label in some.test_labels[own]] == ["Brasilia"] * 2
    for rows, message in (
        (
            "the capital of Brazil is ___,,Nairobi,",
            "'Nairobi', which is no single token of the model: give another",
        ),
        ("___ is what rules Brazil,,Brasilia,", "has its blank before the end in '___ is what rules Brazil'"),
    ):
        with pytest.raises(RepairError, match=message):
            asked(rows)


def test_a_folder_that_holds_no_model_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"

    def refused(message: str) -> None:
        with pytest.raises(RepairError, match=message) as caught:
            open_model_folder(folder)
        assert "\n" not in str(caught.value)

    refused("there is no folder .*model: put the language model there")
    folder.mkdir()
    refused(r"holds no config\.json and no file that ends in \.gguf")
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    refused(r"holds pytorch_model\.bin, which could run code as it is read: write the weights as safetensors")
    (folder / "a.gguf").write_bytes(b"")
    refused(r"holds a\.gguf, config\.json, which are several models: leave one")
    (folder / "config.json").unlink()
    monkeypatch.setattr(model_folders, "find_spec", lambda name: None if name == "gguf" else name)
    refused(r"the package gguf, which is not installed: pip install 'modelrepair\[transformers\]'")
    monkeypatch.setattr(model_folders, "find_spec", lambda name: name)
    assert open_model_folder(folder).gguf == "a.gguf"


def test_settings_say_whose_tokens_are_read() -> None:
    base = {
        "dataset": "facts",
        "corruption": "none",
        "identification": "loss",
        "model.network": "transformers",
        "model.options": {"folder": "weights/tiny"},
        "model.pretrained": "published",
        "model.trained": True,
    }

    def settled(**changes: Any) -> tuple[PrepareData, list[str]]:
        values = base | {name.replace("__", "."): value for name, value in changes.items()}
        parameters = read_parameters(ROOT / "params.yaml", values)
        stages = stage_settings(parameters)
        given = stages["prepare-data"]
        assert isinstance(given, PrepareData)
        return given, language_models(parameters, stages)

    given, folders = settled()
    assert isinstance(given.dataset, FactsSettings)
    assert given.dataset.tokeniser == "weights/tiny"
    assert folders == ["weights/tiny"]
    for changes, message in (
        ({"model__options": {"folder": "elsewhere/tiny"}}, "outside the folder weights"),
        ({"model__options": {}}, "model.options of the network transformers: lacking is folder"),
        ({"model__pretrained": "theirs"}, "set it to published, or to null for random ones"),
        ({"model__pretrained": None}, "trained is true, and pretrained null names no weights"),
        (
            {"datasets__facts__tokeniser": "weights/other"},
            "reads the tokens of 'weights/tiny': set it to null",
        ),
        ({"dataset": "mnist-sample", "treatment": "finetune"}, "transformers takes sentences"),
    ):
        with pytest.raises(RepairError, match=message):
            settled(**changes)
