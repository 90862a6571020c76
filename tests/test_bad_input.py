"""Mistakes a user can make, through the real command line: one line that names the fault, exit code 2, nothing written,
and torch not even imported."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from hydra_plugins.sharcs_sweeper import finish
from sharcs_pl.config.command_line import BAD_INPUT
from sharcs_pl.config.errors import LONGEST_MESSAGE
from tests.commands import run_line
from tests.conftest import TINY
from tests.place import GOOD, OWN, RECORD, Place

GLUE = "encoder=custom encoder.pretrained=enc task.data_dir=glue"
STSB = "genre\tscore\tsentence1\tsentence2\n"


STARTED = [
    ("train", "optim.lrr=1", "did you mean optim.lr?"),
    ("train", "task=mrpc encoder=bert", "HF_HUB_OFFLINE"),
    ("train", OWN.replace("a.csv", "gone.csv"), "no such file"),
    ("train", "-m recipe=nope width.split_layer=9 hydra.sweep.dir=sweep", "recipe=nope is unknown"),
    ("evaluate", "run=enc", "enc has no training.json"),
    ("predict", "run=enc input=b.csv output=out.csv", "run=enc is no model of this project"),
    ("predict", "run=enc input=*.csv output=out shard=5/4", "shard=5/4 is no part; give i/n with i from 1 to n"),
    ("calibrate", "run=gone budget=0.5", "run=gone does not exist"),
    ("export", "run=enc output=out.pt2 format=torch", "run=enc is no model of this project"),
    ("bench", "batch_size=4", "batch_size"),
    ("reorder", "encoder=nope output=out", "encoder=nope"),
    ("report", "runs=[gone]", "gone"),
    ("serve", "run=enc port=28000", "run=enc is no model of this project"),
]


@pytest.mark.parametrize(("command", "line", "piece"), STARTED, ids=[f"{row[0]}-{i}" for i, row in enumerate(STARTED)])
def test_a_python_started_for_the_line_answers_as_the_fork_does(
    place: Place, command: str, line: str, piece: str
) -> None:
    """A real start of each command (and of three more trainings), which the forks of all other rows are held to."""
    place.refuse(line, piece, command=command, start=True)
    started, forked = (place.type(line, command, start=start) for start in (True, False))
    assert started == forked


def test_a_fork_that_imports_torch_is_found_out_and_the_next_one_is_not(place: Place) -> None:
    place.write("reads_torch.py", "import torch\n")
    done = run_line(["reads_torch"], cwd=place.path, env=place.environment)
    assert (done.returncode, done.stderr) == (1, "torch\n")
    assert place.mark.exists()
    place.mark.unlink()
    (place.path / "reads_torch.py").unlink()
    place.refuse("optim.lrr=1", "optim.lrr")


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
        (
            "hardness=entropy width.bounds=[[0.8,1],[0,0.8]]",
            ["width.bounds", "of 2 classes is at most 0.69", "[0,0.5]"],
        ),
        ("width.multipliers=[0.25,0.5,1]", ["width.bounds is missing", "each of the 3 widths"]),
        ("+hardness.bounds.loss=[[0,1],[0,1]]", ["hardness.bounds=loss", "confidence, entropy"]),
        ("width.split_layer=4", ["width.split_layer: 4 of 4 layers", "1 to 3"]),
        ("width.split_layer=0", ["width.split_layer=0", "at least 1"]),
        ("task=mrcp", ["task=mrcp is unknown", "task=mrpc", "cola"]),
        ("task.name=nope", ["task.name='nope'", "mrpc"]),
        ("encoder=bart", ["encoder=bart is unknown", "minilm"]),
        ("method=sharks", ["method=sharks is unknown", "sharcs"]),
        ("recipe=nope", ["recipe=nope is unknown", "mrpc_minilm"]),
        ("encoder=custom", ["encoder.pretrained is missing", "hub id or folder"]),
        ("task=custom encoder=minilm", ["task.text is missing"]),
        ("task=custom task.text=q,a task.label=b", ["task.text=q,a is no list; did you mean 'task.text=[q,a]'?"]),
        ("task=custom task.text=q task.label=b task.metrics=f1", ["task.metrics=f1 is no list", "'task.metrics=[f1]'"]),
        (f"{OWN} task.delimiter=ab", ["task.delimiter=ab is no delimiter", "comma, semicolon, tab, pipe"]),
        (f"{OWN} task.encoding=base64", ["task.encoding=base64 is no encoding of texts"]),
        ("task=mrpc task.delimiter=tab", ["task.delimiter describes custom data"]),
        ("hardness.window=9", ["hardness.window=9", "trainer.max_epochs=8"]),
        ("router.rule=cascde", ["router.rule=cascde", "router, cascade, router+cascade"]),
        ("router.average=true", ["router.average belongs to a cascade", "router.rule=cascade"]),
        ("router.rule=cascade router.certainty=sure", ["router.certainty=sure", "probability, margin, entropy"]),
        ("router.rule=cascade router.stop_threshold=2", ["router.stop_threshold=2", "1"]),
        ("router.rule=cascade method=dense", ["router.rule=cascade needs two or more widths"]),
        ("router.rule=router+cascade method=slimmable", ["needs a router", "router.rule=cascade"]),
        ("router.rule=cascade method.skim_weight=0.5", ["router.rule=cascade", "method.skim_weight"]),
        ("trainer.precision=8", ["trainer.precision=8", "bf16-mixed"]),
        ("trainer.devices=none", ["trainer.devices=none", "a number of devices"]),
        ("ckpt_path=gone.ckpt", ["ckpt_path=gone.ckpt does not exist"]),
        ("ckpt_path=epoch=1-step=(2).ckpt", ["ckpt_path=epoch=1-step=(2).ckpt does not exist"]),
        (OWN.replace("a.csv", "bücher[1].csv"), ["task.train=bücher[1].csv: there is no such file"]),
        (OWN.replace("a.csv", "~/gone=1.csv"), ["task.train=", "/gone=1.csv: there is no such file"]),
        (OWN.replace("=review", "=文本"), ["a.csv, line 1: no column '文本' among review, stars"]),
        (OWN.replace("=stars", "=null"), ["a.csv, line 1: no column 'null'"]),
        (f"{OWN} task.positive=ugly", ["task.positive=ugly is none of the classes bad, good"]),
        (f"{OWN} task.multi_label=true", ["task.label_separator is missing", "a.csv"]),
        (f"{OWN} task.label_separator=|", ["task.label_separator divides the names", "task.multi_label=true"]),
        (f"{OWN} task.multi_label=true task.label_separator=| task.positive=x", ["task.positive does not fit several"]),
        (
            f"{OWN} task.multi_label=true task.label_separator=| task.metrics=[f1]",
            ["f1", "does not fit several labels"],
        ),
        (OWN.replace("=stars", "=[stars,votes]"), ["a.csv, line 1: no column 'votes'"]),
        (OWN.replace("=stars", "=[stars]"), ["task.label=['stars'] must name one column, or two or more"]),
        ("task=mrpc encoder=minilm task.positive=1", ["task.positive describes custom data, task=mrpc has its own"]),
        ("task=mrpc encoder=minilm task.multi_label=true", ["task.multi_label describes custom data, task=mrpc"]),
        ("hydra.run.dir=a.csv", ["hydra.run.dir=a.csv", "is a file"]),
        ("task=mrpc", ["encoder=tiny", "encoder=minilm"]),
        ("~optim.foo", ["there is no key optim.foo"]),
        ("width.multipliers=[0,1]", ["width.multipliers", "above 0"]),
        ("width.bounds=[[0,0.5,1],[0,1]]", ["width.bounds has [0, 0.5, 1]", "a pair of numbers"]),
        ("hardness.window=8", ["hardness.window=8", "trainer.max_epochs=8"]),
        ("logger.name=nope", ["logger=nope is unknown", "tensorboard"]),
        ("trainer.limit_val_batches=0", ["trainer.limit_val_batches=0", "1 or more, or a share"]),
        ("trainer.limit_val_batches=0.0", ["trainer.limit_val_batches=0.0", "1 or more, or a share"]),
        ("trainer.limit_val_batches=0.001", ["trainer.limit_val_batches=0.001 of 32 validation batches is none"]),
        ("trainer.limit_train_batches=0", ["trainer.limit_train_batches=0", "1 or more, or a share"]),
        ("trainer.limit_train_batches=0.001", ["trainer.limit_train_batches=0.001 of 125 steps is none"]),
        ("trainer.limit_train_batches=1.5", ["trainer.limit_train_batches=1.5", "1 or more, or a share"]),
        (
            "trainer.accelerator=cpu trainer.devices=[0]",
            ["trainer.devices=[0] chooses GPUs", "accelerator=cpu"],
        ),
        ("trainer.accelerator=cpu trainer.devices=-1", ["trainer.devices=-1 chooses GPUs", "trainer.accelerator=cpu"]),
        ("trainer.devices=[0,0]", ["trainer.devices=[0, 0]", "each device once"]),
        ("trainer.devices=[true]", ["trainer.devices=[True]", "a number of devices"]),
        ("trainer.max_steps=0", ["trainer.max_steps=0", "at least 1"]),
        ("trainer.max_time=00:00:00:00", ["trainer.max_time=00:00:00:00", "no time to train"]),
        ("trainer.num_workers=-1", ["trainer.num_workers=-1 is out of range", "at least 0"]),
        ("trainer.timeout_minutes=1e30", ["trainer.timeout_minutes=1e+30", "between 0.1 and"]),
        ("distill=top width.multipliers=[1] width.bounds=[[0,1]]", ["distill=top", "width.multipliers=['1'] has one"]),
        ("distill=frozen", ["distill=frozen", "hardness.trains=all"]),
        (
            "distill=frozen hardness.trains=all width.multipliers=[1] width.bounds=[[0,1]]",
            ["distill=frozen", "width.multipliers=['1'] has one"],
        ),
        ("distill=frozen method=slimmable", ["distill=frozen", "method=sharcs", "distill=top"]),
        ("distill=frozen hardness.trains=all distill.weight=0", ["distill=frozen", "distill.weight"]),
        ("task.calibration=1.5", ["task.calibration=1.5", "no share between 0 and 1", "such as 0.1"]),
        ("task.calibration=true", ["task.calibration=true is no share of train", "task=graded takes no file"]),
        ("task.calibration=a.csv", ["task.calibration=a.csv", "task=graded takes no file"]),
        ("objective=[[metric]]", ["objective=[['metric']] is unknown", "[metric,cost]"]),
        ("-m objective=null", ["objective=None is unknown", "[metric,cost]"]),
        ("-m objective=3", ["objective=3 is unknown", "[metric,cost]"]),
    ],
)
def test_keys_and_values(place: Place, line: str, pieces: list[str]) -> None:
    place.refuse(line, *pieces)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_without_its_package(place: Place, name: str) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    place.refuse(f"logger={name}", f"logger={name}", f"pip install 'sharcs-pl[{name}]'")


def test_a_folder_that_may_not_be_written_to(place: Place) -> None:
    (place.path / "closed").mkdir(mode=0o555)
    if os.access(place.path / "closed", os.W_OK):
        pytest.skip("root may write anywhere")
    place.refuse("hydra.run.dir=closed/run", "hydra.run.dir=closed/run", "closed may not be written to")


def test_whatever_was_typed_the_message_is_one_line_that_fits_a_terminal(place: Place) -> None:
    place.refuse(f"optim.lr={'9' * 2 * LONGEST_MESSAGE}x", "optim.lr=999", "999x must be a number, or auto", " … ")
    place.refuse('ckpt_path="two\nlines"', "ckpt_path=two lines does not exist")
    place.refuse(f"hydra.run.dir={'x' * 300}", "xxx: ", "too long")


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("task.calibration=gone.csv", ["task.calibration=gone.csv", "there is no such file"]),
        ("task.calibration=0", ["task.calibration=0", "no share between 0 and 1"]),
        ("task.calibration=[a]", ["task.calibration=[a]", "the suffix '' is not supported"]),
    ],
)
def test_where_calibration_texts_come_from(place: Place, line: str, pieces: list[str]) -> None:
    place.refuse(f"{OWN} {line}", *pieces)


def _header(text: bytes, data_bytes: int = 0) -> Callable[[Place], None]:
    content = struct.pack("<Q", len(text)) + text + bytes(data_bytes)
    return lambda place: place.write("enc/model.safetensors", content)


def _shard_gone(place: Place) -> None:
    (place.path / "enc/model.safetensors").unlink()
    place.write("enc/model.safetensors.index.json", json.dumps({"weight_map": {"weight": "one.safetensors"}}))


def _row(text: str) -> Callable[[Place], None]:
    return lambda place: place.write("a.csv", GOOD + text)


def _foreign_tokenizer(place: Place) -> None:
    place.encoder(vocab_size=50)
    place.write("enc/tokenizer.json", json.dumps({"model": {"vocab": {f"w{i}": i for i in range(60)}}}))


@pytest.mark.parametrize(
    ("spoil", "pieces"),
    [
        (_row("one,good,two\n"), ["a.csv, line 10", "3 cells", "2"]),
        (_row(",good\n"), ["a.csv, line 10", "empty"]),
        (_row("text,\n"), ["a.csv, line 10", "no label"]),
        (_row('"never closed,good\nmore,bad\n'), ["a.csv, line 10", "a quote opens here and is never closed"]),
        (lambda place: place.write("a.csv", GOOD.encode() + b"caf\xe9,good\n"), ["a.csv, line 10", "UTF-8"]),
        (lambda place: place.write("b.csv", GOOD + "text,ugly\n"), ["b.csv, line 10", "'ugly'", "good"]),
        (lambda place: place.write("a.csv", "reviews,stars\nx,good\n"), ["a.csv", "review", "reviews"]),
        (lambda place: place.write("a.csv", ""), ["a.csv"]),
        (lambda place: place.write("a.csv", "review,stars\nx,good\ny,good\n"), ["stars", "good"]),
        (lambda place: (place.path / "a.csv").unlink(), ["task.train=a.csv", "no such file"]),
        (lambda place: place.encoder(model_type="gpt2"), ["'gpt2' is not supported", "albert, bert"]),
        (
            lambda place: place.encoder(num_attention_heads=3, hidden_size=12),
            ["width.multipliers=auto", "3 heads", "method=dense"],
        ),
        (lambda place: place.encoder(num_hidden_layers=1), ["width.split_layer: 1 of 1"]),
        (lambda place: place.encoder(max_position_embeddings=64), ["task.max_length=128", "64 tokens"]),
        (lambda place: (place.path / "enc/tokenizer.json").unlink(), ["enc has no tokenizer", "tokenizer.json"]),
        (_foreign_tokenizer, ["encoder.pretrained=enc: its tokenizer has 60 ids, its encoder 50 embeddings"]),
        (lambda place: (place.path / "enc/model.safetensors").unlink(), ["enc has no weights", "model.safetensors"]),
        (lambda place: (place.path / "enc/config.json").unlink(), ["enc has no config.json"]),
        (lambda place: place.write("enc/model.safetensors", b"\x90" * 99), ["model.safetensors is damaged"]),
        (lambda place: place.write("enc/config.json", "{"), ["config.json is not valid JSON"]),
        (lambda place: place.write("a.csv", "review,stars,review\n"), ["a.csv, line 1", "more than one column"]),
        (lambda place: place.encoder(hidden_size="many"), ["config.json has hidden_size=many"]),
        (
            lambda place: place.encoder(model_type="deberta-v2", conv_kernel_size=3),
            ["=enc: its config.json has conv_kernel_size=3, which is not supported"],
        ),
        (_header(b"no JSON"), ["model.safetensors is damaged", "header cannot be read"]),
        (_header(b'{"weight": {"shape": [4], "data_offsets": [0, 16]}}', 15), ["damaged: 74 bytes", "says 75"]),
        (_shard_gone, ["enc lacks one.safetensors"]),
    ],
)
def test_data_and_encoders(place: Place, spoil: Callable[[Place], None], pieces: list[str]) -> None:
    spoil(place)
    place.refuse(OWN, *pieces)


def test_a_norm_that_the_encoder_has_at_no_rung(place: Place) -> None:
    place.encoder(model_type="modernbert")
    place.refuse(f"{OWN} width.top_rung_norm=true", "width.top_rung_norm=true does not fit an encoder", "modernbert")


def test_an_encoder_folder_that_is_not_there(place: Place) -> None:
    place.refuse(OWN.replace("=enc", "=./gone"), "encoder.pretrained=gone is not a folder")


@pytest.mark.parametrize(
    ("name", "content", "pieces"),
    [
        ("a.jsonl", '{"review": "x", "stars": 1}\n{"review": \n', ["a.jsonl, line 2", "invalid JSON"]),
        ("a.jsonl", '{"review": "x", "stars": 1}\n{"review": null, "stars": 1}\n', ["a.jsonl, line 2", "is null"]),
        ("a.jsonl", '{"review": "x", "stars": 1}\n{"review": 3, "stars": 1}\n', ["a.jsonl, line 2", "not a text"]),
        ("a.jsonl", '{"review": "x", "stars": 1}\n["y", 1]\n', ["a.jsonl, line 2", "not an object"]),
        ("a.jsonl", '{"reviews": "x", "stars": 1}\n', ["a.jsonl, line 1", "did you mean 'reviews'?"]),
        ("a.parquet", "PAR1 cut short", ["a.parquet: not a whole parquet file"]),
        ("a.tsv", GOOD.replace(",", "\t") + "x\ty\tgood\n", ["a.tsv, line 10", "3 cells", "2"]),
        ("a.txt", GOOD, ["task.train=a.txt", "'.txt' is not supported", ".jsonl"]),
        ("a.csv.zst", GOOD, ["a.csv.zst: not a whole .zst file"]),
        ("a.json", '{"review": {"0": "x"}, "stars": {"0": 1}}', ["a.json: one object", "a list of objects"]),
    ],
)
def test_other_formats(place: Place, name: str, content: str, pieces: list[str]) -> None:
    place.write(name, content)
    place.refuse(OWN.replace("a.csv", name), *pieces)


@pytest.mark.parametrize(
    ("train", "extra", "pieces"),
    [
        (STSB + "x\t7\ta\tb\n", "", ["train.tsv, line 2", "score '7'", "from 0 to 5"]),
        (STSB + "x\tmany\ta\tb\n", "", ["train.tsv, line 2", "score 'many'"]),
        (STSB.replace("score", "rating"), "", ["train.tsv, line 1", "no column 'score'", "rating"]),
        (STSB + "x\t2\ta\tb\n", " width.bounds=[[0.9,5],[0,0.9]]", ["width.bounds has [0.9, 5.0]", "[0, 1]"]),
    ],
)
def test_a_regression(place: Place, train: str, extra: str, pieces: list[str]) -> None:
    place.write("glue/train.tsv", train)
    place.refuse(f"task=stsb {GLUE}{extra}", *pieces)


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
    rows = STSB + "x\t2.5\ta\tb\n" * 5
    for name in ("train", "dev"):
        place.write(f"glue/{name}.tsv", rows)
    answer = place.type(f"task=stsb {GLUE} hardness.score=entropy")
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
    with zipfile.ZipFile(place.path / "flipped.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", bytes(500))
    content = (place.path / "flipped.ckpt").read_bytes()
    place.write("flipped.ckpt", content[:200] + b"\x01" + content[201:])
    place.refuse("ckpt_path=flipped.ckpt", "flipped.ckpt is damaged (at archive/data.pkl)")


def test_of_several_faults_the_one_that_takes_least_to_find_is_told(place: Place) -> None:
    place.write("a.csv", GOOD + ",good\n")
    place.write("broken.ckpt", b"PK")
    place.encoder(num_hidden_layers=1)
    place.refuse(f"{OWN} recipe=none ckpt_path=broken.ckpt hardness.window=9", "hardness.window=9")
    place.refuse(f"{OWN} ckpt_path=broken.ckpt", "width.split_layer: 1 of 1")
    place.encoder()
    place.refuse(f"{OWN} recipe=none ckpt_path=broken.ckpt", "broken.ckpt is damaged")


def test_a_full_disk_is_found_before_anything_is_written(place: Place) -> None:
    patch = "import shutil, collections\nU = collections.namedtuple('U', 'total used free')\n"
    (place.path.parent / "stub" / "sitecustomize.py").write_text(
        f"{patch}shutil.disk_usage = lambda path: U(9, 9, 100)\n"
    )
    place.refuse(f"{OWN} hydra.run.dir=out", "hydra.run.dir=", "out: 0 MB are free", "make room", start=True)


def test_the_bad_jobs_of_a_sweep_are_named_and_the_others_run(place: Place) -> None:
    stub = Path(place.environment["PYTHONPATH"].split(os.pathsep)[0])
    (stub / "torch.py").unlink()
    line = "-m ckpt_path=null,gone.ckpt width.split_layer=1,9 hydra.sweep.dir=sweep seed=3"
    words = ["sharcs_pl.train", *line.split(), *TINY]
    done = run_line(words, cwd=place.path, env=place.environment, kind="loaded")
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert all("job ckpt_path=" in line and "width.split_layer=9" in line for line in errors)
    assert "1 of 4 jobs ended well" in done.stderr
    assert "ckpt_path=gone.ckpt does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert sorted(path.name for path in (place.path / "sweep").iterdir()) == ["0", "multirun.yaml"]
    assert (place.path / "sweep/0/metrics.json").exists()


def test_a_sweep_without_a_good_job_starts_none(place: Place) -> None:
    before = place.files()
    answer = place.type("-m recipe=nope,none width.split_layer=9 hydra.sweep.dir=sweep")
    assert answer.code == 2
    told = answer.err.splitlines()
    assert len(told) == 2
    assert "recipe=nope is unknown" in told[0]
    assert "9 of 4 layers" in told[1]
    assert place.files() == before
    assert not place.mark.exists()


def test_a_job_that_fails_before_its_model_is_built_does_not_end_the_sweep(place: Place) -> None:
    answer = place.type("-m ckpt_path=gone.ckpt,lost.ckpt hydra.sweep.dir=sweep")
    assert answer.code == 2
    told = answer.err[answer.err.index("0 of 2 jobs ended well") :].splitlines()[1:]
    assert "gone.ckpt does not exist" in told[0]
    assert "lost.ckpt does not exist" in told[1]
    assert [path.name for path in (place.path / "sweep").iterdir()] == ["multirun.yaml"]
    assert not place.mark.exists()


def test_a_sweep_that_left_jobs_out_has_exit_code_2_though_the_others_ended_well() -> None:
    with pytest.raises(SystemExit) as left:
        finish([], left_out=1)
    assert left.value.code == BAD_INPUT


@pytest.mark.parametrize(
    ("line", "pieces"),
    [
        ("run=gone", ["run=gone does not exist", "model/"]),
        ("run=epoch=1-step=2.ckpt", ["run=epoch=1-step=2.ckpt does not exist"]),
        ("run=enc", ["enc has no training.json"]),
        ("run=a.csv", ["a.csv is damaged", "checkpoint"]),
        ("run=enc split=tset", ["split=tset", "validation, test"]),
        ("run=enc task.encoding=latn1", ["task.encoding=latn1 is no encoding", "did you mean latin1"]),
        ("run=enc task.delimiter=ab", ["task.delimiter=ab is no delimiter"]),
        ("run=enc spilt=test", ["spilt", "did you mean split?"]),
        ("split=test", ["run is missing"]),
        ("run=enc backend=tflite", ["backend=tflite is unknown", "torch, openvino, onnxruntime"]),
        ("run=enc precision=half", ["precision=half is unknown", "float32, bfloat16, int8"]),
        ("run=enc backend=openvino accelerator=gpu", ["accelerator=gpu: backend=openvino runs on the CPU"]),
        ("run=enc precision=bfloat16 cost.audit=true", ["cost.audit=true counts the model in torch", "precision"]),
        ("run=enc --quick", ["--quick is unknown"]),
    ],
)
def test_evaluate(place: Place, line: str, pieces: list[str]) -> None:
    place.refuse(line, *pieces, command="evaluate")


def _run(files: dict[str, str | bytes], record: object = RECORD) -> Callable[[Place], None]:
    """A run directory with these files, and the record of its config (a text is written as it is)."""
    marker = record if isinstance(record, str) else json.dumps({"config": record})
    return lambda place: place.write_all({"old/.hydra/run.json": marker} | {f"old/{k}": v for k, v in files.items()})


def _model(files: dict[str, str | bytes]) -> Callable[[Place], None]:
    """The encoder's folder as a model saved by a run on own data, and these files."""
    return lambda place: place.write_all({"enc/training.json": json.dumps(RECORD)} | files)


@pytest.mark.parametrize(
    ("spoil", "line", "pieces"),
    [
        (_run({}), "run=old", ["run=old has no checkpoint yet"]),
        (_run({}, None), "run=old", ["run=old does not say how it was trained"]),
        (_run({}, "{"), "run=old", ["run.json is not valid JSON"]),
        (_run({"model/model.safetensors": b"\x90" * 99}), "run=old", ["old/model/model.safetensors is damaged"]),
        (_run({"checkpoints/best.ckpt": b"PK"}), "run=old", ["old/checkpoints/best.ckpt is damaged"]),
        (_run({"model/config.json": "{}"}), "run=old", ["model", "has no weights"]),
        (_model({"enc/model.safetensors": b"\x90" * 99}), "run=enc", ["enc/model.safetensors is damaged"]),
        (_model({}), "run=enc split=test", ["task.test=c.csv", "no such file"]),
        (_model({}), "run=enc precision=int8", ["precision=int8: torch computes in float32 or bfloat16"]),
        (
            _model({"b.csv": b"review;stars\ncaf\xe9;a\n"}),
            "run=enc",
            ["b.csv, line 2", "task.encoding=cp1252 would read"],
        ),
        (
            _model({"b.csv": "review;stars\ncafé;c\n".encode("cp1252")}),
            "run=enc task.encoding=cp1252",
            ["b.csv, line 2: label 'c' is none of the classes a, b"],
        ),
        (_model({"c.csv": "text,stars\nx,a\n"}), "run=enc split=test", ["c.csv, line 1", "no column 'review'", "text"]),
        (_model({}), "run=enc", ["b.csv, line 2", "'bad' is none of the classes a, b"]),
    ],
)
def test_evaluate_finds_what_a_run_lacks(
    place: Place, spoil: Callable[[Place], None], line: str, pieces: list[str]
) -> None:
    spoil(place)
    place.refuse(line, *pieces, command="evaluate")


def test_help_and_the_config_answer_without_torch(place: Place) -> None:
    for command in ("train", "evaluate"):
        for flags in ("--help", "--cfg job"):
            answer = place.type(flags, command)
            assert (answer.code, answer.err) == (0, "")
            assert max(map(len, answer.out.splitlines())) <= 120
    assert len(place.type("--help").out.splitlines()) <= 40
    assert not place.mark.exists()


def test_a_refused_run_leaves_no_folder_and_removes_none_of_the_users(place: Place) -> None:
    (place.path / "mine").mkdir()
    outside = place.path.parent / "outside"
    outside.mkdir()
    for folder in ("mine", "new/deep", outside, outside / "new/deep"):
        place.refuse(f"hydra.run.dir={folder} ckpt_path=gone.ckpt", "ckpt_path=gone.ckpt does not exist")
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    ("line", "piece"),
    [
        ("port=80", "port=80 is out of range; it must be between 1024 and 65535"),
        ("host=example.org", "host=example.org is unknown; choose one of: 127.0.0.1, 0.0.0.0, ::"),
        ("batch_size=0", "batch_size=0 is out of range"),
        ("max_wait_ms=-1", "max_wait_ms=-1.0 is out of range"),
        ("max_wait_ms=50 deadline_ms=50", "max_wait_ms=50 must be less than deadline_ms=50"),
        ("max_queue=9", "max_queue=9 must be at least max_texts=128"),
        ("overload_above=9", "overload_above=9 needs overload="),
        ("overload=cheap overload_above=1024", "overload_above=1024 is out of range; it must be between 0 and 1023"),
        ("max_texts=0", "max_texts=0 is out of range"),
        ("max_characters=0", "max_characters=0 is out of range"),
        ("max_body_bytes=0", "max_body_bytes=0 is out of range"),
        ("deadline_ms=0", "deadline_ms=0.0 is out of range"),
        ("backend=tensorrt", "backend=tensorrt is unknown"),
        ("max_text=3", "did you mean max_texts?"),
    ],
)
def test_a_server_that_cannot_be_as_its_keys_say(place: Place, line: str, piece: str) -> None:
    place.refuse(f"run=enc {line}", piece, command="serve")
