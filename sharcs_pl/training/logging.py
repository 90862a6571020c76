"""Loggers, which put the curves of ``metrics.csv`` and ``plan.csv``, the results and the figures in the user's tool.

``LOGGERS`` has one row per tool. Their packages are extras, imported only when a run opens them; what a tool keeps on
disk lies in the run directory.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from sharcs_pl.core.files import write_text

RUN_ID = "run_id.txt"  # in the tool's folder: under this name a resumed run goes on


@dataclass(frozen=True)
class LoggerSettings:
    """The choice of a logger, and where it sends its data; ``conf/logger`` explains each field."""

    name: str
    project: str = "sharcs"
    offline: bool = False
    tracking_uri: str | None = None


@dataclass(frozen=True)
class LoggerKind:
    """The functions of one tool.

    Attributes: open(settings, run directory, first step, hyper-parameters) starts a run or goes on with it;
    log_results(logger, hyper-parameters, values, step); log_figure(logger, name, png, step); close(logger, status),
    with the status ``success`` or ``failed``.
    """

    open: Callable[[LoggerSettings, Path, int, dict[str, Any]], Logger]
    log_results: Callable[[Any, dict[str, Any], dict[str, float], int], None]
    log_figure: Callable[[Any, str, Path, int], None]
    close: Callable[[Any, str], None]


def run_name(run_dir: Path) -> str:
    """Return the run's name for a tool: its last two folders, such as ``mrpc-minilm-sharcs/2026-01-31_09-30-00``."""
    return "/".join(run_dir.resolve().parts[-2:])


def _open_tensorboard(settings: LoggerSettings, run_dir: Path, step: int, hparams: dict[str, Any]) -> Logger:
    # What an interrupted run wrote beyond its last checkpoint is hidden by purge_step: it is trained again.
    logger = TensorBoardLogger(
        run_dir, name="", version="tensorboard", default_hp_metric=False, purge_step=step or None
    )
    logger.log_hyperparams(hparams)
    return logger


def _open_wandb(settings: LoggerSettings, run_dir: Path, step: int, hparams: dict[str, Any]) -> Logger:
    import wandb  # pyright: ignore[reportMissingImports]

    file = run_dir / "wandb" / RUN_ID
    if not file.exists():
        _keep(file, secrets.token_hex(4))
    with _telling_the_user("wandb", wandb.errors.Error, "; logger.offline=true needs no account and no network"):
        run = wandb.init(
            project=settings.project,
            name=run_name(run_dir),
            id=file.read_text(),
            resume="allow",
            dir=run_dir,
            mode="offline" if settings.offline else None,
            # A job of a sweep that failed may have left its run open: this one is another.
            reinit="finish_previous",
            # Offline there is no page to point at, and nothing else of what it prints is news.
            settings=wandb.Settings(silent=settings.offline, console="off"),
        )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    logger = WandbLogger(experiment=run)
    logger.log_hyperparams(hparams)
    return logger


def _open_mlflow(settings: LoggerSettings, run_dir: Path, step: int, hparams: dict[str, Any]) -> Logger:
    from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

    file = run_dir / "mlruns" / RUN_ID
    known = file.read_text() if file.exists() else None
    uri = settings.tracking_uri or file.parent.resolve().as_uri()
    with _telling_the_user("mlflow", MlflowException), _local_mlflow(settings.tracking_uri is None):
        _ensure_experiment(uri, settings.project)
        logger = MLFlowLogger(settings.project, run_name(run_dir), uri, run_id=known)
        run_id = logger.run_id
    if known is None:  # MLflow refuses to change a parameter, and a resumed run may differ in how it is shown
        assert run_id is not None
        _keep(file, run_id)
        logger.log_hyperparams(hparams)
    return logger


@contextmanager
def _telling_the_user(name: str, kind: type[Exception], hint: str = "") -> Iterator[None]:
    """Turn a tool's error, such as a missing account, server or store, into one line that names the key."""
    try:
        yield
    except kind as error:
        raise ValueError(f"logger={name}: {' '.join(str(error).split()).rstrip('.')}{hint}") from error


@contextmanager
def _local_mlflow(local: bool) -> Iterator[None]:
    """Give MLflow the consent to keep runs in plain files that it asks for, and undo its export of the store to the
    environment, where a second run in this process would find the first one's."""
    key = "MLFLOW_TRACKING_URI"
    before = os.environ.get(key)
    if local:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        yield
    finally:
        os.environ.pop(key, None)
        if before is not None:
            os.environ[key] = before


def _ensure_experiment(uri: str, name: str) -> None:
    """Make the experiment, which Lightning would do with a warning."""
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    client = MlflowClient(uri)
    if client.get_experiment_by_name(name) is None:
        client.create_experiment(name)


def _keep(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)


def _results_tensorboard(
    logger: TensorBoardLogger, hparams: dict[str, Any], values: dict[str, float], step: int
) -> None:
    logger.log_hyperparams(hparams, values, step)  # scalars too, and a row of the HPARAMS page


def _results(logger: Logger, hparams: dict[str, Any], values: dict[str, float], step: int) -> None:
    logger.log_metrics(values, step)


def _figure_tensorboard(logger: TensorBoardLogger, name: str, path: Path, step: int) -> None:
    from matplotlib.image import imread

    logger.experiment.add_image(name, imread(path), step, dataformats="HWC")


def _figure_wandb(logger: WandbLogger, name: str, path: Path, step: int) -> None:
    logger.log_image(name, [str(path)], step)


def _figure_mlflow(logger: MLFlowLogger, name: str, path: Path, step: int) -> None:
    logger.experiment.log_artifact(logger.run_id, str(path), str(Path(name).parent))


def _close(logger: Logger, status: str) -> None:
    logger.finalize(status)


def _close_wandb(logger: WandbLogger, status: str) -> None:
    logger.experiment.finish(exit_code=0 if status == "success" else 1)


LOGGERS = {
    "tensorboard": LoggerKind(_open_tensorboard, _results_tensorboard, _figure_tensorboard, _close),
    "wandb": LoggerKind(_open_wandb, _results, _figure_wandb, _close_wandb),
    "mlflow": LoggerKind(_open_mlflow, _results, _figure_mlflow, _close),
}


class RunLogger(Callback):
    """Callback that opens the logger when training starts, since only then is the run directory this run's own, and
    leaves it open for the results. Curves end with training: what is evaluated afterwards is no epoch.

    Args:
        settings: the settings of the logger, whose name is a key of ``LOGGERS``.
        run_dir: the folder of its files.
        hparams: the run's config as plain types.
    """

    def __init__(self, settings: LoggerSettings, run_dir: Path, hparams: dict[str, Any]) -> None:
        self.settings = settings
        self.kind = LOGGERS[settings.name]
        self.run_dir = run_dir
        self.hparams = hparams
        self.logger: Logger | None = None

    def open(self, step: int) -> Logger:
        """Return the logger, its run started on the first call; ``step`` is the first that it will see."""
        if self.logger is None:
            self.logger = self.kind.open(self.settings, self.run_dir, step, self.hparams)
        return self.logger

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            trainer.loggers = [self.open(trainer.global_step)]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        rate = torch.tensor(trainer.optimizers[0].param_groups[0]["lr"])  # a plain number would be copied to a GPU
        pl_module.log("lr", rate, on_step=True, on_epoch=False)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.loggers = []

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if self.logger is not None:
            trainer.loggers = []
            self.kind.close(self.logger, "failed")

    def finish(self, metrics: Mapping[str, Any], figures: Sequence[Path], step: int) -> None:
        """Log the results and the figures, and close the logger."""
        logger = self.open(step)
        self.kind.log_results(logger, self.hparams, final_values(metrics), step)
        for path in figures:
            self.kind.log_figure(logger, f"figures/{path.stem}", path, step)
        self.kind.close(logger, "success")


def log_results(trainer: L.Trainer, metrics: Mapping[str, Any], figures: Sequence[Path]) -> None:
    """Give the contents of ``metrics.json``, and the figures, to the run's logger, if any. For the first process."""
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(callback, RunLogger):
            callback.finish(metrics, figures, trainer.global_step)


def final_values(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the end table as ``final/…``: the metric routed, at each rung, at random and by the oracle, and the cost
    of routing. Values that a run lacks are left out."""
    split = next(iter(metrics["all_metrics"].values()))
    values = {_final(name): row[metrics["metric"]] for name, row in split.items()}
    values |= {
        "final/macs_fraction": metrics["routed"]["macs_fraction"],
        "final/random": metrics["random"]["value"],
        "final/random_macs_fraction": metrics["random"]["macs_fraction"],
        "final/oracle": metrics["oracle"]["value"],
        "final/oracle_macs_fraction": metrics["oracle"]["macs_fraction"],
        "final/regret": metrics["regret"],
        "final/router_auc": metrics["router_auc"],
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def _final(name: str) -> str:
    """Return ``routed`` and ``width 1/3`` as ``final/routed`` and ``final/rung_1_3``, the names that the curves use."""
    return "final/" + name.replace("width ", "rung_").replace("/", "_")
