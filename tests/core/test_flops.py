from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharcs_pl.core.flops import CostModel, EncoderShape, embedding_macs, full_layer_macs, head_macs
from sharcs_pl.core.widths import WidthLadder

ROBERTA_BASE = EncoderShape(768, 12, 64, 3072, 12, 2)
TINY = EncoderShape(hidden_size=8, num_heads=4, head_size=2, intermediate_size=16, num_layers=3, num_labels=3)
LENGTHS = np.array([1, 5, 128])


def cost(shape=TINY, widths=(0.25, 0.5, 1), split=1, reduction="slice", router=True) -> CostModel:
    return CostModel(
        shape=shape,
        ladder=WidthLadder.parse(widths),
        split_layer=split,
        router_hidden_size=10,
        reduction=reduction,
        has_router=router,
    )


def test_roberta_base_at_128_tokens() -> None:
    macs = cost(ROBERTA_BASE, router=False).dense_macs(np.array([128]))
    attention = 12 * 2 * 128 * 128 * 768
    assert macs.item() == 12 * 128 * (4 * 768 * 768 + 2 * 768 * 3072) + attention + 768 * 768 + 768 * 2
    assert macs.item() == 11_174_217_216
    # Counters that charge a norm 5 operations per element (25 norms here) show 11.19, and 10.88 without attention.
    norms = 25 * 5 * 128 * 768
    assert (macs.item() + norms) / 1e9 == pytest.approx(11.19, abs=0.005)
    assert (macs.item() - attention + norms) / 1e9 == pytest.approx(10.88, abs=0.005)


def test_a_tiny_encoder_by_hand() -> None:
    # Per token: 4*8*8 + 2*8*16 = 512 in a full layer; a pair of tokens: 2*8. Head: 8*8 + 8*3. Router: 8*10 + 10*3.
    full = np.array([512 * n + 16 * n * n for n in LENGTHS.tolist()])
    assert cost().dense_macs(LENGTHS).tolist() == (3 * full + 88).tolist()
    # At 0.5 (hidden 4, 2 heads, 8 neurons) a token: 4*4*4 + 2*4*8 = 128, a pair: 2*4, head: 4*8 + 8*3.
    half = np.array([128 * n + 8 * n * n for n in LENGTHS.tolist()])
    # At 0.25 (hidden 2, 1 head, 4 neurons) a token: 4*2*2 + 2*2*4 = 32, a pair: 2*2, head: 2*8 + 8*3.
    quarter = np.array([32 * n + 4 * n * n for n in LENGTHS.tolist()])
    rungs = np.stack([full + 110 + 2 * quarter + 40, full + 110 + 2 * half + 56, 3 * full + 110 + 88], axis=1)
    assert cost().rung_macs(LENGTHS).tolist() == rungs.tolist()


def test_tokens_that_are_skipped_cost_nothing() -> None:
    skimming = replace(cost(split=2), skim=3)
    # 9 tokens come in, 6 and 4 run in the trunk, 2 in the tail; a token costs each predictor that reads it 3 * (8 + 1).
    trunk = 512 * (6 + 4) + 16 * (6 * 6 + 4 * 4) + 27 * (9 + 6 + 4) + 110
    quarter, half, full = 32 * 2 + 4 * 2 * 2 + 40, 128 * 2 + 8 * 2 * 2 + 56, 512 * 2 + 16 * 2 * 2 + 88
    tokens = np.array([[9, 6, 4, 2], [5, 5, 5, 5]])
    found = skimming.skimmed_macs(tokens)
    assert found[0].tolist() == [trunk + quarter, trunk + half, trunk + full]
    assert found[1].tolist() == skimming.rung_macs(np.array([5]))[0].tolist()
    assert (skimming.rung_macs(LENGTHS) - cost(split=2).rung_macs(LENGTHS)).tolist() == [[81 * n] * 3 for n in LENGTHS]
    learned = replace(skimming, reduction="learned").skimmed_macs(tokens) - found
    assert learned[0].tolist() == [8 * 2, 8 * 2, 0]


def test_the_top_rung_costs_the_stock_model_and_the_router() -> None:
    for reduction in ("slice", "learned"):
        model = cost(reduction=reduction)
        assert (model.rung_macs(LENGTHS)[:, -1] - model.dense_macs(LENGTHS) == model.router_macs()).all()
    dense = cost(widths=[1], router=False)
    assert dense.rung_macs(LENGTHS)[:, 0].tolist() == dense.dense_macs(LENGTHS).tolist()


def test_a_learned_reduction_costs_tokens_times_hidden() -> None:
    extra = cost(reduction="learned").rung_macs(LENGTHS) - cost().rung_macs(LENGTHS)
    assert extra.tolist() == [[8 * n, 8 * n, 0] for n in LENGTHS.tolist()]


@pytest.mark.parametrize(("embedding", "macs"), [(None, 0), (8, 64), (4, 32), (16, 128)])
def test_projected_embeddings_cost_a_linear(embedding, macs) -> None:
    shape = replace(TINY, embedding_size=embedding)
    assert embedding_macs(shape, LENGTHS).tolist() == [macs * n for n in LENGTHS.tolist()]
    extra = cost(shape).rung_macs(LENGTHS) - cost().rung_macs(LENGTHS)
    assert (extra == macs * LENGTHS[:, None]).all()
    assert (cost(shape).dense_macs(LENGTHS) - cost().dense_macs(LENGTHS) == macs * LENGTHS).all()


def test_a_gated_feed_forward_has_three_matrices() -> None:
    extra = full_layer_macs(replace(TINY, ffn_matrices=3), LENGTHS) - full_layer_macs(TINY, LENGTHS)
    assert extra.tolist() == [8 * 16 * n for n in LENGTHS.tolist()]


def test_relative_positions_are_projected_once_and_multiplied_with_every_token() -> None:
    # 6 distances; at full width a projection is 6*8*8 and a term 6*8 per token, at 0.25 6*2*2 and 6*2.
    shape = replace(TINY, relative_positions=6, position_projections=2, position_terms=1)
    extra = full_layer_macs(shape, LENGTHS) - full_layer_macs(TINY, LENGTHS)
    assert extra.tolist() == [2 * 384 + 48 * n for n in LENGTHS.tolist()]
    dense = cost(shape).dense_macs(LENGTHS) - cost().dense_macs(LENGTHS)
    assert dense.tolist() == (3 * extra).tolist()
    narrow = cost(shape).rung_macs(LENGTHS)[:, 0] - cost().rung_macs(LENGTHS)[:, 0]
    assert narrow.tolist() == (extra + 2 * np.array([2 * 24 + 12 * n for n in LENGTHS.tolist()])).tolist()


def test_long_texts_do_not_overflow() -> None:
    macs = cost(ROBERTA_BASE).dense_macs(np.array([60_000], dtype=np.int32))
    assert macs.item() > 12 * 2 * 60_000**2 * 768
    assert macs.dtype == np.int64


def test_head_and_tail_add_up() -> None:
    model = cost()
    parts = model.trunk_macs(LENGTHS) + model.tail_macs(LENGTHS, 0)
    assert parts.tolist() == model.rung_macs(LENGTHS)[:, 0].tolist()
    assert head_macs(TINY, 8) - head_macs(TINY, 2) == 6 * 8


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 16), st.integers(2, 8), st.data(), st.sampled_from(["slice", "learned"]))
def test_cost_grows_with_width_length_and_split(groups, head_size, layers, data, reduction) -> None:
    shape = EncoderShape(4 * groups * head_size, 4 * groups, head_size, 16 * groups * head_size, layers, 2)
    split = data.draw(st.integers(1, layers - 1))
    lengths = np.array(sorted(data.draw(st.sets(st.integers(1, 512), min_size=2, max_size=5))))
    macs = cost(shape, split=split, reduction=reduction).rung_macs(lengths)
    assert macs.shape == (len(lengths), 3)
    assert (macs > 0).all()
    assert (np.diff(macs, axis=1) > 0).all()
    assert (np.diff(macs, axis=0) > 0).all()
    later = cost(shape, split=split + 1, reduction=reduction).rung_macs(lengths)
    assert (later[:, :-1] > macs[:, :-1]).all()
    assert (later[:, -1] == macs[:, -1]).all()
