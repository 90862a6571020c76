"""Keys that are auto, decided from files: by every entry alike, once for a run, and never beside what is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sharcs_pl.config.run import key_of
from sharcs_pl.data.synthetic import graded_examples, word_tokenizer
from sharcs_pl.runs.auto import decide_auto
from sharcs_pl.runs.directory import run_config
from tests.conftest import compose_config, tiny_bert, train_run

QUICK = ("trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "task.max_length=24", "trainer.max_epochs=3")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Words of a task of 60 texts and an encoder of 3 layers and 4 heads, in the working directory."""
    monkeypatch.chdir(tmp_path)
    made = graded_examples("train", size=60, seed=2)
    rows = [f"{text},{int(y)}" for (text,), y in zip(made.texts, made.labels, strict=True)]
    Path("a.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    tokenizer = word_tokenizer()
    for part in (tiny_bert(vocab_size=len(tokenizer)), tokenizer):
        part.save_pretrained("enc")
    task = ("task=custom", "task.train=a.csv", "task.dev=0.2", "task.text=text", "task.label=label")
    return (*task, "encoder=custom", "encoder.pretrained=enc", *QUICK)


def test_the_values_are_the_run_s_and_few_texts_still_leave_the_full_width(own: tuple[str, ...]) -> None:
    """Without calibration texts the threshold of the recipe routes; the likeliest width would be the full one."""
    metrics = train_run(Path("run"), *own, "optim.lr=3e-3")
    config = json.loads(Path("run/model/training.json").read_text())
    assert config["width"]["multipliers"] == ["0.25", "0.5", "1"]
    assert (config["router"]["budget"], config["router"]["threshold"]) == (None, 0.7)
    assert "auto" not in json.dumps(
        {key: config[key] for key in ("width", "router", "hardness", "optim", "batch_size")}
    )
    assert metrics["epochs"] == 3


def test_a_run_that_is_gone_on_with_keeps_its_values(own: tuple[str, ...]) -> None:
    train_run(Path("run"), *own)
    marker = Path("run/.hydra/run.json")
    found = json.loads(marker.read_text())
    found["given"]["batch_size"] = 5  # as another version would have decided
    marker.write_text(json.dumps(found))
    asked = run_config(compose_config(*own, "ckpt_path=last"))
    assert decide_auto(asked, Path("run"))[0].batch_size == 5
    afresh = run_config(compose_config(*own, "overwrite=true"))
    assert decide_auto(afresh, Path("run"))[0].batch_size == 16
    assert decide_auto(asked, Path("other"))[0].batch_size == 16


def test_a_given_budget_brings_its_texts_also_when_the_run_goes_on(own: tuple[str, ...]) -> None:
    asked = (*own, "router.budget=0.9")
    assert decide_auto(run_config(compose_config(*asked)))[1]["task.calibration"] == 0.1
    train_run(Path("run"), *asked)
    again, derived = decide_auto(run_config(compose_config(*asked, "ckpt_path=last")), Path("run"))
    assert (again.task.calibration, again.router.budget) == (0.1, 0.9)
    assert derived["task.calibration"] == 0.1


def test_calibration_texts_of_a_task_stay_its_own(own: tuple[str, ...]) -> None:
    Path("conf/task").mkdir(parents=True)
    Path("cal.csv").write_text(Path("a.csv").read_text())
    config = run_config(compose_config(*own, "task.calibration=cal.csv"))
    found, derived = decide_auto(config)
    assert (found.task.calibration, found.router.budget) == ("cal.csv", 0.5)
    assert "task.calibration" not in derived


@pytest.mark.parametrize("method", ["dense", "slimmable", "branchynet"])
def test_of_another_method_only_what_it_reads_is_told(own: tuple[str, ...], method: str) -> None:
    found, derived = decide_auto(run_config(compose_config(*own, f"method={method}")))
    assert not any(key.startswith(("hardness.", "width.reorder_after", "width.bounds")) for key in derived)
    assert "optim.lr" in derived
    assert ("distill.name" in derived) == (method == "slimmable")
    assert all(key_of(found, key) == value != "auto" for key, value in derived.items())


def test_lightning_s_command_line_decides_too(own: tuple[str, ...]) -> None:
    pytest.importorskip("jsonargparse")  # of the extra [cli]
    from sharcs_pl.pipeline import lightning_cli

    words = [f"--data.{word}" for word in own if word.startswith("task.")]
    words += ["--model.encoder.pretrained=enc", "--trainer.accelerator=cpu", "--trainer.default_root_dir=run"]
    made = lightning_cli.SharcsCLI(["--preset.task=custom", "--preset.encoder=custom", *words], run=False)
    assert made.model.model.ladder.labels() == ["0.25", "0.5", "1"]
    assert made.run_config.undecided == []
