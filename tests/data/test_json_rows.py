from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharcs_pl.data.files import Request, read_found
from sharcs_pl.data.lines import Fault
from tests.data.faults import fault, rows_of, write

EXPECTED = 'a .json file holds a list of objects, [{"text": …}, …], or an object per line'
ITEMS = [{"text": f"text {number}", "label": number} for number in range(5)]


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("mark", ["", "\ufeff", " \r\n\t", "\ufeff \n"])
def test_a_list_of_objects(indent: int | None, mark: str, tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", mark + json.dumps(ITEMS, indent=indent) + "\n \n")
    expected = [(f"a.json, item {number}", (item["text"], item["label"])) for number, item in enumerate(ITEMS, 1)]
    assert rows_of(path) == expected


def test_an_object_per_line_in_a_json_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", "\n" + "".join(f"{json.dumps(item)}\n" for item in ITEMS))
    expected = [(f"a.json, line {number}", (item["text"], item["label"])) for number, item in enumerate(ITEMS, 2)]
    assert rows_of(path) == expected
    one = write(tmp_path, "a.json", json.dumps(ITEMS[0] | {"more": [1]}))
    assert rows_of(one) == [("a.json, line 1", ("text 0", 0))]


def test_an_item_may_be_longer_than_any_buffer(tmp_path: Path) -> None:
    texts = ["x" * 1_000_000, '\\"' * 200_000, "é" * 300_000, "[" * 70_000]
    path = write(tmp_path, "a.json", json.dumps([{"text": t, "label": 1} for t in texts], ensure_ascii=False))
    assert [values[0] for _, values in rows_of(path)] == texts


@pytest.mark.parametrize("size", range(65_500, 65_560, 3))
def test_an_item_may_be_cut_anywhere_by_a_buffer(size: int, tmp_path: Path) -> None:
    first = {"text": "x" * size, "label": 1}
    rest = [{"text": 'é\\"\u2028', "label": value} for value in (True, None, -1.5e-7, 12345678901, "a\u0000b")]
    path = write(tmp_path, "a.json", json.dumps([first, *rest], ensure_ascii=size % 2 == 0))
    assert [values for _, values in rows_of(path)] == [tuple(item.values()) for item in [first, *rest]]


GOOD = '{"text": "a", "label": 1}'
FAULTS = {
    "columns": ('{"text": ["a", "b"], "label": [1, 2]}', f"a.json: one object with the keys text, label; {EXPECTED}"),
    "columns by index": ('{"text": {"0": "a"}, "label": {"0": 1}}', "a.json: one object with the keys text, label; "),
    "rows in a key": ('{"version": 1, "data": [{"text": "a"}]}', "a.json: one object with the keys version, data; "),
    "one over lines": (
        '{\n "text": "a",\n "label": 1\n}\n',
        f"a.json, line 1: invalid JSON: Expecting property name enclosed in double quotes at column 2; {EXPECTED}",
    ),
    "a text": ('"text"', f"a.json, line 1: 'text' is not an object with the columns as keys; {EXPECTED}"),
    "csv": ("text,label\na,1\n", f"a.json, line 1: invalid JSON: Expecting value at column 1; {EXPECTED}"),
    "nothing": (" \n", "a.json: no rows"),
    "no items": ("[ \n]", "a.json: no rows"),
    "lists": (f"[{GOOD}, [1]]", "a.json, item 2: [1] is not an object with the columns as keys"),
    "texts": ('["a"]', "a.json, item 1: 'a' is not an object with the columns as keys"),
    "missing key": (
        f'[{GOOD},\n {{"txt": "a", "label": 1}}]',
        "a.json, item 2: no column 'text' (did you mean 'txt'?) among txt, label",
    ),
    "no comma": (f"[{GOOD} {GOOD}]", "a.json, item 1: invalid JSON: '{' where a comma or the list's end belongs"),
    "broken": (
        f'[{GOOD},\n\n{{"text": "a"; "label": 1}}, {GOOD}]',
        "a.json, item 2: invalid JSON: Expecting ',' delimiter at line 3 column 13",
    ),
    "comma at the end": (f"[{GOOD},]", "a.json, item 2: invalid JSON: Expecting value at line 1 column 28"),
    "cut in an item": (
        f'[{GOOD}, {{"text": "a',
        "a.json, item 2: invalid JSON: Unterminated string starting at at line 1 column 38",
    ),
    "cut after an item": (f"[{GOOD}\n", "a.json, item 1: invalid JSON: the file ends within its list"),
    "cut at once": ("[", "a.json, item 1: invalid JSON: Expecting value"),
    "more": (f"[{GOOD}]\n[{GOOD}]", "a.json: invalid JSON: there is more after the list"),
    "surrogate": (
        '[{"text": "a\\ud800", "label": 1}]',
        "a.json, item 1: 'text' holds '\\ud800', half of a surrogate pair",
    ),
    "deep": (f"[{GOOD}, " + "[" * 100_000, "a.json, item 2: invalid JSON"),
    "digits": (f'[{GOOD}, {{"text": "a", "label": {"1" * 5000}}}]', "a.json, item 2: invalid JSON: 'Exceeds the limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_json(name: str, tmp_path: Path) -> None:
    content, message = FAULTS[name]
    assert fault(write(tmp_path, "a.json", content)).startswith(message)


def test_reading_goes_on_after_an_item_that_can_be_told_apart(tmp_path: Path) -> None:
    content = f'[{GOOD}, 3, {{"label": 1}}, {GOOD}, {{"text"}}, {GOOD}]'
    found = list(read_found(write(tmp_path, "a.json", content), Request(("text", "label"))))
    assert [type(row) for row in found] == [tuple, Fault, Fault, tuple, Fault]
    assert isinstance(found[-1], Fault)
    assert found[-1].ends


def test_a_mistake_in_the_first_item_is_told_without_reading_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", '[{"text"; 1},' + f"{GOOD}," * 100_000)
    with path.open("rb") as file:
        from sharcs_pl.data.containers import Opened
        from sharcs_pl.data.json_rows import read_json

        (found,) = read_json(Opened(file, "a.json"), Request(("text",)))
        assert isinstance(found, Fault)
        assert file.tell() < 200_000


def test_an_optional_key_is_there_in_all_items_or_in_none(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", f'[{{"text": "a"}}, {GOOD}]')
    assert "item 2: has 'label', which" in fault(path, Request(("text",), optional=("label",)))
