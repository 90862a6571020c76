from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data import table as table_module
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.data.table import TokenTable, _cached, cache_key, tokenize
from sharcs_pl.data.tasks import Examples


def pairs(size: int = 6, labels: np.ndarray | None = None, difficulty: bool = True) -> Examples:
    words = ["good", "bad", "soup", "room", "was", "never"]
    texts = [(" ".join(words[: 1 + i % 6]), " ".join(words[i % 5 :])) for i in range(size)]
    planted = (np.arange(size) % 4).astype(np.int8) if difficulty else None
    return Examples(texts, np.arange(size) % 2 if labels is None else labels, planted)


def same(a: TokenTable, b: TokenTable) -> bool:
    ours, theirs = a._arrays(), b._arrays()
    return ours.keys() == theirs.keys() and all(
        ours[name].dtype == theirs[name].dtype and np.array_equal(ours[name], theirs[name]) for name in ours
    )


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer()


def test_tokens_are_those_of_the_tokenizer(tokenizer: PreTrainedTokenizerFast):
    examples = pairs()
    table = tokenize(examples, tokenizer, 64)
    assert len(table) == 6
    for i, (first, second) in enumerate(examples.texts):
        expected = tokenizer(first, second)
        span = slice(table.offsets[i], table.offsets[i + 1])
        assert table.input_ids[span].tolist() == expected["input_ids"]
        assert table.token_type_ids is not None
        assert table.token_type_ids[span].tolist() == expected["token_type_ids"]
    assert table.lengths.tolist() == [len(tokenizer(a, b)["input_ids"]) for a, b in examples.texts]


def test_tokenising_goes_on_over_the_end_of_a_chunk(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
):
    whole = tokenize(pairs(11), tokenizer, 64)
    monkeypatch.setattr(table_module, "_CHUNK", 4)
    assert same(tokenize(pairs(11), tokenizer, 64), whole)


def test_the_longest_text_is_cut_first(tokenizer: PreTrainedTokenizerFast):
    examples = Examples([("good " * 20, "bad soup")], np.array([1]))
    table = tokenize(examples, tokenizer, 10)
    assert table.lengths.tolist() == [10]
    assert tokenizer.convert_ids_to_tokens(table.input_ids.tolist()) == [
        "[CLS]",
        *["good"] * 5,
        "[SEP]",
        "bad",
        "soup",
        "[SEP]",
    ]


def test_a_tokenizer_without_segments_gives_none():
    tokenizer = word_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    table = tokenize(pairs(), tokenizer, 64)
    assert table.token_type_ids is None
    assert set(table.collate([0, 1])) == {"input_ids", "attention_mask", "labels"}


@given(indices=st.lists(st.integers(0, 5), max_size=8))
@settings(max_examples=30, deadline=None)
def test_collate_pads_to_the_longest_and_masks_the_padding(indices: list[int]):
    table = tokenize(pairs(), word_tokenizer(), 64)
    batch = table.collate(indices)
    assert table.token_type_ids is not None
    longest = max((int(table.lengths[i]) for i in indices), default=1)
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(indices), longest)
    for row, i in enumerate(indices):
        real, span = int(table.lengths[i]), slice(table.offsets[i], table.offsets[i + 1])
        assert batch["attention_mask"][row].tolist() == [1] * real + [0] * (longest - real)
        assert batch["input_ids"][row].tolist() == [*table.input_ids[span], *[table.pad_id] * (longest - real)]
        assert batch["token_type_ids"][row].tolist() == [*table.token_type_ids[span], *[0] * (longest - real)]
    assert batch["labels"].tolist() == [i % 2 for i in indices]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_padding_is_the_tokenizers_own():
    tokenizer = word_tokenizer()
    tokenizer.pad_token = "[MASK]"
    batch = tokenize(pairs(), tokenizer, 64).collate([0, 5])
    padded = batch["input_ids"][batch["attention_mask"] == 0]
    assert len(padded) > 0
    assert set(padded.tolist()) == {tokenizer.vocab["[MASK]"]}


def test_scores_stay_float32(tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    examples = pairs(labels=np.linspace(0, 5, 6, dtype=np.float32))
    table = tokenize(examples, tokenizer, 64, tmp_path)
    batch = table.collate([1, 5])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [1.0, 5.0]


@given(indices=st.lists(st.integers(0, 5), max_size=8))
@settings(max_examples=30, deadline=None)
def test_a_subset_holds_the_chosen_rows(indices: list[int]):
    table = tokenize(pairs(), word_tokenizer(), 64)
    part = table.subset(indices)
    assert len(part) == len(indices)
    chosen, whole = part.collate(range(len(indices))), table.collate(indices)
    assert all(torch.equal(chosen[name], whole[name]) for name in whole)
    assert part.difficulty is not None
    assert part.difficulty.tolist() == [i % 4 for i in indices]


@pytest.mark.parametrize("size", [0, 6])
@pytest.mark.parametrize("difficulty", [False, True])
def test_a_saved_table_comes_back_mapped(
    size: int, difficulty: bool, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
):
    table = tokenize(pairs(size, difficulty=difficulty), tokenizer, 64)
    table.save(tmp_path / "new" / "a.arrow")
    loaded = TokenTable.load(tmp_path / "new" / "a.arrow")
    assert same(loaded, table)
    assert loaded.pad_id == table.pad_id
    assert not size or not loaded.input_ids.flags.owndata
    assert os.listdir(tmp_path / "new") == ["a.arrow"]


def test_a_loaded_table_takes_no_memory_of_its_own(tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    path = tmp_path / "a.arrow"
    tokenize(pairs(5000), tokenizer, 64).save(path)
    before = pa.total_allocated_bytes()
    table = TokenTable.load(path)
    assert len(table) == 5000
    assert pa.total_allocated_bytes() - before < path.stat().st_size / 10


def test_a_save_that_fails_leaves_the_old_file(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.arrow"
    old = tokenize(pairs(3), tokenizer, 64)
    old.save(path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        tokenize(pairs(6), tokenizer, 64).save(path)
    assert os.listdir(tmp_path) == ["a.arrow"]
    assert same(TokenTable.load(path), old)


def test_a_second_run_maps_the_first_ones_table(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = tokenize(pairs(), tokenizer, 64, tmp_path)
    monkeypatch.setattr(table_module, "_build", lambda *_: pytest.fail("tokenised again"))
    second = tokenize(pairs(), tokenizer, 64, tmp_path)
    assert same(first, second)
    assert len(os.listdir(tmp_path)) == 1


def other_backend() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["extra"])
    return tokenizer


def other_inputs() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer()
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    return tokenizer


def other_side() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer()
    tokenizer.truncation_side = "left"
    return tokenizer


def other_padding() -> PreTrainedTokenizerFast:
    tokenizer = word_tokenizer()
    tokenizer.pad_token = "[MASK]"
    return tokenizer


BASE = pairs()
CHANGES: dict[str, Callable[[], str]] = {
    "one text": lambda: key(Examples([*BASE.texts[:-1], ("good", "soup")], BASE.labels, BASE.difficulty)),
    "where a text ends": lambda: key(Examples([("ab", "c")], np.array([1]))),
    "the other end": lambda: key(Examples([("a", "bc")], np.array([1]))),
    "one text, not two": lambda: key(Examples([("abc",)], np.array([1]))),
    "order": lambda: key(Examples(BASE.texts[::-1], BASE.labels, BASE.difficulty)),
    "a label": lambda: key(pairs(labels=np.array([0, 1, 0, 1, 0, 0]))),
    "labels' type": lambda: key(pairs(labels=(np.arange(6) % 2).astype(np.float32))),
    "zeros": lambda: key(pairs(labels=np.zeros(6, np.int64))),
    "zeros of another type": lambda: key(pairs(labels=np.zeros(6, np.float64))),
    "no difficulty": lambda: key(pairs(difficulty=False)),
    "max_length": lambda: key(max_length=63),
    "key_parts": lambda: key(key_parts=("more",)),
    "vocabulary": lambda: key(tokenizer=other_backend()),
    "segments": lambda: key(tokenizer=other_inputs()),
    "truncation side": lambda: key(tokenizer=other_side()),
    "padding token": lambda: key(tokenizer=other_padding()),
}


def key(
    examples: Examples = BASE,
    tokenizer: PreTrainedTokenizerFast | None = None,
    max_length: int = 64,
    key_parts: tuple[str, ...] = (),
) -> str:
    return cache_key(examples, tokenizer or word_tokenizer(), max_length, key_parts)


def test_every_input_changes_the_key():
    keys = {name: change() for name, change in CHANGES.items()} | {"none": key()}
    assert len(set(keys.values())) == len(keys), keys


def test_the_format_changes_the_key(monkeypatch: pytest.MonkeyPatch):
    before = key()
    monkeypatch.setattr(table_module, "FORMAT", 999)
    assert key() != before


def test_using_a_tokenizer_does_not_change_the_key():
    tokenizer = word_tokenizer()
    before = cache_key(BASE, tokenizer, 64)
    tokenizer(["good soup", "bad"], padding=True, truncation=True, max_length=3)
    assert cache_key(BASE, tokenizer, 64) == before


def test_a_table_of_another_format_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.arrow"
    tokenize(pairs(), tokenizer, 64).save(path)
    monkeypatch.setattr(table_module, "FORMAT", 999)
    with pytest.raises(ValueError, match="format 999"):
        TokenTable.load(path)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "footer": lambda data: data[:-12] + b"\0" * 12,
    "no arrow": lambda data: b"good soup" * 50,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_file_is_rebuilt(damage: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    whole = tokenize(pairs(), tokenizer, 64)
    tokenize(pairs(), tokenizer, 64, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.warns(DataWarning, match=path.name):
        assert same(tokenize(pairs(), tokenizer, 64, tmp_path), whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(tokenize(pairs(), tokenizer, 64, tmp_path), whole)


@pytest.mark.filterwarnings("ignore::sharcs_pl.core.errors.DataWarning")
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
@settings(max_examples=200, deadline=None)
def test_a_flipped_byte_is_never_taken_for_data(where: float, flip: int, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.getbasetemp() / "flip.arrow"
    table = tokenize(pairs(), word_tokenizer(), 64)
    table.save(path)
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= flip
    path.write_bytes(data)
    loaded = _cached(path)
    assert loaded is None or (same(loaded, table) and loaded.pad_id == table.pad_id)  # same: the byte was padding


def test_a_length_without_room_for_text_names_its_key(tokenizer: PreTrainedTokenizerFast):
    with pytest.raises(ValueError, match=r"task\.max_length=4 .* is 5"):
        tokenize(pairs(), tokenizer, 4)
    assert tokenize(pairs(), tokenizer, 5).lengths.max() == 5


def test_a_tokenizer_that_cannot_pad_is_refused():
    tokenizer = word_tokenizer()
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match=r"encoder\.pretrained"):
        tokenize(pairs(), tokenizer, 64)


@pytest.mark.parametrize("fault", ["a file in its place", "read-only", "full"])
def test_a_cache_that_cannot_be_written_is_told_once_and_the_table_stays_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    cache = tmp_path / "cache"
    if fault == "a file in its place":
        cache.write_text("")
    elif fault == "read-only":
        monkeypatch.setattr(Path, "mkdir", _denied)  # root may write anywhere
    else:
        monkeypatch.setattr(os, "replace", _full)
    examples, tokenizer = pairs(), word_tokenizer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        tables = [tokenize(each, tokenizer, 64, cache) for each in (examples, pairs(7))]
    assert len(caught) == 1
    assert issubclass(caught[0].category, DataWarning)
    assert "SHARCS_CACHE" in str(caught[0].message)
    assert str(cache) in str(caught[0].message)
    assert same(tables[0], tokenize(examples, tokenizer, 64))
    assert not list(tmp_path.rglob("*.arrow*"))


def _denied(*args: object, **options: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def _full(*args: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
