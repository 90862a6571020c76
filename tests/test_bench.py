"""The command from end to end on a tiny shape and on a trained run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.bench import check, run
from sharcs_pl.config.bench import BenchConfig, BenchWidth
from sharcs_pl.pipeline.benchmark import trained
from tests.conftest import TINY, train_run

QUICK: dict[str, Any] = {"repeats": 2, "warmup": 0, "samples": 12, "length": 6}


def test_a_shape_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BenchConfig(shape="tiny", batch_sizes=[1, 4], width=BenchWidth(split_layer=2), shared_slices=True, **QUICK)
    config.output = str(tmp_path / "out")
    found = run(config)
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == found
    rows = {(row["contender"], row["batch_size"]): row for row in found["rows"]}
    names = {name for name, _ in rows}
    dealt = {"75% narrow", "cascade, 75% narrow"}
    own = {"all width 0.25", "all width 1", *dealt, *(f"{name}, shared slices" for name in dealt)}
    own |= {f"all width {width}, shared slices" for width in ("0.25", "1")}
    streams = {f"{name}{more}, stream" for name in dealt for more in ("", ", shared slices")}
    assert names == {"stock transformers", *own, *streams}
    assert ("75% narrow, stream", 1) not in rows
    stock, narrow = rows["stock transformers", 4], rows["all width 0.25", 4]
    assert (stock["speedup"], stock["efficiency"], stock["macs_fraction"]) == (1, 1, 1)
    assert narrow["efficiency"] == pytest.approx(narrow["speedup"] * narrow["macs_fraction"])
    assert narrow["macs_fraction"] < rows["75% narrow", 4]["macs_fraction"] < 1
    assert rows["75% narrow", 4]["macs_fraction"] < rows["cascade, 75% narrow", 4]["macs_fraction"]  # it runs both
    assert all(len(row["seconds"]) == 2 for row in rows.values())
    text = (tmp_path / "out" / "table.txt").read_text()
    assert "sharcs bench" in text
    assert "seed 1" in text
    assert "batch size 4, given order, 12 samples, 2 rounds" in text
    assert text.splitlines()[0] in capsys.readouterr().out


def test_a_run_is_measured_on_its_own_texts_with_its_own_router(tiny_run: Path) -> None:
    metrics = json.loads((tiny_run / "metrics.json").read_text())
    everything = 10_000  # more than there are
    found = run(BenchConfig(run=str(tiny_run), batch_sizes=[8], repeats=1, warmup=0, samples=everything))
    rows = {row["contender"]: row for row in found["rows"]}
    for name in ("routed, trained", "routed, trained, stream"):
        assert rows[name]["value"] == pytest.approx(metrics["routed"]["value"])
        assert rows[name]["macs_fraction"] == pytest.approx(metrics["routed"]["macs_fraction"])
    assert rows["stock transformers"]["value"] == pytest.approx(metrics["rungs"][-1]["value"])
    assert rows["all width 0.25"]["value"] == pytest.approx(metrics["rungs"][0]["value"])


def test_the_stock_model_runs_the_engines_attention_kernel_whatever_it_was_trained_with(tmp_path: Path) -> None:
    train_run(tmp_path / "run", *TINY, "encoder.attn_implementation=eager")
    with pytest.raises(ValueError, match="point=slow: this model has no such operating point; it has trained"):
        check(BenchConfig(run=str(tmp_path / "run"), point=["trained", "slow"]))
    config = BenchConfig(run=str(tmp_path / "run"))
    assert trained(config, *check(config)).stock.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": "huge"}, "shape=huge is unknown; choose one of: minilm, roberta_base, tiny"),
        ({"width": BenchWidth(split_layer=6)}, r"width\.split_layer: 6 of 6 layers; what fits: 1 to 5"),
        ({"width": BenchWidth(multipliers=[0.3, 1])}, r"width\.multipliers.*0\.3"),
        ({"shares": [1.5]}, "shares=1.5 is out of range"),
        ({"batch_sizes": [0]}, "batch_sizes=0 is out of range"),
        ({"order": ["random"]}, "order=random is unknown; choose one of: given, sorted"),
        ({"dense": "runs/dense"}, "dense=runs/dense is compared with a trained model; add run="),
        ({"run": "nowhere"}, "run=nowhere does not exist"),
    ],
)
def test_bad_options_name_the_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(BenchConfig(**options))


def test_files_of_the_users_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "table.txt").write_text("the user's")
    with pytest.raises(ValueError, match=r"table.txt is there and was not written by this command"):
        run(BenchConfig(shape="tiny", output=str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["table.txt"]
