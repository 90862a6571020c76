"""Export a trained model: ``sharcs export run=runs/mine output=model.onnx``."""

from __future__ import annotations

from sharcs_pl.config.command_line import run_command
from sharcs_pl.config.export import ExportConfig
from sharcs_pl.pipeline.export import run


def main() -> None:
    """Run the command; a mistake is one line on stderr and exit code 2."""
    run_command("export", ExportConfig, run)


if __name__ == "__main__":
    main()
