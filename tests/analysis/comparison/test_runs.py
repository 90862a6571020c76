"""What is found below a folder and read from a run for a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharcs_pl.analysis.comparison.runs import OWN, find_runs, read_run
from tests.analysis.comparison.made_runs import DENSE, make_run


def test_runs_are_found_below_a_folder_and_what_lies_in_a_run_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b", "a", "deep/c"):
        make_run(tmp_path / name)
    (tmp_path / "a" / "evaluation").mkdir()
    (tmp_path / "a" / "evaluation" / "metrics.json").write_text("{}")
    names = [str(path.relative_to(tmp_path)) for path in find_runs(str(tmp_path))]
    assert names == ["a", "b", "deep/c"]
    assert find_runs(f"{tmp_path}/[ab]") == [tmp_path / "a", tmp_path / "b"]
    assert find_runs(str(tmp_path / "a")) == [tmp_path / "a"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "deep"))
    assert find_runs(".") == [Path(name) for name in names]
    assert find_runs("[ab]") == [Path("a"), Path("b")]
    assert find_runs("~") == [tmp_path / "deep" / "c"]


def test_a_run_without_results_is_refused_or_left_out(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    (make_run(tmp_path / "b") / "metrics.json").unlink()
    with pytest.raises(ValueError, match=r"b has no results yet; let it finish, or add unfinished=skip"):
        find_runs(str(tmp_path))
    assert find_runs(str(tmp_path), skip_unfinished=True) == [tmp_path / "a"]
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match="holds no run"):
        find_runs(str(tmp_path / "c"))
    with pytest.raises(ValueError, match="there is nothing at"):
        find_runs(str(tmp_path / "nowhere-*"))


def test_a_run_is_read_with_its_controls(tmp_path: Path) -> None:
    points = {"": [(0.4, 0.7), (1.0, 0.9)], "random": [(0.4, 0.6)], "width": [(0.3, 0.5)]}
    run = read_run(make_run(tmp_path / "a", points=points, seed=3, settings={"distill": {"name": "top"}}, bench=True))
    assert {name: len(found) for name, found in run.curves.items()} == {"": 2, "random": 1, "width": 1}
    assert (run.curves[OWN][0].macs, run.seed, run.static, run.full) == (0.4 * DENSE, 3, False, False)
    assert run.settings["distill.name"] == "top"
    assert "seed" not in run.settings
    assert run.timings[0]["speedup"] == 1.9
    assert run.answers is not None
    assert len(run.answers.labels) == 60
    assert run.oracle is not None
    assert run.oracle.macs == pytest.approx(0.45 * DENSE)


def test_without_a_curve_the_points_are_those_of_the_results(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "a", cost=0.5))
    assert [point.macs for point in run.curves[OWN]] == [0.5 * DENSE]
    assert [point.name for point in run.curves["width"]] == ["width 0.25", "width 1"]
    dense = read_run(make_run(tmp_path / "b", "dense", widths=(1.0,), cost=1.0))
    assert (dense.full, list(dense.curves)) == (True, [OWN])
    assert not read_run(make_run(tmp_path / "c", "fixed", widths=(0.25,))).full
    assert not read_run(make_run(tmp_path / "d", "skim", widths=(1.0,), cost=0.6)).full


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("metrics.json", "{", "is not valid JSON"),
        ("metrics.json", "[]", "holds no JSON object"),
        ("metrics.json", "{}", "is not a run's: KeyError at 'rungs'"),
        ("curve.csv", "method,point,threshold,value,macs\nsharcs,p,,high,3\n", "line 2: not a point of a curve"),
        ("curve.csv", "method,point,threshold,value,macs\nsharcs,p,,nan,3\n", "line 2: not a point of a curve"),
        ("curve.csv", "a,b\n1,2\n", "line 2: not a point of a curve"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, file: str, text: str, words: str) -> None:
    run = make_run(tmp_path / "a")
    (run / file).write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_run(run)
    assert file in str(caught.value)


def test_texts_of_any_length_are_read(tmp_path: Path) -> None:
    file = make_run(tmp_path / "a") / "predictions.tsv"
    file.write_text(file.read_text().replace("a text", "a" * 200_000, 1))
    answers = read_run(tmp_path / "a").answers
    assert answers is not None
    assert len(answers.uids) == 60


def test_the_oracle_of_a_regression_is_none(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", metric="pearson") / "metrics.json"
    nothing = {"value": None, "macs": None, "macs_fraction": None}  # as an evaluation writes it
    path.write_text(json.dumps(json.loads(path.read_text()) | {"oracle": nothing}))
    assert read_run(tmp_path / "a").oracle is None
