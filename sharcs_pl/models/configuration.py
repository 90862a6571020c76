"""The config of a routed model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import AutoConfig, PreTrainedConfig

TRAINED = "trained"  # the operating point that training left
SKIMMED = "this model skips tokens on the way: only its own class and sharcs evaluate run it"
NEVER = 1e9  # a threshold that no router logit reaches; JSON has no infinity


class LadderConfig(PreTrainedConfig):
    """`encoder`: the stock model's config as a dict."""

    if TYPE_CHECKING:  # transformers takes an annotation that it sees for a required field
        encoder: dict[str, Any]

    @property
    def initializer_range(self) -> float:
        """Standard deviation of fresh weights: the encoder's."""
        return self.encoder.get("initializer_range", 0.02)


class SharcsConfig(LadderConfig):
    """What a routed model is made of; saved beside its weights.

    `encoder`: the stock model's config as a dict. `widths`: the ladder as text ("0.25", "1/3", "1"). `split_layer`:
    full-width layers before the router. `reduction`, `norm_init`, `top_rung_norm`, `router_hidden_size`: as the keys
    `width.*` and `router.hidden_size` (0: no router, every text at full width). `cut`: as the key `method.cut`.
    `skim`: hidden units of the predictors that skip tokens, 0 for none; a token goes on where its probability to be
    kept reaches `skim_threshold`. `router_threshold`: a membership probability, None for the likeliest rung.
    `operating_points`: named settings of the budget dial, each a dict whose "thresholds" are one router logit per rung
    but the top one, with the figures it was chosen by. `operating_point`: the one in use, None for the rule of training
    (see `SharcsForSequenceClassification.route`). Labels and problem type are the fields every Hugging Face config has.
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
        cut: str = "full",
        skim: int = 0,
        skim_threshold: float = 0.5,
        operating_points: dict[str, dict[str, Any]] | None = None,
        operating_point: str | None = None,
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
        self.cut = cut
        self.skim = skim
        self.skim_threshold = skim_threshold
        self.operating_points = dict(operating_points or {})
        self.operating_point = operating_point
        super().__init__(**kwargs)

    def thresholds(self, point: str | None = None) -> tuple[float, ...] | None:
        """Router logits, one per rung but the top, of a named operating point (None: the one in use; "trained": the
        rule of training); None where the likeliest rung is taken. `ValueError` lists the points there are."""
        name = point or self.operating_point or TRAINED
        if name == TRAINED:
            return None if self.router_threshold is None else self._logits(self.router_threshold)
        if name not in self.operating_points:
            known = ", ".join([TRAINED, *self.operating_points])
            raise ValueError(f"point={name}: this model has no such operating point; it has {known}")
        return tuple(self.operating_points[name]["thresholds"])

    def check_all_tokens(self) -> None:
        """`ValueError` where tokens are skipped, which layers written out for inference do not do."""
        if self.skim:
            raise ValueError(SKIMMED)

    def _logits(self, probability: float) -> tuple[float, ...]:
        odds = probability / (1 - probability) if probability < 1 else math.inf
        logit = math.log(odds) if odds > 0 else -math.inf
        return (min(max(logit, -NEVER), NEVER),) * (len(self.widths) - 1)


AutoConfig.register("sharcs", SharcsConfig, exist_ok=True)
