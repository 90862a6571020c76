"""Memory of `RoutedPredictor.stream` over 100,000 texts, by the router and by a cascade, on a small random encoder.

Run: ``ONEDNN_PRIMITIVE_CACHE_CAPACITY=64 python benchmarks/stream_memory.py``. The texts have 3 to 60 words and come
from a generator, so nothing but the predictor can hold them. Resident memory after every 10,000 answers goes to
``benchmarks/results/stream_memory/``, in a file for each value of that variable. It is oneDNN's: how many products
torch keeps prepared, 1,024 without it, each for one shape of the inputs. A stream has new shapes all the time, so the
default lets memory grow until that many are kept.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from steps import machine
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from sharcs_pl import RoutedPredictor, SharcsForSequenceClassification
from sharcs_pl.core.decision import DecisionRule

RESULTS = Path("benchmarks/results/stream_memory")
TEXTS, EVERY = 100_000, 10_000
WORDS = 500
RULES = {
    "router": DecisionRule(starts=(0.0, 0.0)),
    "cascade": DecisionRule("cascade", stops=(0.55, 0.55)),
    "router+cascade": DecisionRule("router+cascade", starts=(0.0, 0.0), stops=(0.55, 0.55), average=True),
}


def texts(seed: int) -> Iterator[str]:
    """Yield texts of random words and lengths."""
    generator = np.random.default_rng(seed)
    for _ in range(TEXTS):
        yield " ".join(f"w{word}" for word in generator.integers(WORDS, size=generator.integers(3, 61)))


def predictor() -> RoutedPredictor:
    """Return a predictor with random weights of 64 hidden dims and 4 layers."""
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=WORDS + 3, hidden_size=64, num_hidden_layers=4, num_attention_heads=4, intermediate_size=128
    )
    model = SharcsForSequenceClassification.from_encoder(
        BertForSequenceClassification(config), widths=[0.25, 0.5, 1], split_layer=1
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    known = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2} | {f"w{word}": word + 3 for word in range(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    return RoutedPredictor(model, wrapped, max_length=64)


def resident() -> float:
    """Return the process's resident memory in MiB, from /proc."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(name: str, base: RoutedPredictor) -> dict[str, object]:
    """Return memory along a stream by one rule, with the share of the texts that ended on each width."""
    base.engine = base.engine.with_rule(RULES[name])
    ended, memory = np.zeros(3, int), []
    for count, answer in enumerate(base.stream(texts(seed=2)), 1):
        ended[answer.rung] += 1
        if count % EVERY == 0:
            memory.append(round(resident(), 1))
            print(f"{name}: {count:,} texts, {memory[-1]} MiB", flush=True)
    return {"shares": (ended / TEXTS).round(4).tolist(), "resident_mib": memory}


def main() -> None:
    print("command:", shlex.join(sys.argv), "machine:", machine(), flush=True)
    torch.set_num_threads(1)
    base = predictor()
    found = {name: measure(name, base) for name in RULES}
    RESULTS.mkdir(parents=True, exist_ok=True)
    shapes = os.environ.get("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "default")
    record = {"command": shlex.join(sys.argv), "machine": machine(), "seed": 1, "texts": TEXTS}
    record |= {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": shapes, "rules": found}
    (RESULTS / f"shapes_{shapes}.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
