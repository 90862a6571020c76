"""A model whose weights or answers are NaN is refused by every command in one line, and nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from sharcs_pl import bench, calibrate, evaluate, export, reorder
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.models.pretrained import load_stock
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.saved import load_ladder
from tests.conftest import TINY, tiny_bert, train_run

NAN = float("nan")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHARCS_CACHE", str(folder.parent / "cache"))
        train_run(folder, *TINY, "trainer.max_epochs=2")
    return folder


def spoil(folder: Path, value: float, at: slice) -> None:
    """The saved model's embeddings of some tokens."""
    model = SharcsForSequenceClassification.from_pretrained(folder / "model")
    weight: Any = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[at] = value
    model.save_pretrained(folder / "model")


def spoil_checkpoint(folder: Path) -> None:
    path = folder / "checkpoints" / "best.ckpt"
    found = torch.load(path, weights_only=True)
    next(iter(found["state_dict"].values())).view(-1)[0] = NAN
    torch.save(found, path)


def made(schema: type, **values: Any) -> Any:
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))


COMMANDS: dict[str, Callable[[str, Path], Any]] = {
    "evaluate": lambda run, out: evaluate.run(made(EvaluateConfig, run=run, output=str(out))),
    "compare": lambda run, out: evaluate.run(
        made(EvaluateConfig, run=str(Path(run).parent / "good"), compare=run, output=str(out))
    ),
    "calibrate": lambda run, out: calibrate.run(made(CalibrateConfig, run=run, budget=0.8, output=str(out))),
    "bench": lambda run, out: bench.run(
        made(BenchConfig, run=run, samples=8, repeats=1, warmup=0, batch_sizes=[8], modes=["batch"])
    ),
    "export": lambda run, out: export.run(made(ExportConfig, run=run, format="torch", output=str(out))),
    "reorder": lambda run, out: reorder.run(
        read_command("reorder", ReorderConfig, [f"run={run}", f"output={out}", "samples=8"])
    ),
}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "compare"])
def test_weights_that_are_none(finished: Path, tmp_path: Path, command: str) -> None:
    shutil.copytree(finished, tmp_path / "run")
    spoil(tmp_path / "run", NAN, slice(7, 8))
    before = (tmp_path / "run" / "model" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"run=.*model holds NaN in its weights \(encoder"):
        COMMANDS[command](str(tmp_path / "run"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "run" / "model" / "config.json").read_bytes() == before


def test_weights_of_a_checkpoint(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    spoil_checkpoint(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run=.*best.ckpt holds NaN in its weights"):
        COMMANDS["evaluate"](str(tmp_path / "run" / "checkpoints" / "best.ckpt"), tmp_path / "out")


@pytest.mark.parametrize("command", ["evaluate", "compare", "calibrate", "bench", "export", "reorder"])
def test_answers_that_are_none_of_finite_weights(finished: Path, tmp_path: Path, command: str) -> None:
    """All words but padding overflow in the first norm."""
    shutil.copytree(finished, tmp_path / "run")
    shutil.copytree(finished, tmp_path / "good")
    spoil(tmp_path / "run", 3e38, slice(1, None))
    before = (tmp_path / "run" / "model" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"not finite|nan"):
        COMMANDS[command](str(tmp_path / "run"), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.json")) or command == "compare"
    assert not (tmp_path / "out" / "comparison.json").exists()
    assert (tmp_path / "run" / "model" / "config.json").read_bytes() == before


def test_an_encoder_and_a_teacher_of_a_stranger(tmp_path: Path, encoder: Path) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(encoder, bad)
    stock = load_stock(bad)
    with torch.no_grad():
        next(stock.parameters()).view(-1)[3] = float("inf")
    stock.save_pretrained(bad)
    for options, key in (
        (("encoder=custom", f"encoder.pretrained={bad}"), "encoder.pretrained"),
        (("encoder=custom", f"encoder.pretrained={encoder}", "method=distilled", f"method.teacher={bad}"), "teacher"),
    ):
        with pytest.raises(ValueError, match=rf"{key}=.*bad holds infinity in its weights"):
            train_run(tmp_path / "run", *TINY, *options)
        assert not (tmp_path / "run").exists()


def test_a_ladder_to_go_on_from(tmp_path: Path) -> None:
    model = SharcsForSequenceClassification.from_encoder(tiny_bert(), widths=[0.25, 1], split_layer=1)
    with torch.no_grad():
        next(model.tails.parameters()).view(-1)[0] = NAN
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"encoder.pretrained=.* holds NaN in its weights"):
        load_ladder(tmp_path)
