"""Properties of the splits: every example in one part, exact counts, the seed decides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from modelrepair.data.classes import class_number, label_array
from modelrepair.data.randomness import generator
from modelrepair.errors import RepairError
from modelrepair.splits.dataset import split_test, split_training, training_table
from modelrepair.splits.dataset import test_table as table_of_test_set
from modelrepair.splits.failures import (
    NoFailures,
    failure_counts,
    failure_tables,
    nested_part,
    split_failures,
)

SEEDS = st.integers(0, 2**32 - 1)
OFFICIAL_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def shuffled_labels(counts: list[int], seed: int) -> NDArray[np.int64]:
    return generator(seed, "labels").permutation(np.repeat(np.arange(len(counts)), counts))


@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=6), seed=SEEDS, fraction=st.floats(0, 0.99))
@settings(max_examples=60, deadline=None)
def test_training_split_takes_the_fraction_of_every_class(
    counts: list[int], seed: int, fraction: float
) -> None:
    labels = shuffled_labels(counts, seed)
    split = split_training(labels, fraction, generator(seed, "split"))
    assert set(split) <= {"train", "validation"}
    for number, count in enumerate(counts):
        validation = int(((split == "validation") & (labels == number)).sum())
        assert abs(validation - fraction * count) <= 0.5 + 1e-6 or validation == count - 1
        assert validation < count
    np.testing.assert_array_equal(split, split_training(labels, fraction, generator(seed, "split")))


def test_training_split_of_the_papers_is_270_and_30_a_class() -> None:
    labels = shuffled_labels([300] * 10, 0)
    split = split_training(labels, 0.1, generator(0, "split"))
    for number in range(10):
        assert ((split == "train") & (labels == number)).sum() == 270
        assert ((split == "validation") & (labels == number)).sum() == 30
    assert (split != split_training(labels, 0.1, generator(1, "split"))).any()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_validation_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(RepairError, match="validation_fraction is"):
        split_training(np.zeros(5, dtype=np.int64), fraction, generator(0, "split"))


@pytest.mark.parametrize(
    ("counts", "assessment", "discovery"),
    [([200] * 10, 1000, [70] * 10), (OFFICIAL_COUNTS, 5000, [n - 530 for n in OFFICIAL_COUNTS])],
)
def test_test_split_of_sample_and_official_set(
    counts: list[int], assessment: int, discovery: list[int]
) -> None:
    labels = shuffled_labels(counts, 3)
    part = split_test(labels, generator(3, "split test"), reserved=300, assessment=assessment)
    np.testing.assert_array_equal(np.bincount(labels[part == "reserved"]), [30] * 10)
    np.testing.assert_array_equal(np.bincount(labels[part == "assessment"]), [assessment // 10] * 10)
    np.testing.assert_array_equal(np.bincount(labels[part == "discovery"]), discovery)


@given(
    counts=st.lists(st.integers(10, 40), min_size=1, max_size=5),
    reserved=st.integers(0, 15),
    assessment=st.integers(0, 20),
    seed=SEEDS,
)
@settings(max_examples=60, deadline=None)
def test_test_split_is_a_balanced_partition(
    counts: list[int], reserved: int, assessment: int, seed: int
) -> None:
    labels = shuffled_labels(counts, seed)
    sizes = {"reserved": reserved, "assessment": assessment}
    try:
        part = split_test(labels, generator(seed, "split test"), **sizes)
    except RepairError:
        share = -(-reserved // len(counts)) + -(-assessment // len(counts))
        assert share > min(counts) or reserved + assessment == len(labels)
        return
    assert set(part) <= {"reserved", "discovery", "assessment"}
    for name, size in sizes.items():
        per_class = np.bincount(labels[part == name], minlength=len(counts))
        assert per_class.sum() == size
        assert per_class.max() - per_class.min() <= 1
    np.testing.assert_array_equal(part, split_test(labels, generator(seed, "split test"), **sizes))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"reserved": 300, "assessment": 1800}, "class 0 has 200 test examples"),
        ({"reserved": 200, "assessment": 1800}, "leave none to discover failures in"),
    ],
)
def test_impossible_test_splits(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(RepairError, match=message):
        split_test(shuffled_labels([200] * 10, 0), generator(0, "split test"), **sizes)


@given(
    n=st.integers(1, 120),
    wrong=st.floats(0.05, 1),
    protocol=st.sampled_from(["discovery", "halves"]),
    failure_classes=st.sampled_from([None, [1, 2]]),
    seed=SEEDS,
)
@settings(max_examples=100, deadline=None)
def test_roles_follow_their_definition(
    n: int, wrong: float, protocol: str, failure_classes: list[int] | None, seed: int
) -> None:
    rng = generator(seed, "test")
    correct = rng.random(n) > wrong
    part = rng.choice(["reserved", "discovery", "assessment"], n)
    labels = rng.integers(0, 4, n)

    def roles() -> NDArray[np.str_]:
        table = split_failures(
            correct,
            part,
            labels,
            generator(seed, "halves"),
            protocol=protocol,
            failure_classes=failure_classes,
        )
        assert list(table["is_failure"]) == list(failure)
        return table["role"].to_numpy(dtype=str)

    failure = ~correct & (np.isin(labels, failure_classes) if failure_classes else True)
    searched = part == "discovery" if protocol == "discovery" else part != "reserved"
    if not (failure & searched).any():
        with pytest.raises(NoFailures, match="good news"):
            roles()
        return
    role = roles()
    assert set(role) <= {"query", "holdout", "remaining", ""}
    assert (role[part == "reserved"] == "").all()
    if protocol == "discovery":
        np.testing.assert_array_equal(role == "query", failure & (part == "discovery"))
        np.testing.assert_array_equal(role == "holdout", failure & (part == "assessment"))
        np.testing.assert_array_equal(role == "remaining", correct & (part == "assessment"))
    else:
        np.testing.assert_array_equal(np.isin(role, ["query", "holdout"]), failure & searched)
        assert (role == "query").sum() - (role == "holdout").sum() in (0, 1)
        np.testing.assert_array_equal(role == "remaining", correct & searched)
    np.testing.assert_array_equal(role, roles())


@pytest.mark.parametrize("protocol", ["discovery", "halves"])
def test_one_single_failure_is_the_query(protocol: str) -> None:
    correct = np.array([True, False, True])
    part = np.array(["assessment", "discovery", "reserved"])
    table = split_failures(correct, part, np.zeros(3), generator(0, "halves"), protocol=protocol)
    assert list(table["role"]) == ["remaining", "query", ""]


def test_unknown_protocol_and_failure_classes_of_attributes() -> None:
    arguments = np.array([False]), np.array(["discovery"])
    with pytest.raises(RepairError, match="choose one of discovery, halves"):
        split_failures(*arguments, np.zeros(1), generator(0, "halves"), protocol="thirds")
    with pytest.raises(RepairError, match="omit them"):
        split_failures(*arguments, np.zeros((1, 3)), generator(0, "halves"), failure_classes=[1])


def test_failure_tables_and_counts() -> None:
    labels = shuffled_labels([40, 40, 40], 0)
    part = split_test(labels, generator(0, "split test"), reserved=9, assessment=60)
    correct = generator(0, "correct").random(120) > 0.3
    table = table_of_test_set(labels, part)
    failures = split_failures(correct, part, labels, generator(0, "halves"))
    tables = failure_tables(table, failures)
    assert {name: len(rows) for name, rows in tables.items()} == {
        "reserved": 9,
        "discovery": 51,
        "assessment": 60,
    }
    assert sorted(np.concatenate([rows["example"] for rows in tables.values()])) == list(range(120))
    for name, rows in tables.items():
        assert (rows["part"] == name).all()
        np.testing.assert_array_equal(rows["label"], labels[rows["example"]])
        np.testing.assert_array_equal(rows["is_failure"], ~correct[rows["example"]])
    counts = failure_counts(table, failures, ("a", "b", "c", "absent"))
    assert counts["query"] == tables["discovery"]["is_failure"].sum()
    assert counts["holdout"] + counts["remaining"] == 60
    assert sum(counts["failures_by_class"].values()) == counts["query"] + counts["holdout"]
    assert counts["failures_by_class"]["absent"] == 0


def test_attributes_are_split_as_one_stratum() -> None:
    labels = generator(0, "attributes").integers(0, 2, (50, 3)).astype(np.float32)
    assert (split_training(labels, 0.1, generator(0, "split")) == "validation").sum() == 5
    part = split_test(labels, generator(0, "split test"), reserved=7, assessment=20)
    assert [(part == name).sum() for name in ("reserved", "assessment", "discovery")] == [7, 20, 23]
    table = training_table(labels, split_training(labels, 0.1, generator(0, "split")))
    np.testing.assert_array_equal(label_array(table["label"]), labels)
    failures = split_failures(np.zeros(50, bool), part, labels, generator(0, "halves"))
    counts = failure_counts(table_of_test_set(labels, part), failures, ("a", "b", "c"))
    assert counts == {"query": 23, "holdout": 20, "remaining": 0}


def test_streams_of_one_seed_are_independent_and_repeatable() -> None:
    first, again, other = (generator(7, purpose).integers(0, 2**60, 4) for purpose in ("a", "a", "b"))
    assert (first == again).all()
    assert (first != other).all()
    for seed in (-1, 1.5, True, "1"):
        with pytest.raises(RepairError, match="whole number of 0 or more"):
            generator(seed, "a")  # type: ignore[arg-type]


def test_class_numbers_by_name_or_number() -> None:
    classes = ("7", "cat", "dog")
    assert [class_number(name, classes) for name in ("7", 7, "cat", 2, "1")] == [0, 0, 1, 2, 1]
    for name in ("bird", 3, -1, None):
        with pytest.raises(RepairError, match="choose from 7, cat, dog"):
            class_number(name, classes)


@pytest.mark.parametrize("protocol", ["discovery", "halves"])
def test_a_limited_query_is_a_part_of_any_larger_and_changes_no_other_role(protocol: str) -> None:
    rng = generator(0, "correct")
    correct, part = rng.random(200) > 0.4, rng.choice(["reserved", "discovery", "assessment"], 200)

    def roles(most: int | None) -> NDArray[np.str_]:
        table = split_failures(
            correct,
            part,
            np.zeros(200, dtype=np.int64),
            generator(1, "failures"),
            protocol=protocol,
            most_queries=most,
        )
        return table["role"].to_numpy(str)

    whole = roles(None)
    count = int((whole == "query").sum())
    assert count > 10
    larger = whole
    for most in (count + 5, count, 10, 3, 1):
        found = roles(most)
        assert (found == "query").sum() == min(most, count)
        assert (larger[found == "query"] == "query").all()
        np.testing.assert_array_equal(found[whole != "query"], whole[whole != "query"])
        assert set(found[whole == "query"]) <= {"query", ""}
        larger = found


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=5), count=st.integers(1, 60), seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_a_nested_part_is_of_all_classes_alike(counts: list[int], count: int, seed: int) -> None:
    labels = shuffled_labels(counts, seed)
    found = nested_part(labels, count, generator(seed, "part"))
    assert len(found) == min(count, len(labels))
    assert (np.diff(found) > 0).all()
    assert set(found) <= set(nested_part(labels, count + 7, generator(seed, "part")))
    taken = np.bincount(labels[found], minlength=len(counts))
    # Classes that have more to give have given as many as any, but for one.
    left = taken < np.array(counts)
    assert not left.any() or taken.max() - taken[left].min() <= 1


def test_a_nested_part_of_examples_with_attributes_or_of_none() -> None:
    attributes = np.repeat([[0, 0], [0, 1], [1, 1]], [20, 3, 9], axis=0)
    found, larger = (nested_part(attributes, count, generator(0, "part")) for count in (6, 11))
    assert len(found) == 6
    assert set(found) < set(larger)
    assert not len(nested_part(np.zeros(0, dtype=np.int64), 6, generator(0, "part")))
