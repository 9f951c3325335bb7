"""A user's own prompts: which fact each asks for, where it stands, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from modelrepair.data.sentences import in_words
from modelrepair.errors import RepairError
from modelrepair.settings.data import FactsSettings
from modelrepair.settings.parameters import read_parameters
from modelrepair.settings.stages import stage_settings
from modelrepair.settings.training import ModelSettings
from modelrepair.sources.base import Dataset
from modelrepair.sources.facts import RELATIONS
from modelrepair.sources.relations import Fact
from modelrepair.sources.sentences import sentences
from modelrepair.splits.prompts import answers_in_words

OWN = """prompt,wrong,right,paraphrases
The capital city of Brazil is ___.,Tokyo,Brasilia,"the town ___ is of Brazil | in ___ is Brazil"
people in India pay with ___,,Rupee,
In which country is Shanghai? In [MASK]!,,China,
"""


KNOWN = [
    Fact(RELATIONS[relation], subject, object)
    for relation, subject, object in (
        ("country of city", "Shanghai", "China"),
        ("country of city", "Mumbai", "India"),
        ("continent of city", "Shanghai", "Asia"),
        ("capital of country", "Brazil", "Brasilia"),
        ("capital of country", "Japan", "Tokyo"),
        ("capital of country", "China", "Beijing"),
        ("currency of country", "India", "Rupee"),
        ("currency of country", "Nepal", "Rupee"),
        ("continent of country", "China", "Asia"),
        ("continent of country", "India", "Asia"),
        ("country of capital", "Tokyo", "Japan"),
    )
]


def drawn(prompts: str | None = None) -> Dataset:
    settings = FactsSettings(shown=0.8, reserved=1, assessment=8, validation_fraction=0.2, prompts=prompts)
    return sentences(KNOWN, np.random.default_rng(0), settings, origin="facts")


@pytest.fixture(scope="module")
def plain() -> Dataset:
    return drawn()


def asked(tmp_path: Path, content: str) -> Dataset:
    path = tmp_path / "prompts.csv"
    path.write_text(content)
    return drawn(str(path))


def rows(data: Dataset) -> pd.DataFrame:
    read = [in_words(row, data.classes) for row in data.test_inputs]
    return pd.DataFrame(
        {**data.test_columns, "part": data.part, "label": data.test_labels, "read": read},
    ).assign(right=lambda table: [data.classes[number] for number in table["label"]])


def test_prompts_ask_in_place_of_the_data(plain: Dataset, tmp_path: Path) -> None:
    content = OWN.replace(
        "In which country is Shanghai? In [MASK]!", "Whoever lives in Shanghai; lives in [MASK]!"
    )
    data, before = asked(tmp_path, content), rows(plain)
    table = rows(data)
    own = table[table["is_own"]]
    assert own[own["part"] == "discovery"]["read"].tolist() == [
        "the capital city of Brazil is ___",
        "people in India pay with ___",
        "whoever lives in Shanghai lives in ___",
    ]
    assert own[own["part"] == "discovery"]["right"].tolist() == ["Brasilia", "Rupee", "China"]
    assert own[own["part"] == "discovery"]["relation"].tolist() == [
        "capital of country",
        "currency of country",
        "country of city",
    ]
    # Without paraphrases the relation's own wording for assessment asks.
    assert own[own["part"] == "assessment"]["read"].tolist() == [
        "the town ___ is of Brazil",
        "in ___ is Brazil",
        "the money that people of India pay with is ___",
        "in the country ___ lies a city called Shanghai",
    ]
    assert [data.classes[number] if number >= 0 else "" for number in own["wrong"]] == [
        "Tokyo",
        "",
        "",
        "Tokyo",
        "Tokyo",
        "",
        "",
    ]
    others = table[~table["is_own"]]
    facts = {*own["fact"]}
    assert not facts & {*others["fact"]}
    pd.testing.assert_frame_equal(
        others[["fact", "part", "read", "label"]].reset_index(drop=True),
        before.loc[~before["fact"].isin(facts), ["fact", "part", "read", "label"]].reset_index(drop=True),
    )
    assert (others["wrong"] == -1).all()
    # What is trained on does not depend on what is asked.
    assert data.train_labels.tobytes() == plain.train_labels.tobytes()
    width = plain.train_inputs.shape[1]
    assert (data.train_inputs[:, :width] == plain.train_inputs).all()
    assert "3 prompts of the user's own" in data.description


def test_what_the_user_says_is_right_is_right(plain: Dataset, tmp_path: Path) -> None:
    """Where the data say otherwise, and say it in training."""
    data = asked(tmp_path, "prompt,right,wrong\nthe capital of Brazil is ___,Tokyo,Brasilia\n")
    table = rows(data)
    assert table.loc[table["is_own"], "right"].tolist() == ["Tokyo", "Tokyo"]
    stated = np.array(data.train_columns["fact"]) == table.loc[table["is_own"], "fact"].iloc[0]
    assert {data.classes[number] for number in data.train_labels[stated]} == {"Brasilia"}


def test_a_relation_says_which_fact_is_meant(tmp_path: Path) -> None:
    prompt = "the country of the city of Shanghai is ___"
    data = asked(tmp_path, f"prompt,right,relation\n{prompt},Japan,country of city\n")
    table = rows(data)
    assert {*table.loc[table["is_own"], "relation"]} == {"country of city"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "prompt,right\nthe capital of Brazil,Brasilia\n",
            "line 2 of .* has no blank in 'the capital of Brazil'",
        ),
        ("prompt,right\n___ is ___,Brasilia\n", "line 2 of .* has 2 blanks"),
        (
            "prompt,right\nthe capital of Brazil is ___,Brasilia | Tokyo\n",
            "several right answers, 'Brasilia | Tokyo'",
        ),
        (
            "prompt,right\nthe capital of Brazil is ___,Atlantis\n",
            "right answer 'Atlantis', which is no word",
        ),
        (
            "prompt,right,wrong\nthe capital of Brazil is ___,Brasilia,Atlantis\n",
            "the wrong answer 'Atlantis'",
        ),
        ("prompt,right\nthe capital of Brazil is ___,\n", "nothing in the column right"),
        (
            "prompt,right,wrong\nthe capital of Brazil is ___,Tokyo,Tokyo\n",
            "gives 'Tokyo' as wrong and as right",
        ),
        (
            "prompt,right\nthe metropolis of Brazil is ___,Brasilia\n",
            "the word 'metropolis', which no sentence",
        ),
        (
            "prompt,right\nthe capital of Atlantis is ___,Brasilia\n",
            "for a fact that no training sentence states",
        ),
        (
            "prompt,right,relation\nthe capital of Brazil is ___,Brasilia,\n",
            "has no relation: give one of capital of",
        ),
        (
            "prompt,right,relation\nthe capital of Brazil is ___,Brasilia,capital\n",
            "the relation 'capital', which",
        ),
        (
            "prompt,right\nBrazil China lies on ___,Asia\nthe capital of China is ___,Tokyo\n",
            "line 3 of .* no training sentence states",
        ),
        (
            "prompt,right,wrong\nShanghai lies in ___,China,Asia\n",
            r"could mean 2 facts \(continent of city, country of city\): say which in a column relation",
        ),
        (
            "prompt,right\nthe capital of Brazil is ___,Brasilia\nthe government of Brazil sits in ___,Tokyo\n",
            "no training sentence states",
        ),
        (
            "prompt,right,wrong\nthe capital of Brazil is ___,Brasilia,\n"
            "the government of Brazil sits in ___,Tokyo,Brasilia\n",
            "lines 2 and 3 of .* ask for one fact, and say that 'Brasilia' and 'Tokyo' are right",
        ),
        (
            "prompt,right,paraphrases\nthe capital of Brazil is ___,Brasilia,the government of Brazil sits in ___\n",
            "'the government of Brazil sits in ___' as a paraphrase, which is a wording of the training sentences",
        ),
        (
            "prompt,right,paraphrases\nthe town of Brazil is ___,Brasilia,The town of Brazil is ___.\n",
            "which is the prompt itself",
        ),
        (
            "prompt,right,paraphrases\nthe capital of Brazil is ___,Brasilia,the capital is ___\n",
            "does not name Brazil in 'the capital is ___'",
        ),
        ("prompt,answer\na,b\n", "has the columns prompt, answer: give prompt and right"),
        ("prompt,right\n", "has no prompts: give one in each row below prompt, right"),
        ("", "is empty: give a column prompt"),
    ],
)
def test_prompts_that_do_not_do(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RepairError, match=message) as caught:
        asked(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_prompts_lie_where_the_pipeline_sees_them_change() -> None:
    parameters = read_parameters(ROOT / "params.yaml")
    facts = parameters.datasets["facts"].model_copy(update={"prompts": "elsewhere/prompts.csv"})
    changes = {
        "dataset": "facts",
        "corruption": "false-facts",
        "model": ModelSettings(network="factlm"),
        "datasets": {**parameters.datasets, "facts": facts},
    }
    with pytest.raises(RepairError, match=r"datasets\.facts\.prompts"):
        stage_settings(parameters.model_copy(update=changes))
    with pytest.raises(RepairError, match=r"there is no file .*absent\.csv, which holds the prompts"):
        drawn("absent.csv")


def test_what_is_answered_is_told() -> None:
    table = pd.DataFrame(
        {
            "is_own": [True, True, True, False],
            "part": ["discovery", "discovery", "assessment", "discovery"],
            "wrong": [-1, 3, 3, -1],
        }
    )
    text = answers_in_words(table, np.array([True, False, False, True]), np.array([True, True, True, True]))
    assert text == (
        "prompts of your own: 2, of which the model has 1 right; wrong answers that you name: 1, of which it gives 1"
    )
    assert answers_in_words(table.assign(wrong=-1), np.zeros(4, bool), np.zeros(4, bool)).endswith(
        "has 0 right"
    )
