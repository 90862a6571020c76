"""The keys of ``sharcs evaluate``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from omegaconf import MISSING

from sharcs_pl.config.checks import check_serving, check_text_files, in_range, one_of
from sharcs_pl.config.run import RunConfig
from sharcs_pl.config.texts import PATH, TEXT


@dataclass
class DataPaths:
    """The paths and the format of the data, if they have changed since the run."""

    data_dir: str | None = field(default=None, metadata=PATH)
    """Folder with the files of a GLUE task."""
    train: str | None = field(default=None, metadata=PATH)
    """Custom data: training file; needed only if the run split its dev set off."""
    dev: str | None = field(default=None, metadata=PATH)
    """Custom data: file to evaluate on."""
    test: str | None = field(default=None, metadata=PATH)
    """Custom data: file to predict; its label may be missing, or empty in every row."""
    quoting: str | None = None
    """Custom data: ``standard`` quotes of CSV and TSV, or ``none``; null: as in the run."""
    delimiter: str | None = field(default=None, metadata=TEXT)
    """Custom data: delimiter of CSV and TSV, as in ``train``; null: as in the run."""
    encoding: str | None = field(default=None, metadata=TEXT)
    """Custom data: encoding of text files without a byte-order mark; null: as in the run."""
    label_separator: str | None = field(default=None, metadata=TEXT)
    """Custom data: text between the names of several labels in a cell; null: as in the run."""

    def __post_init__(self) -> None:
        check_text_files("task.", self)


@dataclass
class EncoderPath:
    """The path of the encoder, if it has changed since the run."""

    pretrained: str | None = field(default=None, metadata=PATH)
    """Hub id or folder of the encoder's tokenizer; needed only for a checkpoint outside of a run directory."""


@dataclass
class CostOptions:
    """Options of the cost."""

    audit: bool = False
    """Count the multiply-adds of the real model with fvcore and print them beside the closed-form values."""


@dataclass
class EvaluateConfig:
    """Evaluate a finished run, or predict a test set with it."""

    run: str = field(default=MISSING, metadata=PATH)
    """Run directory, checkpoint, or saved model folder."""
    split: str = "validation"
    """``validation``, or ``test``, which writes predictions and for GLUE the files for the leaderboard."""
    compare: str | None = field(default=None, metadata=PATH)
    """Second run to compare with, by a paired bootstrap of the difference."""
    draws: int = 10_000
    """Resamples of the bootstrap."""
    cost: CostOptions = field(default_factory=CostOptions)
    task: DataPaths = field(default_factory=DataPaths)
    encoder: EncoderPath = field(default_factory=EncoderPath)
    output: str | None = field(default=None, metadata=PATH)
    """Folder for the results; null: ``evaluation/<split>`` in the run directory, or beside a lone model."""
    submission: str | None = field(default=None, metadata=PATH)
    """Folder for GLUE's submission files and zip, shared by several runs; null: ``submission`` beside ``output``."""
    eval_batch_size: int | None = None
    """Samples per batch; null: as in the run."""
    accelerator: str | None = None
    """``cpu``, ``gpu``, ``mps`` or ``auto``; null: as in the run."""
    backend: str | None = None
    """Runtime that answers for ``run``, as in ``sharcs predict``: ``torch``, ``openvino`` or ``onnxruntime``; null:
    torch, or the one of a folder of parts."""
    precision: str | None = None
    """``float32`` or ``bfloat16``, as in ``sharcs predict``, and of a folder of parts also ``int8``; null: as in
    training, or the one of the parts."""

    def __post_init__(self) -> None:
        one_of("split", self.split, ("validation", "test"))
        in_range("draws", self.draws, 100)
        in_range("eval_batch_size", self.eval_batch_size, 1)
        one_of("accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps"))
        if self.task.test is not None and self.split != "test":
            raise ValueError(f"task.test={self.task.test} is read with split=test only; add it")
        if self.compare is not None and self.split == "test":
            raise ValueError("compare needs labels; use split=validation")
        check_serving(self.backend, self.precision, self.accelerator)
        for key in ("backend", "precision") if self.cost.audit else ():
            if getattr(self, key) is not None:
                raise ValueError(f"cost.audit=true counts the model in torch as training left it; leave {key} out")

    def applied_to(self, run: RunConfig) -> RunConfig:
        """Return the run's config with the values that this command replaces."""
        paths = {name: value for name, value in vars(self.task).items() if value is not None}
        encoder = replace(run.encoder, pretrained=self.encoder.pretrained or run.encoder.pretrained)
        trainer = replace(run.trainer, accelerator=self.accelerator or run.trainer.accelerator, devices=1, num_nodes=1)
        return replace(
            run,
            task=replace(run.task, **paths),
            encoder=encoder,
            trainer=replace(trainer, strategy="auto"),
            eval_batch_size=self.eval_batch_size or run.eval_batch_size,
        )
