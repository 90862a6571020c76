from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.rundir import RunState, claim, clear, decide, run_config
from tests.conftest import compose_config


def claimed(directory: Path, *overrides: str) -> RunConfig:
    cfg = compose_config(*overrides)
    config = run_config(cfg)
    claim(config, directory, cfg, None)
    return config


def test_an_empty_folder_is_fresh_whatever_is_asked(tmp_path: Path) -> None:
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path / "new") is RunState.FRESH
    assert not (tmp_path / "new").exists()


def test_the_same_config_goes_on_and_another_is_refused(tmp_path: Path) -> None:
    claimed(tmp_path)
    assert decide(run_config(compose_config("ckpt_path=last")), tmp_path) is RunState.RESUME
    with pytest.raises(ValueError, match="ckpt_path=last"):
        decide(run_config(compose_config()), tmp_path)
    with pytest.raises(ValueError, match=r"another config; add hydra.run.dir"):
        decide(run_config(compose_config("ckpt_path=last", "seed=2")), tmp_path)


def test_what_is_only_shown_does_not_make_another_config(tmp_path: Path) -> None:
    claimed(tmp_path)
    same = ("ckpt_path=last", "trainer.enable_progress_bar=false", "checkpoint.every_n_steps=5")
    assert decide(run_config(compose_config(*same)), tmp_path) is RunState.RESUME


def test_overwrite_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    claimed(tmp_path)
    for name in ("metrics.json", "mine.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("x")
    claimed(tmp_path, "seed=2", "overwrite=true")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hydra", "mine.txt"]
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
