"""The prediction of many files by one model: each is answered as one alone would be, whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sharcs_pl.config.command_line import FAILED
from sharcs_pl.config.errors import explain
from sharcs_pl.config.predict import PredictConfig
from sharcs_pl.core.text import printable
from sharcs_pl.inference.files_progress import FilesProgress
from sharcs_pl.inference.journal import Journal, journal_path
from sharcs_pl.inference.many import InputFile, check_output_folder, dealt, find_files
from sharcs_pl.inference.receipts import Receipt
from sharcs_pl.inference.rows import InputLayout
from sharcs_pl.inference.summary import Summary, combined, files_table
from sharcs_pl.inference.writers import columns_of, write_answers
from sharcs_pl.launch.slurm import slurm_job
from sharcs_pl.pipeline import predict_file
from sharcs_pl.pipeline.predict_file import Stopped, answer_rest, stop_signals
from sharcs_pl.pipeline.prediction_inputs import (
    CheckedModel,
    PredictionInputs,
    check_model,
    fingerprint_of,
    make_layout,
    read_rows,
)
from sharcs_pl.runs.lock import InUse, RunLock

if TYPE_CHECKING:
    from sharcs_pl.inference.predictor import RoutedPredictor


@dataclass(frozen=True)
class FileJob:
    """An input that is to be answered, the receipt of its output, and its counts if it is finished."""

    file: InputFile
    layout: InputLayout
    receipt: Receipt
    finished: Summary | None

    @property
    def size(self) -> int:
        """The size of the input in bytes."""
        return self.receipt.fingerprint["input size"]


def predict_files(config: PredictConfig) -> Summary:
    """Answer the files that are not finished yet; return the counts of all. Raise ``ValueError`` before anything is
    written for what can be known by then, and ``SystemExit`` where files could not be answered, and when the process is
    told to stop."""
    jobs: list[FileJob] = []
    done: dict[str, Summary] = {}
    with stop_signals():
        try:
            model, jobs = plan(config)
            done = {job.file.name: job.finished for job in jobs if job.finished is not None}
            failed = _Answering(config, model, jobs, done).run()
        except Stopped as stopped:
            told = f"interrupted with {len(done):,} of {len(jobs):,} files done; the same command goes on"
            print(told, file=sys.stderr)
            raise SystemExit(stopped.code) from None
    total = present(config, jobs, done)
    if failed:
        raise SystemExit(FAILED)
    return total


def plan(config: PredictConfig) -> tuple[CheckedModel, list[FileJob]]:
    """Check paths and model, and what is there of the outputs; nothing is written."""
    folder = check_output_folder(config.output)
    files = dealt(find_files(config.input, config.output, config.output_format), config.part)
    model = check_model(config)
    jobs = []
    for file in files:
        layout = make_layout(config, model.source, file.path)
        fingerprint = fingerprint_of(config, model, layout)
        fingerprint |= {f"input {key}": value for key, value in fingerprint.pop("input").items()}  # told one by one
        receipt = Receipt(folder, file.output, fingerprint)
        jobs.append(FileJob(file, layout, receipt, receipt.finished(config.overwrite, config.skips)))
    return model, jobs


class _Answering:
    """Files under way. The model is loaded when the first of them has been found usable. `done` is filled."""

    def __init__(
        self, config: PredictConfig, model: CheckedModel, jobs: Sequence[FileJob], done: dict[str, Summary]
    ) -> None:
        self.config, self.model, self.jobs, self.done = config, model, jobs, done
        self.slurm_job = slurm_job(os.environ)

    @cached_property
    def predictor(self) -> RoutedPredictor:
        return predict_file.load(self.model.source, self.model.max_length, self.config)

    def run(self) -> int:
        """Answer every file; return the number of those that could not be, each of which is named on stderr."""
        failed = 0
        for job in self.jobs:
            if job.finished is not None:
                self._clean(job)
        left = [job for job in self.jobs if job.finished is None]
        with FilesProgress(len(self.jobs), len(self.done), sum(job.size for job in left)) as progress:
            for job in left:
                found = self._locked(job, progress)
                if isinstance(found, Summary):
                    self.done[job.file.name] = found
                    progress.end()
                else:
                    failed += 1
                    progress.drop(job.file.name, job.size)
                    print(f"error: {printable(found)}", file=sys.stderr)
        return failed

    def _clean(self, job: FileJob) -> None:
        """Remove what a process left that was killed right after the receipt, unless another one is at work there."""
        if job.receipt.lock.exists() or journal_path(job.file.output).exists():
            with RunLock(job.receipt.lock, self.slurm_job) as lock, suppress(InUse):
                lock.take()
                job.receipt.clean()

    def _locked(self, job: FileJob, progress: FilesProgress) -> Summary | str:
        """Return the counts of a file, or why it cannot be answered."""
        with RunLock(job.receipt.lock, self.slurm_job) as lock:
            try:
                lock.take()
                # by another process, since it was planned
                found = job.receipt.finished(self.config.overwrite, self.config.skips)
                if found is not None:
                    progress.drop(job.file.name, job.size)
                    return found
                job.file.output.parent.mkdir(parents=True, exist_ok=True)
                asked = dict(job.receipt.fingerprint)
                prepared = read_rows(self.config, self.model, job.layout, job.file.output, asked, whole=True)
            except InUse as busy:
                return busy.told(job.file.output, "answers it", "wait for its end, or give each start its own shard")
            except (ValueError, OSError) as error:
                return _of_file(job.file, explain(error, PredictConfig))
            predictor = self.predictor
            try:
                return self._answer(job, prepared, predictor, progress)
            except ValueError as error:
                return _of_file(job.file, explain(error, PredictConfig))

    def _answer(
        self, job: FileJob, prepared: PredictionInputs, predictor: RoutedPredictor, progress: FilesProgress
    ) -> Summary:
        columns = columns_of(predictor, job.layout.keep, self.config.explain)
        with self._journal(job) as journal:
            progress.begin(job.file.name, job.size, prepared.total or 1, journal.rows, columns.widths)
            summary = answer_rest(prepared, predictor, columns, journal, self.config, progress.add)
            write_answers(journal, job.file.output, columns)
            job.receipt.write(summary)
            journal.remove()
        return summary

    def _journal(self, job: FileJob) -> Journal:
        path = journal_path(job.file.output)
        if job.receipt.goes_on():
            segment = predict_file.SEGMENT * self.config.batch_size
            return Journal.resume(path, job.receipt.fingerprint, segment)
        return Journal.begin(path, job.receipt.fingerprint)


def _of_file(file: InputFile, message: str) -> str:
    """Return a message about a file with its name below the inputs' folder, which tells it from others."""
    named = file.path.name
    return f"{file.name}{message.removeprefix(named)}" if message.startswith(named) else f"{file.name}: {message}"


def present(config: PredictConfig, jobs: Sequence[FileJob], done: dict[str, Summary]) -> Summary:
    """Print the table of all files on stderr, and where the answers are; return the counts of all."""
    from sharcs_pl.core.screen import Screen

    total = combined(list(done.values()))
    console = Screen(stderr=True)
    part = "" if config.shard is None else f" of shard {config.shard}"
    title = f"{len(done):,} of {len(jobs):,} files{part}: {total.rows - total.rejected:,} texts"
    console.print(files_table(title, {job.file.name: done.get(job.file.name) for job in jobs}, total))
    console.print(f"answers in {config.output}", soft_wrap=True)
    return total
