from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from sharcs_pl.models.routed import SharcsConfig, SharcsForSequenceClassification
from sharcs_pl.models.slices import slices_of
from tests.models.surgery import MIXED, surgery


@pytest.mark.parametrize("model_type", ["bert", "mpnet", "albert", "distilbert", "modernbert", "deberta-v2"])
@torch.no_grad()
def test_save_and_load_bit_for_bit(stock: Any, batch: Any, tmp_path: Path, model_type: str) -> None:
    norm = model_type != "modernbert"  # which has no norm there at any rung
    model = surgery(stock(model_type), reduction="learned", top_rung_norm=norm, widths=["1/4", 0.5, 1])
    model.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "routed_model.py"}
    inputs = batch(model_type)
    want, every = model(**inputs, rungs=MIXED).logits, model.all_rungs(**inputs)
    for loaded in (
        SharcsForSequenceClassification.from_pretrained(tmp_path),
        AutoModelForSequenceClassification.from_pretrained(tmp_path),
    ):
        assert isinstance(loaded, SharcsForSequenceClassification)
        assert not loaded.training
        assert torch.equal(loaded(**inputs, rungs=MIXED).logits, want)
        torch.testing.assert_close(loaded.all_rungs(**inputs), every, atol=0, rtol=0)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, SharcsConfig)
    labels: Any = config.id2label
    assert (config.widths, labels[1]) == (["0.25", "0.5", "1"], "maybe")


@pytest.mark.parametrize(
    ("model_type", "taken"),
    [("bert", "eager"), ("mpnet", "eager"), ("electra", "sdpa"), ("modernbert", "sdpa"), ("deberta-v2", "eager")],
)
def test_a_saved_model_takes_the_attention_asked_for(stock: Any, tmp_path: Path, model_type: str, taken: str) -> None:
    surgery(stock(model_type)).save_pretrained(tmp_path)
    loaded = SharcsForSequenceClassification.from_pretrained(tmp_path, attn_implementation=taken)
    assert loaded.encoder.config._attn_implementation == taken


def test_weights_are_saved_once(model: SharcsForSequenceClassification) -> None:
    state = model.state_dict()
    assert len({value.data_ptr() for value in state.values()}) == len(state)
    own = {name for name in state if not name.startswith("encoder.")}
    assert own
    assert all(name.startswith("router.") or "norm" in name.lower() for name in own)
    assert slices_of(model.tails[0])


@torch.no_grad()
def test_a_copy_is_independent_and_follows_its_own_weights(model: SharcsForSequenceClassification, batch: Any) -> None:
    inputs, twin = batch(), copy.deepcopy(model)
    before = model.all_rungs(**inputs)[0]
    assert torch.equal(twin.all_rungs(**inputs)[0], before)
    twin.get_parameter("encoder.bert.encoder.layer.2.intermediate.dense.weight").mul_(-1)
    assert torch.equal(model.all_rungs(**inputs)[0], before)
    after = twin.all_rungs(**inputs)[0]
    assert all(not torch.allclose(after[:, rung], before[:, rung]) for rung in range(3))


@pytest.mark.parametrize("model_type", ["bert", "modernbert"])
@torch.no_grad()
def test_a_change_of_attention_reaches_every_rung(stock: Any, batch: Any, model_type: str) -> None:
    model, inputs = surgery(stock(model_type, attention="eager")), batch()
    want = model.all_rungs(**inputs)[0]
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(model.all_rungs(**inputs)[0], want, atol=1e-5, rtol=1e-4)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(model.all_rungs(**inputs)[0], want, atol=1e-5, rtol=1e-4)
    configs: list[Any] = [module.config for module in model.modules() if hasattr(module, "config")]
    assert {config._attn_implementation for config in configs} == {"eager"}


def test_importing_the_package_is_light_and_importing_the_class_registers_it() -> None:
    code = (
        "import sys, sharcs_pl; assert not {'torch', 'transformers'} & set(sys.modules), 'heavy'\n"
        "from sharcs_pl import SharcsForSequenceClassification\n"
        "from transformers import AutoConfig\n"
        "assert type(AutoConfig.for_model('sharcs')).__name__ == 'SharcsConfig'"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
