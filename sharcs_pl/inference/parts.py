"""A folder of parts, a routed model as graphs of another runtime, and the backend that runs them. Loads no torch.

The folder has a graph for the trunk and one for each rung's tail, the router's weights, `tokenizer.json`, the model's
`config.json` with its operating points, and `parts.json`, which holds the facts and the checksums.

Dimensions: `B` batch, `L` tokens, `T` real tokens of all samples, `D` hidden, `R` router, `W` rungs, `C` labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sharcs_pl.core.decision import stored_rule
from sharcs_pl.core.finite import read_json
from sharcs_pl.core.flops import CostModel, EncoderShape
from sharcs_pl.core.kinds import label_thresholds
from sharcs_pl.core.version import __version__
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.data.tokens import Tokens, offsets_of
from sharcs_pl.inference.batches import Backend, Batch, row_places
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.runtimes import RUNTIMES, check_runtime
from sharcs_pl.inference.served import ServedModel

PARTS = "parts.json"
FORMAT = 1  # raise it when the files or the facts change
ROUTER = "router.npz"
TRUNK = "trunk"


def part_names(num_rungs: int) -> list[str]:
    """Return the names of the graphs of a model, without their ending: the trunk's, then each rung's, narrow first."""
    return [TRUNK, *(f"tail_{rung}" for rung in range(num_rungs))]


@dataclass(frozen=True)
class PartsFacts:
    """The contents of `parts.json`. `types`: the trunk reads `token_type_ids`; `tokenizer_types`: the tokenizer makes
    them. `files`: the checksum of each file."""

    backend: str
    precision: str
    max_length: int
    labels: list[str] | None
    types: bool
    tokenizer_types: bool
    pad_id: int
    truncation_side: str
    cost: dict[str, Any]
    files: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write them into a folder of parts."""
        facts = {"format": FORMAT, "sharcs_version": __version__} | asdict(self)
        (folder / PARTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> PartsFacts:
        """Read them. Raise `ValueError` where they are of another version or a file is not the one that was written."""
        found = read_json(folder / PARTS)
        if found.pop("format", None) != FORMAT:
            raise ValueError(
                f"{folder} was written by sharcs_pl {found.get('sharcs_version')} in another format; export it again "
                f"with this one, {__version__}"
            )
        del found["sharcs_version"]
        facts = cls(**found)
        for name, digest in facts.files.items():
            if not (folder / name).is_file():
                raise ValueError(f"{folder / name} is missing; export the parts again")
            if digest_of(folder / name) != digest:
                raise ValueError(f"{folder / name} is not the file that was exported; export the parts again")
        return facts


def digest_of(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_parts(folder: Path) -> bool:
    """Return True for a folder of parts."""
    return (folder / PARTS).is_file()


def open_parts(
    folder: Path,
    *,
    max_length: int | None = None,
    point: str | None = None,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> ServedModel:
    """Load a folder of parts.

    `backend` must be the folder's, None for any. `precision` is None for the one of the folder; parts of "float32" also
    run in "bfloat16" where runtime and processor can. `threads` are those of one call, None for the runtime's choice.
    Raise `ValueError` where the folder is damaged or does not fit the options.
    """
    facts = PartsFacts.read(folder)
    precision = check_fit(folder, facts, backend, precision)
    if max_length is not None and max_length > facts.max_length:
        raise ValueError(f"max_length={max_length}: {folder} reads at most {facts.max_length} tokens")
    cost = cost_from(facts.cost)
    settings = read_json(folder / "config.json")
    num_labels = cost.shape.num_labels
    rule = stored_rule(settings, len(cost.ladder), num_labels, point)
    if rule.cascades or rule.starts is not None:
        rule.check(cost.ladder.labels(), cost.has_router, num_labels)
    length = max_length or facts.max_length
    tokenizer = TokenizerFile(folder, facts, length)
    labels = None if facts.labels is None else tuple(facts.labels)
    thresholds = label_thresholds(num_labels, settings.get("problem_type"), settings.get("label_thresholds"))
    engine = Engine(PartsBackend(folder, facts, precision, threads), rule)
    return ServedModel(engine, tokenizer, tokenizer, length, labels, cost, thresholds)


def check_fit(folder: Path, facts: PartsFacts, backend: str | None, precision: str | None) -> str:
    """Return the precision in which parts run. Raise `ValueError` where they are of another backend or precision than
    asked for, or their runtime is not here."""
    if backend not in (None, facts.backend):
        hint = "give the run itself" if backend == "torch" else f"export them with backend={backend}"
        raise ValueError(f"backend={backend}: {folder} holds parts of {facts.backend}; {hint}")
    if precision not in (None, facts.precision) and (facts.precision, precision) != ("float32", "bfloat16"):
        needed = "int8" if precision == "int8" else "float32"
        raise ValueError(
            f"precision={precision}: {folder} holds parts of {facts.precision}; it needs parts that were exported with "
            f"precision={needed}"
        )
    precision = precision or facts.precision
    check_runtime(facts.backend, precision)
    return precision


def cost_to(cost: CostModel) -> dict[str, Any]:
    """Return a cost model as plain types."""
    found = {name: getattr(cost, name) for name in cost.__dataclass_fields__}
    return found | {"shape": asdict(cost.shape), "ladder": cost.ladder.labels()}


def cost_from(found: Mapping[str, Any]) -> CostModel:
    """Return the cost model of `cost_to`."""
    ladder = WidthLadder.parse(found["ladder"])
    return CostModel(**{**found, "shape": EncoderShape(**found["shape"]), "ladder": ladder})


class PartsBackend(Backend):
    """The parts of a folder in their runtime. The router decides in float32 in every precision."""

    def __init__(self, folder: Path, facts: PartsFacts, precision: str, threads: int | None) -> None:
        self._given = (folder.absolute(), facts, precision, threads)
        self.cost = cost_from(facts.cost)
        self.num_rungs, self.num_labels = len(self.cost.ladder), self.cost.shape.num_labels
        self.has_router = self.cost.has_router
        self.types = facts.types
        kind = RUNTIMES[facts.backend]
        graphs = [folder / f"{name}{kind.suffix}" for name in part_names(self.num_rungs)]
        self._trunk, *self._tails = (kind(graph, precision, threads) for graph in graphs)
        self._router: dict[str, np.ndarray] = {}
        if self.has_router:
            with np.load(folder / ROUTER, allow_pickle=False) as weights:
                self._router = dict(weights)

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._given[0].is_dir():
            raise ValueError("parts that were exported in memory do not travel; export and open a folder of them")
        return PartsBackend, self._given  # a runtime's own objects do not travel

    def trunk(self, batch: Batch, route: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Run the trunk as `Backend.trunk` says."""
        longest = batch.input_ids.shape[1]
        rows = self._trunk(graph_inputs(batch, self.types))
        hidden = rows.reshape(-1, rows.shape[-1])
        if (batch.lengths < longest).any():
            hidden = hidden[row_places(batch.lengths, longest)]
        return hidden, self._route(hidden, batch.lengths) if route and self.has_router else None

    def tail(self, rung: int, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Run a tail as `Backend.tail` says."""
        return self._tails[rung](self.tail_inputs(hidden, lengths))

    def tail_inputs(self, hidden: np.ndarray, lengths: np.ndarray) -> dict[str, np.ndarray]:
        """Return the inputs of a tail's graph, float32 [B, L, D] and int64 [B, L], from packed tokens [T, D]."""
        longest = int(lengths.max())
        if (lengths < longest).any():
            rows = np.zeros((len(lengths) * longest, hidden.shape[-1]), hidden.dtype)
            rows[row_places(lengths, longest)] = hidden
            hidden = rows
        return {"hidden": hidden.reshape(len(lengths), longest, -1), "attention_mask": _mask(lengths, longest)}

    def read(self, logits: np.ndarray) -> np.ndarray:
        """Return logits as `Backend.read` says."""
        return logits.copy()

    def _route(self, hidden: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return router logits float32 [B, W]: the mean over real tokens, Linear, ReLU, Linear."""
        weights = self._router
        pooled = np.add.reduceat(hidden, lengths.cumsum() - lengths, axis=0) / lengths[:, None].astype(np.float32)
        inner = np.maximum(pooled @ weights["dense.weight"].T + weights["dense.bias"], 0)
        return inner @ weights["output.weight"].T + weights["output.bias"]


class TokenizerFile:
    """A `tokenizer.json` as the tokenizers library runs it, called with rows of one text or two."""

    def __init__(self, folder: Path, facts: PartsFacts, max_length: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, strategy="longest_first", direction=facts.truncation_side)
        self._types, self._pad_id = facts.tokenizer_types, facts.pad_id

    def __call__(self, rows: Sequence[tuple[str, ...]]) -> Tokens:
        """Return the token ids of texts, cut at `max_length`."""
        encoded = self._tokenizer.encode_batch([row[0] if len(row) == 1 else row for row in rows])
        ids = np.array([number for each in encoded for number in each.ids], np.int32)
        types = np.array([number for each in encoded for number in each.type_ids], np.uint8) if self._types else None
        lengths = np.array([len(each.ids) for each in encoded], np.int64)
        return Tokens(ids, types, offsets_of(lengths), self._pad_id)


def graph_inputs(batch: Batch, types: bool) -> dict[str, np.ndarray]:
    """Return a batch as the inputs of a graph, int64 [B, L] each, with `token_type_ids` where it reads `types`."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": _mask(batch.lengths, batch.input_ids.shape[1])}
    if types:
        given = batch.token_type_ids
        inputs["token_type_ids"] = np.zeros_like(batch.input_ids) if given is None else given
    return inputs


def _mask(lengths: np.ndarray, longest: int) -> np.ndarray:
    return (np.arange(longest) < lengths[:, None]).astype(np.int64)
