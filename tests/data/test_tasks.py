from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data import hub
from sharcs_pl.data.tasks import GLUE, GRADED, Examples, TaskSpec, get_task, load_examples, subset_examples

# One row per task: the file's lines as the official download writes them, and what must come of them.
HEADS = {
    "cola": None,
    "sst2": "sentence\tlabel",
    "mrpc": "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "stsb": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
    "qqp": "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
    "mnli": "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
    "sentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label",
    "qnli": "index\tquestion\tsentence\tlabel",
    "rte": "index\tsentence1\tsentence2\tlabel",
    "wnli": "index\tsentence1\tsentence2\tlabel",
}
ROWS = {
    "cola": ["gj04\t1\t\tA.", "gj04\t0\t*\tB."],
    "sst2": ["A. \t0", "B.\t1"],
    "mrpc": ["1\t5\t6\tA.\tAA.", "0\t7\t8\tB.\tBB."],
    "stsb": ["0\tg\tf\t2012\t1\tnone\tnone\tA.\tAA.\t5.000", "1\tg\tf\t2012\t2\tnone\tnone\tB.\tBB.\t0.250"],
    "qqp": ["1\t2\t3\tA?\tAA?\t0", "4\t5\t6\tB?\tBB?\t1"],
    "mnli": [
        "0\t1\t1n\tg\t(\t(\t(\t(\tA.\tAA.\tneutral\tneutral",
        "1\t2\t2c\tg\t(\t(\t(\t(\tB.\tBB.\tneutral\tcontradiction",
        "2\t3\t3e\tg\t(\t(\t(\t(\tC.\tCC.\tneutral\tentailment",
    ],
    "qnli": ["0\tA?\tAA.\tentailment", "1\tB?\tBB.\tnot_entailment"],
    "rte": ["0\tA.\tAA.\tnot_entailment", "1\tB.\tBB.\tentailment"],
    "wnli": ["0\tA.\tAA.\t1", "1\tB.\tBB.\t0"],
}
FOLDERS = ("CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI")
EXPECTED = {
    "cola": ([("A.",), ("B.",)], [1, 0]),
    "sst2": ([("A. ",), ("B.",)], [0, 1]),
    "mrpc": ([("A.", "AA."), ("B.", "BB.")], [1, 0]),
    "stsb": ([("A.", "AA."), ("B.", "BB.")], [5.0, 0.25]),
    "qqp": ([("A?", "AA?"), ("B?", "BB?")], [0, 1]),
    "mnli": ([("A.", "AA."), ("B.", "BB."), ("C.", "CC.")], [1, 2, 0]),
    "qnli": ([("A?", "AA."), ("B?", "BB.")], [0, 1]),
    "rte": ([("A.", "AA."), ("B.", "BB.")], [1, 0]),
    "wnli": ([("A.", "AA."), ("B.", "BB.")], [1, 0]),
}


def write(folder: Path, name: str, file: str = "train.tsv", rows: list[str] | None = None, end: str = "\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    head = HEADS[name]
    lines = [*([] if head is None else [head]), *(ROWS[name] if rows is None else rows)]
    (folder / file).write_bytes("".join(line + end for line in lines).encode())
    return folder


def small(name: str, rows: int) -> TaskSpec:
    """The task, as if its official splits had so many rows."""
    return replace(GLUE[name], counts=dict.fromkeys(GLUE[name].counts, rows))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", GLUE)
def test_every_task_reads_its_official_layout(name: str, end: str, tmp_path: Path):
    texts, labels = EXPECTED[name]
    spec = small(name, len(labels))
    write(tmp_path, name, end=end)
    for split in ("train", *spec.validation):
        write(tmp_path, name, spec.files[split], end=end)
        examples = load_examples(spec, split, tmp_path)
        assert examples.texts == texts
        assert examples.labels.tolist() == labels
        assert examples.labels.dtype == (np.float32 if spec.labels is None else np.int64)
        assert examples.difficulty is None
        assert len(examples) == len(labels)


def test_mnli_dev_has_five_annotators_before_the_gold_label(tmp_path: Path):
    head = "\t".join([*str(HEADS["mnli"]).split("\t")[:10], *(f"label{i}" for i in range(1, 6)), "gold_label"])
    row = "0\t1\t1n\tg\t(\t(\t(\t(\tA.\tAA.\t" + "neutral\t" * 5 + "contradiction"
    (tmp_path / "dev_matched.tsv").write_text(f"{head}\n{row}\n")
    examples = load_examples(small("mnli", 1), "validation_matched", tmp_path)
    assert (examples.texts, examples.labels.tolist()) == ([("A.", "AA.")], [2])


@pytest.mark.parametrize("name", GLUE)
def test_a_glue_root_gives_the_tasks_own_folder(name: str, tmp_path: Path):
    write(tmp_path / dict(zip(GLUE, FOLDERS, strict=True))[name], name)
    assert load_examples(small(name, len(ROWS[name])), "train", str(tmp_path)).texts == EXPECTED[name][0]


def test_an_unbalanced_quote_does_not_merge_rows(tmp_path: Path):
    rows = ['1\t5\t6\t"A said\tAA.', "0\t7\t8\tB.\tBB.", '0\t7\t8\tC" said.\tCC.']
    examples = load_examples(small("mrpc", 3), "train", write(tmp_path, "mrpc", rows=rows))
    assert examples.texts == [('"A said', "AA."), ("B.", "BB."), ('C" said.', "CC.")]
    assert examples.labels.tolist() == [1, 0, 0]


def test_unicode_separators_inside_a_text_end_no_row(tmp_path: Path):
    text = "a\u2028b\x85c\x0bd\x1ce"
    examples = load_examples(small("sst2", 1), "train", write(tmp_path, "sst2", rows=[f"{text}\t1"]))
    assert examples.texts == [(text,)]


def test_another_number_of_rows_is_a_warning_with_both_numbers(tmp_path: Path):
    with pytest.warns(DataWarning, match=r"rte train: 2 rows .* 2490"):
        load_examples(GLUE["rte"], "train", write(tmp_path, "rte"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_examples(small("rte", 2), "train", tmp_path)


FAULTS = {
    "unknown label": ("sst2", ["A\t0", "B\t2"], r"train\.tsv, line 3: label '2' .* 0, 1"),
    "hub's number for a name": ("rte", ["0\tA\tB\t1"], r"line 2: label '1' .* entailment, not_entailment"),
    "short row": ("mrpc", ["1\t5\t6\tA\tAA", "", "0\t7\t8\tB"], r"train\.tsv, line 4: 4 cells, expected 5"),
    "long row": ("rte", ["0\tA\tB\tC\tentailment"], r"line 2: 5 cells, expected 4"),
    "no number": ("stsb", ["0\tg\tf\t1\t1\tn\tn\tA\tB\tgood"], r"line 2: score 'good' .* 0 to 5"),
    "not a number": ("stsb", ["0\tg\tf\t1\t1\tn\tn\tA\tB\tnan"], r"line 2: score 'nan'"),
    "out of range": ("stsb", ["0\tg\tf\t1\t1\tn\tn\tA\tB\t5.1"], r"line 2: score '5.1'"),
    "short headerless row": ("cola", ["gj04\t1\t\tA", "gj04\t1\tA"], r"train\.tsv, line 2: 3 cells, expected 4"),
    "label of a headerless row": ("cola", ["gj04\t\t\tA"], r"line 1: label ''"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_row_is_named_by_file_and_line(fault: str, tmp_path: Path):
    name, rows, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        load_examples(small(name, len(rows)), "train", write(tmp_path, name, rows=rows))


@pytest.mark.parametrize("head", ["sentence\tlabels", "", "sentence,label"])
def test_a_missing_column_is_named(head: str, tmp_path: Path):
    (tmp_path / "train.tsv").write_text(f"{head}\nA\t1\n")
    with pytest.raises(ValueError, match=r"train\.tsv, line 1: no column '(sentence|label)'"):
        load_examples(small("sst2", 1), "train", tmp_path)


def test_qqps_broken_rows_are_left_out_as_in_every_published_count(tmp_path: Path):
    rows = ["1\t2\t3\tA?\tAA?\t0", "9\t9\t9\tWas he real?", "\tWhat is known?\t0", "4\t5\t6\tB?\tBB?\t1"]
    with pytest.warns(DataWarning, match=r"train\.tsv: 2 too short lines left out$"):
        examples = load_examples(small("qqp", 2), "train", write(tmp_path, "qqp", rows=rows))
    assert examples.texts == EXPECTED["qqp"][0]
    with pytest.raises(ValueError, match=r"line 4: label 'no'"):
        load_examples(small("qqp", 2), "train", write(tmp_path, "qqp", rows=[*rows[:2], "4\t5\t6\tB?\tBB?\tno"]))


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path):
    (tmp_path / "train.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(ValueError, match=r"train\.tsv, line 2: not UTF-8 at byte 18"):
        load_examples(small("sst2", 1), "train", tmp_path)


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_nothing_to_read_names_the_key_and_what_was_expected(folder: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"task\.data_dir=.*dev\.tsv.*SST-2"):
        load_examples(GLUE["sst2"], "validation", tmp_path / folder)


def test_an_unknown_split_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"mnli has no split 'validation'.*validation_matched"):
        load_examples(GLUE["mnli"], "validation", tmp_path)


def test_test_splits_load_without_labels(tmp_path: Path):
    (tmp_path / "test.tsv").write_text("index\tsentence\n0\tA.\n1\tB.\n")
    for name in ("cola", "sst2"):
        examples = load_examples(small(name, 2), "test", tmp_path)
        assert (examples.texts, examples.labels.tolist()) == ([("A.",), ("B.",)], [-1, -1])


def test_the_official_counts():
    counts = {name: [spec.counts["train"], *(spec.counts[s] for s in spec.validation)] for name, spec in GLUE.items()}
    assert counts == {
        "cola": [8551, 1043],
        "sst2": [67349, 872],
        "mrpc": [3668, 408],
        "stsb": [5749, 1500],
        "qqp": [363846, 40430],
        "mnli": [392702, 9815, 9832],
        "qnli": [104743, 5463],
        "rte": [2490, 277],
        "wnli": [635, 71],
    }


def test_the_table_is_consistent():
    firsts = {name: spec.metric for name, spec in GLUE.items()}
    assert firsts == dict.fromkeys(GLUE, "accuracy") | {"cola": "matthews", "stsb": "pearson"}
    for name, spec in GLUE.items():
        assert get_task(name) is spec
        assert spec.name == name
        assert set(spec.counts) == set(spec.files) > {"train", *spec.validation}
        assert (spec.labels is None) == (spec.label_range is not None) == (name == "stsb")
        assert spec.num_labels == {"stsb": 1, "mnli": 3}.get(name, 2)
        assert spec.file_labels is None or spec.file_labels == spec.labels
    assert get_task("graded") is GRADED
    with pytest.raises(ValueError, match=r"task\.name='snli'.*cola.*graded"):
        get_task("snli")


@pytest.mark.parametrize("name", ["mrpc", "stsb", "qnli"])
def test_rows_of_the_hub_are_those_of_the_files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    texts, labels = EXPECTED[name]
    columns = {"qnli": ("question", "sentence")}.get(name, ("sentence1", "sentence2"))
    data = {column: [pair[i] for pair in texts] for i, column in enumerate(columns)} | {"label": labels}
    asked: list[tuple] = []
    monkeypatch.setattr(hub, "_unreachable", lambda _: None)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, split: asked.append((*args, split)) or datasets.Dataset.from_dict(data)
    )
    examples = load_examples(small(name, 2), "train")
    local = load_examples(small(name, 2), "train", write(tmp_path, name))
    assert asked == [("nyu-mll/glue", name, "train")]
    assert examples.texts == local.texts
    assert examples.labels.tolist() == local.labels.tolist()
    assert examples.labels.dtype == local.labels.dtype


def test_the_diagnostic_set_is_a_test_split_of_mnli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    rows = [("A.", "AA."), ("B.", "BB.")]
    (tmp_path / "diagnostic").mkdir()
    text = "index\tsentence1\tsentence2\n" + "".join(f"{i}\t{a}\t{b}\n" for i, (a, b) in enumerate(rows))
    (tmp_path / "diagnostic" / "diagnostic.tsv").write_text(text)
    local = load_examples(small("mnli", 2), "test_ax", tmp_path)
    data = {"sentence1": ["A.", "B."], "sentence2": ["AA.", "BB."], "label": [-1, -1]}
    asked: list[tuple] = []
    monkeypatch.setattr(hub, "_unreachable", lambda _: None)
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, split: asked.append((*args, split)) or datasets.Dataset.from_dict(data)
    )
    remote = load_examples(small("mnli", 2), "test_ax")
    assert asked == [("nyu-mll/glue", "ax", "test")]
    assert GLUE["mnli"].counts["test_ax"] == 1104
    for examples in (local, remote):
        assert (examples.texts, examples.labels.tolist()) == (rows, [-1, -1])


@pytest.mark.parametrize("text", ["", "  ", "\u00a0"])
def test_an_empty_text_is_refused_except_where_the_official_files_have_them(text: str, tmp_path: Path):
    rows = [f"1\t2\t3\tA?\t{text}\t0"]
    examples = load_examples(small("qqp", 1), "train", write(tmp_path, "qqp", rows=rows))
    assert examples.texts == [("A?", text)]
    with pytest.raises(ValueError, match=r"train\.tsv, line 3: an empty text among sentence1, sentence2"):
        load_examples(
            small("rte", 2), "train", write(tmp_path, "rte", rows=["0\tA\tB\tentailment", f"1\tA\t{text}\tentailment"])
        )


@given(size=st.integers(1, 40), n=st.integers(1, 50), seed=st.integers(0, 5))
def test_a_subset_keeps_rows_whole_and_in_order(size: int, n: int, seed: int):
    numbers = np.arange(size)
    examples = Examples([(str(i),) for i in range(size)], numbers, numbers.astype(np.int8))
    part = subset_examples(examples, n, seed)
    kept = part.labels.tolist()
    assert len(kept) == min(size, n)
    assert kept == sorted(set(kept))
    assert [text for (text,) in part.texts] == [str(i) for i in kept]
    assert part.difficulty is not None
    assert part.difficulty.tolist() == kept
    assert subset_examples(examples, n, seed).labels.tolist() == kept


def test_a_subset_is_drawn_anew_by_another_seed():
    examples = Examples([("a",)] * 100, np.arange(100))
    drawn = {tuple(subset_examples(examples, 10, seed).labels.tolist()) for seed in range(5)}
    assert len(drawn) == 5
    with pytest.raises(ValueError, match=r"task\.max_train_samples=0"):
        subset_examples(examples, 0, 1)
