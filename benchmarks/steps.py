"""Commands of sharcs_pl as steps of a benchmark that can be cut between any two of them and goes on where it was."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

HAS_BFLOAT16 = torch.cpu.get_capabilities().get("avx512_bf16", False)  # else bf16 is emulated, 13 times as slow
PRECISION = ("trainer.precision=bf16-mixed", "encoder.attn_implementation=eager") if HAS_BFLOAT16 else ()
CPU = (*PRECISION, "trainer.enable_progress_bar=false")
FOLDERS = {"mrpc": "MRPC", "sst2": "SST-2"}


@dataclass(frozen=True)
class Step:
    """``sharcs <command> <words>``; in the words ``$RUNS``, ``$GLUE`` and the like stand for places."""

    command: str
    words: tuple[str, ...]

    def run(self, places: Mapping[str, Path]) -> None:
        """Run it in a process of its own; ``CalledProcessError`` when it fails."""
        words = [place_in(word, places) for word in self.words]
        subprocess.run([sys.executable, "-m", f"sharcs_pl.{self.command}", *words], check=True)

    def keep(self, source: Path, target: Path, names: Iterable[str], places: Mapping[str, Path]) -> None:
        """Copy those of its files that are there, and write ``run.json``: the command and the machine."""
        target.mkdir(parents=True, exist_ok=True)
        for file in (source / name for name in names if (source / name).exists()):
            if file.suffix == ".json":  # where the places are here is nobody's business
                (target / file.name).write_text(named(file.read_text(), places))
            else:
                shutil.copy(file, target / file.name)
        record = {"command": " ".join(["sharcs", self.command, *self.words]), "machine": machine()}
        (target / "run.json").write_text(json.dumps(record, indent=2) + "\n")


def place_in(word: str, places: Mapping[str, Path]) -> str:
    """The word with places for their names."""
    for name, place in places.items():
        word = word.replace(f"${name}", str(place))
    return word


def named(text: str, places: Mapping[str, Path]) -> str:
    """The text with names for the places, the deepest first."""
    for name, place in sorted(places.items(), key=lambda item: -len(str(item[1]))):
        text = text.replace(str(place), f"${name}")
    return text


def machine() -> dict[str, Any]:
    """What a benchmark is made on."""
    return {
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": sys.version.split()[0],
    }


def arguments(
    description: str | None,
    name: str,
    lists: Mapping[str, Iterable[str]],
    seeds: Sequence[int] = (),
    texts: Mapping[str, tuple[str, str]] | None = None,
) -> Any:
    """Read a benchmark's command line: ``--glue``, ``--runs`` (``runs/<name>``), ``--report``, an option for each of
    ``lists``, of which all are taken by default, ``--seeds`` where some are given, and ``texts`` with their default and
    help. Before a training it prints the
    command and the machine."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--glue", type=Path, help="folder with MRPC/, SST-2/, …; needed to train")
    parser.add_argument("--runs", type=Path, default=Path("runs", name), help="where the run directories go")
    for option, choices in lists.items():
        parser.add_argument(f"--{option}", nargs="*", default=list(choices), choices=list(choices))
    if seeds:
        parser.add_argument("--seeds", nargs="*", type=int, default=list(seeds))
    for option, (default, words) in (texts or {}).items():
        parser.add_argument(f"--{option}", default=default, help=words)
    parser.add_argument("--report", action="store_true", help="make the tables from the kept files and train nothing")
    args = parser.parse_args()
    if not args.report:
        if args.glue is None:
            parser.error("give --glue, the folder with MRPC/, SST-2/, …, or --report")
        print("command:", shlex.join(sys.argv), "machine:", machine(), flush=True)
        args.glue, args.runs = args.glue.resolve(), args.runs.resolve()
    return args


def table(lines: Sequence[Sequence[str]]) -> str:
    """A table of Markdown, whose first line is its head."""
    head, *rows = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows)) + "\n"
