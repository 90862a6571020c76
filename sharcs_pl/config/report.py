"""The keys of ``sharcs report``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from sharcs_pl.config.checks import in_range, one_of
from sharcs_pl.config.texts import PATH, PATHS, TEXT, TEXTS
from sharcs_pl.core.renamed import current_task


@dataclass
class ReportConfig:
    """Compare the accuracy and multiply-adds of runs per task, in tables for papers and a page for a browser."""

    runs: list[str] = field(default=MISSING, metadata=PATHS)
    """Run directories, folders of run directories, or patterns such as ``runs/mrpc-*``."""
    names: list[str] = field(default_factory=list, metadata=TEXTS)
    """Names of the entries of ``runs``; the runs of an entry are then seeds of one method. If empty, runs are named by
    method and by the keys in which runs of one method differ."""
    only_task: str | None = field(default=None, metadata=TEXT)
    """Single task of the report, which refuses runs of another one; null: a section per task."""
    unfinished: str = "refuse"
    """``refuse`` or ``skip`` runs without results."""
    budget: float = 0.5
    """Fraction of the dense model's multiply-adds at which methods are ranked."""
    draws: int = 10_000
    """Resamples of the paired bootstrap."""
    seed: int = 1
    """Seed of the bootstrap."""
    title: str = field(default="Accuracy against compute", metadata=TEXT)
    """Heading of the page."""
    output: str = field(default="report", metadata=PATH)
    """Folder for ``report.html``, ``report.md``, ``report.tex``, ``summary.csv``, ``points.csv`` and ``figures/``."""

    def __post_init__(self) -> None:
        self.only_task = self.only_task and current_task(self.only_task)
        one_of("unfinished", self.unfinished, ("refuse", "skip"))
        in_range("budget", self.budget, 0.01, 1)
        in_range("draws", self.draws, 100)
        in_range("seed", self.seed, 0, 2**32 - 1)
        if self.runs != MISSING and not self.runs:
            raise ValueError("runs=[] is empty; give run directories: runs=[runs/a,runs/b]")
        if self.names and self.runs != MISSING and len(self.names) != len(self.runs):
            raise ValueError(f"names has {len(self.names)} entries, runs has {len(self.runs)}; give one name for each")
