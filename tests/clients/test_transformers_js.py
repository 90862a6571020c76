"""A folder of ``format=hub`` in clients that know a config, a tokenizer and ``onnx/model.onnx``, nothing of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from sharcs_pl.config.export import ExportConfig
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference.runtimes import OpenVinoGraph
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline import export
from tests.conftest import tiny_bert
from tests.inference.conftest import spread_router
from tests.models.conftest import randomise

TEXTS = ["w1 w2 w3", "w4 w5 w6 w7 w8 w9 w10", "w20"]
ROOT = Path(__file__).parents[2]
SCRIPT = """\
const { pipeline, env } = await import('@huggingface/transformers');
env.allowRemoteModels = false;
env.localModelPath = process.argv[1];
const classify = await pipeline('text-classification', process.argv[2], { dtype: 'fp32', ...options });
console.log(JSON.stringify(await classify(JSON.parse(process.argv[3]), { top_k: null })));
"""
RUNTIMES = {
    "native": "const options = {};\n",
    # What transformers.js runs in a browser: it takes the runtime that it finds under this symbol for its own.
    "wasm": """\
import * as web from 'onnxruntime-web';
web.env.wasm.wasmPaths = new URL('.', import.meta.resolve('onnxruntime-web')).href;
globalThis[Symbol.for('onnxruntime')] = web;
const options = { device: 'auto', session_options: { executionProviders: ['wasm'] } };
""",
}
"""How a script begins, by the runtime of ONNX that it uses."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> tuple[SharcsForSequenceClassification, Path]:
    """A model whose point in use is a cascade by which some texts go on, and its folder."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    tmp_path, tokenizer = tmp_path_factory.mktemp("exported"), word_tokenizer()
    torch.manual_seed(0)
    encoder = tiny_bert(num_hidden_layers=2, num_labels=2, vocab_size=len(tokenizer))
    randomise(encoder)
    encoder.config.id2label, encoder.config.label2id = {0: "no", 1: "yes"}, {"no": 0, "yes": 1}
    model = SharcsForSequenceClassification.from_encoder(encoder, widths=[0.25, 1], split_layer=1).eval()
    spread_router(model)
    with torch.no_grad():
        sure = model.all_rungs(**inputs()).logits[:, 0].softmax(-1).amax(-1).sort().values
    point = {"rule": "cascade", "stops": [sure[:2].mean().item()], "average": True}
    model.config.operating_points, model.config.operating_point = {"unsure": point}, "unsure"
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    export.run(ExportConfig(run=str(tmp_path / "model"), format="hub", output=str(tmp_path / "hub")))
    return model, tmp_path / "hub"


def inputs() -> dict[str, torch.Tensor]:
    """Return the texts as the model's inputs."""
    found = word_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def test_a_client_that_gives_only_texts_gets_the_answers_of_the_point_in_use(
    hub: tuple[SharcsForSequenceClassification, Path],
) -> None:
    import onnxruntime

    model, folder = hub
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = tokenizer(TEXTS, padding=True, return_tensors="np", return_token_type_ids=True)
    given = {each.name: texts[each.name] for each in session.get_inputs()}
    logits, rungs, _ = (np.asarray(output) for output in session.run(None, given))
    with torch.no_grad():
        expected = model(**inputs())
    assert set(rungs.tolist()) == {0, 1}
    assert rungs.tolist() == expected.rungs.tolist()
    np.testing.assert_allclose(logits, expected.logits, atol=1e-5)
    config = AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.architectures) == ("bert", ["BertForSequenceClassification"])
    assert (config.id2label, config.problem_type) == ({0: "no", 1: "yes"}, "single_label_classification")


def test_openvino_reads_the_graph_as_it_lies(hub: tuple[SharcsForSequenceClassification, Path]) -> None:
    pytest.importorskip("openvino")
    model, folder = hub
    graph = OpenVinoGraph(folder / "onnx" / "model.onnx", "float32", 1)
    texts = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np", return_token_type_ids=True)
    with torch.no_grad():
        expected = model(**inputs()).logits
    np.testing.assert_allclose(graph(dict(texts)), expected, atol=1e-5)


def node_version() -> int:
    """Return the major version of Node, 0 where there is none."""
    if shutil.which("node") is None:
        return 0
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.removeprefix("v").split(".")[0])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_transformers_js_gives_the_scores_of_the_model(
    hub: tuple[SharcsForSequenceClassification, Path], runtime: str
) -> None:
    if node_version() < 20 or not (ROOT / "node_modules" / "@huggingface" / "transformers").is_dir():
        pytest.skip("needs Node 20, and `npm install @huggingface/transformers` in the folder of the project")
    model, folder = hub
    code = RUNTIMES[runtime] + SCRIPT
    words = ["node", "--input-type=module", "--eval", code, "--", f"{folder.parent}/", folder.name, json.dumps(TEXTS)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    with torch.no_grad():
        expected = model(**inputs()).logits.softmax(-1)
    assert np.ptp(expected[:, 0].numpy()) > 0.01  # so that answers of other texts or rungs are told apart
    for answer, scores in zip(json.loads(done.stdout), expected.tolist(), strict=True):
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(
            dict(zip(("no", "yes"), scores, strict=True)), abs=1e-5
        )
