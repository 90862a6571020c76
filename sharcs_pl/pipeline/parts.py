"""Export of a trained model as a folder of parts, and the gate that parts of int8 must pass before they are kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from sharcs_pl.config.export import ExportConfig
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.flops import CostModel
from sharcs_pl.core.kinds import Kind, to_scores
from sharcs_pl.core.screen import Screen, new_table
from sharcs_pl.data.seen import FILE as SEEN
from sharcs_pl.data.spec import Examples, TaskSpec, metric_name
from sharcs_pl.data.table import TokenTable
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.inference.batches import Answers
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.export_parts import batches_of, write_graphs, write_parts
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.parts import PARTS, ROUTER, PartsBackend, PartsFacts, part_names
from sharcs_pl.inference.processor import has_int8
from sharcs_pl.inference.record import TRAINING, record_file
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.folder import read_json
from sharcs_pl.pipeline.build import build_table
from sharcs_pl.pipeline.console import display_path, silence_libraries
from sharcs_pl.runs.files import SEEN_TEXTS
from sharcs_pl.runs.outputs import atomic_output

_BATCH = 32  # texts per batch of the gate


@dataclass(frozen=True)
class QuantizationTexts:
    """The texts of a task that calibrate int8 parts, and the labelled ones on which they are compared with float32."""

    task: TaskSpec
    calibration: Examples
    validation: Examples


def export_parts(
    config: ExportConfig, source: TrainedModel, folder: Path, texts: QuantizationTexts | None
) -> dict[str, Any]:
    """Write the folder and print what it holds; return the contents of its ``quantization.json``, empty for float32.

    Raise ``ValueError``, and write nothing, where the parts do not answer as the model, or int8 costs too much.
    """
    silence_libraries()
    model, tokenizer = load_model(source).float(), load_tokenizer(source)
    steps, found = part_names(len(model.ladder)), {}
    with tempfile.TemporaryDirectory() as place, atomic_output(folder, names_of(len(model.ladder))) as part:
        graphs = Path(place)
        with bar("exporting", len(steps)) as advance:
            write_graphs(model, graphs, advance)
        ranges = None
        if texts is not None:
            ranges = build_table(source.config, drawn(texts.calibration, config), tokenizer)
        in_float = [name for name in steps if shown_name(name, model.ladder.labels()) in config.quantize.skip]
        length = min(source.config.task.max_length, encoder_sizes(model.config.encoder).max_tokens)
        tokenizer.model_max_length = length
        difference = write_parts(model, tokenizer, graphs, part, config.runtime, length, ranges, in_float)
        copy_records(source, part)
        if texts is not None:
            table = build_table(source.config, texts.validation, tokenizer)
            found = gate(config, texts.task, torch_engine(model), part, table)
            write_json(part / QUANTIZATION, found)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    told = "" if texts is not None else f"\nlargest difference to the model's own logits: {difference:.1e}"
    print(f"{display_path(folder.absolute())}: {size / 1e6:.1f} MB, {config.runtime} {config.precision}{told}\n")
    print(f"to run it, without torch:\n\n{_SNIPPET.replace('FOLDER', repr(str(folder.absolute())))}")
    return found


def copy_records(source: TrainedModel, folder: Path) -> None:
    """Copy what says how a model was trained, and which texts it has seen, into a folder of its parts."""
    record = record_file(source.weights) if source.weights.is_dir() else None
    for path, name in ((record, TRAINING), (source.home / SEEN_TEXTS, SEEN), (source.weights / SEEN, SEEN)):
        if path is not None and path.is_file():
            shutil.copyfile(path, folder / name)


QUANTIZATION = "quantization.json"
_SNIPPET = """\
from sharcs_pl import RoutedPredictor

predictor = RoutedPredictor.from_pretrained(FOLDER)
print(predictor.predict(["one text", "another"]))"""


def names_of(num_rungs: int) -> list[str]:
    """Return the names of the files that an export may write beside a model's own."""
    graphs = [f"{name}{ending}" for name in part_names(num_rungs) for ending in (".onnx", ".onnx.data", ".xml", ".bin")]
    return [PARTS, ROUTER, QUANTIZATION, *graphs]


def shown_name(part: str, widths: list[str]) -> str:
    """Return the name by which a user knows a part: ``trunk``, or the width of a tail."""
    index = part_names(len(widths)).index(part)
    return part if index == 0 else widths[index - 1]


def drawn(examples: Examples, config: ExportConfig) -> Examples:
    """Return a seeded draw of the calibration texts."""
    rows = np.random.default_rng(config.seed).permutation(len(examples))[: config.quantize.texts]
    return examples.select(np.sort(rows))


def gate(config: ExportConfig, task: TaskSpec, own: Engine, folder: Path, table: TokenTable) -> dict[str, Any]:
    """Compare int8 parts with the model in float32 on labelled texts, and print the table. Raise ``ValueError`` where
    the metric drops by more than ``quantize.max_drop``."""
    facts = PartsFacts.read(folder)
    parts = PartsBackend(folder, facts, facts.precision, None)
    rows = {"float32": answered(own, table), "int8": answered(Engine(parts, own.rule), table)}
    if task.multi_label:
        thresholds = read_json(folder / "config.json").get("label_thresholds")
        rows = {name: replace(found, logits=to_scores(found.logits, thresholds)) for name, found in rows.items()}
    metric = metric_name(task.metric, task.positive)
    found = {
        name: measured(answers, rows["float32"], task, table, own.rule, parts.cost) for name, answers in rows.items()
    }
    shown = new_table(f"{task.name}: int8 and float32 on {len(table):,} texts", ("", metric, *list(found["int8"])[1:]))
    for name, values in found.items():
        shown.add_row(name, *(f"{value:.4f}" for value in values.values()))
    Screen().print(shown)
    if not has_int8():
        Screen(stderr=True, soft_wrap=True).print(
            "warning: this processor has no instructions for products of int8 (VNNI): int8 saves memory here, and "
            "hardly time; precision=float32 is the better choice on it"
        )
    drop = found["float32"]["value"] - found["int8"]["value"]
    if drop > config.quantize.max_drop:
        raise ValueError(
            f"quantize.max_drop={config.quantize.max_drop:g}: int8 lowers {metric} by {drop:.4f}; leave parts in "
            "float32 with quantize.skip=[trunk], give more quantize.texts, or use precision=float32"
        )
    return {"task": task.name, "metric": metric, "samples": len(table), **found}


def measured(
    answers: Answers, base: Answers, task: TaskSpec, table: TokenTable, rule: DecisionRule, cost: CostModel
) -> dict[str, float]:
    """Return the metric of answers, how often label and last width are those of `base`, and the cost."""
    logits, labels = torch.from_numpy(answers.logits), torch.tensor(table.labels)
    macs = cost.decided_macs(rule, answers.lengths, answers.first, answers.rungs)
    return {
        "value": compute_metric(task.metric, logits, labels),
        "agreement": agreement(task.kind, answers, base),
        "routed alike": float((answers.rungs == base.rungs).mean()),
        "of dense MACs": float(macs.sum() / cost.dense_macs(answers.lengths).sum()),
    }


def answered(engine: Engine, table: TokenTable) -> Answers:
    """Return the engine's answers to all samples of a table, in their order."""
    found = Answers.join([engine.answer(batch) for batch in batches_of(table, _BATCH)])
    order = found.index.argsort()
    return Answers(**{name: column[order] for name, column in vars(found).items()})


def agreement(kind: Kind, one: Answers, other: Answers) -> float:
    """Return the share of samples with the same label; of a regression, the correlation of the values."""
    if not kind.has_classes:
        return float(np.corrcoef(one.logits[:, 0], other.logits[:, 0])[0, 1])
    return float(kind.alike(one.logits, other.logits).mean())


@contextmanager
def bar(label: str, total: int) -> Iterator[Any]:
    """Yield a function that moves a progress bar on stderr by a step."""
    console = Screen(stderr=True)
    steps = iter(track(range(total), label, console=console, disable=not console.is_terminal, transient=True))
    yield lambda: next(steps, None)
    next(steps, None)
