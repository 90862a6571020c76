"""What a benchmark measures: a trained model on its own texts, or a shape with random weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharcs_pl.config.bench import BenchConfig
from sharcs_pl.data.spec import metric_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sharcs_pl.analysis.benchmark.variants import Metric
    from sharcs_pl.data.table import TokenTable
    from sharcs_pl.models.routed import SharcsForSequenceClassification
    from sharcs_pl.runs.evaluation_inputs import Prepared

SIZES: dict[str, dict[str, int]] = {
    "minilm": {"hidden_size": 384, "num_layers": 6, "num_heads": 12, "intermediate_size": 1536},
    "roberta_base": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072},
    "tiny": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "intermediate_size": 256},
}


@dataclass(frozen=True)
class Subject:
    """What is measured: a routed model, the stock one beside it, and tokenised samples."""

    name: str
    model: SharcsForSequenceClassification
    stock: PreTrainedModel
    table: TokenTable
    metric: Metric | None
    metric_name: str | None


def trained(config: BenchConfig, one: Prepared, dense: Prepared | None = None) -> Subject:
    """A trained model on a seeded draw of its validation texts."""
    import numpy as np

    from sharcs_pl.evaluation.metrics import compute_metric
    from sharcs_pl.pipeline.build import build_table
    from sharcs_pl.pipeline.console import quiet
    from sharcs_pl.runs.trained import load_model, load_tokenizer

    quiet()
    model = load_model(one.source)
    examples = one.examples[one.task.validation[0]]
    table = build_table(one.config, examples, load_tokenizer(one.source))
    rows = np.random.default_rng(config.seed).permutation(len(table))[: config.samples]
    stock = model.encoder if dense is None else load_model(dense.source).encoder
    metric, shown = one.task.metric, metric_name(one.task.metric, one.task.positive)
    chosen = table.subset(rows)
    mean = chosen.lengths.mean()
    name = f"{one.task.name}, {len(chosen)} {one.task.validation[0]} texts of {mean:.1f} tokens on average"
    subject = Subject(name, model, stock, chosen, lambda x, y: compute_metric(metric, x, y), shown)
    return on_device(config, subject)


def untrained(config: BenchConfig) -> Subject:
    """Random weights and ids of a named shape: time does not depend on what they are."""
    import numpy as np
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from sharcs_pl.data.table import TokenTable
    from sharcs_pl.models.routed import SharcsForSequenceClassification

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
    table = TokenTable(ids, None, offsets, np.zeros(count, np.int64), None, 0)
    name = (
        f"{config.shape}, random weights, {count} samples of {config.length} tokens, split {config.width.split_layer}"
    )
    return on_device(config, Subject(name, model, model.encoder, table, None, None))


def on_device(config: BenchConfig, subject: Subject) -> Subject:
    """Every contender in the same precision, on the same device, with the same attention kernel."""
    import torch

    if config.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device=cuda: no CUDA device is available; use device=cpu")
    dtype = getattr(torch, config.precision)
    if subject.stock._supports_sdpa:
        subject.stock.set_attn_implementation("sdpa")  # the engine's; a run may have been trained with another
    for part in (subject.model, subject.stock):
        part.eval().to(device=config.device, dtype=dtype)  # pyright: ignore[reportCallIssue]
    return subject
