"""The groups of the model and its objective: encoder, width, router, hardness, distill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sharcs_pl.config.checks import AUTO, in_range, number, one_of
from sharcs_pl.config.texts import PATH
from sharcs_pl.core.decision import CERTAINTIES, RULES, check_certainty, check_rule, default_certainty
from sharcs_pl.core.hardness import SCORES
from sharcs_pl.core.kinds import task_kind
from sharcs_pl.core.widths import WidthLadder, check_split


@dataclass
class EncoderConfig:
    """The stock transformers model that is fine-tuned."""

    name: str = MISSING
    """Short name, for the run directory and the tables."""
    pretrained: str | None = field(default=None, metadata=PATH)
    """Hub id, local folder, or ``pkg:<package>/<folder>`` inside an installed package; null starts from scratch."""
    dropout: float | None = None
    """Dropout of embeddings, attention, layers and head; null keeps the checkpoint's own."""
    attn_implementation: str | None = None
    """transformers' attention kernel, ``sdpa`` or ``eager`` (faster in bf16 on CPUs); null: its default."""
    hidden_size: int = 128
    """Hidden size of an encoder from scratch (``pretrained: null``)."""
    num_layers: int = 4
    """Layers of an encoder from scratch."""
    num_heads: int = 4
    """Attention heads of an encoder from scratch."""
    intermediate_size: int = 512
    """Feed-forward size of an encoder from scratch."""

    def __post_init__(self) -> None:
        if self.name == "custom" and self.pretrained is None:
            raise ValueError(
                "encoder.pretrained is missing; encoder=custom needs encoder.pretrained=<hub id or folder>"
            )
        in_range("encoder.dropout", self.dropout, 0, 1)
        one_of("encoder.attn_implementation", self.attn_implementation, ("sdpa", "eager"))
        for name in ("hidden_size", "num_layers", "num_heads", "intermediate_size"):
            in_range(f"encoder.{name}", getattr(self, name), 1)


def checked_bounds(key: str, pairs: list[Any]) -> list[list[float]]:
    """Return the pairs ``[lo, hi]`` as floats. Raise ``ValueError`` naming ``key`` for anything else."""
    return [_bound(key, pair) for pair in pairs]


def _bound(key: str, pair: Any) -> list[float]:
    numbers = isinstance(pair, list) and all(isinstance(x, int | float) and not isinstance(x, bool) for x in pair)
    if not numbers or len(pair) != 2 or not pair[0] <= pair[1]:
        raise ValueError(f"{key} has {pair}; each entry is a pair of numbers [lo, hi] with lo <= hi")
    return [float(x) for x in pair]


@dataclass
class WidthConfig:
    """The ladder of widths and the cut to a rung (paper section 2.2)."""

    multipliers: Any = field(default_factory=lambda: [0.25, 1.0])
    """A list of widths from narrow to full, numbers or fractions such as "1/3"; the last is 1."""
    bounds: Any = None
    """A list with a range ``[lo, hi]`` of the hardness score for each width, ends included; ranges may overlap (paper
    section 2.1). Null takes the ranges of the score in ``hardness.bounds``."""
    split_layer: Any = 1
    """Full-width layers before the router; the layers after it run at the chosen width."""
    reduction: str = "slice"
    """``slice`` keeps the leading hidden dims after the split layer; ``learned`` pools neighbouring dims (paper)."""
    norm_init: str = "pretrained"
    """Private norms start from the leading slice of the pretrained ones, or from ``scratch`` (the reference)."""
    top_rung_norm: bool = False
    """Add a fresh norm after the split layer at full width too, as the reference does."""
    reorder_after: Any = None
    """Epochs at full width after which the encoder's heads and neurons are put in order of importance, so that narrow
    widths keep the best ones; null: never. ``sharcs reorder`` does the same before a training."""
    loss_weights: list[float] | None = None
    """Weight of each rung's batch in the objective; null gives all the same weight."""

    def __post_init__(self) -> None:
        one_of("width.reduction", self.reduction, ("slice", "learned"))
        one_of("width.norm_init", self.norm_init, ("pretrained", "scratch"))
        number("width.split_layer", self.split_layer, 1, whole=True)
        number("width.reorder_after", self.reorder_after, 1, whole=True)
        if isinstance(self.bounds, list):
            self.bounds = checked_bounds("width.bounds", self.bounds)
        elif self.bounds not in (None, AUTO):
            raise ValueError(f"width.bounds={self.bounds} must be a list of [lo, hi], one per width")
        if self.multipliers != AUTO:
            self._check_ladder()

    def _check_ladder(self) -> None:
        ladder = WidthLadder.parse(self.multipliers)
        if ladder.widths[-1] != 1:
            raise ValueError(f"width.multipliers: [{', '.join(ladder.labels())}] must end with 1, the full width")
        self.multipliers = ladder.labels()  # 1, 1.0 and "1" are the same width, and the same run
        for key, value in (("bounds", self.bounds), ("loss_weights", self.loss_weights)):
            if isinstance(value, list) and len(value) != len(ladder):
                raise ValueError(f"width.{key} has {len(value)} entries; width.multipliers asks for {len(ladder)}")
        for weight in self.loss_weights or ():
            in_range("width.loss_weights", weight, 0)

    def check_fits(
        self,
        *,
        num_layers: int,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        widths: list[Any] | None = None,
    ) -> None:
        """Raise ``ValueError`` unless these sizes can be split and cut to ``widths`` (None: the multipliers)."""
        check_split(self.split_layer, num_layers)
        WidthLadder.parse(widths or self.multipliers).check(
            hidden_size=hidden_size,
            num_heads=num_heads,
            intermediate_size=intermediate_size,
            reduction=self.reduction,
        )


@dataclass
class RouterConfig:
    """The router after the split layer (paper section 2.2), and the rule that decides on the widths of a text."""

    rule: str = "router"
    """``router`` (paper): a width before its compute; ``cascade``: narrow first, wider while the answer is unsure;
    ``router+cascade``: begin where the router says. ``cascade`` needs several widths but no router."""
    certainty: str | None = None
    """Of a cascade: ``probability`` (largest), ``margin``, ``entropy`` or ``agreement`` with the width before; null:
    ``probability``, or ``agreement`` for a regression."""
    stop_threshold: float | None = None
    """Certainty at which a cascade stops; null: the certainty's default. ``sharcs calibrate`` finds a better one."""
    average: bool = False
    """Of a cascade: answer with the mean log-probabilities of all widths that ran, not with the last width's."""
    budget: Any = None
    """Mean cost, as a fraction of dense, for which each rule's thresholds are chosen after training, on the texts of
    ``task.calibration``; the best rule there is in use, the cascade if in doubt, or ``rule`` if it cascades. Null keeps
    the trained ones."""

    hidden_size: int = 64
    """Hidden units of the router's two-layer perceptron."""
    loss_weight: float = 1.0
    """Weight of the router's binary cross-entropy, added to the task loss (paper equation 1)."""
    threshold: Any = None
    """Membership probability at which a sample runs on the narrowest such width; null: the likeliest width (paper)."""
    warmup_loss: bool = False
    """Also train the router during the window, with every sample labelled full width, as the reference does."""

    def __post_init__(self) -> None:
        in_range("router.hidden_size", self.hidden_size, 1)
        in_range("router.loss_weight", self.loss_weight, 0)
        number("router.threshold", self.threshold, 0, 1)
        number("router.budget", self.budget, 0.01, 1)
        one_of("router.rule", self.rule, RULES)
        given = {"certainty": self.certainty, "stop_threshold": self.stop_threshold, "average": self.average or None}
        unread = [key for key, value in given.items() if value is not None and self.rule == "router"]
        if unread:
            raise ValueError(f"router.{unread[0]} belongs to a cascade; add router.rule=cascade or router+cascade")
        if self.certainty is not None:
            one_of("router.certainty", self.certainty, tuple(CERTAINTIES))

    def check_fits(self, method: str, num_rungs: int, has_router: bool, skims: bool) -> None:
        """Raise ``ValueError`` unless the method's model can have the rule."""
        if self.rule == "router":
            return
        if skims:
            raise ValueError(f"router.rule={self.rule} runs no model that skips tokens; leave out method.skim_weight")
        if num_rungs < 2:
            raise ValueError(f"router.rule={self.rule} needs two or more widths, which method={method} has not")
        check_rule(self.rule, num_rungs, has_router, "router.rule")

    def check_labels(self, num_labels: int, num_rungs: int) -> None:
        """Raise ``ValueError`` unless the rule fits a task with ``num_labels`` outputs; 1 is a regression."""
        if self.rule == "router":
            return
        certainty = self.certainty or default_certainty(num_labels)
        check_certainty(certainty, num_labels, "router.certainty")
        in_range("router.stop_threshold", self.stop_threshold, CERTAINTIES[certainty].low, CERTAINTIES[certainty].high)
        if not task_kind(num_labels).has_classes and num_rungs < 3:
            raise ValueError(f"router.rule={self.rule}: a regression compares two widths before it stops; give three")


TRAINS = ("bucket", "all", AUTO)


@dataclass
class HardnessConfig:
    """The hardness of training samples and the rungs that train on them (paper section 2.1)."""

    score: str = "confidence"
    """``confidence`` of the true class or ``entropy`` in nats; regression always scores closeness to the target."""
    bounds: dict[str, Any] = field(default_factory=lambda: {name: row.pairs for name, row in SCORES.items()})
    """Bounds by score, used if ``width.bounds`` is null; easy samples have a high confidence and a low entropy."""
    window: int = 2
    """Number of last epochs whose scores must all lie in a rung's bounds; the first ones train all at full width."""
    warmup_epochs: Any = None
    """Epochs at full width before routing starts, at least ``window``; null: as many as ``window`` (paper)."""
    trains: str = "bucket"
    """Widths that a sample trains: ``bucket``, the one of its bucket (paper), or ``all``, where hardness only gives the
    router its labels. Until routing begins only the full width is trained."""
    rewind: bool = False
    """Go on from the best of the epochs at full width, by its metric, when routing begins."""
    fill: str = "repeat"
    """``repeat`` repeats small buckets up to the size of the largest; ``none`` repeats nothing."""
    repeat_cap: int = 4
    """Largest number of times that a sample occurs in an epoch."""
    weight_by_bucket: bool = False
    """Weight each rung's batch by its bucket's share of the samples times the number of rungs."""

    def __post_init__(self) -> None:
        one_of("hardness.score", self.score, tuple(SCORES))
        for name, pairs in self.bounds.items():
            one_of("hardness.bounds", name, tuple(SCORES))
            if not isinstance(pairs, list):
                raise ValueError(f"hardness.bounds.{name}={pairs} must be a list of [lo, hi], one per width")
            self.bounds[name] = checked_bounds(f"hardness.bounds.{name}", pairs)
        one_of("hardness.trains", self.trains, TRAINS)
        one_of("hardness.fill", self.fill, ("repeat", "none"))
        if self.trains == "all" and self.weight_by_bucket:
            raise ValueError("hardness.weight_by_bucket=true weighs buckets, and hardness.trains=all has none")
        in_range("hardness.window", self.window, 1)
        number("hardness.warmup_epochs", self.warmup_epochs, self.window, whole=True)
        in_range("hardness.repeat_cap", self.repeat_cap, 1)


@dataclass
class DistillConfig:
    """Distillation of the top rung into the narrow ones (not in the paper)."""

    name: str = "none"
    """``top``: each narrow rung also learns the top rung's logits on every batch; ``frozen``: every rung learns those
    that the top one had when routing began, and no labels; or ``none``."""
    weight: float = 1.0
    """Weight of the distillation loss, added to the task loss."""
    temperature: float = 1.0
    """Softmax temperature of teacher and student (Hinton et al. 2015); regression uses squared error instead."""

    def __post_init__(self) -> None:
        one_of("distill", self.name, ("none", "top", "frozen", AUTO))
        in_range("distill.weight", self.weight, 0)
        in_range("distill.temperature", self.temperature, 1e-3)
