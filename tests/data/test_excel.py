from __future__ import annotations

import sys
import zipfile
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.data.files import Request, check_file, read_found
from sharcs_pl.data.labels import find_target
from sharcs_pl.data.lines import Fault
from sharcs_pl.data.raw import read_file
from tests.data.faults import fault, rows_of, write
from tests.data.formats import NASTY

REQUEST = Request(("text", "label"))
FORBIDDEN = {"nul", "separators", "very long", "crlf", "carriage return"}  # no cell of a sheet holds them as they are


def sheet(path: Path, rows: list[list[Any]], *others: list[list[Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for number, each in enumerate([rows, *others]):
        page = book.active if number == 0 else book.create_sheet()
        for row, cells in enumerate(each, 1):
            for column, value in enumerate(cells, 1):
                page.cell(row, column).value = value
                if isinstance(value, str):
                    page.cell(row, column).data_type = "s"  # no formula
    book.save(path)
    return path


def test_texts_survive_unchanged(tmp_path: Path) -> None:
    texts = [text for name, text in NASTY.items() if name not in FORBIDDEN]
    path = sheet(tmp_path / "a.xlsx", [["id", "text", "label"], *([i, text, "x"] for i, text in enumerate(texts))])
    expected = [(f"a.xlsx, row {row}", (text, "x")) for row, text in enumerate(texts, 2)]
    assert rows_of(path) == expected
    assert read_file(path, REQUEST).texts == [(text,) for text in texts]


def test_cells_are_as_excel_shows_them(tmp_path: Path) -> None:
    values = [3, 3.0, -0.5, 1e20, True, date(2024, 2, 1), datetime(2024, 2, 1, 3, 4), time(3, 4), None, "", "=a", "007"]
    shown = ["3", "3", "-0.5", "1e+20", "TRUE", "2024-02-01", "2024-02-01 03:04:00", "03:04:00", "", "", "=a", "007"]
    path = sheet(tmp_path / "a.xlsx", [["label", "text"], *([value, "t"] for value in values)])
    assert [label for _, (_, label) in rows_of(path)] == shown


def test_whole_numbers_are_classes(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["text", "label"], ["a", 10.0], ["b", 4], ["c", 10]])
    assert find_target(read_file(path, REQUEST), "label").labels == ("4", "10")


def test_the_first_sheet_is_read_from_its_first_row_that_holds_something(tmp_path: Path) -> None:
    rows = [[], [None, None, " "], ["text", None, "label", None], ["a", "n", 1], [None], ["b"], ["", "", 2], []]
    path = sheet(tmp_path / "a.xlsx", rows, [["text", "label"], ["no", 1]])
    found = rows_of(path, Request(("text", "label")))
    assert found == [("a.xlsx, row 4", ("a", "1")), ("a.xlsx, row 6", ("b", "")), ("a.xlsx, row 7", ("", "2"))]
    with pytest.raises(ValueError, match=r"^a\.xlsx, row 6: no label$"):
        read_file(path, REQUEST)


def test_faults_of_a_sheet(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    assert fault(sheet(path, [["txt", "label"], ["a", 1]])) == (
        "a.xlsx, row 1: no column 'text' (did you mean 'txt'?) among txt, label"
    )
    assert fault(sheet(path, [["text", "text", "label"]])) == "a.xlsx, row 1: more than one column is called 'text'"
    assert fault(sheet(path, [["text", "label"], ["a", 1, "x"]])) == "a.xlsx, row 2: 3 cells, expected 2: text, label"
    assert fault(sheet(path, [])) == "a.xlsx: no rows"
    assert fault(sheet(path, [["text", "label"]])) == "a.xlsx: no rows"
    both = list(read_found(sheet(path, [["text", "label"], ["a", 1, "x"], ["b", 2]]), REQUEST))
    assert isinstance(both[0], Fault)
    assert both[1:] == [("a.xlsx, row 3", ("b", "2"))]


def test_a_file_that_is_no_whole_sheet_is_told(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["text", "label"], *(["a", number] for number in range(2000))])
    whole = path.read_bytes()
    for content in (b"", b"text,label\na,1\n", whole[: len(whole) // 2], whole[:-30]):
        assert fault(write(tmp_path, "b.xlsx", content)).startswith("b.xlsx: not a whole Excel file: ")
    flipped = write(tmp_path, "c.xlsx", whole)
    with zipfile.ZipFile(flipped) as archive:
        place = archive.getinfo("xl/worksheets/sheet1.xml").header_offset
    content = bytearray(whole)
    content[place + 300 : place + 340] = bytes(40)
    assert fault(write(tmp_path, "c.xlsx", bytes(content))).startswith("c.xlsx: not a whole Excel file: ")
    assert "has a password, or is an old .xls file; save it" in fault(
        write(tmp_path, "d.xlsx", b"\xd0\xcf\x11\xe0" * 99)
    )


def test_what_openpyxl_warns_of_is_no_concern_of_the_reader(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["text", "label"], ["a", 1]])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/styles.xml"] = b'<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"/>'
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert rows_of(path) == [("a.xlsx, row 2", ("a", "1"))]


def test_without_openpyxl_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.setattr("sharcs_pl.data.excel.find_spec", lambda name: None)
    write(tmp_path, "a.xlsx", b"PK")
    with pytest.raises(ValueError, match=r"^task\.train=.*a\.xlsx: .*pip install 'sharcs-pl\[excel\]'; or save .*CSV$"):
        check_file("task.train", str(tmp_path / "a.xlsx"))
