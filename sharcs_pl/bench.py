"""Measure what routing gains on a clock, beside what its multiply-adds promise: ``sharcs bench run=runs/mine``."""

from __future__ import annotations

import math
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.config.command_line import read_command, user_errors
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.core.files import write_text
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.widths import WidthLadder, check_split
from sharcs_pl.core.written import Written
from sharcs_pl.pipeline.variants import SIZES, Subject, trained, untrained

if TYPE_CHECKING:
    from torch import Tensor

    from sharcs_pl.analysis.benchmark.latency import Contender, Timed
    from sharcs_pl.analysis.benchmark.variants import Lineup
    from sharcs_pl.inference.engine import Engine
    from sharcs_pl.runs.evaluation_inputs import Prepared

FILES = ("bench.json", "table.txt", "speedup.png")
PACKAGES = ("torch", "transformers", "onnxruntime")


def main() -> None:
    """The command: one line and exit code 2 for a mistake."""
    with user_errors(BenchConfig):
        run(read_command("bench", BenchConfig, sys.argv[1:]))


def run(config: BenchConfig) -> dict[str, Any]:
    """Measure, print and write; returns what ``bench.json`` holds."""
    from sharcs_pl.analysis.benchmark.speed import row, speed_table
    from sharcs_pl.core.screen import Screen

    prepared = check(config)
    if config.output is not None:
        Written.into(Path(config.output).expanduser()).claim(FILES)
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    subject = trained(config, *prepared) if prepared else untrained(config)
    console = Screen(record=True, width=None if sys.stdout.isatty() else 150)
    found: dict[str, Any] = {"command": command(), "machine": machine(config), "rows": []}
    console.print(found["command"], soft_wrap=True)
    told = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    console.print(f"{told}; {subject.name}")
    for lineup, contenders in rounds(config, subject):
        timed = compete(config, lineup, contenders)
        found["rows"] += [row(each, lineup.workload) for each in timed]
        console.print(speed_table(timed, lineup.workload, subject.metric_name))
    if config.output is not None:
        write(Path(config.output).expanduser(), found, console.export_text())
        console.print(f"results in {config.output}", soft_wrap=True)
    return found


def check(config: BenchConfig) -> list[Prepared]:
    """What can be wrong, before any model is built; the texts of ``run`` and ``dense``."""
    if config.onnx and not (find_spec("onnx") and find_spec("onnxruntime") and find_spec("onnxscript")):
        raise ValueError("onnx=true needs the extra: pip install 'sharcs-pl[onnx]'")
    if config.run is None:
        sizes = SIZES[config.shape]
        check_split(config.width.split_layer, sizes["num_layers"])
        WidthLadder.parse(config.width.multipliers).check(
            **{key: sizes[key] for key in ("hidden_size", "num_heads", "intermediate_size")}, reduction="slice"
        )
        return []
    from sharcs_pl.runs.evaluation_inputs import prepare
    from sharcs_pl.runs.trained import model_settings, open_source, thresholds_of

    settings = model_settings(open_source(config.run))
    for point in config.point:
        thresholds_of(settings, point)
    paths = [path for path in (config.run, config.dense) if path is not None]
    options = EvaluateConfig(run=config.run, task=config.task)
    found = [prepare(path, open_source(path), options) for path in paths]
    if found[-1].task.labels != found[0].task.labels:
        raise ValueError(
            f"dense={config.dense} was trained on task={found[-1].task.name}, run= on {found[0].task.name}"
        )
    return found


def rounds(config: BenchConfig, subject: Subject) -> Iterator[tuple[Lineup, list[Contender]]]:
    """The contenders of each batch size and order, the stock model first."""
    from sharcs_pl.analysis.benchmark.variants import Lineup, make_workload
    from sharcs_pl.inference.engine import Engine

    # Without packing first: padding as the stock model has it.
    ways: dict[str, dict[str, Any]] = {"": {"pack_above": 1.0}}
    if len(set(subject.table.lengths)) > 1:
        ways[", packed"] = {}
    if config.shared_slices:
        ways[", shared slices"] = {"pack_above": 1.0, "pack_narrow": False}
    if config.compile:
        ways[", compiled"] = {"compile": True}
    engines = {suffix: Engine(subject.model, precision=config.precision, **way) for suffix, way in ways.items()}
    with graph(config, subject) as exported:
        for size in config.batch_sizes:
            for order in config.order:
                workload = make_workload(subject.table, size, order, subject.metric is not None)
                lineup = Lineup(subject.model, workload, subject.metric)
                contenders = [lineup.stock(subject.stock)]
                for suffix, engine in engines.items():
                    contenders += list(engine_rows(config, lineup, engine, suffix))
                contenders += list(graph_rows(config, lineup, exported))
                yield lineup, contenders


def engine_rows(config: BenchConfig, lineup: Lineup, engine: Engine, suffix: str) -> Iterator[Contender]:
    """All full, all narrow, and routed: at given shares, or by the model's own router."""
    import torch

    ladder, size = lineup.model.ladder, len(lineup.workload)
    for rung, label in enumerate(ladder.labels()):
        yield lineup.batched(f"all width {label}{suffix}", engine, torch.full((size,), rung))
    if len(ladder) == 1:
        return
    ways: list[tuple[str, Engine, Tensor | None]] = []
    if config.run is None:
        for share in config.shares:
            ways.append((f"{share:.0%} narrow{suffix}", engine, lineup.dealt(share, config.seed)))
    else:
        ways += [(f"routed, {point}{suffix}", engine.at(point), None) for point in config.point]
    for name, own, rungs in ways:
        if "batch" in config.modes:
            yield lineup.batched(name, own, rungs)
        if "stream" in config.modes and lineup.workload.batch_size > 1:
            yield lineup.streamed(name, own, rungs)


@contextmanager
def graph(config: BenchConfig, subject: Subject) -> Iterator[Any]:
    """The exported graph as a function, None unless it is asked for."""
    if not config.onnx:
        yield None
        return
    from sharcs_pl.inference.export import export_onnx, onnx_answer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(subject.model, path)
        yield onnx_answer(path)


def graph_rows(config: BenchConfig, lineup: Lineup, exported: Any) -> Iterator[Contender]:
    """The exported graph at full width, at the narrowest, and routed."""
    import torch

    from sharcs_pl.models.configuration import NEVER

    top = lineup.model.ladder.top
    if exported is None or top == 0:
        return
    yield lineup.graph("ONNX, all full", exported, torch.full((top,), NEVER))
    yield lineup.graph("ONNX, all narrow", exported, torch.full((top,), -NEVER))
    if config.run is not None:
        for point in config.point:
            thresholds = lineup.model.config.thresholds(point)
            given = torch.full((top,), math.nan) if thresholds is None else torch.tensor(thresholds)
            yield lineup.graph(f"ONNX, routed, {point}", exported, given)


def compete(config: BenchConfig, lineup: Lineup, contenders: list[Contender]) -> list[Timed]:
    """The rounds of one batch size, with a bar on stderr."""
    from rich.progress import track

    from sharcs_pl.analysis.benchmark.latency import race
    from sharcs_pl.core.screen import Screen

    console = Screen(stderr=True)
    label = f"batch size {lineup.workload.batch_size}, {lineup.workload.order} order"
    total = (config.warmup + config.repeats) * len(contenders)
    bar = iter(track(range(total), label, console=console, disable=not console.is_terminal, transient=True))
    return race(contenders, len(lineup.workload), config.repeats, config.warmup, config.seed, lambda: next(bar, None))


def command() -> str:
    """What was typed."""
    return shlex.join(["sharcs", "bench", *sys.argv[1:]])


def machine(config: BenchConfig) -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    cuda = torch.cuda.get_device_name() if config.device == "cuda" else None
    return {
        "processor": cuda or processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES if find_spec(name)},
        "seed": config.seed,
    }


def processor() -> str:
    """The name of the CPU where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(folder: Path, found: dict[str, Any], text: str) -> None:
    """The figures as JSON, the tables as text, and the plot where matplotlib is installed."""
    from sharcs_pl.analysis.benchmark.speed import draw_speedups

    write_json(folder / "bench.json", found)
    write_text(folder / "table.txt", text)
    draw_speedups(found["rows"], folder / "speedup.png")


if __name__ == "__main__":
    main()
