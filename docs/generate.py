"""Write what the dataclasses and ``conf/`` already say: ``docs/configuration.md``.

``python docs/generate.py`` writes the page; with ``--check`` it writes nothing, names the page if it is stale and exits
with 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from sharcs_pl.config import COMMAND_SCHEMAS, RunConfig, conf_dir
from sharcs_pl.config.help import describe, show_default
from sharcs_pl.core.files import write_text

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = "docs/configuration.md"
# Groups that set keys of other groups, and so have no dataclass of their own.
COMPOUND = {
    "recipe": "The schedule and what goes with it, `default` unless another is chosen.",
    "experiment": "A whole run under one name.",
}
INTRO = """# Configuration

This page is written by `python docs/generate.py` from the dataclasses in `sharcs_pl/config` and the files under
`conf/`. Change those files, not this page.

Every setting is a Hydra key. A *group* is chosen by name (`group=choice`), and a *key* of a group is set with a dot
(`group.key=value`): `sharcs train task=mrpc optim.lr=3e-5`. Lists are quoted for the shell:
`'width.bounds=[[0.8,1],[0,0.8]]'`. `sharcs train --help` lists the groups, `sharcs train --cfg job` prints all values
without training, and `-m` runs every combination of values separated by commas. Your own files under `./conf/<group>/`
are further choices of that group.

```bash
sharcs train hydra.run.dir=runs/mine task.train_size=2000 \\
    'width.multipliers=[0.25,0.5,1]' 'width.bounds=[[0.9,1],[0.6,0.9],[0,0.6]]'
sharcs train -m trainer.max_epochs=4 task.train_size=1000 seed=1,2      # a sweep: one job per combination
```

Paths, column names and labels are taken as they are typed, including blanks, brackets, `=` and letters of any script.
A `~` at the beginning of a path is the home folder: `'task.train=~/data (1).csv' task.label=1`. With `-m` a comma
separates the values of a sweep. Several columns stand in brackets, `'task.text=[question,answer]'`, and a column with a
comma in its name stands in its own quotes, `'task.text="a,b"'`. `null` unsets an optional key; a column named `null` is
therefore written `'text=[null]'` for `sharcs predict`. In a quoted path `~` is not the home folder, and `"0.1"` is a
file, not a share.

A key takes its value from the last of these that sets it: the default below, the chosen file of the group, the recipe,
the experiment, the command line.

## Groups

"""
GROUPS = "| group | choices | what it is |\n|---|---|---|\n"
HEAD = "| key | default | meaning |\n|---|---|---|\n"
ENVIRONMENT = """## Environment variables

| variable | meaning |
|---|---|
| `SHARCS_CACHE` | Folder of tokenised texts; else `sharcs_pl` under `$XDG_CACHE_HOME` or `~/.cache`. |
| `HF_HUB_OFFLINE=1` | Use the Hugging Face cache only, and do not ask the hub. |
| `HYDRA_FULL_ERROR=1` | Show the traceback of an error instead of one line. |
| `MLFLOW_TRACKING_URI` | MLflow server, where `logger.tracking_uri` is null. |
| `OMP_NUM_THREADS` | Threads of torch; see [troubleshooting](troubleshooting.md#it-is-slow). |
"""


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    page, text = ROOT / CONFIGURATION, configuration()
    if _holds(page, text):
        return 0
    if "--check" in arguments:
        print(f"{CONFIGURATION} is stale: run python docs/generate.py", file=sys.stderr)
        return 1
    write_text(page, text)
    print(f"{CONFIGURATION} is written")
    return 0


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def configuration() -> str:
    """The page of every key and every choice."""
    sections = [section(name) for name in groups()]
    top = [row for row in describe(RunConfig) if "." not in row[0]]
    commands = [f"## `sharcs {name}`\n\n{HEAD}{table(describe(schema))}\n" for name, schema in COMMAND_SCHEMAS.items()]
    head = f"{INTRO}{GROUPS}{group_table()}\n"
    return "\n".join([head, *sections, f"## Keys without a group\n\n{HEAD}{table(top)}\n", *commands, ENVIRONMENT])


def groups() -> list[str]:
    """Config groups in the order of the dataclass, then those that set keys of several."""
    return [*schemas(), *COMPOUND]


def schemas() -> dict[str, type]:
    """The dataclass of each group."""
    found = {field.name: field.default_factory for field in fields(RunConfig)}
    return {name: made for name, made in found.items() if isinstance(made, type) and is_dataclass(made)}


def summary(group: str) -> str:
    """A group in one sentence."""
    if group in COMPOUND:
        return COMPOUND[group]
    return code((schemas()[group].__doc__ or "").splitlines()[0])


def choices(group: str) -> list[Path]:
    """The group's files by name, the default first."""
    chosen = default_choice(group)
    return sorted((conf_dir() / group).glob("*.yaml"), key=lambda path: (path.stem != chosen, path.stem))


def default_choice(group: str) -> str | None:
    """What ``conf/train.yaml`` picks; None where it picks nothing, or by task and encoder."""
    for entry in OmegaConf.load(conf_dir() / "train.yaml").defaults:
        if not isinstance(entry, str) and group in entry:
            return str(entry[group])
    return None


def section(group: str) -> str:
    """One group: its choices and its keys."""
    lines = [f"## {group}", "", summary(group), ""]
    lines += [f"- {choice(path, path.stem == default_choice(group))}" for path in choices(group)]
    if group in schemas():
        rows = [(f"{group}.{key}", default, text) for key, default, text in describe(schemas()[group])]
        lines += ["", HEAD + table(rows)]
    return "\n".join([*lines, ""])


def choice(path: Path, default: bool) -> str:
    """A file of a group: its name, what it is for, and what it sets."""
    text = path.read_text(encoding="utf-8")
    comment = " ".join(
        line.lstrip("# ") for line in text.splitlines() if line.startswith("#") and "@package" not in line
    )
    keys = ", ".join(f"`{key}={value}`" for key, value in leaves(OmegaConf.to_container(OmegaConf.create(text))))
    parts = [code(comment), f"Sets {keys}." if keys else ""]
    name = f"`{path.parent.name}={path.stem}`" + (" (default)" if default else "")
    return name + (": " if any(parts) else "") + " ".join(part for part in parts if part)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Keys and values of a parsed yaml as the command line takes them; of a file in a group, its own name left out."""
    for key, value in node.items():
        if key == "defaults":
            yield from _overridden(value)
        elif isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        elif prefix + key != "name" and value != "???":
            yield (prefix + key).removesuffix(".name"), show_default(value).replace(" ", "")


def _overridden(defaults: list[Any]) -> Iterator[tuple[str, str]]:
    for entry in defaults:
        if isinstance(entry, dict):
            yield from ((name.removeprefix("override /"), str(value)) for name, value in entry.items())


def table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Rows of a table of keys."""
    return "\n".join(f"| `{key}` | {_default(default)} | {code(text)} |" for key, default, text in rows)


def _default(text: str) -> str:
    return "required" if text == "???" else f"`{text}`"


def code(text: str) -> str:
    """Help text as Markdown: code in single backticks, and nothing in it that ends a cell or begins a tag."""
    parts = text.replace("``", "`").replace("|", "\\|").split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def group_table() -> str:
    """The rows of the table of groups."""
    return "\n".join(f"| `{name}` | {_names(name)} | {summary(name)} |" for name in groups())


def _names(group: str) -> str:
    return " ".join(f"`{path.stem}`" for path in choices(group))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
