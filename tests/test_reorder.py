"""``sharcs reorder``: an ordinary checkpoint of the same function, and a mistake in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from sharcs_pl import reorder
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.data.synthetic import word_tokenizer
from sharcs_pl.models.pretrained import load_checkpoint, load_stock
from tests.conftest import TINY, tiny_bert, train_run

QUICK = ("task.train_size=40", "task.dev_size=20", "samples=32", "head_steps=4", "batch_size=8", "task.max_length=30")


def checked(*overrides: str) -> ReorderConfig:
    return read_command("reorder", ReorderConfig, [*QUICK, *overrides])


def do(output: Path, *overrides: str) -> dict[str, Any]:
    return reorder.run(checked(f"output={output}", *overrides))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder without a head."""
    folder = tmp_path_factory.mktemp("bare")
    tokenizer = word_tokenizer()
    torch.manual_seed(4)
    for part in (tiny_bert(vocab_size=len(tokenizer)).bert, tokenizer):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory, bare: Path) -> Path:
    """A finished dense run from that encoder."""
    folder = tmp_path_factory.mktemp("run") / "dense"
    options = ("method=dense", "encoder=custom", f"encoder.pretrained={bare}", "task.max_length=30")
    train_run(folder, *TINY, *options, "trainer.max_epochs=1")
    return folder


def logits(folder: Path) -> torch.Tensor:
    batch = AutoTokenizer.from_pretrained(folder)(["the film is good", "bad"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return load_stock(folder)(**batch).logits


def features(folder: Path) -> torch.Tensor:
    batch = AutoTokenizer.from_pretrained(folder)(["the film is good", "bad"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder)(**batch).last_hidden_state


def test_a_bare_encoder_comes_back_bare_and_the_same_but_for_the_order(bare: Path, tmp_path: Path) -> None:
    record = do(tmp_path / "o", f"encoder.pretrained={bare}", "encoder=custom", "task=graded")
    torch.testing.assert_close(features(tmp_path / "o"), features(bare), rtol=1e-6, atol=1e-6)
    old, new = load_file(bare / "model.safetensors"), load_file(tmp_path / "o" / "model.safetensors")
    new = {name.removeprefix("bert."): value for name, value in new.items()}
    assert set(new) == set(old)
    assert any(not torch.equal(new[name], old[name]) for name in old)
    assert all(torch.equal(new[name].sum(), old[name].sum()) for name in old if "pooler" in name)
    assert (record["head"], record["samples"], record["split"]) == ("fitted", 32, "train")
    assert {path.name for path in (tmp_path / "o").iterdir()} >= {"importance.parquet", "reorder.json", "config.json"}
    assert len(pq.read_table(tmp_path / "o" / "importance.parquet")) == 3 * (4 + 32)


def test_a_run_gives_its_task_its_head_and_its_logits(dense: Path, tmp_path: Path) -> None:
    record = do(tmp_path / "o", f"run={dense}", "split=dev", "width.multipliers=[0.5,1]")
    before = load_stock(dense_stock(dense))
    assert (record["head"], record["task"], record["weights"]) == ("the run's", "graded", "trained")
    _, drawn = load_checkpoint(str(tmp_path / "o"))
    assert not drawn
    batch = AutoTokenizer.from_pretrained(tmp_path / "o")(
        ["good", "the film is bad"], padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        want = before(**batch).logits
        torch.testing.assert_close(load_stock(tmp_path / "o")(**batch).logits, want, rtol=1e-6, atol=1e-6)
    assert [(row["width"], row["cut"]) for row in record["narrow"]] == [("0.5", "rung"), ("0.5", "hidden_kept")]
    metrics = json.loads((dense / "metrics.json").read_text())
    assert record["full"]["value"] == pytest.approx(metrics["routed"]["value"])


def dense_stock(run: Path) -> Any:
    from sharcs_pl.inference.loading import load_model
    from sharcs_pl.inference.trained import open_trained

    return load_model(open_trained(str(run))).encoder


def test_the_runs_order_can_go_to_the_weights_it_started_from(dense: Path, bare: Path, tmp_path: Path) -> None:
    trained = do(tmp_path / "a", f"run={dense}")
    record = do(tmp_path / "b", f"run={dense}", "weights=pretrained")
    torch.testing.assert_close(features(tmp_path / "b"), features(bare), rtol=1e-6, atol=1e-6)
    assert (tmp_path / "a" / "importance.parquet").read_bytes() == (tmp_path / "b" / "importance.parquet").read_bytes()
    assert record["narrow"] == trained["narrow"]
    new, old = load_file(tmp_path / "b" / "model.safetensors"), load_file(bare / "model.safetensors")
    assert not any("classifier" in name for name in new)
    name = "encoder.layer.1.intermediate.dense.weight"
    rows = pq.read_table(tmp_path / "b" / "importance.parquet").to_pylist()
    place = {row["index"]: row["place"] for row in rows if (row["part"], row["layer"]) == ("neuron", 1)}
    assert not torch.equal(new[f"bert.{name}"], old[name])
    assert all(torch.equal(new[f"bert.{name}"][place[i]], old[name][i]) for i in place)


def test_what_is_written_trains(dense: Path, tmp_path: Path) -> None:
    do(tmp_path / "o", f"run={dense}")
    options = ("encoder=custom", f"encoder.pretrained={tmp_path / 'o'}", "trainer.max_epochs=2", "task.max_length=30")
    metrics = train_run(tmp_path / "run", *TINY, *options)
    assert 0 <= metrics["routed"]["value"] <= 1


def test_an_outcome_is_replaced_only_when_asked_and_other_files_never(bare: Path, tmp_path: Path) -> None:
    given = (f"encoder.pretrained={bare}", "encoder=custom")
    do(tmp_path / "o", *given)
    with pytest.raises(ValueError, match="exists; add overwrite=true"):
        do(tmp_path / "o", *given)
    do(tmp_path / "o", *given, "overwrite=true", "seed=2")
    assert json.loads((tmp_path / "o" / "reorder.json").read_text())["seed"] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="holds other files"):
        do(tmp_path / "mine", *given, "overwrite=true")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_change_of_function_is_refused_and_nothing_is_saved(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sharcs_pl.pipeline import reordering

    real = reordering.reorder

    def faulty(stock: Any, wanted: Any) -> None:
        real(stock, wanted)
        with torch.no_grad():
            stock.bert.encoder.layer[1].output.dense.weight.neg_()

    monkeypatch.setattr(reordering, "reorder", faulty)
    with pytest.raises(ValueError, match="bert cannot be reordered: its logits would change by"):
        do(tmp_path / "o", f"encoder.pretrained={bare}", "encoder=custom")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("encoder=tiny",), "starts from scratch"),
        (("split=test",), "split=test is unknown"),
        (("samples=0",), "samples=0 is out of range"),
        (("weights=both",), "weights=both is unknown"),
        (("width.multipliers=[0.5]",), "must end with 1"),
        (("width.split_layer=0",), "width.split_layer=0 is out of range"),
        (("encoder=custom", "encoder.pretrained=BARE", "width.split_layer=3"), "3 of 3 layers"),
        (("encoder=custom", "encoder.pretrained=BARE", "width.multipliers=[0.3,1]"), "Widths that fit"),
        (("encoder=custom", "encoder.pretrained=BARE", "task=mrpc", "task.data_dir=nowhere"), "nowhere"),
        (("encoder=custom", "encoder.pretrained=./nowhere"), "is not a folder"),
        (("run=nowhere",), "run=nowhere does not exist"),
        (("run=DENSE", "width.split_layer=3"), "3 of 3 layers"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_names_the_key(
    bare: Path, dense: Path, tmp_path: Path, overrides: tuple[str, ...], words: str
) -> None:
    given = [text.replace("BARE", str(bare)).replace("DENSE", str(dense)) for text in overrides]
    with pytest.raises(ValueError, match=words):
        do(tmp_path / "o", *given)
    assert not (tmp_path / "o").exists()


def test_a_run_from_scratch_has_no_pretrained_weights(tmp_path: Path) -> None:
    train_run(tmp_path / "run", *TINY, "method=dense", "trainer.max_epochs=1")
    with pytest.raises(ValueError, match="started from scratch; use weights=trained"):
        do(tmp_path / "o", f"run={tmp_path / 'run'}", "weights=pretrained")
    do(tmp_path / "o", f"run={tmp_path / 'run'}")
    assert (tmp_path / "o" / "tokenizer.json").exists()


def test_the_output_is_asked_for() -> None:
    with pytest.raises((HydraException, Exception), match="output"):
        OmegaConf.structured(ReorderConfig).output  # noqa: B018


def test_what_lies_beside_an_earlier_outcome_stays(tmp_path: Path, bare: Path) -> None:
    source = ("encoder=custom", f"encoder.pretrained={bare}")
    do(tmp_path / "out", *source)
    (tmp_path / "out/notes.txt").write_text("the user's")
    (tmp_path / "out/vocab.txt").write_text("the user's")
    with pytest.raises(ValueError, match=r"out/vocab.txt is there and was not written by this command"):
        do(tmp_path / "out", *source, "overwrite=true")
    (tmp_path / "out/vocab.txt").unlink()
    do(tmp_path / "out", *source, "overwrite=true", "seed=2")
    assert (tmp_path / "out/notes.txt").read_text() == "the user's"
    assert json.loads((tmp_path / "out/reorder.json").read_text())["seed"] == 2
    (tmp_path / "out/.sharcs.json").unlink()  # an older version kept none
    do(tmp_path / "out", *source, "overwrite=true")
    assert (tmp_path / "out/notes.txt").exists()
