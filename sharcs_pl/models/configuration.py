"""The config of a routed model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PreTrainedConfig


class SharcsConfig(PreTrainedConfig):
    """What a routed model is made of; saved beside its weights.

    `encoder`: the stock model's config as a dict. `widths`: the ladder as text ("0.25", "1/3", "1"). `split_layer`:
    full-width layers before the router. `reduction`, `norm_init`, `top_rung_norm`, `router_hidden_size`: as the keys
    `width.*` and `router.hidden_size`. `router_threshold`: see `SharcsForSequenceClassification.route`. Labels and
    problem type are the fields every Hugging Face config has.
    """

    model_type = "sharcs"
    keys_to_ignore_at_inference = ("task_loss", "router_loss", "router_logits", "rungs")

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        widths: Sequence[str] = ("1",),
        split_layer: int = 1,
        reduction: str = "slice",
        norm_init: str = "pretrained",
        top_rung_norm: bool = False,
        router_hidden_size: int = 64,
        router_threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder = dict(encoder or {})
        self.widths = list(widths)
        self.split_layer = split_layer
        self.reduction = reduction
        self.norm_init = norm_init
        self.top_rung_norm = top_rung_norm
        self.router_hidden_size = router_hidden_size
        self.router_threshold = router_threshold
        super().__init__(**kwargs)

    @property
    def initializer_range(self) -> float:
        """Standard deviation of fresh weights: the encoder's."""
        return self.encoder.get("initializer_range", 0.02)


AutoConfig.register("sharcs", SharcsConfig, exist_ok=True)
