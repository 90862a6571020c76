"""Mistakes a user can make, through the real command line: one line that names the fault, exit code 2, nothing written,
and torch not even imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sharcs_pl.commandline import LONGEST_MESSAGE
from tests.conftest import TINY

OWN = "task=own task.train=a.csv task.dev=b.csv task.text=review task.label=stars encoder=custom encoder.pretrained=enc"
GLUE = "encoder=custom encoder.pretrained=enc task.data_dir=glue"
GOOD = "review,stars\n" + "".join(f"text {i},{'good' if i % 2 else 'bad'}\n" for i in range(8))
MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


class Place:
    """A working directory with an encoder, own files and a torch that tells when it is imported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = path.parent / "torch was imported"
        stub = path.parent / "stub"
        stub.mkdir()
        (stub / "torch.py").write_text(f"open({str(self.mark)!r}, 'w').close(); raise SystemExit('torch')\n")
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(stub), str(Path.cwd())])}
        self.environment |= {"SHARCS_CACHE": str(path.parent / "cache"), "COLUMNS": "80"}
        self.encoder()
        for name in ("a.csv", "b.csv"):
            self.write(name, GOOD)
        self.write("glue/train.tsv", MRPC + "1\t1\t2\ta text\tanother\n" * 3)
        self.write("glue/dev.tsv", MRPC + "0\t1\t2\ta text\tanother\n" * 3)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def encoder(self, **changes: object) -> None:
        """A folder that looks like a BERT of 3 layers and 4 heads."""
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
        config = {"model_type": "bert", "max_position_embeddings": 512} | sizes | changes
        self.write("enc/config.json", json.dumps(config))
        self.write("enc/tokenizer.json", "{}")
        save_file({"weight": np.zeros(8, np.float32)}, self.path / "enc" / "model.safetensors")

    def files(self) -> dict[str, bytes]:
        found = sorted(self.path.rglob("*"))
        return {str(path.relative_to(self.path)): path.read_bytes() if path.is_file() else b"" for path in found}

    def type(self, line: str, command: str = "train", **environment: str) -> Answer:
        words = [sys.executable, "-m", f"sharcs_pl.{command}", *line.split(" ")]
        done = subprocess.run(
            words, cwd=self.path, env=self.environment | environment, capture_output=True, text=True, timeout=60
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def refuse(self, line: str, *pieces: str, command: str = "train", **environment: str) -> None:
        """The line must end in one clear error that holds the pieces, and leave everything as it was."""
        before = self.files()
        answer = self.type(line, command, **environment)
        assert answer.code == 2, answer
        assert answer.out == ""
        assert answer.err.startswith("error: "), answer.err
        assert answer.err.count("\n") == 1, answer.err
        assert len(answer.err) <= LONGEST_MESSAGE + len("error: \n")
        assert not [piece for piece in pieces if piece not in answer.err], answer.err
        assert self.files() == before
        assert not self.mark.exists()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work").mkdir()
    return Place(tmp_path / "work")


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("optim.lrr=1", ["optim.lrr", "did you mean optim.lr?"]),
        ("taks=mrpc", ["taks", "did you mean task?"]),
        ("lr=1e-3", ["there is no key lr", "optim.lr"]),
        ("trainer.max_epoch=3", ["trainer.max_epoch", "did you mean trainer.max_epochs?"]),
        ("+optim.foo=1", ["there is no key optim.foo", "lr, weight_decay"]),
        ("trainer.max_epochs=many", ["trainer.max_epochs=many", "a whole number"]),
        ("optim.lr=[1]", ["optim.lr=[1]", "a number"]),
        ("optim.lr", ["cannot read 'optim.lr' as key=value"]),
        ("width.multipliers=[1,0.25]", ["width.multipliers", "must end with 1"]),
        ("width.multipliers=[0.5,0.25,1]", ["width.multipliers", "must increase"]),
        ("width.multipliers=[0.25,0.5]", ["width.multipliers", "must end with 1"]),
        ("width.multipliers=[0.3,1]", ["0.3 of 4 heads is 1.2", "Widths that fit this encoder: 0.25, 0.5, 0.75, 1"]),
        ("width.bounds=[[0.9,1.1],[0,0.9]]", ["width.bounds", "[0.9, 1.1]", "[0, 1]"]),
        ("hardness.score=entropy width.bounds=[[-1,0.3],[0.3,9]]", ["width.bounds", "[-1.0, 0.3]", "[0, inf)"]),
        ("width.bounds=[[1,0.9],[0,0.9]]", ["width.bounds", "[1, 0.9]", "lo <= hi"]),
        ("width.bounds=[[0,1]]", ["width.bounds has 1 entries", "asks for 2"]),
        ("width.split_layer=4", ["width.split_layer: 4 of 4 layers", "1 to 3"]),
        ("width.split_layer=0", ["width.split_layer=0", "at least 1"]),
        ("task=mrcp", ["task=mrcp is unknown", "task=mrpc", "cola"]),
        ("task.name=nope", ["task.name='nope'", "mrpc"]),
        ("encoder=bart", ["encoder=bart is unknown", "minilm"]),
        ("method=sharks", ["method=sharks is unknown", "sharcs"]),
        ("recipe=nope", ["recipe=nope is unknown", "mrpc_minilm"]),
        ("encoder=custom", ["encoder.pretrained is missing", "hub id or folder"]),
        ("task=own encoder=minilm", ["task.text is missing"]),
        ("hardness.window=9", ["hardness.window=9", "trainer.max_epochs=7"]),
        ("trainer.precision=8", ["trainer.precision=8", "bf16-mixed"]),
        ("trainer.devices=none", ["trainer.devices=none", "a number of devices"]),
        ("ckpt_path=gone.ckpt", ["ckpt_path=gone.ckpt does not exist"]),
        ("hydra.run.dir=a.csv", ["hydra.run.dir=a.csv", "is a file"]),
        ("task=mrpc", ["encoder=tiny", "encoder=minilm"]),
    ],
)
def test_keys_and_values(place: Place, line: str, pieces: list[str]) -> None:
    place.refuse(line, *pieces)


def _row(text: str) -> Callable[[Place], None]:
    return lambda place: place.write("a.csv", GOOD + text)


@pytest.mark.parametrize(
    ("spoil", "pieces"),
    [
        (_row("one,good,two\n"), ["a.csv, line 10", "3 cells", "2"]),
        (_row(",good\n"), ["a.csv, line 10", "empty"]),
        (_row("text,\n"), ["a.csv, line 10", "no label"]),
        (_row('"never closed,good\nmore,bad\n'), ["a.csv, line 10", "quote"]),
        (lambda place: place.write("a.csv", GOOD.encode() + b"caf\xe9,good\n"), ["a.csv, line 10", "UTF-8"]),
        (lambda place: place.write("b.csv", GOOD + "text,ugly\n"), ["b.csv, line 10", "'ugly'", "good"]),
        (lambda place: place.write("a.csv", "reviews,stars\nx,good\n"), ["a.csv", "review", "reviews"]),
        (lambda place: place.write("a.csv", ""), ["a.csv"]),
        (lambda place: place.write("a.csv", "review,stars\nx,good\ny,good\n"), ["stars", "good"]),
        (lambda place: (place.path / "a.csv").unlink(), ["task.train=a.csv", "no such file"]),
        (lambda place: place.encoder(model_type="gpt2"), ["'gpt2' is not supported", "albert, bert"]),
        (lambda place: place.encoder(num_attention_heads=3, hidden_size=12), ["0.25 of 3 heads", "Widths that fit"]),
        (lambda place: place.encoder(num_hidden_layers=1), ["width.split_layer: 1 of 1"]),
        (lambda place: place.encoder(max_position_embeddings=64), ["task.max_length=128", "64 tokens"]),
        (lambda place: (place.path / "enc/tokenizer.json").unlink(), ["enc has no tokenizer", "tokenizer.json"]),
        (lambda place: (place.path / "enc/model.safetensors").unlink(), ["enc has no weights", "model.safetensors"]),
        (lambda place: (place.path / "enc/config.json").unlink(), ["enc has no config.json"]),
        (lambda place: place.write("enc/model.safetensors", b"\x90" * 99), ["model.safetensors is damaged"]),
        (lambda place: place.write("enc/config.json", "{"), ["config.json is not valid JSON"]),
    ],
)
def test_data_and_encoders(place: Place, spoil: Callable[[Place], None], pieces: list[str]) -> None:
    spoil(place)
    place.refuse(OWN, *pieces)


@pytest.mark.parametrize(
    ("row", "pieces"),
    [
        ("1\t1\t2\ta text\n", ["train.tsv, line 5", "4 cells", "5"]),
        ("7\t1\t2\ta text\tanother\n", ["train.tsv, line 5", "label '7'", "0, 1"]),
        ("1\t1\t2\t\tanother\n", ["train.tsv, line 5", "empty"]),
        (b"1\t1\t2\t\xff\tanother\n", ["train.tsv, line 5", "UTF-8"]),
    ],
)
def test_rows_of_the_official_files(place: Place, row: str | bytes, pieces: list[str]) -> None:
    content = (place.path / "glue/train.tsv").read_bytes()
    place.write("glue/train.tsv", content + (row if isinstance(row, bytes) else row.encode()))
    place.refuse(f"task=mrpc {GLUE}", *pieces)


def test_official_counts_that_differ_are_a_warning_that_says_by_how_much(place: Place) -> None:
    rows = "genre\tscore\tsentence1\tsentence2\n" + "x\t2.5\ta\tb\n" * 5
    for name in ("train", "dev"):
        place.write(f"glue/{name}.tsv", rows)
    answer = place.type(f"task=stsb {GLUE} hardness.score=entropy width.bounds=[[0,1],[1,2]]")
    warned = [line for line in answer.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 2
    assert "stsb train: 5 rows" in warned[0]
    assert "5749" in warned[0]
    assert answer.err.splitlines()[-1].startswith("error: hardness.score=entropy needs classes")
    assert answer.code == 2


def test_no_network_is_told_at_once_with_what_to_do_instead(place: Place) -> None:
    place.refuse("task=mrpc encoder=bert", "google-bert/bert-base-uncased", "HF_HUB_OFFLINE", "encoder=minilm")
    place.refuse("task=mrpc encoder=custom encoder.pretrained=enc", "nyu-mll/glue", "task.data_dir")


def test_a_directory_that_holds_another_run_stays_as_it_was(place: Place) -> None:
    place.write("old/.hydra/run.json", '{"digest": "another"}')
    place.write("old/metrics.json", "{}")
    place.refuse("hydra.run.dir=old", "old holds a run with another config", "overwrite=true")
    place.write("old/.hydra/run.json", "{")
    place.refuse("hydra.run.dir=old", "run.json is not valid JSON")


def test_a_damaged_checkpoint_is_found_before_anything_loads(place: Place) -> None:
    place.write("broken.ckpt", b"PK\x03\x04 and nothing more")
    place.refuse("ckpt_path=broken.ckpt", "broken.ckpt is damaged", "overwrite=true")


def test_a_full_disk_is_found_before_anything_is_written(place: Place) -> None:
    patch = "import shutil, collections\nU = collections.namedtuple('U', 'total used free')\n"
    (place.path.parent / "stub" / "sitecustomize.py").write_text(
        f"{patch}shutil.disk_usage = lambda path: U(9, 9, 100)\n"
    )
    place.refuse(f"{OWN} hydra.run.dir=out", "hydra.run.dir=", "out: 0 MB are free", "make room")


def test_the_bad_jobs_of_a_sweep_are_named_and_the_others_run(place: Place) -> None:
    stub = Path(place.environment["PYTHONPATH"].split(os.pathsep)[0])
    (stub / "torch.py").unlink()
    line = f"-m ckpt_path=null,gone.ckpt width.split_layer=1,9 hydra.sweep.dir=sweep {' '.join(TINY)} seed=3"
    answer = place.type(line)
    errors = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert all("job ckpt_path=" in line and "width.split_layer=9" in line for line in errors)
    assert "1 of 4 jobs ended well" in answer.err
    assert "ckpt_path=gone.ckpt does not exist" in answer.err
    assert "Traceback" not in answer.err
    assert answer.code == 2
    assert sorted(path.name for path in (place.path / "sweep").iterdir()) == ["0", "multirun.yaml"]
    assert (place.path / "sweep/0/metrics.json").exists()


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("run=gone", ["run=gone does not exist", "model/"]),
        ("run=enc", ["enc has no run.json"]),
        ("run=a.csv", ["a.csv is damaged", "checkpoint"]),
        ("run=enc split=tset", ["split=tset", "validation, test"]),
        ("run=enc spilt=test", ["spilt", "did you mean split?"]),
        ("split=test", ["run is missing"]),
        ("run=enc --quick", ["--quick is unknown"]),
    ],
)
def test_evaluate(place: Place, line: str, pieces: list[str]) -> None:
    place.refuse(line, *pieces, command="evaluate")


def test_help_and_the_config_answer_without_torch(place: Place) -> None:
    for command in ("train", "evaluate"):
        for flags in ("--help", "--cfg job"):
            answer = place.type(flags, command)
            assert (answer.code, answer.err) == (0, "")
            assert max(map(len, answer.out.splitlines())) <= 120
    assert len(place.type("--help").out.splitlines()) <= 40
    assert not place.mark.exists()
