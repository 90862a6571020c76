"""What a run leaves for its readers: nothing that was found in a file is interpolated, no place is given away."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.core.errors import DataWarning
from sharcs_pl.inference.record import make_record, read_record, travelling
from sharcs_pl.runs.directory import run_config
from sharcs_pl.runs.inputs import read_task
from tests.conftest import compose_config

OWN = ("task=custom", "task.text=text", "task.label=score", "encoder.pretrained=enc")


def own_run(folder: Path, *overrides: str) -> tuple[RunConfig, dict]:
    """A regression whose dev file has a score above those of train, as configured and as recorded."""
    for name, scores in (("train", (0.5, 2.5)), ("dev", (0.25, 3.5))):
        rows = "".join(f"{name} {i},{score}\n" for i, score in enumerate(scores))
        (folder / f"{name}.csv").write_text(f"text,score\n{rows}")
    paths = [f"task.{name}={folder / name}.csv" for name in ("train", "dev")]
    config = run_config(compose_config(*OWN, *paths, *overrides))
    task, _ = read_task(config.task, ("train",), config.seed)
    return config, make_record(config, task)


def test_a_range_that_was_found_bounds_nothing_later(tmp_path: Path) -> None:
    """What trained is evaluated: training reads such a score, and so does whoever evaluates the run."""
    config, record = own_run(tmp_path)
    trained, _ = read_task(config.task, (None,), config.seed)
    task, examples = read_task(read_record(record).task, (None,), 1)
    assert task.label_range == (0.5, 2.5) == trained.label_range
    assert examples["validation"].labels.tolist() == [0.25, 3.5]


def test_a_range_that_was_given_still_does(tmp_path: Path) -> None:
    config, record = own_run(tmp_path, "task.label_range=[0,3]")
    for task in (config.task, read_record(record).task):
        with pytest.raises(ValueError, match=r"dev\.csv, line 3: score '3\.5' is no number from 0 to 3"):
            read_task(task, (None,), 1)


def test_a_record_that_does_not_say_is_read_as_a_range_that_was_found(tmp_path: Path) -> None:
    _, record = own_run(tmp_path)
    del record["task"]["label_range_strict"]
    assert read_task(read_record(record).task, (None,), 1)[0].label_range == (0.5, 2.5)


def test_the_split_follows_a_seed_of_its_own_and_in_old_records_the_run_s(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,score\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(60)))

    def dev(config: RunConfig) -> list[tuple[str, ...]]:
        return read_task(config.task, (None,), config.seed)[1]["validation"].texts

    def config(*overrides: str) -> RunConfig:
        return run_config(compose_config(*OWN, f"task.train={tmp_path}/a.csv", "task.dev=0.2", *overrides))

    assert dev(config("seed=2")) == dev(config()) != dev(config("task.split_seed=2"))
    task, _ = read_task(config().task, ("train",), 1)
    record = make_record(config("seed=2"), task)
    assert dev(read_record(record)) == dev(config())
    del record["task"]["split_seed"]
    assert dev(read_record(record)) == dev(config("task.split_seed=2"))
    # Only the run that was one before, with both seeds alike, is the same run still.
    assert len({config("seed=2").digest(), config("seed=2", "task.split_seed=2").digest()}) == 2


def test_the_embedded_sentences_follow_it_too() -> None:
    found = {}
    for overrides in ((), ("seed=2",), ("task.split_seed=2",)):
        config = run_config(compose_config("task.dev_size=8", *overrides))
        found[overrides] = read_task(config.task, (None,), config.seed)[1]["validation"].texts
    assert found[()] == found["seed=2",] != found["task.split_seed=2",]


def test_a_warning_of_shared_texts_is_left_to_files(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    rows = "".join(f"text {i % 10},{'ab'[i % 2]}\n" for i in range(60))
    (tmp_path / "a.csv").write_text(f"text,score\n{rows}")
    config = run_config(compose_config(*OWN, f"task.train={tmp_path}/a.csv", "task.dev=0.2"))
    examples = read_task(config.task, ("train", None), 1)[1]
    assert not set(examples["train"].texts) & set(examples["validation"].texts)
    assert not [warning for warning in recwarn if warning.category is DataWarning]


SECRET = "SHARCS_TEST_SECRET"


def stranger(**task: Any) -> dict[str, Any]:
    own = {"name": "own", "train": "a.csv", "dev": "b.csv", "text": "review", "label": "stars"}
    return {"task": own | task, "encoder": {"name": "custom", "pretrained": "enc"}, "method": {"name": "sharcs"}}


@pytest.mark.parametrize("text", [f"${{oc.env:{SECRET}}}", "${task.name}", "${", "\\${a}", "${a:${b}}", "$", "???"])
def test_a_text_of_a_record_is_that_text(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(SECRET, "hunter2")
    found = read_record(stranger(labels=[text, "other"]))
    assert found.task.labels == [text, "other"]
    if text != "???":  # where one text alone stands, this one says that there is none
        assert read_record(stranger(dev=text, text=text)).task.text == text


def test_a_key_that_this_version_does_not_know_is_an_error() -> None:
    with pytest.raises(Exception, match="Key 'colour' not in"):
        read_record(stranger(colour="red"))


def test_the_classes_of_a_record_are_checked() -> None:
    with pytest.raises(ValueError, match="each once"):
        read_record(stranger(labels=["a", "a"]))


PLACES: dict[str, dict[str, Any]] = {
    "task": {"data_dir": "/home/alice/glue", "train": "/home/alice/a.csv", "dev": "/home/alice/b.csv", "test": "c.csv"},
    "encoder": {"pretrained": "/home/alice/enc"},
    "method": {"match": "/home/alice/runs/x", "teacher": "runs/alice/dense", "needs": ["teacher"]},
    "logger": {"name": "mlflow", "project": "alice", "tracking_uri": "http://alice:hunter2@host"},
}


def test_what_travels_names_no_place_and_reads_back() -> None:
    whole = asdict(read_record(stranger()))
    for name, values in PLACES.items():
        whole[name] |= values
    whole["method"] |= {
        "name": "slimmable",
        "options": ["match"],
        "routed": False,
    }  # an older record has the latter two
    whole |= {"ckpt_path": "/home/alice/x.ckpt", "overwrite": True}
    kept = travelling(whole)
    assert not [word for word in ("home", "alice/", "hunter2", ".csv", "ckpt_path") if word in str(kept)]
    assert travelling(kept) == kept
    found = read_record(kept)
    assert (found.encoder.pretrained, found.method.teacher, found.method.match) == ("./enc", "./dense", "./x")
    same = ("width", "router", "hardness", "distill", "optim", "trainer", "checkpoint", "seed", "batch_size")
    assert all(asdict(found)[name] == whole[name] for name in same)
    assert set(kept) == set(whole) - {"logger", "ckpt_path", "overwrite", "objective"}


def test_ids_of_the_hub_and_packages_travel() -> None:
    task = {"hub": "some-org/data", "hub_config": "x", "train": "train", "dev": "validation"}
    for encoder in ("some-org/model", "pkg:package/model"):
        whole = asdict(read_record(stranger(**task) | {"encoder": {"name": "e", "pretrained": encoder}}))
        kept = travelling(whole)
        assert kept["encoder"] == whole["encoder"]
        assert {key: kept["task"][key] for key in task} == task


def test_of_calibration_texts_a_share_travels_and_a_name_on_the_hub_but_no_file() -> None:
    own = {"train": "/home/alice/a.csv", "dev": 0.2}
    assert travelling({"task": own | {"calibration": 0.1}})["task"] == {"dev": 0.2, "calibration": 0.1}
    assert travelling({"task": own | {"calibration": "/home/alice/c.csv"}})["task"] == {"dev": 0.2}
    assert travelling({"task": {"data_dir": "/home/alice", "calibration": 0.1}})["task"] == {"calibration": 0.1}
    hub = {"hub": "some-org/data", "calibration": "kept"}
    assert travelling({"task": hub})["task"] == hub


@pytest.mark.parametrize("strange", [{}, {"task": [1]}, {"task": {"dev": 0.1}, "method": None}])
def test_what_travels_of_a_strange_record_is_what_is_there(strange: Any) -> None:
    assert travelling(travelling(strange)) == travelling(strange)


def test_every_key_either_travels_or_is_a_place(tmp_path: Path) -> None:
    """A new key is one or the other: whoever adds it decides."""
    whole = asdict(read_record(stranger()))
    kept = travelling(whole)
    places = {"data_dir", "train", "dev", "calibration", "test", "hub", "hub_config", "save_as"}
    assert set(whole["task"]) - set(kept["task"]) == places
    assert all(set(whole[name]) == set(kept[name]) for name in kept if isinstance(kept[name], dict) and name != "task")


def test_the_class_that_f1_is_about_travels() -> None:
    found = read_record(travelling(asdict(read_record(stranger(labels=["${a}", "b"], positive="b")))))
    assert (found.task.labels, found.task.positive) == (["${a}", "b"], "b")
