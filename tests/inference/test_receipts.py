"""What a folder of outputs says of them: finished, interrupted, or of other answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sharcs_pl.inference.journal import Journal, journal_path
from sharcs_pl.inference.receipts import Receipt
from sharcs_pl.inference.summary import Summary

SUMMARY = Summary(9, 0, {"0.5": 0.25, "1": 0.75}, 1.5, 0.6, 123.0)


@pytest.fixture
def receipt(tmp_path: Path) -> Receipt:
    (tmp_path / "x").mkdir()
    return Receipt(tmp_path, tmp_path / "x" / "a.csv", {"model": "abc", "text": ("a", "b"), "point": None})


def other(receipt: Receipt) -> Receipt:
    return replace(receipt, fingerprint=dict(receipt.fingerprint) | {"point": "fast"})


def begin(receipt: Receipt) -> None:
    with Journal.begin(journal_path(receipt.output), receipt.fingerprint):
        pass


def test_an_output_with_its_receipt_is_finished(receipt: Receipt) -> None:
    assert receipt.finished(False, skip=False) is None
    receipt.output.write_text("x")
    receipt.write(SUMMARY)
    for overwrite in (False, True):
        assert receipt.finished(overwrite, skip=False) == replace(SUMMARY, texts_per_second=None)
    with pytest.raises(ValueError, match=r"a\.csv is there with another point: it was None, now it is 'fast'; replace"):
        other(receipt).finished(False, skip=False)
    assert other(receipt).finished(True, skip=False) is None
    receipt.output.write_text("")
    with pytest.raises(ValueError, match=r"a\.csv is there with another size than was written; replace it with"):
        receipt.finished(False, skip=False)
    assert receipt.finished(True, skip=False) is None
    receipt.output.unlink()
    assert receipt.finished(False, skip=False) is None


@pytest.mark.parametrize("content", [None, "", "[]", "{}"])
def test_an_output_without_one_is_somebody_s(receipt: Receipt, content: str | None) -> None:
    receipt.output.write_text("x")
    if content is not None:
        receipt.write(SUMMARY)
        next(receipt.folder.rglob("*.json")).write_text(content)
    with pytest.raises(ValueError, match=r"a\.csv is there and was not written by this command; replace it with"):
        receipt.finished(False, skip=False)
    assert receipt.finished(True, skip=False) is None


@pytest.mark.parametrize("there", [False, True])
def test_a_journal_is_gone_on_from_where_it_is_of_these_answers(receipt: Receipt, there: bool) -> None:
    """Also between the output and its receipt."""
    assert not receipt.goes_on()
    begin(receipt)
    if there:
        receipt.output.write_text("x")
    assert receipt.finished(False, skip=False) is None
    assert receipt.goes_on()
    assert not other(receipt).goes_on()
    with pytest.raises(ValueError, match=r"a\.csv\.part was begun with another point: .*; replace it with overwrite"):
        other(receipt).finished(False, skip=False)
    assert other(receipt).finished(True, skip=False) is None


def test_a_torn_journal_is_none_and_a_file_of_the_user_s_is_refused(receipt: Receipt) -> None:
    path = journal_path(receipt.output)
    path.write_text('{"mod')
    assert receipt.finished(False, skip=False) is None
    assert not receipt.goes_on()
    path.write_text("mine\n")
    with pytest.raises(ValueError, match=r"a\.csv\.part is no record of an interrupted prediction; move it away"):
        receipt.finished(False, skip=False)


def test_the_journal_that_is_left_after_the_receipt_is_removed_and_no_other(receipt: Receipt) -> None:
    receipt.output.write_text("x")
    receipt.write(SUMMARY)
    begin(receipt)
    receipt.clean()
    assert not journal_path(receipt.output).exists()
    begin(other(receipt))  # under way, by another process
    receipt.clean()
    assert journal_path(receipt.output).exists()
    journal_path(receipt.output).write_text("mine\n")
    receipt.clean()
    assert journal_path(receipt.output).read_text() == "mine\n"


def test_an_output_that_left_rows_out_is_finished_only_where_that_is_asked_for(receipt: Receipt) -> None:
    receipt.output.write_text("x")
    receipt.write(replace(SUMMARY, rejected=2))
    assert receipt.finished(False, skip=True) is not None
    with pytest.raises(ValueError, match=r"a\.csv is there with 2 rows left out by on_error=skip; replace it with"):
        receipt.finished(False, skip=False)
    assert receipt.finished(True, skip=False) is None
