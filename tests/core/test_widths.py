from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import ListConfig

from sharcs_pl.core.widths import WidthLadder, check_split

BASE: dict[str, Any] = {"hidden_size": 768, "num_heads": 12, "intermediate_size": 3072}


@pytest.mark.parametrize(
    ("multipliers", "widths"),
    [
        ([1], [Fraction(1)]),
        ([1.0], [Fraction(1)]),
        ([0.25, 1.0], [Fraction(1, 4), Fraction(1)]),
        (["1/3", "0.5", 1], [Fraction(1, 3), Fraction(1, 2), Fraction(1)]),
        ([1 / 3, 2 / 3, 1], [Fraction(1, 3), Fraction(2, 3), Fraction(1)]),
        ([0.1, Fraction(1, 7), "1"], [Fraction(1, 10), Fraction(1, 7), Fraction(1)]),
        ([0.12345, 1], [Fraction(12345, 100000), Fraction(1)]),
        (ListConfig([0.25, "3/4", 1]), [Fraction(1, 4), Fraction(3, 4), Fraction(1)]),
    ],
)
def test_parse_reads_numbers_and_fractions_exactly(multipliers, widths) -> None:
    assert WidthLadder.parse(multipliers).widths == tuple(widths)


@pytest.mark.parametrize(
    ("multipliers", "fault"),
    [
        ([], "must end with 1"),
        ([0.25, 0.5], "must end with 1"),
        ([0.5, 1, 2], "must end with 1"),
        ([0.5, 0.25, 1], "must increase"),
        ([0.5, 0.5, 1], "must increase"),
        ([0, 1], "above 0"),
        ([-0.5, 1], "above 0"),
        (["a quarter", 1], "is no number"),
        (["1/0", 1], "is no number"),
        ([float("nan"), 1], "is no number"),
        ([float("inf"), 1], "is no number"),
        ([None, 1], "is no number"),
        ([True], "is no number"),
        (["__import__('os')", 1], "is no number"),
        ("0.25", "is not a list"),
        (0.25, "is not a list"),
    ],
)
def test_parse_refuses_what_is_no_ladder(multipliers, fault) -> None:
    with pytest.raises(ValueError, match=rf"^width\.multipliers: .*{fault}"):
        WidthLadder.parse(multipliers)


def test_rungs_are_narrow_first() -> None:
    ladder = WidthLadder.parse([0.25, "1/3", 1])
    assert (len(ladder), ladder.top, list(ladder.narrow)) == (3, 2, [0, 1])
    assert [ladder.size(rung, 768) for rung in range(3)] == [192, 256, 768]
    assert list(WidthLadder.parse([1]).narrow) == []


@pytest.mark.parametrize(("width", "full"), [("1/5", 12), (0.25, 2), (0.25, 3)])
def test_a_size_is_never_rounded(width, full) -> None:
    with pytest.raises(ValueError, match=r"width\.multipliers: .* not whole"):
        WidthLadder.parse([width, 1]).size(0, full)


def test_labels_are_short() -> None:
    assert WidthLadder.parse([0.0625, 0.25, "1/3", 0.5, 1.0]).labels() == ["0.0625", "0.25", "1/3", "0.5", "1"]


@pytest.mark.parametrize(
    ("multipliers", "reduction", "sizes", "fault"),
    [
        ([0.3, 1], "slice", {}, "0.3 of 12 heads is 3.6"),
        ([0.125, 1], "slice", {}, "0.125 of 12 heads is 1.5"),
        (["1/24", 1], "slice", {}, "1/24 of 12 heads is 0.5"),
        ([0.5, 1], "slice", {"hidden_size": 5, "num_heads": 2}, "0.5 of 5 hidden dims is 2.5"),
        ([0.5, 1], "slice", {"intermediate_size": 7}, "0.5 of 7 feed-forward neurons is 3.5"),
        ([0.75, 1], "learned", {}, "0.75 has no whole inverse"),
    ],
)
def test_check_refuses_widths_that_cut_a_head(multipliers, reduction: str, sizes: dict[str, int], fault) -> None:
    with pytest.raises(ValueError, match=rf"^width\.multipliers: .*{fault}.*Widths that fit this encoder: "):
        WidthLadder.parse(multipliers).check(**(BASE | sizes), reduction=reduction)


@pytest.mark.parametrize(
    ("reduction", "fitting"),
    [("slice", "1/6, 1/3, 0.5, 2/3, 5/6, 1"), ("learned", "1/6, 1/3, 0.5, 1")],
)
def test_check_lists_the_widths_that_fit(reduction, fitting) -> None:
    with pytest.raises(ValueError) as error:
        WidthLadder.parse([0.3, 1]).check(hidden_size=24, num_heads=6, intermediate_size=36, reduction=reduction)
    assert str(error.value).endswith(f"fit this encoder: {fitting}")


def test_check_accepts_what_fits() -> None:
    WidthLadder.parse([0.25, "1/3", 0.75, 1]).check(**BASE)
    WidthLadder.parse([0.25, "1/3", 0.5, 1]).check(**BASE, reduction="learned")
    with pytest.raises(ValueError, match=r"^width\.reduction: 'mean' is none of slice, learned"):
        WidthLadder.parse([1]).check(**BASE, reduction="mean")


@pytest.mark.parametrize(("split", "layers", "fits"), [(1, 2, True), (5, 6, True), (0, 6, False), (6, 6, False)])
def test_split_leaves_a_trunk_and_a_tail(split, layers, fits) -> None:
    if fits:
        return check_split(split, layers)
    with pytest.raises(ValueError, match=r"^width\.split_layer: . of 6 layers; what fits: 1 to 5$"):
        check_split(split, layers)


def test_one_layer_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least 2 layers"):
        check_split(1, 1)


fractions = st.fractions(min_value=Fraction(1, 64), max_value=Fraction(63, 64), max_denominator=200)


@given(st.sets(fractions, max_size=5))
def test_labels_round_trip(narrow: set[Fraction]) -> None:
    ladder = WidthLadder.parse([*sorted(narrow), 1])
    assert WidthLadder.parse(ladder.labels()) == ladder
    assert WidthLadder.parse([float(width) for width in ladder.widths]) == ladder


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(1, 8), st.integers(1, 60), fractions, st.sampled_from(["slice", "learned"]))
def test_check_agrees_with_what_it_lists(heads: int, head_size: int, neurons: int, width: Fraction, reduction) -> None:
    sizes = {"hidden_size": heads * head_size, "num_heads": heads, "intermediate_size": neurons}
    ladder = WidthLadder.parse([width, 1])
    whole = all((width * full).denominator == 1 for full in sizes.values())
    if whole and (reduction == "slice" or width.numerator == 1):
        ladder.check(**sizes, reduction=reduction)
        assert all(ladder.size(0, full) >= 1 for full in sizes.values())
        return
    with pytest.raises(ValueError) as error:
        ladder.check(**sizes, reduction=reduction)
    WidthLadder.parse(str(error.value).rsplit(": ", 1)[1].split(", ")).check(**sizes, reduction=reduction)
