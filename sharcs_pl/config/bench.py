"""The keys of ``sharcs bench``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.evaluate import DataPaths
from sharcs_pl.config.texts import PATH, TEXTS

PRECISIONS = ("float32", "bfloat16", "int8")
BACKENDS = ("torch", "openvino", "onnxruntime")
SHAPES = ("minilm", "roberta_base", "tiny")


# Sizes of the encoders that a benchmark builds without a trained model.
SIZES: dict[str, dict[str, int]] = {
    "minilm": {"hidden_size": 384, "num_layers": 6, "num_heads": 12, "intermediate_size": 1536},
    "roberta_base": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072},
    "tiny": {"hidden_size": 64, "num_layers": 4, "num_heads": 4, "intermediate_size": 256},
}


@dataclass
class BenchWidth:
    """The ladder of an encoder without ``run``."""

    multipliers: list[Any] = field(default_factory=lambda: [0.25, 1.0])
    """Without ``run``: widths from narrow to full."""
    split_layer: int = 3
    """Without ``run``: full-width layers before the router."""


@dataclass
class BenchConfig:
    """Measure the speed-up of routing and compare it with the savings in multiply-adds."""

    run: str | None = field(default=None, metadata=PATH)
    """Run directory or saved model folder, measured with its router on its validation texts; null: random weights."""
    dense: str | None = field(default=None, metadata=PATH)
    """Run of ``method=dense`` to compare with; null: the stock model of ``run``'s encoder, at full width."""
    point: list[str] = field(default_factory=lambda: ["trained"], metadata=TEXTS)
    """Operating points to measure, with ``run`` only."""
    shape: str = "minilm"
    """Without ``run``: sizes of the encoder, ``minilm``, ``roberta_base`` or ``tiny``."""
    width: BenchWidth = field(default_factory=BenchWidth)
    shares: list[float] = field(default_factory=lambda: [0.75])
    """Without ``run``: shares of the samples, drawn at random, that run at the narrowest width."""
    length: int = 128
    """Without ``run``: tokens of every sample."""
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8, 32, 128])
    """Samples per batch."""
    samples: int = 256
    """Samples per pass, at least one batch, drawn with the seed from the validation texts."""
    order: list[str] = field(default_factory=lambda: ["given"])
    """``given``: batches in the order of the samples, padded to the longest; ``sorted``: batches by length. All
    variants get the same batches."""
    modes: list[str] = field(default_factory=lambda: ["batch", "stream"])
    """``batch`` finishes each batch at once; ``stream`` fills narrow and wide groups across batches."""
    repeats: int = 11
    """Rounds, in each of which every variant runs once, in a newly drawn order."""
    warmup: int = 2
    """Unmeasured rounds at the start."""
    threads: int | None = None
    """Threads of torch and of ``backends``; null: their own default."""
    precision: str = "float32"
    """``float32`` or ``bfloat16``, for all variants."""
    compile: bool = False
    """Also measure the engine under ``torch.compile``."""
    shared_slices: bool = False
    """Also measure the engine without contiguous copies of the narrow weights."""
    onnx: bool = False
    """Also measure the exported graph in onnxruntime (extra ``[onnx]``)."""
    backends: list[str] = field(default_factory=list)
    """Also measure the dense model and the routed one in ``openvino``, ``onnxruntime`` and ``torch`` (which adds
    ``bfloat16``; float32 in torch is always measured)."""
    precisions: list[str] = field(default_factory=lambda: ["float32"])
    """Precisions of ``backends``, each where a backend has it: ``float32``, ``bfloat16``, ``int8``."""
    max_drop: float = 0.01
    """With ``run``: largest drop of the metric against the stock model for a variant to enter the headline."""
    device: str = "cpu"
    """``cpu`` or ``cuda``."""
    seed: int = 1
    """Seed of the samples, the weights and the order of the variants."""
    task: DataPaths = field(default_factory=DataPaths)
    output: str | None = field(default=None, metadata=PATH)
    """Folder for ``bench.json``, ``table.txt`` and ``speedup.png``; null: nothing is written."""

    def __post_init__(self) -> None:
        one_of("shape", self.shape, SHAPES)
        one_of("precision", self.precision, ("float32", "bfloat16"))
        one_of("device", self.device, ("cpu", "cuda"))
        for name, allowed in (("order", ("given", "sorted")), ("modes", ("batch", "stream"))):
            for value in getattr(self, name):
                one_of(name, value, allowed)
        for name, known in (("backends", BACKENDS), ("precisions", PRECISIONS)):
            for value in getattr(self, name):
                one_of(name, value, known)
            setattr(self, name, list(dict.fromkeys(getattr(self, name))))
        in_range("max_drop", self.max_drop, 0, 1)
        if self.backends and self.device == "cuda":
            raise ValueError("backends runs on the CPU; leave it out with device=cuda")
        for name in ("length", "samples", "repeats"):
            in_range(name, getattr(self, name), 1)
        in_range("warmup", self.warmup, 0)
        for size in self.batch_sizes:
            in_range("batch_sizes", size, 1)
        for share in self.shares:
            in_range("shares", share, 0, 1)
        in_range("threads", self.threads, 1)
        if self.dense is not None and self.run is None:
            raise ValueError(f"dense={self.dense} is compared with a trained model; add run=…")
