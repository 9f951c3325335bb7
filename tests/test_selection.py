"""Rules that turn scores into causes: sizes, order and ties for any scores, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelrepair.errors import RepairError
from modelrepair.selection import (
    SELECTIONS,
    Selection,
    corrections,
    expected_causes,
    scores_of,
    select_causes,
)
from modelrepair.sound import Sound

# Few different values, so that ties are common.
SCORES = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0]), min_size=1, max_size=30).map(np.array)


def table(count: int, corrupted: NDArray[np.bool_] | None = None) -> pd.DataFrame:
    flags = np.zeros(count, dtype=bool) if corrupted is None else corrupted
    return pd.DataFrame({"example": np.arange(count), "is_corrupted": flags})


def by_definition(scores: NDArray[np.float64]) -> list[int]:
    """All positions, the highest score first and the earlier one of equals first."""
    return sorted(range(len(scores)), key=lambda position: (-scores[position], position))


def check(
    scores: NDArray[np.float64], rows: pd.DataFrame, rule: str, expected: list[int], **options: Any
) -> None:
    """The rule finds these causes, or says that it cannot tell them from the rest."""
    count = len(expected)
    if len(scores) > 1 and len(set(scores)) == 1:
        with pytest.raises(RepairError, match=r"score .* none can be told from the rest"):
            select_causes(scores, rows, rule, **options)
    elif 0 < count < len(scores) and scores[expected[-1]] == scores[by_definition(scores)[count]]:
        with pytest.raises(RepairError, match=f"{count} causes cannot be told from the rest") as refusal:
            select_causes(scores, rows, rule, **options)
        for proposed in map(int, str(refusal.value).split(": ask for ")[1].split(",")[0].split(" or ")):
            assert len(select_causes(scores, rows, "top-k", count=proposed)) == proposed
    else:
        assert select_causes(scores, rows, rule, **options).tolist() == expected


@settings(deadline=None)
@given(SCORES, st.data())
def test_top_k_takes_the_highest(scores: NDArray[np.float64], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(scores)))
    check(scores, table(len(scores)), "top-k", by_definition(scores)[:count], count=count)


@settings(deadline=None)
@given(SCORES, st.floats(0.01, 1))
def test_fraction_takes_the_nearest_number_of_examples(scores: NDArray[np.float64], fraction: float) -> None:
    count = round(fraction * len(scores))
    if not count:
        with pytest.raises(RepairError, match=r"finds no causes|none can be told"):
            select_causes(scores, table(len(scores)), "fraction", fraction=fraction)
        return
    check(scores, table(len(scores)), "fraction", by_definition(scores)[:count], fraction=fraction)


@settings(deadline=None)
@given(SCORES, st.sampled_from([-1.0, 0.0, 0.25]))
def test_threshold_takes_what_is_above_and_not_what_is_at_it(
    scores: NDArray[np.float64], threshold: float
) -> None:
    expected = [position for position in by_definition(scores) if scores[position] > threshold]
    if not expected:
        with pytest.raises(
            RepairError, match=r"finds no causes .* choose a lower threshold|none can be told"
        ):
            select_causes(scores, table(len(scores)), "threshold", threshold=threshold)
        return
    check(scores, table(len(scores)), "threshold", expected, threshold=threshold)


def test_threshold_takes_at_most_a_share_of_the_highest() -> None:
    scores = np.array([3.0, -1.0, 5.0, 1.0, 4.0, 2.0, 0.5, 6.0])
    for share, expected in ((0.5, [7, 2, 4, 0]), (0.25, [7, 2]), (1.0, [7, 2, 4, 0, 5, 3, 6])):
        found = select_causes(scores, table(8), "threshold", at_most=share)
        assert found.tolist() == expected
    tied = np.array([1.0, 1.0, 1.0, -1.0])
    with pytest.raises(RepairError, match="cannot be told from the rest"):
        select_causes(tied, table(4), "threshold", at_most=0.5)


@settings(deadline=None)
@given(SCORES, st.data())
def test_oracle_size_takes_as_many_as_are_corrupted_and_truth_takes_those(
    scores: NDArray[np.float64], data: st.DataObject
) -> None:
    corrupted = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    rows = table(len(scores), corrupted)
    if not corrupted.any():
        for rule in ("oracle-size", "truth"):
            with pytest.raises(
                RepairError, match=f"the selection rule '{rule}' finds no causes|none can be told"
            ):
                select_causes(scores, rows, rule)
        return
    check(scores, rows, "oracle-size", by_definition(scores)[: corrupted.sum()])
    assert sorted(select_causes(scores, rows, "truth")) == np.flatnonzero(corrupted).tolist()


@settings(deadline=None)
@given(st.integers(1, 60), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**32))
def test_a_part_of_the_truth_is_a_part_of_a_larger_part(
    count: int, share: float, other: float, seed: int
) -> None:
    rows = table(100, np.random.default_rng(count).permutation(100) < count)
    small, large = (
        select_causes(np.zeros(100), rows, "partial-truth", share=part, seed=seed)
        for part in sorted((share, other))
    )
    assert set(small) <= set(large) <= set(np.flatnonzero(rows["is_corrupted"]))
    assert len(large) == max(1, round(max(share, other) * count))
    whole = select_causes(np.zeros(100), rows, "partial-truth", share=1.0, seed=seed)
    assert whole.tolist() == select_causes(np.zeros(100), rows, "truth").tolist()


def test_what_is_known_comes_first_and_once() -> None:
    scores = np.array([0.5, -1.0, 2.0, 0.1, -2.0])
    known = np.array([4, 2])
    causes = select_causes(scores, table(5), "threshold", known=known)
    assert causes.tolist() == [4, 2, 0, 3]
    assert select_causes(scores - 3, table(5), "threshold", known=known).tolist() == [4, 2]


def test_clean_examples_are_taken_for_causes() -> None:
    """Huang et al. 2023: 75 % of a set are causes and 25 % of it are clean."""
    rows = table(400, np.arange(400) % 4 == 0)
    causes = select_causes(np.zeros(400), rows, "partial-truth", share=0.75, clean=0.25)
    assert len(causes) == len(set(causes)) == 100
    assert rows["is_corrupted"].iloc[causes].sum() == 75
    alone = select_causes(np.zeros(400), rows, "partial-truth", share=0.75)
    assert set(alone) == set(causes[rows["is_corrupted"].iloc[causes]])
    assert set(alone) != set(select_causes(np.zeros(400), rows, "partial-truth", share=0.75, seed=1))
    with pytest.raises(
        RepairError, match="is 900, and 300 training examples are clean: give a smaller clean"
    ):
        select_causes(np.zeros(400), rows, "partial-truth", share=1.0, clean=0.9)
    with pytest.raises(RepairError, match="'truth' finds no causes"):
        # Who asks for the truth is told that there is none, whatever the treatment is.
        select_causes(np.arange(4.0), table(4, np.zeros(4, dtype=bool)), "truth", at_least_one=False)
    with pytest.raises(RepairError, match="'partial-truth' finds no causes"):
        select_causes(np.zeros(400), table(400, np.zeros(400, bool)), "partial-truth", share=1.0)


def test_the_usual_fraction_of_the_usual_data() -> None:
    scores = np.random.default_rng(0).normal(size=2700)
    causes = select_causes(scores, table(2700), "fraction", fraction=0.15)
    assert len(causes) == 405
    assert scores[causes].min() > np.delete(scores, causes).max()


@pytest.mark.parametrize(
    ("rule", "options"),
    [("top-k", {"count": 5}), ("fraction", {"fraction": 1.0}), ("threshold", {"threshold": -1.0})],
)
def test_positions_are_integers_that_index(rule: str, options: dict[str, Any]) -> None:
    causes = select_causes(np.array([0.2, 0.1, 0, 0, 0]), table(5), rule, **options)
    assert causes.dtype == np.int64
    assert causes.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        ("top-k", {"count": 6}, "asks for 6 causes and there are 5 training examples: ask for 1 to 5"),
        ("top-k", {"count": -1}, "count is -1: give a whole number of 1 or more"),
        ("top-k", {"count": 0}, "count is 0: give a whole number of 1 or more"),
        ("fraction", {"fraction": 0.0}, "fraction is 0.0: give a number above 0 and at most 1"),
        ("fraction", {"fraction": 1.1}, "fraction is 1.1"),
        ("fraction", {"fraction": np.nan}, "fraction is nan"),
        ("fraction", {"fraction": "0.15"}, "fraction is '0.15': give a number above 0"),
        ("threshold", {"threshold": 9.0}, r"finds no causes \(the highest score is 1\)"),
        ("top-k", {}, "lacking is count: add it"),
        ("top-k", {"count": 1, "share": 2}, "there is no setting share: there may be per_class, rule, count"),
        (
            "best",
            {},
            "no selection rule 'best': choose one of expected, fraction, listed, of-class, oracle-size",
        ),
    ],
)
def test_selections_that_cannot_be(rule: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        select_causes(np.array([1.0, 0, 0, 0, 0]), table(5), rule, **options)


def test_a_class_keeps_what_its_limit_wants() -> None:
    scores = np.array([9.0, 8.0, 7.0, 6.0, 5.0, -1.0, -2.0, -3.0])
    rows = table(8).assign(names=[("a",), ("a",), ("b",), ("a",), ("b",), ("a",), ("b",), ("b",)])
    for rule, options in (("top-k", {"count": 5}), ("fraction", {"fraction": 0.625}), ("threshold", {})):
        assert select_causes(scores, rows, rule, **options).tolist() == [0, 1, 2, 3, 4]
        limited = select_causes(scores, rows, rule, **options, per_class=0.5)
        assert limited.tolist() == [0, 1, 2, 4], "two of the four of each"
    with pytest.raises(RepairError, match="finds no causes"):
        select_causes(scores, rows, "top-k", count=3, per_class=0.2)
    both = table(3).assign(names=[("a", "b"), ("a",), ("b",)])
    assert select_causes(np.array([3.0, 2.0, 1.0]), both, "top-k", count=3, per_class=0.5).tolist() == [0]


def test_as_many_as_are_expected_to_be_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 1,000 the judge believes 600, and of what is right elsewhere 75 in a hundred: 800 are right."""
    scores = np.where(np.arange(1000) < 600, -1.0, 1.0) * np.arange(1, 1001)
    count, error = expected_causes(scores, Sound(0.75, 200))
    assert count == pytest.approx(200, abs=1e-9)
    # A binomial count of 800 with .75 and its share, of 200 examples: each by the delta method.
    training = np.sqrt(800 * 0.75 * 0.25) / 0.75
    elsewhere = 600 / 0.75**2 * np.sqrt(0.75 * 0.25 / 200)
    assert error == pytest.approx(np.hypot(training, elsewhere), abs=1e-9)
    taken = select_causes(scores, table(1000), "expected", sound=Sound(0.75, 200))
    assert taken.tolist() == list(range(999, 799, -1))
    assert "200 ± 37 training examples are expected to be wrong\n" in capsys.readouterr().out
    select_causes(scores, table(1000), "expected", sound=Sound(0.5, 200))
    assert (
        "0 ± 92 training examples are expected to be wrong, or more if the judge knows them by"
        in capsys.readouterr().out
    )


def test_the_error_of_the_expected_number_is_what_it_scatters_by() -> None:
    generator = np.random.default_rng(0)
    believed, elsewhere = generator.binomial(1600, 0.8, 4000), generator.binomial(500, 0.8, 4000)
    drawn = [
        expected_causes(np.where(np.arange(2000) < b, -1.0, 1.0), Sound(a / 500, 500))
        for b, a in zip(believed, elsewhere, strict=True)
    ]
    counts, errors = np.transpose(drawn)
    assert counts.mean() == pytest.approx(400, abs=3), "1,600 of the 2,000 are right"
    assert errors.mean() == pytest.approx(counts.std(), rel=0.03)


@pytest.mark.parametrize(
    ("doubted", "believed", "trusted", "certain", "count"),
    [
        (30, 0.7, 0.0, 0.0, 0),  # it doubts as many as elsewhere: none is expected to be wrong
        (30, 0.7, 0.15, 0.05, 5),
        (3, 0.9, 0.15, 0.05, 3),
        (12, 0.7, 0.15, 0.0, 12),  # by heart: all that it doubts
        (12, 0.7, 0.1, 0.0, 0),  # but it doubts more than 10 in a hundred
        (12, 0.94, 0.15, 0.0, 12),  # 6.4 are expected to be wrong
        (12, 0.93, 0.15, 0.0, 5),  # 5.4 are, less than a half
        (16, 0.94, 0.15, 0.0, 11),  # 10.6 are, but it doubts more than 15 in a hundred
        (16, 0.94, 0.16, 0.0, 16),
        (40, 0.75, 0.15, 0.05, 20),
        (40, 0.75, 1.0, 0.0, 40),
        (40, 1.0, 0.15, 0.05, 40),
        (40, 0.75, 0.15, 1.0, 40),
        (0, 0.7, 0.15, 0.05, 0),
    ],
)
def test_what_is_doubted_is_taken_up_to_what_is_trusted_or_expected(
    doubted: int, believed: float, trusted: float, certain: float, count: int
) -> None:
    scores = np.arange(100.0) - (99.5 - doubted)
    options = {"trusted": trusted, "certain": certain, "sound": Sound(believed, 50)}
    if not count:
        with pytest.raises(RepairError, match="finds no causes"):
            select_causes(scores, table(100), "expected", **options)
        assert not len(select_causes(scores, table(100), "expected", at_least_one=False, **options))
        return
    chosen = select_causes(scores, table(100), "expected", **options)
    assert chosen.tolist() == list(range(99, 99 - count, -1))


def test_how_much_is_right_follows_from_what_is_believed_here_and_elsewhere() -> None:
    for right, sound in ((0.75, 0.8), (1.0, 0.8), (0.5, 1.0)):
        assert Sound(sound, 100).share_right(right * sound) == pytest.approx(right, abs=1e-15)
    assert Sound(0.8, 100).share_right(0.9) == 1, "more than elsewhere: learned by heart"
    assert Sound(0.0, 100).share_right(0.3) == 1
    assert Sound(0.0, 100).share_right(0.0) == Sound(0.5, 100).share_right(0.0) == 0


@pytest.mark.parametrize(
    ("sound", "message"),
    [(None, "is not known"), (Sound(np.nan, 0), "is not known"), (Sound(0.0, 9), "where it believes none")],
)
def test_how_many_are_expected_needs_a_judge_that_is_known(sound: Sound | None, message: str) -> None:
    with pytest.raises(RepairError, match=f"{message}: choose another selection"):
        select_causes(np.arange(-2.0, 3.0), table(5), "expected", sound=sound)


def test_scores_of_other_examples_are_refused() -> None:
    with pytest.raises(RepairError, match="there are 4 scores and 5 training examples"):
        select_causes(np.zeros(4), table(5), "top-k", count=1)


def test_scores_in_another_order_are_refused() -> None:
    trained = pd.DataFrame({"example": [4, 7, 9]})
    ranked = trained.assign(score=[0.5, -1.0, 2.0])
    assert scores_of(ranked, trained).tolist() == [0.5, -1.0, 2.0]
    with pytest.raises(
        RepairError, match=r"in another order: number 2 is of example 9, and .* on example 7 there"
    ):
        scores_of(ranked.iloc[[0, 2, 1]], trained)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(RepairError, match="1 of 5 scores are NaN or infinite"):
        select_causes(np.array([0, 1, bad, 2, 3]), table(5), "top-k", count=1)


# Causes that are given instead of found.


def test_a_request_with_trailing_commas_erases_whom_it_names(tmp_path: Path) -> None:
    """And not whom the next column names, as a reader would that takes the first one for an index."""
    file = tmp_path / "erase.csv"
    file.write_text("example,label\n0,3,\n1,4,\n")
    causes = select_causes(np.zeros(5), table(5), "listed", file=str(file))
    assert causes.tolist() == [0, 1]


def labelled() -> pd.DataFrame:
    names = [["seven"], ["one"], ["seven"], ["seven"], ["one"], ["seven"]]
    return pd.DataFrame({"example": [10, 11, 14, 15, 19, 27], "names": names})


def test_a_class_or_a_part_of_it() -> None:
    assert select_causes(np.zeros(6), labelled(), "of-class", name="seven").tolist() == [0, 2, 3, 5]
    half = select_causes(np.zeros(6), labelled(), "of-class", name="seven", fraction=0.5)
    most = select_causes(np.zeros(6), labelled(), "of-class", name="seven", fraction=0.75)
    assert len(half) == 2
    assert set(half) < set(most) < {0, 2, 3, 5}, "with one seed, a smaller part is in a larger one"
    assert len(select_causes(np.zeros(6), labelled(), "of-class", name="one", fraction=0.01)) == 1
    with pytest.raises(RepairError, match="labelled 'two': choose from one, seven"):
        select_causes(np.zeros(6), labelled(), "of-class", name="two")


def test_a_list_of_examples(tmp_path: Path) -> None:
    file = tmp_path / "causes.csv"
    file.write_text("example,why\n27,wrong\n11,wrong\n27,again\n")
    assert select_causes(np.zeros(6), labelled(), "listed", file=str(file)).tolist() == [5, 1]
    file.write_bytes(b'\xef\xbb\xbfwhy,example\r\n\r\n"wrong, again", 27 ,,\r\n')
    assert select_causes(np.zeros(6), labelled(), "listed", file=str(file)).tolist() == [5]
    for content, message in (
        ("example\n27\n12\n", "lists example 12, and 0 more, that the model was not trained on"),
        ("example\n", "lists no causes: give one training example in each row"),
        ("number\n27\n", "has the columns number: give one column example in the first line$"),
        ("example;why\n27;wrong\n", r"has the columns example;why: .* separate columns by commas"),
        ("example,example\n27,11\n", "give one column example"),
        ("example\nfirst\n", "line 2 of .* has 'first' in the column example: give a whole number"),
        ("example\n27\n11.0\n", "line 3 of .* has '11.0' in the column example"),
        ("example\n-1\n", "has '-1' in the column example"),
        ("why,example\nwrong\n", "line 2 of .* has 1 values for 2 columns"),
        ("example,why\n27,wrong, again\n", "line 2 of .* has 3 values for 2 columns: .* quotes"),
        ('example\n"27\n', "cannot be read as a CSV file"),
        ("", "is empty: give a column example"),
    ):
        file.write_text(content)
        with pytest.raises(RepairError, match=message):
            select_causes(np.zeros(6), labelled(), "listed", file=str(file))
    with pytest.raises(RepairError, match=r"there is no file .*absent\.csv"):
        select_causes(np.zeros(6), labelled(), "listed", file=str(tmp_path / "absent.csv"))


NAMES = ("one", "six, or so", "seven")


def marked() -> pd.DataFrame:
    return labelled().assign(label=[2, 0, 2, 2, 0, 2])


def test_marks_are_kept_removed_or_relabelled(tmp_path: Path) -> None:
    file = tmp_path / "marks.csv"
    file.write_text(
        'example,action,label\n27,relabel,"six, or so"\n10,keep,\n11,remove,\n19,relabel,2\n27,relabel,"six, or so"\n'
    )
    rows = marked()
    assert select_causes(np.zeros(6), rows, "listed", file=str(file)).tolist() == [5, 1, 4]
    given = corrections(rows, NAMES, "listed", file=str(file))
    assert given is not None
    assert given.tolist() == [-1, -1, -1, -1, 2, 1]
    file.write_text("label,given,action,example\n,  seven ,remove,27\n,one,keep,10\n")
    assert select_causes(np.zeros(6), rows, "listed", file=str(file)).tolist() == [5]
    assert corrections(rows, NAMES, "listed", file=str(file)) is None
    assert corrections(rows, NAMES, "top-k", count=1) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("27,relabel,two", "line 2 of .*: the data have no class 'two': choose from one, six, or so, seven"),
        ("27,relabel,seven", "relabels example 27 as 'seven', which is the label that it has"),
        ("27,relabel,", "line 2 of .* relabels without a label: give one where the action is relabel"),
        ("27,remove,one", "line 2 of .* says remove with a label"),
        ("27,burn,", "line 2 of .* has 'burn' in the column action: give one of keep, remove, relabel"),
        ("27,remove,\n10,keep,\n27,keep,", "lines 2 and 4 of .* differ on example 27: leave one of them"),
        ("27,keep,\n10,keep,", "keeps all 2 examples that it lists: mark at least one as a cause"),
        ("27,remove", "line 2 of .* has 2 values for 3 columns"),
        ("12,relabel,one", "lists example 12, and 0 more, that the model was not trained on"),
    ],
)
def test_marks_that_say_nothing_clear_are_refused(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "marks.csv"
    file.write_text(f"example,action,label\n{content}\n")

    def take() -> None:
        select_causes(np.zeros(6), marked(), "listed", file=str(file))
        corrections(marked(), NAMES, "listed", file=str(file))

    with pytest.raises(RepairError, match=message):
        take()


def test_marks_that_were_made_on_other_data_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "marks.csv"
    file.write_text("example,action,label,given\n27,remove,,seven\n11,relabel,seven,six\n")
    with pytest.raises(
        RepairError, match=r"line 3 of .* example 11 as one with the label 'six', and it has 'one' here"
    ):
        select_causes(np.zeros(6), marked(), "listed", file=str(file))


def test_an_action_needs_a_column_of_labels_and_attributes_no_new_label(tmp_path: Path) -> None:
    file = tmp_path / "marks.csv"
    file.write_text("example,action\n27,remove\n")
    with pytest.raises(RepairError, match="has 0 columns label: give one"):
        select_causes(np.zeros(6), marked(), "listed", file=str(file))
    file.write_text("example,action,label\n27,relabel,one\n")
    rows = marked().assign(label=[[0.0, 1.0, 0.0]] * 6)
    with pytest.raises(RepairError, match="has attributes in place of one class: mark it to be removed"):
        corrections(rows, NAMES, "listed", file=str(file))


def test_which_rules_look_at_the_scores() -> None:
    given = {name for name, rule in SELECTIONS.items() if not rule.by_score}
    assert given == {"listed", "of-class", "partial-truth", "truth"}
    assert all(issubclass(member, Selection) for member in SELECTIONS.values())
