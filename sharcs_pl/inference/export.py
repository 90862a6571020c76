"""Export of a routed model as one file for other runtimes: ONNX, or a program of ``torch.export``.

Both hold the graph of `sharcs_pl.inference.graph` with batch and length left open, carry what a caller needs to know of
the model (`facts`), and are compared with the model itself before they get their name.

Dimensions: `B` batch, `L` tokens, `W` rungs, `C` labels.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.onnx import ONNXProgram

from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.ladder import TRAINED
from sharcs_pl.core.version import __version__
from sharcs_pl.inference.graph import POINT, RoutedGraph, input_names
from sharcs_pl.inference.parity import Answer, Inputs, checked, given_point, point_of, random_inputs
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.routed import SharcsForSequenceClassification

FACTS = "sharcs.json"  # the extra file of a torch program
LARGEST_FILE = 2_000_000_000  # bytes; protobuf ends at 2 GiB
_FOLD_BELOW = 1024  # bytes: shapes are folded, slices of weights are not


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked. `difference` is the largest between a logit and the model's own, NaN for a
    file in int8. `parameter_bytes` counts the parameters that the file holds, each once, in float32."""

    path: Path
    inputs: tuple[str, ...]
    file_bytes: int
    parameter_bytes: int
    difference: float


def export_onnx(
    model: SharcsForSequenceClassification,
    path: Path,
    *,
    rung: int | None = None,
    opset: int | None = None,
    max_length: int | None = None,
) -> Exported:
    """Write `model` (float32, on the CPU, in evaluation mode), or one of its sub-networks, as one ONNX graph.

    `opset` is None for the exporter's own; `max_length` is the number of tokens the model was trained to read, for
    `facts`. Above 2 GB the weights lie beside the file in ``<name>.data``. Raise `ValueError`, and write nothing, when
    onnxruntime does not answer as the model does.
    """
    traced = trace(model, rung)
    names = ["logits", "rungs", "router_logits"][: len(traced.graph_signature.user_outputs)]
    program = onnx_program(traced, names, opset)
    known = facts(model, rung, max_length)
    program.model.metadata_props.update({key: json.dumps(value) for key, value in known.items()})
    _set_defaults(program, given_point(model, model.config.decision(), rung))
    with whole_files(path) as part:
        program.save(part, external_data=parameter_bytes(model, rung) > LARGEST_FILE)
        difference = checked(model, onnx_answer(part), rung)
    return _exported(model, path, rung, difference)


def onnx_program(traced: ExportedProgram, names: Sequence[str], opset: int | None = None) -> ONNXProgram:
    """Return a traced graph as ONNX, with these names for its outputs. Raise `ValueError` for an opset that cannot be
    written."""
    import onnxscript.optimizer
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    with quiet():
        program = torch.onnx.export(
            traced, dynamo=True, opset_version=opset, output_names=names, optimize=False, verbose=False
        )
        assert program is not None
        if opset not in (None, program.model.opset_imports[""]):
            raise ValueError(f"opset={opset}: the installed onnxscript cannot write it; give another, or none")
        onnxscript.optimizer.optimize(program.model, input_size_limit=_FOLD_BELOW)
        ClearMetadataAndDocStringPass()(program.model)
    return program


def _set_defaults(program: ONNXProgram, point: Inputs) -> None:
    """Make an operating point the default of its inputs: initializers, which a caller may override."""
    import onnx_ir

    graph = program.model.graph
    for value in graph.inputs:
        if value.name in point:
            value.const_value = onnx_ir.tensor(point[value.name].numpy(), name=value.name)
            graph.register_initializer(value)


def export_torch(
    model: SharcsForSequenceClassification, path: Path, *, rung: int | None = None, max_length: int | None = None
) -> Exported:
    """Write a program that ``torch.export.load`` reads without this package; it is called with keywords. Its facts are
    the extra file `sharcs.json`. Raise `ValueError`, and write nothing, when it does not answer as the model does."""
    with quiet(), whole_files(path) as part:
        extra = {FACTS: json.dumps(facts(model, rung, max_length))}
        torch.export.save(trace(model, rung), part, extra_files=extra)
        difference = checked(model, torch_answer(part), rung)
    return _exported(model, path, rung, difference)


def trace(model: SharcsForSequenceClassification, rung: int | None = None) -> ExportedProgram:
    """Trace the graph of a model or of one rung, for any batch and any length that the encoder can read."""
    longest = encoder_sizes(model.config.encoder).max_tokens
    inputs = random_inputs(model, 3, min(4, longest), torch.Generator().manual_seed(0))
    inputs |= given_point(model, DecisionRule(starts=(0.0,) * model.ladder.top), rung)
    batch, length = Dim("batch", min=1), Dim("length", min=1, max=longest)
    shapes = {name: None if name in POINT else {0: batch, 1: length} for name in inputs}
    return traced_graph(RoutedGraph(model, rung), inputs, shapes)


def traced_graph(graph: nn.Module, inputs: Inputs, shapes: dict[str, Any]) -> ExportedProgram:
    """Trace a graph with these example inputs, whose dimensions are left open as `shapes` says."""
    with torch.no_grad(), quiet():
        traced = torch.export.export(graph, (), inputs, dynamic_shapes=shapes, strict=False)
    for node in traced.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return traced


def facts(model: SharcsForSequenceClassification, rung: int | None, max_length: int | None) -> dict[str, Any]:
    """Return what a caller needs beside the graph, as plain types: labels, ladder, and the inputs of every operating
    point (None: NaN). Raise `ValueError` for a rule in use that the graph cannot hold."""
    config = model.config
    found = {
        "sharcs_version": __version__,
        "id2label": config.id2label,
        **_about_labels(model),
        "widths": config.widths if rung is None else [config.widths[rung]],
        "split_layer": config.split_layer,
        "max_length": min(max_length or math.inf, encoder_sizes(config.encoder).max_tokens),
    }
    if rung is None and model.ladder.top:
        used, top = config.operating_point or TRAINED, model.ladder.top
        rules = {name: config.decision(name) for name in (TRAINED, *config.operating_points)}
        if not holds(rules[used]):
            raise ValueError(
                f"a graph holds cascades by probability without temperatures; {used} stops by "
                f"{rules[used].certainty}{' with temperatures' * (rules[used].temperatures is not None)}"
            )
        points = {name: point_of(rule, top) for name, rule in rules.items() if holds(rule)}
        found["operating_points"] = {
            name: {key: None if x.isnan().any() else x.tolist() for key, x in point.items()}
            for name, point in points.items()
        }
        found["operating_point"] = used
    return found


def _about_labels(model: SharcsForSequenceClassification) -> dict[str, Any]:
    """Return how labels of their own are given, empty for a model of another kind."""
    config = model.config
    values = model.thresholds
    return {} if values is None else {"problem_type": config.problem_type, "label_thresholds": list(values)}


def holds(rule: DecisionRule) -> bool:
    """Return True if the graph can decide by a rule."""
    return not rule.cascades or (rule.certainty == "probability" and rule.temperatures is None)


def parameter_bytes(model: SharcsForSequenceClassification, rung: int | None = None) -> int:
    """Return the bytes of the parameters of a model, or of the part that one of its sub-networks needs."""
    owner = model if rung is None else RoutedGraph(model, rung)
    return sum(parameter.nbytes for parameter in owner.parameters())


def onnx_answer(path: Path) -> Answer:
    """Return a function that answers with onnxruntime. Raise ``ValueError`` when it cannot load the file."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # it warns that the operating point is no constant
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (Fail, InvalidArgument, InvalidGraph, NotImplemented) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"onnxruntime {onnxruntime.__version__} cannot read the graph: {reason}") from error

    def answer(inputs: Inputs) -> tuple[Tensor, ...]:
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        return tuple(torch.as_tensor(output) for output in found)

    return answer


def torch_answer(path: Path) -> Answer:
    """Return a function that answers with the program, read back from its file."""
    program = torch.export.load(path).module()
    return lambda inputs: program(**inputs)


def _exported(model: SharcsForSequenceClassification, path: Path, rung: int | None, difference: float) -> Exported:
    return Exported(path, tuple(input_names(model, rung)), file_bytes(path), parameter_bytes(model, rung), difference)


def file_bytes(path: Path) -> int:
    """Return the bytes of a file, with the weights of a large graph that lie beside it."""
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


@contextmanager
def whole_files(path: Path) -> Iterator[Path]:
    """Yield a path to write to in a folder beside; what lies there when the block ends well moves next to ``path``."""
    beside = path.with_name(path.name + ".data")
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        yield Path(folder) / path.name
        beside.unlink(missing_ok=True)  # an old file's weights
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            os.replace(file, path.with_name(file.name))  # the graph last: it names the others


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's notes to its own developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
