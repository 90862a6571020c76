from __future__ import annotations

import json

import pytest
from transformers import AutoConfig

from sharcs_pl.models.encoder_sizes import ARCHITECTURES, check_written_out, encoder_sizes
from sharcs_pl.models.families import FAMILIES
from tests.models.conftest import Stock


def test_both_tables_have_the_same_rows() -> None:
    assert ARCHITECTURES.keys() == FAMILIES.keys()


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_sizes_of_a_config_file_are_those_of_the_model(stock: Stock, model_type: str) -> None:
    made = stock(model_type)
    family = FAMILIES[model_type]
    sizes, size = encoder_sizes(json.loads(made.config.to_json_string())), family.size(made.config)
    assert (sizes.hidden, sizes.heads, sizes.ffn) == (size.hidden, size.heads, size.ffn)
    assert sizes.layers == len(family.depth_order(made))


@pytest.mark.parametrize(("model_type", "positions"), [("bert", 512), ("roberta", 514), ("mpnet", 514)])
def test_the_longest_input_leaves_out_what_padding_takes(model_type: str, positions: int) -> None:
    config = AutoConfig.for_model(model_type, max_position_embeddings=positions)
    assert encoder_sizes(json.loads(config.to_json_string())).max_tokens == 512


def test_what_cannot_serve_is_named() -> None:
    with pytest.raises(ValueError, match="'gpt2' is not supported; supported: albert, bert, deberta-v2"):
        encoder_sizes({"model_type": "gpt2"})
    with pytest.raises(ValueError, match="num_attention_heads=0"):
        encoder_sizes({"model_type": "bert", "hidden_size": 8, "num_attention_heads": 0, "max_position_embeddings": 9})


def test_a_part_that_is_not_cut_is_refused() -> None:
    config = json.loads(AutoConfig.for_model("deberta-v2", conv_kernel_size=3).to_json_string())
    with pytest.raises(ValueError, match=r"config\.json has conv_kernel_size=3, which is not supported"):
        encoder_sizes(config)
    assert encoder_sizes(config | {"conv_kernel_size": 0}).max_tokens == 512


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_only_what_is_written_out_can_be_exported(model_type: str) -> None:
    if ARCHITECTURES[model_type].written_out:
        check_written_out(model_type)
        return
    with pytest.raises(ValueError, match=f"'{model_type}' cannot be exported; those that can: albert, bert, distil"):
        check_written_out(model_type)
