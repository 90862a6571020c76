"""The search path of Hydra for the yamls of ``conf/``."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from sharcs_pl.config.checks import conf_dir


class OwnConf(SearchPathPlugin):
    """A plugin that adds the user's own yamls, such as ``conf/task/tickets.yaml`` in the working directory."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        folder = Path("conf").absolute()
        if folder.is_dir() and folder != conf_dir():
            search_path.append("own", f"file://{folder}")
