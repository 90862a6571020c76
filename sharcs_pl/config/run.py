"""The config of a training run, with the checks between its groups."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import Any

from sharcs_pl.config.checks import AUTO, in_range, number
from sharcs_pl.config.method import MethodConfig
from sharcs_pl.config.model import DistillConfig, EncoderConfig, HardnessConfig, RouterConfig, WidthConfig
from sharcs_pl.config.task import TaskConfig
from sharcs_pl.config.texts import PATH
from sharcs_pl.config.training import CheckpointConfig, LoggerConfig, OptimConfig, TrainerConfig
from sharcs_pl.core.hardness import SCORES, Score
from sharcs_pl.core.objective import DIRECTIONS, names_of
from sharcs_pl.core.renamed import CUSTOM


@dataclass
class RunConfig:
    """The config of a training run, as ``conf/train.yaml`` composes it."""

    task: TaskConfig = field(default_factory=TaskConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    width: WidthConfig = field(default_factory=WidthConfig)
    router: RouterConfig = field(default_factory=RouterConfig)
    hardness: HardnessConfig = field(default_factory=HardnessConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    batch_size: Any = 32
    """Samples per rung and step, over all processes; a step holds one such batch per rung."""
    eval_batch_size: int = 64
    """Samples per validation batch."""
    seed: int = 1
    """Seed of everything random."""
    ckpt_path: str | None = field(default=None, metadata=PATH)
    """``last`` continues the run of the run directory; or the path of a checkpoint to continue from."""
    overwrite: bool = False
    """Replace the run in the run directory."""
    objective: Any = "metric"
    """Value that a sweeper gets from each job: ``metric`` (routed, to be maximized), ``cost`` (multiply-adds as a
    fraction of dense, to be minimized), or the list of both, ``[metric,cost]``."""

    def __post_init__(self) -> None:
        number("batch_size", self.batch_size, 1, whole=True)
        in_range("eval_batch_size", self.eval_batch_size, 1)
        in_range("seed", self.seed, 0, 2**32 - 1)
        self._check_objective()
        if self.undecided:  # the rest is checked once the encoder and the data have decided
            return self._check_bounds() if isinstance(self.width.bounds, list) else None
        self._check_encoder()
        self._check_distill()
        self._choose_bounds()
        self._check_rule()
        self._check_hardness()

    @property
    def undecided(self) -> list[str]:
        """The keys whose values follow from the encoder and the data and are not known yet."""
        return [key for key in AUTO_KEYS if key_of(self, key) == AUTO]

    def _check_objective(self) -> None:
        names = names_of(self.objective)
        if not names or len(set(names)) < len(names) or not all(name in DIRECTIONS for name in names):
            raise ValueError(f"objective={self.objective} is unknown; give metric, cost or [metric,cost]")

    def _check_encoder(self) -> None:
        encoder = self.encoder
        if encoder.pretrained is not None:
            return  # the sizes are in a file that is read later
        if encoder.hidden_size % encoder.num_heads:
            raise ValueError(
                f"encoder.hidden_size={encoder.hidden_size} is not a multiple of num_heads={encoder.num_heads}"
            )
        self.check_fits(
            num_layers=encoder.num_layers,
            hidden_size=encoder.hidden_size,
            num_heads=encoder.num_heads,
            intermediate_size=encoder.intermediate_size,
        )

    def check_fits(self, *, num_layers: int, hidden_size: int, num_heads: int, intermediate_size: int) -> None:
        """Raise ``ValueError`` unless an encoder of these sizes can be cut to the method's widths or exits."""
        self.method.check_layers(num_layers)
        if self.method.widths == "none":
            return
        sizes = {"num_layers": num_layers, "hidden_size": hidden_size, "num_heads": num_heads}
        self.width.check_fits(**sizes, intermediate_size=intermediate_size, widths=self.widths)

    def _check_distill(self) -> None:
        if self.distill.name != "none" and self.method.widths == "all" and len(self.width.multipliers) == 1:
            raise ValueError(
                f"distill={self.distill.name} teaches narrower widths, and width.multipliers={self.width.multipliers} "
                "has one; add distill=none, or a width"
            )
        if self.distill.name == "frozen" and not (self.every_rung and self.distill.weight):
            raise ValueError(
                "distill=frozen teaches every width on every batch, by a weight above 0; add method=sharcs "
                "hardness.trains=all and leave distill.weight out, or take distill=top"
            )

    @property
    def chooses_points(self) -> bool:
        """True if the thresholds of every rule are chosen after training."""
        return self.router.budget is not None and self.method.widths == "all"

    def _check_rule(self) -> None:
        if self.chooses_points and self.task.calibration is None:
            raise ValueError(
                f"router.budget={self.router.budget:g} chooses thresholds on texts that chose nothing else; keep a "
                "share of them with task.calibration=0.1"
            )
        several = len(self.widths) if self.method.widths == "all" else 1
        self.router.check_fits(self.method.name, several, self.method.routed, self.method.skim_weight is not None)

    @property
    def every_rung(self) -> bool:
        """True if a router is trained and every batch trains all widths."""
        return self.method.routed and self.hardness.trains == "all"

    def _check_hardness(self) -> None:
        if self.every_rung and self.method.skim_weight is not None:
            raise ValueError(
                "method.skim_weight drops tokens before one width; leave it out, or add hardness.trains=bucket"
            )
        if self.stage_epochs >= self.trainer.max_epochs:
            raise ValueError(
                f"method.stage_epochs={self.stage_epochs} leaves no epoch for the exits in trainer.max_epochs="
                f"{self.trainer.max_epochs}; give more epochs"
            )
        if not self.method.routed:
            if self.width.reorder_after is not None:
                raise ValueError(
                    f"width.reorder_after={self.width.reorder_after} belongs to method=sharcs; for method="
                    f"{self.method.name} reorder the encoder before with sharcs reorder"
                )
            return
        if self.first_routed_epoch >= self.trainer.max_epochs:
            name = "window" if self.hardness.warmup_epochs is None else "warmup_epochs"
            raise ValueError(
                f"hardness.{name}={self.first_routed_epoch} leaves no routed epoch in "
                f"trainer.max_epochs={self.trainer.max_epochs}; give a smaller {name} or more epochs"
            )
        if (self.width.reorder_after or 0) > self.first_routed_epoch:
            raise ValueError(
                f"width.reorder_after={self.width.reorder_after}: narrow widths are trained after epoch "
                f"{self.first_routed_epoch}, and what they learn depends on the order; give {self.first_routed_epoch} "
                "or less, or more hardness.warmup_epochs"
            )
        self._check_bounds()

    @property
    def _score(self) -> Score:
        return SCORES[self.hardness.score]

    def _choose_bounds(self) -> None:
        """Fill missing width bounds from the score's defaults. A method without a router needs none."""
        found = self.hardness.bounds.get(self.hardness.score)
        if self.width.bounds is None and found is not None and len(found) == len(self.width.multipliers):
            self.width.bounds = found
        if self.width.bounds is None and self.method.routed:
            raise ValueError(
                f"width.bounds is missing: give one [lo, hi] of the {self.hardness.score} for each of the "
                f"{len(self.width.multipliers)} widths, such as {self._score.example} for two"
            )

    def _check_bounds(self) -> None:
        high = self._score.high
        for low_i, high_i in self.width.bounds or ():
            if not 0 <= low_i <= high_i <= high:
                limit = "[0, 1]" if high == 1.0 else "[0, inf)"
                raise ValueError(
                    f"width.bounds has [{low_i}, {high_i}]; for hardness.score={self.hardness.score} use {limit}"
                )

    def check_reachable(self, num_labels: int) -> None:
        """Raise ``ValueError`` if no score of ``num_labels`` classes lies in the bounds of a width."""
        if not self.method.routed:
            return
        score, most = self._score, self._score.most(num_labels)
        bounds: list[list[float]] = self.width.bounds or []
        for (low, high), width in zip(bounds, self.width.multipliers, strict=True):
            if low > most:
                raise ValueError(
                    f"width.bounds has [{low}, {high}] for width {width}: the {self.hardness.score} of {num_labels} "
                    f"classes is at most {most:.2f}{score.unit}, and easy samples have the "
                    f"{'high' if score.easy_is_high else 'low'} ones; try {score.example}"
                )

    @property
    def easy_first(self) -> bool:
        """True unless the narrowest width's bounds lie on the hard side of the full width's bounds."""
        bounds = self.width.bounds or [[0.0, 1.0]]
        (low, high), (top_low, top_high) = bounds[0], bounds[-1]
        if self._score.easy_is_high:
            return low >= top_low or high >= top_high
        return low <= top_low or high <= top_high

    @property
    def first_routed_epoch(self) -> int:
        """The first epoch planned from hardness, 0 if nothing is routed."""
        if not self.method.routed:
            return 0
        return self.hardness.warmup_epochs or self.hardness.window

    @property
    def candidate_models(self) -> int:
        """The number of models among which the validation split chooses ``best.ckpt``, 0 if it is not kept. Where it
        chose the epoch of the first stage too, each of those may have led to each of the second."""
        first = max(self.first_routed_epoch, self.stage_epochs)
        chosen = first if self.method.routed and self.hardness.rewind else 1
        return chosen * (self.trainer.max_epochs - first) if self.checkpoint.save_best else 0

    @property
    def stage_epochs(self) -> int:
        """The number of epochs of the first of two stages, 0 with a single stage."""
        if "stage_epochs" not in self.method.facts.options:
            return 0
        return self.method.stage_epochs or max(1, self.trainer.max_epochs // 2)

    @property
    def widths(self) -> list[Any]:
        """The widths of the method's model."""
        return {"all": self.width.multipliers, "one": [self.method.width]}.get(self.method.widths, [1])

    def digest(self) -> str:
        """Return a hash of all keys that affect the result, equal for a run and its resumption."""
        kept = asdict(self)
        for key in ("ckpt_path", "overwrite", "objective", "logger", "checkpoint"):
            kept.pop(key)
        kept["task"].pop("save_as")
        if self.task.name == CUSTOM:
            kept["task"]["name"] = "own"  # as runs were hashed when the task had that name
        if self.task.label_range_strict:
            kept["task"].pop("label_range_strict")
        if not self.task.is_drawn or self.task.split_seed == self.seed:  # as before split_seed was a key
            kept["task"].pop("split_seed")
        for key, default in LATER_KEYS.items():
            if kept["task"][key] == default:
                kept["task"].pop(key)
        for group, later in LATER.items():
            for key, default in later.items():
                if kept[group][key] == default:
                    kept[group].pop(key)
        kept["hardness"].pop("bounds")  # the bounds in use are in width.bounds
        kept["trainer"] = {k: v for k, v in kept["trainer"].items() if k not in DISPLAY_KEYS + PROCESS_KEYS}
        return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]


AUTO_KEYS = (
    "width.split_layer", "width.multipliers", "width.bounds", "method.cut", "trainer.max_epochs",
    "hardness.warmup_epochs", "width.reorder_after", "hardness.trains", "distill.name", "batch_size", "optim.lr",
    "router.budget", "router.threshold",
)  # fmt: skip
"""The keys that may be ``auto``, in the order in which they are decided and told."""


def key_of(config: RunConfig, key: str) -> Any:
    """Return the value of a dotted key."""
    return reduce(getattr, key.split("."), config)


DISPLAY_KEYS = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler", "max_time", "max_steps")
# Keys of the task that earlier runs lack, with the values that give the behaviour of these runs.
LATER_KEYS = dict.fromkeys(("calibration", "positive", "delimiter", "encoding", "label_separator")) | {
    "multi_label": False
}
LATER = {  # of other groups
    "router": {"rule": "router", "certainty": None, "stop_threshold": None, "average": False, "budget": None},
    "hardness": {"trains": "bucket", "rewind": False},
    "optim": {"restart": False},
    "width": {"reorder_after": None},
}
# A run may continue on more processes.
PROCESS_KEYS = ("devices", "num_nodes", "strategy", "timeout_minutes", "num_workers")
