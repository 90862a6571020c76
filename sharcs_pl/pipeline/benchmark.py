"""A benchmark of a model beside the stock one: what is measured, in which variants, on which machine."""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from sharcs_pl.analysis.benchmark.latency import Timed, Variant, race
from sharcs_pl.analysis.benchmark.speed import draw_speedups, headline, row, speed_table, told
from sharcs_pl.analysis.benchmark.variants import LogitsMetric, VariantFactory, make_workload
from sharcs_pl.config.bench import SIZES, BenchConfig
from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.core.files import write_text
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.kinds import to_scores
from sharcs_pl.core.screen import Screen
from sharcs_pl.data.spec import metric_name
from sharcs_pl.data.table import TokenTable
from sharcs_pl.data.tokens import Tokens
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.export import export_onnx, holds, onnx_answer
from sharcs_pl.inference.export_parts import CALIBRATION_BATCH
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.torch_backend import rule_of, torch_engine
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.bench_runtimes import Runtime, runtimes
from sharcs_pl.pipeline.build import build_table
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs
from sharcs_pl.runs.inputs import read_task

PACKAGES = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
CALIBRATION_TEXTS = 300


def measure_speed(config: BenchConfig, prepared: list[EvaluationInputs]) -> dict[str, Any]:
    """Measure, print and write; return the contents of ``bench.json``."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    target = trained(config, *prepared) if prepared else untrained(config)
    console = Screen(record=True, width=None if sys.stdout.isatty() else 150)
    found: dict[str, Any] = {"command": command(), "machine": machine(config), "rows": [], "headlines": []}
    console.print(found["command"], soft_wrap=True)
    where = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    console.print(f"{where}; {target.name}", soft_wrap=True)
    for factory, variants in rounds(config, target):
        timed = compete(config, factory, variants)
        found["rows"] += [row(each, factory.workload) for each in timed]
        console.print(speed_table(timed, factory.workload, target.metric_name))
        best = headline(timed, config.max_drop)
        if best is not None:
            size = {"batch_size": factory.workload.batch_size, "order": factory.workload.order}
            found["headlines"].append(size | best)
            console.print(f"{told(best, target.metric_name)}\n", soft_wrap=True)
    if config.output is not None:
        write(Path(config.output).expanduser(), found, console.export_text())
        console.print(f"results in {config.output}", soft_wrap=True)
    return found


@dataclass(frozen=True)
class BenchmarkTarget:
    """The target of a benchmark: a routed model, the stock one beside it, and tokenised samples. `calibration` are the
    texts by which it is quantised."""

    name: str
    model: SharcsForSequenceClassification
    stock: PreTrainedModel
    table: TokenTable
    metric: LogitsMetric | None
    metric_name: str | None
    calibration: Tokens


def trained(config: BenchConfig, one: EvaluationInputs, dense: EvaluationInputs | None = None) -> BenchmarkTarget:
    """Return a trained model on a seeded draw of its validation texts."""
    silence_libraries()
    model = load_model(one.source)
    examples = one.examples[one.task.validation[0]]
    table = build_table(one.config, examples, load_tokenizer(one.source))
    rows = np.random.default_rng(config.seed).permutation(len(table))[: config.samples]
    stock = model.encoder if dense is None else load_model(dense.source).encoder
    metric, shown = one.task.metric, metric_name(one.task.metric, one.task.positive)
    chosen = table.subset(rows)
    mean = chosen.lengths.mean()

    def value(logits: Tensor, labels: Tensor) -> float:
        return compute_metric(metric, to_scores(logits, model.thresholds), labels)

    name = f"{one.task.name}, {len(chosen)} {one.task.validation[0]} texts of {mean:.1f} tokens on average"
    target = BenchmarkTarget(
        name,
        model,
        stock,
        chosen,
        value,
        shown,
        calibration_texts(config, one),
    )
    return on_device(config, target)


def calibration_texts(config: BenchConfig, prepared: EvaluationInputs) -> Tokens:
    """Return a draw of the training texts where int8 is measured, else none."""
    tokenizer = load_tokenizer(prepared.source)
    if not config.backends or "int8" not in config.precisions:
        return build_table(prepared.config, prepared.examples[prepared.task.validation[0]], tokenizer).subset([0])
    _, examples = read_task(prepared.config.task, ["train"], prepared.config.seed)
    rows = np.random.default_rng(config.seed).permutation(len(examples["train"]))[:CALIBRATION_TEXTS]
    return build_table(prepared.config, examples["train"].select(np.sort(rows)), tokenizer)


def untrained(config: BenchConfig) -> BenchmarkTarget:
    """Return random weights and ids of a named shape, since time does not depend on their values."""
    torch.manual_seed(config.seed)
    sizes = {"num_hidden_layers" if key == "num_layers" else key: size for key, size in SIZES[config.shape].items()}
    sizes["num_attention_heads"] = sizes.pop("num_heads")
    architecture = "roberta" if config.shape == "roberta_base" else "bert"
    longest = max(512, config.length) + 2
    stock = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model(architecture, max_position_embeddings=longest, **sizes)
    )
    model = SharcsForSequenceClassification.from_encoder(
        stock.eval(), widths=config.width.multipliers, split_layer=config.width.split_layer
    )
    count = max(config.samples, *config.batch_sizes)
    ids = np.random.default_rng(config.seed).integers(5, 1000, count * config.length, dtype=np.int32)
    offsets = np.arange(count + 1, dtype=np.int64) * config.length
    table = TokenTable(ids, None, offsets, 0, np.zeros(count, np.int64), None)
    name = (
        f"{config.shape}, random weights, {count} samples of {config.length} tokens, split {config.width.split_layer}"
    )
    few = table.subset(range(min(count, CALIBRATION_BATCH)))
    return on_device(config, BenchmarkTarget(name, model, model.encoder, table, None, None, few))


def on_device(config: BenchConfig, target: BenchmarkTarget) -> BenchmarkTarget:
    """Put every variant on one device, in one precision, with one attention kernel."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: no CUDA device is available; use device=cpu")
    dtype = getattr(torch, config.precision)
    if target.stock._supports_sdpa:
        target.stock.set_attn_implementation("sdpa")  # the engine's; a run may have been trained with another
    for part in (target.model, target.stock):
        part.eval().to(device=config.device, dtype=dtype)  # pyright: ignore[reportCallIssue]
    return target


def rounds(config: BenchConfig, target: BenchmarkTarget) -> Iterator[tuple[VariantFactory, list[Variant]]]:
    """Yield the variants of each batch size and order, the stock model first."""
    # Without packing first: padding as the stock model has it.
    ways: dict[str, dict[str, Any]] = {"": {"pack_above": 1.0}}
    if len(set(target.table.lengths)) > 1:
        ways[", packed"] = {}
    if config.shared_slices:
        ways[", shared slices"] = {"pack_above": 1.0, "pack_narrow": False}
    if config.compile:
        ways[", compiled"] = {"compile": True}
    engines = {suffix: torch_engine(target.model, precision=config.precision, **way) for suffix, way in ways.items()}
    asked = runtimes(config, target.model, target.stock, target.calibration)
    with graph(config, target) as exported, asked as others:
        for size in config.batch_sizes:
            for order in config.order:
                workload = make_workload(target.table, size, order, target.metric is not None)
                factory = VariantFactory(target.model, workload, target.metric)
                variants = [factory.stock(target.stock)]
                for suffix, engine in engines.items():
                    variants += list(engine_rows(config, factory, engine, suffix))
                variants += list(graph_rows(config, factory, exported))
                variants += [variant for runtime in others for variant in runtime_rows(config, factory, runtime)]
                yield factory, variants


def engine_rows(config: BenchConfig, factory: VariantFactory, engine: Engine, suffix: str) -> Iterator[Variant]:
    """Yield the engine all full, all narrow, and routed at given shares or by the model's own router."""
    ladder, size = factory.model.ladder, len(factory.workload)
    for rung, label in enumerate(ladder.labels()):
        yield factory.batched(f"all width {label}{suffix}", engine, np.full(size, rung))
    if len(ladder) == 1:
        return
    ways: list[tuple[str, Engine, np.ndarray | None]] = []
    if config.run is None:
        for share in config.shares:
            ways.append((f"{share:.0%} narrow{suffix}", engine, factory.dealt(share, config.seed)))
            if factory.model.kind.has_classes:
                own = engine.with_rule(factory.cascade(engine, share))
                ways.append((f"cascade, {share:.0%} narrow{suffix}", own, None))
    else:
        ways += [
            (f"routed, {point}{suffix}", engine.with_rule(rule_of(factory.model, point)), None)
            for point in config.point
        ]
    for name, own, rungs in ways:
        if "batch" in config.modes:
            yield replace(factory.batched(name, own, rungs), kind="routed")
        if "stream" in config.modes and factory.workload.batch_size > 1:
            yield replace(factory.streamed(name, own, rungs), kind="routed")


def runtime_rows(config: BenchConfig, factory: VariantFactory, runtime: Runtime) -> Iterator[Variant]:
    """Yield the dense model in a runtime, and the routed one in every way."""
    dense = factory.dense(f"dense, {runtime.name}", runtime.call)
    yield dense
    for variant in engine_rows(config, factory, runtime.engine, f", {runtime.name}"):
        yield replace(variant, base=dense.name)


@contextmanager
def graph(config: BenchConfig, target: BenchmarkTarget) -> Iterator[Any]:
    """Yield the exported graph as a function, None unless it is asked for."""
    if not config.onnx:
        yield None
        return

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_onnx(target.model, path)
        yield onnx_answer(path)


def graph_rows(config: BenchConfig, factory: VariantFactory, exported: Any) -> Iterator[Variant]:
    """Yield the exported graph at full width, at the narrowest, and routed."""
    top = factory.model.ladder.top
    if exported is None or top == 0:
        return
    yield factory.graph("ONNX, all full", exported, DecisionRule(starts=(NEVER,) * top))
    yield factory.graph("ONNX, all narrow", exported, DecisionRule("cascade", stops=(0.0,) * top))
    if config.run is not None:
        rules = [(point, factory.model.config.decision(point)) for point in config.point]
        for point, rule in rules:
            if holds(rule):
                yield replace(factory.graph(f"ONNX, routed, {point}", exported, rule), kind="routed")


def compete(config: BenchConfig, factory: VariantFactory, variants: list[Variant]) -> list[Timed]:
    """Run the rounds of one batch size, with a bar on stderr."""
    console = Screen(stderr=True)
    label = f"batch size {factory.workload.batch_size}, {factory.workload.order} order"
    total = (config.warmup + config.repeats) * len(variants)
    bar = iter(track(range(total), label, console=console, disable=not console.is_terminal, transient=True))
    return race(variants, len(factory.workload), config.repeats, config.warmup, config.seed, lambda: next(bar, None))


def command() -> str:
    """Return the command line as it was typed."""
    return shlex.join(["sharcs", "bench", *sys.argv[1:]])


def machine(config: BenchConfig) -> dict[str, Any]:
    """Return a description of the machine that the figures were measured on."""
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
    """Return the name of the CPU where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(folder: Path, found: dict[str, Any], text: str) -> None:
    """Write the figures as JSON, the tables as text, and the plot where matplotlib is installed."""
    write_json(folder / "bench.json", found)
    write_text(folder / "table.txt", text)
    draw_speedups(found["rows"], folder / "speedup.png")
