"""The default recipe on data sets that no one tuned it for; goes on where it was cut.

Run: ``python benchmarks/held_out.py --glue $GLUE``. Three data sets are made from text at hand, with a fixed seed:

- ``corpora``: which of five GLUE tasks a sentence of their training files comes from;
- ``docstrings``: which of five installed libraries the first sentence of a docstring comes from, without their names;
- ``noisy``: the graded reviews, where one label in five is wrong, in training and in development.

Each is trained by one ordinary command without any key of its own, and dense beside it. What the table needs goes to
``benchmarks/results/held_out/<data set>/<row>_<seed>/``; a run that is there is done. ``--report`` trains nothing: it
makes ``benchmarks/results/held_out/table.md``.
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import json
import random
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from steps import CPU, Step, arguments, table

from sharcs_pl.core.files import atomic_file, write_text
from sharcs_pl.data.synthetic import graded_examples

RESULTS = Path("benchmarks/results/held_out")
FILES = ("metrics.json", "metrics.csv", "curve.csv")
ROWS = {"dense": ("method=dense",), "default": ()}
TRAIN, DEV = 4000, 1000
CORPORA = {"CoLA": (3,), "SST-2": (0,), "MRPC": (3, 4), "RTE": (1, 2), "STS-B": (7, 8)}  # columns of sentences
LIBRARIES = ("torch", "transformers", "numpy", "pandas", "sympy")
WORDS = (5, 40)  # of a sentence, fewest and most
WRONG = 0.2  # of the noisy labels


def corpora(glue: Path) -> list[tuple[str, str]]:
    """Return sentences and the task that each comes from."""
    found = {}
    for name, columns in CORPORA.items():
        with (glue / name / "train.tsv").open(encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file][1:]
        found[name] = [row[column] for row in rows if len(row) > max(columns) for column in columns]
    return balanced(found)


def docstrings(glue: Path) -> list[tuple[str, str]]:
    """Return first sentences of docstrings and the library that each comes from, whose name is taken out."""
    found = {}
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        hidden = re.compile(rf"\b\w*({'|'.join(LIBRARIES)})\w*\b", re.IGNORECASE)
        place = Path(spec.origin).parent
        files = [each for each in sorted(place.rglob("*.py")) if "test" not in str(each.relative_to(place))]
        found[name] = [hidden.sub("it", text) for path in files for text in first_sentences(path)]
    return balanced(found)


def first_sentences(path: Path) -> Iterator[str]:
    """Yield the first sentence of each docstring of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield " ".join(text.split("\n\n")[0].split()).split(". ")[0]


def noisy(glue: Path) -> list[tuple[str, str]]:
    """Return reviews and their sentiment, of which a fifth is wrong."""
    examples = graded_examples("train", size=TRAIN + DEV, seed=1)
    rng = random.Random(1)
    labels = [label ^ (rng.random() < WRONG) for label in examples.labels.tolist()]
    return [(text[0], ("negative", "positive")[label]) for text, label in zip(examples.texts, labels, strict=True)]


def balanced(found: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return as many distinct texts of each class, shuffled, none of which is in two classes."""
    rng, each, seen = random.Random(1), (TRAIN + DEV) // len(found), set()
    rows = []
    for label, texts in found.items():
        kept = []
        for text in rng.sample(texts, len(texts)):
            if text.lower() not in seen and WORDS[0] <= len(text.split()) <= WORDS[1] and text.isascii():
                seen.add(text.lower())
                kept.append((text.replace("\t", " "), label))
        assert len(kept) >= each, (label, len(kept))
        rows += kept[:each]
    return rng.sample(rows, len(rows))


MAKERS = {"corpora": corpora, "docstrings": docstrings, "noisy": noisy}


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write texts and labels as a table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("text", "label"), *rows])


def work(name: str, row: str, seed: int, glue: Path, runs: Path) -> None:
    """Train one run, and keep its figures."""
    data = runs / "data" / name
    if not (data / "dev.csv").exists():
        rows = MAKERS[name](glue)
        write(data / "train.csv", rows[:TRAIN])
        write(data / "dev.csv", rows[TRAIN : TRAIN + DEV])
    files = (f"task.train=$RUNS/data/{name}/train.csv", f"task.dev=$RUNS/data/{name}/dev.csv")
    words = ("task=custom", "encoder=minilm", *files, "task.text=text", "task.label=label", *ROWS[row], *CPU)
    place = f"{name}/{row}_{seed}"
    step = Step("train", (*words, f"seed={seed}", f"hydra.run.dir=$RUNS/{place}", "ckpt_path=last"))
    places = {"RUNS": runs}
    if not (runs / place / "metrics.json").exists():
        step.run(places)
    step.keep(runs / place, RESULTS / place, FILES, places)


def report() -> None:
    """Write and print the table of the runs that are done."""
    head = ["data set", "seed", "dense", "full width", "at the chosen point", "its cost, of dense", "budget", "rule"]
    lines = [head]
    for name in MAKERS:
        for path in sorted((RESULTS / name).glob("default_*/metrics.json")):
            seed = path.parent.name.rpartition("_")[2]
            found, beside = json.loads(path.read_text()), RESULTS / name / f"dense_{seed}" / "metrics.json"
            if beside.exists():
                dense, full = json.loads(beside.read_text())["routed"]["value"], found["rungs"][-1]["value"]
                point = found["routed"]
                lost = [f"{value:.4f} ({100 * (value - dense):+.2f})" for value in (full, point["value"])]
                cost = f"{point['macs_fraction']:.3f}"
                lines.append([name, seed, f"{dense:.4f}", *lost, cost, "0.5", found.get("rule", "router")])
    text = table(lines)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_text(RESULTS / "table.md", text)
    print(text)


def main() -> None:
    args = arguments(__doc__, "held_out", {"sets": MAKERS, "rows": ROWS}, seeds=(1,))
    if not args.report:
        print("libraries:", ", ".join(f"{name} {version(name)}" for name in LIBRARIES), flush=True)
        for name, row, seed in ((n, r, s) for n in args.sets for s in args.seeds for r in args.rows):
            if not (RESULTS / name / f"{row}_{seed}" / "run.json").exists():
                work(name, row, seed, args.glue, args.runs)
    report()


if __name__ == "__main__":
    main()
