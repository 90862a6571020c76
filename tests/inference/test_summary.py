"""The counts of several files together, and their table."""

from __future__ import annotations

import io

import pytest

from sharcs_pl.core.screen import Screen
from sharcs_pl.inference.summary import Summary, combined, files_table

ONE = Summary(11, 1, {"0.5": 0.4, "1": 0.6}, 50.0, 0.5, 20.0)
OTHER = Summary(30, 0, {"0.5": 0.1, "1": 0.9}, 90.0, 0.75, None)
NONE = Summary(3, 3, {"0.5": 0.0, "1": 0.0}, 0.0, 0.0, None)


def test_the_counts_of_all_are_those_of_their_texts() -> None:
    total = combined([ONE, OTHER, NONE])
    assert (total.rows, total.rejected, total.texts_per_second) == (44, 4, None)
    assert total.shares == pytest.approx({"0.5": 7 / 40, "1": 33 / 40})
    assert total.macs == pytest.approx((10 * 50 + 30 * 90) / 40)
    assert total.macs_fraction == pytest.approx((10 * 50 + 30 * 90) / (10 * 100 + 30 * 120))
    assert combined([ONE]).macs_fraction == pytest.approx(0.5)
    assert combined([]) == Summary(0, 0, {}, 0.0, 0.0, None)
    assert combined([NONE]).macs_fraction == 0.0


def test_the_table_has_every_file_within_80_columns() -> None:
    screen = Screen(file=io.StringIO(), width=80)
    long = "a/very/long/folder/that/does/not/fit/part-00000.parquet"
    table = files_table("2 files", {long: ONE, "b[red].csv": OTHER, "c.csv": None}, combined([ONE, OTHER]))
    screen.print(table)
    lines = screen.file.getvalue().splitlines()  # pyright: ignore[reportAttributeAccessIssue]
    cells = [[cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")] for line in lines]
    assert ["", "texts", "rejected", "at 0.5", "at 1", "of dense", "texts/s"] in cells
    assert ["10", "1", "40%", "60%", "50.0%", "20.0"] in [row[1:] for row in cells]
    assert ["b[red].csv", "30", "0", "10%", "90%", "75.0%", "earlier"] in cells
    assert ["c.csv", "failed", "", "", "", "", ""] in cells
    assert ["all", "40", "1", "18%", "82%", "69.6%", ""] in cells
