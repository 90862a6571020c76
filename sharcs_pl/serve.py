"""Answer texts over HTTP with a trained model: ``sharcs serve run=runs/mine port=8000``."""

from __future__ import annotations

import importlib.util
import socket

from sharcs_pl.config.command_line import run_command
from sharcs_pl.config.serve import ServeConfig
from sharcs_pl.inference.trained import open_trained
from sharcs_pl.server.offer import make_offer


def main() -> None:
    """Run the command. The exit code is 0 after SIGTERM or Ctrl-C, or 143 and 130 while the model still loads, 2 for a
    mistake, which is one line on stderr, and 1 when a process of the server has ended by itself."""
    run_command("serve", ServeConfig, run)


def run(config: ServeConfig) -> None:
    """Check everything that can be known before the model is loaded, then serve."""
    check_port(config)
    source = open_trained(config.run, record_needed=False)
    offer = make_offer(source, config)
    check_extra()
    from sharcs_pl.server.app import serve

    serve(source, config, offer)


def check_extra() -> None:
    """Raise ``ValueError`` unless the packages of the extra are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("litserve", "prometheus_client")):
        raise ValueError("this command needs a package that is not installed: pip install 'sharcs-pl[serve]'")


def check_port(config: ServeConfig) -> None:
    """Raise ``ValueError`` where the port is taken, or the address is not one of this machine."""
    with socket.socket(socket.AF_INET6 if ":" in config.host else socket.AF_INET) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            tried.bind((config.host, config.port))
        except OSError as error:
            raise ValueError(f"port={config.port} cannot be used on host={config.host}: {error.strerror}") from error


if __name__ == "__main__":
    main()
