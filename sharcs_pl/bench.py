"""Measure what routing gains on a clock, beside what its multiply-adds promise: ``sharcs bench run=runs/mine``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sharcs_pl.config.bench import SIZES, BenchConfig
from sharcs_pl.config.command_line import run_command
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.widths import WidthLadder, check_split
from sharcs_pl.core.written import Written
from sharcs_pl.inference.runtimes import check_exporter, runtime_pairs
from sharcs_pl.inference.trained import model_settings, open_trained, rule_settings
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs, prepare

FILES = ("bench.json", "table.txt", "speedup.png")


def main() -> None:
    """Run the command; a mistake is one line on stderr and exit code 2."""
    run_command("bench", BenchConfig, run)


def run(config: BenchConfig) -> dict[str, Any]:
    """Measure, print and write; return the contents of ``bench.json``."""
    prepared = check(config)
    if config.output is not None:
        Written.into(Path(config.output).expanduser()).claim(FILES)
    from sharcs_pl.pipeline.benchmark import measure_speed

    return measure_speed(config, prepared)


def check(config: BenchConfig) -> list[EvaluationInputs]:
    """Check the config before any model is built; return the texts of ``run`` and ``dense``."""
    if config.onnx:
        check_exporter()
    runtime_pairs(config.backends, config.precisions)
    if config.run is None:
        sizes = SIZES[config.shape]
        check_split(config.width.split_layer, sizes["num_layers"])
        WidthLadder.parse(config.width.multipliers).check(
            **{key: sizes[key] for key in ("hidden_size", "num_heads", "intermediate_size")}, reduction="slice"
        )
        return []

    settings = model_settings(open_trained(config.run))
    for point in config.point:
        rule_settings(settings, point)
    paths = [path for path in (config.run, config.dense) if path is not None]
    options = EvaluateConfig(run=config.run, task=config.task)
    found = [prepare(path, open_trained(path), options) for path in paths]
    one, other = found[0].task, found[-1].task
    if other.labels != one.labels:
        raise ValueError(f"dense={config.dense} was trained on task={other.name}, run= on {one.name}")
    if other.multi_label != one.multi_label:
        several, single = ("dense=", "run=") if other.multi_label else ("run=", "dense=")
        raise ValueError(f"dense={config.dense}: {several} gives a text several labels, {single} one class")
    return found


if __name__ == "__main__":
    main()
