"""The table of tokenised samples in Arrow IPC, memory-mapped, and cached by a hash of all inputs.

Dimensions: `B` batch, `L` tokens of the longest sample of a batch, `S` samples, `T` tokens of the whole table.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.files import atomic_file
from sharcs_pl.data.tasks import Examples
from sharcs_pl.data.tokens import Tokens, offsets_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FORMAT = 1  # part of the cache key; raise it when the layout of the file or the tokenisation changes
_META = b"sharcs_pl.table"
_CHUNK = 4096  # texts per tokenizer call, enough for its threads and few enough as Python lists


@dataclass(frozen=True, eq=False)
class TokenTable(Tokens):
    """The tokenised samples of a split. A sample's uid is its position.

    `labels`: [S] int64, or float32 for regression; [S, C] float32 of 0 and 1 for several labels. `difficulty`: int8
    [S], None if unknown. The other fields are those of `Tokens`.
    """

    labels: np.ndarray
    difficulty: np.ndarray | None

    def collate(self, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Return samples as a batch of tensors: those of `padded`, and `labels` [B] long or float32, or [B, C]."""
        arrays = self.padded(indices) | {"labels": self.labels[np.asarray(indices, dtype=np.int64)]}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def subset(self, indices: Sequence[int] | np.ndarray) -> TokenTable:
        """Return a table of the chosen samples in the given order, in memory. Their uids are their new positions."""
        index = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[index]
        offsets = offsets_of(lengths)
        where = np.repeat(self.offsets[index] - offsets[:-1], lengths) + np.arange(offsets[-1])
        types = None if self.token_type_ids is None else self.token_type_ids[where]
        difficulty = None if self.difficulty is None else self.difficulty[index]
        return TokenTable(self.input_ids[where], types, offsets, self.pad_id, self.labels[index], difficulty)

    def save(self, path: str | Path) -> None:
        """Write the table as an Arrow IPC file, atomically."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        batch = self._to_arrow()
        with (
            atomic_file(path, f".{uuid.uuid4().hex}.part") as part,
            pa.OSFile(str(part), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema) as writer,
        ):
            writer.write_batch(batch)

    @classmethod
    def load(cls, path: str | Path) -> TokenTable:
        """Map a saved table into memory. Raise `ValueError` if the file is damaged or of another format."""
        with pa.memory_map(str(path)) as source:
            try:
                table = pa.ipc.open_file(source).read_all()
                table.validate()  # checks the lengths of buffers; the checksum covers the rest
                return cls._from_arrow(table)
            except (pa.ArrowException, ValueError, KeyError, IndexError, OSError) as error:
                raise ValueError(f"{path} is not a whole table of format {FORMAT}: {error}") from error

    def _arrays(self) -> dict[str, np.ndarray]:
        optional = {"token_type_ids": self.token_type_ids, "difficulty": self.difficulty}
        required = {"input_ids": self.input_ids, "offsets": self.offsets, "label": self.labels}
        return required | {name: array for name, array in optional.items() if array is not None}

    def _checksum(self) -> int:
        value = zlib.crc32(str(self.pad_id).encode())
        for name, array in sorted(self._arrays().items()):
            value = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(name.encode(), value))
        return value

    def _to_arrow(self) -> pa.RecordBatch:
        arrays = self._arrays()
        offsets = pa.array(arrays.pop("offsets"))
        columns = {
            name: pa.LargeListArray.from_arrays(offsets, pa.array(array)) if name.endswith("_ids") else _column(array)
            for name, array in arrays.items()
        }
        meta = {"format": FORMAT, "pad_id": self.pad_id, "checksum": self._checksum()}
        return pa.RecordBatch.from_pydict(columns).replace_schema_metadata({_META: json.dumps(meta).encode()})

    @classmethod
    def _from_arrow(cls, arrow: pa.Table) -> TokenTable:
        meta = json.loads((arrow.schema.metadata or {})[_META])
        if meta["format"] != FORMAT:
            raise ValueError(f"its format is {meta['format']}")
        columns = {name: arrow.column(name).chunk(0) for name in arrow.column_names}
        flat = {name: _flat(column) for name, column in columns.items()}
        offsets = columns["input_ids"].offsets.to_numpy()
        types, difficulty = flat.get("token_type_ids"), flat.get("difficulty")
        table = cls(flat["input_ids"], types, offsets, meta["pad_id"], flat["label"], difficulty)
        if table._checksum() != meta["checksum"]:
            raise ValueError("its contents do not match its checksum")
        return table


def tokenize(
    examples: Examples,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    cache_dir: str | Path | None = None,
    key_parts: Sequence[str] = (),
) -> TokenTable:
    """Tokenise a split, or map the cached table of an earlier run with equal inputs from `cache_dir`.

    Texts longer than `max_length` tokens lose tokens from their longest part (`longest_first`). A damaged cache file is
    rebuilt with a `DataWarning`. If none can be written, the table stays in memory, also with a `DataWarning`.
    `key_parts` are further strings of the cache key. Raise `ValueError` naming `task.max_length` or
    `encoder.pretrained` if the tokenizer is unsuitable.
    """
    _check(examples, tokenizer, max_length)
    if cache_dir is None:
        return _build(examples, tokenizer, max_length)
    path = Path(cache_dir) / f"{cache_key(examples, tokenizer, max_length, key_parts)}.arrow"
    table = _cached(path)
    if table is not None:
        return table
    built = _build(examples, tokenizer, max_length)
    try:
        built.save(path)
    except OSError as error:
        _warn_of_cache(path.parent, error)
        return built
    return TokenTable.load(path)


def cache_key(
    examples: Examples, tokenizer: PreTrainedTokenizerFast, max_length: int, key_parts: Sequence[str] = ()
) -> str:
    """Return a hash of everything that a table depends on, as a file name."""
    parts = [str(FORMAT), str(max_length), _digest_tokenizer(tokenizer), _digest_examples(examples), *key_parts]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _digest_examples(examples: Examples) -> str:
    digest = hashlib.sha256()
    for texts in examples.texts:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        digest.update(str([len(text) for text in encoded]).encode())
        digest.update(b"".join(encoded))
    for array in (examples.labels, examples.difficulty):
        digest.update(b"none" if array is None else array.dtype.str.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _digest_tokenizer(tokenizer: PreTrainedTokenizerFast) -> str:
    import tokenizers

    # The backend keeps the truncation and padding of its last call, which are not properties of the tokenizer.
    backend = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    settings = [_uses_types(tokenizer), tokenizer.truncation_side, tokenizer.pad_token_id, tokenizers.__version__]
    return hashlib.sha256(json.dumps([backend, settings], sort_keys=True).encode()).hexdigest()


def _check(examples: Examples, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(f"encoder.pretrained: {type(tokenizer).__name__} is not a fast tokenizer; one is needed")
    if tokenizer.pad_token_id is None:
        raise ValueError("encoder.pretrained: its tokenizer has no padding token, batches cannot be made")
    pair = len(examples.texts) > 0 and len(examples.texts[0]) == 2
    least = tokenizer.num_special_tokens_to_add(pair) + 1 + pair
    if max_length < least:
        raise ValueError(f"task.max_length={max_length} leaves no room for text; the least for this task is {least}")


def _warn_of_cache(folder: Path, error: OSError) -> None:
    # The message is equal for each split, so that Python shows it once.
    reason = error.strerror or error
    warnings.warn(
        f"{folder}: tokenised texts cannot be kept there ({reason}) and stay in memory; SHARCS_CACHE=<folder> in the "
        "environment chooses another place",
        DataWarning,
        stacklevel=3,
    )


def _cached(path: Path) -> TokenTable | None:
    try:
        return TokenTable.load(path) if path.exists() else None
    except PermissionError:
        return None  # the failure to write it gives a warning later
    except ValueError as error:
        warnings.warn(f"the cached table is built again: {error}", DataWarning, stacklevel=3)
        return None


def _build(examples: Examples, tokenizer: PreTrainedTokenizerFast, max_length: int) -> TokenTable:
    chunks = [
        _encode(examples.texts[start : start + _CHUNK], tokenizer, max_length)
        for start in range(0, len(examples.texts), _CHUNK)
    ] or [(np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.int64))]
    ids, types, lengths = (np.concatenate(arrays) for arrays in zip(*chunks, strict=True))
    labels = examples.labels.astype(np.float32 if examples.labels.dtype.kind == "f" else np.int64)
    difficulty = None if examples.difficulty is None else examples.difficulty.astype(np.int8)
    pad_id = tokenizer.pad_token_id
    assert isinstance(pad_id, int)
    return TokenTable(ids, types if _uses_types(tokenizer) else None, offsets_of(lengths), pad_id, labels, difficulty)


def _encode(
    texts: list[tuple[str, ...]], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the token ids int32 and segment ids uint8 of texts, both flat, and their lengths int64."""
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(
        columns[0],
        columns[1] if len(columns) > 1 else None,
        truncation="longest_first",
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=_uses_types(tokenizer),
    )
    ids: list[list[int]] = encoded["input_ids"]  # pyright: ignore[reportAssignmentType]
    types: list[list[int]] = encoded.get("token_type_ids", [])  # pyright: ignore[reportAssignmentType]
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    return _concatenate(ids, np.int32), _concatenate(types, np.uint8), lengths


def _uses_types(tokenizer: PreTrainedTokenizerFast) -> bool:
    return "token_type_ids" in tokenizer.model_input_names


def _concatenate(rows: list[list[int]], dtype: type[np.integer]) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype)


def _column(array: np.ndarray) -> pa.Array:
    """Return an array [S] or [S, C] as a column."""
    if array.ndim == 1:
        return pa.array(array)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])


def _flat(column: pa.Array) -> np.ndarray:
    if isinstance(column, pa.FixedSizeListArray):
        return column.flatten().to_numpy().reshape(len(column), -1)
    return (column.values if isinstance(column, pa.LargeListArray) else column).to_numpy()
