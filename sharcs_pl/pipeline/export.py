"""The light checks of an export, then the import that does the work. Loads no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.config.export import ExportConfig
from sharcs_pl.config.task import TaskConfig
from sharcs_pl.core.decision import default_certainty
from sharcs_pl.core.files import writable_path, write_text
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.kinds import kind_of_model, stored_names
from sharcs_pl.core.version import __version__
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.parts import PARTS
from sharcs_pl.inference.runtimes import check_exporter
from sharcs_pl.inference.trained import TrainedModel, model_settings, open_trained, saved_settings
from sharcs_pl.models.encoder_sizes import OURS, check_written_out, encoder_sizes
from sharcs_pl.models.folder import weight_files
from sharcs_pl.models.stock_form import NARROW, obstacle
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.pipeline.export_scripts import present
from sharcs_pl.runs.files import EXPORTED
from sharcs_pl.runs.inputs import read_task
from sharcs_pl.runs.outputs import atomic_output, check_output_folder

if TYPE_CHECKING:
    from sharcs_pl.data.spec import Examples, TaskSpec
    from sharcs_pl.inference.export import Exported


_ANY_SCORE = 1e30  # so large that every score of a file is taken


@dataclass(frozen=True)
class ExportInputs:
    """The model that ``run=`` names, before it is loaded. `ladder` is None where it makes no difference; `tokenizer` is
    the tokenizer's folder, or None where it is not known."""

    source: TrainedModel
    ladder: WidthLadder | None
    tokenizer: Path | None


def run(config: ExportConfig) -> Exported | dict[str, Any]:
    """Check, load, write, compare with the model, and print how to run the file."""
    if config.format == "transformers":
        return export_stock(config)
    if config.format == "parts":
        return export_parts(config)
    if config.format in ("onnx", "hub"):
        check_exporter()
        check_opset(config.opset)
    found = find(config.run, alone=config.rung is not None)
    assert found.ladder is not None
    rung = None if config.rung is None else rung_of(config.rung, found.ladder)
    path = output_folder(config) if config.format == "hub" else output_path(config)
    source, texts = with_texts(config, found.source)
    silence_libraries()
    from sharcs_pl.pipeline.gate import QuantizationTexts
    from sharcs_pl.pipeline.graphs import export_graph

    done = export_graph(config, source, path, rung, texts and QuantizationTexts(*texts))
    present(config.format, path if config.format == "hub" else found.tokenizer, done)
    return done[-1]


def export_stock(config: ExportConfig) -> Exported:
    """Write the widest sub-network as a folder that stock transformers reads, with tokenizer and card."""
    source = open_trained(config.run, record_needed=False)
    check_stock(config, saved_settings(source.weights))
    folder = output_folder(config)
    silence_libraries()
    from sharcs_pl.inference.export import Exported
    from sharcs_pl.inference.graph import input_names
    from sharcs_pl.inference.stock import save_stock
    from sharcs_pl.pipeline.graphs import contents
    from sharcs_pl.runs.card import CARD, card

    model, tokenizer = load_model(source), load_tokenizer(source)
    longest = encoder_sizes(model.config.encoder).max_tokens
    with atomic_output(folder, [EXPORTED]) as part:
        difference = save_stock(model, part)
        tokenizer.model_max_length = min(source.config.task.max_length, longest)
        tokenizer.save_pretrained(part)
        write_text(part / CARD, card(contents(source, model.config.to_dict()).widest()))
        facts = {"sharcs_version": __version__, "largest_difference": difference}
        write_json(part / EXPORTED, facts)
    weights = sum(path.stat().st_size for path in weight_files(folder))
    held = sum(parameter.nbytes for parameter in model.encoder.parameters())
    done = Exported(folder, tuple(input_names(model, 0)), weights, held, difference)
    present(config.format, folder, [done])
    return done


def export_parts(config: ExportConfig) -> dict[str, Any]:
    """Write a folder of parts for another runtime."""
    check_exporter(config.runtime, config.quantized)
    source = find(config.run, alone=True).source
    folder = check_output_folder(config.output, PARTS, config.overwrite, [])
    widths = model_settings(source)["widths"]
    unknown = [name for name in config.quantize.skip if name not in ("trunk", *widths)]
    if unknown:
        raise ValueError(f"quantize.skip names {unknown[0]}; this model has trunk, {', '.join(widths)}")
    source, texts = with_texts(config, source)
    from sharcs_pl.pipeline.gate import QuantizationTexts
    from sharcs_pl.pipeline.parts import export_parts as write

    return write(config, source, folder, texts and QuantizationTexts(*texts))


def with_texts(
    config: ExportConfig, source: TrainedModel
) -> tuple[TrainedModel, tuple[TaskSpec, Examples | None, Examples] | None]:
    """Return the model with the paths of this command, its task, and for int8 the texts that calibrate parts and those
    of the gate."""
    if not config.quantized:
        return source, None
    if not source.recorded:
        task = task_of(source.config.task, model_settings(source))
        source = replace(source, config=replace(source.config, task=task))
    run_config = config.evaluation().applied_to(source.config)
    splits = ["train", None] if config.format == "parts" else [None]
    task, examples = read_task(run_config.task, splits, run_config.seed)
    texts = (task, examples.get("train"), examples[task.validation[0]])
    return replace(source, config=run_config), texts


def task_of(task: TaskConfig, settings: dict[str, Any]) -> TaskConfig:
    """Return the task with the target that a model's own config tells: classes in the order of its outputs, any number
    of labels, or a score. Classes without names have those of their ids."""
    labels = list(stored_names(settings))
    if all(name == f"LABEL_{index}" for index, name in enumerate(labels)):
        labels = [str(index) for index in range(len(labels))]
    kind = kind_of_model(len(labels), settings.get("problem_type"))
    if not kind.has_classes:
        return replace(task, label_range=[-_ANY_SCORE, _ANY_SCORE], label_range_strict=False)
    return replace(task, labels=labels, multi_label=kind.multi_label)


def check_stock(config: ExportConfig, settings: dict[str, Any]) -> None:
    """Raise ``ValueError`` where no stock class can express the model or the options."""
    if settings.get("model_type") not in OURS:
        raise ValueError(f"run={config.run} is no model of this project, but one of {settings.get('model_type')!r}")
    why = obstacle(settings)
    if why is not None:
        raise ValueError(f"run={config.run} has no stock form: {why}")
    if config.rung is None:
        return
    if "widths" not in settings:
        raise ValueError(f"rung={config.rung}: of early exits the last one is exported; leave rung= out")
    ladder = WidthLadder.parse(settings["widths"])
    if rung_of(config.rung, ladder) != ladder.top:
        raise ValueError(
            f"rung={config.rung} has no stock form: its layers are narrow {NARROW}; give rung={ladder.top}, or "
            "format=onnx"
        )


def check_opset(opset: int | None) -> None:
    """Raise ``ValueError`` when ONNX is older than the opset asked for."""
    if opset is None:
        return
    from onnx.defs import onnx_opset_version

    if opset > onnx_opset_version():
        raise ValueError(f"opset={opset} is newer than the installed onnx, which has up to {onnx_opset_version()}")


def find(run: str, alone: bool = False) -> ExportInputs:
    """Find the model that ``run=`` names without loading it. Raise ``ValueError`` when it is damaged, not of this
    project, or decides by what no graph holds, unless one width is exported `alone`."""
    source = open_trained(run, record_needed=False)
    saved = model_settings(source)
    _check_architecture(run, saved["encoder"]["model_type"])
    if not alone:
        _check_rule(run, saved)
    folder = source.weights if source.weights.is_dir() else source.home / "model"
    return ExportInputs(source, WidthLadder.parse(saved["widths"]), folder if folder.is_dir() else None)


def _check_rule(run: str, saved: dict[str, Any]) -> None:
    points, used = saved.get("operating_points") or {}, saved.get("operating_point")
    point = points.get(used) or {} if used else saved
    certainty = point.get("certainty") or default_certainty(len(saved.get("id2label") or {}) or 2)
    if point.get("rule", "router") != "router" and certainty != "probability":
        raise ValueError(
            f"run={run} stops by certainty={certainty}, which an exported graph does not hold; use a point of the "
            "router (sharcs calibrate rule=router budget=… default=true), or give rung=<width>"
        )


def _check_architecture(run: str, model_type: str) -> None:
    try:
        check_written_out(model_type)
    except ValueError as error:
        raise ValueError(f"run={run}: {error}") from error


def rung_of(text: str, ladder: WidthLadder) -> int:
    """Return the rung that ``rung=`` names by index or width. Raise ``ValueError`` listing the ladder otherwise."""
    index = re.fullmatch(r"[0-9]{1,9}", text)
    width = re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}|/[1-9][0-9]{0,8})", text)
    if index and int(text) <= ladder.top:
        return int(text)
    if width and Fraction(text) in ladder.widths:
        return ladder.widths.index(Fraction(text))
    known = ", ".join(f"{rung} (width {label})" for rung, label in enumerate(ladder.labels()))
    raise ValueError(f"rung={text} is not on the ladder; this model has {known}")


def output_path(config: ExportConfig) -> Path:
    """Return the path of the file. Raise ``ValueError`` when it cannot be written there."""
    path = writable_path("output", config.output)
    beside = path.with_name(path.name + ".data")  # takes the weights of a large graph, and goes with an old one
    for taken, told in ((path, config.output), (beside, f"{config.output}: {beside}")):
        if taken.exists() and not config.overwrite:
            raise ValueError(f"output={told} exists; add overwrite=true, or give another name")
    return path


def output_folder(config: ExportConfig) -> Path:
    """Return the folder to write. Raise ``ValueError`` when it may not be written."""
    return check_output_folder(config.output, EXPORTED, config.overwrite, [EXPORTED])
