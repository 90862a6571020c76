"""The keys of ``sharcs export``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.evaluate import DataPaths, EvaluateConfig
from sharcs_pl.config.texts import PATH

OLDEST_OPSET = 18  # the oldest version that the exporter has operators for


@dataclass
class QuantizeOptions:
    """Options of ``precision=int8``."""

    max_drop: float = 0.01
    """Largest drop of the task's metric against float32 on the validation texts; above it nothing is written."""
    texts: int = 300
    """Number of training texts that calibrate the ranges of activations."""
    skip: list[str] = field(default_factory=list)
    """Parts that stay in float32: ``trunk``, or widths such as ``0.25``."""

    def __post_init__(self) -> None:
        in_range("quantize.texts", self.texts, 1)
        if not 0 <= self.max_drop <= 1:
            raise ValueError(f"quantize.max_drop={self.max_drop} must lie between 0 and 1")


@dataclass
class ExportConfig:
    """Export a trained model to another runtime or to stock transformers, and check it against the model itself."""

    run: str = field(default=MISSING, metadata=PATH)
    """Run directory, checkpoint, or saved model folder."""
    format: str = "onnx"
    """``onnx``; ``hub``, a folder with the ONNX graph as transformers.js reads it; ``torch``, a
    ``torch.export`` program, which loads without this package; ``transformers``, the widest sub-network (or last exit)
    as an ordinary checkpoint; or ``parts``, a folder of graphs that ``RoutedPredictor`` and ``sharcs predict`` run in
    another runtime."""
    output: str = field(default=MISSING, metadata=PATH)
    """File to write, such as ``model.onnx`` or ``model.pt2``; a folder for ``hub``, ``transformers`` and
    ``parts``."""
    rung: str | None = None
    """Export a single sub-network, given by its index (0 is the narrowest) or its width with a point or a slash (0.25,
    1/3, 1.0); null: every rung, behind the router. ``transformers`` takes only the widest."""
    opset: int | None = None
    """Version of ONNX's operators, at least 18; null: the exporter's default."""
    backend: str | None = None
    """Runtime of ``parts``: ``openvino`` or ``onnxruntime``; null: ``openvino``."""
    precision: str = "float32"
    """Precision of ``parts``: ``float32`` (which OpenVINO also runs in ``bfloat16``) or ``int8``."""
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    task: DataPaths = field(default_factory=DataPaths)
    seed: int = 1
    """Seed of the draw of ``quantize.texts``."""
    overwrite: bool = False
    """Replace an existing ``output``."""

    def __post_init__(self) -> None:
        one_of("format", self.format, ("onnx", "hub", "torch", "transformers", "parts"))
        self._check_parts()
        if self.opset is not None and self.format not in ("onnx", "hub"):
            raise ValueError(f"opset={self.opset} is for format=onnx and hub; leave it out")
        if self.opset is not None and self.opset < OLDEST_OPSET:
            raise ValueError(f"opset={self.opset} is too old; give {OLDEST_OPSET} or later")

    def _check_parts(self) -> None:
        one_of("backend", self.backend, ("openvino", "onnxruntime"))
        one_of("precision", self.precision, ("float32", "int8"))
        in_range("seed", self.seed, 0, 2**32 - 1)
        if self.format == "parts" and self.rung is not None:
            raise ValueError(f"rung={self.rung}: parts hold every width; leave it out")
        for name, value in vars(self.quantize).items():
            if not self.quantized and value != getattr(QuantizeOptions(), name):
                raise ValueError(
                    f"quantize.{name}={value} is for format=parts precision=int8; leave it out, or add them"
                )
        if self.format == "parts":
            return
        for key, given in (("backend", self.backend), ("precision", self.precision if self.quantized else None)):
            if given is not None:
                raise ValueError(f"{key}={given} is for format=parts; add it, or leave {key} out")

    def evaluation(self) -> EvaluateConfig:
        """Return the evaluation config that reads the texts."""
        return EvaluateConfig(run=self.run, task=self.task)

    @property
    def quantized(self) -> bool:
        """True for parts of int8."""
        return self.precision == "int8"

    @property
    def runtime(self) -> str:
        """The runtime of the parts."""
        return self.backend or "openvino"
