"""The keys of ``sharcs export``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import one_of
from sharcs_pl.config.texts import PATH

OLDEST_OPSET = 18  # the oldest version that the exporter has operators for


@dataclass
class ExportConfig:
    """Export a trained model to another runtime or to stock transformers, and check it against the model itself."""

    run: str = field(default=MISSING, metadata=PATH)
    """Run directory, checkpoint, or saved model folder."""
    format: str = "onnx"
    """``onnx``; ``torch``, a ``torch.export`` program, which loads without this package; or ``transformers``, the
    widest sub-network (or last exit) as an ordinary checkpoint."""
    output: str = field(default=MISSING, metadata=PATH)
    """File to write, such as ``model.onnx`` or ``model.pt2``; a folder for ``transformers``."""
    rung: str | None = None
    """Export a single sub-network, given by its index (0 is the narrowest) or its width with a point or a slash (0.25,
    1/3, 1.0); null: every rung, behind the router. ``transformers`` takes only the widest."""
    opset: int | None = None
    """Version of ONNX's operators, at least 18; null: the exporter's default."""
    overwrite: bool = False
    """Replace an existing ``output``."""

    def __post_init__(self) -> None:
        one_of("format", self.format, ("onnx", "torch", "transformers"))
        if self.opset is not None and self.format != "onnx":
            raise ValueError(f"opset={self.opset} is for format=onnx; leave it out")
        if self.opset is not None and self.opset < OLDEST_OPSET:
            raise ValueError(f"opset={self.opset} is too old; give {OLDEST_OPSET} or later")
