from __future__ import annotations

import pytest
import torch

from sharcs_pl.core.decision import RULES
from sharcs_pl.models.sweeps import sweep_rule


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("rungs", [2, 3])
def test_every_rule_can_end_all_samples_at_the_narrowest_rung(name: str, rungs: int) -> None:
    logits = torch.randn(50, rungs, 3, generator=torch.Generator().manual_seed(1))
    router_logits = torch.randn(50, rungs, generator=torch.Generator().manual_seed(2))
    router_logits[:, 0] -= 5  # a likelier wider rung is no reason to begin there
    assert any((point.rungs == 0).all() for point in sweep_rule(name, logits, router_logits))


def test_a_routed_cascade_sends_the_clearly_hard_to_the_top_and_begins_narrow_with_the_others() -> None:
    logits = torch.randn(50, 3, 2, generator=torch.Generator().manual_seed(1))
    router_logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(2))
    shares = set()
    for point in sweep_rule("router+cascade", logits, router_logits):
        narrow, top = point.decision.first == 0, point.decision.first == 2
        assert (narrow | top).all()
        assert not top.any() or router_logits[top, 0].max() < router_logits[narrow, 0].min()
        shares.add(int(top.sum()))
    assert len(shares) > 2
