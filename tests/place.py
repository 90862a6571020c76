"""A working directory in which commands are typed, and whose torch tells when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sharcs_pl.config.errors import LONGEST_MESSAGE
from tests.commands import run_line

OWN = "task=custom task.train=a.csv task.dev=b.csv task.text=review task.label=stars"
OWN += " encoder=custom encoder.pretrained=enc"
GOOD = "review,stars\n" + "".join(f"text {i},{'good' if i % 2 else 'bad'}\n" for i in range(8))
RECORD = {
    "task": {"name": "own", "dev": "b.csv", "test": "c.csv", "text": "review", "label": "stars", "labels": ["a", "b"]},
    "encoder": {"name": "custom", "pretrained": "enc"},
    "method": {"name": "sharcs"},
}
MRPC = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


class Place:
    """A working directory with an encoder, own files and a torch that tells when it is imported."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = path.parent / "torch was imported"
        stub = path.parent / "stub"
        stub.mkdir()
        (stub / "torch.py").write_text(f"open({str(self.mark)!r}, 'w').close(); raise SystemExit('torch')\n")
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(stub), str(Path.cwd())])}
        self.environment |= {"SHARCS_CACHE": str(path.parent / "cache"), "COLUMNS": "80"}
        self.encoder()
        for name in ("a.csv", "b.csv"):
            self.write(name, GOOD)
        self.write("glue/train.tsv", MRPC + "1\t1\t2\ta text\tanother\n" * 3)
        self.write("glue/dev.tsv", MRPC + "0\t1\t2\ta text\tanother\n" * 3)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def write_all(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            self.write(name, content)

    def encoder(self, **changes: object) -> None:
        """A folder that looks like a BERT of 3 layers and 4 heads."""
        sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}
        config = {"model_type": "bert", "max_position_embeddings": 512} | sizes | changes
        self.write("enc/config.json", json.dumps(config))
        self.write("enc/tokenizer.json", "{}")
        save_file({"weight": np.zeros(8, np.float32)}, self.path / "enc" / "model.safetensors")

    def files(self) -> dict[str, bytes]:
        found = sorted(self.path.rglob("*"))
        return {str(path.relative_to(self.path)): path.read_bytes() if path.is_file() else b"" for path in found}

    def type(self, line: str, command: str = "train", *, start: bool = False, **environment: str) -> Answer:
        """What the line answers, in a fork of the server of `tests.commands`, or with ``start`` in a new Python."""
        words = [f"sharcs_pl.{command}", *line.split(" ")]
        env = self.environment | environment
        if start:
            done = subprocess.run(
                [sys.executable, "-m", *words], cwd=self.path, env=env, capture_output=True, text=True, timeout=240
            )
        else:
            done = run_line(words, cwd=self.path, env=env, timeout=240)
        return Answer(done.returncode, done.stdout, done.stderr)

    def refuse(self, line: str, *pieces: str, command: str = "train", start: bool = False, **environment: str) -> None:
        """The line must end in one clear error that holds the pieces, and leave everything as it was."""
        before = self.files()
        answer = self.type(line, command, start=start, **environment)
        assert answer.code == 2, answer
        assert answer.out == ""
        assert answer.err.startswith("error: "), answer.err
        assert answer.err.count("\n") == 1, answer.err
        assert len(answer.err) <= LONGEST_MESSAGE + len("error: \n")
        assert not [piece for piece in pieces if piece not in answer.err], answer.err
        assert self.files() == before
        assert not self.mark.exists()
