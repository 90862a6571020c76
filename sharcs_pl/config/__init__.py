"""Dataclasses for the groups of ``conf/``. Each checks itself, and ``RunConfig`` checks them against each other.

The string under a field is its help text. Nothing here imports torch, so that a wrong key is reported at once.
"""

from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.calibrate import CalibrateConfig
from sharcs_pl.config.checks import conf_dir
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.config.renamed import store_earlier_choices
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.config.report import ReportConfig
from sharcs_pl.config.run import RunConfig
from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.config.task import TaskConfig
from sharcs_pl.config.training import check_logger

# The commands other than train, which reads a RunConfig.
COMMAND_SCHEMAS: dict[str, type] = {
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "calibrate": CalibrateConfig,
    "export": ExportConfig,
    "bench": BenchConfig,
    "reorder": ReorderConfig,
    "report": ReportConfig,
    "serve": ServeConfig,
}

store_earlier_choices()

__all__ = [
    "COMMAND_SCHEMAS",
    "EvaluateConfig",
    "RunConfig",
    "TaskConfig",
    "check_logger",
    "conf_dir",
]
