"""The earlier names of the yamls in ``conf/``."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

from sharcs_pl.config.checks import conf_dir
from sharcs_pl.core.renamed import EARLIER_TASKS


def earlier_choices() -> dict[str, dict[str, str]]:
    """The present name of each earlier choice, by group."""
    recipes = [path.stem for path in (conf_dir() / "recipe").glob("*_*.yaml")]
    pairs = [(old, new, name) for old, new in EARLIER_TASKS.items() for name in recipes if name.startswith(f"{new}_")]
    return {"task": EARLIER_TASKS, "recipe": {name.replace(new, old, 1): name for old, new, name in pairs}}


def store_earlier_choices() -> None:
    """Let Hydra find the yamls under their earlier names too, wherever one is typed or stands in a yaml."""
    for group, names in earlier_choices().items():
        for old, new in names.items():
            package = "_global_" if group == "recipe" else None
            ConfigStore.instance().store(old, {"defaults": [new]}, group, package)
