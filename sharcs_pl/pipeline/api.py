"""Training from Python: ``fit`` does what ``sharcs train`` does, in this process and with rows in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from sharcs_pl.config import RunConfig, TaskConfig
from sharcs_pl.config.compose import composed_training
from sharcs_pl.config.overrides import key_of
from sharcs_pl.core.renamed import CUSTOM
from sharcs_pl.core.written import Written
from sharcs_pl.launch.cluster import check_started, one_process
from sharcs_pl.pipeline.calls import Call
from sharcs_pl.pipeline.console import left_as_found, silence_libraries
from sharcs_pl.pipeline.finished import TrainedRun
from sharcs_pl.runs.directory import check_writable, drop_empty, missing_folders, run_config
from sharcs_pl.runs.preflight import Preflight, preflight

if TYPE_CHECKING:
    from sharcs_pl.data.frames import Rows

DATA = "data"  # in the run directory: rows that were given in memory
_NAMES = {
    "task.train": "train",
    "task.dev": "dev",
    "task.test": "test",
    "task.calibration": "calibration",
    "task.text": "text",
    "task.label": "label",
    "hydra.run.dir": "directory",
}
_PHRASES = {"ckpt_path=last": "resume=True", "ckpt_path is given twice, once by": "resume is given twice, once by"}


def fit(
    train: Rows | str | os.PathLike[str] | None = None,
    dev: Rows | str | os.PathLike[str] | float | None = None,
    *,
    text: str | Sequence[str] | None = None,
    label: str | Sequence[str] | None = None,
    encoder: str | os.PathLike[str] | None = None,
    directory: str | os.PathLike[str] | None = None,
    test: Rows | str | os.PathLike[str] | None = None,
    calibration: Rows | str | os.PathLike[str] | float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    **options: Any,
) -> TrainedRun:
    """Train as ``sharcs train`` does and return the run; with the same texts and seed the numbers are the same.

    Rows in memory are a DataFrame of pandas or polars, a ``datasets.Dataset``, a list of dicts or a dict of lists. They
    are kept as parquet files in ``data/`` of the run directory, where evaluations find them later.

    Args:
        train: rows or a file to train on; None trains the built-in task that `options` name.
        dev: rows or a file to evaluate on, or a share of `train` such as 0.1.
        text: text column, or two.
        label: label column, or columns of 0 and 1, one for each label of a text; for a column of lists of labels add
            ``**{"task.multi_label": True}``.
        encoder: choice such as "minilm", or the folder or hub id of an encoder.
        directory: run directory; None for a new one under ``runs/``.
        test: rows or a file for ``run.evaluate("test")``.
        calibration: share or texts kept for ``run.calibrate``.
        resume: go on with the run in `directory`.
        overwrite: replace the run in `directory`.
        overrides: overrides as they are typed on the command line.
        options: keys of the command with their values, such as ``seed=2`` or ``**{"optim.lr": 1e-4}``.

    Raises:
        ValueError: for a key, value, column or row that does not fit, in one line, before a model is loaded.
        Diverged: for a loss, weights or answers that are not finite.
        KeyboardInterrupt: after the run was saved, where it was interrupted; ``resume=True`` goes on with it.
    """
    call = Call(RunConfig, dict(_NAMES), _PHRASES)
    with call.errors():
        if isinstance(overrides, str):
            raise ValueError(f"overrides={overrides!r} is a text; give a list of them")
        _take_encoder(call, encoder)
        call.take({"text": text, "label": label}, options)
        call.take({"directory": None if directory is None else os.path.expanduser(directory)}, {})
        call.take({"ckpt_path": "last" if resume else None, "overwrite": overwrite or None}, {})
        rows = {"task.train": train, "task.dev": dev, "task.test": test, "task.calibration": calibration}
        for key, given in rows.items():
            call.take_rows(key, given, partial(_columns, call))
        for word in overrides:
            call.check_once(key_of(word), "in overrides")
        _take_classes(call, overrides)
        own = call.frames or {"task.train", "task.text", "task.label"} & set(call.given)
        if own and not any(word.startswith("task=") for word in overrides):
            call.given.setdefault("task", CUSTOM)
        return _fit(call, overrides)


def open_run(directory: str | os.PathLike[str]) -> TrainedRun:
    """Return the run in a directory, as `fit` does. Raise ``ValueError`` where there is none."""
    from sharcs_pl.inference.trained import open_trained

    try:
        open_trained(str(directory))
    except ValueError as error:
        raise ValueError(str(error).removeprefix("run=")) from error
    return TrainedRun(directory)


def _take_encoder(call: Call, encoder: str | os.PathLike[str] | None) -> None:
    """Add a choice, or the folder or hub id of an encoder, which errors then call so."""
    if encoder is None or (isinstance(encoder, str) and "/" not in encoder and not os.path.isdir(encoder)):
        call.take({"encoder": encoder}, {})
    else:
        call.names["encoder.pretrained"] = "encoder"
        call.given |= {"encoder": CUSTOM, "encoder.pretrained": os.path.expanduser(encoder)}


def _take_classes(call: Call, overrides: Sequence[str]) -> None:
    """Add the classes that the labels of train declare, unless the call has others."""
    frame = call.frames.get("task.train")
    keys = {*call.given, *map(key_of, overrides)}
    if frame is not None and frame.classes and keys.isdisjoint(("task.labels", "task.label_range")):
        call.given["task.labels"] = list(frame.classes)


def _columns(call: Call) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the text and the label columns of the call's own data."""
    return _names(call.given.get("task.text")), _names(call.given.get("task.label"))


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


def _fit(call: Call, overrides: Sequence[str]) -> TrainedRun:
    if "hydra.run.dir" not in call.given:
        named = composed_training(RunConfig, call.overrides(Path(DATA), overrides))
        call.given["hydra.run.dir"] = str(named.hydra.run.dir)
    run_dir = Path(call.given["hydra.run.dir"])
    data = run_dir.absolute() / DATA
    cfg = composed_training(RunConfig, call.overrides(data, overrides))
    hydra = cfg.hydra
    hydra.runtime.output_dir = str(run_dir.absolute())
    with open_dict(cfg):
        del cfg["hydra"]
    config = run_config(cfg)
    check_started(config)
    if not one_process(config):
        raise ValueError(
            f"trainer.devices={config.trainer.devices} asks for more processes than this one; use sharcs train"
        )
    check_writable(run_dir)
    made = missing_folders(data)
    listed = Written.into(data)
    new = {path.name for path in call.paths.values() if not path.exists()}
    try:
        listed.add(new)
        call.write()
        ready = preflight(config, run_dir)
    except BaseException:
        listed.remove(new)
        drop_empty(made)
        raise
    _train(ready, run_dir, cfg, hydra)
    _drop_old(listed, config.task)
    return TrainedRun(run_dir)


def _train(ready: Preflight, run_dir: Path, cfg: DictConfig, hydra: DictConfig) -> None:
    with left_as_found():
        silence_libraries()
        from sharcs_pl.pipeline.fit import Composed, train

        train(ready, run_dir, Composed(cfg, hydra, lambda: f"fit(…, directory={str(run_dir)!r}, resume=True)"))


def _drop_old(listed: Written, task: TaskConfig) -> None:
    """Remove the rows of a run that was replaced, but none that this run reads."""
    given = (task.train, task.dev, task.test, task.calibration)
    used = {Path(each).resolve() for each in given if isinstance(each, str)}
    old = {name for name in listed.names() if (listed.folder / name).resolve() not in used}
    if old:
        listed.remove(old)
        drop_empty([listed.folder])
