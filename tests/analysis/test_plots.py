from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.analysis.evaluation import evaluate
from sharcs_pl.analysis.plots import RUNGS, draw_figures, have_matplotlib
from sharcs_pl.data.tasks import GLUE
from tests.analysis.test_evaluation import COST, predictions

pytestmark = pytest.mark.skipif(not have_matplotlib(), reason="needs the extra [plots]")


def test_figures_are_drawn_for_classes_and_regression(tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text("epoch,steps,routed,width_0.25,width_1\n0,3,False,0,20\n1,4,True,12,8\n")
    report = evaluate({"validation": predictions()}, GLUE["sst2"], COST, seed=1)
    files = draw_figures(report, tmp_path / "plan.csv", tmp_path / "figures")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files)
    assert len(set(RUNGS)) == len(RUNGS) == 8
