"""Checks that a tokenizer's ids fit the encoder's embeddings, since a misfit fails later with an index error.

Loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.models.folder import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_vocabulary(given: str, folder: Path, config: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` beginning with ``given`` if the folder's tokenizer has an id for which the encoder, by its
    parsed ``config.json``, has no embedding."""
    _check(given, num_ids(folder), num_embeddings(config))


def check_tokenizer(given: str, tokenizer: PreTrainedTokenizerBase, embeddings: int | None) -> None:
    """Raise ``ValueError`` beginning with ``given`` if a loaded tokenizer has more ids than known embeddings."""
    _check(given, max(tokenizer.get_vocab().values(), default=-1) + 1, embeddings)


def num_embeddings(config: Mapping[str, Any]) -> int | None:
    """Return the number of token embeddings in the config of an encoder or a model of this project, or None."""
    encoder = config.get("encoder", config)
    found = encoder.get("vocab_size") if isinstance(encoder, Mapping) else None
    return found if type(found) is int else None


def num_ids(folder: Path) -> int | None:
    """Return the number of ids of a folder's tokenizer, or None if its files do not tell it simply."""
    if (folder / "tokenizer.json").is_file():
        ids = _fast_ids(read_json(folder / "tokenizer.json"))
    elif (folder / "vocab.txt").is_file():
        with (folder / "vocab.txt").open("rb") as file:
            ids = range(sum(1 for _ in file))
    elif (folder / "vocab.json").is_file():
        ids = read_json(folder / "vocab.json").values()
    else:
        return None
    added = folder / "added_tokens.json"
    more = read_json(added).values() if added.is_file() else ()
    return max((number for number in [*ids, *more] if type(number) is int), default=-1) + 1


def _fast_ids(tokenizer: dict[str, Any]) -> list[Any]:
    model, added = tokenizer.get("model"), tokenizer.get("added_tokens")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    ids: list[Any] = []
    if isinstance(vocab, dict):
        ids += vocab.values()
    elif isinstance(vocab, list):  # pairs of token and score, in the order of ids
        ids += range(len(vocab))
    if isinstance(added, list):
        ids += [token.get("id") for token in added if isinstance(token, dict)]
    return ids


def _check(given: str, ids: int | None, embeddings: int | None) -> None:
    if ids is not None and embeddings is not None and ids > embeddings:
        raise ValueError(
            f"{given}: its tokenizer has {ids:,} ids, its encoder {embeddings:,} embeddings (vocab_size): they do not "
            "belong together; give a folder whose tokenizer is the encoder's own"
        )
