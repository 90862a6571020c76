"""Shares that are split off a file: their sizes by class and label, equal texts, the same share by the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sharcs_pl.data.shares import split_share
from sharcs_pl.data.spec import Examples


def texts(number: int) -> list[tuple[str, ...]]:
    return [(f"text {i}",) for i in range(number)]


@given(counts=st.lists(st.integers(1, 40), min_size=2, max_size=5), share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_every_class_keeps_samples_on_both_sides(counts: list[int], share: float, seed: int):
    labels = np.repeat(np.arange(len(counts)), counts)
    if max(counts) == 1:
        counts, labels = [2, *counts[1:]], np.append(labels, 0)
    train, dev = split_share(Examples(texts(len(labels)), labels), share, seed)
    for index, count in enumerate(counts):
        taken = int((dev.labels == index).sum())
        assert taken == min(max(round(share * count), 1), count - 1)
        assert int((train.labels == index).sum()) == count - taken


@given(
    numbers=st.lists(st.integers(0, 12), min_size=4, max_size=60),
    kind=st.sampled_from(["classes", "scores"]),
    share=st.floats(0.2, 0.8),
    seed=st.integers(0, 9),
)
def test_equal_texts_stay_on_one_side(numbers: list[int], kind: str, share: float, seed: int):
    """Also where their labels differ; the share is never exceeded but by the smallest text."""
    labels = np.arange(len(numbers)) % 3 if kind == "classes" else np.linspace(0, 1, len(numbers), dtype=np.float32)
    examples = Examples([(f"text {i}",) for i in numbers], labels)
    assume(len(set(examples.texts)) >= 6)
    train, dev = split_share(examples, share, seed)
    assert not set(train.texts) & set(dev.texts)
    assert Counter(train.texts) + Counter(dev.texts) == Counter(examples.texts)


def test_few_distinct_texts_are_shared_out():
    """34 of 40 dev texts were in train: rows of a file often repeat, as questions and tags do."""
    numbers = np.random.default_rng(0).integers(0, 50, 400)
    examples = Examples([(f"text {i}",) for i in numbers], numbers % 2)
    train, dev = split_share(examples, 0.1, 1)
    assert not set(train.texts) & set(dev.texts)
    assert 30 <= len(dev) <= 40


def test_without_equal_texts_the_share_is_the_one_that_it_always_was():
    """Runs that are there already are evaluated on the texts that they set aside."""
    labels = np.arange(40) % 2
    _, dev = split_share(Examples(texts(40), labels), 0.2, 3)
    generator = np.random.default_rng(3)
    expected = np.sort(np.concatenate([generator.permutation(np.flatnonzero(labels == c))[:4] for c in (0, 1)]))
    assert [int(text.split()[1]) for (text,) in dev.texts] == expected.tolist()


def test_a_share_of_a_regression_is_plain_and_neither_side_may_be_empty():
    scores = Examples(texts(10), np.linspace(0, 1, 10, dtype=np.float32))
    train, dev = split_share(scores, 0.3, 1)
    assert (len(train), len(dev)) == (7, 3)
    with pytest.raises(ValueError, match=r"task\.dev=0\.01: of 10 rows this leaves none to evaluate on"):
        split_share(scores, 0.01, 1)
    with pytest.raises(ValueError, match="none to train on"):
        split_share(scores, 0.99, 1)
    with pytest.raises(ValueError, match="none to evaluate on"):
        split_share(Examples(texts(2), np.arange(2)), 0.5, 1)
    with pytest.raises(ValueError, match="none to evaluate on"):
        split_share(Examples([("x",)] * 9, np.zeros(9, dtype=np.int64)), 0.5, 1)


def test_a_share_keeps_the_difficulty_that_is_known() -> None:
    labels, difficulty = np.arange(20) % 2, np.arange(20, dtype=np.int8)
    rest, kept = split_share(Examples([(str(i),) for i in range(20)], labels, difficulty), 0.3, 1)
    for part in (rest, kept):
        assert part.difficulty is not None
        assert [int(text) for (text,) in part.texts] == part.difficulty.tolist()


RARE = np.array([0.005, 0.02, 0.05, 0.1, 0.3, 0.5])


def several(number: int, seed: int, chances: np.ndarray = RARE) -> Examples:
    """Texts of which each has every label by chance."""
    drawn = np.random.default_rng(seed).random((number, len(chances)))
    return Examples(texts(number), (drawn < chances).astype(np.float32))


@pytest.mark.parametrize("share", [0.1, 0.25])
@pytest.mark.parametrize("seed", range(4))
def test_every_label_gives_its_share_and_so_do_the_texts_without_one(share: float, seed: int) -> None:
    """By chance the label of a twentieth of the texts is off by two of five, and the rarest one is often missing."""
    examples = several(1000, seed)
    train, dev = split_share(examples, share, seed)
    counts, taken = examples.labels.sum(0), dev.labels.sum(0)
    np.testing.assert_array_less(abs(taken - share * counts), 1)
    assert taken.min() >= 1
    bare, bare_taken = ((part.labels.sum(1) == 0).sum() for part in (examples, dev))
    assert abs(bare_taken - share * bare) < 1
    assert abs(len(dev) - 1000 * share) <= 5
    assert sorted(train.texts + dev.texts) == sorted(examples.texts)
    again, other = split_share(examples, share, seed)[1], split_share(examples, share, seed + 1)[1]
    assert again.texts == dev.texts != other.texts


@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 15)), min_size=8, max_size=60),
    share=st.floats(0.05, 0.8),
    seed=st.integers(0, 9),
)
def test_no_label_loses_its_last_text_to_the_share(rows: list[tuple[int, int]], share: float, seed: int) -> None:
    """The labels of a text are the bits of a number; texts that repeat count to the labels of their first row."""
    rows += [(text, 0) for text in range(90, 94)]
    first = dict(reversed(rows))
    bits = np.array([first[text] for text, _ in rows])
    labels = ((bits[:, None] >> np.arange(4)) & 1).astype(np.float32)
    train, dev = split_share(Examples([(f"text {text}",) for text, _ in rows], labels), share, seed)
    assert not set(train.texts) & set(dev.texts)
    assert ((train.labels.sum(0) > 0) == (labels.sum(0) > 0)).all()


def test_labels_that_exclude_each_other_are_shared_as_classes_are() -> None:
    classes = np.repeat(np.arange(3), [2, 11, 30])
    _, dev = split_share(Examples(texts(43), np.eye(3, dtype=np.float32)[classes]), 0.1, 1)
    assert dev.labels.sum(0).tolist() == [1, 1, 3]
