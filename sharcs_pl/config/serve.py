"""The keys of ``sharcs serve``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.texts import PATH, TEXT

HOSTS = ("127.0.0.1", "0.0.0.0", "::")  # those that LitServe binds


@dataclass
class ServeConfig:
    """Answer texts over HTTP with a trained model."""

    run: str = field(default=MISSING, metadata=PATH)
    """Run directory, checkpoint, saved model folder, folder of parts, or the id of a model on the Hugging Face hub."""
    host: str = "127.0.0.1"
    """Address: ``127.0.0.1`` for this machine alone, ``0.0.0.0`` or ``::`` for every network it is in."""
    port: int = 8000
    """Port."""
    point: str | None = field(default=None, metadata=TEXT)
    """Operating point of a request that names none; ``trained`` is the rule of training; null: the model's default
    point."""
    overload: str | None = field(default=None, metadata=TEXT)
    """Operating point of a request that names none while more than ``overload_above`` texts are in the queue; null:
    always ``point``."""
    overload_above: int | None = None
    """Texts in the queue above which ``overload`` answers; null: a quarter of ``max_queue``."""
    batch_size: int = 32
    """Texts per batch, at most."""
    max_wait_ms: float = 5.0
    """Longest time that a text waits for others to fill its batch."""
    max_length: int | None = None
    """Longest input in tokens, longer ones are truncated; null: as in training."""
    max_texts: int = 128
    """Texts in one request, at most."""
    max_characters: int = 20_000
    """Characters of one text, or of a pair, at most."""
    max_body_bytes: int = 1_048_576
    """Size of a request's body, at most."""
    max_queue: int = 1024
    """Texts that are accepted and not answered yet, at most; a request beyond them is refused with 429."""
    deadline_ms: float = 10_000.0
    """Longest time to an answer; a request that takes longer ends with 504."""
    backend: str | None = None
    """Runtime: ``torch``, ``openvino`` or ``onnxruntime``; null: torch, or the one of a folder of parts."""
    precision: str | None = None
    """``float32`` or ``bfloat16``, and of a folder of parts also ``int8``; null: float32, or the one of the parts."""
    compile: bool = False
    """Compile trunk and rungs first, which takes minutes and pays off for long inputs."""
    device: str = "cpu"
    """``cpu``, ``cuda`` or ``auto``."""

    def __post_init__(self) -> None:
        one_of("host", self.host, HOSTS)
        in_range("port", self.port, 1024, 65535)
        one_of("backend", self.backend, ("torch", "openvino", "onnxruntime"))
        one_of("precision", self.precision, ("float32", "bfloat16", "int8"))
        one_of("device", self.device, ("cpu", "cuda", "auto"))
        for key in ("batch_size", "max_texts", "max_characters", "max_body_bytes", "deadline_ms"):
            in_range(key, getattr(self, key), 1)
        in_range("max_wait_ms", self.max_wait_ms, 0)
        in_range("max_length", self.max_length, 4, 65536)
        if self.max_queue < self.max_texts:
            raise ValueError(f"max_queue={self.max_queue} must be at least max_texts={self.max_texts}")
        if self.max_wait_ms >= self.deadline_ms:
            raise ValueError(f"max_wait_ms={self.max_wait_ms:g} must be less than deadline_ms={self.deadline_ms:g}")
        if self.overload is None and self.overload_above is not None:
            raise ValueError(f"overload_above={self.overload_above} needs overload=, the point that answers above it")
        in_range("overload_above", self.overload_above, 0, self.max_queue - 1)

    @property
    def crowded(self) -> int:
        """Texts in the queue above which `overload` answers."""
        return self.max_queue // 4 if self.overload_above is None else self.overload_above
