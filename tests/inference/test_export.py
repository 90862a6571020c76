"""A file for another runtime answers as the model does, at every mixture of rungs, and holds each weight once."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.inference import export as exporting
from sharcs_pl.inference.export import (
    export_onnx,
    export_torch,
    facts,
    onnx_answer,
    torch_answer,
)
from sharcs_pl.inference.graph import POINT, Product, RoutedGraph
from sharcs_pl.inference.parity import (
    Answer,
    Inputs,
    given_point,
    largest_difference,
    point_of,
    random_inputs,
    rules_to_try,
)
from sharcs_pl.models.decision import decide
from sharcs_pl.models.families import FAMILIES
from sharcs_pl.models.routed import SharcsForSequenceClassification
from tests.conftest import tiny_bert
from tests.inference.conftest import spread_router
from tests.models.conftest import Stock
from tests.models.surgery import surgery

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

LAYERS = {"distilbert": {"n_layers": 2}}
FAST = ("bert", "mpnet", "albert")
SLOW = ("roberta", "xlm-roberta", "electra", "distilbert")
REFUSED = ("deberta-v2", "modernbert")


@pytest.fixture
def routed() -> SharcsForSequenceClassification:
    """A routed BERT of two layers and the widths 1/4 and 1, whose router uses both."""
    model = SharcsForSequenceClassification.from_encoder(
        tiny_bert(num_hidden_layers=2), widths=[0.25, 1], split_layer=1, num_labels=2, router_hidden_size=8
    )
    spread_router(model)
    return model


def family_model(stock: Stock, model_type: str) -> SharcsForSequenceClassification:
    encoder = stock(model_type, **LAYERS.get(model_type, {"num_hidden_layers": 2}))
    widths = (0.25, 0.5, 1) if model_type == "bert" else (0.25, 1)
    model = surgery(encoder, widths=widths)
    spread_router(model)
    return model


def initializer_bytes(path: Path) -> int:
    tensors = onnx.load(path).graph.initializer
    return sum(len(tensor.raw_data) for tensor in tensors)


def compare(model: SharcsForSequenceClassification, answer: Answer) -> int:
    """Every batch size and length, at every rung alone, at mixtures and by cascades; the number of empty groups met."""
    generator, empty = torch.Generator().manual_seed(5), 0
    for size, tokens in ((1, 1), (1, 9), (2, 7), (7, 30), (64, 12)):
        inputs = random_inputs(model, size, tokens, generator)
        with torch.no_grad():
            every = model.all_rungs(**inputs)
        for rule in rules_to_try(model, every):
            logits, rungs, *scores = answer(inputs | given_point(model, rule))
            model.config.operating_points = {"tried": rule.to_point() | {"thresholds": rule.starts}}
            model.config.operating_point = "tried"
            with torch.no_grad():
                expected = model(**inputs)
            torch.testing.assert_close(rungs, expected.rungs, rtol=0, atol=0)
            torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-5)
            for found in scores:
                torch.testing.assert_close(found, expected.router_logits, rtol=0, atol=1e-5)
            empty += len(model.ladder) - len(rungs.unique())
    return empty


@pytest.mark.parametrize("model_type", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_every_family_at_every_mixture(stock: Stock, tmp_path: Path, model_type: str) -> None:
    model = family_model(stock, model_type)
    done = export_onnx(model, tmp_path / "model.onnx")
    assert compare(model, onnx_answer(done.path)) > 0
    assert done.parameter_bytes == sum(parameter.nbytes for parameter in model.parameters())
    # MPNet's position bias is kept by distance, which at its real size is 0.05 % of the weights.
    bias = model.shape.num_heads * (2 * 38 - 1) * 4 if model_type == "mpnet" else 0
    assert initializer_bytes(done.path) <= done.parameter_bytes + bias + 2048
    assert not {"If", "Loop", "Scan"} & {node.op_type for node in onnx.load(done.path).graph.node}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [*FAST, *SLOW])
def test_every_family_as_a_program(stock: Stock, tmp_path: Path, model_type: str) -> None:
    model = family_model(stock, model_type)
    done = export_torch(model, tmp_path / "model.pt2")
    assert compare(model, torch_answer(done.path)) > 0


@pytest.mark.parametrize("export", [export_onnx, export_torch])
@pytest.mark.parametrize("model_type", REFUSED)
def test_what_is_not_written_out_is_refused_and_nothing_is_left(
    stock: Stock, tmp_path: Path, model_type: str, export: Callable[..., object]
) -> None:
    assert {*FAST, *SLOW, *REFUSED} == set(FAMILIES)
    model = surgery(stock(model_type), widths=(0.25, 1))
    with pytest.raises(ValueError, match=f"'{model_type}' cannot be exported; those that can: albert, bert, distil"):
        export(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model_type", ["bert", "albert"])
def test_one_rung_holds_what_it_uses(stock: Stock, model_type: str) -> None:
    model = family_model(stock, model_type)
    narrow, full = (RoutedGraph(model, rung) for rung in (0, model.ladder.top))
    inputs = random_inputs(model, 3, 8, torch.Generator().manual_seed(0))
    for rung, graph in ((0, narrow), (model.ladder.top, full)):
        with torch.no_grad():
            torch.testing.assert_close(graph(**inputs)[0], model(**inputs, rungs=rung).logits, rtol=0, atol=1e-5)
    sizes = [sum(p.numel() for p in graph.tails.parameters()) for graph in (narrow, full)]
    if model_type == "albert":  # trunk and tail are one layer
        sizes = [sum(p.numel() for p in graph.tails.get_submodule("0.dense").parameters()) for graph in (narrow, full)]
    assert sizes[0] < 0.3 * sizes[1]
    trunks = [sum(p.numel() for p in graph.trunk.parameters()) for graph in (narrow, full)]
    assert trunks[0] == trunks[1]


def test_a_model_without_a_router(tmp_path: Path) -> None:
    dense = SharcsForSequenceClassification.from_encoder(
        tiny_bert(num_hidden_layers=2), widths=[1], split_layer=1, num_labels=2
    )
    done = export_torch(dense, tmp_path / "dense.pt2")
    assert done.inputs == ("input_ids", "attention_mask", "token_type_ids")
    assert largest_difference(dense, torch_answer(done.path)) < 1e-5


def test_a_program_loads_where_this_package_is_not_installed(
    routed: SharcsForSequenceClassification, tmp_path: Path
) -> None:
    export_torch(routed, tmp_path / "model.pt2", max_length=16)
    assert compare(routed, torch_answer(tmp_path / "model.pt2")) > 0
    inputs = random_inputs(routed, 3, 11, torch.Generator().manual_seed(2))
    inputs |= point_of(DecisionRule(starts=(0.0,)), 1)
    torch.save(inputs, tmp_path / "inputs.pt")
    code = (
        "import sys\n"
        "for name in ('sharcs_pl', 'transformers', 'lightning'): sys.modules[name] = None\n"
        "import torch, json\n"
        "extra = {'sharcs.json': ''}\n"
        "program = torch.export.load('model.pt2', extra_files=extra).module()\n"
        "assert json.loads(extra['sharcs.json'])['max_length'] == 16\n"
        "torch.save(program(**torch.load('inputs.pt')), 'outputs.pt')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits, rungs, _ = torch.load(tmp_path / "outputs.pt")
    with torch.no_grad():
        expected = routed(**{name: inputs[name] for name in inputs if name not in POINT}, rungs=rungs)
    torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-5)
    assert str(Path.cwd()).encode() not in (tmp_path / "model.pt2").read_bytes()


def test_facts_are_what_a_caller_needs(routed: SharcsForSequenceClassification) -> None:
    cascade = {"rule": "cascade", "stops": [0.75], "average": True}
    routed.config.operating_points = {"cheap": {"thresholds": [-0.5], "value": 0.9}, "unsure": cascade}
    routed.config.operating_points["margin"] = cascade | {"certainty": "margin"}  # which no graph holds
    routed.config.operating_point = "cheap"
    found = facts(routed, None, 10_000)
    assert found.pop("sharcs_version")
    assert found == {
        "id2label": {0: "LABEL_0", 1: "LABEL_1"},
        "widths": ["0.25", "1"],
        "split_layer": 1,
        "max_length": 32,
        "operating_points": {
            "trained": {"thresholds": None, "stops": None, "average": [0.0]},
            "cheap": {"thresholds": [-0.5], "stops": None, "average": [0.0]},
            "unsure": {"thresholds": [-NEVER], "stops": [0.75], "average": [1.0]},
        },
        "operating_point": "cheap",
    }
    assert facts(routed, 0, 16).keys() == found.keys() - {"operating_points", "operating_point"} | {"sharcs_version"}
    assert facts(routed, 0, 16)["widths"] == ["0.25"]
    routed.config.operating_point = "margin"
    with pytest.raises(
        ValueError, match="a graph holds cascades by probability without temperatures; margin stops by margin"
    ):
        facts(routed, None, 16)


def test_one_rung_as_onnx_says_what_it_is_and_puts_weights_above_the_limit_beside(
    routed: SharcsForSequenceClassification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed.config.id2label = {0: 'né"gatif', 1: "2"}
    monkeypatch.setattr(exporting, "LARGEST_FILE", 1000)
    done = export_onnx(routed, tmp_path / "model.onnx", rung=0, opset=21, max_length=16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    beside = (tmp_path / "model.onnx.data").stat().st_size
    assert beside > 0.8 * done.parameter_bytes
    assert done.file_bytes == (tmp_path / "model.onnx").stat().st_size + beside
    assert largest_difference(routed, onnx_answer(done.path), 0) < 1e-5
    found = onnx.load(done.path)
    assert [entry.version for entry in found.opset_import if not entry.domain] == [21]
    said = {entry.key: json.loads(entry.value) for entry in found.metadata_props}
    assert said == facts(routed, 0, 16) | {"id2label": {"0": 'né"gatif', "1": "2"}}
    assert [output.name for output in found.graph.output] == ["logits"]
    assert not [node for node in found.graph.node if node.metadata_props or node.doc_string]
    export_torch(routed, done.path, rung=0)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def _wrong_weight(graph: RoutedGraph) -> None:
    product = graph.tails.get_submodule("0.dense.product")
    assert isinstance(product, Product)
    product.weight.neg_()


def _other_rung(graph: RoutedGraph) -> None:
    assert graph.router is not None
    graph.router.output.bias.copy_(graph.router.output.bias.flip(0) + 0.3)


@pytest.mark.parametrize("fault", [_wrong_weight, _other_rung])
def test_what_does_not_answer_as_the_model_is_not_handed_out(
    routed: SharcsForSequenceClassification,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[RoutedGraph], None],
) -> None:
    def faulty(model: SharcsForSequenceClassification, rung: int | None = None) -> RoutedGraph:
        graph = RoutedGraph(copy.deepcopy(model), rung)
        with torch.no_grad():
            fault(graph)
        return graph

    monkeypatch.setattr(exporting, "RoutedGraph", faulty)
    (tmp_path / "model.pt2").write_text("the old one")
    with pytest.raises(ValueError, match="answers otherwise than the model"):
        export_torch(routed, tmp_path / "model.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]
    assert (tmp_path / "model.pt2").read_text() == "the old one"


def test_an_opset_that_is_not_reached_leaves_nothing(routed: SharcsForSequenceClassification, tmp_path: Path) -> None:
    from onnx.defs import onnx_opset_version

    with pytest.raises(ValueError, match="the installed onnxscript cannot write it"):
        export_onnx(routed, tmp_path / "model.onnx", rung=0, opset=onnx_opset_version() + 1)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_the_runtime_cannot_read_is_named(tmp_path: Path) -> None:
    from onnx import helper

    graph = helper.make_graph([helper.make_node("NoSuchOperator", [], ["y"])], "g", [], [])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match=r"onnxruntime .* cannot read the graph: .*NoSuchOperator"):
        onnx_answer(tmp_path / "x.onnx")


def test_the_check_sees_every_fault(routed: SharcsForSequenceClassification) -> None:
    graph = RoutedGraph(routed)

    def itself(inputs: Inputs) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return graph(**inputs)

    def spoilt(spoil: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]) -> float:
        return largest_difference(routed, lambda inputs: spoil(*itself(inputs)))

    assert spoilt(lambda logits, rungs, scores: (logits, rungs, scores)) < 1e-6
    assert spoilt(lambda logits, rungs, scores: (logits + 1e-3, rungs, scores)) == pytest.approx(1e-3, rel=0.01)
    assert spoilt(lambda logits, rungs, scores: (logits, rungs, scores - 2e-3)) == pytest.approx(2e-3, rel=0.01)
    assert spoilt(lambda logits, rungs, scores: (logits, 1 - rungs, scores)) == math.inf
    assert math.isnan(spoilt(lambda logits, rungs, scores: (logits * torch.nan, rungs, scores)))
    assert not math.isfinite(spoilt(lambda logits, rungs, scores: (logits, rungs, scores * torch.nan)))


def test_the_rules_that_are_tried_reach_every_rung_alone_and_together(stock: Stock) -> None:
    model = family_model(stock, "bert")
    inputs = random_inputs(model, 12, 9, torch.Generator().manual_seed(0))
    with torch.no_grad():
        every = model.all_rungs(**inputs)
    rules = rules_to_try(model, every)
    counts = {rule: decide(rule, every.logits, every.signals).rungs.bincount(minlength=3) for rule in rules}
    routed = [count.tolist() for rule, count in counts.items() if rule.name == "router"]
    assert routed[:3] == [[12, 0, 0], [0, 12, 0], [0, 0, 12]]
    assert min(routed[-1]) >= 2
    cascades = [count for rule, count in counts.items() if rule.name == "cascade"]
    assert {12} <= {int(count[0]) for count in cascades} | {int(count[2]) for count in cascades}
    assert any(0 < int(count[0]) < 12 for count in cascades)
    assert {rule.average for rule in rules} == {False, True}


def test_the_facts_of_a_file_hold_the_point_in_use_as_inputs(
    routed: SharcsForSequenceClassification, tmp_path: Path
) -> None:
    inputs = random_inputs(routed, 7, 9, torch.Generator().manual_seed(0))
    with torch.no_grad():
        sure = routed.all_rungs(**inputs).logits[:, 0].softmax(-1).amax(-1)
    point = {"rule": "cascade", "stops": [sure.median().item() + 1e-4], "average": True}
    routed.config.operating_points, routed.config.operating_point = {"unsure": point}, "unsure"
    answer = onnx_answer(export_onnx(routed, tmp_path / "model.onnx").path)
    with torch.no_grad():
        expected = routed(**inputs)
    known = facts(routed, None, None)
    given = {key: torch.tensor(value) for key, value in known["operating_points"][known["operating_point"]].items()}
    logits, rungs, _ = answer(inputs | given)
    assert set(rungs.tolist()) == {0, 1}
    assert torch.equal(rungs, expected.rungs)
    torch.testing.assert_close(logits, expected.logits, rtol=0, atol=1e-5)
    assert set(answer(inputs | given | {"stops": torch.tensor([0.0])})[1].tolist()) == {0}
    for one, other in zip(answer(inputs), answer(inputs | given), strict=True):  # the point in use is the default
        assert torch.equal(one, other)


def test_a_model_without_a_router_cascades_in_its_graph(tmp_path: Path) -> None:
    slimmable = SharcsForSequenceClassification.from_encoder(
        tiny_bert(num_hidden_layers=2), widths=[0.25, 1], split_layer=1, num_labels=2, router_hidden_size=0
    )
    done = export_torch(slimmable, tmp_path / "model.pt2")
    assert done.inputs[-2:] == ("stops", "average")
    assert compare(slimmable, torch_answer(done.path)) > 0
