"""Export of a routed model as a folder of parts for another runtime, in float32 or int8.

Dimensions: `B` batch, `L` tokens, `D` hidden.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.export import Dim

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.data.tokens import Tokens
from sharcs_pl.inference.batches import Batch
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.export import onnx_program, traced_graph
from sharcs_pl.inference.graph import TailGraph, TrunkGraph, input_names
from sharcs_pl.inference.parity import TOLERANCE, random_inputs, sampled_inputs
from sharcs_pl.inference.parts import (
    ROUTER,
    TRUNK,
    PartsBackend,
    PartsFacts,
    cost_to,
    digest_of,
    graph_inputs,
    open_parts,
    part_names,
)
from sharcs_pl.inference.runtimes import NO_TEXTS, RUNTIMES, check_exporter, check_runtime, on_thread_of_its_own
from sharcs_pl.inference.served import ServedModel
from sharcs_pl.inference.torch_backend import TorchBackend, check_length, class_names
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.pretrained import cast
from sharcs_pl.models.routed import SharcsForSequenceClassification

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Arrays = Mapping[str, np.ndarray]
CALIBRATION_BATCH = 8  # texts of similar length per step of a calibration


def write_graphs(
    model: SharcsForSequenceClassification, folder: Path, tick: Callable[[], object] = lambda: None
) -> None:
    """Write trunk and tails of a model as ONNX in float32, and the router's weights. `tick` is called after each graph.
    Raise `ValueError` for an architecture that cannot be exported."""
    model = as_exported(model)
    for name in part_names(len(model.ladder)):
        _write_onnx(model, name, folder / f"{name}.onnx")
        tick()
    if model.router is not None:
        weights = {name: x.float().numpy() for name, x in model.router.state_dict().items()}
        np.savez(folder / ROUTER, **weights)  # pyright: ignore[reportArgumentType]


def as_exported(model: SharcsForSequenceClassification) -> SharcsForSequenceClassification:
    """Return the model in float32 on the CPU in evaluation mode, a copy unless it is already there."""
    if model.dtype == torch.float32 and model.device.type == "cpu":
        return model.eval()
    return cast(copy.deepcopy(model), torch.float32, torch.device("cpu")).eval()


def write_parts(
    model: SharcsForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    graphs: Path,
    folder: Path,
    backend: str,
    max_length: int,
    texts: Tokens | None = None,
    in_float: Collection[str] = (),
) -> float:
    """Write the `graphs` of a model as parts of a runtime into an empty folder.

    With `texts`, which calibrate the ranges of activations, the parts are of int8, but for the names `in_float`. Float
    parts are compared with the model: return the largest difference of a logit, NaN for int8. Raise `ValueError` where
    the parts do not answer as the model does.
    """
    model = as_exported(model)
    facts = _facts(model, tokenizer, backend, "float32" if texts is None else "int8", max_length)
    steps = _calibration(graphs, facts, texts) if texts is not None and backend == "openvino" else {}
    for name in part_names(len(model.ladder)):
        target = folder / f"{name}{RUNTIMES[backend].suffix}"
        quantized = texts is not None and name not in in_float
        convert(backend, graphs / f"{name}.onnx", target, steps.get(name, ()) if quantized else None)
    if model.router is not None:
        (folder / ROUTER).write_bytes((graphs / ROUTER).read_bytes())
    tokenizer.save_pretrained(folder)
    model.config.save_pretrained(folder)
    kept = sorted(path.name for path in folder.iterdir() if path.name != "config.json")  # it takes operating points
    facts = replace(facts, files={name: digest_of(folder / name) for name in kept})
    facts.write(folder)
    return _checked(model, folder, facts) if texts is None else math.nan


def serve_parts(
    model: SharcsForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int | None,
    backend: str,
    **options: Any,
) -> ServedModel:
    """Export a model for a runtime and open it there; `options` are those of `open_parts`, and `torch_backend.serve`
    explains the others."""
    precision = options.get("precision") or "float32"
    check_runtime(backend, precision)
    check_exporter()
    if precision == "int8":
        raise ValueError(f"precision=int8 needs texts to calibrate on: {NO_TEXTS}")
    length = check_length(model, tokenizer, max_length)
    with tempfile.TemporaryDirectory() as place:
        graphs, folder = Path(place, "graphs"), Path(place, "parts")
        for path in (graphs, folder):
            path.mkdir()
        write_graphs(model, graphs)
        write_parts(model, tokenizer, graphs, folder, backend, length)
        return open_parts(folder, max_length=length, **options)


def _facts(
    model: SharcsForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    backend: str,
    precision: str,
    max_length: int,
) -> PartsFacts:
    labels, pad_id = class_names(model), tokenizer.pad_token_id
    assert isinstance(pad_id, int)
    return PartsFacts(
        backend=backend,
        precision=precision,
        max_length=min(max_length, encoder_sizes(model.config.encoder).max_tokens),
        labels=None if labels is None else list(labels),
        types="token_type_ids" in input_names(model, 0),
        tokenizer_types="token_type_ids" in tokenizer.model_input_names,
        pad_id=pad_id,
        truncation_side=tokenizer.truncation_side,
        cost=cost_to(model.cost),
        files={},
    )


def _write_onnx(model: SharcsForSequenceClassification, name: str, path: Path) -> None:
    """Write the trunk or a rung's tail as ONNX, with batch and length left open."""
    longest = encoder_sizes(model.config.encoder).max_tokens
    batch, length = Dim("batch", min=1), Dim("length", min=1, max=longest)
    inputs = random_inputs(model, 3, min(4, longest), torch.Generator().manual_seed(0))
    if name == TRUNK:
        graph, output = TrunkGraph(model), "hidden"
    else:
        graph, output = TailGraph(model, part_names(len(model.ladder)).index(name) - 1), "logits"
        inputs = {
            "hidden": torch.zeros(3, min(4, longest), model.shape.hidden_size),
            "attention_mask": inputs["attention_mask"],
        }
    traced = traced_graph(graph, inputs, {key: {0: batch, 1: length} for key in inputs})
    onnx_program(traced, [output]).save(path)


def _calibration(plain: Path, facts: PartsFacts, texts: Tokens) -> dict[str, list[Arrays]]:
    """Return the inputs of every part on batches of texts, as onnxruntime computes them in float32."""
    backend = PartsBackend(plain, replace(facts, backend="onnxruntime"), "float32", None)
    names = part_names(backend.num_rungs)
    steps: dict[str, list[Arrays]] = {name: [] for name in names}
    for batch in batches_of(texts, CALIBRATION_BATCH):
        steps[TRUNK].append(graph_inputs(batch, facts.types))
        hidden, _ = backend.trunk(batch, route=False)
        inputs = backend.tail_inputs(hidden, batch.lengths)
        for name in names[1:]:
            steps[name].append(inputs)
    return steps


def batches_of(texts: Tokens, size: int) -> Iterator[Batch]:
    """Yield batches of texts of similar length."""
    order = np.argsort(texts.lengths, kind="stable")
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        found = texts.padded(rows)
        yield Batch(rows, found["input_ids"], texts.lengths[rows], found.get("token_type_ids"))


def convert(backend: str, source: Path, target: Path, steps: Sequence[Arrays] | None) -> None:
    """Write an ONNX graph for a runtime, in int8 unless `steps` is None: the inputs that calibrate OpenVINO's."""
    if backend == "openvino":
        _convert_openvino(source, target, steps)
    elif steps is None:
        shutil.copyfile(source, target)
        beside = source.with_name(f"{source.name}.data")  # the weights of a graph that is too large for one file
        if beside.exists():
            shutil.copyfile(beside, target.with_name(f"{target.name}.data"))
    else:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with _silent():
            quantize_dynamic(
                source,
                target,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=True,  # without VNNI, products of 8 bits saturate in 16, so that weights take 7
                weight_type=QuantType.QInt8,
            )


def _convert_openvino(source: Path, target: Path, steps: Sequence[Arrays] | None) -> None:
    import openvino

    graph = openvino.convert_model(source)
    if steps is not None:
        import nncf

        data = nncf.Dataset([dict(step) for step in steps])
        options = {"model_type": nncf.ModelType.TRANSFORMER, "subset_size": len(steps)}
        with _silent():
            graph = on_thread_of_its_own(lambda: nncf.quantize(graph, data, **options))
    openvino.save_model(graph, target, compress_to_fp16=False)


def _checked(model: SharcsForSequenceClassification, folder: Path, facts: PartsFacts) -> float:
    """Return the largest difference of a logit, of tails or router. Raise `ValueError` where it is above rounding."""
    parts, own = PartsBackend(folder, facts, facts.precision, None), TorchBackend(model)
    gaps = [0.0]
    for inputs in sampled_inputs(model):
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        lengths = arrays["attention_mask"].sum(1)
        index = np.arange(len(lengths))
        batch = Batch(index, arrays["input_ids"], lengths, arrays.get("token_type_ids"))
        for rung in range(len(model.ladder)):
            one, other = (
                Engine(each, DecisionRule()).answer(batch, np.full_like(index, rung)) for each in (parts, own)
            )
            gaps += [_gap(one.logits, other.logits), _gap(one.router_logits, other.router_logits)]
    difference = float(np.max(gaps))  # NaN wins
    if not difference <= TOLERANCE:
        raise ValueError(f"the exported parts answer otherwise than the model: {difference:.1e} from its logits")
    return difference


def _gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max(initial=0))


@contextmanager
def _silent() -> Iterator[None]:
    """Silence the notes and bars of a quantiser."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
