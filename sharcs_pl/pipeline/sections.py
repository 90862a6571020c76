"""The typed sections of the Lightning command line: where a Hydra key stands in them, and the presets beneath them.

The module loads no Lightning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from sharcs_pl.config import RunConfig, conf_dir
from sharcs_pl.config.compose import OwnConf
from sharcs_pl.config.plain import run_from_plain
from sharcs_pl.inference.trained import open_trained

EVALUATIONS = ("validate", "test", "predict")
SUBCOMMANDS = ("fit", *EVALUATIONS)
# Where the groups and keys of a RunConfig stand in the typed sections; those not named here are the model's.
_SECTIONS = {
    "task": "data.task",
    "batch_size": "data.batch_size",
    "eval_batch_size": "data.eval_batch_size",
    "trainer": "trainer",
    "checkpoint": "checkpoint",
    "logger": "logger",
    "overwrite": "overwrite",
    "objective": "objective",
    "ckpt_path": "ckpt_path",
    "seed": "seed_everything",
}
# What else the other commands' messages name, and what it is here.
_WORDS = {
    "hydra.run.dir": "trainer.default_root_dir",
    "run": "ckpt_path",
    "recipe": "preset.recipe",
    "experiment": "preset.experiment",
}


def groups() -> dict[str, type]:
    """Return the dataclass of each group of a RunConfig."""
    made = {field.name: field.default_factory for field in fields(RunConfig)}
    return {name: factory for name, factory in made.items() if isinstance(factory, type) and is_dataclass(factory)}


def place(name: str) -> str:
    """Return the place of a group, or of a key without one: ``optim`` -> ``model.optim``, ``task`` -> ``data.task``."""
    return _SECTIONS.get(name, f"model.{name}")


def typed(message: str) -> str:
    """Return a message about Hydra's keys in the words of this command."""
    names = "|".join(map(re.escape, [*groups(), *_WORDS, "batch_size", "eval_batch_size", "seed"]))

    def words(found: re.Match[str]) -> str:
        name, after = found.groups()
        here = f"preset.{name}" if after == "=" and name in groups() else _WORDS.get(name) or place(name)
        return here + after

    return re.sub(rf"(?<![\w./-])({names})([.=])", words, message)


def to_sections(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config of Hydra's keys as values of the dotted keys of the typed sections."""
    found = {}
    for name, value in config.items():
        rows = {f".{key}": inner for key, inner in value.items()} if name in groups() else {"": value}
        found |= {place(name) + key: inner for key, inner in rows.items()}
    found.pop("ckpt_path")  # an argument of the subcommand, which knows no presets
    return found


def from_sections(values: dict[str, Any]) -> RunConfig:
    """Return the checked config of parsed sections, without the arguments of Lightning's trainer that it lacks."""
    plain: dict[str, Any] = {}
    for field in fields(RunConfig):
        found: Any = values
        for part in place(field.name).split("."):
            found = found[part]
        plain[field.name] = found
    known = {field.name for field in fields(groups()["trainer"])}
    plain["trainer"] = {key: value for key, value in plain["trainer"].items() if key in known}
    devices = plain["trainer"]["devices"]
    if isinstance(devices, str):  # as Lightning's types read the 2 of a command line
        plain["trainer"]["devices"] = read_yaml(devices, "trainer.devices")
    return run_from_plain(plain)


def preset_config(choices: dict[str, str]) -> dict[str, Any]:
    """Compose Hydra's config of a choice per group, with the pair's recipe, unchecked as keys may be typed yet."""
    overrides = [f"{group}={choice}" for group, choice in choices.items()]
    Plugins.instance().register(OwnConf)
    ConfigStore.instance().store(name="run_schema", node=RunConfig)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        plain: Any = OmegaConf.to_container(compose("train", overrides=overrides), resolve=True)
    return plain


def base_config(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the config below the typed keys: the presets, or for an evaluation the config of its checkpoint."""
    subcommand = next((word for word in arguments if word in SUBCOMMANDS), None)
    given = peek(arguments, subcommand)
    if subcommand in EVALUATIONS and given["ckpt_path"]:
        trained: dict[str, Any] = asdict(open_trained(str(given["ckpt_path"])).config)
        trained["overwrite"] = False
        trained["trainer"]["limit_val_batches"] = None  # a quick training is evaluated in full
        return trained
    return preset_config(given["preset"])


def peek(arguments: Sequence[str], subcommand: str | None) -> dict[str, Any]:
    """Return ``preset`` and ``ckpt_path`` as the files and the command line give them, later beating earlier."""
    found: dict[str, Any] = {"preset": {}, "ckpt_path": None}
    for content in map(_content, arguments, [*arguments[1:], ""]):
        content = content.get(subcommand or "", content)
        preset = content.get("preset") or {}
        if not isinstance(preset, dict):
            raise ValueError(f"preset={preset} must name a choice per group, such as preset.task=cola")
        found["preset"] |= preset
        found["ckpt_path"] = content.get("ckpt_path", found["ckpt_path"])
    return found


def _content(word: str, after: str) -> dict[str, Any]:
    """Return the settings of an argument: a file's content, or a preset or checkpoint of the command line."""
    option, equals, value = word.partition("=")
    value = value if equals else after
    if option in ("-c", "--config") and Path(value).is_file():
        return _read_yaml(Path(value))
    if option.startswith("--preset."):
        return {"preset": {option.removeprefix("--preset."): value}}
    if option == "--preset":
        return {"preset": read_yaml(value, "preset")}
    return {"ckpt_path": value} if option == "--ckpt_path" else {}


def read_yaml(text: str, name: str) -> Any:
    """Parse the text. Raise ``ValueError`` naming the argument that it was given as."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"--{name} is no yaml: {error}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"--config={path} is no yaml: {error}") from error
    content = read_yaml(text, f"config={path}") or {}
    if not isinstance(content, dict):
        raise ValueError(f"--config={path} holds no keys")
    return content
