"""Files for the GLUE leaderboard: one per test split, and the zip of all of them that it takes.

Each file has the columns `index`, from 0 in the order of the official file, and `prediction`. The leaderboard takes
the eleven files together, flat in one zip, and refuses a zip that lacks one or has another number of rows.

Legend: `S` samples, `C` classes.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from sharcs_pl.core.errors import DataWarning
from sharcs_pl.core.files import atomic_file
from sharcs_pl.data.leaderboard import HEADER, SUBMISSION_NAMES, ZIP_NAME
from sharcs_pl.data.tasks import TaskSpec

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: equal files give equal bytes


def _ids(task: TaskSpec, logits: Tensor) -> list[str]:
    return [str(label) for label in logits.argmax(-1).tolist()]


def _words(task: TaskSpec, logits: Tensor) -> list[str]:
    assert task.labels is not None
    return [task.labels[label] for label in logits.argmax(-1).tolist()]


def _scores(task: TaskSpec, logits: Tensor) -> list[str]:
    assert task.label_range is not None
    return [f"{score:.3f}" for score in logits[:, 0].double().clamp(*task.label_range).tolist()]


_ANSWERS = {"stsb": _scores, "mnli": _words, "qnli": _words, "rte": _words}  # all others as ids


def write_submission(folder: Path, task: TaskSpec, split: str, logits: Tensor, uids: Tensor) -> Path:
    """Write the leaderboard's file of one test split into `folder`, which is made if need be; return the file.

    Args:
        logits: [S, C], one row per sample (C is 1 for STS-B).
        uids: [S] positions in the official file, each of 0 to S-1 once, in any order.

    A number of samples other than the official one is a `DataWarning`: the leaderboard refuses it. Raise `ValueError`
    for a task or split that is not on the leaderboard, and for logits or uids that do not make up a whole split.
    """
    name = _name(task.name, split)
    place, uids, logits = f"{task.name} {split}", uids.cpu(), logits.cpu()
    _check_whole(place, (len(uids), task.num_labels), logits, uids.sort().values)
    _check_count(place, len(uids), task.counts.get(split))
    answers = _ANSWERS.get(task.name, _ids)(task, logits[uids.argsort()])
    lines = [HEADER, *(f"{index}\t{answer}" for index, answer in enumerate(answers))]
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / name) as part:
        part.write_bytes("\n".join([*lines, ""]).encode())
    return folder / name


def zip_submission(folder: Path) -> tuple[Path, list[str]]:
    """Pack the leaderboard's files that `folder` holds into its `submission.zip`; return the zip and the missing names.

    The files lie flat in the zip and nothing else of the folder is packed; equal files give equal bytes. Raise
    `ValueError` where the folder holds none of them.
    """
    names = list(SUBMISSION_NAMES.values())
    found = sorted(name for name in names if (folder / name).is_file())
    if not found:
        raise ValueError(f"{folder} holds no file for the leaderboard; expected {', '.join(names)}")
    with atomic_file(folder / ZIP_NAME) as part, zipfile.ZipFile(part, "w") as archive:
        for name in found:
            archive.writestr(_entry(name), (folder / name).read_bytes(), zipfile.ZIP_DEFLATED)
    return folder / ZIP_NAME, [name for name in names if name not in found]


def _name(task: str, split: str) -> str:
    splits = [known for name, known in SUBMISSION_NAMES if name == task]
    if not splits:
        tasks = ", ".join(dict.fromkeys(name for name, _ in SUBMISSION_NAMES))
        raise ValueError(f"task {task!r} is not on the GLUE leaderboard; there are {tasks}")
    if split not in splits:
        raise ValueError(f"{task}: split {split!r} is not on the GLUE leaderboard; there are {', '.join(splits)}")
    return SUBMISSION_NAMES[task, split]


def _check_whole(place: str, shape: tuple[int, int], logits: Tensor, uids: Tensor) -> None:
    """Raise `ValueError` unless the logits are finite and of `shape` [S, C], and the ascending `uids` are 0 to S-1."""
    if logits.shape != shape:
        raise ValueError(f"{place}: logits of shape {tuple(logits.shape)}; expected {shape}")
    if not logits.isfinite().all():
        raise ValueError(f"{place}: some logits are not finite; there is no answer to write")
    wrong = (uids != torch.arange(len(uids))).nonzero().flatten().tolist()
    if wrong:
        raise ValueError(
            f"{place}: the uids of {len(uids)} samples must be 0 to {len(uids) - 1}, each once; "
            f"uid {uids[wrong[0]].item()} is where {wrong[0]} should be"
        )


def _check_count(place: str, size: int, official: int | None) -> None:
    if official is None or size == official:
        return
    wrong = f"{official - size} too few" if size < official else f"{size - official} too many"
    message = f"{place}: {size} predictions are {wrong} (the official split has {official}); the leaderboard refuses it"
    warnings.warn(message, DataWarning, stacklevel=3)


def _entry(name: str) -> zipfile.ZipInfo:
    """Return a zip entry that is equal on every machine."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.create_system = 3  # Unix, for the permissions
    entry.external_attr = 0o644 << 16
    return entry
