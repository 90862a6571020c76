"""The widest run of a model as a stock checkpoint, read where this package is not imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sharcs_pl.inference import stock as entry
from sharcs_pl.inference.stock import save_stock, widest
from sharcs_pl.models.encoder_sizes import ARCHITECTURES
from sharcs_pl.models.exits import ExitsForSequenceClassification
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.models.saved import load_saved, save_model
from sharcs_pl.models.stock_form import is_stock, obstacle
from tests.commands import run_line
from tests.models.surgery import surgery

READ = """
import json, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

torch.set_num_threads(1)
for folder in sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir()):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**load_file(f"{folder}.inputs")).logits
    save_file({"logits": logits.contiguous()}, f"{folder}.answer")
    about = [type(model).__module__, model.config.id2label.get(1), model.config.problem_type]
    Path(f"{folder}.json").write_text(json.dumps(about))
assert not [name for name in sys.modules if name.startswith("sharcs")]
"""


@torch.no_grad()
def test_every_backbone_gives_the_logits_of_full_width_without_this_package(
    stock: Any,
    batch: Any,
    tmp_path: Path,
) -> None:
    wanted = {}
    for kind in ARCHITECTURES:
        routed = surgery(stock(kind), reduction="learned", cut="full")
        early = ExitsForSequenceClassification.from_encoder(stock(kind, seed=3, num_labels=1), rule="patience")
        routed.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
        for name, model in ((kind, routed), (f"{kind}-exits", early)):
            folder, inputs = tmp_path / name, batch(kind)
            assert obstacle(model.config.to_dict()) is None
            assert save_stock(model, folder) <= 1e-6
            save_file(inputs, f"{folder}.inputs")
            wanted[name] = widest(model, inputs)
            assert load_file(folder / "model.safetensors").keys() == model.encoder.state_dict().keys()
            assert str(tmp_path) not in (folder / "config.json").read_text()
    done = run_line(["-c", READ, str(tmp_path)], cwd=tmp_path, kind="stock")
    assert done.returncode == 0, done.stderr
    assert len(wanted) == 18
    for name, logits in wanted.items():
        torch.testing.assert_close(load_file(tmp_path / f"{name}.answer")["logits"], logits, rtol=0, atol=1e-6)
        module, label, problem = json.loads((tmp_path / f"{name}.json").read_text())
        assert module.startswith("transformers.models.")
        if not name.endswith("exits"):
            assert (label, problem) == ("maybe", "single_label_classification")
        else:
            assert problem == "regression"


def test_a_checkpoint_that_answers_otherwise_is_not_handed_out(
    stock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = surgery(stock("bert"))
    monkeypatch.setattr(entry, "widest", lambda model, inputs: widest(model, inputs) + 1)
    with pytest.raises(ValueError, match=r"the stock model answers otherwise than this one: 1.0e\+00"):
        save_stock(model, tmp_path)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@torch.no_grad()
def test_a_model_of_one_full_width_is_saved_as_stock_and_comes_back(
    stock: Any,
    batch: Any,
    tmp_path: Path,
    kind: str,
) -> None:
    model = surgery(stock(kind), widths=[1])
    assert is_stock(model.config.to_dict())
    save_model(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == kind
    for loaded in (
        load_saved(tmp_path, SharcsForSequenceClassification),
        SharcsForSequenceClassification.from_pretrained(tmp_path),
    ):
        assert isinstance(loaded, SharcsForSequenceClassification)
        assert not loaded.training
        assert (loaded.router, loaded.ladder.labels()) == (None, ["1"])
        assert torch.equal(loaded(**batch(kind)).logits, model(**batch(kind)).logits)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_its_precision_and_options_are_kept(stock: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    model: Any = surgery(stock("bert"), widths=[1])
    save_model(model.to(dtype), tmp_path)
    assert load_saved(tmp_path, SharcsForSequenceClassification).dtype == dtype
    load: Any = SharcsForSequenceClassification.from_pretrained
    loaded, info = load(tmp_path, attn_implementation="eager", dtype=torch.float32, output_loading_info=True)
    assert loaded.dtype == torch.float32
    assert loaded.encoder.config._attn_implementation == "eager"
    assert not info["missing_keys"]


def test_a_stock_encoder_without_its_head_is_no_classifier(stock: Any, tmp_path: Path) -> None:
    stock("bert").bert.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"nor a classifier \(without classifier.bias, .*; use from_encoder"):
        SharcsForSequenceClassification.from_pretrained(tmp_path)


def test_what_has_no_stock_form(stock: Any, tmp_path: Path) -> None:
    found = {
        "norm": surgery(stock("bert"), top_rung_norm=True),
        "narrow": surgery(stock("bert"), widths=[0.5]),
        "skim": surgery(stock("bert"), skim=True),
        "norm alone": surgery(stock("bert"), widths=[1], top_rung_norm=True),
    }
    pieces = ("width.top_rung_norm", "the width 0.5 behind a trunk", "skips tokens", "width.top_rung_norm")
    for (name, model), piece in zip(found.items(), pieces, strict=True):
        assert piece in str(obstacle(model.config.to_dict()))
        assert not is_stock(model.config.to_dict())
        save_model(model, tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())["model_type"] == "sharcs"
