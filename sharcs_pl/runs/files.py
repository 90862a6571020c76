"""The files of a run directory: which names a run writes, which of them it wrote, and which are the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sharcs_pl.config import RunConfig
from sharcs_pl.core.written import LIST, Written
from sharcs_pl.data.seen import FILE as SEEN
from sharcs_pl.inference.record import MARKER
from sharcs_pl.inference.trained import MODEL_FILES

LOCK = ".hydra/run.lock"
LISTED = ".hydra/files.json"
SEEN_TEXTS = f".hydra/{SEEN}"
PREDICTION_COLUMNS = ("uid", "label", "prediction", "confidence", "rung", "macs")  # of predictions.tsv, texts follow
EXPORTED = "export.json"  # in a folder that an export wrote, which it alone may replace

_HYDRA = ("config.yaml", "hydra.yaml", "overrides.yaml", "lightning.yaml", SEEN)
FIGURES = (
    "metric_vs_macs.png", "buckets.png", "score_histograms.png", "router_calibration.png", "easiest_hardest.png",
)  # fmt: skip
_FIXED = (
    *(f".hydra/{name}" for name in _HYDRA),
    "metrics.json", "metrics.csv", "curve.csv", "history.parquet", "plan.csv", "predictions.tsv",
    "importance.parquet", "figures/importance.png",
    "checkpoints/last.ckpt", "checkpoints/last.prev.ckpt", "checkpoints/best.ckpt",
    "checkpoints/first_stage.ckpt",
    *(f"figures/{name}" for name in FIGURES),
)  # fmt: skip
"""The files that every run may write, under names known beforehand."""

_RESULTS = (
    "evaluation/*/metrics.json", "evaluation/*/curve.csv", "evaluation/*/comparison.json",
    "evaluation/*/predictions.tsv", "evaluation/*/predictions_*.tsv",
    *(f"evaluation/*/figures/{name}" for name in FIGURES),
    "submission/*.tsv", "submission/submission.zip", "calibration/*.png",
)  # fmt: skip
"""The files that commands wrote about a run before they kept lists."""

_FOLDERS = ("checkpoints", "model", "model.part", "figures", "evaluation", "submission", "calibration")
_LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlruns"}
_BEFORE_THE_MARKER = ("run.lock", "run.json.part")  # what a start leaves that is killed before it has written it


def written(directory: Path) -> Written:
    """Return the list of what the run wrote."""
    return Written(directory, directory / LISTED)


def check_no_strangers(directory: Path, config: RunConfig) -> None:
    """Raise ``ValueError`` naming the first file that this run would write over, in a directory that holds no run."""
    folder = directory / ".hydra"
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in inside if not path.name.startswith(_BEFORE_THE_MARKER)]
    names = dict.fromkeys([name.split("/")[0] for name in _FIXED if not name.startswith(".hydra")] + [*_FOLDERS])
    if config.logger.name in _LOGGERS:
        names[_LOGGERS[config.logger.name]] = None
    found += [path for name in names if (path := directory / name).exists() or path.is_symlink()]
    if found:
        raise _taken(directory, found[0], "no run's")


def check_no_collisions(directory: Path) -> None:
    """Raise ``ValueError`` naming the first file beside a run's own that a run of the same names would write over."""
    known = {str(path.relative_to(directory)) for path in own_files(directory)}
    model = directory / "model"
    names = [*_FIXED, *(f"model/{path.name}" for pattern in MODEL_FILES for path in model.glob(pattern))]
    strange = replace(written(directory), known=frozenset(known)).strange(names)
    if strange is not None:
        raise _taken(directory, strange, "not that run's")


def _taken(directory: Path, path: Path, whose: str) -> ValueError:
    return ValueError(
        f"hydra.run.dir={directory}: {path} is there and is {whose}, training would replace it; move it away, or give "
        "another hydra.run.dir"
    )


def own_files(directory: Path) -> list[Path]:
    """Return the files there that the run and the commands about it wrote, without the marker and the lock."""
    listed = written(directory).names()
    patterns = [*_FIXED, *(f"model/{pattern}" for pattern in MODEL_FILES)]
    found = [directory / name for name in sorted(listed)]
    found = found or [path for pattern in patterns for path in directory.glob(pattern)]
    results = [path for pattern in _RESULTS for path in directory.glob(pattern)]
    found += [path for path in results if not any((folder / LIST).exists() for folder in list(path.parents)[:2])]
    for each in [*directory.glob("evaluation/*"), directory / "submission", directory / "calibration"]:
        own = Written.into(each)
        found += [each / name for name in own.names()] + [own.file]
    found += [*_logged(directory), *directory.glob("model.part/**/*"), *directory.glob("checkpoints/*.ckpt.part")]
    found += [path.with_name(path.name + ".part") for path in list(found)]
    return [path for path in dict.fromkeys(found) if path.is_symlink() or path.is_file()]


def _logged(directory: Path) -> Iterator[Path]:
    """Yield the files of the loggers. The run's id tells them from files of other runs in the same folder."""
    yield from (directory / "tensorboard").glob("events.out.tfevents.*")
    yield directory / "tensorboard" / "hparams.yaml"
    for name, runs in (("wandb", "*run-*-{}"), ("mlruns", "*/{}")):
        file = directory / name / "run_id.txt"
        if not file.is_file():
            continue
        yield file
        for folder in (directory / name).glob(runs.format(file.read_text(encoding="utf-8").strip())):
            yield from (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    yield from (path for path in (directory / "wandb").glob("*") if path.is_symlink())


def clear(directory: Path) -> None:
    """Remove what the run wrote, and nothing else. The marker goes last, so that an interrupted call can be
    repeated."""
    for path in own_files(directory):
        path.unlink(missing_ok=True)
    for name in (LISTED, MARKER):
        (directory / name).unlink(missing_ok=True)
    for name in (*_FOLDERS, *_LOGGERS.values(), ".hydra"):
        _remove_empty(directory / name)


def _remove_empty(folder: Path) -> None:
    """Remove the folder and those in it, as far as they are empty."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for inner in folder.iterdir():
        _remove_empty(inner)
    with suppress(OSError):
        folder.rmdir()


def list_run(directory: Path) -> None:
    """List what the run writes, before it writes it; for an older run that kept no list, what exists of its files."""
    listed = written(directory)
    before = [] if listed.names() else [str(path.relative_to(directory)) for path in own_files(directory)]
    listed.add([*_FIXED, *before])


def results_list(home: Path, output: str | None, default: str) -> tuple[Path, Written, bool]:
    """Return the folder of a command's results, the list of what it wrote there, and whether every file there is taken
    to be the command's, as in a run directory of a version that kept no list."""
    folder = Path(output).expanduser() if output else home / default
    listed, above = Written.into(folder), folder.absolute().parents
    own = default.split("/")[0]  # a folder of that name in a run directory is the run's, or there would be no run
    inside = any((run / MARKER).is_file() and folder.absolute().is_relative_to(run / own) for run in above[:2])
    return folder, listed, inside and not listed.file.exists()
