from __future__ import annotations

from dataclasses import replace

import numpy as np

from sharcs_pl.core.exits import ExitCost, ExitLadder
from sharcs_pl.core.flops import EncoderShape, full_layer_macs

SHAPE = EncoderShape(hidden_size=8, num_heads=4, head_size=2, intermediate_size=16, num_layers=3, num_labels=3)
LENGTHS = np.array([1, 5, 128])


def test_an_exit_costs_its_layers_and_every_head_on_the_way() -> None:
    cost, layer = ExitCost(SHAPE, ExitLadder((1, 3))), full_layer_macs(SHAPE, LENGTHS)
    assert cost.rung_macs(LENGTHS).tolist() == np.stack([layer + 88, 3 * layer + 2 * 88], 1).tolist()
    assert cost.dense_macs(LENGTHS).tolist() == (3 * layer + 88).tolist()
    linear = replace(cost, linear=True, learned=True)  # 8*3 for the answer, 8 for the certainty; the last head is whole
    assert linear.rung_macs(LENGTHS).tolist() == np.stack([layer + 32, 3 * layer + 32 + 88], 1).tolist()
    projected = replace(cost, shape=replace(SHAPE, embedding_size=4))
    assert (projected.rung_macs(LENGTHS) - cost.rung_macs(LENGTHS)).tolist() == [[32 * n] * 2 for n in LENGTHS.tolist()]


def test_all_layers_by_default() -> None:
    ladder = ExitLadder.of(None, 3)
    assert (ladder.layers, ladder.top, len(ladder), ladder.labels()[0]) == ((1, 2, 3), 2, 3, "layer_1")
