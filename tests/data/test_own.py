from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.data.own import OwnSource, check_own, load_own, save_task
from sharcs_pl.data.spec import Examples
from tests.data.formats import CONTAINERS, SUFFIXES, write_rows


def source(train: Path | None = None, **changes: Any) -> OwnSource:
    base = OwnSource(None if train is None else str(train), None, None, ("text",), "label")
    return replace(base, **{key: str(value) if isinstance(value, Path) else value for key, value in changes.items()})


def described(examples: Examples) -> tuple:
    return examples.texts, examples.labels.tolist(), examples.labels.dtype


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.strip)
LABEL = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5).filter(lambda text: text and text == text.strip())


@given(
    rows=st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2)), min_size=1, max_size=8),
    classes=st.lists(LABEL, min_size=3, max_size=3, unique=True),
)
@settings(max_examples=60)
def test_every_format_gives_the_same_examples(
    rows: list[tuple[str, str, int]], classes: list[str], tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("formats")
    columns = {"a": [row[0] for row in rows], "label": [classes[row[2]] for row in rows], "b": [row[1] for row in rows]}
    expected = ([(a, b) for a, b, _ in rows], [index for _, _, index in rows], np.int64)
    for suffix in CONTAINERS:
        path = write_rows(folder / f"rows{suffix}", columns)
        spec, found = load_own(source(path, text=("a", "b"), labels=tuple(classes)), ["train"], 1)
        assert described(found["train"]) == expected, suffix
        assert spec.labels == tuple(classes)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([10, 4, 10], (("4", "10"), None), [1, 0, 1]),
        (["b", "a", "b"], (("a", "b"), None), [1, 0, 1]),
        ([4.0, 2.5, 4.0], (None, (2.5, 4.0)), [4.0, 2.5, 4.0]),
    ],
)
def test_labels_are_the_same_in_every_format(suffix: str, values: list, target: tuple, expected: list, tmp_path: Path):
    path = write_rows(tmp_path / f"a{suffix}", {"text": ["x", "y", "z"], "label": values})
    spec, found = load_own(source(path), ["train"], 1)
    assert (spec.labels, spec.label_range) == target
    assert found["train"].labels.tolist() == expected


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("values", "classes"),
    [([0.0, 1.0, 1.0, 0.0], ("0", "1")), ([1.0, 2.0, 3.0, 2.0, 1.0, 3.0], ("1", "2", "3"))],
)
def test_whole_numbers_that_were_written_as_decimals_are_classes(suffix: str, values: list, classes, tmp_path: Path):
    texts = [f"text {i}" for i in range(len(values))]
    path = write_rows(tmp_path / f"a{suffix}", {"text": texts, "label": values})
    with pytest.warns(DataWarning, match=r"task\.label=label: the whole numbers .* read as the classes"):
        spec, found = load_own(source(path), ["train"], 1)
    assert (spec.labels, spec.label_range) == (classes, None)
    assert [classes[index] for index in found["train"].labels] == [str(int(value)) for value in values]
    whole = write_rows(tmp_path / f"b{suffix}", {"text": texts, "label": list(map(int, values))})
    for one, other in ((path, whole), (whole, path)):  # a model of one, evaluated on the other
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            labels = load_own(source(one), ["train"], 1)[0].labels
        again = load_own(source(dev=other, labels=labels), ["validation"], 1)[1]["validation"]
        assert again.labels.tolist() == found["train"].labels.tolist()


def test_the_row_of_the_table(tmp_path: Path):
    path = write_rows(tmp_path / "a.csv", {"q": ["x", "y", "z"], "a": ["x", "y", "z"], "label": ["b", "a", "c"]})
    spec, _ = load_own(source(path, text=("q", "a"), name="tickets"), ["train"], 1)
    assert (spec.name, spec.text_columns, spec.label_column) == ("tickets", ("q", "a"), "label")
    assert (spec.labels, spec.num_labels, spec.metrics) == (("a", "b", "c"), 3, ("accuracy", "macro_f1"))
    assert (spec.validation, dict(spec.counts)) == (("validation",), {})


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """60 rows of a, 30 of b, 2 of c, 1 of d, mixed."""
    labels = np.random.default_rng(0).permutation([*"a" * 60, *"b" * 30, *"c" * 2, "d"]).tolist()
    return write_rows(tmp_path / "train.csv", {"text": [f"text {i}" for i in range(93)], "label": labels})


def test_a_share_of_train_is_stratified(train: Path):
    spec, found = load_own(source(train, dev=0.1), ["train", "validation"], 1)
    assert spec.labels is not None
    parts = [Counter(np.take(spec.labels, found[split].labels).tolist()) for split in ("train", "validation")]
    assert parts == [{"a": 54, "b": 27, "c": 1, "d": 1}, {"a": 6, "b": 3, "c": 1}]
    numbers = [[int(text.split()[1]) for (text,) in found[split].texts] for split in ("train", "validation")]
    assert all(part == sorted(part) for part in numbers)
    assert sorted(numbers[0] + numbers[1]) == list(range(93))
    whole = load_own(source(train), ["train"], 1)[1]["train"]
    assert found["validation"].labels.tolist() == whole.labels[numbers[1]].tolist()


def test_the_positive_class_is_id_1_wherever_the_classes_come_from(tmp_path: Path):
    path = write_rows(tmp_path / "a.csv", {"text": ["x", "y", "z"], "label": ["attack", "benign", "attack"]})
    for changes in ({}, {"labels": ("attack", "benign")}, {"labels": ("benign", "attack")}):
        spec, found = load_own(source(path, positive="attack", **changes), ["train"], 1)
        assert (spec.labels, spec.positive) == (("benign", "attack"), "attack")
        assert found["train"].labels.tolist() == [1, 0, 1]
    spec, _ = load_own(source(path, positive="attack", metrics=("accuracy",)), ["train"], 1)
    assert spec.positive is None  # nothing is said of f1 where it is not measured
    with pytest.raises(ValueError, match=r"^task\.positive=x is none of the classes attack, benign"):
        load_own(source(path, positive="x"), ["train"], 1)


def test_the_seed_decides_the_share_whatever_is_asked(train: Path):
    both = load_own(source(train, dev=0.1), ["train", "validation"], 1)[1]
    for split in ("train", "validation"):
        spec, found = load_own(source(train, dev=0.1), [split], 1)
        assert list(found) == [split]
        assert described(found[split]) == described(both[split])
        assert spec.labels == ("a", "b", "c", "d")
    known = source(train, dev=0.1, labels=("a", "b", "c", "d"))
    assert described(load_own(known, ["validation"], 1)[1]["validation"]) == described(both["validation"])
    assert load_own(source(train, dev=0.1), ["validation"], 2)[1]["validation"].texts != both["validation"].texts


def test_files_of_dev_and_test_take_their_classes_from_train(train: Path, tmp_path: Path):
    dev = write_rows(tmp_path / "dev.jsonl", {"text": ["new", "text 3"], "label": ["b", "a"]})
    test = write_rows(tmp_path / "test.tsv", {"text": ["p", "q"]})
    own = source(train, dev=dev, test=test)
    with pytest.warns(DataWarning, match="1 of 2 dev texts are also in train"):
        _, found = load_own(own, ["train", "validation"], 1)
    assert found["validation"].labels.tolist() == [1, 0]
    assert list(load_own(own, ["test"], 1)[1]) == ["test"]
    assert described(load_own(own, ["test"], 1)[1]["test"]) == ([("p",), ("q",)], [-1, -1], np.int64)
    write_rows(test, {"text": ["p"], "label": ["c"]})
    assert load_own(own, ["test"], 1)[1]["test"].labels.tolist() == [2]
    write_rows(dev, {"text": ["new"], "label": ["z"]})
    with pytest.raises(ValueError, match=r"dev\.jsonl, line 1: label 'z' is none of the classes a, b, c, d"):
        load_own(own, ["validation"], 1)


def test_only_a_test_file_may_lack_the_label(tmp_path: Path):
    path = write_rows(tmp_path / "a.csv", {"text": ["p", "q"], "verdict": ["x", "y"]})
    own = source(path, dev=path, test=path, labels=("x", "y"))
    for split in ("train", "validation"):
        with pytest.raises(ValueError, match=r"^a\.csv, line 1: no column 'label' among text, verdict"):
            load_own(own, [split], 1)
    assert load_own(own, ["test"], 1)[1]["test"].labels.tolist() == [-1, -1]


def test_with_the_target_given_only_the_asked_file_is_read(tmp_path: Path):
    test = write_rows(tmp_path / "test.csv", {"text": ["p"], "label": ["1.5"]})
    nowhere = tmp_path / "nowhere.csv"
    spec, found = load_own(source(nowhere, dev=0.5, test=test, label_range=(0.0, 5.0)), ["test"], 1)
    assert (found["test"].labels.tolist(), spec.label_range, spec.metrics) == (
        [1.5],
        (0.0, 5.0),
        ("pearson", "spearman"),
    )
    assert load_own(source(test=test, labels=("0", "1.5")), ["test"], 1)[1]["test"].labels.tolist() == [1]
    with pytest.raises(ValueError, match=r"task\.train=.*nowhere\.csv: there is no such file"):
        load_own(source(nowhere, test=test), ["test"], 1)
    with pytest.raises(ValueError, match=r"test\.csv, line 2: score '1\.5' is no number from 2 to 5"):
        load_own(source(test=test, label_range=(2.0, 5.0)), ["test"], 1)


def test_a_range_found_in_train_does_not_bind_dev(tmp_path: Path):
    train = write_rows(tmp_path / "a.csv", {"text": ["p", "q"], "label": ["0.1", "1"]})
    dev = write_rows(tmp_path / "b.csv", {"text": ["r"], "label": ["7"]})
    spec, found = load_own(source(train, dev=dev), ["train", "validation"], 1)
    assert spec.label_range == (0.1, 1.0)
    assert found["validation"].labels.tolist() == [7.0]


A = {"train": "a.csv"}
KEY_FAULTS = [
    (A, r"task\.dev is missing: give a file, or a share such as task\.dev=0\.1$"),
    ({"dev": 0.1}, r"task\.train is missing: give a file; the classes are found in it"),
    ({"dev": "a.csv", "labels": ("a", "b")}, r"task\.train is missing: give a file$"),
    ({"dev": "a.csv", "hub": "x/y", "labels": ("a", "b")}, r"task\.train is missing: name a split of task\.hub$"),
    (A | {"dev": "b.csv"}, r"task\.dev=b\.csv: there is no such file"),
    (A | {"dev": 0.1, "labels": ("x", " ")}, r"task\.labels=.*blank"),
    (A | {"dev": 0.1, "labels": ("1", "1.0")}, r"task\.labels=\[1, 1\.0\]: each class is needed once"),
    (A | {"dev": 0.1, "labels": ("x", "y"), "positive": "z"}, r"task\.positive=z is none of the classes x, y"),
    (A | {"dev": 0.1, "labels": ("x", "y", "z"), "positive": "z"}, r"task\.positive=z: f1 has a positive class"),
    (A | {"dev": 0.1, "label_range": (0.0, 1.0), "positive": "1"}, r"task\.positive=1: a score has no positive"),
    (A | {"dev": 0.1, "label_range": (0.0, float("inf"))}, r"task\.label_range=\[0, inf\]: both"),
    (A | {"dev": 0.1, "labels": ("x", "y"), "metrics": ("pearson",)}, r"task\.metrics=\[pearson\]"),
]


@pytest.mark.parametrize(("keys", "message"), KEY_FAULTS)
def test_keys_that_cannot_serve_are_named_before_a_file_is_opened(
    keys: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_bytes(b"\xff")  # whoever opens it will say so
    own = source(**keys)
    for check in (check_own, lambda own, splits: load_own(own, splits, 1)):
        with pytest.raises(ValueError, match=f"^{message}") as caught:
            check(own, ("train", "validation"))
        assert len(str(caught.value)) < 300


def test_quotes_may_be_plain_characters(tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"a\tx\nb"\ty\n')
    assert load_own(source(path, quoting="none"), ["train"], 1)[1]["train"].texts == [('"a',), ('b"',)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnSource:
    """A local dataset folder with declared classes; the labels of its test split are hidden."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})
    for split, labels in (("train", [1, 0, 1, 0]), ("validation", [0, 1]), ("test", [-1, -1]), ("odd", [0, -1])):
        data = {"text": [f"{split} {i}" for i in range(len(labels))], "label": labels}
        folder = tmp_path / "reviews" / "data"
        folder.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(data, features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return source(train=Path("train"), dev="validation", test="test", hub=tmp_path / "reviews")


def test_a_dataset_folder_declares_its_classes(hub: OwnSource):
    spec, found = load_own(hub, ["train", "validation", "test"], 1)
    assert spec.labels == ("pos", "neg")
    assert [part.labels.tolist() for part in found.values()] == [[1, 0, 1, 0], [0, 1], [-1, -1]]
    assert found["validation"].texts == [("validation 0",), ("validation 1",)]
    assert load_own(replace(hub, labels=("neg", "pos")), ["train"], 1)[1]["train"].labels.tolist() == [0, 1, 0, 1]
    share = load_own(replace(hub, dev=0.5), ["train", "validation"], 1)[1]
    assert sorted(share["train"].texts + share["validation"].texts) == [(f"train {i}",) for i in range(4)]


def test_faults_of_a_dataset_name_what_is_there(hub: OwnSource):
    with pytest.raises(ValueError, match=r"task\.hub=.*\(dev\).*'train'.*'validation'"):
        load_own(replace(hub, dev="dev"), ["validation"], 1)
    with pytest.raises(ValueError, match=r"task\.hub=.* no column 'txt' \(did you mean 'text'\?\) among text, label"):
        load_own(replace(hub, text=("txt",)), ["train"], 1)
    with pytest.raises(ValueError, match=r"^reviews odd, row 2: no label"):
        load_own(replace(hub, test="odd"), ["test"], 1)


def test_a_saved_task_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = {"train": "a.csv", "dev": 0.1, "test": None, "text": ["q", "a"], "label": "1e3", "max_length": 64}
    config |= {
        "labels": ["null", "true", "1", "1.5", "no: #", "a\nb"],
        "quoting": "none",
        "delimiter": "\t",
        "encoding": "cp1252",
    }
    path = save_task(config, "tickets", tmp_path / "conf")
    assert path == tmp_path / "conf" / "task" / "tickets.yaml"
    expected = {key: value for key, value in config.items() if key not in ("test", "max_length")}
    expected |= {"name": "tickets", "train": str(tmp_path / "a.csv")}
    assert OmegaConf.to_container(OmegaConf.load(path)) == expected
    assert save_task(config, "tickets", tmp_path / "conf") == path
    with pytest.raises(ValueError, match=r"task\.save_as=tickets: .*tickets\.yaml is there"):
        save_task(config | {"dev": "b.csv"}, "tickets", tmp_path / "conf")
    assert [found.name for found in path.parent.iterdir()] == ["tickets.yaml"]


def test_names_of_splits_are_no_paths_but_a_dataset_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("reviews").mkdir()
    for hub, saved in (("someone/reviews", "someone/reviews"), ("reviews", str(tmp_path / "reviews"))):
        path = save_task({"train": "train", "text": "q", "label": "a", "hub": hub}, hub.replace("/", "_"), tmp_path)
        found = OmegaConf.load(path)
        assert (found.train, found.hub) == ("train", saved)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a.b", "ä", "sst2", "graded", "custom", "own"])
def test_names_that_a_task_cannot_have(name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^task\.save_as="):
        save_task({"train": "a.csv"}, name, tmp_path)
    assert not any(tmp_path.rglob("*.yaml"))


def test_a_fault_waits_for_no_heavy_import(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,1\n")
    code = (
        "import sys; from sharcs_pl.data.own import *\n"
        f"try: load_own(OwnSource({str(path)!r}, 0.5, None, ('text',), 'label'), ['train'], 1)\n"
        "except ValueError: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "sharcs_pl.data.files" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "pyarrow", "lightning"}


def split_of(folder: Path, splits: list[str], **changes: Any) -> dict[str, Examples]:
    path = write_rows(folder / "rows.csv", {"text": [f"t{i}" for i in range(100)], "label": ["a", "b"] * 50})
    return load_own(source(path, **changes), splits, 1)[1]


def test_calibration_texts_are_neither_trained_on_nor_validated(tmp_path: Path) -> None:
    every = ["train", "validation", "calibration"]
    found = split_of(tmp_path, every, dev=0.2, calibration=0.25)
    assert {split: len(found[split]) for split in every} == {"train": 60, "validation": 20, "calibration": 20}
    texts = [text for split in every for text in found[split].texts]
    assert len(set(texts)) == 100
    assert Counter(found["calibration"].labels.tolist()) == {0: 10, 1: 10}
    for split in every:  # whichever is asked for, and with whatever else
        assert found[split].texts == split_of(tmp_path, [split], dev=0.2, calibration=0.25)[split].texts
    assert found["validation"].texts == split_of(tmp_path, ["validation"], dev=0.2)["validation"].texts


def test_calibration_texts_may_come_from_a_file_or_be_a_share_beside_a_dev_file(tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.csv", {"text": ["x", "y"], "label": ["b", "a"]})
    found = split_of(tmp_path, ["train", "calibration"], calibration=other)
    assert (found["calibration"].texts, found["calibration"].labels.tolist()) == ([("x",), ("y",)], [1, 0])
    assert len(found["train"]) == 100
    found = split_of(tmp_path, ["train", "validation", "calibration"], dev=other, calibration=0.1)
    assert {split: len(examples) for split, examples in found.items()} == {
        "train": 90, "validation": 2, "calibration": 10,
    }  # fmt: skip


def test_a_share_that_leaves_nothing_names_its_key(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "one.csv", {"text": ["a", "b", "c"], "label": ["1.5", "2.5", "3.5"]})
    with pytest.raises(ValueError, match=r"task\.calibration=0\.01: of 3 rows this leaves none"):
        load_own(source(path, calibration=0.01), ["calibration"], 1)
