from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.leaderboard import SUBMISSION_NAMES
from sharcs_pl.data.tasks import GLUE, GRADED
from sharcs_pl.evaluation.submission import write_submission, zip_submission

NAMES = [
    "CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv",
    "QNLI.tsv", "RTE.tsv", "WNLI.tsv",
]  # fmt: skip


def logits_of(classes: list[int], num_labels: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), num_labels).float()


def written(folder: Path, task: str, split: str, logits: Tensor, uids: Tensor | None = None) -> list[str]:
    """The lines of the file; the sets here are far smaller than the official ones, which is checked elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        path = write_submission(folder, GLUE[task], split, logits, torch.arange(len(logits)) if uids is None else uids)
    assert path == folder / SUBMISSION_NAMES[task, split]
    return path.read_bytes().decode().split("\n")


@pytest.mark.parametrize("task", ["cola", "sst2", "mrpc", "qqp", "wnli"])
def test_binary_tasks_are_written_as_ids(tmp_path: Path, task: str) -> None:
    assert written(tmp_path, task, "test", logits_of([1, 0], 2)) == ["index\tprediction", "0\t1", "1\t0", ""]


@pytest.mark.parametrize("task", ["qnli", "rte"])
def test_entailment_is_written_in_words(tmp_path: Path, task: str) -> None:
    """The id of entailment is 0 on both, as the hub has it."""
    lines = written(tmp_path, task, "test", logits_of([1, 0], 2))
    assert lines == ["index\tprediction", "0\tnot_entailment", "1\tentailment", ""]


@pytest.mark.parametrize(
    ("split", "file"), [("test_matched", "MNLI-m"), ("test_mismatched", "MNLI-mm"), ("test_ax", "AX")]
)
def test_the_three_files_of_mnli(tmp_path: Path, split: str, file: str) -> None:
    lines = written(tmp_path, "mnli", split, logits_of([2, 0, 1], 3))
    assert lines == ["index\tprediction", "0\tcontradiction", "1\tentailment", "2\tneutral", ""]
    assert (tmp_path / f"{file}.tsv").exists()


def test_scores_are_clipped_and_rounded(tmp_path: Path) -> None:
    lines = written(tmp_path, "stsb", "test", torch.tensor([[-0.3], [5.7], [2.34567], [4.9996]]))
    assert lines[1:-1] == ["0\t0.000", "1\t5.000", "2\t2.346", "3\t5.000"]


def test_answers_follow_the_uids(tmp_path: Path) -> None:
    lines = written(tmp_path, "sst2", "test", logits_of([1, 0, 0], 2), torch.tensor([2, 0, 1]))
    assert lines[1:-1] == ["0\t0", "1\t0", "2\t1"]


def test_every_official_test_split_has_a_file() -> None:
    assert sorted(SUBMISSION_NAMES.values()) == sorted(NAMES)
    splits = {(name, split) for name, task in GLUE.items() for split in task.counts if split.startswith("test")}
    assert splits <= set(SUBMISSION_NAMES)


@pytest.mark.parametrize(("size", "says"), [(145, "1 too few"), (150, "4 too many")])
def test_another_number_of_rows_is_said(tmp_path: Path, size: int, says: str) -> None:
    with pytest.warns(DataWarning, match=f"wnli test: {size} predictions are {says} .*146.*refuses"):
        write_submission(tmp_path, GLUE["wnli"], "test", torch.zeros(size, 2), torch.arange(size))


def test_the_official_number_is_silent(tmp_path: Path) -> None:
    path = write_submission(tmp_path / "new" / "folder", GLUE["wnli"], "test", torch.zeros(146, 2), torch.arange(146))
    assert len(path.read_text().splitlines()) == 147


@pytest.mark.parametrize(
    ("uids", "message"),
    [([0, 1, 3], "uid 3 is where 2"), ([0, 1, 1], "uid 1 is where 2"), ([1, 2, 3], "uid 1 is where 0")],
)
def test_a_split_must_be_whole(tmp_path: Path, uids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=f"cola test: .*0 to 2, each once; {message}"):
        write_submission(tmp_path, GLUE["cola"], "test", torch.zeros(3, 2), torch.tensor(uids))
    assert not list(tmp_path.iterdir())


def test_logits_must_be_the_tasks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mnli test_matched: logits of shape \(4, 2\); expected \(4, 3\)"):
        write_submission(tmp_path, GLUE["mnli"], "test_matched", torch.zeros(4, 2), torch.arange(4))
    with pytest.raises(ValueError, match="stsb test: some logits are not finite"):
        write_submission(tmp_path, GLUE["stsb"], "test", torch.tensor([[float("nan")]]), torch.arange(1))


def test_what_the_leaderboard_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'graded' is not on the GLUE leaderboard; there are cola, sst2, .*mnli, qnli"
    ):
        write_submission(tmp_path, GRADED, "test", torch.zeros(1, 2), torch.arange(1))
    with pytest.raises(ValueError, match=r"mnli: split 'validation_matched' .* test_matched, test_mismatched, test_ax"):
        write_submission(tmp_path, GLUE["mnli"], "validation_matched", torch.zeros(1, 3), torch.arange(1))


def test_the_zip_is_flat_and_names_what_is_missing(tmp_path: Path) -> None:
    for name in ("MRPC.tsv", "AX.tsv"):
        (tmp_path / name).write_text(f"index\tprediction\n0\t{name}\n")
    (tmp_path / "predictions.tsv").write_text("not one of them")
    (tmp_path / "QQP.tsv").mkdir()
    path, missing = zip_submission(tmp_path)
    assert missing == [name for name in NAMES if name not in ("MRPC.tsv", "AX.tsv")]
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["AX.tsv", "MRPC.tsv"]
        assert archive.read("AX.tsv") == (tmp_path / "AX.tsv").read_bytes()
        assert all(entry.compress_type == zipfile.ZIP_DEFLATED for entry in archive.infolist())
    assert not list(tmp_path.glob("*.part"))


def test_a_complete_zip_misses_nothing_and_has_the_same_bytes_again(tmp_path: Path) -> None:
    for order, folder in ((NAMES, tmp_path / "a"), (reversed(NAMES), tmp_path / "b")):
        folder.mkdir()
        for name in order:
            (folder / name).write_text("index\tprediction\n0\t1\n")
    first, missing = zip_submission(tmp_path / "a")
    assert missing == []
    (tmp_path / "b" / "CoLA.tsv").touch()
    assert zip_submission(tmp_path / "b")[0].read_bytes() == first.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no file for the leaderboard; expected CoLA\.tsv, "):
        zip_submission(tmp_path)
    assert not list(tmp_path.iterdir())
