"""Answers through Ray Data on this machine: rows per second by actors, beside `RoutedPredictor` alone, and memory.

Run: ``OMP_NUM_THREADS=1 python benchmarks/ray_data.py``; ``--rows 1000000 --actors 2`` for the memory over many short
rows. The model is a random one of ``benchmarks/stream_memory.py``'s kind, or ``--run``, a trained one. Ways take turns
in every round, each after a warm-up; a table shows medians and the range, the raw rounds go to
``benchmarks/results/ray_data/``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import ray
import ray.data
from steps import machine
from stream_memory import predictor as random_predictor
from stream_memory import texts

from sharcs_pl import RoutedPredictor, SharcsForSequenceClassification
from sharcs_pl.integrations.ray import answer_dataset

RESULTS = Path("benchmarks/results/ray_data")
POINT = {"rule": "cascade", "stops": [0.55, 0.55], "certainty": "probability", "average": False}
BLOCK = 1024  # rows


def save_random(folder: Path) -> str:
    """Write the random model of `stream_memory` with a cascade in use, and return its folder."""
    predictor = random_predictor()
    model: Any = predictor.engine.backend.model  # pyright: ignore[reportAttributeAccessIssue]
    assert isinstance(model, SharcsForSequenceClassification)
    model.config.operating_points, model.config.operating_point = {"cascade": POINT}, "cascade"
    model.save_pretrained(folder)
    predictor.tokenizer.model_max_length = 64
    predictor.tokenizer.save_pretrained(folder)
    return str(folder)


def plain(run: str, given: list[str]) -> float:
    """Return the seconds of one predictor in this process."""
    predictor = RoutedPredictor.from_pretrained(run)
    list(predictor.stream(given[:512]))
    start = time.perf_counter()
    count = sum(1 for _ in predictor.stream(given))
    assert count == len(given)
    return time.perf_counter() - start


def with_ray(run: str, given: list[str], actors: int, passes: int) -> tuple[float, float]:
    """Return the seconds without the start, which are those of all texts less those of a few, and with it. What the
    actors have answered before the first answer is read would count for nothing if the clock began there."""
    start = _seconds(run, given[:64], actors, passes)
    whole = _seconds(run, given, actors, passes)
    return whole - start, whole


def _seconds(run: str, given: list[str], actors: int, passes: int) -> float:
    dataset = ray.data.from_items([{"text": text} for text in given], override_num_blocks=-(-len(given) // BLOCK))
    answers = answer_dataset(dataset, run, "text", actors=actors, passes=passes)
    start = time.perf_counter()
    count = sum(len(batch) for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow"))
    assert count == len(given), (count, len(given))
    return time.perf_counter() - start


def memory_over(run: str, rows: int, actors: int) -> dict[str, Any]:
    """Return the resident memory of the largest actor along `rows` short texts, in MiB."""
    peaks: list[tuple[int, float]] = []
    done, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(2):
            found = [
                each.memory_info().rss / 2**20
                for each in psutil.Process().children(recursive=True)
                if "RoutedTexts" in "".join(each.cmdline())
            ]
            if found:
                peaks.append((done[0], round(max(found), 1)))

    threading.Thread(target=watch, daemon=True).start()
    made = ray.data.range(rows).map_batches(_short, batch_format="pandas")
    start = time.perf_counter()
    for batch in answer_dataset(made, run, "text", actors=actors, rows=4096).iter_batches(batch_size=None):
        done[0] += len(batch["label"])
    stop.set()
    assert done[0] == rows, done[0]
    return {
        "rows": rows,
        "seconds": round(time.perf_counter() - start, 1),
        "rows_and_mib": peaks[:: len(peaks) // 40 or 1],
    }


def _short(frame: Any) -> Any:
    frame["text"] = [f"w{number % 499} w{number % 7} w{number % 83}" for number in frame["id"]]
    return frame


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a trained model with the text column `text`; a random one otherwise")
    parser.add_argument("--texts", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rows", type=int, default=0, help="measure memory over so many short rows, and nothing else")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), str(Path(__file__).parent)])  # of the workers
    ray.init(num_cpus=max(asked.actors) + 2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    record: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": machine(),
        "ray": ray.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = asked.run or save_random(Path(folder) / "model")
        if asked.rows:
            record["memory"] = memory_over(run, asked.rows, asked.actors[0])
        else:
            record["seconds"] = in_turns(run, list(texts(seed=3))[: asked.texts], asked.actors, asked.rounds)
            record["texts"] = asked.texts
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / ("memory.json" if asked.rows else "results.json")
    path.write_text(json.dumps(record, indent=1) + "\n")
    if asked.rows:
        print(json.dumps(record["memory"]))
        return
    (RESULTS / "table.md").write_text(report(record) + "\n")
    print(report(record))


def twice(seconds: float) -> tuple[float, float]:
    """Return the seconds of a way that starts nothing."""
    return seconds, seconds


def in_turns(run: str, given: list[str], actors: list[int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each way in each round, as `with_ray` has them."""
    ways: dict[str, Callable[[], tuple[float, float]]] = {"predictor alone": lambda: twice(plain(run, given))}
    for number in actors:
        ways[f"{number} actors"] = lambda number=number: with_ray(run, given, number, 1)
    ways["1 actors, two passes"] = lambda: with_ray(run, given, 1, 2)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
            print(f"round {number + 1}, {name}: {found[name][-1]}", flush=True)
    return found


def report(record: dict[str, Any]) -> str:
    """Return a table of rows per second, medians and ranges."""
    lines = [
        "| way | rows/s without the start | least | most | of the predictor alone | with the start |",
        "|---|---|---|---|---|---|",
    ]
    number, base = record["texts"], median(first for first, _ in record["seconds"]["predictor alone"])
    for name, rounds in record["seconds"].items():
        steady = sorted(number / first for first, _ in rounds)
        whole = median(number / last for _, last in rounds)
        middle = median(steady)
        share = middle / (number / base)
        lines.append(f"| {name} | {middle:,.0f} | {steady[0]:,.0f} | {steady[-1]:,.0f} | {share:.2f} | {whole:,.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
