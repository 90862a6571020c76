"""Reordering of a model: measure the importance of heads and neurons, sort by it, check the function, and save."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sharcs_pl.analysis.reordering.importance import Importance, draw_importance, measure, write_importance
from sharcs_pl.analysis.reordering.narrow import CUTS, KEPT, NarrowLogits, narrow_logits
from sharcs_pl.analysis.reordering.texts import batches, drawn
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.core.finite import write_json
from sharcs_pl.core.kinds import to_scores
from sharcs_pl.core.screen import Screen
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.data.spec import metric_name
from sharcs_pl.data.table import TokenTable
from sharcs_pl.evaluation.metrics import compute_metric
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.models.families import get_family
from sharcs_pl.models.order import Order, leading_order, reorder
from sharcs_pl.models.pretrained import load_checkpoint
from sharcs_pl.models.router import task_loss
from sharcs_pl.pipeline.build import build_table, build_tokenizer
from sharcs_pl.pipeline.console import display_path
from sharcs_pl.runs.inputs import TrainingInputs
from sharcs_pl.runs.outputs import atomic_output
from sharcs_pl.runs.reordering_inputs import FILE, OWN, ReorderingInputs
from sharcs_pl.training.head import fit_head

TOLERANCE = 1e-4  # of the largest logit, in single precision; a head in a wrong place changes the first digit


@dataclass(frozen=True)
class Loaded:
    """The stock model whose parts are measured. `reinitialized` names the parameters that its checkpoint lacks.
    `thresholds` are those of a run's labels."""

    stock: Any
    tokenizer: PreTrainedTokenizerFast
    reinitialized: set[str]
    thresholds: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """The measurements: importance and order, and the logits of every cut before and after."""

    importance: Importance
    order: Order
    before: NarrowLogits
    after: NarrowLogits


def reorder_encoder(config: ReorderConfig, found: ReorderingInputs, output: Path) -> dict[str, Any]:
    """Measure, reorder, check, save and print; return the contents of ``reorder.json``."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: no CUDA device is available; use device=cpu")
    torch.manual_seed(config.seed)
    loaded = load(config, found)
    measured, evaluated = tables(config, found, loaded.tokenizer)
    kept = prepare_head(config, loaded, measured)
    outcome = rearrange(config, loaded.stock, measured, evaluated)
    difference = check_function(loaded.stock, outcome)
    record = describe(config, found, loaded, outcome, difference)
    loaded.stock.load_state_dict(kept, strict=False)
    save(output, config, found, loaded, outcome, record)
    present(record, output)
    return record


def load(config: ReorderConfig, found: ReorderingInputs) -> Loaded:
    """Load the model to measure: the run's stock encoder with its head, or the checkpoint with a head of the task."""
    if found.source is not None:
        model = load_model(found.source)
        encoder: Any = model.encoder
        return Loaded(encoder.float().to(config.device), load_tokenizer(found.source), set(), model.thresholds)
    assert found.encoder is not None
    loaded: Any
    loaded, reinitialized = load_checkpoint(found.encoder.source, found.task.num_labels)
    tokenizer = build_tokenizer(TrainingInputs(found.task, found.examples, found.encoder))
    return Loaded(loaded.to(config.device), tokenizer, reinitialized)


def tables(
    config: ReorderConfig, found: ReorderingInputs, tokenizer: PreTrainedTokenizerFast
) -> tuple[TokenTable, TokenTable]:
    """Return the texts that measure importance (and fit a head), and the texts of the report; each is a seeded draw."""

    def texts(split: str, count: int | None) -> TokenTable:
        return drawn(build_table(found.config, found.examples[split], tokenizer), count, config.seed)

    dev = found.task.validation[0]
    return texts("train" if config.split == "train" else dev, config.samples), texts(dev, config.eval_samples)


def prepare_head(config: ReorderConfig, loaded: Loaded, measured: TokenTable) -> dict[str, Tensor]:
    """Fit the head where the checkpoint has none; return the head's weights as they were, to be put back."""
    prefixes = get_family(loaded.stock.config.model_type).head_prefixes
    kept = {k: v.detach().clone() for k, v in loaded.stock.state_dict().items() if k.startswith(prefixes)}
    if loaded.reinitialized:
        fit_head(loaded.stock, measured, config.head_steps, config.head_lr, config.batch_size, config.seed)
    return kept


def rearrange(config: ReorderConfig, stock: Any, measured: TokenTable, evaluated: TokenTable) -> Outcome:
    """Measure and reorder in place; the cuts are evaluated before and after."""
    ladder, split = WidthLadder.parse(config.width.multipliers), config.width.split_layer

    def cuts() -> NarrowLogits:
        return narrow_logits(stock, batches(evaluated, config.batch_size, config.device), ladder, split)

    importance = measure(stock, batches(measured, config.batch_size, config.device))
    order, before = leading_order(stock, importance.heads, importance.neurons), cuts()
    reorder(stock, order)
    return Outcome(importance, order, before, cuts())


def check_function(stock: Any, outcome: Outcome) -> float:
    """Return the largest difference of a logit at full width. Raise ``ValueError`` when it is more than rounding."""
    top = max(rung for _, rung in outcome.before.logits)
    before, after = (found.logits[KEPT, top] for found in (outcome.before, outcome.after))
    difference = (before - after).abs().max().item()
    if not difference <= TOLERANCE * max(1.0, before.abs().max().item()):
        kind = stock.config.model_type
        raise ValueError(f"{kind} cannot be reordered: its logits would change by {difference:.1e}; nothing is saved")
    return difference


def describe(
    config: ReorderConfig, found: ReorderingInputs, loaded: Loaded, outcome: Outcome, difference: float
) -> dict[str, Any]:
    """Return the contents of ``reorder.json``."""
    metric, widths = found.task.metric, config.width.multipliers
    head = "fitted" if loaded.reinitialized else "the run's" if found.source else "the checkpoint's"
    both = {"before": outcome.before, "after": outcome.after}

    def scores(logits: NarrowLogits, cut: str, rung: int) -> dict[str, float]:
        return score(logits, metric, (cut, rung), loaded.thresholds)

    narrow = [
        {"width": width, "cut": cut, **{when: scores(logits, cut, rung) for when, logits in both.items()}}
        for cut in CUTS
        for rung, width in enumerate(widths[:-1])
    ]
    return {
        "task": found.task.name,
        "metric": metric,
        "positive": found.task.positive,
        "run": config.run and Path(config.run).absolute().name,  # the folder is given away
        "encoder": found.config.encoder.name,
        "weights": config.weights if config.run else "pretrained",
        "head": head,
        "split": config.split,
        "samples": outcome.importance.samples,
        "seed": config.seed,
        "split_layer": config.width.split_layer,
        "full": scores(outcome.after, CUTS[0], len(widths) - 1),
        "narrow": narrow,
        "largest_difference": difference,
    }


def score(
    found: NarrowLogits, metric: str, which: tuple[str, int], thresholds: tuple[float, ...] | None = None
) -> dict[str, float]:
    """Return the metric, with the thresholds of labels, and the mean loss of one cut at one rung."""
    logits = found.logits[which]
    return {
        "value": compute_metric(metric, to_scores(logits, thresholds), found.labels),
        "loss": task_loss(logits, found.labels, logits.shape[-1]).item(),
    }


def save(
    output: Path,
    config: ReorderConfig,
    found: ReorderingInputs,
    loaded: Loaded,
    outcome: Outcome,
    record: dict[str, Any],
) -> None:
    """Save the checkpoint with its tokenizer, the importance, its figure and the record, all of them or none."""
    stock, missing = final_weights(config, found, loaded, outcome)
    weights = {name: value for name, value in stock.state_dict().items() if name not in missing}
    with atomic_output(output, OWN) as folder:
        stock.save_pretrained(folder, state_dict=weights)
        loaded.tokenizer.save_pretrained(folder)
        write_importance(folder / "importance.parquet", outcome.importance, outcome.order)
        draw_importance(outcome.importance, outcome.order, folder / "importance.png")
        write_json(folder / FILE, record)


def final_weights(
    config: ReorderConfig, found: ReorderingInputs, loaded: Loaded, outcome: Outcome
) -> tuple[Any, set[str]]:
    """Return the model to save and the names of what its checkpoint lacks; a head that was drawn here is not kept."""
    if found.source is None:
        return loaded.stock, loaded.reinitialized
    if config.weights == "pretrained":
        assert found.encoder is not None
        stock, reinitialized = load_checkpoint(found.encoder.source, found.task.num_labels)
        reorder(stock, outcome.order)
        return stock, reinitialized
    if found.task.labels is not None:
        loaded.stock.config.id2label = dict(enumerate(found.task.labels))
        loaded.stock.config.label2id = {label: i for i, label in enumerate(found.task.labels)}
        if found.task.multi_label:
            loaded.stock.config.problem_type = found.task.kind.problem_type
    return loaded.stock, set()


def present(record: dict[str, Any], output: Path) -> None:
    """Print the accuracy of every cut before and after, and where the checkpoint is."""
    metric = metric_name(record["metric"], record["positive"])
    title = f"{record['task']}: {metric} (loss) without training, layers after the first {record['split_layer']}"
    table = Table(title=title)
    for column in ("what is cut", "width", "given order", "important first"):
        table.add_column(column, justify="left" if column == "what is cut" else "right", no_wrap=True)
    for row in record["narrow"]:
        table.add_row(_CUTS[row["cut"]], row["width"], _shown(row["before"]), _shown(row["after"]))
    table.add_row("nothing", "1", *[_shown(record["full"])] * 2)
    console = Screen()
    console.print(table)
    console.print(
        f"importance on {record['samples']:,} {record['split']} texts with {record['head']} head; logits at full width "
        f"differ by {record['largest_difference']:.1e} at most",
        soft_wrap=True,
    )
    if record["head"] == "fitted":
        console.print(
            "a fine-tuned encoder tells more: sharcs train method=dense …, then sharcs reorder run=…", soft_wrap=True
        )
    console.print(f"encoder.pretrained={display_path(output.absolute())}", soft_wrap=True)


_CUTS = {"rung": "hidden dims, heads, neurons", "hidden_kept": "heads and neurons"}


def _shown(score: dict[str, float]) -> str:
    return f"{score['value']:.4f} ({score['loss']:.3f})"
