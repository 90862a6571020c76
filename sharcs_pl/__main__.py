"""Entry point of ``sharcs <command> …``, which runs ``python -m sharcs_pl.<command> …``."""

from __future__ import annotations

import os
import sys

COMMANDS = {
    "train": "train a model and print what routing gained and what it cost",
    "evaluate": "evaluate a trained model again, predict a test set, compare two runs",
    "predict": "answer the texts of a file or a pipe with a trained model",
    "serve": "answer texts over HTTP with a trained model",
    "calibrate": "set the budget of a trained model: a cost, a latency or a largest drop in accuracy",
    "export": "write a trained model as one file for onnxruntime or torch",
    "cli": "Lightning's own command line: fit, validate, test, predict, with --config and --help",
    "bench": "measure the speed of a trained model, or of a shape, beside what its multiply-adds promise",
    "reorder": "put an encoder's important heads and neurons first, where narrow widths find them",
    "report": "compare finished runs: accuracy against compute, in figures, tables and one page",
}


def main() -> None:
    """Replace this process by the command's. It is not called, since Hydra reads the overrides from ``sys.argv`` and
    Lightning relaunches its ranks from it."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: sharcs <command> [key=value …]\n\ncommands:")
        print("\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items()))
        raise SystemExit(0 if len(sys.argv) > 1 else 2)
    command, *overrides = sys.argv[1:]
    if command not in COMMANDS:
        print(f"error: unknown command {command!r}; choose one of: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    os.execv(sys.executable, [sys.executable, "-m", f"sharcs_pl.{command}", *overrides])


if __name__ == "__main__":
    main()
