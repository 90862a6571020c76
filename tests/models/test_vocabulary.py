from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.models.vocabulary import check_tokenizer, check_vocabulary, num_embeddings, num_ids

WORDS = [f"w{number}" for number in range(7)]
PLACES = {word: number for number, word in enumerate(WORDS)}
TOKENIZERS: dict[str, dict[str, Any]] = {
    "words": {"tokenizer.json": {"model": {"vocab": PLACES}}},
    "scores": {"tokenizer.json": {"model": {"vocab": [[word, 0.5] for word in WORDS]}}},
    "added": {"tokenizer.json": {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 6, "content": "<new>"}]}},
    "gaps": {"tokenizer.json": {"model": {"vocab": {"a": 0, "b": 6}}}},
    "lines": {"vocab.txt": "\n".join(WORDS)},
    "old words": {"vocab.json": PLACES},
    "old and added": {"vocab.json": {"a": 0}, "added_tokens.json": {"<new>": 6}},
}


def write(folder: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_counted_to_the_largest(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, TOKENIZERS[name])
    assert num_ids(folder) == 7
    check_vocabulary("k", folder, {"vocab_size": 7})
    check_vocabulary("k", folder, {"encoder": {"vocab_size": 8}})
    check_vocabulary("k", folder, {})
    message = r"^encoder\.pretrained=x: its tokenizer has 7 ids, its encoder 6 embeddings"
    for config in ({"vocab_size": 6}, {"encoder": {"vocab_size": 6}}):
        with pytest.raises(ValueError, match=message):
            check_vocabulary("encoder.pretrained=x", folder, config)


@pytest.mark.parametrize(
    "content", [{}, {"model": {}}, {"model": 1, "added_tokens": {}}, {"model": {"vocab": {"a": "b"}}}]
)
def test_a_file_that_does_not_tell_is_no_reason_to_refuse(content: dict[str, Any], tmp_path: Path) -> None:
    check_vocabulary("k", write(tmp_path, {"tokenizer.json": content}), {"vocab_size": 1})
    (tmp_path / "tokenizer.json").unlink()
    assert num_ids(tmp_path) is None
    assert num_embeddings({"encoder": "x"}) is None
    assert num_embeddings({"vocab_size": "many"}) is None


def test_both_ways_of_counting_agree(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(tmp_path)
    size = num_ids(tmp_path)
    assert size is not None
    assert size == len(tokenizer)
    checks: list[Callable[[int], None]] = [
        lambda rows: check_vocabulary("k", tmp_path, {"vocab_size": rows}),
        lambda rows: check_tokenizer("k", AutoTokenizer.from_pretrained(tmp_path), rows),
    ]
    for check in checks:
        check(size)
        with pytest.raises(ValueError, match=f"^k: its tokenizer has {size} ids, its encoder {size - 1} embeddings"):
            check(size - 1)
