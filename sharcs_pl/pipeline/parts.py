"""Export of a trained model as a folder of parts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from sharcs_pl.config.export import ExportConfig
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.screen import Screen
from sharcs_pl.data.seen import FILE as SEEN
from sharcs_pl.data.spec import Examples, TaskSpec
from sharcs_pl.data.table import TokenTable
from sharcs_pl.inference.engine import Engine
from sharcs_pl.inference.export_parts import write_graphs, write_parts
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.parts import PARTS, ROUTER, PartsBackend, PartsFacts, part_names
from sharcs_pl.inference.record import TRAINING, record_file
from sharcs_pl.inference.torch_backend import torch_engine
from sharcs_pl.inference.trained import TrainedModel
from sharcs_pl.models.encoder_sizes import encoder_sizes
from sharcs_pl.models.routed import SharcsForSequenceClassification
from sharcs_pl.pipeline.build import build_table
from sharcs_pl.pipeline.console import display_path, silence_libraries
from sharcs_pl.pipeline.gate import Gate, QuantizationTexts
from sharcs_pl.runs.files import SEEN_TEXTS
from sharcs_pl.runs.outputs import atomic_output


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
            assert texts.calibration is not None
            ranges = build_table(source.config, drawn(texts.calibration, config), tokenizer)
        in_float = [name for name in steps if shown_name(name, model.ladder.labels()) in config.quantize.skip]
        length = min(source.config.task.max_length, encoder_sizes(model.config.encoder).max_tokens)
        tokenizer.model_max_length = length
        difference = write_parts(model, tokenizer, graphs, part, config.runtime, length, ranges, in_float)
        copy_records(source, part)
        if texts is not None:
            table = build_table(source.config, texts.validation, tokenizer)
            found = check_parts(config, model, part, texts.task, table)
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
_REMEDY = "leave parts in float32 with quantize.skip=[trunk], give more quantize.texts, or use precision=float32"
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


def check_parts(
    config: ExportConfig, model: SharcsForSequenceClassification, folder: Path, task: TaskSpec, table: TokenTable
) -> dict[str, Any]:
    """Compare int8 parts with the model, as `Gate.check` does."""
    own, facts = torch_engine(model), PartsFacts.read(folder)
    int8 = Engine(PartsBackend(folder, facts, facts.precision, None), own.rule)
    gate = Gate(task, table, own.rule, model.cost, model.thresholds, _REMEDY)
    return gate.check(own.answer, int8.answer, config.quantize.max_drop)


def drawn(examples: Examples, config: ExportConfig) -> Examples:
    """Return a seeded draw of the calibration texts."""
    rows = np.random.default_rng(config.seed).permutation(len(examples))[: config.quantize.texts]
    return examples.select(np.sort(rows))


@contextmanager
def bar(label: str, total: int) -> Iterator[Any]:
    """Yield a function that moves a progress bar on stderr by a step."""
    console = Screen(stderr=True)
    steps = iter(track(range(total), label, console=console, disable=not console.is_terminal, transient=True))
    yield lambda: next(steps, None)
    next(steps, None)
