"""The dense model as one graph answers as the stock one, and a variant in a runtime is measured against it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.analysis.benchmark.variants import VariantFactory, make_workload, tensors_of
from sharcs_pl.config.bench import BenchConfig, BenchWidth
from sharcs_pl.inference import runtimes as known
from sharcs_pl.pipeline.bench_runtimes import runtimes
from sharcs_pl.pipeline.benchmark import measure_speed, runtime_rows, untrained

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


def config_of(**changes: Any) -> BenchConfig:
    sizes: dict[str, Any] = {"shape": "tiny", "batch_sizes": [4], "length": 6, "samples": 8, "repeats": 1, "warmup": 0}
    width = BenchWidth(split_layer=2)
    return BenchConfig(**(sizes | {"width": width, "backends": ["onnxruntime"], "threads": 1} | changes))


def test_a_runtime_answers_as_stock_and_its_variants_know_their_base(tmp_path: Path) -> None:
    config = config_of(output=str(tmp_path))
    target = untrained(config)
    factory = VariantFactory(target.model, make_workload(target.table, 4, "given", labelled=False), None)
    (batch, *_) = factory.workload.batches
    with runtimes(config, target.model, target.stock, target.calibration) as (runtime,):
        with torch.no_grad():
            expected = target.stock(**tensors_of(batch)).logits
        np.testing.assert_allclose(runtime.call(batch), expected, atol=1e-5)
        rows = list(runtime_rows(config, factory, runtime))
    assert (rows[0].name, rows[0].kind, rows[0].base) == ("dense, onnxruntime float32", "dense", None)
    assert {row.base for row in rows[1:]} == {rows[0].name}
    assert {row.kind for row in rows[1:]} == {"width", "routed"}
    assert rows[1].macs_fraction < rows[2].macs_fraction


def test_without_backends_nothing_is_exported_and_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    target = untrained(config_of())
    with runtimes(config_of(backends=[]), target.model, target.stock, target.calibration) as found:
        assert found == []
    monkeypatch.setattr(known, "find_spec", lambda name: None)
    asked = runtimes(config_of(), target.model, target.stock, target.calibration)
    with pytest.raises(ValueError, match=r"backend=onnxruntime is not installed"), asked:
        pass


def test_each_runtime_takes_the_precisions_that_it_has_and_torch_adds_bfloat16() -> None:
    config = config_of(backends=["torch", "onnxruntime"], precisions=["float32", "bfloat16"])
    target = untrained(config)
    factory = VariantFactory(target.model, make_workload(target.table, 4, "given", labelled=False), None)
    (batch, *_) = factory.workload.batches
    with runtimes(config, target.model, target.stock, target.calibration) as found, torch.no_grad():
        assert [runtime.name for runtime in found] == ["torch bfloat16", "onnxruntime float32"]
        exact = target.stock(**tensors_of(batch)).logits
        rounded = found[0].call(batch)
        wide = found[0].engine.answer(batch, np.full(4, factory.model.ladder.top)).logits
    np.testing.assert_allclose(rounded, exact, atol=0.03)
    np.testing.assert_allclose(wide, exact, atol=0.03)
    assert not torch.equal(rounded, exact)


def test_the_headline_is_kept() -> None:
    found = measure_speed(config_of(backends=[]), [])
    (best,) = found["headlines"]
    assert (best["dense"], best["batch_size"]) == ("stock transformers", 4)
    assert best["routed"] in {each["contender"] for each in found["rows"] if each["kind"] == "routed"}
