"""Keys that are auto: what they become, in agreement with each other and with what is given."""

from __future__ import annotations

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.config.auto import _RULES, Basis, decided
from sharcs_pl.config.checks import AUTO
from sharcs_pl.config.run import AUTO_KEYS
from sharcs_pl.runs.directory import run_config
from tests.conftest import compose_config

MINILM = Basis(layers=6, hidden=384, heads=12, ffn=1536, rows=3301)
BASE = Basis(layers=12, hidden=768, heads=12, ffn=3072, rows=67_349)


def default(*overrides: str) -> RunConfig:
    return run_config(compose_config("task=mrpc", "encoder=minilm", *overrides))


def test_every_key_that_may_be_auto_has_a_rule_and_is_auto_in_the_default_recipe() -> None:
    assert tuple(_RULES) == AUTO_KEYS
    assert default().undecided == list(AUTO_KEYS)
    assert run_config(compose_config()).undecided == []  # the embedded task has a recipe of its own


def test_the_default_recipe_of_a_small_and_of_a_base_size_encoder() -> None:
    small, base = (decided(default(), basis) for basis in (MINILM, BASE))
    assert (small.width.split_layer, base.width.split_layer) == (1, 2)
    assert small.width.multipliers == base.width.multipliers == ["0.25", "0.5", "1"]
    assert small.width.bounds == [[0.8, 1.0], [0.5, 1.0], [0.0, 1.0]]
    assert (small.optim.lr, base.optim.lr) == (1e-4, 3e-5)
    assert (small.trainer.max_epochs, base.trainer.max_epochs) == (8, 5)
    assert (small.first_routed_epoch, base.first_routed_epoch) == (3, 2)
    assert (small.batch_size, base.batch_size) == (16, 32)
    for config in (small, base):
        assert config.undecided == []
        assert config.width.reorder_after == config.first_routed_epoch < config.trainer.max_epochs
        assert (config.method.cut, config.hardness.trains, config.distill.name) == ("heads_ffn", "all", "frozen")
        assert (config.task.calibration, config.router.budget) == (0.1, 0.5)


@pytest.mark.parametrize(
    ("heads", "hidden", "ffn", "cut", "widths"),
    [
        (12, 384, 1536, "heads_ffn", ["0.25", "0.5", "1"]),
        (6, 384, 1536, "heads_ffn", ["1/3", "0.5", "1"]),
        (3, 384, 1536, "heads_ffn", ["1/3", "2/3", "1"]),
        (2, 384, 1536, "heads_ffn", ["0.5", "1"]),
        (12, 300, 1536, "full", ["0.25", "0.5", "1"]),
        (12, 384, 1534, "heads_ffn", ["0.5", "1"]),
        (12, 310, 1536, "full", ["0.5", "1"]),
        (12, 310, 1536, "heads_ffn", ["0.25", "0.5", "1"]),
    ],
)
def test_widths_divide_what_is_cut(heads: int, hidden: int, ffn: int, cut: str, widths: list[str]) -> None:
    found = decided(default(f"method.cut={cut}", "width.bounds=auto"), Basis(6, hidden, heads, ffn, 4000))
    assert found.width.multipliers == widths


@pytest.mark.parametrize(
    ("rows", "epochs", "calibration"),
    [(100, 16, None), (999, 12, None), (1000, 12, 0.1), (8_000, 7, 0.1), (20_000, 5, 0.1), (10**6, 5, 0.1)],
)
def test_fewer_texts_take_more_epochs_and_few_choose_no_thresholds(
    rows: int, epochs: int, calibration: float | None
) -> None:
    found = decided(default(), Basis(6, 384, 12, 1536, rows))
    assert (found.trainer.max_epochs, found.task.calibration) == (epochs, calibration)
    assert found.router.budget == (None if calibration is None else 0.5)


def test_given_values_stay_and_the_others_agree_with_them() -> None:
    given = ("width.multipliers=[0.25,1]", "trainer.max_epochs=9", "width.split_layer=3", "hardness.score=entropy")
    found = decided(default(*given), MINILM)
    assert (found.width.multipliers, found.width.split_layer) == (["0.25", "1"], 3)
    assert found.width.bounds == [[0.0, 0.5], [0.0, 100.0]]
    assert found.first_routed_epoch == 4
    assert found.batch_size == 32
    four = decided(default("width.bounds=[[0.9,1],[0.7,1],[0.5,1],[0,1]]"), MINILM)
    assert four.width.multipliers == ["0.25", "5/12", "2/3", "1"]
    without = decided(default("router.budget=null", "width.reorder_after=null"), MINILM)
    assert (without.router.budget, without.task.calibration, without.width.reorder_after) == (None, None, None)
    for threshold in ("router.threshold=0.6", "router.threshold=null", "router.stop_threshold=0.9"):
        kept = decided(default(threshold, "router.rule=router+cascade"), MINILM)
        assert (kept.router.budget, kept.task.calibration) == (None, None)
    assert kept.router.threshold == 0.7
    both = decided(default("router.threshold=0.6", "router.budget=0.4"), MINILM)
    assert (both.router.threshold, both.router.budget, both.task.calibration) == (0.6, 0.4, 0.1)
    mine = decided(default("task.calibration=0.2"), Basis(6, 384, 12, 1536, 400))
    assert (mine.router.budget, mine.task.calibration) == (0.5, 0.2)


@pytest.mark.parametrize(
    ("words", "epochs", "first"),
    [
        (["hardness.window=3"], 5, 3),
        (["hardness.warmup_epochs=6"], 7, 6),
        (["width.reorder_after=3"], 5, 3),
        (["hardness.weight_by_bucket=true"], 5, 2),
        (["width.loss_weights=[1,1]"], 5, 2),
        (["hardness.bounds.confidence=[[0.7,1],[0,1]]"], 5, 2),
    ],
)
def test_one_given_value_is_enough(words: list[str], epochs: int, first: int) -> None:
    found = decided(default(*words), BASE)
    assert (found.trainer.max_epochs, found.first_routed_epoch) == (epochs, first)
    weights = found.width.loss_weights
    assert weights is None or len(found.width.multipliers) == len(weights)
    if "bounds" in words[0]:
        assert found.width.bounds == [[0.7, 1.0], [0.0, 1.0]]
        assert found.width.multipliers == ["0.25", "1"]


def test_a_ladder_that_has_learned_stays_as_it_is() -> None:
    ladder = {"widths": ["0.5", "1"], "split_layer": 3, "cut": "full"}
    found = decided(default(), Basis(6, 384, 12, 1536, 4000, ladder))
    assert (found.width.multipliers, found.width.split_layer, found.method.cut) == (["0.5", "1"], 3, "full")
    assert found.width.reorder_after is None
    dense = decided(default("method=dense"), Basis(6, 384, 12, 1536, 4000, ladder))
    assert dense.width.split_layer == 1


@pytest.mark.parametrize("method", ["dense", "slimmable", "fixed", "branchynet", "skim", "pabee"])
def test_other_methods_take_what_they_read(method: str) -> None:
    more = ("method.width=0.25",) if method == "fixed" else ()
    found = decided(default(f"method={method}", *more), MINILM)
    assert found.method.cut == ("heads_ffn" if method in ("slimmable", "fixed") else None)
    assert (found.task.calibration is None) == (method != "slimmable")
    assert (found.width.reorder_after, found.hardness.trains) == (None, "bucket")
    assert found.trainer.max_epochs == 5


def test_what_does_not_fit_together_is_refused_when_it_is_decided() -> None:
    with pytest.raises(ValueError, match=r"width\.split_layer"):
        decided(default("width.split_layer=6"), MINILM).check_fits(
            num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536
        )
    with pytest.raises(ValueError, match="5 heads and 1536 feed-forward neurons have no common divisor"):
        decided(default(), Basis(6, 380, 5, 1536, 4000))
    assert decided(default("method=dense"), Basis(6, 380, 5, 1536, 4000)).width.multipliers == ["1"]
    with pytest.raises(ValueError, match="leaves no routed epoch"):
        decided(default("trainer.max_epochs=1"), MINILM)
    assert default("width.split_layer=6").width.multipliers == AUTO


def test_skimming_keeps_the_buckets_of_the_paper() -> None:
    found = decided(default("method.skim_weight=0.5", "method.cut=full"), MINILM)
    assert (found.hardness.trains, found.distill.name) == ("bucket", "top")


def test_a_distillation_without_weight_freezes_no_teacher() -> None:
    assert decided(default("distill.weight=0"), MINILM).distill.name == "top"
