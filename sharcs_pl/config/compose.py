"""Composing the yamls of ``conf/``, and those of the user's own ``conf/``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.version import VersionBase
from omegaconf import DictConfig

from sharcs_pl.config.checks import conf_dir
from sharcs_pl.config.overrides import override


class OwnConf(SearchPathPlugin):
    """A plugin that adds the user's own yamls, such as ``conf/task/tickets.yaml`` in the working directory."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        folder = own_conf()
        if folder is not None:
            search_path.append("own", f"file://{folder}")


def own_conf() -> Path | None:
    """Return the folder of the user's own yamls, None where there is none."""
    folder = Path("conf").absolute()
    return folder if folder.is_dir() and folder != conf_dir() else None


def composed(name: str, schema: type, overrides: Sequence[str], store: str | None = None) -> DictConfig:
    """Return the config ``name`` with overrides and Hydra's own keys; Hydra is left as it was found."""
    ConfigStore.instance().store(name=store or f"{name}_schema", node=schema)
    with _other_hydra(), initialize_config_dir(str(conf_dir()), name, version_base="1.3"):
        return compose(name, overrides=list(overrides), return_hydra_config=True)


def composed_training(schema: type, overrides: Sequence[str]) -> DictConfig:
    """Return the config of ``sharcs train``, the user's own yamls included, with Hydra's own keys."""
    folder = own_conf()
    own = [] if folder is None else [override("hydra.searchpath", [f"file://{folder}"])]
    return composed("train", schema, [*own, *overrides], store="run_schema")


@contextmanager
def _other_hydra() -> Iterator[None]:
    """Set aside the Hydra of an application or a notebook that calls this package."""
    hydra, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = hydra
        VersionBase.instance().version_base = base
