"""``sharcs <command> …``: the same as ``python -m sharcs_pl.<command> …``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {"train": "train a model and print what routing gained and what it cost"}


def main() -> None:
    """Hand over to a command; ``sys.argv`` stays as typed, since Lightning relaunches ranks from it."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: sharcs <command> [key=value …]\n\ncommands:")
        print("\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items()))
        raise SystemExit(0 if len(sys.argv) > 1 else 2)
    if sys.argv[1] not in COMMANDS:
        print(f"error: unknown command {sys.argv[1]!r}; choose one of: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(2)
    importlib.import_module(f"sharcs_pl.{sys.argv[1]}").main()


if __name__ == "__main__":
    main()
