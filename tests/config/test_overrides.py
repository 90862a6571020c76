"""Paths, columns and labels on the command line, through Hydra's own parser."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from sharcs_pl.config import EvaluateConfig, ReorderConfig, ReportConfig, RunConfig, conf_dir
from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.config.overrides import key_of, override, quote, quote_texts
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.config.texts import texts_of
from sharcs_pl.train import resume_command
from tests.conftest import compose_config

PLAIN = [
    "bücher.csv", "data (1).csv", "文本.csv", "epoch=1-step=2.ckpt", "cost$5.csv", "$5.csv", "a#b.csv", "it's.csv",
    'say "x".csv', "a\\b.csv", "ends\\", '\\"', "-x.csv", "[1].csv", "{x}.csv", "{a:b}", "x.csv ", " x.csv", "null.csv",
    "a,b.csv", "a:b", "a=b", "a&b", "a;b", "1", "1.0", "1e3", "0x1", "true", "True", "off", "yes", "nan", "1_000", "*",
    "?", "a\nb", "choice(a,b)", "str(1)", "glob(*)", "(", "[", "'", '"', "a$", "a${b", "@x", "x~", "a ~ b", "[a,b]",
    "a'b,c'd", "line\ttab",
]  # fmt: skip


def train(*words: str) -> Any:
    return compose_config(*quote_texts(words, RunConfig))


def read(key: str, text: str) -> Any:
    """What the config gets, without composing one."""
    (word,) = quote_texts([f"{key}={text}"], RunConfig)
    found: Any = OmegaConf.create({"found": OverridesParser.create().parse_override(word).value()})
    plain: Any = OmegaConf.to_container(found, resolve=True)
    return plain["found"]


@pytest.mark.parametrize("text", PLAIN)
def test_a_path_and_a_label_are_taken_as_they_are(text: str) -> None:
    assert read("task.train", text) == text
    label = ["a", "b"] if text == "[a,b]" else text  # a column for each of several labels
    assert read("task.label", text) == label


def test_so_they_are_when_the_config_is_composed() -> None:
    words = {"task.train": "data (1).csv", "task.label": "1e3", "task.test": "a${b.csv", "ckpt_path": "e=1-s=2.ckpt"}
    cfg = train(*(f"{key}={text}" for key, text in words.items()))
    assert {key: OmegaConf.select(cfg, key) for key in words} == words


@given(text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda text: "${" not in text))
def test_quotes_hold_any_text(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={quote(text)}").value() == text


@pytest.mark.parametrize("text", [text for text in PLAIN if "," not in text])
def test_so_are_text_columns_and_each_of_a_list(text: str) -> None:
    assert read("task.text", text) == text
    if "\\" not in text:  # it would keep the comma after it from parting the list
        assert read("task.text", f"[ {text.strip()} ,other]") == [text.strip(), "other"]
        assert read("task.labels", f"[{text.strip()},no]") == [text.strip(), "no"]


def test_a_comma_in_a_column_that_may_be_several_is_quoted_by_the_user() -> None:
    assert train('task.text="a,b"').task.text == "a,b"
    assert train('task.text=["a,b",c]').task.text == ["a,b", "c"]
    assert train("task.label=a,b").task.label == "a,b"
    assert quote_texts(["task.text=a,b"], RunConfig) == ["task.text=a,b"]  # a mistake, which is told as one


def test_null_unsets_what_may_be_unset_and_names_a_column_that_must_be_there() -> None:
    cfg = train("task.test=null", "ckpt_path=NULL", "task.labels=null", "task.label=null", "task.text=null")
    assert (cfg.task.test, cfg.ckpt_path, cfg.task.labels) == (None, None, None)
    assert (cfg.task.label, cfg.task.text) == ("null", "null")
    assert train("task.text=[null,true]").task.text == ["null", "true"]
    predict = ["run=x", "input=y", "output=z"]
    assert read_command("predict", PredictConfig, [*predict, "text=null"]).text is None
    assert read_command("predict", PredictConfig, [*predict, "text=[null]", "keep=1"]).text == ["null"]
    assert read_command("predict", PredictConfig, [*predict, "keep=1"]).kept_columns == ("1",)


def test_a_share_stays_a_number_and_a_file_of_that_name_is_quoted() -> None:
    assert train("task.dev=0.1").task.dev == 0.1
    assert train("task.dev=1").task.dev == 1
    assert train("task.dev=true").task.dev == "true"
    assert train('task.dev="0.1"').task.dev == "0.1"


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/an (1)")
    cfg = train("task.train=~/x.csv", "encoder.pretrained=~", "task.data_dir=~/a b", "task.label=~/x", "task.dev=a~/b")
    assert cfg.task.train == "/home/an (1)/x.csv"
    assert (cfg.encoder.pretrained, cfg.task.data_dir) == ("/home/an (1)", "/home/an (1)/a b")
    assert (cfg.task.label, cfg.task.dev) == ("~/x", "a~/b")
    assert quote_texts(["~task.train", "hydra.run.dir=~/r=1"], RunConfig) == [
        "~task.train",
        'hydra.run.dir="/home/an (1)/r=1"',
    ]
    runs = read_command("report", ReportConfig, ["runs=[~/a,b*,c (1)]", "names=[1,true,null]", "output=~"])
    assert (runs.runs, runs.names) == (["/home/an (1)/a", "b*", "c (1)"], ["1", "true", "null"])
    assert runs.output == "/home/an (1)"


@pytest.mark.parametrize(
    "words",
    [
        ["task.train='data (1).csv'", 'task.label="1"', "task.text=['a b',\"c\"]"],
        ["task.train=a\\,b.csv", "task.test=a\\ b.csv"],  # with Hydra's own escapes
        ["task.train=${oc.env:HOME}/a.csv", "hydra.run.dir=runs/${now:%Y}/${task.name}"],
        ["optim.lr=1e-3", "task=mrpc", "width.multipliers=[0.25,1]", "+x=y", "--cfg", "job", "task.train=", "a", ""],
        ["task.labels=[]", "task.text=[q,a]"],
    ],
)
def test_what_hydra_reads_as_it_stands_is_left_alone(words: list[str]) -> None:
    assert quote_texts(words, RunConfig) == words


@given(text=st.text("a1,'\"\\ =()[]{}$~#", min_size=1, max_size=8), key=st.sampled_from(["train", "text", "dev"]))
def test_words_may_come_twice(text: str, key: str) -> None:
    once = quote_texts([f"task.{key}={text}"], RunConfig)
    assert quote_texts(once, RunConfig) == once


def test_the_command_that_goes_on_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["task.train=data (1).csv", "task.label=null", "hydra.run.dir=run (ü), a=1"]
    task = [word for word in quote_texts(typed, RunConfig) if not word.startswith("hydra.")]
    line = resume_command(DictConfig({"overrides": {"task": task}}), tmp_path / "run (ü), a=1")
    words = quote_texts(shlex.split(line)[3:], RunConfig)
    parsed = [OverridesParser.create().parse_override(word) for word in words]
    assert {found.key_or_group: found.value() for found in parsed} == {
        "task.train": "data (1).csv", "task.label": "null", "hydra.run.dir": "run (ü), a=1", "ckpt_path": "last",
    }  # fmt: skip


def values(word: str) -> list[Any]:
    found = OverridesParser.create().parse_override(word)
    return list(found.sweep_string_iterator()) if found.is_sweep_override() else [found.get_value_element_as_str()]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("task.train=a.csv,b.csv", ["a.csv", "b.csv"]),
        ("task.train=a (1).csv,ü.csv,b.csv", ['"a (1).csv"', '"ü.csv"', "b.csv"]),
        ("task.label=1,true,null", ['"1"', '"true"', '"null"']),
        ("ckpt_path=null,gone.ckpt", ["null", "gone.ckpt"]),
        ("task.text=[q,a],[q,1]", ["[q,a]", '[q,"1"]']),
        ("task.text=q,a", ["q", "a"]),
        ("task.train=choice(a.csv,b.csv)", ["a.csv", "b.csv"]),
        ("task.dev=0.1,0.2,b (2).csv", ["0.1", "0.2", '"b (2).csv"']),
        ("encoder.pretrained=a (1,2)", ['"a (1,2)"']),
    ],
)
def test_a_sweep_still_sweeps(word: str, expected: list[str]) -> None:
    for flag in ("-m", "--multirun", "hydra.mode=MULTIRUN"):
        (found,) = (each for each in quote_texts([flag, word], RunConfig) if each != flag)
        assert values(found) == expected


COMMANDS: list[tuple[str, type, list[str], str]] = [
    ("evaluate", EvaluateConfig, [], "run"),
    ("evaluate", EvaluateConfig, ["run=x", "split=test"], "task.test"),
    ("calibrate", CalibrateConfig, ["budget=0.5"], "run"),
    ("calibrate", CalibrateConfig, ["budget=0.5", "run=x"], "task.dev"),
    ("predict", PredictConfig, ["run=x", "output=y"], "input"),
    ("predict", PredictConfig, ["run=x", "output=y", "input=z"], "text"),
    ("export", ExportConfig, ["run=x"], "output"),
    ("bench", BenchConfig, ["run=x"], "dense"),
    ("reorder", ReorderConfig, ["run=x"], "output"),
    ("report", ReportConfig, ["runs=[x]"], "title"),
]


@pytest.mark.parametrize(("name", "schema", "words", "key"), COMMANDS)
def test_every_command_takes_them(name: str, schema: type, words: list[str], key: str) -> None:
    for text in ("runs/epoch=1-step=2.ckpt", "bücher (1).csv", "1.0"):
        found: Any = read_command(name, schema, [*words, f"{key}={text}"])
        for part in key.split("."):
            found = getattr(found, part)
        assert found == text


def test_every_text_key_is_a_key_of_its_schema_and_a_text() -> None:
    """A key of another type must not be marked: its value would come out as a text."""
    for schema in (RunConfig, EvaluateConfig, PredictConfig, CalibrateConfig, BenchConfig, ExportConfig, ReportConfig):
        marked = dict(texts_of(schema))
        assert marked, schema
    marked = dict(texts_of(RunConfig))
    assert {"task.train", "task.dev", "task.text", "task.label", "task.labels", "task.hub", "ckpt_path"} <= set(marked)
    assert {"encoder.pretrained", "method.match", "method.teacher", "logger.tracking_uri"} <= set(marked)
    assert not {"task.name", "seed", "task.metrics", "optim.lr"} & set(marked)


@dataclass
class _Nothing:
    pass


def test_run_directories_of_hydra_are_paths_too(tmp_path: Path) -> None:
    words = quote_texts([f"hydra.run.dir={tmp_path}/a=1 (ü)", "hydra.sweep.dir=x y=1"], _Nothing)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=words, return_hydra_config=True)
    assert cfg.hydra.run.dir == f"{tmp_path}/a=1 (ü)"
    assert cfg.hydra.sweep.dir == "x y=1"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8).filter(lambda text: "${" not in text)
LITERAL = [text for text in PLAIN[:-4] if "${" not in text]  # which OmegaConf would fill in, so it is escaped
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.sampled_from(LITERAL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b_1"]), inner, max_size=2),
    max_leaves=5,
)


@given(value=VALUES)
def test_a_value_of_python_is_read_as_itself(value: Any) -> None:
    found = OverridesParser.create().parse_override(override("key", value)).value()
    assert plain(found) == value
    assert type(found) is type(value) or isinstance(value, str)


def plain(value: Any) -> Any:
    """Hydra's quoted texts as their own."""
    if isinstance(value, dict):
        return {plain(name): plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else getattr(value, "text", value)


def test_numbers_of_numpy_and_paths_are_values_and_other_things_are_refused() -> None:
    assert override("optim.lr", np.float32(0.5)) == "optim.lr=0.5"
    assert override("seed", np.int64(3)) == "seed=3"
    assert override("task", "custom") == "task=custom", "a choice stays one"
    assert override("task.train", Path("a b.csv")) == 'task.train="a b.csv"'
    for odd in (b"3", {"a b": 1}, object()):
        with pytest.raises(ValueError, match=rf"^seed is {type(odd).__name__}, which no config holds"):
            override("seed", odd)


@pytest.mark.parametrize("word", ["optim.lr=1=2", "+optim.lr=", "++optim.lr=1", "~optim.lr"])
def test_the_key_of_a_typed_word(word: str) -> None:
    assert key_of(word) == "optim.lr"
