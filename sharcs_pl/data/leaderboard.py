"""The names of the files for the GLUE leaderboard, and a test that recognises one."""

from __future__ import annotations

from pathlib import Path

ZIP_NAME = "submission.zip"
HEADER = "index\tprediction"
SUBMISSION_NAMES: dict[tuple[str, str], str] = {
    ("cola", "test"): "CoLA.tsv",
    ("sst2", "test"): "SST-2.tsv",
    ("mrpc", "test"): "MRPC.tsv",
    ("stsb", "test"): "STS-B.tsv",
    ("qqp", "test"): "QQP.tsv",
    ("mnli", "test_matched"): "MNLI-m.tsv",
    ("mnli", "test_mismatched"): "MNLI-mm.tsv",
    ("mnli", "test_ax"): "AX.tsv",
    ("qnli", "test"): "QNLI.tsv",
    ("rte", "test"): "RTE.tsv",
    ("wnli", "test"): "WNLI.tsv",
}
"""The file name of each task and test split."""


def is_submission(path: Path) -> bool:
    """Return True if the file begins with the header of the leaderboard."""
    with path.open("rb") as file:
        return file.readline(len(HEADER) + 2).strip() == HEADER.encode()
