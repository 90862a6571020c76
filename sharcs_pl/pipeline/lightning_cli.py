"""LightningCLI over the config of a run, from typed sections to the objects of ``build``."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from omegaconf import DictConfig

from sharcs_pl.config import RunConfig
from sharcs_pl.config.command_line import BAD_INPUT
from sharcs_pl.config.errors import shorten
from sharcs_pl.config.evaluate import EvaluateConfig
from sharcs_pl.config.help import field_texts, show_default
from sharcs_pl.core.literal import literal
from sharcs_pl.data.datamodule import SharcsDataModule
from sharcs_pl.data.spec import UNKNOWN_LABEL
from sharcs_pl.data.tasks import GRADED
from sharcs_pl.inference.trained import TrainedModel, open_trained
from sharcs_pl.launch.cluster import check_started, stamp
from sharcs_pl.pipeline.build import Run, build_run, build_trainer
from sharcs_pl.pipeline.console import display_path, silence_libraries
from sharcs_pl.pipeline.fit import Composed, train
from sharcs_pl.pipeline.sections import SUBCOMMANDS, base_config, from_sections, groups, place, to_sections
from sharcs_pl.pipeline.validate import evaluate_model, present
from sharcs_pl.runs.auto import decide_auto
from sharcs_pl.runs.directory import decide
from sharcs_pl.runs.evaluation_inputs import EvaluationInputs, check_results, splits_of
from sharcs_pl.runs.inputs import TrainingInputs, read_inputs, read_task
from sharcs_pl.runs.preflight import preflight
from sharcs_pl.runs.seen import warn_of_seen
from sharcs_pl.training.module import SharcsModule

# Trainer arguments that training sets itself, or does not use; all others are typed as Lightning has them.
NOT_TYPED = {
    "logger", "enable_checkpointing", "num_sanity_val_steps", "use_distributed_sampler", "enable_autolog_hparams",
    "reload_dataloaders_every_n_epochs", "val_check_interval", "check_val_every_n_epoch", "gradient_clip_algorithm",
    "limit_test_batches", "limit_predict_batches", "overfit_batches", "fast_dev_run", "barebones", "model_registry",
    "sync_batchnorm", "plugins",
}  # fmt: skip
# What makes a trained model what it is: an evaluation cannot change it.
SHAPE = {
    "task": ("name",),
    "method": ("name", "width", "cut", "exits", "exit_head", "rule"),
    "width": ("multipliers", "split_layer", "reduction", "top_rung_norm"),
    "router": ("hidden_size", "threshold"),
}
SAVED = ".hydra/lightning.yaml"  # the typed config, in the run directory
PRESET = "What the keys below default to: a choice per Hydra group, such as --preset.task=cola --preset.encoder=minilm."


class SharcsParser(LightningArgumentParser):
    """A parser that answers a mistake in one line, and prints a config without presets, whose every key is in it."""

    def error(self, message: str, *rest: Any) -> Any:
        print(f"error: {shorten(message)}", file=sys.stderr)
        raise SystemExit(BAD_INPUT)

    def dump(self, *arguments: Any, **options: Any) -> str:
        config, *rest = arguments
        kept = config.clone()
        kept.pop("preset", None)
        return super().dump(kept, *rest, **options)


class SharcsCLI(LightningCLI):
    """The commands ``fit``, ``validate``, ``test`` and ``predict`` with the project's module, datamodule and callbacks.

    With ``run=False`` nothing is trained: ``model``, ``datamodule`` and ``trainer`` are the objects of ``fit``.
    """

    model: SharcsModule
    datamodule: SharcsDataModule

    def __init__(self, args: list[str] | None = None, run: bool = True) -> None:
        self.given = sys.argv[1:] if args is None else list(args)
        self.base = to_sections(base_config(self.given))  # first: it answers sooner than a parser is built
        super().__init__(
            SharcsModule,
            SharcsDataModule,
            parser_class=SharcsParser,
            args=args,
            run=run,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the subcommands, and the arguments of Lightning's methods that they lack: all but ``ckpt_path``.

        If the first word is one, it is the only one returned, since a parser takes half a second to build.
        """
        asked = [name for name in self.given[:1] if name in SUBCOMMANDS] or SUBCOMMANDS
        methods = {name: inspect.signature(getattr(L.Trainer, name)).parameters for name in asked}
        return {name: set(parameters) - {"self", "ckpt_path"} for name, parameters in methods.items()}

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--seed_everything", type=int, help=field_texts(RunConfig)["seed"])
        parser.add_argument("--preset", type=dict[str, str], default={}, help=PRESET)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        lightnings = set(inspect.signature(L.Trainer).parameters)
        for name, schema in groups().items():
            names = [field.name for field in fields(schema)]
            ours = [key for key in names if name != "trainer" or key not in lightnings]
            add_keys(parser, schema, f"{place(name)}.", ours)
        for name in [field.name for field in fields(RunConfig) if field.name not in {*groups(), "seed", "ckpt_path"}]:
            add_keys(parser, RunConfig, place(name).removesuffix(name), [name])
        not_typed: Any = NOT_TYPED & lightnings
        parser.add_class_arguments(L.Trainer, "trainer", instantiate=False, fail_untyped=False, skip=not_typed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what is typed over the presets, or over what the checkpoint was trained with."""
        for each in getattr(self, "_subcommand_parsers", {"": parser}).values():
            each.set_defaults(self.base)
        self.config = parser.parse_args(self.given)

    def _parse_ckpt_path(self) -> None:
        """Do nothing; a checkpoint of this project is opened by ``base_config``."""

    def _set_seed(self) -> None:
        """Do nothing; ``build_run`` seeds."""

    def instantiate_classes(self) -> None:
        """Check the config; its objects are built once the run directory is known to be free."""
        self.config_init = self.parser.instantiate(self.config)
        values = self.config_init.get(str(self.subcommand), self.config_init).as_dict()
        self.ckpt_path: str | None = values.setdefault("ckpt_path", None)
        self.run_config = from_sections(values)
        self.root: str | None = values["trainer"].pop("default_root_dir")
        given: Any = values["trainer"].pop("callbacks")  # one, a list or None
        self.callbacks: list[Callback] = [given] if isinstance(given, Callback) else list(given or [])
        known = asdict(self.run_config.trainer)
        self.trainer_arguments = {key: value for key, value in values["trainer"].items() if key not in known}
        if self.subcommand is None:
            silence_libraries()
            self.run_config, _ = decide_auto(self.run_config)
            decide(self.run_config, self.run_dir)
            self.build(self.run_config, read_inputs(self.run_config, self.run_dir), self.run_dir)

    @cached_property
    def run_dir(self) -> Path:
        """The run directory: ``trainer.default_root_dir``, or a folder under ``runs/`` named as by ``sharcs train``."""
        config = self.run_config
        name = f"{config.task.name}-{config.encoder.name}-{config.method.name}"
        return Path(self.root or f"runs/{name}/{stamp()}").absolute()

    def build(
        self, config: RunConfig, inputs: TrainingInputs, run_dir: Path, callbacks: Sequence[Callback] = ()
    ) -> Run:
        """Build the run's objects, also as ``model``, ``datamodule`` and ``trainer``; typed callbacks come last."""
        run = build_run(config, inputs, run_dir, [*callbacks, *self.callbacks], self.trainer_arguments)
        self.model, self.datamodule, self.trainer = run.module, run.datamodule, run.trainer
        return run

    def _run_subcommand(self, subcommand: str) -> None:
        getattr(self, subcommand)()

    def fit(self) -> None:
        """Train as ``sharcs train`` does, into a run directory like its own."""
        config = self.run_config
        save = SaveConfigCallback(self._parser("fit"), self.config["fit"], SAVED, overwrite=True)
        self.callbacks.append(save)
        check_started(config)
        ready = preflight(config, self.run_dir)
        silence_libraries()
        composed = Composed(DictConfig(literal(asdict(config))), resume=self.resume_command)
        train(ready, self.run_dir, composed, self.build)

    def resume_command(self) -> str:
        """Return the command that goes on with the run."""
        again = [f"--trainer.default_root_dir={display_path(self.run_dir)}", "--ckpt_path=last", "--overwrite=false"]
        return shlex.join(["python", "-m", "sharcs_pl.cli", *self.given, *again])

    def validate(self) -> None:
        """Print the table of a trained model on the validation split, as ``sharcs evaluate`` does."""
        self.evaluate("validation")

    def test(self) -> None:
        """Print the table of a trained model on the test split. Raise ``ValueError`` where its labels are not known."""
        self.evaluate("test", labels_needed=True)

    def predict(self) -> None:
        """Write ``predictions.tsv`` of the test split, which needs no labels; without one, of the validation split."""
        task = self.run_config.task
        untested = task.name == GRADED.name or (task.is_custom and task.test is None)
        self.evaluate("validation" if untested else "test")

    def evaluate(self, split: str, labels_needed: bool = False) -> None:
        """Run every rung on every sample of the split and write what is found under ``evaluation/<split>``."""
        prepared = self.prepare(split)
        first = prepared.examples[prepared.task.validation[0]]
        if labels_needed and (first.labels == UNKNOWN_LABEL).all():
            raise ValueError(f"the labels of this test split of task={prepared.task.name} are not known; use predict")
        silence_libraries()
        folder = Path(self.root) if self.root else prepared.source.home
        self.trainer = build_trainer(prepared.config, folder, self.callbacks, self.trainer_arguments)
        options = EvaluateConfig(run=prepared.name, split=split, output=str(folder / "evaluation" / split))
        check_results(prepared, options)
        done = evaluate_model(prepared, self.trainer)
        present(prepared, done, options)

    def prepare(self, split: str) -> EvaluationInputs:
        """Return the checkpoint and the split's texts; no model is loaded yet."""
        # In one process, as `sharcs evaluate` does: every sample counts once, whatever the run was trained on.
        alone = replace(self.run_config.trainer, devices=1, num_nodes=1, strategy="auto")
        config = replace(self.run_config, trainer=alone)
        if self.ckpt_path is None:
            raise ValueError("ckpt_path is missing; give a checkpoint, a run directory or a saved model's folder")
        if config.trainer.limit_val_batches is not None:
            limit = config.trainer.limit_val_batches
            raise ValueError(f"trainer.limit_val_batches={limit}: a table is of the whole split; leave the key out")
        source = open_trained(self.ckpt_path)
        check_same_model(config, source)
        task, examples = read_task(config.task, splits_of(config, split), config.seed)
        task = replace(task, validation=tuple(examples))
        seen = warn_of_seen(source, examples)
        return EvaluationInputs(self.ckpt_path, replace(source, config=config), config, task, examples, seen)


def add_keys(parser: LightningArgumentParser, schema: type, prefix: str, names: Sequence[str]) -> None:
    """Add some keys of a dataclass, with their types and help texts; their defaults follow from the presets."""
    hints, texts = get_type_hints(schema), field_texts(schema)
    for name in names:
        parser.add_argument(f"--{prefix}{name}", type=hints[name], help=texts[name].replace("``", ""))


def check_same_model(config: RunConfig, source: TrainedModel) -> None:
    """Raise ``ValueError`` for a key that would ask for another model than the checkpoint holds."""
    for group, names in SHAPE.items():
        for name in names:
            asked, held = (show_default(getattr(getattr(c, group), name)) for c in (config, source.config))
            if asked != held:
                raise ValueError(
                    f"{group}.{name}={asked}: the checkpoint was trained with {held} and is evaluated as it is; leave "
                    "the key out"
                )
