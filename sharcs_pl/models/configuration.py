"""The config of a routed model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import AutoConfig, PreTrainedConfig

from sharcs_pl.core.decision import RULE_KEYS, DecisionRule, stored_rule

SKIMMED = "this model skips tokens on the way: only its own class and sharcs evaluate run it"


class LadderConfig(PreTrainedConfig):
    """The base class of model configs. `encoder`: the stock model's config as a dict. `label_thresholds`: of a model
    whose outputs are labels of their own, the probability of each from which on it is given, None for 0.5."""

    label_thresholds: Any = None  # a saved config has the key only where thresholds were chosen

    def __init__(
        self, encoder: dict[str, Any] | None = None, label_thresholds: Sequence[float] | None = None, **kwargs: Any
    ) -> None:
        self.encoder = dict(encoder or {})
        if label_thresholds is not None:
            self.label_thresholds = label_thresholds
        super().__init__(**kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: a saved folder imports this package, and needs no copy of its modules."""

    @property
    def initializer_range(self) -> float:
        """The standard deviation of fresh weights, taken from the encoder."""
        return self.encoder.get("initializer_range", 0.02)

    @property
    def vocab_size(self) -> int | None:
        """The number of token embeddings of the encoder, None without an encoder."""
        return self.encoder.get("vocab_size")

    @vocab_size.setter
    def vocab_size(self, size: int) -> None:
        self.encoder["vocab_size"] = size

    @property
    def max_position_embeddings(self) -> int | None:
        """The rows of the encoder's table of positions, by which clients cut texts."""
        return self.encoder.get("max_position_embeddings")


class SharcsConfig(LadderConfig):
    """The config of a routed model, saved beside its weights.

    `encoder`: the stock model's config as a dict. `widths`: the ladder as text ("0.25", "1/3", "1"). `split_layer`:
    full-width layers before the router. `reduction`, `norm_init`, `top_rung_norm`, `router_hidden_size`, `cut`: values
    of the keys `width.*`, `router.hidden_size` (0: no router, every text at full width) and `method.cut`. `skim`:
    hidden units of the predictors that skip tokens, 0 for none. `skim_threshold`: least probability of a kept token.
    `router_threshold`: a membership probability, None for the likeliest rung. `rule`, `certainty` (None for the task's
    default), `stop_threshold` (None for the certainty's default) and `average`: the rule of training, as the keys
    `router.*` name it (see `DecisionRule`). `operating_points`: named settings of the budget, each a dict with the
    thresholds of its rule and the figures behind the choice. `operating_point`: the name of the one in use, None for
    the rule of training (see `decision`). Labels and problem type are standard fields of Hugging Face configs.
    """

    model_type = "sharcs"
    keys_to_ignore_at_inference: ClassVar = ["task_loss", "router_loss", "router_logits", "rungs", "first_rungs"]

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
        rule: str = "router",
        certainty: str | None = None,
        stop_threshold: float | None = None,
        average: bool = False,
        operating_points: dict[str, dict[str, Any]] | None = None,
        operating_point: str | None = None,
        **kwargs: Any,
    ) -> None:
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
        self.rule = rule
        self.certainty = certainty
        self.stop_threshold = stop_threshold
        self.average = average
        self.operating_points = dict(operating_points or {})
        self.operating_point = operating_point
        super().__init__(encoder, **kwargs)

    def decision(self, point: str | None = None) -> DecisionRule:
        """Return the rule of an operating point (None: the one in use, "trained": the rule of training). Raise
        `ValueError` listing the known points."""
        settings = {key: getattr(self, key) for key in RULE_KEYS}
        return stored_rule(settings, len(self.widths), self.num_labels or 1, point)

    def check_all_tokens(self) -> None:
        """Raise `ValueError` if tokens are skipped, which layers written out for inference do not support."""
        if self.skim:
            raise ValueError(SKIMMED)


AutoConfig.register("sharcs", SharcsConfig, exist_ok=True)
