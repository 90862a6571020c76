"""Export of a trained model as one graph, in a file or in a folder as the hub lays ONNX models out."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sharcs_pl.config.export import ExportConfig
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.files import write_text
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.version import __version__
from sharcs_pl.inference.batches import Answers, Batch
from sharcs_pl.inference.export import Exported, export_onnx, export_torch, file_bytes, whole_files
from sharcs_pl.inference.graph import tail_weights
from sharcs_pl.inference.graph_answers import graph_answers
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.saved import as_stock
from sharcs_pl.pipeline.build import build_table
from sharcs_pl.pipeline.gate import Gate, QuantizationTexts
from sharcs_pl.runs.card import CARD, card
from sharcs_pl.runs.card_contents import METRICS, Contents
from sharcs_pl.runs.files import EXPORTED
from sharcs_pl.runs.outputs import atomic_output

GRAPH = Path("onnx", "model.onnx")  # of ``format=hub``
INT8_GRAPH = Path("onnx", "model_quantized.onnx")  # what transformers.js calls q8
_REMEDY = "leave the layers before the router in float32 with quantize.skip=[trunk], or use precision=float32"


def export_graph(
    config: ExportConfig, source: TrainedModel, path: Path, rung: int | None, texts: QuantizationTexts | None
) -> list[Exported]:
    """Write the file or folder, in int8 where there are `texts` to measure it on; return the graphs that were written.

    Raise ``ValueError``, and write nothing, where a graph does not answer as the model, or int8 costs too much.
    """
    model = load_model(source).float()
    if rung is None and model.router is None and not model.config.decision().cascades:
        rung = model.ladder.top
    if config.format == "hub":
        return export_hub(config, source, model, path, rung, texts)
    longest = source.config.task.max_length
    if config.format == "torch":
        return [export_torch(model, path, rung=rung, max_length=longest)]
    if texts is None:
        return [export_onnx(model, path, rung=rung, opset=config.opset, max_length=longest)]
    with tempfile.TemporaryDirectory() as place, whole_files(path) as part:
        plain = export_onnx(model, Path(place, "model.onnx"), rung=rung, opset=config.opset, max_length=longest)
        quantize(config, source, model, (plain.path, part), rung, texts)
    return [replace(plain, path=path, file_bytes=file_bytes(path), difference=math.nan)]


def export_hub(
    config: ExportConfig,
    source: TrainedModel,
    model: SharcsForSequenceClassification,
    folder: Path,
    rung: int | None,
    texts: QuantizationTexts | None,
) -> list[Exported]:
    """Write the graph in ``onnx/``, with `texts` in int8 beside it, and tokenizer and config of a stock model."""
    tokenizer = load_tokenizer(source)
    tokenizer.model_max_length = min(source.config.task.max_length, encoder_sizes(model.config.encoder).max_tokens)
    with atomic_output(folder, [EXPORTED]) as part:
        (part / "onnx").mkdir()
        plain = export_onnx(model, part / GRAPH, rung=rung, opset=config.opset, max_length=tokenizer.model_max_length)
        facts = {"sharcs_version": __version__, "largest_difference": plain.difference}
        if texts is not None:
            facts["int8"] = quantize(config, source, model, (part / GRAPH, part / INT8_GRAPH), rung, texts)
        stock = as_stock(model).config
        stock.architectures = [type(model.encoder).__name__]
        stock.save_pretrained(part)
        tokenizer.save_pretrained(part)
        write_text(part / CARD, card(contents(source, model.config.to_dict())))
        write_json(part / EXPORTED, facts)
    done = [replace(plain, path=folder / GRAPH)]
    if texts is not None:
        path = folder / INT8_GRAPH
        done.append(replace(plain, path=path, file_bytes=file_bytes(path), difference=math.nan))
    return done


def quantize(
    config: ExportConfig,
    source: TrainedModel,
    model: SharcsForSequenceClassification,
    paths: tuple[Path, Path],
    rung: int | None,
    texts: QuantizationTexts,
) -> dict[str, Any]:
    """Write the graph of the first path in int8 to the second; return what the gate has measured."""
    plain, path = paths
    from sharcs_pl.inference.onnx_int8 import write_int8  # which needs the extra [onnx]

    write_int8(plain, path, int8_weights(model, rung) if "trunk" in config.quantize.skip else None)
    own = torch_engine(model)
    rule = own.rule if rung is None else DecisionRule()
    table = build_table(source.config, texts.validation, load_tokenizer(source))
    gate = Gate(texts.task, table, rule, model.cost, model.thresholds, _REMEDY)

    def answer(batch: Batch) -> Answers:
        return own.answer(batch, None if rung is None else np.full_like(batch.index, rung))

    return gate.check(answer, graph_answers(path, model, rule, rung), config.quantize.max_drop)


def int8_weights(model: SharcsForSequenceClassification, rung: int | None) -> set[str]:
    """Return the weights that are stored in int8 where what the layers before the router read stays in float32. Raise
    ``ValueError`` where that is every layer's (ALBERT)."""
    names = tail_weights(model, rung)
    if not any(".layers." in name and name.endswith(".product.weight") for name in names):
        raise ValueError("quantize.skip=[trunk]: the widths of this model share the weights of its trunk; leave it out")
    return names


def contents(source: TrainedModel, settings: dict[str, Any]) -> Contents:
    """Return the contents of the card of a model from any source."""
    beside = [place / METRICS for place in (source.weights, source.home) if (place / METRICS).is_file()]
    metrics = read_json(beside[0]) if source.recorded and beside else {}
    return Contents(settings, asdict(source.config) if source.recorded else {}, metrics)
