"""The keys of ``sharcs export``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.evaluate import DataPaths, EvaluateConfig
from sharcs_pl.config.texts import PATH

OLDEST_OPSET = 18  # the oldest version that the exporter has operators for
FIRST_SEED = 1


@dataclass
class QuantizeOptions:
    """Options of ``precision=int8``."""

    max_drop: float = 0.01
    """Largest drop of the task's metric against float32 on the validation texts; above it nothing is written."""
    texts: int = 300
    """``parts``: number of training texts that calibrate the ranges of activations."""
    skip: list[str] = field(default_factory=list)
    """What stays in float32: ``trunk``, the layers before the router; in ``parts`` also widths such as ``0.25``."""

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
    """``float32``, or ``int8`` for ``parts``, ``onnx`` and ``hub``, where it adds a file. OpenVINO also runs
    ``float32`` parts in ``bfloat16``."""
    quantize: QuantizeOptions = field(default_factory=QuantizeOptions)
    task: DataPaths = field(default_factory=DataPaths)
    seed: int = FIRST_SEED
    """Seed of the draw of ``quantize.texts``."""
    overwrite: bool = False
    """Replace an existing ``output``."""

    def __post_init__(self) -> None:
        one_of("format", self.format, ("onnx", "hub", "torch", "transformers", "parts"))
        self._check_parts()
        self._check_quantization()
        self._check_texts()
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
        if self.format != "parts" and self.backend is not None:
            raise ValueError(f"backend={self.backend} is for format=parts; add it, or leave backend out")

    def _check_quantization(self) -> None:
        if self.quantized and self.format in ("torch", "transformers"):
            raise ValueError(
                f"precision={self.precision} is for format=parts, onnx and hub; add one of them, or leave it out"
            )
        for name, value in vars(self.quantize).items():
            if not self.quantized and value != getattr(QuantizeOptions(), name):
                raise ValueError(f"quantize.{name}={value} is for precision=int8; leave it out, or add that")
        if not self.quantized or self.format == "parts":
            return
        if self.quantize.texts != QuantizeOptions().texts:
            raise ValueError(
                f"quantize.texts={self.quantize.texts} is for format=parts; in one graph each batch gives its own "
                "ranges, leave it out"
            )
        widths = [name for name in self.quantize.skip if name != "trunk"]
        if widths:
            raise ValueError(
                f"quantize.skip names {widths[0]}; the widths of one graph share their weights, so that only trunk "
                "may stay in float32"
            )

    def _check_texts(self) -> None:
        if self.seed != FIRST_SEED and not (self.quantized and self.format == "parts"):
            raise ValueError(
                f"seed={self.seed} draws the texts of format=parts precision=int8; leave it out, or add both"
            )
        given = [name for name, value in vars(self.task).items() if value is not None]
        if given and not self.quantized:
            raise ValueError(f"task.{given[0]} is for precision=int8, which reads texts; leave it out, or add that")

    def evaluation(self) -> EvaluateConfig:
        """Return the evaluation config that reads the texts."""
        return EvaluateConfig(run=self.run, task=self.task)

    @property
    def quantized(self) -> bool:
        """True for an export in int8."""
        return self.precision == "int8"

    @property
    def runtime(self) -> str:
        """The runtime of the parts."""
        return self.backend or "openvino"
