"""The runtime and the precision in which a trained model answers, checked before it is loaded. Loads no torch."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.finite import read_json
from sharcs_pl.inference.parts import PARTS, PartsFacts, check_fit, is_parts
from sharcs_pl.inference.runtimes import NO_TEXTS, TORCH, check_exporter, check_runtime
from sharcs_pl.inference.trained import TrainedModel, saved_settings
from sharcs_pl.models.encoder_sizes import OURS, check_written_out

IN_TORCH = ("float32", "bfloat16")
_INT8 = f"int8 needs texts to calibrate on: {NO_TEXTS}"


@dataclass(frozen=True)
class Serving:
    """The options of ``sharcs predict`` that choose a runtime; None each for the model as it lies."""

    backend: str | None = None
    precision: str | None = None

    @property
    def asked(self) -> bool:
        """True if answers come from the engine of ``sharcs predict``, not from the model as training left it."""
        return self.precision is not None or self.backend not in (None, TORCH)

    def told(self) -> dict[str, str]:
        """Return what was asked for, by key."""
        return {name: value for name, value in vars(self).items() if self.asked and value is not None}

    def check(self, source: TrainedModel) -> None:
        """Raise ``ValueError`` naming the key where a model cannot be run that way here."""
        if is_parts(source.weights):
            check_fit(source.weights, PartsFacts.read(source.weights), self.backend, self.precision)
        elif self.asked:
            self._check_model(source)

    def warn_of_point(self, source: TrainedModel, point: str | None = None) -> None:
        """Warn where the point in use, or `point`, was chosen in another runtime or precision than this one."""
        settings = saved_settings(source.weights)
        name = point or settings.get("operating_point")
        chosen = (settings.get("operating_points") or {}).get(name) or {}
        here = {"backend": TORCH, "precision": "float32"}
        if is_parts(source.weights):
            here = {key: read_json(source.weights / PARTS)[key] for key in here}
        here |= {key: value for key, value in vars(self).items() if value is not None}
        other = [f"{key}={chosen[key]}" for key, value in here.items() if chosen.get(key, value) != value]
        if other:
            warnings.warn(
                f"point={name} was chosen with {' '.join(other)}, which is not what answers here: its cost and "
                "accuracy may differ; sharcs calibrate sets a point for what does",
                DataWarning,
                stacklevel=3,
            )

    def _check_model(self, source: TrainedModel) -> None:
        given = ", ".join(f"{name}={value}" for name, value in self.told().items())
        settings = saved_settings(source.weights)
        if settings.get("skim") or settings.get("model_type") in OURS[1:]:
            raise ValueError(
                f"{given}: run={source.weights} has exits or skips tokens, and runs as training left it; leave it out"
            )
        if self.backend in (None, TORCH):
            if self.precision not in IN_TORCH:
                raise ValueError(f"precision={self.precision}: torch computes in {' or '.join(IN_TORCH)}; {_INT8}")
            return
        assert self.backend is not None
        check_runtime(self.backend, self.precision or "float32")
        check_exporter()
        if self.precision == "int8":
            raise ValueError(f"precision=int8: {_INT8}")
        try:
            check_written_out(settings["encoder"]["model_type"])
        except ValueError as error:
            raise ValueError(f"{given}: run={source.weights}: {error}") from error


AS_IT_LIES = Serving()
