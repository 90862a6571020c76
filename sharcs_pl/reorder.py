"""Put important heads and neurons first: ``sharcs reorder run=runs/mrpc-dense output=encoders/mrpc``."""

from __future__ import annotations

from typing import Any

from sharcs_pl.config.command_line import run_command
from sharcs_pl.config.reorder import ReorderConfig
from sharcs_pl.pipeline.console import silence_libraries
from sharcs_pl.runs.outputs import check_output_folder
from sharcs_pl.runs.reordering_inputs import FILE, OWN, find


def main() -> None:
    """Run the command; a mistake is one line on stderr and exit code 2."""
    run_command("reorder", ReorderConfig, run)


def run(config: ReorderConfig) -> dict[str, Any]:
    """Measure, reorder, check, save and print; return the contents of ``reorder.json``."""
    output = check_output_folder(config.output, FILE, config.overwrite, OWN)
    found = find(config)
    silence_libraries()
    from sharcs_pl.pipeline.reordering import reorder_encoder

    return reorder_encoder(config, found, output)


if __name__ == "__main__":
    main()
