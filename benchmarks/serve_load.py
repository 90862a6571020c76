"""``sharcs serve`` under load: every answer checked, throughput beside ``predict``, latencies beside a plain server,
SIGTERM in the middle, and at least twice the load that it can bear.

Run: ``python benchmarks/serve_load.py --run $RUNS/sst2_sharcs`` with a run that has an operating point ``cheap``;
without ``--run`` it trains the embedded task in MiniLM's shape first. Raw figures and the table go to
``benchmarks/results/serve_load/``. Clients and servers share the machine; nothing else should run on it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any
from urllib.request import urlopen

from clients import Asked, Clients, summary
from steps import machine

from sharcs_pl import RoutedPredictor

PORT, PLAIN = 8431, 8432
WORDS = ("the", "film", "was", "not", "good", "very", "plot", "one", "long", "scene", "bad", "fine", "a", "and", "it")
BAD: list[Any] = ["{", {"text": ""}, {"texts": []}, {"text": "a", "point": "nope"}, {"txt": "a"}, {"text": 3}]
ROUNDS = 5
LOADS = (0.3, 0.6, 0.9)  # of what the routed server answers at most
TRAIN = ("encoder=minilm", "task.train_size=1000", "task.dev_size=400", "trainer.max_epochs=4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="run directory with an operating point cheap")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60, help="length of each part at an offered load")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/serve_load"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        run = args.run or trained(Path(place) / "run")
        found = {"command": shlex.join(sys.argv), "machine": machine()} | measure(run, args)
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "load.json").write_text(json.dumps(found, indent=2) + "\n")
    (args.results / "table.txt").write_text(table(found))
    print(table(found))


def trained(folder: Path) -> Path:
    """A run of the embedded task, with an operating point of 0.4 of the dense model's multiply-adds."""
    words = [*TRAIN, "trainer.enable_progress_bar=false", f"hydra.run.dir={folder}"]
    subprocess.run([sys.executable, "-m", "sharcs_pl.train", *words], check=True)
    words = [f"run={folder}", "budget=0.4", "name=cheap", "overwrite=true"]
    subprocess.run([sys.executable, "-m", "sharcs_pl.calibrate", *words], check=True)
    return folder


def measure(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All parts."""
    texts, bodies = requests(args.requests)
    predictor = RoutedPredictor.from_pretrained(run)
    cheap = RoutedPredictor.from_pretrained(run, point="cheap")
    found: dict[str, Any] = {"texts": len(texts)}
    alone, found["predict_per_second"] = predicted(predictor, texts)
    quick, found["cheap_predict_per_second"] = predicted(cheap, texts)
    spent = [sum(each.macs for each in answers.values()) for answers in (alone, quick)]
    found["cheap_promises"] = round(spent[0] / spent[1], 3)
    found["batches_per_second"] = {str(size): in_batches(predictor, texts, size) for size in (8, 16, 32)}
    with serving("sharcs_pl.serve", PORT, f"run={run}", f"port={PORT}"):
        answers = Clients(PORT, args.clients).closed(bodies)
        served = summary(answers)
        found["closed"] = served | {"wrong": wrong(answers, alone)}
        found["of_predict"] = round(served["per_second"] / found["predict_per_second"], 3)
        found["rounds"] = [side_by_side(predictor, texts[: 20 * args.clients], args.clients) for _ in range(ROUNDS)]
        most = served["per_second"]
        found["offered"] = {str(load): offered(PORT, texts, load * most, args) for load in LOADS}
    with serving("plain_server", PLAIN, "--model", str(run / "model"), "--port", str(PLAIN)):
        found["plain"] = summary(Clients(PLAIN, args.clients).closed([{"text": text} for text in texts[:1000]]))
        found["plain_offered"] = {str(load): offered(PLAIN, texts, load * most, args) for load in LOADS}
    found["sigterm"] = stopped(run, texts, args)
    # More than the cheap point can bear as well, else what is offered would bound how much it answers.
    crowd = max(2, 1.3 * found["cheap_promises"]) * most
    for name, keys in (("crowded", []), ("crowded_overload", ["overload=cheap", "overload_above=32"])):
        found[name] = crowded(run, texts, crowd, args, keys)
    return found


def requests(number: int) -> tuple[list[str], list[Any]]:
    """Texts of 3 to 120 words, most of them short, and the bodies that ask for them, one in twenty of them bad."""
    source = random.Random(1)
    bodies: list[Any] = []
    texts = []
    for index in range(number):
        if index % 20 == 19:
            bodies.append(source.choice(BAD))
            continue
        words = min(120, 3 + int(source.lognormvariate(2.5, 0.8)))
        texts.append(" ".join([f"n{index}", *source.choices(WORDS, k=words)]))
        bodies.append({"text": texts[-1]})
    return texts, bodies


def predicted(predictor: RoutedPredictor, texts: list[str]) -> tuple[dict[str, Any], float]:
    """The answers of ``predict`` by text, and how many it gives in a second."""
    predictor.predict(texts[:64])
    begun = time.perf_counter()
    answers = list(predictor.stream(texts))
    return dict(zip(texts, answers, strict=True)), round(len(texts) / (time.perf_counter() - begun), 2)


def in_batches(predictor: RoutedPredictor, texts: list[str], size: int) -> float:
    """The texts per second of this process alone where no more than these are at hand at a time."""
    begun = time.perf_counter()
    for start in range(0, len(texts), size):
        predictor.try_predict(texts[start : start + size])
    return round(len(texts) / (time.perf_counter() - begun), 2)


def side_by_side(predictor: RoutedPredictor, texts: list[str], clients: int) -> dict[str, float]:
    """A round of the same texts in turn by ``predict``, and served with one and with several in a request."""
    ways = {"one": [{"text": text} for text in texts], "several": several_each(texts)}
    rates = {"predict": predicted(predictor, texts)[1]}
    return rates | {name: summary(Clients(PORT, clients).closed(bodies))["per_second"] for name, bodies in ways.items()}


def several_each(texts: list[str]) -> list[Any]:
    """Requests of one to eight texts."""
    source, bodies, start = random.Random(4), [], 0
    while start < len(texts):
        number = source.randint(1, 8)
        bodies.append({"texts": texts[start : start + number]})
        start += number
    return bodies


def wrong(found: Sequence[Asked], alone: dict[str, Any]) -> list[str]:
    """What is not as it should be: a bad request that is answered, or an answer that is not ``predict``'s."""
    faults = []
    for each in found:
        if each.body in BAD:
            if not 400 <= each.status < 500 or "\n" in each.answer["error"]:
                faults.append(f"{each.body}: {each.status} {each.answer}")
            continue
        assert isinstance(each.body, dict)
        wanted, record = alone[each.body["text"]], (each.answer.get("answers") or [{}])[0]
        near = zip(record.get("probabilities", {}).values(), wanted.probabilities, strict=False)
        same = (record.get("label"), record.get("width")) == (wanted.label, wanted.width)
        if each.status != 200 or not same or any(abs(a - b) > 1e-5 for a, b in near):
            faults.append(f"{each.body}: {each.status} {each.answer}, not {wanted}")
    return faults


def offered(port: int, texts: list[str], per_second: float, args: argparse.Namespace) -> dict[str, Any]:
    """A part at an offered load, from four times as many clients so that few wait for one."""
    chosen = random.Random(2).choices(texts, k=max(20, int(per_second * args.seconds)))
    answers = Clients(port, 4 * args.clients).offered([{"text": text} for text in chosen], per_second)
    return {"offered_per_second": round(per_second, 2)} | summary(answers)


def stopped(run: Path, texts: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """SIGTERM while every client waits for an answer: each request gets one, is refused, or finds nobody there."""
    with serving("sharcs_pl.serve", PORT, f"run={run}", f"port={PORT}") as process:
        timer = threading.Timer(3, lambda: process.send_signal(signal.SIGTERM))
        timer.start()
        answers = Clients(PORT, args.clients).closed([{"text": text} for text in texts[:2000]])
        timer.join()
        return {"exit": process.wait(120), "statuses": summary(answers)["statuses"]}


def crowded(
    run: Path, texts: list[str], per_second: float, args: argparse.Namespace, keys: list[str]
) -> dict[str, Any]:
    """A part at more texts a second than it can bear, so many in requests of several that the model and not HTTP is
    what they wait for, with the longest queue that ``/metrics`` told."""
    longest, done = 0.0, threading.Event()
    with serving("sharcs_pl.serve", PORT, f"run={run}", f"port={PORT}", "max_queue=256", *keys):

        def watch() -> None:
            nonlocal longest
            while not done.wait(0.2):
                told = urlopen(f"http://127.0.0.1:{PORT}/metrics").read().decode().splitlines()
                longest = max(
                    longest, *(float(row.split()[1]) for row in told if row.startswith("sharcs_queue_texts "))
                )

        watcher = threading.Thread(target=watch)
        watcher.start()
        bodies = several_each(random.Random(3).choices(texts, k=int(per_second * args.seconds)))
        answers = Clients(PORT, 512).offered(bodies, len(bodies) / args.seconds)
        done.set()
        watcher.join()
    points = {name: sum(each.answer.get("point") == name for each in answers) for name in ("trained", "cheap")}
    return (
        {"offered_per_second": round(per_second, 2)} | summary(answers) | {"longest_queue": longest, "points": points}
    )


@contextmanager
def serving(module: str, port: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process of its own, ready."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words], env=os.environ | {"PYTHONPATH": path}, start_new_session=True
    )
    try:
        while True:
            assert process.poll() is None, f"{module} has ended"
            try:
                urlopen(f"http://127.0.0.1:{port}/health").read()
                break
            except OSError:
                time.sleep(0.5)
        yield process
    finally:
        process.terminate()
        process.wait(120)
        with suppress(ProcessLookupError):  # LitServe alone leaves its processes behind
            os.killpg(process.pid, signal.SIGKILL)


def shares(rounds: list[dict[str, float]], way: str) -> str:
    """The median and the range of what is served of ``predict``'s rate."""
    found = sorted(each[way] / each["predict"] for each in rounds)
    return f"{median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def table(found: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [
        f"predict {found['predict_per_second']} texts/s; served {found['closed']['per_second']} "
        f"({found['of_predict']:.0%}), {len(found['closed']['wrong'])} wrong; plain {found['plain']['per_second']}",
        f"in turn, {len(found['rounds'])} rounds: served of predict {shares(found['rounds'], 'one')} with one text "
        f"in a request, {shares(found['rounds'], 'several')} with one to eight",
        "the model alone, in batches as they come: "
        + ", ".join(f"{rate} texts/s by {size}" for size, rate in found["batches_per_second"].items()),
        f"SIGTERM under load: exit {found['sigterm']['exit']}, statuses {found['sigterm']['statuses']}",
        "",
        f"{'server':<16}{'offered/s':>10}{'answered/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}  statuses",
    ]
    rows = [("sharcs", row) for row in found["offered"].values()]
    rows += [("plain", row) for row in found["plain_offered"].values()]
    rows += [("crowded", found["crowded"]), ("with overload", found["crowded_overload"])]
    for name, row in rows:
        times = "".join(f"{row[f'p{q}_ms']:>9}" for q in (50, 95, 99))
        lines.append(f"{name:<16}{row['offered_per_second']:>10}{row['per_second']:>12}{times}  {row['statuses']}")
    rise = found["crowded_overload"]["per_second"] / max(found["crowded"]["per_second"], 1e-9)
    predicts = found["cheap_predict_per_second"] / found["predict_per_second"]
    promise = f"its multiply-adds promise {found['cheap_promises']:.2f}x, predict gains {predicts:.2f}x"
    lines += ["", f"overload=cheap answers {rise:.2f}x; {promise}"]
    queues = ", ".join(f"{name} {found[name]['longest_queue']:g}" for name in ("crowded", "crowded_overload"))
    return "\n".join([*lines, f"longest queue of 256: {queues}", ""])


if __name__ == "__main__":
    main()
