from __future__ import annotations

from pathlib import Path

import pytest

from sharcs_pl.config import RunConfig
from sharcs_pl.core.slurm import SlurmJob
from sharcs_pl.rundir import RunState, claim, clear, decide, run_config
from tests.conftest import compose_config


def claimed(directory: Path, *overrides: str, job: SlurmJob | None = None) -> RunConfig:
    cfg = compose_config(*overrides)
    config = run_config(cfg)
    claim(config, directory, cfg, None, job=job)
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


@pytest.mark.parametrize("overrides", [(), ("overwrite=true",), ("ckpt_path=last",)])
def test_a_requeued_job_goes_on_with_its_own_run_unasked(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    config = claimed(tmp_path, *overrides, job=SlurmJob("5_3"))
    assert decide(config, tmp_path, SlurmJob("5_3", restarts=1)) is RunState.RESUME


def test_only_a_requeued_job_does_and_only_with_its_own_run(tmp_path: Path) -> None:
    config = claimed(tmp_path, job=SlurmJob("7"))
    for job in (None, SlurmJob("7"), SlurmJob("8", restarts=1)):
        with pytest.raises(ValueError, match="ckpt_path=last"):
            decide(config, tmp_path, job)
    with pytest.raises(ValueError, match="another config"):
        decide(run_config(compose_config("seed=2")), tmp_path, SlurmJob("7", restarts=1))


def test_a_checkpoint_to_go_on_from_is_not_removed_with_its_run(tmp_path: Path) -> None:
    claimed(tmp_path)
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    path.write_text("x")
    with pytest.raises(ValueError, match="lies in the run that overwrite=true removes"):
        decide(run_config(compose_config(f"ckpt_path={path}", "overwrite=true")), tmp_path)
    assert decide(run_config(compose_config(f"ckpt_path={path}")), tmp_path / "new") is RunState.FRESH
