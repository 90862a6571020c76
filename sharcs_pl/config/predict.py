"""The keys of ``sharcs predict``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sharcs_pl.config.checks import check_text_files, in_range, one_of
from sharcs_pl.config.texts import PATH, PATH_OR_PATHS, TEXT, TEXTS

PIPE = "-"


@dataclass
class PredictConfig:
    """Predict the texts of a file, of many files or of a pipe with a trained model."""

    run: str = field(default=MISSING, metadata=PATH)
    """Run directory, checkpoint, saved model folder, or the id of a model on the Hugging Face hub."""
    input: Any = field(default=MISSING, metadata=PATH_OR_PATHS)
    """File of the texts (.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .xlsx, or .txt with a text per line; text files
    also with .gz, .bz2, .xz or .zst); ``-``: stdin. Many files: a folder, a glob such as ``'data/*.csv'``, or a list of
    them."""
    output: str = field(default=MISSING, metadata=PATH)
    """File for the predictions (.jsonl, .csv, .tsv, also with .gz, .bz2, .xz or .zst, or .parquet), written atomically;
    ``-``: stdout, as JSONL. Of many files: the folder for one output per file, by the same name."""
    output_format: str | None = field(default=None, metadata=TEXT)
    """Many files: format of the outputs, such as ``parquet`` or ``jsonl.gz``; null: that of each input, and JSONL where
    it is no format of outputs."""
    shard: str | None = field(default=None, metadata=TEXT)
    """Many files: the part of them to predict, ``3/8`` for the third of eight; the files are dealt out in the order of
    their names. null: all."""
    format: str = "jsonl"
    """Format of stdin: ``jsonl``, ``csv``, ``tsv`` or ``txt``."""
    text: Any = field(default=None, metadata=TEXTS)
    """Text column, or a list of two; null: as in the run."""
    keep: Any = field(default=None, metadata=TEXTS)
    """Column or list of columns of the input to copy to the output; ``input_`` is put before the name of an output
    column."""
    quoting: str | None = None
    """CSV and TSV: ``standard`` quotes, or ``none``, where a quote is a plain character; null: as in the run."""
    delimiter: str | None = field(default=None, metadata=TEXT)
    """CSV and TSV: delimiter, ``comma``, ``semicolon``, ``tab``, ``pipe`` or a character; null finds it in the
    header."""
    encoding: str | None = field(default=None, metadata=TEXT)
    """Encoding of a text file without a byte-order mark, such as ``cp1252`` or ``latin-1``; null: UTF-8."""
    explain: bool = False
    """Add the router's score of every rung."""
    point: str | None = field(default=None, metadata=TEXT)
    """Operating point that routes; ``trained`` is the rule of training; null: the model's default point."""
    mode: str = "stream"
    """``stream`` fills a group per rung across batches; ``batch`` finishes each batch, sorted by length."""
    batch_size: int = 32
    """Texts per batch."""
    max_wait_ms: float | None = None
    """Longest time that a text waits for its batch to fill (``stream`` only); null: no limit."""
    max_length: int | None = None
    """Longest input in tokens, longer ones are truncated; null: as in training."""
    backend: str | None = None
    """Runtime: ``torch``, ``openvino`` or ``onnxruntime``; null: torch, or the one of a folder of parts."""
    precision: str | None = None
    """``float32`` or ``bfloat16``, and of a folder of parts also ``int8``; null: float32, or the one of the parts."""
    compile: bool = False
    """Compile trunk and rungs first, which takes minutes and pays off for long inputs."""
    on_error: str = "fatal"
    """``fatal``: a row that cannot be read, or whose prediction is NaN or infinite, ends the command; a file is checked
    first. ``skip``: such rows are collected in ``<output>.rejected.jsonl``."""
    resume: bool = False
    """Continue an interrupted run of the same command; many files are always continued."""
    overwrite: bool = False
    """Replace an existing output; of many files those of another model or of other options."""
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``auto``."""

    def __post_init__(self) -> None:
        one_of("format", self.format, ("jsonl", "csv", "tsv", "txt"))
        one_of("mode", self.mode, ("batch", "stream"))
        one_of("backend", self.backend, ("torch", "openvino", "onnxruntime"))
        one_of("precision", self.precision, ("float32", "bfloat16", "int8"))
        one_of("on_error", self.on_error, ("fatal", "skip"))
        one_of("device", self.device, ("cpu", "cuda", "auto"))
        check_text_files("", self)
        in_range("batch_size", self.batch_size, 1)
        in_range("max_length", self.max_length, 4, 65536)
        self._check_wait()
        self._check_resume()
        self._check_input()
        _ = self.part
        for key in ("text", "keep"):
            _check_names(key, getattr(self, key))

    @property
    def skips(self) -> bool:
        """Whether rows that cannot be answered are left out."""
        return self.on_error == "skip"

    @property
    def kept_columns(self) -> tuple[str, ...]:
        """The input columns that are copied to the output."""
        return () if self.keep is None else _names(self.keep)

    @property
    def part(self) -> tuple[int, int]:
        """The number of the part of many files, from 1, and the number of parts."""
        if self.shard is None:
            return 1, 1
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", self.shard)
        number, parts = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= parts:
            raise ValueError(f"shard={self.shard} is no part; give i/n with i from 1 to n, such as shard=3/8")
        return number, parts

    def _check_input(self) -> None:
        listed = self.input if isinstance(self.input, list) else [self.input]
        if not listed or not all(isinstance(value, str) and value for value in listed):
            raise ValueError(f"input={self.input} must name a file, a folder or a glob, or be a list of them")
        if PIPE in listed and isinstance(self.input, list):
            raise ValueError(f"input={self.input}: {PIPE} is a pipe, which stands alone")

    def _check_wait(self) -> None:
        if self.max_wait_ms is None:
            return
        in_range("max_wait_ms", self.max_wait_ms, 0)
        if self.mode != "stream":
            raise ValueError(
                f"max_wait_ms={self.max_wait_ms:g} is for mode=stream; mode={self.mode} waits for all texts"
            )

    def _check_resume(self) -> None:
        for key in ("input", "output"):
            if self.resume and getattr(self, key) == PIPE:
                raise ValueError(f"resume=true needs files to go on with, {key}=- is a pipe; give a file")


def _names(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _check_names(key: str, value: Any) -> None:
    if value is None:
        return
    names = _names(value)
    if not names or not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f"{key}={value} must name a column, or several different ones: {key}=[question,answer]")
    if key == "text" and len(names) > 2:
        raise ValueError(f"text={value} names {len(names)} columns; a model reads one text, or a pair")
