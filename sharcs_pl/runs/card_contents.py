"""The contents of a saved model's folder that a model card is made from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sharcs_pl.core.exits import ExitLadder
from sharcs_pl.core.kinds import kind_of_model, label_thresholds
from sharcs_pl.core.ladder import Ladder
from sharcs_pl.core.skim import SkimLadder
from sharcs_pl.core.text import markdown
from sharcs_pl.core.widths import WidthLadder
from sharcs_pl.data.spec import metric_name
from sharcs_pl.inference.record import record_file
from sharcs_pl.models.encoder_sizes import OURS, EncoderSizes, encoder_sizes
from sharcs_pl.models.folder import read_json
from sharcs_pl.models.locate import local_folder
from sharcs_pl.models.stock_form import of_stock, read_settings

METRICS = "metrics.json"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Contents:
    """The contents of the folder: ``config.json``, the run's record and its metrics, the last two empty where they are
    missing. ``stock`` marks a checkpoint of stock transformers, whose ``config`` describes a model of one width."""

    config: dict[str, Any]
    record: dict[str, Any]
    metrics: dict[str, Any]
    stock: bool = False

    @classmethod
    def of(cls, folder: Path) -> Contents:
        """Read the folder. Raise ``ValueError`` where it holds no routed model or a file is no JSON."""
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder} has no config.json; give a saved model's folder")
        record = record_file(folder)
        config = read_settings(folder, stock_too=record is not None)
        if config.get("model_type") not in OURS:
            raise ValueError(f"{folder} holds a model of type {config.get('model_type')!r}, not a routed one")
        metrics = folder / METRICS
        return cls(
            config,
            record=read_json(record) if record is not None else {},
            metrics=read_json(metrics) if metrics.is_file() else {},
            stock=read_json(folder / "config.json") != config,
        )

    def widest(self) -> Contents:
        """The contents of the stock checkpoint that `sharcs export format=transformers` makes of the model."""
        config = of_stock(self.config["encoder"]) | {"id2label": self.config.get("id2label", {})}
        config |= {key: self.config[key] for key in ("problem_type", "label_thresholds") if self.config.get(key)}
        metrics = self.metrics
        if metrics:
            top = metrics["rungs"][-1] | {"share": 1.0}
            metrics = metrics | {"routed": top, "rungs": [top]}
        return Contents(config, self.record, metrics, stock=True)

    @property
    def task(self) -> str | None:
        """The task's name as the run wrote it."""
        return self.metrics.get("task") or self.record.get("task", {}).get("name")

    @property
    def exits(self) -> list[int]:
        """The layers after which a text may stop; empty for a model without early exits."""
        return [int(layer) for layer in self.config.get("exits", [])]

    @property
    def widths(self) -> list[str]:
        """The widths of the ladder, narrow first."""
        return WidthLadder.parse(self.config.get("widths", ["1"])).labels()

    @property
    def split_layer(self) -> int:
        """The number of full-width layers before the others."""
        return int(self.config["split_layer"])

    @property
    def skims(self) -> bool:
        """True if tokens are skipped, and nothing else is chosen."""
        return "predictor_size" in self.config

    @property
    def routed(self) -> bool:
        """True if the model has a router."""
        return len(self.widths) > 1 and self.config.get("router_hidden_size", 1) > 0

    @property
    def ladder(self) -> Ladder:
        """The ladder that the results are for."""
        if self.skims:
            return SkimLadder()
        return ExitLadder(tuple(self.exits)) if self.exits else WidthLadder.parse(self.widths)

    @property
    def sizes(self) -> EncoderSizes:
        """The full sizes of the encoder."""
        return encoder_sizes(self.config["encoder"])

    @property
    def labels(self) -> list[str] | None:
        """The class names in the order of the logits; None for a regression."""
        names = self.config.get("id2label", {})
        return None if len(names) == 1 else [str(names[key]) for key in sorted(names, key=int)]

    @property
    def several(self) -> bool:
        """True if a text may have any number of labels."""
        number = 1 if self.labels is None else len(self.labels) or 2  # a config leaves two unnamed ones out
        return kind_of_model(number, self.config.get("problem_type")).multi_label

    @property
    def answers(self) -> str:
        """What the model answers a text with, in words."""
        if self.labels is None:
            return "a score"
        names = [markdown(name) for name in self.labels]
        given = self.config.get("label_thresholds")
        thresholds = label_thresholds(len(names), self.config.get("problem_type"), given)
        if thresholds is None:
            return f"one of {', '.join(names)}"
        told = ", ".join(f"{name} ({value:.4g})" for name, value in zip(names, thresholds, strict=True))
        return f"any number of labels, each from the probability in brackets on: {told}"

    @property
    def metric(self) -> str:
        """The name of the metric of the results; f1 with the class that it is about."""
        name = self.metrics["metric"]
        return metric_name(name, self.labels[1] if self.labels and len(self.labels) == 2 else None)

    @property
    def base_model(self) -> str | None:
        """The hub id that training started from; None where it was a folder or a random encoder."""
        name = self.record.get("encoder", {}).get("pretrained")
        is_id = isinstance(name, str) and _HUB_ID.fullmatch(name) and local_folder(name) is None
        return name if is_id else None
