"""An ONNX graph in int8, with every weight stored once behind the slices by which the widths share it.

A product of a stored weight becomes the operators that onnxruntime fuses: `DynamicQuantizeLinear` of the activations,
`MatMulInteger`, and a product with both scales. Each output of a weight has a scale of its own, so a leading block of
the weight goes with the leading block of its scales; onnxruntime cuts both once, when it loads the file. The table of
the tokens has a scale per token. Router, classifier, norms and the other embeddings stay in float32.

Dimensions: `I` inputs and `O` outputs of a weight, `V` vocabulary, `B` batch, `L` tokens, `D` hidden.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

LEVELS = 64  # 7 bits: without VNNI, two products with activations of 8 bits are added in 16 bits, up to 2 * 255 * 64
TABLE_LEVELS = 127  # what is looked up is not multiplied with integers


@dataclass(frozen=True)
class Operand:
    """What the second operand of a product is made of: a stored `weight`, whose `axis` counts the outputs, and the
    nodes that cut or turn it, in their order."""

    weight: ir.Value
    axis: int
    steps: tuple[ir.Node, ...]


def write_int8(source: Path, target: Path, only: Collection[str] | None = None) -> None:
    """Write a float32 graph in int8. `only` are names of weights beside which all stay as they are, None for all
    weights. Raise `ValueError` where there is none to write in int8."""
    model = ir.load(source)
    graph = model.graph
    chosen = {name: uses for name, uses in _weights(graph).items() if only is None or name in only}
    if not chosen:
        raise ValueError("precision=int8: no product of this graph has a weight to store in int8; use float32")
    products = _Products(graph)
    for uses in chosen.values():
        products.quantize(uses)
    for node in list(graph):
        table = _token_table(node)
        if table is not None and (only is None or table.name in only):
            _quantize_table(graph, node, table)
    model.metadata_props["precision"] = json.dumps("int8")
    beside = source.with_name(f"{source.name}.data").exists()  # a graph that was too large for one file
    ir.save(model, target, external_data=f"{target.name}.data" if beside else None)


def _weights(graph: ir.Graph) -> dict[str, list[tuple[ir.Node, Operand]]]:
    """Return the weights that only products read, each with all of its products."""
    found: dict[str, list[tuple[ir.Node, Operand]]] = {}
    for node in graph:
        operand = _operand(node.inputs[1]) if node.op_type == "MatMul" else None
        if operand is not None:
            found.setdefault(operand.weight.name or "", []).append((node, operand))
    return {name: uses for name, uses in found.items() if _reads_alone(uses)}


def _operand(value: ir.Value | None) -> Operand | None:
    axis, steps = 1, []
    while value is not None and not value.is_initializer():
        node = value.producer()
        if node is None or not (node.op_type == "Transpose" or _cut_axis(node) is not None):
            return None
        axis = 1 - axis if node.op_type == "Transpose" else axis
        steps.insert(0, node)
        value = node.inputs[0]
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    is_matrix = value.const_value.dtype == ir.DataType.FLOAT and len(value.const_value.shape) == 2
    return Operand(value, axis, tuple(steps)) if is_matrix else None


def _cut_axis(node: ir.Node) -> int | None:
    """Return the one axis that a `Slice` cuts, None for any other node."""
    axes = node.inputs[3] if node.op_type == "Slice" and len(node.inputs) > 3 else None
    known = None if axes is None or axes.const_value is None else axes.const_value.numpy().tolist()
    return known[0] if known in ([0], [1]) else None


def _reads_alone(uses: list[tuple[ir.Node, Operand]]) -> bool:
    weight, axis = uses[0][1].weight, uses[0][1].axis
    steps = {step for _, operand in uses for step in operand.steps}
    readers = set(weight.consumers()).union(*(step.outputs[0].consumers() for step in steps))
    return readers <= steps | {node for node, _ in uses} and all(operand.axis == axis for _, operand in uses)


class _Products:
    """Writes products of a graph in int8. Products of the same activations or the same block of a weight share what is
    computed of them."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.activations: dict[ir.Value, ir.Node] = {}
        self.cuts: dict[ir.Node, ir.Value] = {}
        self.first_axis = _stored(graph, "int8_axis", np.array([0]))

    def quantize(self, uses: Iterable[tuple[ir.Node, Operand]]) -> None:
        """Store the weight of these products in int8 and rewrite them."""
        scales: ir.Value | None = None
        for node, operand in uses:
            scales = _in_int8(self.graph, operand.weight, operand.axis, LEVELS) if scales is None else scales
            self._rewrite(node, self._cut(scales, operand))

    def _cut(self, scales: ir.Value, operand: Operand) -> ir.Value:
        """Return the scales [o] of the block that an operand is, cut as the weight's outputs are."""
        axis = operand.axis
        for step in operand.steps:
            step.outputs[0].dtype = ir.DataType.INT8
            if step.op_type == "Transpose":
                axis = 1 - axis
            elif _cut_axis(step) == axis:
                if step not in self.cuts:
                    inputs = [scales, *step.inputs[1:3], self.first_axis, *step.inputs[4:]]
                    self.cuts[step] = _before(self.graph, step, "Slice", inputs, f"{step.outputs[0].name}_scale")
                scales = self.cuts[step]
        return scales

    def _rewrite(self, node: ir.Node, scales: ir.Value) -> None:
        activations, weight = node.inputs
        assert activations is not None
        given, scale, zero = self._activations(activations, node)
        name = node.outputs[0].name
        product = _before(self.graph, node, "MatMulInteger", [given, weight, zero], f"{name}_int32")
        product = _before(self.graph, node, "Cast", [product], f"{name}_float", to=ir.DataType.FLOAT)
        scale = _before(self.graph, node, "Mul", [scale, scales], f"{name}_scale")
        _replace(self.graph, node, _before(self.graph, node, "Mul", [product, scale], f"{name}_scaled"))

    def _activations(self, value: ir.Value, user: ir.Node) -> tuple[ir.Value, ...]:
        """Return activations in uint8, their scale and their zero point."""
        if value not in self.activations:
            node = ir.node("DynamicQuantizeLinear", [value], num_outputs=3)
            for output, ending in zip(node.outputs, ("uint8", "step", "zero"), strict=True):
                output.name = f"{value.name}_{ending}"
            self.graph.insert_before(user, node)
            self.activations[value] = node
        return tuple(self.activations[value].outputs)


def _token_table(node: ir.Node) -> ir.Value | None:
    """Return the stored table that a node looks the tokens up in, None for any other node."""
    table, ids = node.inputs if node.op_type == "Gather" else (None, None)
    if table is None or ids is None or ids.name != "input_ids":
        return None
    return table if table.is_initializer() and len(table.consumers()) == 1 else None


def _quantize_table(graph: ir.Graph, node: ir.Node, table: ir.Value) -> None:
    """Store a table [V, D] in int8 with a scale per row, and look up both."""
    ids = node.inputs[1]
    name, scales = node.outputs[0].name, _in_int8(graph, table, 0, TABLE_LEVELS, keepdims=True)
    rows = _before(graph, node, "Gather", [table, ids], f"{name}_int8")
    rows = _before(graph, node, "Cast", [rows], f"{name}_float", to=ir.DataType.FLOAT)
    scale = _before(graph, node, "Gather", [scales, ids], f"{name}_scale")
    _replace(graph, node, _before(graph, node, "Mul", [rows, scale], f"{name}_scaled"))


def _in_int8(graph: ir.Graph, weight: ir.Value, axis: int, levels: int, keepdims: bool = False) -> ir.Value:
    """Put a weight's integers of -levels to levels in its place, and return the scales along `axis`."""
    assert weight.const_value is not None
    values = weight.const_value.numpy()
    scales = (np.abs(values).max(1 - axis, keepdims=True) / levels).astype(np.float32)
    scales[scales == 0] = 1
    weight.const_value = ir.tensor(np.round(values / scales).astype(np.int8), name=weight.name)
    weight.dtype = ir.DataType.INT8
    return _stored(graph, f"{weight.name}_scale", scales if keepdims else scales.squeeze(1 - axis))


def _stored(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def _before(
    graph: ir.Graph, place: ir.Node, kind: str, inputs: list[ir.Value | None], name: str, **attributes: int
) -> ir.Value:
    """Add a node of one output before another one, and return that output."""
    node = ir.node(kind, inputs, attributes=attributes)
    node.outputs[0].name = name
    graph.insert_before(place, node)
    return node.outputs[0]


def _replace(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Put a value in the place of a node's output, under its name."""
    output = node.outputs[0]
    value.type, value.shape = output.type, output.shape
    ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    value.name = output.name
