"""The contenders of a benchmark in other runtimes: the dense model as one graph, and the routed one in parts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

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
    check_exporter,
    convert,
    write_graphs,
    write_parts,
)
from sharcs_pl.inference.graph import input_names
from sharcs_pl.inference.parts import PartsBackend, PartsFacts, graph_inputs
from sharcs_pl.inference.runtimes import RUNTIMES, Graph, check_runtime
from sharcs_pl.models.routed import SharcsForSequenceClassification


@dataclass(frozen=True)
class Runtime:
    """A model in a runtime and a precision: `dense`, the stock model as one graph, and `engine`, the routed one."""

    name: str
    dense: Graph
    engine: Engine
    typed: bool

    def call(self, batch: Batch) -> np.ndarray:
        """Return the logits [B, C] of the dense model."""
        return self.dense(graph_inputs(batch, self.typed)).copy()


@contextmanager
def runtimes(
    config: BenchConfig, model: SharcsForSequenceClassification, stock: PreTrainedModel, texts: Tokens
) -> Iterator[list[Runtime]]:
    """Yield the models in every runtime and precision that is asked for; `texts` calibrate int8."""
    asked = [(backend, precision) for backend in config.backends for precision in config.precisions]
    for backend, precision in asked:
        check_runtime(backend, precision)
    if not asked:
        yield []
        return
    check_exporter()
    if "int8" in config.precisions and "openvino" in config.backends and find_spec("nncf") is None:
        raise ValueError("precisions=[int8] in openvino needs nncf: pip install 'sharcs-pl[openvino]'")
    with tempfile.TemporaryDirectory() as place:
        graphs = Path(place, "graphs")
        graphs.mkdir()
        write_graphs(model, graphs)
        alone = SharcsForSequenceClassification.from_encoder(stock, widths=[1], split_layer=1, router_hidden_size=0)
        export_onnx(as_exported(alone), graphs / "dense.onnx", rung=0)
        yield [_runtime(config, model, graphs, texts, backend, precision) for backend, precision in asked]


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
    return Runtime(f"{backend} {precision}", graph, engine, typed)
