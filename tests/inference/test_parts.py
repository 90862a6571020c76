"""Parts in another runtime answer as the model does in torch, and a folder that is not whole is refused."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.core.arrays import softmax
from sharcs_pl.core.decision import NEVER
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.inference import parts as inference_parts
from sharcs_pl.inference import runtimes
from sharcs_pl.inference.backend_model import BackendModel, engine_of, load_served
from sharcs_pl.inference.batches import Answers
from sharcs_pl.inference.export_parts import write_parts
from sharcs_pl.inference.loading import load_model
from sharcs_pl.inference.parts import PARTS, PartsFacts, open_parts
from sharcs_pl.inference.predictor import Prediction, RoutedPredictor
from sharcs_pl.inference.serving import Serving
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.runs.evaluation_inputs import check_audited
from tests.inference.conftest import needs
from tests.inference.made import texts

LENGTH = 24
GIVEN = [*texts(40), "good " * 100]


def points_of(model: SharcsForSequenceClassification) -> dict[str, dict[str, Any]]:
    """Operating points, of which the cascades stop half of `GIVEN` at the narrow width."""
    predictor = RoutedPredictor(model, word_tokenizer(), max_length=LENGTH)
    answers = [predictor.engine.answer(batch, np.zeros_like(batch.index)) for batch in predictor.batches(GIVEN, 0)]
    found = np.sort(softmax(Answers.join(answers).logits), -1)
    half = {"probability": found[:, -1], "margin": found[:, -1] - found[:, -2]}
    stops = {name: [float(np.sort(sure)[20:22].mean())] for name, sure in half.items()}
    cascade = {"rule": "cascade", "stops": stops["probability"], "certainty": "probability", "average": True}
    both = {"rule": "router+cascade", "thresholds": [0.0], "stops": stops["margin"], "certainty": "margin"}
    return {"top": {"thresholds": [NEVER]}, "cascade": cascade, "both": both | {"average": False}}


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def parts(
    request: pytest.FixtureRequest,
    shared_model: SharcsForSequenceClassification,
    graphs: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    needs(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    assert write_parts(shared_model, word_tokenizer(), graphs, folder, request.param, LENGTH) < 1e-5
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"operating_points": points_of(shared_model)}))
    return folder


def check(found: list[Prediction], expected: list[Prediction]) -> None:
    """Alike within rounding."""
    assert [each.label for each in found] == [each.label for each in expected]
    assert [each.rung for each in found] == [each.rung for each in expected]
    assert [each.macs for each in found] == [each.macs for each in expected]
    for key in ("probabilities", "router_scores", "certainties"):
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(getattr(one, key), getattr(other, key), atol=1e-5)


@pytest.mark.parametrize("point", [None, "top", "cascade", "both"])
def test_parts_answer_as_torch_in_batches_streams_and_alone(
    parts: Path, two_widths: SharcsForSequenceClassification, point: str | None
) -> None:
    two_widths.config.operating_points = points_of(two_widths)
    given = GIVEN
    expected = RoutedPredictor(two_widths, word_tokenizer(), max_length=LENGTH, point=point).predict(given)
    if point != "top":
        assert {each.rung for each in expected} == {0, 1}
    predictor = RoutedPredictor.from_pretrained(parts, point=point, batch_size=8, window=2)
    check(predictor.predict(given), expected)
    check(list(predictor.stream(given)), expected)
    check([predictor.predict([text])[0] for text in given[:5]], expected[:5])
    check(pickle.loads(pickle.dumps(predictor)).predict(given), expected)  # noqa: S301


def test_pairs_are_tokenised_as_in_training(parts: Path, two_widths: SharcsForSequenceClassification) -> None:
    pairs = [(text, other) for text, other in zip(texts(30), texts(30, seed=1), strict=True) if text and other]
    own = RoutedPredictor(two_widths, word_tokenizer(), max_length=LENGTH)
    predictor = RoutedPredictor.from_pretrained(parts)
    one, other = own.tokenize(pairs), predictor.tokenize(pairs)
    assert (one.lengths == LENGTH).any()
    for key in ("input_ids", "offsets", "token_type_ids"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
    check(predictor.predict(pairs), own.predict(pairs))


def test_threads_do_not_overwrite_each_others_answers(parts: Path) -> None:
    predictor = RoutedPredictor.from_pretrained(parts)
    given = [texts(30, seed=number) for number in range(8)]
    expected = [predictor.predict(each) for each in given]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(predictor.predict, given), expected, strict=True):
            check(found, wanted)


def test_evaluation_sees_every_width(parts: Path, two_widths: SharcsForSequenceClassification) -> None:
    ids = torch.randint(4, 20, (6, 9), generator=torch.Generator().manual_seed(3))
    mask = (torch.arange(9) < torch.tensor([9, 4, 7, 1, 9, 5])[:, None]).long()
    model = load_served(open_trained(str(parts), False), Serving())
    with torch.no_grad():
        expected = two_widths.all_rungs(ids, mask)
    found = model.double().all_rungs(ids, mask)  # nothing to convert
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.signals, expected.signals, atol=1e-5, rtol=1e-5)
    assert model.device.type == "cpu"
    assert model.cost == two_widths.cost


def test_neither_torch_nor_transformers_is_needed(parts: Path) -> None:
    script = f"""
import sys
for name in ("torch", "transformers", "lightning", "pyarrow", "hydra", "omegaconf", "datasets"):
    sys.modules[name] = None
from sharcs_pl import RoutedPredictor
print([each.label for each in RoutedPredictor.from_pretrained({str(parts)!r}).predict(["good film", "bad"])])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = RoutedPredictor.from_pretrained(parts).predict(["good film", "bad"])
    assert done.stdout.strip() == str([each.label for each in expected])


@pytest.fixture
def copy(parts: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parts, tmp_path / "parts"))


def test_a_damaged_folder_is_refused(copy: Path) -> None:
    graph = next(copy.glob("tail_1.*"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    for opening in (
        open_parts,
        RoutedPredictor.from_pretrained,
        lambda path: open_trained(str(path), False),
    ):
        with pytest.raises(ValueError, match=f"{graph.name} is not the file that was exported"):
            opening(copy)
    graph.unlink()
    with pytest.raises(ValueError, match=f"{graph.name} is missing"):
        open_parts(copy)


def test_thresholds_of_labels_that_do_not_fit_are_refused_before_a_part_is_loaded(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = json.loads((copy / "config.json").read_text())
    spoilt = {"problem_type": "multi_label_classification", "label_thresholds": [0.5, 2.0, 0.5]}
    (copy / "config.json").write_text(json.dumps(settings | spoilt))
    monkeypatch.setattr(inference_parts, "PartsBackend", None)
    for opening in (open_parts, lambda path: open_trained(str(path), False)):
        with pytest.raises(ValueError, match=r"label_thresholds=\[0.5, 2.0, 0.5\] in config.json must be 3 numbers"):
            opening(copy)


def test_a_folder_of_another_version_is_refused(copy: Path) -> None:
    facts = json.loads((copy / PARTS).read_text())
    (copy / PARTS).write_text(json.dumps(facts | {"format": 0}))
    with pytest.raises(ValueError, match=r"written by sharcs_pl .* in another format; export it again"):
        open_parts(copy)


def test_options_that_the_folder_cannot_have(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = PartsFacts.read(parts).backend
    with pytest.raises(ValueError, match="point=slow: this model has no such operating point; it has trained, top"):
        open_parts(parts, point="slow")
    with pytest.raises(ValueError, match=r"max_length=25: .* reads at most 24 tokens"):
        open_parts(parts, max_length=25)
    with pytest.raises(ValueError, match=r"precision=int8: .* holds parts of float32"):
        open_parts(parts, precision="int8")
    with pytest.raises(ValueError, match=rf"backend=torch: .* holds parts of {backend}"):
        RoutedPredictor.from_pretrained(parts, backend="torch")
    with pytest.raises(ValueError, match="compile=true is for torch"):
        RoutedPredictor.from_pretrained(parts, compile=True)
    with pytest.raises(ValueError, match="holds parts, which run on the CPU; use device=cpu"):
        RoutedPredictor.from_pretrained(parts, device="cuda")
    if backend == "onnxruntime":
        with pytest.raises(ValueError, match="precision=bfloat16: onnxruntime computes in float32 or int8"):
            open_parts(parts, precision="bfloat16")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"backend={backend} is not installed: pip install 'sharcs-pl\["):
        open_parts(parts)


def test_commands_that_need_weights_refuse_parts(parts: Path) -> None:
    source = open_trained(str(parts), False)
    with pytest.raises(ValueError, match="holds parts of another runtime, without weights"):
        load_model(source)
    with pytest.raises(ValueError, match=r"cost\.audit=true counts a model in torch"):
        check_audited(source.config, source)
    model = load_served(source, Serving())
    assert isinstance(model, BackendModel)
    assert engine_of(model).backend is model.backend
