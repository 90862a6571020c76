"""The relation of this project's models to stock models of transformers, by their configs. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharcs_pl.models.encoder_sizes import ARCHITECTURES, OURS
from sharcs_pl.models.folder import read_json

ROUTED, EXITS, SKIM = OURS


def obstacle(settings: Mapping[str, Any]) -> str | None:
    """Return why no stock class reproduces the logits of a model at its widest (or last exit), or None if its encoder
    does. `settings`: the model's own config."""
    if settings["model_type"] == SKIM or settings.get("skim"):
        return "it skips tokens on the way, which no stock class does"
    if settings["model_type"] == EXITS:
        return None  # the head after the last layer is the stock one
    widest = settings.get("widths", ["1"])[-1]
    if widest != "1":
        return f"its widest layers have the width {widest} {NARROW}"
    if settings.get("top_rung_norm"):
        return (
            "its full width has a norm of its own after the split layer (width.top_rung_norm=true), as no stock class"
        )
    return None


NARROW = "behind a trunk of full width, and a stock config has one size for all layers"


def is_stock(settings: Mapping[str, Any]) -> bool:
    """Return True if a model is only its encoder, and is thus saved as a stock checkpoint."""
    return settings["model_type"] == ROUTED and settings.get("widths", ["1"]) == ["1"] and obstacle(settings) is None


def of_stock(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a model of this project for a stock checkpoint, from its ``config.json``."""
    labels = {
        key: encoder[key] for key in ("id2label", "label2id", "problem_type", "label_thresholds") if key in encoder
    }
    ladder = {"widths": ["1"], "split_layer": 1, "router_hidden_size": 0}
    return {"model_type": ROUTED, "encoder": dict(encoder), **ladder, **labels}


def read_settings(folder: Path, stock_too: bool) -> dict[str, Any]:
    """Return a saved model's ``config.json``, with `stock_too` also of a stock checkpoint, converted by `of_stock`."""
    found = read_json(folder / "config.json")
    return of_stock(found) if stock_too and found.get("model_type") in ARCHITECTURES else found
