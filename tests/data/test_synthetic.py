from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from sharcs_pl.data import synthetic
from sharcs_pl.data.synthetic import LENGTHS, SIZES, graded_examples, word_tokenizer
from sharcs_pl.data.tasks import GRADED, Examples

sep = " "
GOOD = set(
    "good great lovely tasty superb clever charming pleasant brilliant delightful wonderful excellent fine funny warm "
    "fresh comfortable splendid marvellous impressive graceful friendly bright perfect".split(sep)
)
BAD = set(
    "bad awful dreadful stale boring clumsy rude dirty terrible horrible dull poor ugly noisy bland broken shabby "
    "tedious annoying disappointing gloomy useless cold mediocre".split(sep)
)


def read(text: str) -> tuple[int, int]:
    """(label, difficulty) by reading the text from left to right, knowing the rules but not the grammar."""
    verdicts: list[bool] = []
    negated = [False]
    decides = 0
    for word in text.split():
        if word in ("but", "yet", "though", "although"):
            negated.append(False)
            decides = int(word in ("but", "yet"))
        elif word in ("not", "never", "hardly"):
            assert not negated[-1], "two negators in a clause"
            negated[-1] = True
        elif word in GOOD | BAD:
            assert len(verdicts) == len(negated) - 1, "not one cue word to a clause"
            verdicts.append((word in GOOD) != negated[-1])
    assert len(verdicts) == len(negated)
    assert len(verdicts) == 1 or verdicts[0] != verdicts[1], "the clauses agree"
    return int(verdicts[decides]), 2 * (len(verdicts) - 1) + any(negated)


@pytest.fixture(scope="module")
def train() -> Examples:
    return graded_examples("train", seed=1)


def levels(examples: Examples) -> np.ndarray:
    assert examples.difficulty is not None
    return examples.difficulty


def test_labels_and_levels_are_those_of_the_rules(train: Examples):
    for (text,), label, level in zip(train.texts, train.labels, levels(train), strict=True):
        assert read(text) == (label, level), text


@given(seed=st.integers(0, 1000), size=st.integers(0, 60), split=st.sampled_from(sorted(SIZES)))
def test_any_seed_follows_the_rules(seed: int, size: int, split: str):
    examples = graded_examples(split, size=size, seed=seed)
    assert len(examples) == size
    assert [read(text) for (text,) in examples.texts] == list(
        zip(examples.labels.tolist(), levels(examples).tolist(), strict=True)
    )


def test_the_seed_decides_everything(train: Examples):
    again = graded_examples("train", seed=1)
    assert again.texts == train.texts
    assert np.array_equal(again.labels, train.labels)
    assert np.array_equal(levels(again), levels(train))
    other = graded_examples("train", seed=2)
    assert len({*other.texts} & {*train.texts}) < 0.1 * len(train)


def test_default_sizes_and_shares(train: Examples):
    assert len(train) == SIZES["train"]
    assert len(graded_examples("validation", seed=1)) == SIZES["validation"]
    assert np.mean(levels(train) == 0) >= 0.5
    assert set(levels(train).tolist()) == {0, 1, 2, 3}
    assert set(train.labels.tolist()) == set(range(GRADED.num_labels))


def test_the_label_does_not_know_the_level(train: Examples):
    for level in range(4):
        ones = train.labels[levels(train) == level]
        assert abs(int(ones.sum()) * 2 - len(ones)) <= 1


def test_the_length_does_not_know_the_level_or_the_label(train: Examples):
    lengths = np.array([len(text.split()) for (text,) in train.texts])
    assert (lengths.min(), lengths.max()) == LENGTHS
    for known in (levels(train), train.labels):
        assert abs(np.corrcoef(lengths, known)[0, 1]) < 4 / np.sqrt(len(train))
        for value in set(known.tolist()):
            share = lengths[known == value]
            assert abs(share.mean() - lengths.mean()) < 4 * lengths.std() / np.sqrt(len(share))


def test_neither_level_nor_label_hangs_together_with_the_position(train: Examples):
    position = np.arange(len(train))
    for known in (levels(train), train.labels):
        assert abs(np.corrcoef(position, known)[0, 1]) < 4 / np.sqrt(len(train))


def test_counting_cue_words_solves_level_0_alone(train: Examples):
    balance = np.array([len(GOOD & {*text.split()}) - len(BAD & {*text.split()}) for (text,) in train.texts])
    right = np.where(balance == 0, 0.5, (balance > 0) == (train.labels == 1))
    means = [right[levels(train) == level].mean() for level in range(4)]
    assert means[0] == 1
    assert means[1] == 0
    assert means[2:] == pytest.approx([0.5, 0.5], abs=0.05)


def test_neither_the_first_nor_the_last_clause_always_decides(train: Examples):
    last = [next(word in GOOD for word in reversed(text.split()) if word in GOOD | BAD) for (text,) in train.texts]
    right = np.array(last) == train.labels
    assert right[levels(train) == 2].mean() == pytest.approx(0.5, abs=0.05)


def test_few_fillers_are_used_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "ASIDES", {1: ("today",), 2: ("by noon",)})
    for (text,) in graded_examples("train", size=50).texts:
        assert LENGTHS[0] <= len(text.split()) <= LENGTHS[1]


@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])
def test_no_text_is_twice_or_in_both_splits(seeds: tuple[int, int]):
    train, dev = (graded_examples(split, seed=seed).texts for split, seed in zip(SIZES, seeds, strict=True))
    assert len({*train}) == len(train)
    assert len({*dev}) == len(dev)
    assert not {*train} & {*dev}


def test_a_grammar_of_few_texts_still_gives_each_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "SUBJECTS", ("soup",))
    monkeypatch.setattr(synthetic, "PLAIN", ("was",))
    monkeypatch.setattr(synthetic, "LENGTHS", (5, 5))  # 48 cues, 10 asides in 2 places: 960 texts
    easy = (1.0, 0.0, 0.0, 0.0)
    train, dev = ([text for (text,) in graded_examples(split, size=300, shares=easy).texts] for split in SIZES)
    assert len({*train, *dev}) == 600


def test_a_contrast_negates_one_clause_or_the_other_or_both(train: Examples):
    hard = [text.split() for (text,), level in zip(train.texts, levels(train), strict=True) if level == 3]
    patterns = []
    for words in hard:
        middle = next(i for i, word in enumerate(words) if word in ("but", "yet", "though", "although"))
        patterns.append(tuple(bool({"not", "never", "hardly"} & {*part}) for part in (words[:middle], words[middle:])))
    for pattern in ((True, False), (False, True), (True, True)):
        assert patterns.count(pattern) / len(hard) == pytest.approx(1 / 3, abs=0.06)


def test_shares_are_kept_to_a_sample():
    examples = graded_examples("train", size=1000, seed=0, shares=(0.7, 0, 0.2, 0.1))
    assert np.bincount(levels(examples), minlength=4).tolist() == [700, 0, 200, 100]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.5, 0.5, 0.5, 0.5), (1.2, -0.2, 0, 0)])
def test_shares_that_are_none_are_refused(shares: tuple[float, ...]):
    with pytest.raises(ValueError, match="shares"):
        graded_examples("train", size=10, shares=shares)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="no split 'dev'"):
        graded_examples("dev")


def test_every_word_is_a_token(train: Examples):
    tokenizer = word_tokenizer()
    for (text,) in train.texts[:500]:
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])
        assert tokens == ["[CLS]", *text.split(), "[SEP]"]
    assert tokenizer.pad_token_id == 0
    assert tokenizer("Soup zebra")["input_ids"][1:3] == tokenizer.convert_tokens_to_ids(["soup", "[UNK]"])


def test_the_tokenizer_comes_back_from_its_folder(tmp_path: Path):
    tokenizer = word_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for first, second in (("the soup was never tasty", None), ("the room was dirty", "but bright")):
        assert dict(loaded(first, second)) == dict(tokenizer(first, second))
    assert tokenizer("the room was dirty", "but bright")["token_type_ids"] == [0] * 6 + [1] * 3
    assert loaded.special_tokens_map == tokenizer.special_tokens_map
    assert len(loaded) == len(tokenizer)
