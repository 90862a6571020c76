"""The contenders of a benchmark in other runtimes: the dense model as one graph, and the routed one in parts."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from sharcs_pl.analysis.benchmark.variants import tensors_of
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.data.tokens import Tokens
from sharcs_pl.inference.batches import Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.export import export_onnx
from sharcs_pl.inference.export_parts import (
    CALIBRATION_BATCH,
    as_exported,
    batches_of,
    convert,
    write_graphs,
    write_parts,
)
from sharcs_pl.inference.graph import input_names
from sharcs_pl.inference.parts import PartsBackend, PartsFacts, graph_inputs
from sharcs_pl.inference.runtimes import RUNTIMES, TORCH, runtime_pairs
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.models.pretrained import cast
from sharcs_pl.models.routed import SharcsForSequenceClassification


@dataclass(frozen=True)
class Runtime:
    """A model in a runtime and a precision: `call`, from a batch to the stock model's logits [B, C], and `engine`, the
    routed one."""

    name: str
    call: Callable[[Batch], Any]
    engine: Engine


@contextmanager
def runtimes(
    config: BenchConfig, model: SharcsForSequenceClassification, stock: PreTrainedModel, texts: Tokens
) -> Iterator[list[Runtime]]:
    """Yield the models in every runtime and precision that is asked for; `texts` calibrate int8."""
    asked = runtime_pairs(config.backends, config.precisions)
    own = [_torch(model, stock) for backend, _ in asked if backend == TORCH]
    asked = [(backend, precision) for backend, precision in asked if backend != TORCH]
    if not asked:
        yield own
        return
    with tempfile.TemporaryDirectory() as place:
        graphs = Path(place, "graphs")
        graphs.mkdir()
        write_graphs(model, graphs)
        alone = SharcsForSequenceClassification.from_encoder(stock, widths=[1], split_layer=1, router_hidden_size=0)
        export_onnx(as_exported(alone), graphs / "dense.onnx", rung=0)
        yield own + [_runtime(config, model, graphs, texts, backend, precision) for backend, precision in asked]


def _torch(model: SharcsForSequenceClassification, stock: PreTrainedModel) -> Runtime:
    """Return the models in torch, in bfloat16."""
    dense = cast(copy.deepcopy(stock), torch.bfloat16).eval()
    engine = torch_engine(model, precision="bfloat16", pack_above=1.0)  # padded, as its dense model is
    return Runtime(f"{TORCH} bfloat16", lambda batch: dense(**tensors_of(batch)).logits.float(), engine)


def _runtime(
    config: BenchConfig,
    model: SharcsForSequenceClassification,
    graphs: Path,
    texts: Tokens,
    backend: str,
    precision: str,
) -> Runtime:
    kind, folder = RUNTIMES[backend], graphs.parent / f"{backend}-{precision}"
    folder.mkdir()
    ranges = texts if precision == "int8" else None
    write_parts(model, word_tokenizer(), graphs, folder, backend, int(texts.lengths.max()), ranges)
    typed, dense = "token_type_ids" in input_names(model, 0), folder / f"dense{kind.suffix}"
    steps = [graph_inputs(batch, typed) for batch in batches_of(texts, CALIBRATION_BATCH)] if ranges else None
    convert(backend, graphs / "dense.onnx", dense, steps)
    parts = PartsBackend(folder, PartsFacts.read(folder), precision, config.threads)
    graph, engine = kind(dense, precision, config.threads), Engine(parts, model.config.decision())
    return Runtime(f"{backend} {precision}", lambda batch: graph(graph_inputs(batch, typed)).copy(), engine)
