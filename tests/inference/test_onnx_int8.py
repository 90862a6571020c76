"""A graph in int8 answers nearly as the one in float32, at every width, and holds every weight once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript")  # of the extra [onnx]

from sharcs_pl.inference import onnx_int8
from sharcs_pl.inference.export import export_onnx, onnx_answer
from sharcs_pl.inference.graph import tail_weights
from sharcs_pl.inference.onnx_int8 import LEVELS, TABLE_LEVELS, write_int8
from sharcs_pl.inference.parity import given_point, random_inputs, rules_to_try
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.models.conftest import Stock
from tests.models.surgery import surgery

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

Whole = tuple[SharcsForSequenceClassification, Path]
TOLERANCE = 0.06  # of a logit of a random model, whose spread is 0.4
ROUTER_TOLERANCE = 0.15  # of a router's logit, whose spread is 1


@pytest.fixture(scope="module")
def in_int8(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    write_int8(whole[1], path)
    return path


def stored(path: Path) -> dict[str, np.ndarray]:
    """The initializers by name."""
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def test_every_weight_is_stored_once_and_only_in_int8(whole: Whole, in_int8: Path) -> None:
    plain, found = stored(whole[1]), stored(in_int8)
    onnx.checker.check_model(str(in_int8), full_check=True)
    quantized = {name for name, array in found.items() if array.dtype == np.int8}
    products = {name for name in plain if name.endswith(".product.weight")}
    assert len(products) == 2 * 6 + 1  # both layers' and the dense of the head, for three widths
    assert quantized == products | {"trunk.front.embeddings.word_embeddings.weight"}
    for name in quantized:
        table = name not in products
        scales = found[f"{name}_scale"]
        assert scales.size == plain[name].shape[0 if table else 1]
        assert np.abs(found[name]).max() == (TABLE_LEVELS if table else LEVELS)
        assert (np.abs(found[name] * scales - plain[name]) <= 0.5001 * scales).all()
    sizes = {name: array.shape for name, array in found.items() if not name.endswith("_scale")}
    assert sizes == {name: array.shape for name, array in plain.items()} | {"int8_axis": (1,)}
    scales = sum(array.nbytes for name, array in found.items() if name.endswith("_scale"))
    saved = sum(3 * array.size for name, array in plain.items() if name in quantized)
    assert sum(array.nbytes for array in found.values()) == sum(x.nbytes for x in plain.values()) - saved + scales + 8


def test_labels_and_widths_are_those_of_float32_at_every_width(whole: Whole, in_int8: Path) -> None:
    model, plain = whole
    inputs = random_inputs(model, 64, 24, torch.Generator().manual_seed(3))
    with torch.no_grad():
        every = model.all_rungs(**inputs)
    expect, answer = onnx_answer(plain), onnx_answer(in_int8)
    for number, rule in enumerate(rules_to_try(model, every)):
        given = inputs | given_point(model, rule)
        (logits, rungs, scores), (found, chosen, found_scores) = expect(given), answer(given)
        alike = chosen == rungs
        assert alike.all() if number < 3 else alike.float().mean() > 0.9  # the first three send all to one width
        assert (found_scores - scores).abs().max() < ROUTER_TOLERANCE
        assert (found - logits)[alike].abs().max() < TOLERANCE
        best = logits.topk(2).values
        sure = alike & (best[:, 0] - best[:, 1] > 2 * TOLERANCE)
        assert sure.float().mean() > 0.6
        assert torch.equal(found.argmax(-1)[sure], logits.argmax(-1)[sure])


def test_the_trunk_stays_in_float32_where_asked(whole: Whole, tmp_path: Path) -> None:
    write_int8(whole[1], tmp_path / "model.onnx", tail_weights(whole[0]))
    plain, found = stored(whole[1]), stored(tmp_path / "model.onnx")
    for name in plain:
        assert (found[name].dtype == np.int8) == (name.startswith("tails.") and name.endswith(".product.weight"))
    with pytest.raises(ValueError, match=r"precision=int8: no product of this graph has a weight to store in int8"):
        write_int8(whole[1], tmp_path / "none.onnx", ())


def test_what_a_tail_shares_with_the_trunk_stays_in_float32_too(stock: Stock, tmp_path: Path) -> None:
    """Of four layers of ALBERT the first two share their weights; the split lies between them."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_hidden_groups": 2}
    model = surgery(stock("albert", **sizes), widths=(0.25, 1))
    export_onnx(model, tmp_path / "plain.onnx")
    write_int8(tmp_path / "plain.onnx", tmp_path / "int8.onnx", tail_weights(model))
    plain, found = stored(tmp_path / "plain.onnx"), stored(tmp_path / "int8.onnx")
    products = {name for name in plain if name.endswith(".product.weight")}
    shared = {name for name in products if ".layers.0." in name}  # the exporter names them after their last user
    assert len(shared) == 6
    assert all(name.startswith("tails.") for name in shared)
    assert {name for name, array in found.items() if array.dtype == np.int8} == products - shared


CUTS = {"zero": 0, "one": 1, "two": 2, "three": 3, "four": 4}


def small_graph(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Products of `x` [B, 8] and of its first half with a weight `W` [8, 6] that is shared, with `V` [5, 8], which is
    turned first, and with `U` [8, 3], which a sum reads too."""
    nodes = [
        helper.make_node("Slice", ["x", "zero", "four", "one"], ["half"]),
        helper.make_node("MatMul", ["x", "W"], ["full"]),
        helper.make_node("Slice", ["W", "zero", "four", "zero"], ["W_rows"]),
        helper.make_node("Slice", ["W_rows", "one", "three", "one"], ["W_block"]),
        helper.make_node("MatMul", ["half", "W_block"], ["narrow"]),
        helper.make_node("Transpose", ["V"], ["V_turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "V_turned"], ["turned"]),
        helper.make_node("Slice", ["V", "zero", "two", "zero"], ["V_rows"]),
        helper.make_node("Transpose", ["V_rows"], ["V_rows_turned"], perm=[1, 0]),
        helper.make_node("Slice", ["V_rows_turned", "zero", "four", "zero"], ["V_block"]),
        helper.make_node("MatMul", ["half", "V_block"], ["turned_narrow"]),
        helper.make_node("MatMul", ["x", "U"], ["read_twice"]),
        helper.make_node("Add", ["U", "U"], ["sum"]),
    ]
    known = weights | {name: np.array([value]) for name, value in CUTS.items()}
    shapes = {"full": 6, "narrow": 2, "turned": 5, "turned_narrow": 2, "read_twice": 3, "sum": 3}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in known.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_a_block_of_a_weight_goes_with_the_block_of_its_scales(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {"W": (8, 6), "V": (5, 8), "U": (8, 3)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    weights["W"] *= 10.0 ** np.arange(-3, 3, dtype=np.float32)  # an output's scale in the place of another's would show
    weights["V"] *= 10.0 ** np.arange(-2, 3, dtype=np.float32)[:, None]
    small_graph(tmp_path / "plain.onnx", weights)
    write_int8(tmp_path / "plain.onnx", tmp_path / "int8.onnx")
    found = stored(tmp_path / "int8.onnx")
    assert {name: found[name].dtype.name for name in weights} == {"W": "int8", "V": "int8", "U": "float32"}
    kinds = [node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node]
    assert (kinds.count("MatMulInteger"), kinds.count("MatMul"), kinds.count("DynamicQuantizeLinear")) == (4, 1, 2)
    x = {"x": torch.from_numpy(rng.uniform(-1, 1, (4, 8)).astype(np.float32))}
    answers = [onnx_answer(tmp_path / name)(x) for name in ("plain.onnx", "int8.onnx")]
    for expected, answer in zip(*answers, strict=True):
        assert ((answer - expected).abs() <= 0.05 * expected.abs().max(0).values).all()


def pairs_fit(weight: np.ndarray) -> bool:
    """Whether the products of a weight [I, O] with activations of 255 fit in 16 bits where two neighbours are added, as
    processors without VNNI do."""
    wide = weight.astype(np.int64) * 255
    return bool(np.abs(wide[::2] + wide[1::2]).max() <= np.iinfo(np.int16).max)


def test_no_product_saturates_without_vnni(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    even = {"W": np.full((8, 6), 0.3, np.float32), "V": np.ones((5, 8), np.float32), "U": np.ones((8, 3), np.float32)}
    small_graph(tmp_path / "plain.onnx", even)
    for levels in (LEVELS, 127):  # with 8 bits they would
        monkeypatch.setattr(onnx_int8, "LEVELS", levels)
        write_int8(tmp_path / "plain.onnx", tmp_path / "int8.onnx")
        found = stored(tmp_path / "int8.onnx")
        assert pairs_fit(found["W"]) == pairs_fit(found["V"].T) == (levels == LEVELS)
