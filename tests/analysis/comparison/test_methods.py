"""A report's numbers: the frontier and what is read off it, seeds, groups, chance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharcs_pl.analysis.comparison.methods import area, compare_methods, frontier, group_runs, mean_points, value_at
from sharcs_pl.analysis.comparison.runs import OWN, find_runs, read_run
from sharcs_pl.analysis.comparison.tables import grids, notes, summary_csv
from sharcs_pl.evaluation.bootstrap import paired_bootstrap
from tests.analysis.comparison.made_runs import DENSE, make_run

CURVE = [(0.8, 0.9), (0.4, 0.7), (0.6, 0.6), (1.0, 0.85)]


def test_the_frontier_leaves_out_what_is_dearer_and_no_better() -> None:
    assert frontier(CURVE) == [(0.4, 0.7), (0.8, 0.9)]
    assert frontier([(0.5, 0.7), (0.5, 0.8)]) == [(0.5, 0.8)]
    assert frontier([]) == []


def test_between_two_points_of_the_frontier_it_is_linear() -> None:
    assert value_at(CURVE, 0.5) == pytest.approx(0.75)
    assert value_at(CURVE, 0.4) == pytest.approx(0.7)
    assert value_at(CURVE, 2.0) == pytest.approx(0.9)
    assert value_at(CURVE, 0.39) is None


def test_the_line_is_what_dealing_samples_at_random_reaches() -> None:
    """Half the samples of a budget of 0.6 take the point at 0.4, half that at 0.8."""
    rng = np.random.default_rng(0)
    cheap, dear = rng.random(200_000) < 0.7, rng.random(200_000) < 0.9
    dealt = np.where(rng.random(200_000) < 0.5, cheap, dear)
    assert dealt.mean() == pytest.approx(value_at(CURVE, 0.6), abs=0.005)


def test_the_area_starts_at_the_constant_answer_and_ends_at_the_dense_cost() -> None:
    assert area([(1.0, 0.9)], 0.5) == pytest.approx(0.7)
    # 0.5 -> 0.7 over 0.4, 0.7 -> 0.9 over 0.4, then flat
    assert area(CURVE, 0.5) == pytest.approx(0.6 * 0.4 + 0.8 * 0.4 + 0.9 * 0.2)
    assert area([(0.5, 0.4)], 0.5) == pytest.approx(0.5)  # no better than the constant answer
    assert area([(0.5, 0.8), (2.0, 1.0)], 0.5) == pytest.approx(0.65 * 0.5 + (0.8 + 0.8 + 0.2 / 3) / 2 * 0.5)


@pytest.mark.parametrize(
    ("metric", "task", "words"),
    [
        ("accuracy", {}, "the cheapest width or exit that is right, else the cheapest."),
        ("micro_f1", {}, "the cheapest of the widths or exits with the most right labels."),
        ("macro_f1", {"multi_label": True}, "the cheapest of the widths or exits with the most right labels."),
    ],
)
def test_a_note_says_what_the_oracle_takes(tmp_path: Path, metric: str, task: dict[str, Any], words: str) -> None:
    run = make_run(tmp_path / "run", metric=metric, settings={"task": {"name": "mrpc", **task}})
    (run / "predictions.tsv").unlink()  # which holds lists where labels are several
    found = compare_methods(group_runs([(None, read_run(run))]), 0.5, 10, 1)
    assert notes(found)[-1] == f"The oracle takes for each sample {words}"


def test_seeds_make_one_method_and_settings_another(tmp_path: Path) -> None:
    for seed in (2, 1):
        make_run(tmp_path / f"a{seed}", seed=seed)
        make_run(tmp_path / f"b{seed}", seed=seed, settings={"distill": {"name": "top"}})
    make_run(tmp_path / "c", "pabee")
    methods = group_runs([(None, read_run(path)) for path in find_runs(str(tmp_path))])
    assert [(m.name, [run.seed for run in m.runs]) for m in methods] == [
        ("sharcs (distill=-)", [1, 2]), ("sharcs (distill=top)", [1, 2]), ("pabee", [1]),
    ]  # fmt: skip


def test_every_configuration_has_a_name_of_its_own(tmp_path: Path) -> None:
    for lr in (1e-5, 5e-5):
        for epochs in (3, 6):
            settings = {"optim": {"lr": lr}, "trainer": {"max_epochs": epochs}}
            make_run(tmp_path / f"{lr}" / f"{epochs}", settings=settings)
    runs = [read_run(path) for path in find_runs(str(tmp_path))]
    assert [method.name for method in group_runs([(None, run) for run in runs])] == [
        "sharcs (optim.lr=1e-05, trainer.max_epochs=3)", "sharcs (optim.lr=1e-05, trainer.max_epochs=6)",
        "sharcs (optim.lr=5e-05, trainer.max_epochs=3)", "sharcs (optim.lr=5e-05, trainer.max_epochs=6)",
    ]  # fmt: skip
    for number in (0, 1):  # more keys than a name can hold, in folders of the same name
        settings = {"optim": {f"key{i}": number for i in range(5)}}
        make_run(tmp_path / "many" / f"{number}" / "run", "pabee", settings=settings)
    many = [read_run(path) for path in find_runs(str(tmp_path / "many"))]
    names = [method.name for method in group_runs([(None, run) for run in many])]
    assert names == [f"pabee ({number}/run)" for number in (0, 1)]


def test_what_chooses_the_weights_tells_configurations_apart(tmp_path: Path) -> None:
    for number, budget in enumerate((0.5, 0.7)):
        make_run(
            tmp_path / str(number), settings={"checkpoint": {"max_macs_fraction": budget, "every_n_steps": number}}
        )
    methods = group_runs([(None, read_run(path)) for path in find_runs(str(tmp_path))])
    assert [m.name for m in methods] == [f"sharcs (checkpoint.max_macs_fraction={budget})" for budget in (0.5, 0.7)]


def test_given_names_put_runs_together_and_a_seed_counts_once(tmp_path: Path) -> None:
    a, b = read_run(make_run(tmp_path / "a", seed=1)), read_run(make_run(tmp_path / "b", seed=2, settings={"x": 1}))
    assert [len(method.runs) for method in group_runs([("SHARCS", a), ("SHARCS", b)])] == [2]
    again = read_run(make_run(tmp_path / "c", seed=1))
    with pytest.raises(ValueError, match=r"SHARCS has seed 1 twice, the second time in .*c"):
        group_runs([("SHARCS", a), ("SHARCS", again)])


def test_points_are_averaged_over_seeds_by_name(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1, points={"": [(0.4, 0.7), (0.9, 0.8)]})
    make_run(tmp_path / "b", seed=2, points={"": [(0.5, 0.6)]})
    (method,) = group_runs([(None, read_run(path)) for path in find_runs(str(tmp_path))])
    (point,) = mean_points(method, OWN, DENSE)
    assert (point.cost.mean, point.value.mean) == (pytest.approx(0.45), pytest.approx(0.65))
    assert point.value.std == pytest.approx(np.std([0.7, 0.6], ddof=1))


def compared(tmp_path: Path, budget: float = 0.5):
    runs = [(None, read_run(path)) for path in find_runs(str(tmp_path))]
    return compare_methods(group_runs(runs), budget, 300, 1)


def test_a_smaller_encoder_costs_a_fraction_of_the_dense_model(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "dense", widths=(1.0,), cost=1.0)
    make_run(tmp_path / "b", "distilled", widths=(1.0,), cost=1.0, dense_macs=0.4 * DENSE)
    found = compared(tmp_path)
    assert found.dense is not None
    assert found.dense.name == "dense"
    costs = {row.method.name: row.cost.mean for row in found.standings}
    assert costs == {"dense": 1.0, "distilled": pytest.approx(0.4)}
    assert [row.method.name for row in found.standings] == ["distilled", "dense"]  # dense has no point at the budget


def test_differences_are_the_paired_bootstrap_over_all_seeds(tmp_path: Path) -> None:
    make_run(tmp_path / "d", "dense", widths=(1.0,), cost=1.0, right=0.9)
    make_run(tmp_path / "a", "sharcs", cost=0.5, right=0.7)
    make_run(tmp_path / "b", "pabee", cost=0.4, right=0.8)
    make_run(tmp_path / "c", "deebert", cost=0.8, right=0.95)
    rows = {row.method.name: row for row in compared(tmp_path).standings}
    found = rows["sharcs"].to_best
    assert found is not None
    assert found.name == "pabee"  # deebert is better, and dearer
    assert rows["pabee"].to_best is None
    runs = {name: read_run(tmp_path / name) for name in "ab"}
    classes = ("class 0", "class 1")

    def logits(name: str) -> torch.Tensor:
        answers = runs[name].answers
        assert answers is not None
        return torch.eye(2)[[classes.index(text) for text in answers.predictions]]

    labels = torch.tensor([classes.index(text) for text in runs["a"].answers.labels])  # type: ignore[union-attr]
    want = paired_bootstrap(logits("a"), logits("b"), labels, "accuracy", 300, 1)
    assert (found.difference, found.interval) == (want.difference, (want.low, want.high))
    dense = rows["sharcs"].to_dense
    assert dense is not None
    assert dense.difference == pytest.approx(rows["sharcs"].value.mean - rows["dense"].value.mean)


def test_the_mean_over_seeds_is_what_is_resampled(tmp_path: Path) -> None:
    make_run(tmp_path / "d", "dense", widths=(1.0,), cost=1.0, right=0.9)
    for seed in (1, 2, 3):
        make_run(tmp_path / f"a{seed}", "sharcs", right=0.7, seed=seed)
    row = next(row for row in compared(tmp_path).standings if row.method.name == "sharcs")
    dense = read_run(tmp_path / "d").routed.value
    assert row.to_dense is not None
    assert row.to_dense.difference == pytest.approx(row.value.mean - dense)
    assert row.to_dense.interval is not None
    assert row.to_dense.interval[0] < row.to_dense.difference < row.to_dense.interval[1]
    assert row.value.std is not None


def test_the_constant_answer_is_the_larger_class(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", widths=(1.0,), method="dense", cost=1.0, right=1.0, samples=61)
    (row,) = compared(tmp_path).standings
    assert row.area is not None
    assert row.area.mean == pytest.approx((31 / 61 + 1) / 2)
    (run / "predictions.tsv").unlink()
    assert compared(tmp_path).standings[0].area is None


DRAWN = {1: [f"text {i}" for i in range(60)], 2: [f"text {i}" for i in (*range(30), *range(90, 120))]}


@pytest.mark.parametrize(
    "other",
    [
        {"texts": DRAWN[2]},  # of another draw; uids, labels and half of the texts are the same
        {"texts": DRAWN[1], "labels": [1, *(i % 2 for i in range(1, 60))]},
        {"texts": DRAWN[1][::-1]},
        {"samples": 50, "texts": DRAWN[1][:50]},
    ],
    ids=["texts", "labels", "order", "number"],
)
def test_runs_on_other_texts_are_not_paired_and_the_report_says_so(tmp_path: Path, other: dict[str, Any]) -> None:
    make_run(tmp_path / "d", "dense", widths=(1.0,), cost=1.0, right=0.9, texts=DRAWN[1])
    make_run(tmp_path / "a", "sharcs", right=0.7, texts=DRAWN[1])
    make_run(tmp_path / "b", "pabee", cost=0.4, right=0.8, **other)
    found = compared(tmp_path)
    rows = {row.method.name: row for row in found.standings}
    paired, unpaired = rows["sharcs"].to_dense, rows["pabee"].to_dense
    assert paired is not None
    assert paired.interval is not None
    assert unpaired is not None
    assert unpaired.interval is None
    assert unpaired.difference == pytest.approx(rows["pabee"].value.mean - rows["dense"].value.mean)
    assert rows["sharcs"].to_best is not None
    assert rows["sharcs"].to_best.interval is None
    (note,) = (note for note in notes(found) if "different texts" in note)
    assert "sharcs and dense; pabee" in note
    assert f"{unpaired.difference:+.4f} (other texts)" in str(grids(found))
    assert len(summary_csv([(found, ())]).splitlines()) == 4


def test_seeds_that_were_evaluated_on_other_texts_are_not_paired(tmp_path: Path) -> None:
    """A share of train that is drawn with the seed: the uids are the same, the texts are not."""
    for seed in (1, 2):
        make_run(tmp_path / f"a{seed}", "sharcs", right=0.7, seed=seed, texts=DRAWN[seed])
        make_run(tmp_path / f"d{seed}", "dense", widths=(1.0,), cost=1.0, seed=seed, texts=DRAWN[seed])
    found = compared(tmp_path)
    row = next(row for row in found.standings if row.method.name == "sharcs")
    assert row.to_dense is not None
    assert row.to_dense.interval is None
    (note,) = (note for note in notes(found) if "different texts" in note)
    assert "seed 1" in note
    assert "seed 2" in note


def test_of_runs_on_the_same_texts_nothing_is_said(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "sharcs", texts=DRAWN[1])
    make_run(tmp_path / "b", "pabee", texts=DRAWN[1])
    (make_run(tmp_path / "c", "deebert", texts=DRAWN[2]) / "predictions.tsv").unlink()
    assert not [note for note in notes(compared(tmp_path)) if "different texts" in note]


def test_each_run_is_mixed_with_the_constant_answer_of_its_own_texts(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "sharcs", right=1.0)
    run = make_run(
        tmp_path / "b", "dense", right=1.0, widths=(1.0,), cost=1.0, texts=DRAWN[1], labels=[0] * 45 + [1] * 15
    )
    assert run.is_dir()
    row = next(row for row in compared(tmp_path).standings if row.method.name == "dense")
    assert row.area is not None
    assert row.area.mean == pytest.approx((0.75 + 1) / 2)


def test_runs_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "sharcs")
    make_run(tmp_path / "b", "pabee")
    metrics = json.loads((tmp_path / "b" / "metrics.json").read_text())
    (tmp_path / "b" / "metrics.json").write_text(json.dumps(metrics | {"task": "sst2"}))
    with pytest.raises(ValueError, match=r"is of task=sst2 .*do not go into one figure"):
        compared(tmp_path)


def test_a_regression_is_compared_by_its_scores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(40) * 5
    for name, method, noise in (("a", "sharcs", 1.0), ("b", "dense", 0.1)):
        widths, cost = ((0.25, 1.0), 0.5) if method == "sharcs" else ((1.0,), 1.0)
        run = make_run(tmp_path / name, method, metric="pearson", task="stsb", widths=widths, cost=cost, oracle=False)
        lines = ["uid\tlabel\tprediction\tconfidence\trung\tmacs"]
        lines += [f"{i}\t{y:g}\t{y + noise * rng.normal():.4f}\t\t0\t1" for i, y in enumerate(truth)]
        (run / "predictions.tsv").write_text("\n".join(lines) + "\n")
    rows = {row.method.name: row for row in compared(tmp_path).standings}
    assert rows["sharcs"].to_dense is not None
    assert rows["sharcs"].to_dense.interval is not None
    assert rows["sharcs"].to_dense.interval[1] < 0
    assert rows["sharcs"].oracle is None


def test_f1_of_another_class_is_another_metric(tmp_path: Path) -> None:
    for name, classes in (("a", ["benign", "attack"]), ("b", ["attack", "benign"])):
        settings = {"task": {"name": "own", "labels": classes}}
        make_run(tmp_path / name, metric="f1", task="own", settings=settings)
    assert read_run(tmp_path / "a").metric_name == "f1 of attack"
    with pytest.raises(ValueError, match=r"b is of task=custom \(f1 of benign\), .*a of task=custom \(f1 of attack\)"):
        compared(tmp_path)
