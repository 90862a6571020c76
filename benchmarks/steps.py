"""Commands of sharcs_pl as steps of a benchmark that can be cut between any two of them and goes on where it was."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
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
