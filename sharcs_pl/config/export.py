"""The keys of ``sharcs export``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import one_of
from sharcs_pl.config.texts import PATH

OLDEST_OPSET = 18  # of the operators that the exporter has


@dataclass
class ExportConfig:
    """Write a trained model for another runtime, or for stock transformers, checked against the model itself."""

    run: str = field(default=MISSING, metadata=PATH)
    """A run directory, a checkpoint, or a saved model folder."""
    format: str = "onnx"
    """``onnx``; ``torch``: a program of ``torch.export``, which loads where this package is not installed; or
    ``transformers``: the widest sub-network (of early exits: the last one) as an ordinary checkpoint."""
    output: str = field(default=MISSING, metadata=PATH)
    """The file to write, such as ``model.onnx`` or ``model.pt2``; a folder for ``transformers``."""
    rung: str | None = None
    """One sub-network alone: its index (0 is the narrowest) or its width with a point or a slash (0.25, 1/3, 1.0);
    null: every rung, behind the router. ``transformers`` takes the widest alone."""
    opset: int | None = None
    """Version of ONNX's operators, at least 18; null: the exporter's own."""
    overwrite: bool = False
    """Replace ``output`` if it is there."""

    def __post_init__(self) -> None:
        one_of("format", self.format, ("onnx", "torch", "transformers"))
        if self.opset is not None and self.format != "onnx":
            raise ValueError(f"opset={self.opset} is for format=onnx; leave it out")
        if self.opset is not None and self.opset < OLDEST_OPSET:
            raise ValueError(f"opset={self.opset} is too old; give {OLDEST_OPSET} or later")
